//! Calls that are made once, later.

use std::sync::Arc;
use std::time::Duration;

use everbeat::{Pending, Scope, thread};
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

/// A call that is to be made once, later.
#[pyclass(frozen, weakref, generic, module = "everbeat.threading")]
pub(crate) struct OneShot {
    native: Native<thread::OneShot<Delivery>>,
    job: SharedJob,
    tie: Tie,
}

impl OneShot {
    pub(super) fn start(
        engine: Py<Engine>,
        scope: Option<&Scope>,
        delay: &Bound<'_, PyAny>,
        target: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<Self>> {
        let py = delay.py();
        check_not_exiting(py)?;
        let delay = durations::parse("delay", delay)?;
        let native = engine.get().native(py)?.clone();
        let job = Job::new(engine, ("fn", target), args, kwargs)?.share();
        let mut builder = native.every(Duration::from_secs(1)).name(&job.name.bind(py).to_string_lossy());
        if let Some(scope) = scope {
            builder = builder.tied_to(scope);
        }
        let built = thread::OneShot::of(builder, delay, targets::called_once(job.clone()));
        let native = built.map_err(|error| to_python(py, &error))?;
        let timer = native.as_timer().clone();
        if scope.is_none() {
            timer.clone().detach();
        }
        let slf = Py::new(py, Self { native: Native::new(native), job, tie: Tie::new(scope.is_some()) })?;
        let job = &slf.get().job;
        job.hold(slf.bind(py));
        py.detach(|| timer.start()).map_err(|error| {
            job.release();
            to_python(py, &error)
        })?;
        Ok(slf)
    }

    fn native(&self, py: Python<'_>) -> PyResult<&thread::OneShot<Delivery>> {
        self.native.here(py, "one-shot timer")
    }

    fn wait_for(
        &self,
        py: Python<'_>,
        result: Pending<Delivery, Result<Arc<Delivery>, everbeat::Error>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let limit = clock::limit(timeout)?;
        Asked::new(&self.job, result, Shown::Value, Some("has not been called")).wait(py, limit)
    }

    /// Its scope owns it no longer.
    pub(super) fn forget(&self) {
        self.tie.forget();
    }

    pub(super) fn is_over(&self) -> bool {
        self.native.get().is_none_or(|native| !native.as_timer().is_running())
    }
}

#[pymethods]
impl OneShot {
    /// Calls the call off. `True` if that came in time: it has not begun and never will.
    fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        let native = self.native(py)?;
        let in_time = py.detach(|| native.cancel());
        if in_time {
            self.job.clear();
        }
        Ok(in_time)
    }

    /// Waits for the call and returns its value, or raises what it raised.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        self.wait_for(py, self.native(py)?.wait(), timeout)
    }

    /// Makes the call now, or waits for it if it is being made, and returns its value.
    #[pyo3(signature = (timeout = None))]
    fn fire_now(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        self.wait_for(py, self.native(py)?.fire_now(), timeout)
    }

    /// Whether the call is still to come.
    fn is_pending(&self, py: Python<'_>) -> PyResult<bool> {
        self.native(py).map(thread::OneShot::is_pending)
    }

    /// What it calls.
    #[getter]
    fn name(&self, py: Python<'_>) -> Py<PyString> {
        self.job.name.clone_ref(py)
    }

    fn __repr__(&self) -> String {
        let state = match self.native.get() {
            Some(native) if native.is_pending() => "pending",
            Some(_) => "over",
            None => "of another process",
        };
        format!("<OneShot {} {state}>", self.job.name)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A run that has begun may not have taken what it calls yet: until it is over the engine holds that.
        let Some(native) = self.native.get().filter(|_| self.tie.is_owned() || self.is_over()) else {
            return Ok(());
        };
        traverse_latest(native.as_timer(), &visit)?;
        self.job.traverse(&visit)
    }

    fn __clear__(&self) {
        self.job.clear();
    }
}

impl Drop for OneShot {
    /// The scope may know the timer for longer, and nobody would see what it refers to.
    fn drop(&mut self) {
        if self.tie.is_made() {
            self.job.clear();
        }
    }
}

/// Calls `fn(*args, **kwargs)` once, after `delay`.
#[pyfunction]
#[pyo3(signature = (delay, r#fn, /, *args, **kwargs))]
pub(crate) fn after(
    delay: &Bound<'_, PyAny>,
    r#fn: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Py<OneShot>> {
    OneShot::start(Engine::or_default(delay.py(), None)?, None, delay, r#fn, args, kwargs)
}
