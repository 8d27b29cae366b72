//! Tasks that repeat themselves until they are stopped.

use std::time::Duration;

use everbeat::{OnError, Scope, thread};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::asked::{Asked, Shown};
use super::clock;
use super::engine::Engine;
use super::job::{Delivery, Job, SharedJob, check_not_exiting};
use super::process::Native;
use super::scope::Tie;
use super::targets;
use super::traverse_latest;
use crate::durations;
use crate::errors::to_python;
use crate::stats::Stats;

/// A function that is called again and again, with a pause in between.
#[pyclass(frozen, weakref, module = "everbeat.threading")]
pub(crate) struct PeriodicTask {
    native: Native<thread::PeriodicTask<Delivery>>,
    job: SharedJob,
    tie: Tie,
}

impl PeriodicTask {
    pub(super) fn build(
        engine: Py<Engine>,
        scope: Option<&Scope>,
        interval: &Bound<'_, PyAny>,
        func: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let py = interval.py();
        let interval = durations::parse("interval", interval)?;
        let native = engine.get().native(py)?.clone();
        let job = Job::new(engine, ("func", func), args, kwargs)?.share();
        let mut builder = native.every(interval).initial_delay(interval).on_error(OnError::Continue);
        builder = builder.name(&job.name.bind(py).to_string_lossy());
        if let Some(scope) = scope {
            builder = builder.tied_to(scope);
        }
        let native = thread::PeriodicTask::of(builder, targets::called(job.clone()));
        let native = native.map_err(|error| to_python(py, &error))?;
        if scope.is_none() {
            native.timer().clone().detach(); // it runs until it is stopped, held or not
        }
        Ok(Self { native: Native::new(native), job, tie: Tie::new(scope.is_some()) })
    }

    fn native(&self, py: Python<'_>) -> PyResult<&thread::PeriodicTask<Delivery>> {
        self.native.here(py, "task")
    }

    /// Its scope owns it no longer.
    pub(super) fn forget(&self) {
        self.tie.forget();
    }

    pub(super) fn is_over(&self) -> bool {
        self.native.get().is_none_or(|native| !native.is_running())
    }
}

#[pymethods]
impl PeriodicTask {
    #[new]
    #[pyo3(signature = (interval, func, *args, **kwargs))]
    fn new(
        interval: &Bound<'_, PyAny>,
        func: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        Self::build(Engine::or_default(interval.py(), None)?, None, interval, func, args, kwargs)
    }

    /// Starts it. Does nothing if it runs.
    pub(super) fn start(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        check_not_exiting(py)?;
        let (native, owner) = (this.native(py)?, slf.as_unbound());
        let start = |timer: &everbeat::Timer<Delivery>| {
            Python::attach(|py| this.job.hold(owner.bind(py)));
            timer.start().inspect_err(|_| Python::attach(|_| this.job.release()))
        };
        py.detach(|| native.start_by(start)).map_err(|error| to_python(py, &error))
    }

    /// Stops it. Once this has returned nothing runs.
    #[pyo3(signature = (timeout = None))]
    fn stop(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let limit = clock::limit(timeout)?;
        let stopped = self.native(py)?.timer().shutdown(Duration::MAX);
        if stopped.may_block().is_err() {
            return Ok(()); // this thread has to go on for the task to come to its end
        }
        Asked::new(&self.job, stopped, |_| Shown::Nothing, Some("has not ended")).wait(py, limit).map(drop)
    }

    /// Whether it was started and has not stopped.
    fn is_running(&self, py: Python<'_>) -> PyResult<bool> {
        self.native(py).map(thread::PeriodicTask::is_running)
    }

    /// Seconds from the end of one call to the next.
    #[getter]
    fn interval(&self, py: Python<'_>) -> PyResult<f64> {
        self.native(py).map(|native| durations::seconds(native.timer().period()))
    }

    /// Another interval, from the next wait on; with `rearm` for the wait in progress too.
    #[pyo3(signature = (interval, rearm = false))]
    fn set_interval(&self, interval: &Bound<'_, PyAny>, rearm: bool) -> PyResult<()> {
        let timer = self.native(interval.py())?.timer();
        let period = durations::parse("interval", interval)?;
        if rearm {
            timer.rearm(period);
        } else {
            timer.set_period(period);
        }
        Ok(())
    }

    /// What it calls.
    #[getter]
    fn name(&self, py: Python<'_>) -> Py<PyString> {
        self.job.name.clone_ref(py)
    }

    /// What it has done so far.
    fn stats(&self, py: Python<'_>) -> PyResult<Stats> {
        Stats::of(py, &self.native(py)?.timer().stats(), |moment| self.job.clock().seconds(py, moment))
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        Self::start(slf)?;
        Ok(slf.clone())
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.stop(py, None)
    }

    fn __repr__(&self) -> String {
        let state = match self.native.get() {
            Some(native) if native.is_running() => "running",
            Some(_) => "stopped",
            None => "of another process",
        };
        format!("<PeriodicTask {} {state}>", self.job.name)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(native) = self.native.get().filter(|native| self.tie.is_owned() || !native.is_running())
        else {
            return Ok(());
        };
        traverse_latest(native.timer(), &visit)?;
        self.job.traverse(&visit)
    }

    fn __clear__(&self) {
        self.job.clear();
    }
}

impl Drop for PeriodicTask {
    /// The scope may know the timer for longer, and nobody would see what it refers to.
    fn drop(&mut self) {
        if self.tie.is_made() {
            self.job.clear();
        }
    }
}
