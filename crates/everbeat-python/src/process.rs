//! Which process this is: a child of `fork` leaves alone what its parent has made.
//!
//! To ask the system takes longer than much of what asks, so it is asked when the module is loaded and after each
//! fork of which Python tells. Forks behind its back, which Python does not survive either, are not noticed. Between
//! its hooks nobody can know on which side of a fork they are, and they ask.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The process, as of the last fork.
static KNOWN: AtomicU32 = AtomicU32::new(0);

/// Forks that have begun and not ended, while there are any. One to begin with: nobody has looked yet.
static FORKS: AtomicU32 = AtomicU32::new(1);

/// The number of this process.
pub(crate) fn id() -> u32 {
    match FORKS.load(Ordering::Acquire) {
        0 => KNOWN.load(Ordering::Relaxed),
        _ => process::id(),
    }
}

#[pyfunction]
fn before_fork() {
    FORKS.fetch_add(1, Ordering::AcqRel);
}

#[pyfunction]
fn after_fork_in_parent() {
    // One that had begun when the module was loaded was not counted.
    let _ = FORKS.fetch_update(Ordering::AcqRel, Ordering::Acquire, |forks| forks.checked_sub(1));
}

/// This process is another one than before. Forks that its parent has begun do not go on here.
#[pyfunction]
fn note_process() {
    KNOWN.store(process::id(), Ordering::Relaxed);
    FORKS.store(0, Ordering::Release);
}

/// Has Python tell of forks. Where there is no `fork` nothing ever changes.
pub(crate) fn watch_forks(py: Python<'_>) -> PyResult<()> {
    let os = py.import("os")?;
    if os.hasattr("register_at_fork")? {
        let hooks = PyDict::new(py);
        hooks.set_item("before", wrap_pyfunction!(before_fork, py)?)?;
        hooks.set_item("after_in_parent", wrap_pyfunction!(after_fork_in_parent, py)?)?;
        hooks.set_item("after_in_child", wrap_pyfunction!(note_process, py)?)?;
        os.call_method("register_at_fork", (), Some(&hooks))?;
    }
    note_process();
    Ok(())
}
