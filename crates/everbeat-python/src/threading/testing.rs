//! The engine for tests of timers on threads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everbeat::testing::TestEngine as Inner;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::clock::{self, Clock, Hand};
use super::engine::Engine;
use super::process::Native;
use crate::durations;

/// An engine whose time a test moves by hand, on the test's own thread.
#[pyclass(frozen, extends = Engine, module = "everbeat.testing")]
pub(crate) struct TestEngine {
    native: Native<Arc<Inner>>,
    hand: Arc<Hand>,
    /// The default engines before, innermost last. Locked for a few instructions.
    before: Mutex<Vec<Option<Py<Engine>>>>,
}

impl TestEngine {
    fn native(&self, py: Python<'_>) -> PyResult<&Inner> {
        self.native.here(py, "engine").map(|inner| &**inner)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Py<Engine>>>> {
        self.before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on it is this thread that moves the time.
    fn moving<T: Send>(&self, py: Python<'_>, by: impl FnOnce(&Inner) -> T + Send) -> PyResult<T> {
        let inner = self.native(py)?;
        self.hand.take();
        clock::moving(py, inner, by)
    }
}

#[pymethods]
impl TestEngine {
    /// Not for pytest to collect.
    #[classattr]
    #[allow(non_upper_case_globals)] // Python's name for it
    const __test__: bool = false;

    #[new]
    fn new() -> PyClassInitializer<Self> {
        let inner = Arc::new(Inner::unguarded());
        let hand = Hand::new(&inner);
        let engine = Engine::of(inner.engine().clone(), Clock::by_hand(hand.clone()));
        PyClassInitializer::from(engine).add_subclass(Self {
            native: Native::new(inner),
            hand,
            before: Mutex::default(),
        })
    }

    /// Until the end of the block timers without an engine of their own live here.
    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        let before = Engine::replace_default(Some(slf.as_super().clone().unbind()));
        slf.get().lock().push(before);
        slf.get().hand.take();
        slf
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, _exc_info: &Bound<'_, PyTuple>) {
        let before = self.lock().pop();
        drop(before.map(Engine::replace_default));
    }

    /// The seconds since it was made.
    fn time(&self, py: Python<'_>) -> PyResult<f64> {
        Ok(durations::seconds(self.native(py)?.elapsed()))
    }

    /// The time of the next deadline.
    fn next_due(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        Ok(self.native(py)?.next_due().map(durations::seconds))
    }

    /// Moves time by `span`: every timer that comes due runs at its own time.
    fn advance(&self, py: Python<'_>, span: &Bound<'_, PyAny>) -> PyResult<()> {
        let span = durations::parse("span", span)?;
        self.moving(py, |engine| engine.advance(span))
    }

    /// Moves time to the next deadline; returns how far that was, in seconds. `None`: there is none.
    fn advance_to_next(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        let way = self.moving(py, Inner::advance_to_next)?;
        Ok(way.map(durations::seconds))
    }

    /// Runs whatever can run without moving time.
    fn settle(&self, py: Python<'_>) -> PyResult<()> {
        self.moving(py, Inner::settle)
    }

    /// Has time pass without running anything: for a run that takes that long.
    fn spend(&self, span: &Bound<'_, PyAny>) -> PyResult<()> {
        self.native(span.py())?.pass(durations::parse("span", span)?);
        Ok(())
    }

    fn __repr__(&self) -> String {
        let time = self.native.get().map(|inner| durations::seconds(inner.elapsed()));
        time.map_or_else(
            || "<TestEngine of another process>".into(),
            |time| format!("<TestEngine time={time}>"),
        )
    }
}
