//! Durations and counts, as Python callers write them.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDelta, PyType};

use crate::config;
use crate::errors::bad_value;

/// `everbeat.ns`: a whole number of nanoseconds.
fn nanoseconds_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "everbeat._durations", "ns")
}

/// A duration: seconds as a number, a `timedelta` or an `everbeat.ns`.
///
/// # Errors
/// `TypeError` for anything else; `ScheduleError` for one that is negative, infinite or not a number.
pub(crate) fn parse(field: &str, given: &Bound<'_, PyAny>) -> PyResult<Duration> {
    read(field, given)?
        .ok_or_else(|| bad_value(given.py(), field, given, "a finite duration of at least zero"))
}

/// The same where zero is refused too.
pub(crate) fn parse_nonzero(field: &str, given: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let span = read(field, given)?.filter(|span| !span.is_zero());
    span.ok_or_else(|| bad_value(given.py(), field, given, "a finite duration longer than zero"))
}

/// `None` for what is of a right type and no duration.
fn read(field: &str, given: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    if let Ok(seconds) = given.cast_exact::<pyo3::types::PyFloat>() {
        return Ok(from_seconds(seconds.extract()?));
    }
    let py = given.py();
    if given.is_instance(nanoseconds_type(py)?)? {
        return match given.extract::<u64>() {
            Ok(nanos) => Ok(Some(Duration::from_nanos(nanos))),
            Err(_) => beyond(given),
        };
    }
    if given.is_instance_of::<PyDelta>() {
        return Ok(given.extract::<Duration>().ok());
    }
    if given.is_instance_of::<PyBool>() {
        return Err(wrong_type(field, given));
    }
    match given.extract::<f64>() {
        Ok(seconds) => Ok(from_seconds(seconds)),
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyOverflowError>(py) => beyond(given),
        Err(_) => Err(wrong_type(field, given)),
    }
}

/// A duration in nanoseconds, for what is written in Python.
#[pyfunction]
#[pyo3(name = "_nanoseconds")]
pub(crate) fn nanoseconds(field: &str, given: &Bound<'_, PyAny>) -> PyResult<u64> {
    parse(field, given).map(|span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}

/// The seconds of a duration, as Python callers read them: the number nearest to its nanoseconds.
///
/// `as_secs_f64` rounds twice, so that a delay of 1.647194127 would be read as 1.6471941270000001. Beyond 2^53
/// nanoseconds, which no longer are a number of 53 bits, it is the better of the two.
pub(crate) fn seconds(span: Duration) -> f64 {
    match span.as_nanos() {
        nanos if nanos <= 1 << 53 => nanos as f64 / 1e9,
        _ => span.as_secs_f64(),
    }
}

fn from_seconds(seconds: f64) -> Option<Duration> {
    (seconds.is_finite() && seconds >= 0.0)
        .then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// A number too large to be held: beyond the end of time, unless it is below zero.
fn beyond(given: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    Ok((!given.lt(0)?).then_some(Duration::MAX))
}

fn wrong_type(field: &str, given: &Bound<'_, PyAny>) -> PyErr {
    config::wrong_type(field, "a number of seconds, a timedelta or everbeat.ns(...)", given)
}
