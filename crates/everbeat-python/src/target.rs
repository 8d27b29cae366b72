//! A Python object as the target of a timer in an event loop.
//!
//! What it is shows when it is called: a plain value is delivered at once; an awaitable becomes a run of
//! the timer's task; an iterator or async iterator is asked for an item by this and every later run, until
//! the timer ends.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use everbeat::{Callee, Inside, Step, Tick};
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyIterator, PyList, PyString, PyTuple, PyType};

use crate::call::call_out;
use crate::context;
use crate::desk::Desk;
use crate::errors::not_running;
use crate::pause::is_cancelled_error;
use crate::runner::{Outcome, Runner};
use crate::timer::{Alive, Core, Place};
use crate::value::{Raised, Value};

/// The target of a timer. While its runs are over when it returns, this is all there is of it.
pub(crate) struct PyCall {
    place: Weak<Place>,
    /// What is held to the end of the timer, from the first run that needs it.
    held: Option<Box<Held>>,
}

#[derive(Default)]
struct Held {
    /// What gives the items, if the target is or has returned an iterator.
    source: Option<Source>,
    runner: Option<Py<Runner>>,
    /// What the run in flight does on another thread.
    offloaded: Option<Part>,
}

/// A part of a run.
#[derive(Clone, Copy)]
enum Part {
    /// The call of the target.
    Call,
    /// That of the `__next__` of a source.
    Item,
}

/// What is left of a timer that has ended. An iterator may have something to clean up, and futures belong to
/// their loop: it is let go of there, whichever thread has ended the timer.
struct Rest {
    held: Option<Box<Held>>,
    alive: Option<Alive>,
}

#[pyclass(frozen, module = "everbeat._everbeat", name = "_Rest")]
struct LaterRest(Mutex<Option<Rest>>);

struct Source {
    next: Py<PyAny>,
    is_async: bool,
    /// Closes it, if it is an async generator that the target has made for this start and that has not come to an
    /// end by itself.
    close: Option<Py<PyAny>>,
}

/// What a call of the target has returned.
enum Returned<'py> {
    Value(Bound<'py, PyAny>),
    Awaitable(Bound<'py, PyAny>),
}

impl PyCall {
    pub(crate) fn new(place: Weak<Place>) -> Self {
        Self { place, held: None }
    }

    fn runner(&self) -> Option<&Runner> {
        self.held.as_ref()?.runner.as_ref().map(Py::get)
    }

    /// Makes a run, or begins it: then the runner has the rest.
    fn run(&mut self, py: Python<'_>, place: &Arc<Place>) -> Poll<Step<Value>> {
        place.desk.count_run();
        let Some(alive) = place.alive(py) else {
            return Poll::Ready(Step::Failed(Raised::boxed(py, not_running(py, "the timer has ended"))));
        };
        place.desk.let_time_pass();
        let returned = alive.owner.get().core().and_then(|core| self.call_target(py, &core, &alive.context));
        place.desk.look_at_clock(py);
        let begun = match returned {
            Ok(Returned::Value(value)) => return Poll::Ready(Step::Value(Value(value.unbind()))),
            Ok(Returned::Awaitable(awaitable)) => self.await_it(py, place, &alive.context, &awaitable),
            Err(error) => Err(error),
        };
        match begun {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(self.failed(py, place, error)),
        }
    }

    /// Calls the target, or asks the source.
    fn call_target<'py>(
        &mut self,
        py: Python<'py>,
        core: &Core,
        context: &Py<PyAny>,
    ) -> PyResult<Returned<'py>> {
        if let Some(held) = &mut self.held {
            held.offloaded = None; // that of a run that was given up
        }
        if self.source().is_some() {
            return self.next_item(py, core, context);
        }
        if core.is_source {
            return self.begin(Source::of(core.target.bind(py))?, py, core, context);
        }
        if core.offload {
            return self.call_in_thread(Part::Call, &core.target, py, context);
        }
        let returned = context::run(py, (context, &core.target))?;
        self.take_returned(returned, core, context)
    }

    fn take_returned<'py>(
        &mut self,
        returned: Bound<'py, PyAny>,
        core: &Core,
        context: &Py<PyAny>,
    ) -> PyResult<Returned<'py>> {
        if is_plain(&returned) {
            return Ok(Returned::Value(returned));
        }
        if is_awaitable(&returned)? {
            return Ok(Returned::Awaitable(returned));
        }
        if is_source(&returned)? {
            return self.begin(Source::made(&returned)?, returned.py(), core, context);
        }
        Ok(Returned::Value(returned))
    }

    fn source(&self) -> Option<&Source> {
        self.held.as_ref()?.source.as_ref()
    }

    fn begin<'py>(
        &mut self,
        source: Source,
        py: Python<'py>,
        core: &Core,
        context: &Py<PyAny>,
    ) -> PyResult<Returned<'py>> {
        self.held.get_or_insert_default().source = Some(source);
        self.next_item(py, core, context)
    }

    fn next_item<'py>(
        &mut self,
        py: Python<'py>,
        core: &Core,
        context: &Py<PyAny>,
    ) -> PyResult<Returned<'py>> {
        let Some(source) = self.source() else { return Err(PyStopIteration::new_err(())) };
        if core.offload && !source.is_async {
            let next = source.next.clone_ref(py);
            return self.call_in_thread(Part::Item, &next, py, context);
        }
        let item = context::run(py, (context, &source.next))?;
        if source.is_async { Ok(Returned::Awaitable(item)) } else { take_item(item) }
    }

    fn call_in_thread<'py>(
        &mut self,
        part: Part,
        callee: &Py<PyAny>,
        py: Python<'py>,
        context: &Py<PyAny>,
    ) -> PyResult<Returned<'py>> {
        let call = Offloaded { target: callee.clone_ref(py), inside: Inside::current() };
        let in_thread = py.import(intern!(py, "everbeat._offload"))?.getattr(intern!(py, "in_thread"))?;
        let called = context::run(py, (context, in_thread, Py::new(py, call)?))?;
        self.held.get_or_insert_default().offloaded = Some(part);
        Ok(Returned::Awaitable(called))
    }

    /// A part of the run is over. What was called on another thread may have returned what is to be awaited here, or
    /// what gives the items.
    fn take_outcome(
        &mut self,
        py: Python<'_>,
        place: &Arc<Place>,
        value: Py<PyAny>,
    ) -> PyResult<Poll<Py<PyAny>>> {
        let Some(part) = self.held.as_mut().and_then(|held| held.offloaded.take()) else {
            return Ok(Poll::Ready(value));
        };
        let Some(alive) = place.alive(py) else { return Ok(Poll::Ready(value)) };
        let returned = match part {
            Part::Call => {
                let core = alive.owner.get().core()?;
                self.take_returned(value.into_bound(py), &core, &alive.context)?
            }
            Part::Item => take_item(value.into_bound(py))?,
        };
        match returned {
            Returned::Value(value) => Ok(Poll::Ready(value.unbind())),
            Returned::Awaitable(awaitable) => {
                self.await_it(py, place, &alive.context, &awaitable).map(|()| Poll::Pending)
            }
        }
    }

    /// A generator that has raised is over.
    fn forget_closing(&mut self) -> Option<Py<PyAny>> {
        self.held.as_mut()?.source.as_mut()?.close.take()
    }

    /// Begins to close the source, if it is to be closed, and the task of the runs is there to do it.
    fn begin_closing(&mut self, py: Python<'_>) {
        let Some(close) = self.forget_closing() else { return };
        let Some(runner) = self.runner().filter(|runner| !runner.is_over()) else { return };
        if let Err(error) = close.bind(py).call0().and_then(|closing| runner.assign(&closing)) {
            error.write_unraisable(py, None);
        }
    }

    /// Waits for a run whose value nobody wants.
    fn poll_end(&mut self, py: Python<'_>, place: &Arc<Place>, cx: &Context<'_>) -> Poll<()> {
        let Some(runner) = self.runner() else { return Poll::Ready(()) };
        match runner.poll_outcome(cx.waker()) {
            Some(Outcome::Value(_)) => return Poll::Ready(()),
            // Whoever cleans up for a cancellation may return after that.
            Some(Outcome::Raised(error)) if is_end(py, &error) => {}
            Some(Outcome::Raised(error)) => {
                place.desk.interrupt(py, &error);
                error.write_unraisable(py, None);
            }
            Some(Outcome::Aborted) => {}
            None if runner.is_idle() => return Poll::Ready(()),
            None => return Poll::Pending,
        }
        drop(self.forget_closing());
        Poll::Ready(())
    }

    /// Gives the task of the timer a run.
    fn await_it(
        &mut self,
        py: Python<'_>,
        place: &Arc<Place>,
        context: &Py<PyAny>,
        awaitable: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if let Some(runner) = self.runner().filter(|runner| !runner.is_over()) {
            return runner.assign(awaitable);
        }
        let runner = Runner::start(py, place, context, awaitable)?;
        self.held.get_or_insert_default().runner = Some(runner);
        Ok(())
    }

    /// The end of an iterator is the end of the timer; everything else is a failure, which the owner is
    /// told of.
    fn failed(&self, py: Python<'_>, place: &Arc<Place>, error: PyErr) -> Step<Value> {
        if is_end(py, &error) {
            return Step::Exhausted;
        }
        let error = if is_cancelled_error(py, &error) { as_failure(py, error) } else { error };
        place.desk.interrupt(py, &error); // the task of a run goes on, and does not raise it either
        if let Some(alive) = place.alive(py) {
            alive.owner.get().tell_failure(py, &alive, &error);
        }
        Step::Failed(Raised::boxed(py, error))
    }
}

impl Callee<Value> for PyCall {
    fn call(&mut self, tick: Tick) -> Poll<Step<Value>> {
        let Some(place) = self.place.upgrade() else { return Poll::Ready(Step::Exhausted) };
        place.note_run(tick);
        let made = Python::try_attach(|py| self.run(py, &place));
        made.unwrap_or(Poll::Ready(Step::Exhausted)) // the interpreter is gone
    }

    fn touch(&self) -> usize {
        usize::from(self.held.is_some())
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Step<Value>> {
        let Some(place) = self.place.upgrade() else { return Poll::Ready(Step::Exhausted) };
        let polled = Python::try_attach(|py| {
            loop {
                let Some(runner) = self.runner() else { return Poll::Ready(Step::Exhausted) };
                let taken = match runner.poll_outcome(cx.waker()) {
                    None => return Poll::Pending,
                    // Nobody had asked for that but the task's own canceller, who ends the timer.
                    Some(Outcome::Aborted) => return Poll::Ready(Step::Exhausted),
                    Some(Outcome::Value(value)) => self.take_outcome(py, &place, value),
                    Some(Outcome::Raised(error)) => {
                        drop(self.forget_closing());
                        Err(error)
                    }
                };
                match taken {
                    Ok(Poll::Pending) => {}
                    Ok(Poll::Ready(value)) => return Poll::Ready(Step::Value(Value(value))),
                    Err(error) => return Poll::Ready(self.failed(py, &place, error)),
                }
            }
        });
        polled.unwrap_or(Poll::Ready(Step::Exhausted))
    }

    fn poll_abort(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(place) = self.place.upgrade() else { return Poll::Ready(()) };
        let polled = Python::try_attach(|py| {
            if let Some(runner) = self.runner() {
                runner.give_up(py);
            }
            self.poll_end(py, &place, cx)
        });
        polled.unwrap_or(Poll::Ready(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(place) = self.place.upgrade() else { return Poll::Ready(()) };
        let polled = Python::try_attach(|py| {
            self.begin_closing(py);
            self.poll_end(py, &place, cx)
        });
        polled.unwrap_or(Poll::Ready(()))
    }

    fn has_ended(&self) -> bool {
        self.runner().is_some_and(Runner::has_outcome)
    }

    fn is_plain(&self) -> bool {
        self.runner().is_none()
    }

    fn has_rest(&self) -> bool {
        true
    }

    fn rest(&mut self) {
        let held = self.held.take();
        Python::try_attach(|py| {
            if let Some(runner) = held.as_ref().and_then(|held| held.runner.as_ref()) {
                runner.get().end(py);
            }
            let Some(place) = self.place.upgrade() else { return drop(held) };
            let alive = place.alive(py);
            if let Some(alive) = &alive {
                alive.owner.get().note_end(&place);
            }
            let rest = Rest { held, alive };
            if place.desk.is_elsewhere(py) {
                rest.leave_to(py, &place.desk);
            } else {
                rest.let_go(py);
            }
        });
    }
}

/// Whether it is the end of an iterator. What is called may be its `__next__`.
fn is_end(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyStopIteration>(py) || error.is_instance_of::<PyStopAsyncIteration>(py)
}

/// What would cancel whoever is told, as a failure.
fn as_failure(py: Python<'_>, error: PyErr) -> PyErr {
    let kind = error.get_type(py).name().map_or_else(|_| "CancelledError".into(), |name| name.to_string());
    let told = PyRuntimeError::new_err(format!("the target raised {kind}"));
    told.set_cause(py, Some(error));
    told
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
        let call = || match call_out(target, &nothing, None) {
            // No future takes this one.
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                let end = PyStopAsyncIteration::new_err(());
                end.set_cause(py, Some(error));
                Err(end)
            }
            returned => returned.map(Bound::unbind),
        };
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

/// An iterator may give awaitables, like a call.
fn take_item(item: Bound<'_, PyAny>) -> PyResult<Returned<'_>> {
    let awaited = !is_plain(&item) && is_awaitable(&item)?;
    Ok(if awaited { Returned::Awaitable(item) } else { Returned::Value(item) })
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

/// Whether it is an iterator or an async iterator.
pub(crate) fn is_source(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    static FUNCTION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static METHOD: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let (py, kind) = (value.py(), value.get_type());
    // Most targets are one of these, and to find that something has no such method takes longer.
    if kind.is(FUNCTION.import(py, "types", "FunctionType")?)
        || kind.is(METHOD.import(py, "types", "MethodType")?)
    {
        return Ok(false);
    }
    Ok(value.cast::<PyIterator>().is_ok() || kind.hasattr(intern!(py, "__anext__"))?)
}

impl Source {
    /// That of an iterator or an async iterator.
    fn of(items: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = items.py();
        let is_async = items.cast::<PyIterator>().is_err();
        let method = if is_async { intern!(py, "__anext__") } else { intern!(py, "__next__") };
        Ok(Self { next: items.getattr(method)?.unbind(), is_async, close: None })
    }

    /// The same, of one that the target has made.
    fn made(items: &Bound<'_, PyAny>) -> PyResult<Self> {
        static ASYNC_GENERATOR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let (py, source) = (items.py(), Self::of(items)?);
        if !items.get_type().is(ASYNC_GENERATOR.import(py, "types", "AsyncGeneratorType")?) {
            return Ok(source);
        }
        Ok(Self { close: Some(items.getattr(intern!(py, "aclose"))?.unbind()), ..source })
    }
}
