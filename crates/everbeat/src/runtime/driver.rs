//! The tokio driver: one task a timer, with one sleep that is set anew for every wait.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use everbeat_core::Key;
use pin_project_lite::pin_project;

use super::clock::{Alarm, RuntimeClock};
use crate::beat::Progress;
use crate::clock::Clock;
use crate::current::Current;
use crate::error::Error;
#[cfg(all(tokio_unstable, feature = "task-names"))]
use crate::guard::tell;
use crate::shared::{Shared, TurnOf};
use crate::thread::Engine;

/// A timer that a task has taken on. If the task goes away before the timer has ended, it ends as abandoned.
struct TakenOn<V: Send + Sync + 'static> {
    timer: Arc<Shared<V>>,
    /// Which start it was taken on for; `None` once that has ended.
    key: Option<Key>,
}

impl<V: Send + Sync + 'static> Drop for TakenOn<V> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.timer.abandon_at(key);
        }
    }
}

pin_project! {
    /// The future that tokio runs for a timer.
    struct BeatTask<V>
    where
        V: Send,
        V: Sync,
        V: 'static,
    {
        taken_on: TakenOn<V>,
        clock: Arc<RuntimeClock>,
        #[pin]
        alarm: Alarm,
    }
}

/// Starts a timer on the runtime that this is called in. Its waits are ended by `engine`, if there is one.
pub(crate) fn spawn<V>(shared: &Arc<Shared<V>>, engine: Option<Engine>) -> Result<(), Error>
where
    V: Send + Sync + 'static,
{
    static TASKS: AtomicU64 = AtomicU64::new(0);
    let no_runtime = || Error::NoRuntime { name: shared.name().clone() };
    let alarm = Alarm::new(engine).ok_or_else(no_runtime)?;
    let key = Key::of_none(TASKS.fetch_add(1, Ordering::Relaxed));
    shared.start_at(key)?;
    let taken_on = TakenOn { timer: shared.clone(), key: Some(key) };
    let clock = shared.clock().as_ref().and_then(Clock::runtime).cloned().ok_or_else(no_runtime)?;
    let runtime = clock.runtime().clone();
    let task = BeatTask { taken_on, clock, alarm };
    #[cfg(all(tokio_unstable, feature = "task-names"))]
    {
        let name = format!("timer:{}", shared.name());
        if tokio::task::Builder::new().name(&name).spawn_on(task, &runtime).is_err() {
            tell!(ERROR, timer = %shared.name(), "tokio did not take the task");
        }
    }
    #[cfg(not(all(tokio_unstable, feature = "task-names")))]
    drop(runtime.spawn(task));
    Ok(())
}

impl<V: Send + Sync + 'static> Future for BeatTask<V> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let (clock, TakenOn { timer, key: start }) = (&**this.clock, this.taken_on);
        let Some(key) = *start else { return Poll::Ready(()) };
        clock.note_thread();
        loop {
            let mut now = None;
            let turn = TurnOf {
                key,
                me: &|| Current::Whole(timer.clone()),
                time: &|| clock.now(),
                driver: Some(cx.waker()),
            };
            let progress = match timer.lean_turn(&turn, &mut now) {
                // Whoever was woken by a run has a turn before the next.
                Some(Progress::Sleep { until: Some(until), .. }) if now.is_some_and(|now| until <= now) => {
                    let restless = timer.has_period_zero();
                    clock.note_activity(restless);
                    Progress::Yield { restless }
                }
                Some(progress) => progress,
                None => timer.full_turn(key, Some(cx.waker())),
            };
            match progress {
                Progress::Sleep { until: None, .. } => {
                    this.alarm.as_mut().clear();
                    return Poll::Pending;
                }
                Progress::Sleep { until: Some(until), busy } => {
                    // The clock decides what is due, not the alarm: after it rang, look again.
                    ready!(this.alarm.as_mut().poll_until(clock, until, busy, cx));
                }
                Progress::Yield { .. } => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Progress::Ended => {
                    *start = None;
                    return Poll::Ready(());
                }
            }
        }
    }
}
