//! How a desk has its event loop call it back at a time.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;

use crate::desk::Desk;

/// What ends the waits of a desk.
pub(crate) enum Alarm {
    /// `loop.call_at`: the handle of the call that is outstanding.
    CallAt(Mutex<Option<Py<PyAny>>>),
    /// Nothing: a clock for tests, which stands still unless it is moved.
    Manual(Arc<dyn ManualClock>),
}

/// A clock that does not run by itself.
pub(crate) trait ManualClock: Send + Sync {
    /// The time since the desk was made.
    fn elapsed(&self) -> Duration;

    /// The desk wants a turn then; `None`: nothing is to come.
    fn set(&self, py: Python<'_>, desk: &Arc<Desk>, due: Option<Duration>) -> PyResult<()>;
}

impl Alarm {
    pub(crate) fn call_at() -> Self {
        Self::CallAt(Mutex::new(None))
    }

    /// The time since the origin, if it is not the loop that tells it.
    pub(crate) fn told_time(&self) -> Option<Duration> {
        match self {
            Self::CallAt(_) => None,
            Self::Manual(clock) => Some(clock.elapsed()),
        }
    }

    /// Rings at `due` and at no other time.
    pub(crate) fn set(&self, py: Python<'_>, desk: &Arc<Desk>, due: Option<Instant>) -> PyResult<()> {
        match self {
            Self::CallAt(handle) => {
                self.clear(py);
                let Some(due) = due else { return Ok(()) };
                // Rounded up: called then, the moment has come.
                let call = (desk.seconds(due).next_up(), desk.turn_by_alarm());
                let made = desk.event_loop(py).call_method1(intern!(py, "call_at"), call)?;
                let mut handle = handle.lock().unwrap_or_else(PoisonError::into_inner);
                *handle = Some(made.unbind());
                Ok(())
            }
            Self::Manual(clock) => clock.set(py, desk, due.map(|due| desk.since_origin(due))),
        }
    }

    /// It has rung: there is nothing left to clear.
    pub(crate) fn rang(&self) {
        if let Self::CallAt(handle) = self {
            let spent = handle.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(spent);
        }
    }

    /// Does not ring any more.
    pub(crate) fn clear(&self, py: Python<'_>) {
        let Self::CallAt(handle) = self else { return };
        let handle = handle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(handle) = handle {
            // A handle that has rung takes no notice, and a foreign loop's failure to cancel costs a
            // needless look at the clock.
            let _ = handle.call_method0(py, intern!(py, "cancel"));
        }
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alarm")
    }
}
