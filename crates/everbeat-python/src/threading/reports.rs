//! What goes to the `logging` module, and to callbacks.
//!
//! None of these fails: what goes wrong in a report is shown as an unraisable exception.

use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString};

fn helpers(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("everbeat._callbacks")
}

fn shown<T>(py: Python<'_>, result: PyResult<T>) {
    if let Err(error) = result {
        error.write_unraisable(py, None);
    }
}

/// A run has failed. A callback is called with the timer, and with the failure as the exception that is
/// being handled; without one it is logged.
pub(super) fn tell_failure(
    py: Python<'_>,
    name: &Py<PyString>,
    callback: Option<(Py<PyAny>, Py<PyAny>)>,
    target: Py<PyAny>,
    error: &PyErr,
) {
    let error = error.clone_ref(py).into_value(py); // with its traceback
    let (callback, timer) = callback.unzip();
    let told = || helpers(py)?.call_method1("tell_failure", (callback, timer, target, name, error));
    shown(py, told());
}

/// Calls back at the end.
pub(super) fn tell_end(
    py: Python<'_>,
    name: &Py<PyString>,
    callback: &Py<PyAny>,
    (timer, target): (Py<PyAny>, Py<PyAny>),
) {
    let told = || helpers(py)?.call_method1("tell_end", (callback, timer, target, name));
    shown(py, told());
}
