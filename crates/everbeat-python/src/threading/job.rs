//! What a timer calls.
//!
//! The engine's side of a timer and its Python object share a [`Job`]. A timer that runs is held by its
//! engine, and so is its job. Of one that has ended the Python object is the only owner: it shows the
//! collector what the job refers to, and empties it when it is told to, so no cycle through it is hidden.
//!
//! The lock of a job is taken only while attached to the interpreter, to copy references.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everbeat::BoxError;
use pyo3::exceptions::{PyStopIteration, PySystemExit, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyIterator, PyString, PyTuple};

use super::clock::Clock;
use super::engine::Engine;
use super::process::{Presence, in_python, is_exiting};
use super::reports;
use crate::call::call_out;
use crate::errors;
use crate::value::{Attached, Raised};

/// What runs deliver: `None` for Python's `None`, which needs no interpreter to be dropped.
pub(super) type Delivery = Option<Attached<Py<PyAny>>>;

/// A job, as the engine and the Python object share it.
pub(super) type SharedJob = Arc<Attached<Job>>;

/// What became of a run.
pub(super) enum Ran {
    Delivered(Delivery),
    Failed(BoxError),
    /// There are no more values, or no run may begin any more.
    Exhausted,
}

pub(super) struct Job {
    pub(super) name: Py<PyString>,
    /// Whether a failure is reported where it happens.
    pub(super) reports: bool,
    /// Held so that it is on the roll for as long as it has timers.
    engine: Py<Engine>,
    call: Mutex<Option<Call>>,
}

struct Call {
    target: Py<PyAny>,
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
    /// What is iterated at present.
    items: Option<Py<PyIterator>>,
}

/// What a call takes, copied out.
struct Parts {
    target: Py<PyAny>,
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
}

impl Call {
    fn parts(&self, py: Python<'_>) -> Parts {
        let kwargs = self.kwargs.as_ref().map(|kwargs| kwargs.clone_ref(py));
        Parts { target: self.target.clone_ref(py), args: self.args.clone_ref(py), kwargs }
    }
}

impl Parts {
    fn call(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let kwargs = self.kwargs.as_ref().map(|kwargs| kwargs.bind(py));
        let result = call_out(self.target.bind(py), self.args.bind(py), kwargs)?;
        refuse_async(&result)?;
        Ok(result)
    }
}

impl Job {
    pub(super) fn new(
        engine: Py<Engine>,
        target: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        check_callable(target)?;
        let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty()).map(|kwargs| kwargs.clone().unbind());
        Self::of(engine, target, args.clone().unbind(), kwargs, None)
    }

    /// As [`Job::new`], for a target that may be an iterator as well.
    pub(super) fn of_target(engine: Py<Engine>, target: &Bound<'_, PyAny>) -> PyResult<Self> {
        let items = target.cast::<PyIterator>().ok().map(|items| items.clone().unbind());
        if items.is_none() {
            check_callable(target)?;
        }
        Self::of(engine, target, PyTuple::empty(target.py()).unbind(), None, items)
    }

    fn of(
        engine: Py<Engine>,
        target: &Bound<'_, PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
        items: Option<Py<PyIterator>>,
    ) -> PyResult<Self> {
        let name = name_of(target)?;
        let call = Call { target: target.clone().unbind(), args, kwargs, items };
        Ok(Self { name, reports: true, engine, call: Mutex::new(Some(call)) })
    }

    /// What the times of its timer are told by.
    pub(super) fn clock(&self) -> &Clock {
        self.engine.get().clock()
    }

    /// Calls the target, on a thread of the engine.
    pub(super) fn call(&self) -> Ran {
        self.run(|py| self.parts(py).map(|parts| parts.call(py)).transpose())
    }

    /// As [`Job::call`], and lets go of everything.
    pub(super) fn call_once(&self) -> Ran {
        self.run(|py| {
            let call = self.lock().take();
            call.map(|call| call.parts(py).call(py)).transpose()
        })
    }

    /// Takes the next item of what the target is or returns, or else its value.
    pub(super) fn call_or_iterate(&self) -> Ran {
        self.run(|py| {
            if let Some(items) = self.items(py) {
                return next_of(items.bind(py));
            }
            let Some(parts) = self.parts(py) else { return Ok(None) };
            let result = match parts.call(py) {
                // It may be the `__next__` of an iterator.
                Err(error) if error.is_instance_of::<PyStopIteration>(py) => return Ok(None),
                result => result?,
            };
            let Ok(items) = result.cast::<PyIterator>() else { return Ok(Some(result)) };
            self.set_items(Some(items.clone().unbind()));
            next_of(items)
        })
    }

    /// The timer has ended: the next start iterates anew. A target that is an iterator itself goes on.
    pub(super) fn rest(&self) {
        in_python(|_| {
            let made_by_target =
                |call: &Call| call.items.as_ref().is_some_and(|items| !items.is(&call.target));
            if self.lock().as_ref().is_some_and(made_by_target) {
                drop(self.set_items(None));
            }
        });
    }

    fn run(&self, call: impl for<'py> FnOnce(Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>>) -> Ran {
        let ran = in_python(|py| {
            if is_exiting() {
                return Ran::Exhausted;
            }
            Presence::note(py);
            match call(py) {
                Ok(None) => Ran::Exhausted,
                Ok(Some(value)) if value.is_none() => Ran::Delivered(None),
                Ok(Some(value)) => Ran::Delivered(Some(Attached::new(value.unbind()))),
                // The exit asks a run that takes too long to end.
                Err(error) if is_exiting() && error.is_instance_of::<PySystemExit>(py) => Ran::Exhausted,
                Err(error) => {
                    if self.reports {
                        reports::tell_failure(py, &self.name, None, self.target(py), &error);
                    }
                    Ran::Failed(Raised::boxed(py, error))
                }
            }
        });
        ran.unwrap_or(Ran::Exhausted)
    }

    fn parts(&self, py: Python<'_>) -> Option<Parts> {
        self.lock().as_ref().map(|call| call.parts(py))
    }

    /// The target, for callbacks.
    pub(super) fn target(&self, py: Python<'_>) -> Py<PyAny> {
        self.lock().as_ref().map_or_else(|| py.None(), |call| call.target.clone_ref(py))
    }

    fn items(&self, py: Python<'_>) -> Option<Py<PyIterator>> {
        self.lock().as_ref()?.items.as_ref().map(|items| items.clone_ref(py))
    }

    /// Hands out what was iterated before.
    fn set_items(&self, items: Option<Py<PyIterator>>) -> Option<Py<PyIterator>> {
        let mut call = self.lock();
        std::mem::replace(&mut call.as_mut()?.items, items)
    }

    /// Shows the collector what it refers to.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(call) = self.call.try_lock() else { return Ok(()) };
        let Some(call) = &*call else { return Ok(()) };
        visit.call(&call.target)?;
        visit.call(&call.args)?;
        visit.call(&call.kwargs)?;
        visit.call(&call.items)
    }

    /// Lets go of everything.
    pub(super) fn clear(&self) {
        let call = self.lock().take();
        drop(call);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Call>> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn next_of<'py>(items: &Bound<'py, PyIterator>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = items.py();
    static NEXT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let next = NEXT.import(py, "builtins", "next")?;
    match call_out(next, &PyTuple::new(py, [items])?, None) {
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => Ok(None),
        item => item.map(Some),
    }
}

fn check_callable(target: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = target.py();
    let inspect = py.import("inspect")?;
    if !target.is_callable() {
        let kind = target.get_type().name()?.to_string();
        return Err(PyTypeError::new_err(format!(
            "the target must be a callable, an iterator or a generator, not {kind}"
        )));
    }
    for question in ["iscoroutinefunction", "isasyncgenfunction"] {
        if inspect.getattr(question)?.call1((target,))?.is_truthy()? {
            return Err(async_target());
        }
    }
    Ok(())
}

/// A coroutine would never be awaited here.
fn refuse_async(result: &Bound<'_, PyAny>) -> PyResult<()> {
    if result.is_none() || !(result.hasattr("__await__")? || result.hasattr("__anext__")?) {
        return Ok(());
    }
    if let Ok(close) = result.getattr("close") {
        close.call0()?;
    }
    Err(async_target())
}

fn async_target() -> PyErr {
    PyTypeError::new_err("a timer on threads cannot await its target: use everbeat.Timer in an event loop")
}

/// What a function is called, else its type.
fn name_of(target: &Bound<'_, PyAny>) -> PyResult<Py<PyString>> {
    let named = target.getattr("__qualname__").or_else(|_| target.getattr("func")?.getattr("__qualname__"));
    let named = named.and_then(|name| Ok(name.cast_into::<PyString>()?));
    named.or_else(|_| target.get_type().name()).map(Bound::unbind)
}

/// For a timer that cannot be started because the interpreter is about to go.
pub(super) fn check_not_exiting(py: Python<'_>) -> PyResult<()> {
    if is_exiting() {
        Err(errors::timer_error(py, "the interpreter is exiting: no timer is started any more"))
    } else {
        Ok(())
    }
}
