//! An engine that lives in one task on a tokio runtime, with one sleep for all its timers.
//!
//! The task is there while there are timers, on the runtime in which the first of them was started. If that
//! goes away, its timers end as abandoned, and the next start makes a task wherever it is.
//!
//! Whether there is a task is for the [`Attendance`] to know, which has a lock of its own. Who goes because the runtime
//! does tells the timers of it when everything is over: so it ends none of those for which there is another task.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::{Duration, Instant as StdInstant};

use everbeat_core::Instant;
use pin_project_lite::pin_project;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Sleep;

use super::attendance::{Attendance, Call};
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
        attendance: Attendance::default(),
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
    attendance: Attendance<Handle>,
    /// How far the engine's time is ahead of the runtime's. Its time never runs backwards, even if it goes on
    /// with a runtime whose clock is behind that of the last one.
    ahead_nanos: AtomicU64,
}

impl TaskHost {
    /// The time of the runtime.
    fn time_there(&self) -> StdInstant {
        let here = || tokio::time::Instant::now().into_std();
        if self.engine.get().is_some_and(WeakEngine::is_kept_by_this_thread) {
            return here(); // in the task itself
        }
        let runtime = self.attendance.runtime();
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
        match self.attendance.call(takes_over) {
            Call::Spawn(runtime) => self.spawn(&runtime),
            Call::Wake(task) => task.wake(),
            Call::Noted => {}
            Call::Nobody => return true,
        }
        false
    }

    /// The next task is to be on this runtime. Its clock may be behind what the engine has seen.
    fn move_to(&self, runtime: Handle) {
        let thread =
            (runtime.runtime_flavor() == RuntimeFlavor::CurrentThread).then(|| thread::current().id());
        let seen = self.engine().map(|engine| engine.latest_time());
        let Some(left) = self.attendance.move_to(runtime, thread) else { return }; // somebody else was faster
        let same = Handle::try_current().is_ok_and(|now| left.is_some_and(|left| left.id() == now.id()));
        if let (false, Some(seen)) = (same, seen) {
            let behind = seen.saturating_duration_since(tokio::time::Instant::now().into_std());
            self.ahead_nanos.store(u64::try_from(behind.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
        }
    }

    /// Whoever calls this is on duty, and there is no runtime any more: ends all timers.
    fn leave(&self) {
        let Some(engine) = self.engine() else { return };
        let mut dismissed = Vec::new();
        self.attendance.leave(|| dismissed.push(engine.dismiss()));
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
        if self.attendance.has_task() {
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
        self.attendance.thread() == Some(thread::current().id()) && block::is_in_runtime()
    }
}

impl fmt::Debug for TaskHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHost").field("attendance", &self.attendance).finish_non_exhaustive()
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
            this.duty.host.attendance.listen(cx.waker(), thread::current().id());
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
                    if this.duty.host.attendance.write_off() {
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
