//! What threads meet with: that of the standard library, or of the model checker.
//!
//! Under `--cfg everbeat_loom` the unit tests get [loom](https://docs.rs/loom)'s in its place, which plays
//! every order in which the threads can get there; see `thread/models`. What is only counted (`Arc`) or is
//! never contended in a model stays with the standard library.

#[cfg(all(test, everbeat_loom))]
mod model;
#[cfg(all(test, everbeat_loom))]
pub(crate) use self::model::*;

#[cfg(not(all(test, everbeat_loom)))]
mod real {
    pub(crate) use std::panic::catch_unwind;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32};
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread;
    pub(crate) use std::thread_local;
    use std::time::Instant;

    /// The time of the machine.
    pub(crate) fn now() -> Instant {
        Instant::now()
    }
}
#[cfg(not(all(test, everbeat_loom)))]
pub(crate) use self::real::*;
