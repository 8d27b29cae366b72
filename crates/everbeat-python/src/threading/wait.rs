//! Waiting for what a timer on threads was asked.

use std::time::Duration;

use everbeat::{Answer, Pending, thread};
use pyo3::prelude::*;
use pyo3::types::PyAny;

use super::clock::Clock;
use crate::durations;
use crate::errors::to_python;

/// The time that a wait may take; without one, forever.
pub(super) fn limit(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Duration> {
    timeout.map_or(Ok(Duration::MAX), |timeout| durations::parse("timeout", timeout))
}

/// Waits for something that a timer was asked for; `None` when the time is over.
///
/// # Errors
/// The answer itself is one, or this thread must not wait for it.
pub(super) fn answer<V, O>(
    py: Python<'_>,
    clock: &Clock,
    mut pending: Pending<V, O>,
    limit: Duration,
) -> PyResult<Option<O::Value>>
where
    V: Send + Sync + 'static,
    O: Answer + Send,
{
    let answer = match pending.answer_without_waiting() {
        Some(answer) => Some(answer),
        None => {
            clock.wait(py, limit, |slice| thread::wait_for(&mut pending, slice))?.map(Answer::into_result)
        }
    };
    answer.transpose().map_err(|error| to_python(py, &error))
}
