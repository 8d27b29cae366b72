//! The compiled part of the Python package `everbeat`.
//!
//! It decides nothing: timers are those of the crate `everbeat`, on engines that live in an event loop
//! (`desk.rs`) or keep a thread of their own (`threading/`). What is here carries values, errors and calls
//! over. The package's stubs (`python/everbeat/*.pyi`) are its manual.
//!
//! # Locks and the interpreter
//!
//! 1. No lock of this crate or of `everbeat` is held while Python code can run or while the interpreter
//!    is attached to. So whoever holds a lock never waits for the interpreter, and either can be waited for
//!    with the other in hand.
//! 2. A thread that waits for long detaches from the interpreter first.
//! 3. What a running timer needs of Python it holds through its `Place`, which lets go of it when the timer
//!    ends: an ended timer is in no reference cycle that the collector cannot see.

mod alarm;
mod answer;
mod blocking;
mod call;
mod clock;
mod clocks;
mod conditions;
mod config;
mod context;
#[cfg(target_os = "linux")]
mod descriptor;
mod desk;
mod durations;
mod errors;
mod feed;
mod logging;
mod loops;
mod pause;
mod process;
mod runner;
mod stats;
mod target;
mod threading;
mod tick;
mod ticks;
mod timer;
mod value;

use pyo3::prelude::*;

/// The private module `everbeat._everbeat`.
#[pymodule(gil_used = false)]
mod _everbeat {
    use super::*;

    #[pymodule_export]
    use crate::feed::Subscription;
    #[pymodule_export]
    #[allow(non_upper_case_globals)] // Python's name for it
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use crate::clocks::install_clock;
    #[pymodule_export]
    use crate::config::check_wait;
    #[pymodule_export]
    use crate::durations::nanoseconds;
    #[pymodule_export]
    use crate::stats::{Skipped, Stats, Summary};
    #[pymodule_export]
    use crate::threading::TestEngine;
    #[pymodule_export]
    use crate::tick::Tick;
    #[pymodule_export]
    use crate::ticks::{Ticks, ticks};
    #[pymodule_export]
    use crate::timer::Timer;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        logging::install();
        process::watch_forks(module.py())?;
        threading::register(module)
    }
}
