//! `contextvars`: where the code of a timer runs.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use crate::call::call_out;

/// The variable that tells the code of timers in loops which one it is.
pub(crate) fn current_timer(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static VARIABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    VARIABLE.import(py, "everbeat._current", "_timer")
}

/// Does something in which other timers run than the one that may be running this code.
pub(crate) fn outside_of_timers<R>(py: Python<'_>, f: impl FnOnce() -> R) -> PyResult<R> {
    let variable = current_timer(py)?;
    let before = variable.call_method1(intern!(py, "set"), (py.None(),))?;
    let result = f();
    variable.call_method1(intern!(py, "reset"), (before,))?;
    Ok(result)
}

fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "contextvars", "Context")
}

/// One without any variable.
pub(crate) fn empty(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    class(py)?.call0()
}

/// That of the caller.
pub(crate) fn copy(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    COPY.import(py, "contextvars", "copy_context")?.call0()
}

/// The method `run` of contexts, looked up once and not bound: a tick of many consumers calls it for each.
fn runner(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static RUN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let run = RUN.get_or_try_init(py, || PyResult::Ok(class(py)?.getattr(intern!(py, "run"))?.unbind()))?;
    Ok(run.bind(py))
}

/// `context.run(…)`: the context, what to call, and its arguments.
pub(crate) fn run<'py, A>(py: Python<'py>, call: A) -> PyResult<Bound<'py, PyAny>>
where
    A: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
{
    call_out(runner(py)?, &call.into_pyobject(py).map_err(Into::into)?, None)
}
