//! What a run is told about itself.

use everbeat::Cause;
use pyo3::prelude::*;

use crate::durations;

/// One firing: when it was due, when it came, and why.
#[pyclass(frozen, get_all, module = "everbeat")]
#[derive(Debug)]
pub(crate) struct Tick {
    run: u64,
    slot: u64,
    /// On the clock of whoever drives the timer, in seconds.
    scheduled: f64,
    lateness: f64,
    missed: u64,
    cause: &'static str,
}

impl Tick {
    /// `scheduled`: when it was due, on the clock that users read.
    pub(crate) fn new(tick: &everbeat::Tick, scheduled: f64) -> Self {
        Self {
            run: tick.run,
            slot: tick.slot,
            scheduled,
            lateness: durations::seconds(tick.lateness),
            missed: tick.missed,
            cause: match tick.cause {
                Cause::Trigger => "trigger",
                Cause::Retry => "retry",
                _ => "schedule",
            },
        }
    }
}

#[pymethods]
impl Tick {
    fn __repr__(&self) -> String {
        let Self { run, slot, scheduled, lateness, missed, cause } = self;
        format!(
            "Tick(run={run}, slot={slot}, scheduled={scheduled}, lateness={lateness:.6}, missed={missed}, \
             cause={cause:?})"
        )
    }
}
