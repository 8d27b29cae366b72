//! A schedule without a target.

use std::sync::{Mutex, TryLockError};

use everbeat::Error;
use everbeat::thread;
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::clock;
use super::clock::Clock;
use super::engine::Engine;
use super::job::check_not_exiting;
use super::options::{Schedule, builder};
use super::process::{Native, is_exiting};
use crate::config::{Limits, text};
use crate::durations;
use crate::errors::{stopped, timer_error, to_python};
use crate::stats::{Stats, truth};
use crate::tick::Tick;

/// A schedule as a blocking iterator of ticks.
#[pyclass(frozen, weakref, module = "everbeat.threading")]
pub(crate) struct Ticks {
    native: Native<Shared>,
}

struct Shared {
    /// Locked by the thread that iterates; others only try.
    ticks: Mutex<everbeat::Ticks>,
    timer: everbeat::Timer<everbeat::Tick>,
    engine: thread::Engine,
    clock: Clock,
}

impl Ticks {
    fn native(&self, py: Python<'_>) -> PyResult<&Shared> {
        self.native.here(py, "schedule")
    }

    /// The next tick; `None` at the end.
    fn next(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Tick>> {
        let (shared, limit) = (self.native(py)?, clock::limit(timeout)?);
        let mut iterating = match shared.ticks.try_lock() {
            Ok(ticks) => ticks,
            Err(TryLockError::Poisoned(ticks)) => ticks.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(timer_error(py, "another thread iterates over these ticks"));
            }
        };
        let ticks = &mut *iterating;
        let ticked = shared.clock.wait(py, limit, |slice| match ticks.next_blocking(slice) {
            _ if is_exiting() => Some(Ok(None)),
            Err(Error::Timeout { .. }) => None,
            other => Some(other),
        })?;
        let too_late = || PyTimeoutError::new_err(format!("{} is not due in time", shared.timer.name()));
        let tick = ticked.ok_or_else(too_late)?.map_err(|error| to_python(py, &error))?;
        tick.map(|tick| shared.clock.tick(py, &shared.engine, &tick)).transpose()
    }
}

#[pymethods]
impl Ticks {
    /// The next tick.
    #[pyo3(signature = (timeout = None))]
    fn get(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Tick> {
        self.next(py, timeout)?.ok_or_else(|| stopped(py, "the schedule has ended"))
    }

    /// Has it tick now.
    fn trigger(&self, py: Python<'_>) -> PyResult<()> {
        let asked = self.native(py)?.timer.trigger();
        if self.native(py)?.timer.is_running() {
            drop(asked);
            return Ok(());
        }
        Err(crate::errors::not_running(py, format!("{} has ended", self.native(py)?.timer.name())))
    }

    /// Another delay, from the next wait on; with `rearm` for the wait in progress too.
    #[pyo3(signature = (delay, rearm = false))]
    fn set_delay(&self, delay: &Bound<'_, PyAny>, rearm: bool) -> PyResult<()> {
        let timer = &self.native(delay.py())?.timer;
        let period = durations::parse("delay", delay)?;
        if rearm {
            timer.rearm(period);
        } else {
            timer.set_period(period);
        }
        Ok(())
    }

    /// Suspends the schedule.
    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        self.native(py).map(|shared| shared.timer.pause())
    }

    /// Takes the schedule up again.
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.native(py).map(|shared| shared.timer.resume())
    }

    /// Ends the schedule.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        drop(self.native(py)?.timer.cancel());
        Ok(())
    }

    /// Whether it has not ended.
    fn is_running(&self, py: Python<'_>) -> PyResult<bool> {
        self.native(py).map(|shared| shared.timer.is_running())
    }

    /// What it has done so far.
    fn stats(&self, py: Python<'_>) -> PyResult<Stats> {
        let shared = self.native(py)?;
        Stats::of(py, &shared.timer.stats(), |moment| shared.clock.seconds(py, moment))
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Tick>> {
        self.next(py, None)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.cancel(py)
    }

    fn __repr__(&self) -> String {
        match self.native.get() {
            Some(Shared { timer, .. }) => {
                format!("<Ticks {} running={}>", timer.name(), truth(timer.is_running()))
            }
            None => "<Ticks of another process>".to_owned(),
        }
    }
}

/// A schedule without a target: a blocking iterator of ticks.
#[pyfunction]
#[pyo3(signature = (
    delay, *, mode = None, initial_delay = None, jitter = None, seed = None, name = None, missed = None,
    max_runs = None, run_for = None, max_lateness = None, keep_phase = None, engine = None,
), text_signature = "(delay, *, mode='fixed_delay', initial_delay=None, jitter=0.0, seed=None, \
    name='ticks', missed='skip', max_runs=None, run_for=None, max_lateness=None, keep_phase=False, engine=None)")]
#[allow(clippy::too_many_arguments)] // they are keywords in Python
pub(crate) fn ticks<'py>(
    delay: &Bound<'py, PyAny>,
    mode: Option<&Bound<'py, PyAny>>,
    initial_delay: Option<&Bound<'py, PyAny>>,
    jitter: Option<&Bound<'py, PyAny>>,
    seed: Option<&Bound<'py, PyAny>>,
    name: Option<&Bound<'py, PyAny>>,
    missed: Option<&Bound<'py, PyAny>>,
    max_runs: Option<&Bound<'py, PyAny>>,
    run_for: Option<&Bound<'py, PyAny>>,
    max_lateness: Option<&Bound<'py, PyAny>>,
    keep_phase: Option<&Bound<'py, PyAny>>,
    engine: Option<Py<Engine>>,
) -> PyResult<Ticks> {
    let py = delay.py();
    check_not_exiting(py)?;
    let engine = Engine::or_default(py, engine)?;
    let (engine, clock) = (engine.get().native(py)?.clone(), engine.get().clock().clone());
    let limits = Limits { seed, missed, max_runs, run_for, max_lateness, keep_phase };
    let config = Schedule { delay, mode, initial_delay, jitter, limits }.parse()?;
    let name = text("name", name)?.map_or(Ok("ticks"), |name| name.to_str())?;
    let ticks = builder(&engine, &config).name(name).ticks().map_err(|error| to_python(py, &error))?;
    let timer = ticks.timer().clone();
    Ok(Ticks { native: Native::new(Shared { ticks: Mutex::new(ticks), timer, engine, clock }) })
}
