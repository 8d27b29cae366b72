//! What goes to the `logging` module, and to callbacks.
//!
//! None of these fails: what goes wrong in a report is shown as an unraisable exception.

use everbeat::Failure;
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString};

use crate::errors::failure_to_python;

fn helpers(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("everbeat._reports")
}

fn shown<T>(py: Python<'_>, result: PyResult<T>) {
    if let Err(error) = result {
        error.write_unraisable(py, None);
    }
}

/// A run has failed.
pub(super) fn run_failed(py: Python<'_>, name: &Py<PyString>, error: &PyErr) {
    let told = || helpers(py)?.call_method1("run_failed", (name, error.clone_ref(py).into_value(py)));
    shown(py, told());
}

/// Calls back, with the failure as the exception that is being handled. What the callback raises is logged.
pub(super) fn tell_failure(
    py: Python<'_>,
    name: &Py<PyString>,
    callback: &Py<PyAny>,
    failure: &Failure,
    args: (Py<PyAny>, Py<PyAny>),
) {
    let error = failure_to_python(py, failure).into_value(py);
    let told = || helpers(py)?.call_method1("tell_failure", (name, callback, error, args.0, args.1));
    shown(py, told());
}

/// Calls back at the end. What the callback raises is logged.
pub(super) fn tell_end(
    py: Python<'_>,
    name: &Py<PyString>,
    callback: &Py<PyAny>,
    args: (Py<PyAny>, Py<PyAny>),
) {
    let told = || helpers(py)?.call_method1("tell_end", (name, callback, args.0, args.1));
    shown(py, told());
}
