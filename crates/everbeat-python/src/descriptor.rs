//! A timer of the kernel as the alarm of a desk.
//!
//! The lock is held for a few instructions and never while Python code can run.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::desk::Desk;

pub(crate) struct Descriptor {
    state: Mutex<State>,
}

struct State {
    timer: Option<Arc<OwnedFd>>,
    /// The loop reads it.
    watched: bool,
}

impl Descriptor {
    pub(crate) fn new() -> PyResult<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(std::io::Error::from)?;
        Ok(Self { state: Mutex::new(State { timer: Some(Arc::new(timer)), watched: false }) })
    }

    /// Has the loop read it.
    ///
    /// # Errors
    /// The loop does not.
    pub(crate) fn watch(&self, py: Python<'_>, desk: &Desk) -> PyResult<()> {
        let Some(timer) = self.timer() else { return Ok(()) };
        let watch = (timer.as_raw_fd(), desk.turn_by_alarm());
        desk.event_loop(py).call_method1(intern!(py, "add_reader"), watch)?;
        self.lock().watched = true;
        Ok(())
    }

    pub(crate) fn set(&self, py: Python<'_>, desk: &Desk, due: Option<Instant>) -> PyResult<()> {
        let Some(timer) = self.timer() else { return Ok(()) };
        // From now on, since the clock of the loop need not be the kernel's.
        let wait = due.map(|due| due.saturating_duration_since(desk.now(py)).max(Duration::from_nanos(1)));
        arm(&timer, wait)
    }

    /// It has rung, and the loop has noticed.
    pub(crate) fn silence(&self) {
        if let Some(timer) = self.timer() {
            // One that did not ring has nothing to be read, which is as well.
            let _ = rustix::io::read(&*timer, &mut [0; 8]);
        }
    }

    pub(crate) fn disarm(&self) {
        if let Some(timer) = self.timer() {
            // An alarm that rings for nothing costs a look at the clock.
            let _ = arm(&timer, None);
        }
    }

    pub(crate) fn close(&self, py: Python<'_>, desk: &Desk) {
        let (timer, watched) = {
            let mut state = self.lock();
            (state.timer.take(), std::mem::take(&mut state.watched))
        };
        if let Some(timer) = timer.filter(|_| watched) {
            // A loop that is closed has let go of it already.
            let _ = desk.event_loop(py).call_method1(intern!(py, "remove_reader"), (timer.as_raw_fd(),));
        }
    }

    fn timer(&self) -> Option<Arc<OwnedFd>> {
        self.lock().timer.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rings once after this wait; `None`: not at all.
fn arm(timer: &OwnedFd, wait: Option<Duration>) -> PyResult<()> {
    let wait = wait.unwrap_or_default();
    let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
    let it_value = Timespec { tv_sec: seconds, tv_nsec: i64::from(wait.subsec_nanos()) };
    let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &spec).map_err(std::io::Error::from)?;
    Ok(())
}
