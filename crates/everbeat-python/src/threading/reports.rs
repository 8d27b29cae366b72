//! What goes to the `logging` module, and to callbacks.
//!
//! None of these fails: what goes wrong in a report is shown as an unraisable exception.

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::process::is_exiting;
use crate::call::call_out;

/// Calls a function of `everbeat._callbacks`, which calls what is the user's.
fn call<'py>(
    py: Python<'py>,
    function: &str,
    args: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>,
) -> PyResult<()> {
    let function = py.import("everbeat._callbacks")?.getattr(function)?;
    call_out(&function, &args.into_pyobject(py)?, None).map(drop)
}

fn shown<T>(py: Python<'_>, result: PyResult<T>) {
    match result {
        // The exit asks what takes too long to end.
        Err(error) if is_exiting() && error.is_instance_of::<PySystemExit>(py) => {}
        Err(error) => error.write_unraisable(py, None),
        Ok(_) => {}
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
    shown(py, call(py, "tell_failure", (callback, timer, target, name, error)));
}

/// Calls back at the end.
pub(super) fn tell_end(
    py: Python<'_>,
    name: &Py<PyString>,
    callback: &Py<PyAny>,
    (timer, target): (Py<PyAny>, Py<PyAny>),
) {
    shown(py, call(py, "tell_end", (callback, timer, target, name)));
}
