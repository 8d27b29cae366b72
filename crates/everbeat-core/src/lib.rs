//! The sans-IO core of [everbeat](https://docs.rs/everbeat): it decides when a recurring timer ticks
//! and what happens next.
//!
//! Nothing here reads a clock, sleeps, spawns, locks or wakes. Time is an integer that the driver passes
//! in ([`Instant`]), and what has to be done comes back as a value ([`Output`]). That makes every rule of
//! the library a pure function, testable with constants, and lets one machine serve async tasks,
//! threads and foreign event loops alike.
//!
//! - [`Schedule`]: when a timer is due. A validated value without state.
//! - [`Timer`]: the lifecycle machine. Its documentation gives the grammar of the calls and their order.
//! - [`Queue`]: many deadlines, for drivers that carry many timers.
//! - [`Buffer`]: what a feed holds for one consumer.
//! - [`Summary`], [`Histogram`]: figures of bounded size.
//!
//! # The canonical loop
//!
//! One invariant: **after every command and every input, poll for output until there is none; then wait
//! until the timeout.** A driver is this loop with a clock, a way to sleep and a way to run the target:
//!
//! ```
//! use core::time::Duration;
//! use everbeat_core::{Instant, Outcome, Output, Schedule, StopReason, Timer};
//!
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! // Three runs of 30 ms at a fixed rate of 10 per second.
//! let schedule = Schedule::fixed_rate(Duration::from_millis(100)).with_max_runs(3)?;
//! let mut timer = Timer::new(schedule);
//! let mut now = Instant::ORIGIN; // a real driver reads its clock
//! let mut starts = Vec::new();
//!
//! timer.start(now)?;
//! while timer.is_running() {
//!     timer.handle_timeout(now);
//!     while let Some(output) = timer.poll_output(now) {
//!         match output {
//!             Output::Run(tick) => {
//!                 starts.push(tick.started());
//!                 now = now + Duration::from_millis(30); // a real driver runs the target
//!                 timer.handle_finished(now, Outcome::Success);
//!             }
//!             Output::Abort(_) => timer.handle_finished(now, Outcome::Aborted),
//!             Output::Missed(batch) => println!("{} slots missed", batch.missed),
//!             Output::Stopped(reason) => {
//!                 assert_eq!(reason, StopReason::MaxRuns);
//!                 timer.handle_closed();
//!             }
//!             _ => {}
//!         }
//!     }
//!     if let Some(deadline) = timer.poll_timeout() {
//!         now = now.max(deadline); // a real driver sleeps
//!     }
//! }
//! assert_eq!(starts, [0, 100, 200].map(|ms| Instant::from_elapsed(Duration::from_millis(ms))));
//! # Ok(())
//! # }
//! ```

#![no_std]
#![forbid(unsafe_code)]
// No time goes through a float. Tests may count chances by them.
#![cfg_attr(not(test), deny(clippy::float_arithmetic))]

extern crate alloc;

mod buffer;
mod failure;
mod jitter;
mod missed;
mod queue;
mod ratio;
mod schedule;
mod stats;
#[cfg(test)]
mod tests;
mod tick;
mod time;
mod timer;

pub use buffer::{Buffer, Head, Overflow};
pub use failure::{Backoff, OnError};
pub use jitter::Jitter;
pub use missed::Missed;
pub use queue::{Key, Queue};
pub use ratio::Ratio;
pub use schedule::{Mode, Schedule, ScheduleError, Until};
pub use stats::{Histogram, Summary};
pub use tick::{Cause, Tick};
pub use time::Instant;
pub use timer::{
    AbortCause, AlreadyRunning, MissedBatch, NotRunning, Outcome, Output, Past, Rested, Skipped, StopReason,
    Timer,
};
