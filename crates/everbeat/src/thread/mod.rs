//! Timers without an async runtime: one thread keeps the time of all of them.
//!
//! ```
//! use everbeat::thread;
//! use std::time::Duration;
//!
//! fn main() -> Result<(), everbeat::Error> {
//!     let limit = Duration::from_secs(10);
//!     let beat = thread::every(Duration::from_millis(20)).fixed_rate().name("beat").start(|| "beat")?;
//!     beat.wait_hits(3).block(limit)?; // three beats, or an error after ten seconds
//!     let value = beat.trigger().block(limit)?; // a run that started after this call
//!     assert_eq!(*value, "beat");
//!
//!     let reminder = thread::after(Duration::from_secs(3600), || println!("tea"))?;
//!     assert!(reminder.cancel()); // in time: it will never be called
//!
//!     beat.shutdown(Duration::from_secs(1)).block(limit)?; // once this has returned nothing runs
//!     Ok(())
//! }
//! ```
//!
//! It is the same [`Timer`](crate::Timer) as on tokio, with the same schedules, policies, waits, feeds and
//! groups. What differs:
//!
//! - [`every`] and [`after`] in place of [`Timer::every`](crate::Timer::every): such timers live on an
//!   [`Engine`] and need no runtime.
//! - What can be awaited can be waited for with [`Pending::block`](crate::Pending::block).
//! - Runs happen on a few workers, so a slow one does not hold the others up; those that are
//!   [`inline`](crate::Builder::inline) happen on the thread that keeps the time: the cheapest way, for
//!   callbacks that return at once. Two runs of one timer never overlap, wherever they happen.
//! - A sync run cannot be interrupted: a cancel waits for it, as long as you let it.
//! - How precise an engine is can be chosen: [`Precision`].
//!
//! When the process exits (by the end of `main` or by `exit`) no further run begins; runs in flight are not
//! waited for. What has to end in good order belongs into a [`Scope`](crate::Scope) that `main` closes.
//!
//! [`PeriodicTask`] and [`Scope`](crate::Scope) are for code that used to chain one-shot timers by hand.

pub(crate) mod alarm;
pub(crate) mod engine;
mod exit;
mod hand;
pub(crate) mod handle;
pub(crate) mod host;
pub(crate) mod keeper;
mod lean;
mod line;
#[cfg(all(test, everbeat_loom))]
mod models;
mod periodic;
pub(crate) mod placed;
pub(crate) mod roster;
mod runs;
mod sleep;
#[cfg(feature = "test-engine")]
pub(crate) mod test_engine;
#[cfg(all(test, not(everbeat_loom)))]
mod tests;
pub(crate) mod time;
pub(crate) mod workers;

use std::future::Future;
use std::time::Duration;

pub use self::handle::{Engine, EngineBuilder, EngineStats};
pub use self::host::Host;
pub(crate) use self::lean::{Found, Stopped};
pub use self::periodic::PeriodicTask;
pub use self::sleep::Precision;
use crate::block;
use crate::builder::Builder;
use crate::error::Error;
pub use crate::oneshot::OneShot;
use crate::outcome::Outcome;

/// A timer with this period, on the default engine. As [`Timer::every`](crate::Timer::every) in all else.
#[track_caller]
pub fn every(period: Duration) -> Builder {
    Builder::new(period).on_threads()
}

/// Calls `target` once, after `delay`, on the default engine.
///
/// ```
/// use everbeat::thread;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), everbeat::Error> {
/// let answer = thread::after(Duration::from_millis(1), || 42)?;
/// assert_eq!(*answer.wait().block(Duration::from_secs(10))?, 42);
/// assert!(!answer.cancel()); // too late
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::NoThread`] if the thread that keeps the time cannot be started.
#[track_caller]
pub fn after<F, O>(delay: Duration, target: F) -> Result<OneShot<O::Value>, Error>
where
    F: FnOnce() -> O + Send + 'static,
    O: Outcome<Value: Send + Sync + 'static> + 'static,
{
    OneShot::start(Builder::new(OneShot::<()>::PERIOD).on_threads(), delay, target)
}

/// Blocks this thread until the future is ready, at most this long; `None` after that. A wait of the library is
/// given by reference and taken up again, so that whoever waits can look after other things in between:
///
/// ```
/// use everbeat::thread;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), everbeat::Error> {
/// let beat = thread::every(Duration::from_millis(5)).start(|| ())?;
/// let mut hits = beat.wait_hits(3);
/// hits.may_block()?; // a thread that the timer needs would wait in vain
/// while thread::wait_for(&mut hits, Duration::from_millis(1)).is_none() {
///     println!("not yet");
/// }
/// # Ok(())
/// # }
/// ```
///
/// As in [`Pending::block`](crate::Pending::block), a worker that waits here lends its place to another.
pub fn wait_for<F: Future>(future: F, timeout: Duration) -> Option<F::Output> {
    block::on(future, timeout)
}
