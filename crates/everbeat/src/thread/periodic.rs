//! A task that repeats itself until it is stopped.

use std::fmt;
use std::time::Duration;

use everbeat_core::{OnError, StopReason, Timer as Machine};

use crate::block;
use crate::builder::{Builder, Value};
use crate::error::Error;
use crate::handle::Timer;
use crate::name::Name;
use crate::pending::Pending;
use crate::target::IntoTarget;

/// A function that is called again and again, with a pause in between: the successor of a chain of
/// `threading.Timer`s.
///
/// - The first call comes one interval after the start, each further one an interval after the end of
///   the last.
/// - A call that fails or panics is logged, and the task goes on.
/// - [`start`](Self::start) on a task that runs does nothing.
/// - Once [`stop`](Self::stop) has returned nothing runs, and nothing will until the next start.
///
/// ```
/// use everbeat::thread::PeriodicTask;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), everbeat::Error> {
/// let mut calls = 0;
/// let task = PeriodicTask::new(Duration::from_millis(5), move || {
///     calls += 1;
///     calls
/// })?;
/// task.start()?;
/// task.start()?; // it runs already
/// task.timer().wait_hits(2).block(Duration::from_secs(10))?;
/// task.stop();
/// assert!(!task.is_running());
/// # Ok(())
/// # }
/// ```
#[must_use = "a task stops when its last handle is dropped"]
pub struct PeriodicTask<V: Send + Sync + 'static> {
    timer: Timer<V>,
}

impl<V: Send + Sync + 'static> PeriodicTask<V> {
    /// A task with this interval, on the default engine. It does not run yet.
    ///
    /// # Errors
    /// None at present: every interval is allowed.
    #[track_caller]
    pub fn new<M, X>(interval: Duration, target: X) -> Result<Self, Error>
    where
        X: IntoTarget<M>,
        X::Target: crate::target::Target<Value = V>,
    {
        let builder = super::every(interval).initial_delay(interval).on_error(OnError::Continue);
        Self::of(builder, target)
    }

    /// A task of any other kind: with its own schedule, name, engine and error policy.
    ///
    /// # Errors
    /// [`Error::Schedule`] for a bad value in the builder.
    pub fn of<M, X>(builder: Builder, target: X) -> Result<Self, Error>
    where
        X: IntoTarget<M>,
        X::Target: crate::target::Target<Value = V>,
    {
        let timer: Timer<Value<M, X>> = builder.build(target)?;
        Ok(Self { timer })
    }

    /// Starts it; does nothing if it runs. If it is about to stop, this waits for that first.
    ///
    /// # Errors
    /// As [`Timer::start`], [`Error::AlreadyRunning`] excepted. If the task is about to stop,
    /// [`Error::InsideRun`] from the task itself, and [`Error::ThreadsafeDispatch`] on another thread that
    /// it needs to get there, see [`Pending::block`](crate::Pending::block).
    pub fn start(&self) -> Result<(), Error> {
        self.start_by(Timer::start)
    }

    /// As [`start`](Self::start), for who has something to do at each attempt.
    ///
    /// # Errors
    /// As there.
    #[doc(hidden)]
    pub fn start_by(&self, start: impl Fn(&Timer<V>) -> Result<(), Error>) -> Result<(), Error> {
        loop {
            match start(&self.timer) {
                Err(Error::AlreadyRunning { name }) => {
                    // In line before the look: what is waited for is the end that is seen, not a later one.
                    let end = self.timer.request_end();
                    match self.end_in_sight() {
                        Some(false) => return Ok(()),
                        Some(true) => self.wait_for(end, name)?,
                        None => {} // it has ended since
                    }
                }
                started => return started,
            }
        }
    }

    fn wait_for(&self, end: Pending<V, StopReason>, name: Name) -> Result<(), Error> {
        let shared = self.timer.whole();
        if shared.is_inside() {
            return Err(Error::InsideRun { name });
        }
        if shared.needs_this_thread() {
            return Err(Error::ThreadsafeDispatch { name, advice: block::ADVICE });
        }
        block::forever(end);
        Ok(())
    }

    /// Stops it. Waits for a call in flight, however long that takes. Idempotent.
    ///
    /// Where waiting could not come to an end it does not wait: called by the task itself, or on another
    /// thread that the task needs, such as the one that keeps the time of its engine. No call begins
    /// after this has returned there either. On the only worker of a multi-threaded runtime of tokio a
    /// task that lives there too is stopped by [`Timer::cancel`] of its [`timer`](Self::timer), which is awaited, or
    /// in `block_in_place`.
    pub fn stop(&self) {
        let stopped = self.timer.shutdown(Duration::MAX);
        if !self.timer.whole().needs_this_thread() {
            block::forever(stopped);
        }
    }

    /// As [`stop`](Self::stop), but waits at most this long.
    ///
    /// # Errors
    /// [`Error::Timeout`] if a call is still in flight then; no other will follow it. As
    /// [`Pending::block`](crate::Pending::block) on a thread that the task needs.
    pub fn stop_within(&self, timeout: Duration) -> Result<(), Error> {
        self.timer.shutdown(Duration::MAX).block(timeout).map(drop)
    }

    /// Whether it was started and has not stopped.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.timer.is_running()
    }

    /// The timer behind it: waits, figures, feeds, and all other control.
    pub fn timer(&self) -> &Timer<V> {
        &self.timer
    }

    /// Whether its end is decided; `None` if it does not run.
    fn end_in_sight(&self) -> Option<bool> {
        let machine_says = |machine: &Machine| machine.is_running().then(|| machine.stop_reason().is_some());
        self.timer.read(|state| machine_says(&state.machine))
    }
}

impl<V: Send + Sync + 'static> fmt::Debug for PeriodicTask<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeriodicTask").field("timer", &self.timer).finish()
    }
}
