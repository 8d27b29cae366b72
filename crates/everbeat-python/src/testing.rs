//! The engine for tests of timers on threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use everbeat::testing::TestEngine as Inner;
use pyo3::prelude::*;

use crate::{durations, errors};

/// An engine whose time a test moves by hand, on the test's own thread.
#[pyclass(frozen, weakref, module = "everbeat.testing")]
pub(crate) struct TestEngine {
    inner: Inner,
}

impl TestEngine {
    /// Runs timers: the interpreter is theirs meanwhile.
    fn moving<T: Send>(&self, py: Python<'_>, by: impl FnOnce(&Inner) -> T + Send) -> PyResult<T> {
        // The only panic is that of a target that never comes to rest.
        let moved = py.detach(|| catch_unwind(AssertUnwindSafe(|| by(&self.inner))));
        moved.map_err(|_| errors::timer_error(py, "a timer of this engine never comes to rest"))
    }
}

#[pymethods]
impl TestEngine {
    /// Not for pytest to collect.
    #[classattr]
    #[allow(non_upper_case_globals)] // Python's name for it
    const __test__: bool = false;

    #[new]
    fn new() -> Self {
        Self { inner: Inner::new() }
    }

    /// The seconds since it was made.
    fn time(&self) -> f64 {
        self.inner.elapsed().as_secs_f64()
    }

    /// The time of the next deadline.
    fn next_due(&self) -> Option<f64> {
        self.inner.next_due().map(|due| due.as_secs_f64())
    }

    /// Moves time by `span`: every timer that comes due runs at its own time.
    fn advance(&self, py: Python<'_>, span: &Bound<'_, PyAny>) -> PyResult<()> {
        let span = durations::parse("span", span)?;
        self.moving(py, |engine| engine.advance(span))
    }

    /// Moves time to the next deadline; returns how far that was, in seconds. `None`: there is none.
    fn advance_to_next(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        let way = self.moving(py, Inner::advance_to_next)?;
        Ok(way.as_ref().map(Duration::as_secs_f64))
    }

    /// Runs whatever can run without moving time.
    fn settle(&self, py: Python<'_>) -> PyResult<()> {
        self.moving(py, Inner::settle)
    }

    /// Has time pass without running anything: for a run that takes that long.
    fn spend(&self, span: &Bound<'_, PyAny>) -> PyResult<()> {
        self.inner.pass(durations::parse("span", span)?);
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!("<TestEngine time={}>", self.time())
    }
}
