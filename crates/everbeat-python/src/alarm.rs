//! How a desk has its event loop call it back at a time.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;

#[cfg(target_os = "linux")]
use crate::descriptor::Descriptor;
use crate::desk::{Desk, empty_context};

/// What ends the waits of a desk.
pub(crate) enum Alarm {
    /// `loop.call_at`: the handle of the call that is outstanding.
    CallAt(Mutex<Option<Py<PyAny>>>),
    /// A timer of the kernel, whose descriptor the loop reads: exact to some microseconds, where asyncio rounds
    /// its own waits up to a millisecond.
    #[cfg(target_os = "linux")]
    Descriptor(Descriptor),
    /// Nothing: a clock for tests, which stands still unless it is moved.
    Manual(Arc<dyn ManualClock>),
}

/// A clock that does not run by itself.
pub(crate) trait ManualClock: Send + Sync {
    /// The time since the desk was made.
    fn elapsed(&self) -> Duration;

    /// The desk wants a turn then; `None`: nothing is to come. Returns whether the clock will see to it; if not,
    /// it is asked again after the next turn.
    fn set(&self, py: Python<'_>, desk: &Arc<Desk>, due: Option<Duration>) -> PyResult<bool>;
}

impl Alarm {
    pub(crate) fn call_at() -> Self {
        Self::CallAt(Mutex::new(None))
    }

    /// The most precise that the system has.
    ///
    /// # Errors
    /// There are no file descriptors left.
    pub(crate) fn fine() -> PyResult<Self> {
        #[cfg(target_os = "linux")]
        return Ok(Self::Descriptor(Descriptor::new()?));
        #[cfg(not(target_os = "linux"))]
        return Ok(Self::call_at());
    }

    /// Connects it with the loop.
    ///
    /// # Errors
    /// The loop takes no notice of descriptors.
    pub(crate) fn connect(&self, py: Python<'_>, desk: &Desk) -> PyResult<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Descriptor(descriptor) => descriptor.watch(py, desk),
            _ => {
                let _ = (py, desk);
                Ok(())
            }
        }
    }

    /// The time since the origin, if it is not the loop that tells it.
    pub(crate) fn told_time(&self) -> Option<Duration> {
        match self {
            Self::CallAt(_) => None,
            #[cfg(target_os = "linux")]
            Self::Descriptor(_) => None,
            Self::Manual(clock) => Some(clock.elapsed()),
        }
    }

    /// Whether it rings to some microseconds.
    pub(crate) fn is_precise(&self) -> bool {
        !matches!(self, Self::CallAt(_))
    }

    /// Rings at `due` and at no other time. Returns whether it will: if not, it is to be set anew after the next turn.
    pub(crate) fn set(&self, py: Python<'_>, desk: &Arc<Desk>, due: Option<Instant>) -> PyResult<bool> {
        match self {
            Self::CallAt(handle) => {
                self.clear(py);
                let Some(due) = due else { return Ok(true) };
                let call = (desk.alarm_seconds(due), desk.turn_by_alarm());
                let made = desk.event_loop(py).call_method(
                    intern!(py, "call_at"),
                    call,
                    Some(&empty_context(py)?),
                )?;
                let mut handle = handle.lock().unwrap_or_else(PoisonError::into_inner);
                *handle = Some(made.unbind());
                Ok(true)
            }
            #[cfg(target_os = "linux")]
            Self::Descriptor(descriptor) => descriptor.set(py, desk, due).map(|()| true),
            Self::Manual(clock) => clock.set(py, desk, due.map(|due| desk.since_origin(due))),
        }
    }

    /// It has rung: there is nothing left to clear.
    pub(crate) fn rang(&self) {
        match self {
            Self::CallAt(handle) => drop(take(handle)),
            #[cfg(target_os = "linux")]
            Self::Descriptor(descriptor) => descriptor.silence(),
            Self::Manual(_) => {}
        }
    }

    /// Nothing is to come from it any more: its loop is ending.
    pub(crate) fn close(&self, py: Python<'_>, desk: &Desk) {
        self.clear(py);
        #[cfg(target_os = "linux")]
        if let Self::Descriptor(descriptor) = self {
            descriptor.close(py, desk);
        }
        let _ = desk;
    }

    /// Does not ring any more.
    pub(crate) fn clear(&self, py: Python<'_>) {
        #[cfg(target_os = "linux")]
        if let Self::Descriptor(descriptor) = self {
            descriptor.disarm();
        }
        let Self::CallAt(handle) = self else { return };
        if let Some(handle) = take(handle) {
            // A handle that has rung takes no notice, and a foreign loop's failure to cancel costs a
            // needless look at the clock.
            let _ = handle.call_method0(py, intern!(py, "cancel"));
        }
    }
}

fn take(handle: &Mutex<Option<Py<PyAny>>>) -> Option<Py<PyAny>> {
    handle.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alarm")
    }
}
