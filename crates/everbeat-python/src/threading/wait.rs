//! Blocking calls: detached from the interpreter, with a time limit, and open to Ctrl-C.

use std::time::{Duration, Instant};

use everbeat::{Answer, Pending, thread};
use pyo3::prelude::*;
use pyo3::types::PyAny;

use crate::durations;
use crate::errors::to_python;

/// How often a wait looks up: for signals, which only the main thread of Python gets.
const SLICE: Duration = Duration::from_millis(50);

/// The time that a wait may take; without one, forever.
pub(super) fn limit(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Duration> {
    timeout.map_or(Ok(Duration::MAX), |timeout| durations::parse("timeout", timeout))
}

/// Calls `attempt` with a part of the time until it has a result; `None` when the time is over.
pub(super) fn in_slices<T: Send>(
    py: Python<'_>,
    limit: Duration,
    mut attempt: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    let start = Instant::now();
    loop {
        let rest = limit.saturating_sub(start.elapsed());
        if let Some(result) = py.detach(|| attempt(rest.min(SLICE))) {
            return Ok(Some(result));
        }
        py.check_signals()?;
        if rest.is_zero() {
            return Ok(None);
        }
    }
}

/// Waits for something that a timer was asked for; `None` when the time is over.
///
/// # Errors
/// The answer itself is one, or this thread must not wait for it.
pub(super) fn answer<V, O>(
    py: Python<'_>,
    mut pending: Pending<V, O>,
    limit: Duration,
) -> PyResult<Option<O::Value>>
where
    V: Send + Sync + 'static,
    O: Answer + Send,
{
    pending.may_block().map_err(|error| to_python(py, &error))?;
    match in_slices(py, limit, |slice| thread::wait_for(&mut pending, slice))? {
        Some(answer) => answer.into_result().map(Some).map_err(|error| to_python(py, &error)),
        None => Ok(None),
    }
}
