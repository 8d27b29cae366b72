//! Clocks for tests, so that none of them has to sleep.
//!
//! There are several ways to test code that uses timers; none of them waits, and none is flaky:
//!
//! - **tokio's paused time** works as it is: under `#[tokio::test(start_paused = true)]` time jumps to
//!   the next deadline whenever the runtime is idle. Deadlines are met to the millisecond. A task that
//!   never waits holds that time up, and so does a timer of period zero, or the consumer of such ticks:
//!   beside it no sleep and no `tokio::time::timeout` ends. A [`TestClock`] moves on beside timers.
//! - A [`TestClock`] moves by hand: nothing fires until the test says so, and then in the order of the
//!   deadlines, to the nanosecond.
//! - A [`MockClock`] does not wait at all: the timer ticks as fast as the runtime runs, and the waits
//!   that it skipped are recorded.
//! - A [`TestEngine`] is to timers on threads what a `TestClock` is to those on tokio.
//!
#![cfg_attr(feature = "testing", doc = "```")]
#![cfg_attr(not(feature = "testing"), doc = "```ignore")]
//! use everbeat::{Timer, testing::TestClock};
//! use std::time::Duration;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), everbeat::Error> {
//!     let clock = TestClock::new();
//!     let beat = Timer::every(Duration::from_secs(3600)).fixed_rate().clock(&clock).start(|| ())?;
//!     clock.settle().await;
//!     assert_eq!(beat.hits(), 1);
//!     clock.advance(Duration::from_secs(7200)).await;
//!     assert_eq!(beat.hits(), 3);
//!     Ok(())
//! }
//! ```

#[cfg(feature = "testing")]
mod clocks;

#[cfg(feature = "testing")]
pub(crate) use self::clocks::{Appointment, note_restless};
#[cfg(feature = "testing")]
pub use self::clocks::{Clock, MockClock, TestClock};
pub use crate::thread::test_engine::TestEngine;
