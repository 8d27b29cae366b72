//! A schedule without a target.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use everbeat_core::Tick;
use futures_core::Stream;

use crate::clock::{Alarm, Clock};
use crate::error::Error;
use crate::handle::Timer;
use crate::log::MissedLog;
use crate::shared::{Action, RunEnd, Shared};

/// A schedule as a stream of ticks, for a loop of your own. Made by [`Builder::ticks`].
///
/// What lies between a tick and the next call of [`next`](Self::next) is the run: a fixed-delay schedule
/// counts from that call, a fixed-rate one finds out there which slots were missed. There is no task:
/// nothing happens unless somebody asks.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), everbeat::Error> {
/// use everbeat::Timer;
/// use std::time::Duration;
///
/// let mut ticks = Timer::every(Duration::from_secs(1)).fixed_rate().max_runs(3).ticks()?;
/// while let Some(tick) = ticks.next().await {
///     println!("slot {} is {:?} late", tick.slot, tick.lateness);
/// }
/// # Ok(())
/// # }
/// ```
///
/// [`Builder::ticks`]: crate::Builder::ticks
pub struct Ticks {
    timer: Timer<Tick>,
    clock: Arc<Clock>,
    alarm: Pin<Box<Alarm>>,
    /// The tick that the consumer is busy with.
    current: Option<Tick>,
    missed_log: MissedLog,
}

impl Ticks {
    pub(crate) fn start(shared: Arc<Shared<Tick>>) -> Result<Self, Error> {
        let timer = Timer::new(shared);
        let no_runtime = || Error::NoRuntime { name: timer.name().clone() };
        let alarm = Box::pin(Alarm::new().ok_or_else(no_runtime)?);
        let clock = timer.shared().launch_driven()?;
        Ok(Self { timer, clock, alarm, current: None, missed_log: MissedLog::default() })
    }

    /// The next tick; `None` once the schedule has ended.
    ///
    /// # Cancel safety
    /// Cancel safe: a tick is taken only in the poll that returns it.
    pub async fn next(&mut self) -> Option<Tick> {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// A handle for the schedule: trigger it, change its period, pause it, end it, read its figures,
    /// from anywhere. A tick is delivered there when the consumer is done with it, so the consumer itself
    /// must not wait for one. A cancel or shutdown ends the schedule at once, since the body of the
    /// consumer's loop can be neither waited for nor interrupted. The schedule cannot be restarted.
    pub fn timer(&self) -> &Timer<Tick> {
        &self.timer
    }

    fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Option<Tick>> {
        let shared = self.timer.shared();
        let mut now = self.clock.now();
        self.clock.note_activity(|| shared.has_period_zero());
        if let Some(tick) = self.current.take() {
            shared.finish(now, &tick, RunEnd::Delivered(tick));
            if shared.next_is_due(now) {
                // The consumer has had its turn; the others get theirs before the next tick.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        loop {
            if !self.timer.is_running() {
                self.missed_log.tell(shared.name());
                self.alarm.as_mut().clear();
                return Poll::Ready(None);
            }
            match shared.next_action(now, cx.waker(), true) {
                Action::Run(tick) => {
                    self.alarm.as_mut().clear();
                    self.current = Some(tick);
                    return Poll::Ready(Some(tick));
                }
                Action::Missed(batch) => self.missed_log.report(shared.name(), batch, now),
                Action::Stopped(reason) => {
                    shared.announce_end(reason);
                    shared.close(None);
                }
                Action::Wait { until: Some(until), busy } => {
                    ready!(self.alarm.as_mut().poll_until(&self.clock, until, busy, cx));
                    now = self.clock.now();
                }
                Action::Wait { until: None, .. } => {
                    self.alarm.as_mut().clear();
                    return Poll::Pending;
                }
                Action::Abort(_) | Action::Yield => {}
            }
        }
    }
}

impl Stream for Ticks {
    type Item = Tick;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Tick>> {
        self.get_mut().poll_tick(cx)
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        let shared = self.timer.shared();
        if let Some(tick) = self.current.take() {
            let now = self.clock.now_anywhere().unwrap_or(tick.started());
            shared.finish(now, &tick, RunEnd::Delivered(tick));
        }
        self.missed_log.tell(shared.name());
        if shared.abandon().is_some() {
            shared.close(None);
        }
    }
}

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticks").field("timer", &self.timer).field("current", &self.current).finish()
    }
}
