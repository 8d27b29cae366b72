//! Python objects as the values and errors of timers.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use everbeat::{BoxError, Failure, Timer};
use pyo3::exceptions::PyBaseException;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

/// What a run of a Python target delivers.
#[derive(Debug)]
pub(crate) struct Value(pub(crate) Py<PyAny>);

impl Value {
    /// The object, for somebody who was handed the shared value.
    pub(crate) fn object(self: &Arc<Self>, py: Python<'_>) -> Py<PyAny> {
        self.0.clone_ref(py)
    }
}

/// An exception that a Python target raised, with the traceback it had then.
#[derive(Debug)]
pub(crate) struct Raised {
    exception: Py<PyBaseException>,
    traceback: Option<Py<PyAny>>,
}

impl Raised {
    pub(crate) fn boxed(py: Python<'_>, error: PyErr) -> BoxError {
        let traceback = error.traceback(py).map(|traceback| traceback.into_any().unbind());
        Box::new(Self { exception: error.into_value(py), traceback })
    }

    /// Shows the collector the exception that has ended a timer, unless others hold it as well: the frames of
    /// its traceback refer to whatever the target did, which may well be the owner of the timer.
    pub(crate) fn traverse_last<V: Send + Sync + 'static>(
        timer: &Timer<V>,
        visit: &PyVisit<'_>,
    ) -> Result<(), PyTraverseError> {
        let Some(Failure::Error(failure)) = failure_of(timer) else { return Ok(()) };
        // One reference is that of the timer, the other is here.
        let alone = Arc::strong_count(&failure) == 2;
        let Some(Self { exception, traceback }) = failure.downcast_ref().filter(|_| alone) else {
            return Ok(());
        };
        visit.call(exception)?;
        visit.call(traceback)
    }

    /// The same exception once more. Every raise adds to the traceback of an exception: each begins with
    /// that of the run, so that it does not grow with the number of those who are told.
    pub(crate) fn raise_again(&self, py: Python<'_>) -> PyErr {
        let exception = self.exception.bind(py);
        let traceback = self.traceback.as_ref().map(|traceback| traceback.bind(py));
        // An exception that refuses its own traceback is raised as it is.
        let _ = exception.setattr(pyo3::intern!(py, "__traceback__"), traceback);
        PyErr::from_value(exception.clone().into_any())
    }
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Python::try_attach(|py| PyErr::from_value(self.exception.bind(py).clone().into_any()).fmt(f))
            .unwrap_or_else(|| f.write_str("a Python exception"))
    }
}

impl Error for Raised {}

/// What has ended a timer, if a failure has.
pub(crate) fn failure_of<V: Send + Sync + 'static>(timer: &Timer<V>) -> Option<Failure> {
    if timer.is_running() {
        return None;
    }
    match pin!(timer.wait()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(everbeat::Error::Failed { failure, .. })) => Some(failure),
        _ => None,
    }
}
