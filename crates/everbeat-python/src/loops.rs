//! Which event loop has which desks.
//!
//! # Invariant
//!
//! The lock is held for a few instructions and never while Python code can run.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::alarm::Alarm;
use crate::clocks;
use crate::desk::{Desk, ends_program, running_loop};

/// The desks of one loop.
struct Desks {
    usual: Arc<Desk>,
    /// The one with the precise alarm.
    fine: Option<Arc<Desk>>,
    /// Those of clocks for tests, by the address of the clock. Whoever uses them keeps them and the clock.
    others: Vec<(usize, Weak<Desk>)>,
    /// An async generator that the loop closes when it is shut down.
    _watch: Option<Py<PyAny>>,
}

impl Desks {
    fn of_clock(&self, clock: &Py<PyAny>) -> Option<Arc<Desk>> {
        let address = clock.as_ptr() as usize;
        let found = self.others.iter().filter(|(known, _)| *known == address);
        found.filter_map(|(_, desk)| desk.upgrade()).find(|desk| !desk.is_closed())
    }
}

/// By the address of the loop, which a desk keeps alive.
static LOOPS: LazyLock<Mutex<HashMap<usize, Desks>>> = LazyLock::new(Mutex::default);

fn lock() -> MutexGuard<'static, HashMap<usize, Desks>> {
    // By the invariant nothing can panic under the lock, so a poisoned one is as good as any.
    LOOPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The usual desk of the loop that this thread is running.
pub(crate) fn here(py: Python<'_>) -> PyResult<Arc<Desk>> {
    let event_loop = running_loop(py).ok_or_else(|| PyRuntimeError::new_err("no running event loop"))?;
    let address = event_loop.as_ptr() as usize;
    let known = lock().get(&address).map(|desks| desks.usual.clone());
    if let Some(desk) = known.filter(|desk| !desk.is_closed()) {
        return Ok(desk);
    }
    sweep(py)?;
    let desk = Desk::new(&event_loop, Alarm::call_at())?;
    let desks = Desks { usual: desk.clone(), fine: None, others: Vec::new(), _watch: None };
    let replaced = lock().insert(address, desks);
    drop(replaced);
    let watch = watch(py, &desk)?;
    if let Some(desks) = lock().get_mut(&address) {
        desks._watch = Some(watch);
    }
    Ok(desk)
}

/// The desk of the running loop whose waits are as precise as the system allows: the usual one if there is no file
/// descriptor left, or the loop reads none, or has a clock of its own, by which the system does not wait.
pub(crate) fn fine(py: Python<'_>) -> PyResult<Arc<Desk>> {
    let usual = here(py)?;
    if !tells_the_time_of_the_machine(usual.event_loop(py))? {
        return Ok(usual);
    }
    let address = usual.event_loop(py).as_ptr() as usize;
    let known = lock().get(&address).and_then(|desks| desks.fine.clone());
    if let Some(desk) = known {
        return Ok(desk);
    }
    let precise = Alarm::fine().and_then(|alarm| Desk::new(usual.event_loop(py), alarm));
    let desk = match precise {
        Err(error) if ends_program(py, &error) => return Err(error),
        Err(error) => {
            tracing::warn!(%error, "no precise alarm is to be had: the waits of the loop serve");
            return Ok(usual);
        }
        Ok(desk) => desk,
    };
    if let Some(desks) = lock().get_mut(&address) {
        desks.fine = Some(desk.clone());
    }
    Ok(desk)
}

/// Whether `loop.time()` is that of asyncio or uvloop. A loop with another one may be in virtual time.
fn tells_the_time_of_the_machine(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = event_loop.py();
    let name = intern!(py, "time");
    if event_loop.getattr(intern!(py, "__dict__")).is_ok_and(|own| own.contains(name).unwrap_or(false)) {
        return Ok(false);
    }
    let time = event_loop.get_type().getattr(name)?;
    let stock = py.import(intern!(py, "asyncio"))?.getattr(intern!(py, "BaseEventLoop"))?;
    if time.is(&stock.getattr(name)?) {
        return Ok(true);
    }
    let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
    let uvloop =
        modules.get_item(intern!(py, "uvloop")).and_then(|uvloop| uvloop.getattr(intern!(py, "Loop")));
    Ok(uvloop.and_then(|kind| kind.getattr(name)).is_ok_and(|known| time.is(&known)))
}

/// The desk for a timer that is started in the running loop: that of its own clock for tests, or of the
/// one that is installed for all, or else the usual one.
pub(crate) fn for_timers(py: Python<'_>, clock: Option<Py<PyAny>>) -> PyResult<Arc<Desk>> {
    match clock.or_else(|| clocks::installed(py)) {
        Some(clock) => under_clock(py, &clock),
        None => here(py),
    }
}

/// The desk of a clock for tests in the running loop. It lasts as long as any timer there, and no longer than
/// the loop.
fn under_clock(py: Python<'_>, clock: &Py<PyAny>) -> PyResult<Arc<Desk>> {
    let usual = here(py)?;
    let event_loop = usual.event_loop(py);
    let address = event_loop.as_ptr() as usize;
    let known = lock().get(&address).and_then(|desks| desks.of_clock(clock));
    if let Some(desk) = known {
        return Ok(desk);
    }
    let desk = Desk::new(event_loop, clocks::alarm(py, clock))?;
    if let Some(desks) = lock().get_mut(&address) {
        desks.others.retain(|(_, other)| other.strong_count() > 0);
        desks.others.push((clock.as_ptr() as usize, Arc::downgrade(&desk)));
    }
    Ok(desk)
}

/// Has the loop end the timers when it is shut down.
fn watch(py: Python<'_>, desk: &Arc<Desk>) -> PyResult<Py<PyAny>> {
    let watch = py.import(intern!(py, "everbeat._loop"))?.getattr(intern!(py, "until_shutdown"))?;
    let end = Py::new(py, EndOfLoop { desk: Arc::downgrade(desk) })?;
    let watch = watch.call1((end,))?;
    // Runs the generator to its `yield`, which is where the loop gets to know it.
    let begun = watch.call_method0(intern!(py, "__anext__"))?.call_method1(intern!(py, "send"), (py.None(),));
    match begun {
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyStopIteration>(py) => Ok(watch.unbind()),
        Err(error) => Err(error),
        Ok(_) => Err(PyRuntimeError::new_err("the watch over the loop did not begin")),
    }
}

/// Ends the desks of loops that were closed without having been shut down.
///
/// # Errors
/// What ends the program, where a signal came meanwhile.
pub(crate) fn sweep(py: Python<'_>) -> PyResult<()> {
    let known: Vec<_> = lock().iter().map(|(address, desks)| (*address, desks.usual.clone())).collect();
    for (address, desk) in known {
        match desk.event_loop(py).call_method0(intern!(py, "is_closed")) {
            Ok(closed) if closed.is_truthy().unwrap_or(false) => end(address),
            Err(error) if ends_program(py, &error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn end(address: usize) {
    let Some(desks) = lock().remove(&address) else { return };
    let others = desks.others.iter().filter_map(|(_, other)| other.upgrade());
    others.chain(desks.fine).chain([desks.usual]).for_each(|desk| desk.close());
}

/// Called when a loop is shut down.
#[pyclass(frozen, module = "everbeat._everbeat", name = "_EndOfLoop")]
struct EndOfLoop {
    desk: Weak<Desk>,
}

#[pymethods]
impl EndOfLoop {
    fn __call__(&self, py: Python<'_>) {
        let Some(desk) = self.desk.upgrade() else { return };
        let address = desk.event_loop(py).as_ptr() as usize;
        let is_known = lock().get(&address).is_some_and(|desks| Arc::ptr_eq(&desks.usual, &desk));
        if is_known {
            end(address);
        }
    }
}
