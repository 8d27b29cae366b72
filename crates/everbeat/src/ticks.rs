//! A schedule without a target.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use everbeat_core::{Instant, Tick};
use futures_core::Stream;

use crate::block;
use crate::clock::Clock;
use crate::error::Error;
#[cfg(feature = "tokio")]
use crate::guard::guarded;
use crate::guard::tell;
use crate::handle::Timer;
use crate::home::Home;
#[cfg(feature = "tokio")]
use crate::runtime::clock::Alarm as RuntimeAlarm;
use crate::scope::Scope;
use crate::shared::{Action, RunEnd, Shared};
use crate::thread::alarm::EngineAlarm;
use crate::thread::host::is_hosted;

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
/// On threads [`next_blocking`](Self::next_blocking) sleeps for itself, until the tick is due:
///
/// ```
/// use everbeat::thread;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), everbeat::Error> {
/// let mut ticks = thread::every(Duration::from_millis(2)).fixed_rate().max_runs(3).ticks()?;
/// while let Some(tick) = ticks.next_blocking(Duration::from_secs(10))? {
///     println!("slot {} is {:?} late", tick.slot, tick.lateness);
/// }
/// # Ok(())
/// # }
/// ```
///
/// [`Builder::ticks`]: crate::Builder::ticks
pub struct Ticks {
    timer: Timer<Tick>,
    clock: Clock,
    alarm: Alarm,
    /// The tick that the consumer is busy with.
    current: Option<Tick>,
}

impl Ticks {
    pub(crate) fn start(shared: Arc<Shared<Tick>>, scope: Option<&Scope>) -> Result<Self, Error> {
        let timer = Timer::new(shared);
        let Some(scope) = scope else { return Self::launch(timer) };
        scope.tie(&timer);
        Self::launch(timer.clone()).inspect_err(|_| scope.untie(&timer))
    }

    fn launch(timer: Timer<Tick>) -> Result<Self, Error> {
        if matches!(timer.whole().home(), Home::Engine { engine, .. } if engine.is_closed()) {
            return Err(Error::EngineClosed { name: timer.name().clone() });
        }
        let alarm = Alarm::new(timer.whole().home());
        let alarm = alarm.ok_or_else(|| Error::NoRuntime { name: timer.name().clone() })?;
        let clock = timer.whole().launch_driven()?;
        Ok(Self { timer, clock, alarm, current: None })
    }

    /// The next tick; `None` once the schedule has ended, as it does when the runtime that it was made in goes away.
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

    /// Blocks the thread until the next tick; `Ok(None)` once the schedule has ended. A schedule on
    /// threads is waited for here, as precisely as this thread sleeps, and needs no engine; one on tokio is
    /// waited for by the runtime, and one on an engine with a host by the host, on another thread.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it is not due within `timeout`; [`Error::ThreadsafeDispatch`] if it is not due now and
    /// the schedule needs this thread: that of its single-threaded runtime, or the one that moves the time.
    pub fn next_blocking(&mut self, timeout: Duration) -> Result<Option<Tick>, Error> {
        let name = self.timer.name().clone();
        if !self.keeps_its_own_time() {
            let refused = self.timer.whole().needs_this_thread();
            let limit = if refused { Duration::ZERO } else { timeout };
            // What is due already needs neither time nor anybody. Without a period that shows at the second look.
            let tick = block::on(self.next(), limit).or_else(|| block::on(self.next(), Duration::ZERO));
            return tick.ok_or(if refused {
                Error::ThreadsafeDispatch { name, advice: block::ADVICE }
            } else {
                Error::Timeout { name, after: timeout }
            });
        }
        let end = self.clock.now() + timeout;
        let waker = block::waker();
        loop {
            let until = match self.advance(&waker) {
                Step::Tick(tick) => return Ok(Some(tick)),
                Step::Ended => return Ok(None),
                Step::Yield => {
                    std::thread::yield_now();
                    continue;
                }
                Step::Wait { until, .. } => until.unwrap_or(Instant::NEVER).min(end),
            };
            let now = self.clock.now();
            if now >= end {
                return Err(Error::Timeout { name, after: timeout });
            }
            std::thread::park_timeout(until.saturating_since(now));
        }
    }

    /// Whether the thread that asks can wait by itself: the time is the machine's.
    fn keeps_its_own_time(&self) -> bool {
        match self.timer.whole().home() {
            #[cfg(feature = "tokio")]
            Home::Runtime { .. } => false,
            Home::Engine { engine, .. } => !is_hosted(engine),
        }
    }

    fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Option<Tick>> {
        loop {
            match self.advance(cx.waker()) {
                Step::Tick(tick) => {
                    self.alarm.clear();
                    return Poll::Ready(Some(tick));
                }
                Step::Ended => {
                    self.alarm.clear();
                    return Poll::Ready(None);
                }
                Step::Yield => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Step::Wait { until: None, .. } => {
                    self.alarm.clear();
                    return Poll::Pending;
                }
                Step::Wait { until: Some(until), busy } => {
                    if let Err(error) = ready!(self.alarm.poll_until(&self.clock, until, busy, cx)) {
                        tell!(ERROR, timer = %self.timer.name(), %error, "nobody keeps the time of the ticks");
                        self.abandon();
                    }
                }
            }
        }
    }

    fn abandon(&self) {
        let shared = self.timer.whole();
        if shared.abandon().is_some() {
            shared.close(None);
        }
    }

    /// Everything that can be done now.
    fn advance(&mut self, waker: &Waker) -> Step {
        let shared = self.timer.whole();
        let now = self.clock.now();
        self.clock.note_activity(shared.has_period_zero());
        if let Some(tick) = self.current.take() {
            shared.finish(&mut None, now, &tick, RunEnd::Delivered(tick));
            if shared.next_is_due(now) {
                // The consumer has had its turn; the others get theirs before the next tick.
                return Step::Yield;
            }
        }
        loop {
            if !self.timer.is_running() {
                return Step::Ended;
            }
            match shared.next_action(now, waker, true) {
                Action::Run(tick) => {
                    self.current = Some(tick);
                    return Step::Tick(tick);
                }
                Action::Stopped(reason) => {
                    shared.announce_end(reason);
                    shared.close(None);
                }
                Action::Wait { until, busy } => return Step::Wait { until, busy },
                Action::Abort(_) | Action::Yield => {}
            }
        }
    }
}

/// How far the schedule got.
enum Step {
    Tick(Tick),
    Ended,
    /// More at once, after others had their turn.
    Yield,
    Wait {
        until: Option<Instant>,
        busy: bool,
    },
}

/// What wakes the consumer.
enum Alarm {
    #[cfg(feature = "tokio")]
    Runtime(Pin<Box<RuntimeAlarm>>),
    Engine(EngineAlarm),
}

impl Alarm {
    fn new(home: &Home) -> Option<Self> {
        match home {
            #[cfg(feature = "tokio")]
            Home::Runtime { alarm, .. } => Some(Self::Runtime(Box::pin(RuntimeAlarm::new(alarm.clone())?))),
            Home::Engine { engine, .. } => {
                engine.is_attended().then(|| Self::Engine(EngineAlarm::new(engine.clone())))
            }
        }
    }

    fn poll_until(
        &mut self,
        clock: &Clock,
        due: Instant,
        busy: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match (self, clock) {
            #[cfg(feature = "tokio")]
            (Self::Runtime(alarm), Clock::Runtime(clock)) => {
                // Once its runtime is gone a sleep of tokio panics, and offers no way to ask before.
                match guarded(|| alarm.as_mut().poll_until(clock, due, busy, cx)) {
                    Ok(poll) => poll.map(Ok),
                    Err(failure) => Poll::Ready(Err(io::Error::other(failure))),
                }
            }
            (Self::Engine(alarm), _) => {
                let _ = busy;
                alarm.poll_until(due, cx)
            }
            #[cfg(feature = "tokio")]
            (Self::Runtime(_), Clock::Engine(_)) => unreachable!("the alarm is that of the clock's home"),
        }
    }

    /// Nothing is waited for: no clock for tests shall see an appointment.
    fn clear(&mut self) {
        match self {
            #[cfg(feature = "tokio")]
            Self::Runtime(alarm) => alarm.as_mut().clear(),
            Self::Engine(alarm) => alarm.clear(),
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
        let shared = self.timer.whole();
        if let Some(tick) = self.current.take() {
            let now = self.clock.now_anywhere().unwrap_or(tick.started());
            shared.finish(&mut None, now, &tick, RunEnd::Delivered(tick));
        }
        self.abandon();
    }
}

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticks").field("timer", &self.timer).field("current", &self.current).finish()
    }
}
