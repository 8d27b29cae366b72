//! Python objects as the values and errors of timers.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use everbeat::BoxError;
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
    error: PyErr,
    traceback: Option<Py<PyAny>>,
}

impl Raised {
    pub(crate) fn boxed(py: Python<'_>, error: PyErr) -> BoxError {
        let traceback = error.traceback(py).map(|traceback| traceback.into_any().unbind());
        Box::new(Self { error, traceback })
    }

    /// The same exception once more. Every raise adds to the traceback of an exception: each begins with
    /// that of the run, so that it does not grow with the number of those who are told.
    pub(crate) fn raise_again(&self, py: Python<'_>) -> PyErr {
        let exception = self.error.value(py);
        let traceback = self.traceback.as_ref().map(|traceback| traceback.bind(py));
        // An exception that refuses its own traceback is raised as it is.
        let _ = exception.setattr(pyo3::intern!(py, "__traceback__"), traceback);
        PyErr::from_value(exception.clone().into_any())
    }
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Python::try_attach(|py| fmt::Display::fmt(&self.error.clone_ref(py), f))
            .unwrap_or_else(|| f.write_str("a Python exception"))
    }
}

impl Error for Raised {}
