//! What ties the inner side of a timer to the Python object that users hold.
//!
//! # Invariants
//!
//! 1. A running timer holds its Python object, so that it lives on whether or not anyone else does. With its
//!    end it lets go: from then on no reference leads from the library back to Python, and what a cycle
//!    through the target holds can be collected.
//! 2. The lock is held for a few instructions; no Python code can run under it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use everbeat::{Tick, WeakTimer};
use pyo3::prelude::*;

use crate::timer::Timer;
use crate::value::Value;

pub(crate) struct Link {
    pub(crate) name: Arc<str>,
    /// Set once the timer is built.
    pub(crate) timer: OnceLock<WeakTimer<Value>>,
    alive: Mutex<Option<Alive>>,
    /// What the latest run since the start was told.
    tick: Mutex<Option<Tick>>,
}

/// What is held while the timer runs.
pub(crate) struct Alive {
    pub(crate) owner: Py<Timer>,
    /// The context of who started it, in which its own code runs.
    pub(crate) context: Py<PyAny>,
}

impl Alive {
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { owner: self.owner.clone_ref(py), context: self.context.clone_ref(py) }
    }
}

impl Link {
    pub(crate) fn new(name: Arc<str>) -> Arc<Self> {
        Arc::new(Self { name, timer: OnceLock::new(), alive: Mutex::default(), tick: Mutex::default() })
    }

    /// From a start on.
    pub(crate) fn hold(&self, alive: Alive) {
        *self.tick() = None;
        let before = self.lock().replace(alive);
        drop(before);
    }

    /// From the end on.
    pub(crate) fn let_go(&self) {
        let before = self.lock().take();
        drop(before);
    }

    pub(crate) fn alive(&self, py: Python<'_>) -> Option<Alive> {
        self.lock().as_ref().map(|alive| alive.clone_ref(py))
    }

    /// A run begins.
    pub(crate) fn note_run(&self, tick: Tick) {
        *self.tick() = Some(tick);
    }

    pub(crate) fn latest_tick(&self) -> Option<Tick> {
        *self.tick()
    }

    /// Cancels the timer, without waiting for it.
    pub(crate) fn cancel(&self) {
        if let Some(timer) = self.timer.get().and_then(WeakTimer::upgrade) {
            drop(timer.cancel());
        }
    }

    /// Stops the timer after its current run, without waiting for it.
    pub(crate) fn request_stop(&self) {
        if let Some(timer) = self.timer.get().and_then(WeakTimer::upgrade) {
            timer.request_stop();
        }
    }

    fn tick(&self) -> MutexGuard<'_, Option<Tick>> {
        self.tick.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Alive>> {
        // By invariant 2 nothing can panic under the lock, so a poisoned one is as good as any.
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
