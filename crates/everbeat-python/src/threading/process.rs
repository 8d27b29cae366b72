//! The life of the process: its forks, and its exit.
//!
//! A child of `fork` has a copy of every timer and every engine, but none of the threads. Some thread of
//! the parent may have held a lock at that moment, and nobody in the child will ever give it back. So the
//! child does not touch what came from the parent: it can neither ask it nor drop it, only leave it alone.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use crate::{errors, process};

/// Something of the library that belongs to the process which made it.
pub(crate) struct Native<T> {
    process: u32,
    inner: Option<T>,
}

impl<T> Native<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { process: process::id(), inner: Some(inner) }
    }

    /// `None` in a child of the process that made it.
    pub(crate) fn get(&self) -> Option<&T> {
        self.inner.as_ref().filter(|_| self.process == process::id())
    }

    /// For a call from Python.
    ///
    /// # Errors
    /// `TimerError` in a child of the process that made it.
    pub(crate) fn here(&self, py: Python<'_>, what: &str) -> PyResult<&T> {
        self.get().ok_or_else(|| {
            let (maker, this) = (self.process, process::id());
            errors::timer_error(
                py,
                format!("this {what} belongs to process {maker}, of which this one ({this}) is a fork: make a new one here"),
            )
        })
    }
}

impl<T> Drop for Native<T> {
    fn drop(&mut self) {
        if self.process != process::id() {
            // Its locks may be held by threads that do not exist here.
            #[allow(clippy::mem_forget)]
            std::mem::forget(self.inner.take());
        }
    }
}

static EXITING: AtomicBool = AtomicBool::new(false);

/// From here on no run begins. Called with the interpreter attached, as every run asks.
pub(crate) fn begin_exit() {
    EXITING.store(true, Ordering::SeqCst);
}

pub(crate) fn is_exiting() -> bool {
    EXITING.load(Ordering::SeqCst)
}

/// Does something in Python on a thread of an engine. `None` if the interpreter is about to go away.
pub(crate) fn in_python<R>(f: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    let process = process::id();
    let result = Python::try_attach(f);
    if process::id() != process {
        // A fork in a callback has returned in the child. The thread is the only one there, and what it
        // would go back to belongs to the parent: it ends, and the process with it.
        std::process::exit(0);
    }
    result
}

/// The threads of engines that have called Python, as Python numbers them.
static THREADS: Mutex<Vec<u64>> = Mutex::new(Vec::new());

thread_local! {
    static PRESENCE: RefCell<Option<Presence>> = const { RefCell::new(None) };
}

/// A thread that makes runs, for as long as it exists.
pub(super) struct Presence(u64);

impl Presence {
    pub(super) fn note(py: Python<'_>) {
        let is_noted = PRESENCE.try_with(|noted| noted.borrow().is_some()).unwrap_or(true);
        if is_noted {
            return;
        }
        let number = py.import("_thread").and_then(|module| module.call_method0("get_ident")?.extract());
        if let Ok(number) = number {
            threads().push(number);
            PRESENCE.with(|noted| noted.replace(Some(Self(number))));
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        threads().retain(|number| *number != self.0);
    }
}

fn threads() -> MutexGuard<'static, Vec<u64>> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads of engines, as Python numbers them.
#[pyfunction(name = "_engine_threads")]
pub(crate) fn engine_threads() -> Vec<u64> {
    threads().clone()
}
