//! Who gives an engine without a thread its turns: a task that comes with the first timer and goes with the last.

use std::sync::{OnceLock, Weak};

use super::*;
use crate::runtime::attendance::{Attendance, Call};
use crate::thread::handle::WeakEngine;
use crate::thread::keeper::Turns;
use crate::thread::roster::Rest;

/// Whether a runtime is gone. Its tasks are threads of the model.
type Runtime = Shared<bool>;

struct Hall {
    me: Weak<Self>,
    engine: OnceLock<WeakEngine>,
    attendance: Attendance<Runtime>,
    tasks: Mutex<Vec<thread::JoinHandle<()>>>,
    has_turn: Shared<bool>,
}

impl Hall {
    fn open() -> (Arc<Self>, Engine) {
        let hall = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            engine: OnceLock::new(),
            attendance: Attendance::default(),
            tasks: Mutex::default(),
            has_turn: Shared::new(false),
        });
        let engine = Engine::hosted_for_good("model", hall.clone());
        let _ = hall.engine.set(engine.downgrade());
        (hall, engine)
    }

    fn engine(&self) -> Engine {
        self.engine.get().and_then(WeakEngine::upgrade).expect("whoever calls has it")
    }

    fn call(&self, takes_over: bool) -> bool {
        match self.attendance.call(takes_over) {
            Call::Spawn(runtime) if runtime.get() => self.leave(),
            Call::Spawn(runtime) => {
                let (hall, engine) = (self.me.upgrade().unwrap(), self.engine());
                let task = thread::spawn(move || hall.attend_to(&engine, &runtime));
                self.tasks.lock().unwrap().push(task);
            }
            Call::Wake(task) => task.wake(),
            Call::Noted => {}
            Call::Nobody => return true,
        }
        false
    }

    fn attend_to(&self, engine: &Engine, runtime: &Runtime) {
        let (mut turns, waker) = (Turns::of(engine), block::waker());
        loop {
            self.attendance.listen(&waker, std::thread::current().id());
            if runtime.get() {
                return self.leave();
            }
            assert!(!self.has_turn.change(|has_turn| std::mem::replace(has_turn, true)), "two tasks");
            let next = turns.take();
            self.has_turn.change(|has_turn| *has_turn = false);
            match next {
                Rest::None => {}
                Rest::Until(Some(due)) if turns.time_until(due).is_zero() => {}
                Rest::Until(_) => thread::park_timeout(Duration::MAX),
                Rest::Empty if self.attendance.write_off() => return,
                Rest::Empty => {}
            }
        }
    }

    fn leave(&self) {
        let (engine, mut dismissed) = (self.engine(), Vec::new());
        self.attendance.leave(|| dismissed.push(engine.dismiss()));
        dismissed.into_iter().for_each(|dismissed| engine.let_go(dismissed));
    }

    /// All tasks have gone, and left nothing behind.
    fn close(&self, engine: &Engine) {
        loop {
            let Some(task) = self.tasks.lock().unwrap().pop() else { break };
            task.join();
        }
        assert_eq!((self.attendance.has_task(), timers(engine)), (false, 0));
    }
}

impl Host for Hall {
    fn now(&self) -> StdInstant {
        sync::now()
    }

    fn alert(&self) {
        if self.call(false) && !self.engine().comes_to_rest() && self.call(true) {
            self.leave();
        }
    }

    fn attend(&self) -> bool {
        if !self.attendance.has_task() {
            self.attendance.move_to(Shared::new(false), None);
        }
        true
    }
}

fn once(engine: &Engine) -> (Timer<()>, Shared<Runs>) {
    let runs = Shared::new(Runs::default());
    let target = runs.clone();
    let timer =
        engine.every(PERIOD).fixed_rate().inline().max_runs(1).start(move || _ = target.run()).unwrap();
    (timer, runs)
}

/// Whoever starts a timer finds the task, or spawns the only one.
#[test]
fn a_task_that_goes_against_starts() {
    check(LOW_BOUND, || {
        let (hall, engine) = Hall::open();
        let run_once = |engine: &Engine| {
            let (timer, runs) = once(engine);
            assert_eq!(block::forever(timer.wait()).unwrap(), StopReason::MaxRuns);
            assert_eq!(runs.end(), 1);
        };
        let other = thread::spawn({
            let engine = engine.clone();
            move || run_once(&engine)
        });
        run_once(&engine);
        other.join();
        hall.close(&engine);
    });
}

/// A runtime goes away while a timer is started: it ends with the others, or has a task on the next runtime.
#[test]
fn a_runtime_that_goes_away_against_a_start() {
    check(BOUND, || {
        let (hall, engine) = Hall::open();
        let (old, new) = (Shared::new(Runs::default()), Shared::new(Runs::default()));
        let before = place(&engine, &old);
        let runtime = hall.attendance.runtime().unwrap();
        let task = hall.tasks.lock().unwrap().pop().unwrap();
        let going = thread::spawn({
            let hall = hall.clone();
            move || {
                runtime.change(|gone| *gone = true);
                hall.alert(); // it drops its tasks
            }
        });
        let after = place(&engine, &new);
        going.join();
        task.join();
        assert!(hall.attendance.has_task() || timers(&engine) == 0, "nobody looks after a timer");
        for (timer, runs) in [(before, old), (after, new)] {
            let reason = block::forever(timer.cancel());
            assert!(matches!(reason, StopReason::Abandoned | StopReason::Cancelled), "{reason:?}");
            runs.end();
        }
        hall.close(&engine);
    });
}
