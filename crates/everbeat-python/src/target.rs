//! A Python object as the target of a timer in an event loop.
//!
//! What it is shows when it is called: a plain value is delivered at once; an awaitable becomes a run of
//! the timer's task; an iterator or async iterator is asked for an item by this and every later run, until
//! the timer ends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use everbeat::{Inside, Step, Target, Tick};
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::call::call_out;
use crate::desk::Desk;
use crate::errors::not_running;
use crate::link::{Alive, Link};
use crate::pause::is_cancelled_error;
use crate::runner::{Outcome, Runner};
use crate::value::{Raised, Value};

pub(crate) struct PyTarget {
    link: Arc<Link>,
    desk: Arc<Desk>,
    /// The run that has not begun yet.
    tick: Option<Tick>,
    /// What is held from the first run to the end.
    held: Option<Held>,
}

struct Held {
    alive: Alive,
    /// The method `run` of the timer's context.
    run: Py<PyAny>,
    target: Py<PyAny>,
    offload: bool,
    /// What gives the items, if the target is or has returned an iterator.
    source: Option<Source>,
    runner: Option<Py<Runner>>,
}

/// What is left of a timer that has ended. An iterator may have something to clean up, and futures belong to
/// their loop: it is let go of there, whichever thread has ended the timer.
struct Rest {
    held: Option<Held>,
    alive: Option<Alive>,
}

#[pyclass(frozen, module = "everbeat._everbeat", name = "_Rest")]
struct LaterRest(Mutex<Option<Rest>>);

struct Source {
    next: Py<PyAny>,
    is_async: bool,
}

/// What a call of the target has returned.
enum Returned<'py> {
    Value(Bound<'py, PyAny>),
    Awaitable(Bound<'py, PyAny>),
}

impl PyTarget {
    pub(crate) fn new(link: Arc<Link>, desk: Arc<Desk>) -> Self {
        Self { link, desk, tick: None, held: None }
    }

    fn poll(&mut self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<Step<Value>> {
        if self.tick.take().is_some() {
            match self.begin_run(py) {
                Ok(Some(value)) => return Poll::Ready(Step::Value(Value(value))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(self.failed(py, error)),
            }
        }
        let runner = self.held.as_ref().and_then(|held| held.runner.as_ref());
        let Some(runner) = runner else { return Poll::Ready(Step::Exhausted) };
        match runner.get().poll_outcome(cx.waker()) {
            None => Poll::Pending,
            Some(Outcome::Value(value)) => Poll::Ready(Step::Value(Value(value))),
            Some(Outcome::Raised(error)) => Poll::Ready(self.failed(py, error)),
            // Nobody had asked for that but the task's own canceller, who ends the timer.
            Some(Outcome::Aborted) => Poll::Ready(Step::Exhausted),
        }
    }

    /// Calls the target, or asks the source. `None`: the runner has the rest.
    fn begin_run(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.desk.count_run();
        self.desk.let_time_pass();
        if self.held.is_none() {
            self.held = Some(Held::new(py, &self.link)?);
        }
        let held = self.held.as_mut().expect("just made, if it was not there");
        let returned = held.call(py);
        self.desk.look_at_clock(py);
        let awaitable = match returned? {
            Returned::Value(value) => return Ok(Some(value.unbind())),
            Returned::Awaitable(awaitable) => awaitable,
        };
        match held.runner.as_ref().filter(|runner| !runner.get().is_over()) {
            Some(runner) => runner.get().assign(&awaitable)?,
            None => {
                let context = &held.alive.context;
                held.runner = Some(Runner::start(py, &self.desk, &self.link, context, &awaitable)?);
            }
        }
        Ok(None)
    }

    /// The end of an iterator is the end of the timer; everything else is a failure, which the owner is
    /// told of.
    fn failed(&mut self, py: Python<'_>, error: PyErr) -> Step<Value> {
        let has_source = self.held.as_ref().is_some_and(|held| held.source.is_some());
        let ended =
            error.is_instance_of::<PyStopIteration>(py) || error.is_instance_of::<PyStopAsyncIteration>(py);
        if has_source && ended {
            return Step::Exhausted;
        }
        let means_something_else = ended || is_cancelled_error(py, &error);
        let error = if means_something_else { as_failure(py, error) } else { error };
        self.desk.interrupt(py, &error); // the task of a run goes on, and does not raise it either
        if let Some(held) = &self.held {
            held.alive.owner.get().tell_failure(py, &held.alive, &error);
        }
        Step::Failed(Raised::boxed(py, error))
    }
}

/// What would end the loop of whoever is told, or cancel him, as a failure: as Python does with a coroutine that
/// raises `StopIteration`.
fn as_failure(py: Python<'_>, error: PyErr) -> PyErr {
    let kind = error.get_type(py).name().map_or_else(|_| "StopIteration".into(), |name| name.to_string());
    let told = PyRuntimeError::new_err(format!("the target raised {kind}"));
    told.set_cause(py, Some(error));
    told
}

impl Held {
    fn new(py: Python<'_>, link: &Link) -> PyResult<Self> {
        let alive = link.alive(py).ok_or_else(|| not_running(py, "the timer has ended"))?;
        let owner = alive.owner.get();
        let (target, offload) = (owner.target(py)?, owner.is_offloaded());
        let source = Source::of(&target)?;
        let run = alive.context.getattr(py, intern!(py, "run"))?;
        Ok(Self { run, target: target.unbind(), offload, source, alive, runner: None })
    }

    fn call<'py>(&mut self, py: Python<'py>) -> PyResult<Returned<'py>> {
        let run = self.run.bind(py);
        if let Some(source) = &self.source {
            return source.next(run);
        }
        if self.offload {
            let call = Offloaded { target: self.target.clone_ref(py), inside: Inside::current() };
            let in_thread = py.import(intern!(py, "everbeat._offload"))?.getattr(intern!(py, "in_thread"))?;
            return run.call1((in_thread, Py::new(py, call)?)).map(Returned::Awaitable);
        }
        let returned = call_out(run, &PyTuple::new(py, [&self.target])?, None)?;
        if is_plain(&returned) {
            return Ok(Returned::Value(returned));
        }
        if is_awaitable(&returned)? {
            return Ok(Returned::Awaitable(returned));
        }
        match Source::of(&returned)? {
            Some(source) => self.source.insert(source).next(run),
            None => Ok(Returned::Value(returned)),
        }
    }
}

/// A call of the target on another thread, where it counts as a part of the run as well.
#[pyclass(frozen, module = "everbeat._everbeat", name = "_Offloaded")]
struct Offloaded {
    target: Py<PyAny>,
    inside: Option<Inside>,
}

#[pymethods]
impl Offloaded {
    fn __call__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (target, nothing) = (self.target.bind(py), PyTuple::empty(py));
        let call = || call_out(target, &nothing, None).map(Bound::unbind);
        match &self.inside {
            Some(inside) => inside.scope(call),
            None => call(),
        }
    }
}

impl Rest {
    fn let_go(self, py: Python<'_>) {
        let Self { held, alive } = self;
        if let Some(alive) = alive {
            alive.owner.get().forget_conditions(py);
        }
        drop(held);
    }

    fn leave_to(self, py: Python<'_>, desk: &Desk) {
        let later = Py::new(py, LaterRest(Mutex::new(Some(self))));
        let left = later.and_then(|later| {
            desk.event_loop(py).call_method1(intern!(py, "call_soon_threadsafe"), (later,))
        });
        drop(left); // a loop that is closed does not do it, nor does anybody have to
    }
}

#[pymethods]
impl LaterRest {
    fn __call__(&self, py: Python<'_>) {
        let rest = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(rest) = rest {
            rest.let_go(py);
        }
    }
}

fn is_awaitable(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.get_type().hasattr(intern!(value.py(), "__await__"))
}

/// The types that most runs return, which need no closer look.
fn is_plain(value: &Bound<'_, PyAny>) -> bool {
    value.is_none()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyDict>()
        || value.is_exact_instance_of::<PyList>()
        || value.is_exact_instance_of::<PyTuple>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_exact_instance_of::<PyBytes>()
}

impl Source {
    /// The source that a target is, or has returned.
    fn of(candidate: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let py = candidate.py();
        for (method, is_async) in [(intern!(py, "__next__"), false), (intern!(py, "__anext__"), true)] {
            if candidate.get_type().hasattr(method)? {
                return Ok(Some(Self { next: candidate.getattr(method)?.unbind(), is_async }));
            }
        }
        Ok(None)
    }

    fn next<'py>(&self, run: &Bound<'py, PyAny>) -> PyResult<Returned<'py>> {
        let item = run.call1((&self.next,))?;
        // An iterator may give awaitables, like a call.
        let awaited = self.is_async || !is_plain(&item) && is_awaitable(&item)?;
        Ok(if awaited { Returned::Awaitable(item) } else { Returned::Value(item) })
    }
}

impl Target for PyTarget {
    type Value = Value;

    fn begin(mut self: Pin<&mut Self>, tick: Tick) {
        self.link.note_run(tick);
        self.tick = Some(tick);
    }

    fn poll_run(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Step<Value>> {
        let polled = Python::try_attach(|py| self.poll(py, cx));
        polled.unwrap_or(Poll::Ready(Step::Exhausted)) // the interpreter is gone
    }

    fn poll_abort(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.tick.take().is_some() {
            return Poll::Ready(());
        }
        let Some(runner) = self.held.as_ref().and_then(|held| held.runner.as_ref()) else {
            return Poll::Ready(());
        };
        let polled = Python::try_attach(|py| {
            runner.get().give_up(py);
            match runner.get().poll_outcome(cx.waker()) {
                Some(Outcome::Raised(error)) => {
                    self.desk.interrupt(py, &error);
                    error.write_unraisable(py, None);
                    Poll::Ready(())
                }
                Some(Outcome::Value(_) | Outcome::Aborted) => Poll::Ready(()),
                None if runner.get().is_idle() => Poll::Ready(()),
                None => Poll::Pending,
            }
        });
        polled.unwrap_or(Poll::Ready(()))
    }

    fn has_ended(self: Pin<&mut Self>) -> bool {
        let runner = self.held.as_ref().and_then(|held| held.runner.as_ref());
        self.tick.is_none() && runner.is_some_and(|runner| runner.get().has_outcome())
    }

    fn rest(mut self: Pin<&mut Self>) {
        self.tick = None;
        let held = self.held.take();
        Python::try_attach(|py| {
            if let Some(runner) = held.as_ref().and_then(|held| held.runner.as_ref()) {
                runner.get().end(py);
            }
            let alive = self.link.alive(py);
            if let Some(alive) = &alive {
                alive.owner.get().note_end(py, &self.link);
            }
            let rest = Rest { held, alive };
            if self.desk.is_elsewhere(py) {
                rest.leave_to(py, &self.desk);
            } else {
                rest.let_go(py);
            }
        });
    }
}
