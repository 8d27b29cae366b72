//! Python objects as the values and errors of timers.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
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

/// Something of Python's that is dropped with the interpreter attached, on whichever thread that happens: there
/// and then, and not on a list whose lock a fork in between would leave closed in the child. So no lock is
/// held where one is dropped.
#[derive(Debug)]
pub(crate) struct Attached<T>(Option<T>);

impl<T> Attached<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self(Some(inner))
    }
}

impl<T> Deref for Attached<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<T> Drop for Attached<T> {
    fn drop(&mut self) {
        let inner = self.0.take();
        let _ = Python::try_attach(move |_| drop(inner));
    }
}

/// An exception that a Python target raised, with the traceback it had then.
#[derive(Debug)]
pub(crate) struct Raised(Attached<Exception>);

#[derive(Debug)]
struct Exception {
    exception: Py<PyBaseException>,
    traceback: Option<Py<PyAny>>,
}

impl Raised {
    pub(crate) fn boxed(py: Python<'_>, error: PyErr) -> BoxError {
        let traceback = error.traceback(py).map(|traceback| traceback.into_any().unbind());
        Box::new(Self(Attached::new(Exception { exception: error.into_value(py), traceback })))
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
        let Some(Self(raised)) = failure.downcast_ref().filter(|_| alone) else {
            return Ok(());
        };
        visit.call(&raised.exception)?;
        visit.call(&raised.traceback)
    }

    /// The same exception once more. Every raise adds to the traceback of an exception: each begins with
    /// that of the run, so that it does not grow with the number of those who are told.
    pub(crate) fn raise_again(&self, py: Python<'_>) -> PyErr {
        let exception = self.0.exception.bind(py);
        let traceback = self.0.traceback.as_ref().map(|traceback| traceback.bind(py));
        // An exception that refuses its own traceback is raised as it is.
        let _ = exception.setattr(pyo3::intern!(py, "__traceback__"), traceback);
        PyErr::from_value(exception.clone().into_any())
    }
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Python::try_attach(|py| PyErr::from_value(self.0.exception.bind(py).clone().into_any()).fmt(f))
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
