//! The tokio driver: one task a timer, with one sleep that is set anew for every wait.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::ThreadId;

use pin_project_lite::pin_project;

use super::clock::{Alarm, RuntimeClock};
use crate::beat::{Duty, Progress};
use crate::error::Error;
use crate::shared::Shared;
use crate::thread::Engine;

pin_project! {
    /// The future that tokio runs for a timer.
    struct BeatTask<V>
    where
        V: Send,
        V: Sync,
        V: 'static,
    {
        duty: Duty<V>,
        clock: Arc<RuntimeClock>,
        thread: Option<ThreadId>,
        #[pin]
        alarm: Alarm,
    }
}

/// Starts a timer on the runtime that this is called in. Its waits are ended by `engine`, if there is one.
pub(crate) fn spawn<V>(shared: &Arc<Shared<V>>, engine: Option<Engine>) -> Result<(), Error>
where
    V: Send + Sync + 'static,
{
    let no_runtime = || Error::NoRuntime { name: shared.name().clone() };
    let alarm = Alarm::new(engine).ok_or_else(no_runtime)?;
    let duty = Duty::begin(shared)?;
    let clock = duty.clock().runtime().cloned().ok_or_else(no_runtime)?;
    let runtime = clock.runtime().clone();
    let task = BeatTask { duty, clock, thread: None, alarm };
    #[cfg(all(tokio_unstable, feature = "task-names"))]
    {
        let name = format!("timer:{}", shared.name());
        if tokio::task::Builder::new().name(&name).spawn_on(task, &runtime).is_err() {
            tracing::error!(timer = %shared.name(), "tokio did not take the task");
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
        let thread = std::thread::current().id();
        if this.thread.replace(thread) != Some(thread) {
            this.duty.shared().driven_by_this_thread();
        }
        loop {
            match this.duty.poll(cx) {
                Progress::Sleep { until: None, .. } => {
                    this.alarm.as_mut().clear();
                    return Poll::Pending;
                }
                Progress::Sleep { until: Some(until), busy } => {
                    // The clock decides what is due, not the alarm: after it rang, look again.
                    ready!(this.alarm.as_mut().poll_until(this.clock, until, busy, cx));
                }
                Progress::Yield { .. } => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Progress::Ended => return Poll::Ready(()),
            }
        }
    }
}
