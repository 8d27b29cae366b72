//! What a timer calls when a run fails and when it ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everbeat::{Builder, Failure};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::job::{Job, SharedJob};
use super::process::in_python;
use super::reports;
use super::timer::Timer;
use crate::config;
use crate::errors::failure_to_python;
use crate::value::Attached;

/// The callbacks of a timer, with the timer as it is handed to them.
///
/// Locked as a job is.
pub(super) struct Callbacks {
    inner: Mutex<Held>,
}

struct Held {
    exc_cb: Option<Py<PyAny>>,
    cancel_cb: Option<Py<PyAny>>,
    /// There from a start to the end of what was started.
    timer: Option<Py<Timer>>,
    /// A start may be tried while an end is still being announced: each has a hold of its own.
    holds: usize,
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
        let held = Held { exc_cb, cancel_cb, timer: None, holds: 0 };
        Ok(Some(Arc::new(Attached::new(Self { inner: Mutex::new(held) }))))
    }

    pub(super) fn hold(&self, timer: &Bound<'_, Timer>) {
        let mut held = self.lock();
        held.holds += 1;
        if held.timer.is_none() {
            held.timer = Some(timer.clone().unbind());
        }
    }

    pub(super) fn release(&self) -> Option<Py<Timer>> {
        let mut held = self.lock();
        held.holds = held.holds.saturating_sub(1);
        if held.holds == 0 { held.timer.take() } else { None }
    }

    fn on_failure(&self, py: Python<'_>) -> Option<(Py<PyAny>, Py<PyAny>)> {
        let held = self.lock();
        Some((held.exc_cb.as_ref()?.clone_ref(py), held.timer_object(py)))
    }

    /// What was started has ended.
    pub(super) fn end(&self, py: Python<'_>, job: &Job) {
        let told = {
            let held = self.lock();
            held.cancel_cb.as_ref().map(|callback| (callback.clone_ref(py), held.timer_object(py)))
        };
        if let Some((callback, timer)) = told {
            reports::tell_end(py, &job.name, &callback, (timer, job.target(py)));
        }
        drop(self.release());
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(held) = self.inner.try_lock() else { return Ok(()) };
        visit.call(&held.exc_cb)?;
        visit.call(&held.cancel_cb)?;
        visit.call(&held.timer)
    }

    pub(super) fn clear(&self) {
        let rest = {
            let mut held = self.lock();
            (held.exc_cb.take(), held.cancel_cb.take(), held.timer.take())
        };
        drop(rest);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn timer_object(&self, py: Python<'_>) -> Py<PyAny> {
        self.timer.as_ref().map_or_else(|| py.None(), |timer| timer.clone_ref(py).into_any())
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
            builder.on_end(move |_| _ = in_python(|py| callbacks.end(py, &job)))
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

/// A run has failed: calls back, or else logs it.
fn tell_failure(py: Python<'_>, callbacks: Option<&Callbacks>, job: &Job, failure: &Failure) {
    let callback = callbacks.and_then(|callbacks| callbacks.on_failure(py));
    reports::tell_failure(py, &job.name, callback, job.target(py), &failure_to_python(py, failure));
}
