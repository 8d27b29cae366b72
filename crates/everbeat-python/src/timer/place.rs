//! A timer in the loop where it was started, and what ties it to the Python object that users hold.
//!
//! # Invariants
//!
//! 1. A running timer holds its Python object, so that it lives on whether or not anyone else does. With its
//!    end it lets go: from then on no reference leads from the library back to Python, and what a cycle
//!    through the target holds can be collected.
//! 2. The lock is held for a few instructions; no Python code can run under it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use everbeat::{Builder, CallTarget, Tick};
use pyo3::prelude::*;

use super::Timer;
use crate::desk::Desk;
use crate::errors;
use crate::target::PyCall;
use crate::value::Value;

pub(crate) struct Place {
    /// There is one wherever somebody sees a place.
    timer: Option<everbeat::Timer<Value>>,
    pub(crate) desk: Arc<Desk>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    alive: Option<Alive>,
    /// What the latest run since the start was told.
    tick: Option<Tick>,
}

/// What is held while the timer runs.
pub(crate) struct Alive {
    pub(crate) owner: Py<Timer>,
    /// The context of who started it, in which its own code runs.
    pub(crate) context: Py<PyAny>,
}

impl Alive {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { owner: self.owner.clone_ref(py), context: self.context.clone_ref(py) }
    }
}

impl Place {
    /// A place for the timer that this describes; it gets to know its place before it is there.
    ///
    /// # Errors
    /// `ScheduleError` for a bad value in the builder.
    pub(super) fn build(
        py: Python<'_>,
        desk: Arc<Desk>,
        describe: impl FnOnce(&Weak<Self>) -> Builder,
    ) -> PyResult<Arc<Self>> {
        let mut refused = None;
        let place = Arc::new_cyclic(|place| {
            let target = CallTarget::new(Box::new(PyCall::new(place.clone())));
            let built = describe(place).build(target);
            Self { timer: built.map_err(|error| refused = Some(error)).ok(), desk, state: Mutex::default() }
        });
        if let Some(error) = refused {
            return Err(errors::to_python(py, &error));
        }
        place.timer().clone().detach();
        Ok(place)
    }

    pub(crate) fn timer(&self) -> &everbeat::Timer<Value> {
        self.timer.as_ref().expect("a place whose timer could not be built is shown to nobody")
    }

    /// What it is called in logs.
    pub(crate) fn name(&self) -> &str {
        self.timer().name().as_given().unwrap_or_default()
    }

    /// From a start on.
    pub(super) fn hold(&self, alive: Alive) {
        let before = {
            let mut state = self.lock();
            state.tick = None;
            state.alive.replace(alive)
        };
        drop(before);
    }

    /// From the end on.
    pub(super) fn let_go(&self) {
        let before = self.lock().alive.take();
        drop(before);
    }

    pub(crate) fn alive(&self, py: Python<'_>) -> Option<Alive> {
        self.lock().alive.as_ref().map(|alive| alive.clone_ref(py))
    }

    /// A run begins.
    pub(crate) fn note_run(&self, tick: Tick) {
        self.lock().tick = Some(tick);
    }

    pub(super) fn latest_tick(&self) -> Option<Tick> {
        self.lock().tick
    }

    /// Cancels the timer, without waiting for it.
    pub(crate) fn cancel(&self) {
        drop(self.timer().cancel());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // By invariant 2 nothing can panic under the lock, so a poisoned one is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// Each timer that was started has one, with two counts and a word of the allocator on top.
const _: () = assert!(size_of::<Place>() <= 112);
