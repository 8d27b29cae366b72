//! What a timer calls in Python besides its target.

use std::sync::Weak;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::place::{Alive, Place};
use super::{Core, Timer};
use crate::desk::ends_program;
use crate::{context, errors};

impl Timer {
    /// A run has failed: calls back, or logs it if there is no callback.
    pub(crate) fn tell_failure(&self, py: Python<'_>, alive: &Alive, error: &PyErr) {
        let Some(core) = self.known_core() else { return };
        let callback = core.exc_cb().map(|callback| callback.clone_ref(py));
        let error = error.clone_ref(py).into_value(py); // with its traceback
        let arguments = (callback, &alive.owner, &core.target, core.label(py), error);
        core.call_back(py, alive, "tell_failure", arguments);
    }

    fn tell_end(&self, py: Python<'_>, alive: &Alive) {
        let Some(core) = self.known_core() else { return };
        let Some(callback) = core.cancel_cb() else { return };
        core.call_back(py, alive, "tell_end", (callback, &alive.owner, &core.target, core.label(py)));
    }

    /// The timer has ended, and there is nobody else to be told than those who wait.
    pub(crate) fn note_end(&self, place: &Place) {
        if self.known_core().is_none_or(|core| core.cancel_cb().is_none()) {
            place.let_go();
        }
    }

    /// A step of its task has held the loop for too long.
    pub(crate) fn count_blocked(&self) {
        if let Some(core) = self.known_core() {
            core.count_blocked();
        }
    }

    pub(crate) fn forget_conditions(&self, py: Python<'_>) {
        if let Some(conditions) = self.known_core().as_ref().and_then(|core| core.conditions()) {
            conditions.forget(py);
        }
    }
}

impl Core {
    /// Calls a function of `everbeat._callbacks`, in the context of the timer.
    fn call_back<'py>(
        &self,
        py: Python<'py>,
        alive: &Alive,
        function: &str,
        arguments: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>,
    ) {
        let place = self.place();
        if let Some(place) = &place {
            place.desk.let_time_pass();
        }
        let called = py.import(intern!(py, "everbeat._callbacks")).and_then(|callbacks| {
            let function = callbacks.getattr(function)?;
            let arguments = arguments.into_pyobject(py)?;
            let context = alive.context.bind(py).clone();
            let all = [context, function].into_iter().chain(arguments.iter());
            context::run(py, PyTuple::new(py, all.collect::<Vec<_>>())?)
        });
        if let Err(error) = called {
            // A callback has raised what none should: that which ends the program does so.
            match place.as_ref().filter(|place| ends_program(py, &error) && !place.desk.is_closed()) {
                Some(place) => place.desk.interrupt(py, &error),
                None => error.write_unraisable(py, None),
            }
        }
        if let Some(place) = &place {
            place.desk.look_at_clock(py);
        }
    }
}

/// The callback for the end of a timer that has one of the user's.
pub(super) fn end_of(place: &Weak<Place>) {
    let Some(place) = place.upgrade() else { return };
    Python::try_attach(|py| {
        let Some(alive) = place.alive(py) else { return };
        alive.owner.get().tell_end(py, &alive);
        place.let_go();
    });
}

/// A run has exceeded its time limit, which its target cannot know.
pub(super) fn timed_out(place: &Weak<Place>, failure: &everbeat::Failure) {
    if !matches!(failure, everbeat::Failure::TimedOut(_)) {
        return; // the target has told of it already
    }
    let Some(place) = place.upgrade() else { return };
    Python::try_attach(|py| {
        let Some(alive) = place.alive(py) else { return };
        let error = errors::failure_to_python(py, failure);
        alive.owner.get().tell_failure(py, &alive, &error);
    });
}
