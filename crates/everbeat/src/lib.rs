//! Recurring work inside a process: timers that do not drift, do not burst, can be cancelled cleanly,
//! tested without sleeping, and watched.
//!
//! ```
//! use everbeat::{OnError, Timer};
//! use std::time::Duration;
//!
//! # async fn fetch() -> std::io::Result<Vec<u8>> { Ok(vec![1]) }
//! #[tokio::main]
//! async fn main() -> Result<(), everbeat::Error> {
//!     let cache = Timer::every(Duration::from_secs(5))
//!         .fixed_rate()
//!         .run_timeout(Duration::from_secs(3))
//!         .on_error(OnError::backoff(Duration::from_secs(1), Duration::from_secs(60)))
//!         .name("cache")
//!         .start(|| async { fetch().await })?;
//!
//!     cache.wait_hits(1).await?; // serve nothing before the first success
//!     let _rows = cache.latest(); // never blocks
//!     let _fresh = cache.trigger().await?; // a run that started after this call
//!     cache.shutdown(Duration::from_secs(5)).await; // let the current run finish
//!     Ok(())
//! }
//! ```
//!
//! # Where to look
//!
//! - [`Timer::every`] and [`Builder`]: periods, modes, limits and policies.
//! - [`IntoTarget`] and [`Outcome`]: what can be run, and what a run may return.
//! - [`Timer`]: control, waiting, figures.
//! - [`Feed`]: every tick for a consumer with its own pace. [`Ticks`]: a schedule without a target.
//! - [`after`]: a call that is made once, later, unless it is called off: a [`OneShot`].
//! - [`Group`]: timers that start and stop together. [`Scope`]: timers that end with what they belong to.
//! - [`thread`]: the same timers without a runtime.
//! - [`recipes`]: the usual jobs, as programs that run. [`testing`]: clocks for tests.
//! - [`core`]: the machine that decides, for drivers of your own.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | period | the nominal time between slots |
//! | slot | an index on the grid: slot k of a fixed-rate timer is due at anchor + k × period |
//! | run | one execution of the target |
//! | tick | one delivered firing; a *hit* once its value was delivered |
//! | lateness | actual start − scheduled time, never negative |
//! | missed | a slot that passed before it could run; *skipped* if it never runs |
//! | drain | let the current run finish and start no other |
//! | cancel | give the current run up |
//!
//! # Features
//!
//! - `tokio` (default): timers on a tokio runtime. Without it there are those on threads.
//! - `macros` (default): the attribute [`every`](macro@every).
//! - `task-names`: names the tasks `timer:<name>` for tokio-console, with `--cfg tokio_unstable`.
//! - `testing`: the clocks for tests; turns on tokio's `test-util`.
//! - `test-engine`: of these only the one for timers on threads, which needs no tokio.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)] // allowed for one declaration, in `thread/exit.rs`

pub use everbeat_core as core;
pub use everbeat_core::{
    Backoff, Cause, Histogram, Missed, MissedBatch, Mode, OnError, Overflow, Ratio, ScheduleError, Skipped,
    StopReason, Summary, Tick,
};

mod any;
mod beat;
mod block;
mod builder;
mod clock;
mod current;
mod error;
mod feed;
mod group;
mod guard;
mod handle;
mod home;
mod log;
mod name;
mod oneshot;
mod outcome;
mod pending;
pub mod recipes;
#[cfg(feature = "tokio")]
mod runtime;
mod scope;
mod shared;
mod stats;
mod sync;
mod target;
#[cfg(feature = "test-engine")]
pub mod testing;
pub mod thread;
mod ticks;
mod waiters;

#[cfg(feature = "macros")]
pub use everbeat_macros::every;

pub use crate::{
    any::{AnyTimer, AnyValue, BoxFuture},
    builder::{Builder, IntoPolicy, Value as TargetValue},
    current::{Inside, current},
    error::{BoxError, Error, Failure},
    feed::{Feed, FeedBuilder, FeedCloser},
    group::{Answers, Group, Together},
    handle::{Timer, WeakTimer},
    name::Name,
    oneshot::OneShot,
    outcome::{Outcome, Plain, Value},
    pending::{Answer, Pending, Shutdown},
    scope::{Closed, Scope},
    stats::Stats,
    target::{IntoTarget, Step, Target},
    ticks::Ticks,
};

#[doc(hidden)]
pub use crate::target::{Call, CallTarget, Callee};

#[cfg(feature = "tokio")]
pub use crate::oneshot::after;
#[cfg(feature = "tokio")]
pub use crate::target::{Offload, offload};

#[cfg(all(doctest, feature = "macros"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
