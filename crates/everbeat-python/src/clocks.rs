//! Clocks for tests, which are Python objects.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;

use crate::alarm::{Alarm, ManualClock};
use crate::desk::Desk;

/// A Python object with two methods: `elapsed()`, in nanoseconds, and `set_alarm(due, turn)`: `turn()` is
/// to be called in the loop when the clock has reached `due` nanoseconds; `None`: at no time. A clock that will not
/// do so for now returns `False`, and is asked again after the next turn.
struct PyClock(Py<PyAny>);

impl ManualClock for PyClock {
    fn elapsed(&self) -> Duration {
        let told = Python::try_attach(|py| {
            let nanos = self.0.call_method0(py, intern!(py, "elapsed"))?;
            nanos.extract::<u64>(py)
        });
        match told {
            Some(Ok(nanos)) => Duration::from_nanos(nanos),
            // A clock that fails stands still.
            Some(Err(_)) | None => Duration::ZERO,
        }
    }

    fn set(&self, py: Python<'_>, desk: &Arc<Desk>, due: Option<Duration>) -> PyResult<bool> {
        let turn = desk.turn_by_alarm();
        let due = due.map(|due| due.as_nanos());
        let taken = self.0.bind(py).call_method1(intern!(py, "set_alarm"), (due, turn))?;
        taken.extract()
    }
}

/// The alarm that such a clock is.
pub(crate) fn alarm(py: Python<'_>, clock: &Py<PyAny>) -> Alarm {
    Alarm::Manual(Arc::new(PyClock(clock.clone_ref(py))))
}

/// The clock of all timers that are started from now on.
static INSTALLED: Mutex<Option<Py<PyAny>>> = Mutex::new(None);

pub(crate) fn installed(py: Python<'_>) -> Option<Py<PyAny>> {
    lock().as_ref().map(|clock| clock.clone_ref(py))
}

/// Has all timers live under this clock that are started from now on. Returns the one before.
#[pyfunction]
#[pyo3(name = "_install_clock")]
pub(crate) fn install_clock(clock: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
    let mut installed = lock();
    mem::replace(&mut *installed, clock)
}

fn lock() -> MutexGuard<'static, Option<Py<PyAny>>> {
    // Held for a few instructions in which nothing can panic, so a poisoned one is as good as any.
    INSTALLED.lock().unwrap_or_else(PoisonError::into_inner)
}
