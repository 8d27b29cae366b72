//! What a timer calls.
//!
//! The engine's side of a timer and its Python object share a [`Job`]. A timer that runs is held by its
//! engine, so is its job, and the job holds the object, from the start to the end. Of one that has ended the Python
//! object is the only owner: it shows the collector what the job refers to, and empties it when it is told to, so no
//! cycle through it is hidden.
//!
//! The lock of a job is taken only while attached to the interpreter, to copy references.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everbeat::{BoxError, Tick};
use pyo3::exceptions::{PyStopIteration, PySystemExit, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyIterator, PyString, PyTuple};

use super::clock::Clock;
use super::current::inside;
use super::engine::Engine;
use super::process::{Presence, in_python, is_exiting};
use super::reports;
use crate::call::call_out;
use crate::config::wrong_type;
use crate::value::{Attached, Raised};
use crate::{errors, tick};

/// What runs deliver: `None` for Python's `None`, which needs no interpreter to be dropped.
pub(super) type Delivery = Option<Attached<Py<PyAny>>>;

/// A job, as the engine and the Python object share it.
#[derive(Clone)]
pub(super) struct SharedJob(Arc<Attached<Job>>);

impl Deref for SharedJob {
    type Target = Job;

    fn deref(&self) -> &Job {
        &self.0
    }
}

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
    /// Whether there is a callback for the end, until which the object is held.
    pub(super) calls_back: bool,
    /// Held so that it is on the roll for as long as it has timers.
    engine: Py<Engine>,
    /// Whether it is in the middle of an iteration: beside the lock, for whoever is not attached to the interpreter.
    iterates: AtomicBool,
    state: Mutex<State>,
}

struct State {
    call: Option<Call>,
    /// The Python object, from a start to the end of what was started.
    owner: Option<Py<PyAny>>,
    /// A start may be tried while an end is still being announced: each has a hold of its own.
    holds: u32,
    /// What the latest run since the start was told.
    tick: Option<Tick>,
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

/// What a run of a target that may be iterated does.
enum Next {
    Item(Py<PyIterator>),
    Call(Parts),
}

impl Call {
    fn next(&self, py: Python<'_>) -> Next {
        match &self.items {
            Some(items) => Next::Item(items.clone_ref(py)),
            None => Next::Call(self.parts(py)),
        }
    }

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
    /// `field`: what the target is called where it is given.
    pub(super) fn new(
        engine: Py<Engine>,
        (field, target): (&str, &Bound<'_, PyAny>),
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        check_callable(field, "callable", target)?;
        let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty()).map(|kwargs| kwargs.clone().unbind());
        Self::of(engine, target, args.clone().unbind(), kwargs, None)
    }

    /// As [`Job::new`], for a target that may be an iterator as well.
    pub(super) fn of_target(engine: Py<Engine>, target: &Bound<'_, PyAny>) -> PyResult<Self> {
        let items = target.cast::<PyIterator>().ok().map(|items| items.clone().unbind());
        if items.is_none() {
            check_callable("target", "a callable, an iterator or a generator", target)?;
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
        let iterates = AtomicBool::new(items.is_some());
        let call = Call { target: target.clone().unbind(), args, kwargs, items };
        let state = State { call: Some(call), owner: None, holds: 0, tick: None };
        Ok(Self { name, reports: true, calls_back: false, engine, iterates, state: Mutex::new(state) })
    }

    pub(super) fn share(self) -> SharedJob {
        SharedJob(Arc::new(Attached::new(self)))
    }

    /// What the times of its timer are told by.
    pub(super) fn clock(&self) -> &Clock {
        self.engine.get().clock()
    }

    /// Holds the Python object for a start that is about to be made.
    pub(super) fn hold(&self, owner: &Bound<'_, PyAny>) {
        let mut state = self.lock();
        state.holds += 1;
        if state.owner.is_none() {
            state.owner = Some(owner.clone().unbind());
        }
    }

    /// What was started has ended, or could not be started.
    pub(super) fn release(&self) {
        let owner = {
            let mut state = self.lock();
            state.holds = state.holds.saturating_sub(1);
            if state.holds > 0 {
                return;
            }
            state.tick = None;
            state.owner.take()
        };
        drop(owner);
    }

    /// The Python object of a timer that runs.
    pub(super) fn owner(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.lock().owner.as_ref().map(|owner| owner.clone_ref(py))
    }

    /// What the latest run since the start was told.
    pub(super) fn latest_tick(&self, py: Python<'_>) -> PyResult<Option<tick::Tick>> {
        let latest = self.lock().tick;
        let engine = self.engine.get();
        latest.map(|tick| engine.clock().tick(py, engine.native(py)?, &tick)).transpose()
    }

    /// A run begins.
    fn begin(&self, tick: Tick) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.tick = Some(tick);
        state
    }

    /// Whether it is in the middle of an iteration.
    pub(super) fn iterates(&self) -> bool {
        self.iterates.load(Ordering::Relaxed)
    }

    /// The target, for callbacks.
    pub(super) fn target(&self, py: Python<'_>) -> Py<PyAny> {
        self.lock().call.as_ref().map_or_else(|| py.None(), |call| call.target.clone_ref(py))
    }

    /// Hands out what was iterated before.
    fn set_items(&self, items: Option<Py<PyIterator>>) -> Option<Py<PyIterator>> {
        let mut state = self.lock();
        let call = state.call.as_mut()?;
        self.iterates.store(items.is_some(), Ordering::Relaxed);
        std::mem::replace(&mut call.items, items)
    }

    /// Shows the collector what it refers to.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        visit.call(&state.owner)?;
        let Some(call) = &state.call else { return Ok(()) };
        visit.call(&call.target)?;
        visit.call(&call.args)?;
        visit.call(&call.kwargs)?;
        visit.call(&call.items)
    }

    /// Lets go of everything.
    pub(super) fn clear(&self) {
        let rest = {
            let mut state = self.lock();
            (state.call.take(), state.owner.take())
        };
        drop(rest);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs, on a thread of the engine.
impl SharedJob {
    /// The timer has ended: the next start iterates anew. A target that is an iterator itself goes on.
    pub(super) fn rest(&self) {
        in_python(|_| {
            let made_by_target =
                |call: &Call| call.items.as_ref().is_some_and(|items| !items.is(&call.target));
            if self.lock().call.as_ref().is_some_and(made_by_target) {
                // A generator that is closed runs code of the user's.
                inside(self, || drop(self.set_items(None)));
            }
            if !self.calls_back {
                self.release();
            }
        });
    }

    /// Calls the target.
    pub(super) fn call(&self, tick: Tick) -> Ran {
        self.run(|py| {
            let parts = self.begin(tick).call.as_ref().map(|call| call.parts(py));
            parts.map(|parts| parts.call(py)).transpose()
        })
    }

    /// As [`SharedJob::call`], and lets go of everything.
    pub(super) fn call_once(&self, tick: Tick) -> Ran {
        self.run(|py| {
            let call = self.begin(tick).call.take();
            call.map(|call| call.parts(py).call(py)).transpose()
        })
    }

    /// Takes the next item of what the target is or returns, or else its value.
    pub(super) fn call_or_iterate(&self, tick: Tick) -> Ran {
        self.run(|py| {
            let next = self.begin(tick).call.as_ref().map(|call| call.next(py));
            let parts = match next {
                None => return Ok(None),
                Some(Next::Item(items)) => return next_of(items.bind(py)),
                Some(Next::Call(parts)) => parts,
            };
            let result = match parts.call(py) {
                // It may be the `__next__` of an iterator.
                Err(error) if error.is_instance_of::<PyStopIteration>(py) => return Ok(None),
                result => result?,
            };
            let Ok(items) = result.cast::<PyIterator>() else { return Ok(Some(result)) };
            drop(self.set_items(Some(items.clone().unbind())));
            next_of(items)
        })
    }

    fn run(&self, call: impl for<'py> FnOnce(Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>>) -> Ran {
        let ran = in_python(|py| {
            if is_exiting() {
                return Ran::Exhausted;
            }
            Presence::note(py);
            inside(self, || match call(py) {
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
            })
        });
        ran.unwrap_or(Ran::Exhausted)
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

fn check_callable(field: &str, allowed: &str, target: &Bound<'_, PyAny>) -> PyResult<()> {
    let inspect = target.py().import("inspect")?;
    if !target.is_callable() {
        return Err(wrong_type(field, allowed, target));
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
