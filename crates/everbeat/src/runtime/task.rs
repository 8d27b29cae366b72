//! An engine that lives in one task on a tokio runtime, with one sleep for all its timers.
//!
//! The task is there while there are timers, on the runtime in which the first of them was started. If that
//! goes away, its timers end as abandoned, and the next start makes a task wherever it is.
//!
//! # Locks
//!
//! The lock of the attendance guards whether there is a task, and what wakes it. It is held for a few
//! instructions; under it nothing is spawned, woken or dropped, and no clock is read. No other lock is taken
//! under it, and it is taken under none.
//!
//! # Invariants
//!
//! 1. There is at most one task. Who has something to do for the engine and finds none spawns it.
//! 2. A task that is about to go looks for an alert under the lock in which it writes itself off. So an alert
//!    either finds the task, which stays, or spawns another.
//! 3. Who goes because the runtime does takes all timers out before it writes itself off, in the same way, and
//!    tells them after that. So it ends none of those for which there is another task.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant as StdInstant};

use everbeat_core::Instant;
use pin_project_lite::pin_project;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Sleep;

use super::clock::{LONGEST_SLEEP, inside, new_sleep};
use crate::block;
use crate::thread::handle::WeakEngine;
use crate::thread::keeper::Turns;
use crate::thread::roster::Rest;
use crate::thread::{Engine, Host};

/// An engine whose timers all live in one task.
pub(crate) fn engine_in_a_task(name: &str) -> Engine {
    let host = Arc::new_cyclic(|me| TaskHost {
        me: me.clone(),
        engine: OnceLock::new(),
        attendance: Mutex::default(),
        ahead_nanos: AtomicU64::new(0),
    });
    let engine = Engine::hosted_for_good(name, host.clone());
    let _ = host.engine.set(engine.downgrade()); // it is the first
    engine
}

/// What keeps the time of the engine, by a task or until there is one.
struct TaskHost {
    me: Weak<Self>,
    engine: OnceLock<WeakEngine>,
    attendance: Mutex<Attendance>,
    /// How far the engine's time is ahead of the runtime's. Its time never runs backwards, even if it goes on
    /// with a runtime whose clock is behind that of the last one.
    ahead_nanos: AtomicU64,
}

/// Who gives the engine its turns.
#[derive(Debug, Default)]
struct Attendance {
    /// Where the task is, or is to be spawned.
    runtime: Option<Handle>,
    /// There is one, or somebody who takes all timers out since there can be none.
    has_task: bool,
    /// There is something to do of which the task has not heard.
    alerted: bool,
    task: Option<Waker>,
    /// The thread that polls the task, where its runtime has only one.
    thread: Option<ThreadId>,
}

impl TaskHost {
    fn lock(&self) -> MutexGuard<'_, Attendance> {
        self.attendance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of the runtime.
    fn time_there(&self) -> StdInstant {
        let here = || tokio::time::Instant::now().into_std();
        if self.engine.get().is_some_and(WeakEngine::is_kept_by_this_thread) {
            return here(); // in the task itself
        }
        let runtime = self.lock().runtime.clone();
        // Where no runtime can be entered it is the machine's time.
        runtime.and_then(|runtime| inside(&runtime, here)).unwrap_or_else(here)
    }

    fn engine(&self) -> Option<Engine> {
        self.engine.get().and_then(WeakEngine::upgrade)
    }

    fn spawn(&self, runtime: &Handle) {
        // Whoever alerts has the engine.
        if let (Some(host), Some(engine)) = (self.me.upgrade(), self.engine()) {
            drop(runtime.spawn(EngineTask::new(host, &engine)));
        }
    }

    /// Wakes the task, or spawns one. Returns whether there is neither a task nor a runtime for one;
    /// `takes_over`: then the caller is on duty.
    fn call_task(&self, takes_over: bool) -> bool {
        let (has_task, waker, runtime) = {
            let mut attendance = self.lock();
            let has_task = attendance.has_task;
            let runtime = if has_task { None } else { attendance.runtime.clone() };
            attendance.alerted = has_task;
            attendance.has_task |= runtime.is_some() || takes_over;
            (has_task, attendance.task.clone(), runtime)
        };
        match (runtime, waker) {
            (Some(runtime), _) => self.spawn(&runtime),
            (None, Some(waker)) => waker.wake(),
            (None, None) => return !has_task,
        }
        false
    }

    /// The next task is to be on this runtime. Its clock may be behind what the engine has seen.
    fn move_to(&self, runtime: Handle) {
        let thread =
            (runtime.runtime_flavor() == RuntimeFlavor::CurrentThread).then(|| thread::current().id());
        let seen = self.engine().map(|engine| engine.latest_time());
        let mut left = {
            let mut attendance = self.lock();
            if attendance.has_task {
                return; // somebody else was faster
            }
            attendance.thread = thread;
            attendance.runtime.replace(runtime)
        };
        let same =
            Handle::try_current().is_ok_and(|now| left.take().is_some_and(|left| left.id() == now.id()));
        if let (false, Some(seen)) = (same, seen) {
            let behind = seen.saturating_duration_since(tokio::time::Instant::now().into_std());
            self.ahead_nanos.store(u64::try_from(behind.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
        }
    }

    /// The task begins to look at the engine: it has heard every alert before this.
    fn listen(&self, waker: &Waker) {
        let here = thread::current().id();
        let fresh = waker.clone();
        let before = {
            let mut attendance = self.lock();
            attendance.alerted = false;
            if let Some(thread) = &mut attendance.thread {
                *thread = here;
            }
            attendance.task.replace(fresh)
        };
        drop(before);
    }

    /// The task has nothing left to do. Returns whether it goes; it stays if it was alerted meanwhile.
    fn write_off(&self) -> bool {
        let mut attendance = self.lock();
        if attendance.alerted {
            return false;
        }
        attendance.has_task = false;
        let waker = attendance.task.take();
        drop(attendance);
        drop(waker);
        true
    }

    /// Whoever calls this is on duty, and there is no runtime any more: ends all timers.
    fn leave(&self) {
        let Some(engine) = self.engine() else { return };
        let mut dismissed = Vec::new();
        let left = loop {
            let waker = {
                let mut attendance = self.lock();
                attendance.alerted = false;
                attendance.task.take()
            };
            drop(waker);
            dismissed.push(engine.dismiss());
            let mut attendance = self.lock();
            if !attendance.alerted {
                break std::mem::take(&mut *attendance);
            }
        };
        drop(left);
        dismissed.into_iter().for_each(|dismissed| engine.let_go(dismissed));
    }
}

impl Host for TaskHost {
    fn now(&self) -> StdInstant {
        let ahead = Duration::from_nanos(self.ahead_nanos.load(Ordering::Acquire));
        let now = self.time_there();
        now.checked_add(ahead).unwrap_or(now)
    }

    fn alert(&self) {
        let nobody = self.call_task(false);
        // Somebody has ended after the runtime went away, or was started in that very moment.
        if nobody && self.engine().is_some_and(|engine| !engine.comes_to_rest()) && self.call_task(true) {
            self.leave();
        }
    }

    fn attend(&self) -> bool {
        if self.lock().has_task {
            return true;
        }
        let Ok(runtime) = Handle::try_current() else { return false };
        // Only a runtime with a time driver can make a sleep.
        if new_sleep().is_none() {
            return false;
        }
        self.move_to(runtime);
        true
    }

    fn needs_this_thread(&self) -> bool {
        let thread = self.lock().thread;
        thread == Some(thread::current().id()) && block::is_in_runtime()
    }
}

impl fmt::Debug for TaskHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHost").field("attendance", &*self.lock()).finish_non_exhaustive()
    }
}

/// Somebody on duty for an engine. Whose duty ends before there is nothing left to do leaves it to nobody.
struct OnDuty {
    host: Arc<TaskHost>,
    turns: Turns,
    done: bool,
}

impl Drop for OnDuty {
    fn drop(&mut self) {
        if !self.done {
            self.host.leave();
        }
    }
}

pin_project! {
    /// The future that tokio runs for all timers of an engine.
    struct EngineTask {
        duty: OnDuty,
        set_for: Option<Instant>,
        // Made when it is polled first, in the context of the runtime.
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl EngineTask {
    fn new(host: Arc<TaskHost>, engine: &Engine) -> Self {
        let duty = OnDuty { host, turns: Turns::of(engine), done: false };
        Self { duty, set_for: None, sleep: None }
    }
}

impl Future for EngineTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.sleep.is_none() {
            this.sleep.set(Some(tokio::time::sleep(Duration::ZERO)));
        }
        loop {
            this.duty.host.listen(cx.waker());
            match this.duty.turns.take() {
                Rest::None => return yield_now(cx),
                Rest::Until(None) => return Poll::Pending,
                Rest::Until(Some(due)) => {
                    let wait = this.duty.turns.time_until(due);
                    if wait.is_zero() {
                        return yield_now(cx);
                    }
                    let Some(mut sleep) = this.sleep.as_mut().as_pin_mut() else { return Poll::Pending };
                    if *this.set_for != Some(due) {
                        sleep.as_mut().reset(tokio::time::Instant::now() + wait.min(LONGEST_SLEEP));
                        *this.set_for = Some(due);
                    }
                    ready!(sleep.poll(cx));
                    // A sleep that is over has to be set again, even for the same time.
                    *this.set_for = None;
                }
                Rest::Empty => {
                    if this.duty.host.write_off() {
                        this.duty.done = true;
                        return Poll::Ready(());
                    }
                }
            }
        }
    }
}

/// There is more to do; others have their turn first.
fn yield_now(cx: &Context<'_>) -> Poll<()> {
    #[cfg(feature = "testing")]
    crate::testing::note_restless();
    cx.waker().wake_by_ref();
    Poll::Pending
}
