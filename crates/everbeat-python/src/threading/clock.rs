//! The clock of an engine, as whoever asks its timers or waits for them has to do with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use everbeat::core;
use everbeat::testing::TestEngine;
use everbeat::thread::Engine;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::blocking::in_slices;
use crate::stats::monotonic;
use crate::tick::Tick;
use crate::{context, durations, errors};

/// Whoever waits beside a timer without a period waits for so many of its runs.
const MOST_ROUNDS: usize = 10_000;

/// That of the machine, or one that a test moves by hand.
#[derive(Clone, Default)]
pub(super) struct Clock(Option<Arc<Hand>>);

/// A hand that moves time.
pub(super) struct Hand {
    engine: Weak<TestEngine>,
    origin: Option<Instant>,
    /// The thread that has moved time last, or is about to. Locked for a few instructions.
    mover: Mutex<ThreadId>,
}

impl Hand {
    /// That of this thread.
    pub(super) fn new(engine: &Arc<TestEngine>) -> Arc<Self> {
        let origin = engine.engine().time_of(core::Instant::ORIGIN);
        Arc::new(Self { engine: Arc::downgrade(engine), origin, mover: Mutex::new(thread::current().id()) })
    }

    pub(super) fn take(&self) {
        *self.mover.lock().unwrap_or_else(PoisonError::into_inner) = thread::current().id();
    }

    fn is_here(&self) -> bool {
        *self.mover.lock().unwrap_or_else(PoisonError::into_inner) == thread::current().id()
    }
}

impl Clock {
    pub(super) fn by_hand(hand: Arc<Hand>) -> Self {
        Self(Some(hand))
    }

    /// The seconds that a moment is on it.
    pub(super) fn seconds(&self, py: Python<'_>, moment: Instant) -> PyResult<f64> {
        match self.0.as_ref().and_then(|hand| hand.origin) {
            Some(origin) => Ok(durations::seconds(moment.saturating_duration_since(origin))),
            None => monotonic(py, moment),
        }
    }

    /// What a run on this engine was told, for Python.
    pub(super) fn tick(&self, py: Python<'_>, engine: &Engine, tick: &everbeat::Tick) -> PyResult<Tick> {
        let scheduled = engine.time_of(tick.scheduled);
        let scheduled = scheduled.map_or(Ok(f64::INFINITY), |moment| self.seconds(py, moment))?;
        Ok(Tick::new(tick, scheduled))
    }

    /// As [`wait`], for something of this clock only.
    ///
    /// # Errors
    /// As there.
    pub(super) fn wait<T: Send>(
        &self,
        py: Python<'_>,
        limit: Duration,
        attempt: impl FnMut(Duration) -> Option<T> + Send,
    ) -> PyResult<Option<T>> {
        wait(py, slice::from_ref(self), limit, attempt)
    }

    /// The engine whose time this thread moves.
    fn engine_moved_here(&self) -> Option<Arc<TestEngine>> {
        self.0.as_ref().filter(|hand| hand.is_here()).and_then(|hand| hand.engine.upgrade())
    }
}

/// The time that a wait may take; without one, forever.
pub(super) fn limit(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Duration> {
    timeout.map_or(Ok(Duration::MAX), |timeout| durations::parse("timeout", timeout))
}

/// Calls `attempt` with a part of the time until it has a result, which something of one of these clocks brings about;
/// `None` when the time is over.
///
/// On the thread that moves the time none passes meanwhile: whatever can happen without that happens, and
/// then the wait is over.
///
/// # Errors
/// What the handler of a signal has raised; `NothingDueError` there, from a wait without a limit.
pub(super) fn wait<T: Send>(
    py: Python<'_>,
    clocks: &[Clock],
    limit: Duration,
    mut attempt: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    let mut moved_here = Vec::new();
    let mut elsewhere = clocks.is_empty();
    for clock in clocks {
        match clock.engine_moved_here() {
            Some(engine) if moved_here.iter().any(|known| Arc::ptr_eq(known, &engine)) => {}
            Some(engine) => moved_here.push(engine),
            None => elsewhere = true,
        }
    }
    if moved_here.is_empty() {
        return in_slices(py, limit, attempt);
    }
    let mut result = py.detach(|| attempt(Duration::ZERO));
    // A timer without a period is always due: it has one run each time.
    for _ in 0..MOST_ROUNDS {
        if result.is_some() || limit.is_zero() {
            break;
        }
        let mut idle = true;
        for engine in &moved_here {
            let turns = engine.engine().stats().turns;
            moving(py, engine, TestEngine::settle)?;
            idle &= engine.engine().stats().turns == turns;
        }
        result = py.detach(|| attempt(Duration::ZERO));
        if idle {
            break;
        }
    }
    match result {
        None if elsewhere => in_slices(py, limit, attempt),
        None if limit == Duration::MAX => Err(nothing_due(py)),
        result => Ok(result),
    }
}

/// Runs timers: the interpreter is theirs meanwhile.
pub(super) fn moving<T: Send>(
    py: Python<'_>,
    engine: &TestEngine,
    by: impl FnOnce(&TestEngine) -> T + Send,
) -> PyResult<T> {
    // The only panic is that of a target that never comes to rest.
    let moved = || py.detach(|| catch_unwind(AssertUnwindSafe(|| by(engine))));
    context::outside_of_timers(py, moved)?
        .map_err(|_| errors::timer_error(py, "a timer of this engine never comes to rest"))
}

fn nothing_due(py: Python<'_>) -> PyErr {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let message = "this wait would never end: nothing that is due now ends it, and it is this thread that moves the \
        time of the engine. Advance the engine before, or wait on another thread";
    match TYPE.import(py, "everbeat.testing", "NothingDueError") {
        Ok(kind) => PyErr::from_type(kind.clone(), (message,)),
        Err(error) => error,
    }
}
