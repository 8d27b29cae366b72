//! What a timer calls when a run fails and when it ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everbeat::{Builder, Failure};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::current::inside;
use super::job::{Job, SharedJob};
use super::process::in_python;
use super::reports;
use crate::config;
use crate::errors::failure_to_python;
use crate::value::Attached;

/// The callbacks of a timer. Locked as a job is.
pub(super) struct Callbacks {
    inner: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    exc_cb: Option<Py<PyAny>>,
    cancel_cb: Option<Py<PyAny>>,
}

impl Callbacks {
    pub(super) fn new(
        exc_cb: Option<&Bound<'_, PyAny>>,
        cancel_cb: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Arc<Attached<Self>>>> {
        let exc_cb = config::parse_callback("exc_cb", exc_cb)?;
        let cancel_cb = config::parse_callback("cancel_cb", cancel_cb)?;
        if exc_cb.is_none() && cancel_cb.is_none() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Attached::new(Self { inner: Mutex::new(Held { exc_cb, cancel_cb }) }))))
    }

    fn on_failure(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.lock().exc_cb.as_ref().map(|callback| callback.clone_ref(py))
    }

    fn on_end(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.lock().cancel_cb.as_ref().map(|callback| callback.clone_ref(py))
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(held) = self.inner.try_lock() else { return Ok(()) };
        visit.call(&held.exc_cb)?;
        visit.call(&held.cancel_cb)
    }

    pub(super) fn clear(&self) {
        let rest = std::mem::take(&mut *self.lock());
        drop(rest);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a timer call back, as far as there is somebody to be called.
pub(super) fn attach(
    builder: Builder,
    callbacks: Option<&Arc<Attached<Callbacks>>>,
    job: &SharedJob,
) -> Builder {
    let builder = match callbacks.cloned() {
        Some(callbacks) => {
            let job = job.clone();
            builder.on_end(move |_| _ = in_python(|py| tell_end(py, &callbacks, &job)))
        }
        None => builder,
    };
    if job.reports {
        return builder;
    }
    let (callbacks, job) = (callbacks.cloned(), job.clone());
    builder.on_failure(move |failure| {
        in_python(|py| tell_failure(py, callbacks.as_ref().map(|callbacks| &***callbacks), &job, failure));
    })
}

/// What was started has ended.
fn tell_end(py: Python<'_>, callbacks: &Callbacks, job: &SharedJob) {
    if let Some(callback) = callbacks.on_end(py) {
        let about = (owner(py, job), job.target(py));
        inside(job, || reports::tell_end(py, &job.name, &callback, about));
    }
    job.release();
}

/// A run has failed: calls back, or else logs it.
fn tell_failure(py: Python<'_>, callbacks: Option<&Callbacks>, job: &SharedJob, failure: &Failure) {
    let callback = callbacks.and_then(|callbacks| callbacks.on_failure(py));
    let told = callback.map(|callback| (callback, owner(py, job)));
    let error = failure_to_python(py, failure);
    inside(job, || reports::tell_failure(py, &job.name, told, job.target(py), &error));
}

/// The timer, as it is handed to its callbacks.
fn owner(py: Python<'_>, job: &Job) -> Py<PyAny> {
    job.owner(py).unwrap_or_else(|| py.None())
}
