//! The library's errors as Python exceptions.

use everbeat::{Error, Failure};
use pyo3::exceptions::{PyRuntimeError, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::value::Raised;

/// The exceptions of `everbeat.exceptions`, by the name they have there.
macro_rules! exceptions {
    ($($function:ident => $name:literal),* $(,)?) => {$(
        pub(crate) fn $function(py: Python<'_>, message: impl Into<String>) -> PyErr {
            static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
            match TYPE.import(py, "everbeat.exceptions", $name) {
                Ok(kind) => PyErr::from_type(kind.clone(), (message.into(),)),
                Err(error) => error,
            }
        }
    )*};
}

exceptions! {
    already_running => "TimerAlreadyRunningError",
    not_running => "TimerNotRunningError",
    stopped => "TimerStoppedError",
    restart => "TimerRestartError",
    threadsafe_dispatch => "ThreadsafeDispatchError",
    schedule => "ScheduleError",
    timer_error => "TimerError",
}

/// A value that is refused: says the field, the value and what is allowed.
pub(crate) fn bad_value(py: Python<'_>, field: &str, value: &Bound<'_, PyAny>, allowed: &str) -> PyErr {
    let value = value.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string());
    schedule(py, format!("{field} must be {allowed}, got {value}"))
}

/// An error of the library. The failure of a run is the exception that the run raised.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::AlreadyRunning { .. } => already_running(py, message),
        Error::NotRunning { .. } => not_running(py, message),
        Error::Restart { .. } => restart(py, message),
        Error::Stopped { .. } => stopped(py, message),
        Error::Failed { failure, .. } => failure_to_python(py, failure),
        Error::Timeout { .. } => PyTimeoutError::new_err(message),
        Error::ThreadsafeDispatch { .. } => threadsafe_dispatch(py, message),
        Error::Schedule(_) => schedule(py, message),
        _ => timer_error(py, message),
    }
}

/// The exception of a run that failed.
pub(crate) fn failure_to_python(py: Python<'_>, failure: &Failure) -> PyErr {
    if let Some(raised) = failure.downcast_ref::<Raised>() {
        return raised.raise_again(py);
    }
    match failure {
        Failure::TimedOut(limit) => {
            PyTimeoutError::new_err(format!("the run exceeded its time limit of {limit:?}"))
        }
        other => PyRuntimeError::new_err(other.to_string()),
    }
}
