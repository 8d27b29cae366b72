//! Blocking calls: detached from the interpreter, with a time limit, and open to Ctrl-C.

use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How often a wait looks up: for signals, which only the main thread of Python gets.
const SLICE: Duration = Duration::from_millis(50);

/// Calls `attempt` with a part of the time until it has a result; `None` when the time is over.
///
/// # Errors
/// What the handler of a signal has raised.
pub(crate) fn in_slices<T: Send>(
    py: Python<'_>,
    limit: Duration,
    attempt: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    looking_up(py, limit, attempt, |_| Ok(()))
}

/// The same, with something to look at in between.
///
/// # Errors
/// What the handler of a signal has raised, or who looks.
pub(crate) fn looking_up<'py, T: Send>(
    py: Python<'py>,
    limit: Duration,
    mut attempt: impl FnMut(Duration) -> Option<T> + Send,
    look: impl Fn(Python<'py>) -> PyResult<()>,
) -> PyResult<Option<T>> {
    let start = Instant::now();
    loop {
        let rest = limit.saturating_sub(start.elapsed());
        if let Some(result) = py.detach(|| attempt(rest.min(SLICE))) {
            return Ok(Some(result));
        }
        py.check_signals()?;
        look(py)?;
        if rest.is_zero() {
            return Ok(None);
        }
    }
}
