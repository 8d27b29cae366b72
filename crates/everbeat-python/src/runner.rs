//! The coroutine behind the task of a timer with an async target.
//!
//! The task lives as long as the timer runs: between two runs it is parked on a [`Pause`], during a run it
//! forwards to the run's own awaitable. So a tick makes no task, and the target sees one current task, whose
//! context and cancellation are as usual.
//!
//! # Invariants
//!
//! 1. The lock is held for a few instructions; no Python code can run under it.
//! 2. A run that is given up gets `CancelledError` where it awaits, and is over when it has ended, whatever
//!    it does with that. The task itself goes on.
//! 3. A cancellation of the task from elsewhere ends the timer. A `CancelledError` without one, of something
//!    that the run awaited, is a failure. Between two runs the task ends after the timer, which may need it to close
//!    a generator: whoever shuts a loop down waits for its tasks.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use everbeat::{Inside, Name};
use pyo3::exceptions::{PyStopIteration, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyDict, PyIterator, PyTuple};

use crate::answer::thrown;
use crate::call::{call_out, step_out};
use crate::pause::{Pause, is_cancelled_error, stop_iteration};
use crate::timer::Place;

/// How long a step may hold the loop before it is reported.
const BLOCKED_AFTER: Duration = Duration::from_millis(100);

/// How a run ended.
pub(crate) enum Outcome {
    Value(Py<PyAny>),
    Raised(PyErr),
    /// Given up: on request, or since the task was cancelled from elsewhere.
    Aborted,
}

#[pyclass(frozen, module = "everbeat._everbeat", name = "_Runner")]
pub(crate) struct Runner {
    pause: Py<Pause>,
    place: Weak<Place>,
    /// That of its timer.
    name: Name,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    run: Option<Run>,
    outcome: Option<Outcome>,
    /// Who wants to know of the outcome.
    waker: Option<Waker>,
    task: Option<Py<PyAny>>,
    /// The run is to be given up, and the task was told.
    giving_up: bool,
    /// The timer has ended: so does the task.
    ending: bool,
    /// How it was cancelled from elsewhere, between two runs.
    cancelled: Option<PyErr>,
    /// The task has ended, or is about to.
    over: bool,
}

/// The run in flight.
struct Run {
    awaited: Py<PyAny>,
    inside: Option<Inside>,
}

impl Runner {
    /// A runner in a task of its own.
    pub(crate) fn start(
        py: Python<'_>,
        place: &Arc<Place>,
        context: &Py<PyAny>,
        awaitable: &Bound<'_, PyAny>,
    ) -> PyResult<Py<Self>> {
        let (pause, name) = (Pause::new(py, &place.desk)?, place.timer().name().clone());
        let runner = Self { pause, place: Arc::downgrade(place), name, state: Mutex::default() };
        let runner = Py::new(py, runner)?;
        runner.get().assign(awaitable)?;
        let options = PyDict::new(py);
        options.set_item("name", runner.get().__name__())?;
        options.set_item("context", context)?;
        let create = place.desk.event_loop(py).getattr(intern!(py, "create_task"))?;
        let task = match create.call((&runner,), Some(&options)) {
            // A task factory of the old kind takes no context: the task copies the one it is made in.
            Err(error) if error.is_instance_of::<PyTypeError>(py) => {
                options.del_item("context")?;
                context.bind(py).call_method(intern!(py, "run"), (create, &runner), Some(&options))?
            }
            task => task?,
        };
        runner.get().lock().task = Some(task.unbind());
        Ok(runner)
    }

    /// Gives it a run.
    pub(crate) fn assign(&self, awaitable: &Bound<'_, PyAny>) -> PyResult<()> {
        let awaited = awaitable.call_method0(intern!(awaitable.py(), "__await__"))?.unbind();
        let run = Run { awaited, inside: Inside::current() };
        let before = {
            let mut state = self.lock();
            state.giving_up = false;
            (state.run.replace(run), state.outcome.take())
        };
        drop(before);
        self.pause.get().wake();
        Ok(())
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lock().over
    }

    /// Whether it has neither a run nor the outcome of one.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.run.is_none() && state.outcome.is_none()
    }

    /// Whether the run has ended and nobody was told how.
    pub(crate) fn has_outcome(&self) -> bool {
        self.lock().outcome.is_some()
    }

    /// How the run ended, or `waker` is told when it has.
    pub(crate) fn poll_outcome(&self, waker: &Waker) -> Option<Outcome> {
        let fresh = waker.clone();
        let (outcome, unneeded) = {
            let mut state = self.lock();
            match state.outcome.take() {
                Some(outcome) => (Some(outcome), Some(fresh)),
                None => (None, state.waker.replace(fresh)),
            }
        };
        drop(unneeded);
        outcome
    }

    /// Asks the run to give up. Once, however often it is called for one run.
    pub(crate) fn give_up(&self, py: Python<'_>) {
        let task = {
            let mut state = self.lock();
            if state.run.is_none() || mem::replace(&mut state.giving_up, true) {
                return;
            }
            state.task.as_ref().map(|task| task.clone_ref(py))
        };
        if let Some(task) = task {
            if let Err(error) = task.call_method0(py, intern!(py, "cancel")) {
                error.write_unraisable(py, None);
            }
        }
    }

    /// The timer has ended, and so shall the task; a run that is left is given up.
    pub(crate) fn end(&self, py: Python<'_>) {
        self.lock().ending = true;
        self.give_up(py);
        self.pause.get().wake();
        // Whoever is to step the task holds it. Together they would be a cycle that the collector cannot see.
        let task = self.lock().task.take();
        drop(task);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // By invariant 1 nothing can panic under the lock, so a poisoned one is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a step of the task comes to.
enum Next {
    /// Hand this to the task, to be waited for.
    Yield(Py<PyAny>),
    /// The run is over.
    Over,
}

impl Runner {
    /// Goes on with the run, or is parked until there is one.
    fn step(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        loop {
            // Before the look at the state, so that a run that comes after it is noticed.
            let _ = self.pause.get().begin();
            let Some(run) = self.current_run(py) else {
                if self.lock().ending {
                    return Err(self.leave(py));
                }
                return Ok(Pause::hand_out(&self.pause, py));
            };
            match self.advance(py, &run, |awaited| step_out(awaited.cast::<PyIterator>()?))? {
                Next::Yield(waited_for) => return Ok(waited_for),
                Next::Over => {}
            }
        }
    }

    /// Something is thrown into the task.
    fn step_throwing(&self, py: Python<'_>, error: PyErr) -> PyResult<Py<PyAny>> {
        let cancelled = is_cancelled_error(py, &error);
        let Some(run) = self.current_run(py) else {
            // Meant for a run that has ended by itself?
            if cancelled && mem::take(&mut self.lock().giving_up) && self.uncancel(py) == 0 {
                return self.step(py);
            }
            let timer_ends = self.cancel_timer();
            if cancelled && timer_ends {
                let before = self.lock().cancelled.replace(error);
                drop(before);
                return self.step(py);
            }
            self.finish();
            return Err(error);
        };
        match self.advance(py, &run, |awaited| throw(awaited, &error))? {
            Next::Yield(waited_for) => Ok(waited_for),
            Next::Over => self.step(py),
        }
    }

    fn current_run(&self, py: Python<'_>) -> Option<Run> {
        let state = self.lock();
        let run = state.run.as_ref()?;
        Some(Run { awaited: run.awaited.clone_ref(py), inside: run.inside.clone() })
    }

    fn advance<'py>(
        &self,
        py: Python<'py>,
        run: &Run,
        step: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<PySendResult<'py>>,
    ) -> PyResult<Next> {
        let began = Instant::now();
        let awaited = run.awaited.bind(py);
        let result = match &run.inside {
            Some(inside) => inside.scope(|| step(awaited)),
            None => step(awaited),
        };
        let took = began.elapsed();
        if took >= BLOCKED_AFTER {
            if let Some(alive) = self.place.upgrade().and_then(|place| place.alive(py)) {
                alive.owner.get().count_blocked();
            }
            tracing::warn!(timer = %self.name, ?took, "a run blocked its loop");
        }
        match result {
            Ok(PySendResult::Next(waited_for)) => Ok(Next::Yield(waited_for.unbind())),
            Ok(PySendResult::Return(value)) => {
                self.conclude(py, Outcome::Value(value.unbind()));
                Ok(Next::Over)
            }
            Err(error) => self.fail(py, error),
        }
    }

    fn fail(&self, py: Python<'_>, error: PyErr) -> PyResult<Next> {
        if is_cancelled_error(py, &error) {
            let given_up = self.lock().giving_up;
            if !given_up && !self.is_cancelled(py) {
                // Something that the run awaited was cancelled, or it says so by itself: a failure.
                self.conclude(py, Outcome::Raised(error));
                return Ok(Next::Over);
            }
            if self.conclude(py, Outcome::Aborted) == 0 && given_up {
                return Ok(Next::Over);
            }
            self.finish();
            self.cancel_timer();
            return Err(error);
        }
        self.conclude(py, Outcome::Raised(error));
        Ok(Next::Over)
    }

    /// The run is over: whoever waits for that is told. Returns how many others than the timer have cancelled
    /// the task of a run that was given up.
    fn conclude(&self, py: Python<'_>, outcome: Outcome) -> usize {
        let (run, waker, given_up) = {
            let mut state = self.lock();
            state.outcome = Some(outcome);
            (state.run.take(), state.waker.take(), mem::take(&mut state.giving_up))
        };
        drop(run);
        let others = if given_up { self.uncancel(py) } else { 0 };
        if let Some(waker) = waker {
            waker.wake();
        }
        others
    }

    /// What was asked of the task has been done: the next run starts without it. Returns how many others have
    /// asked for the same.
    fn uncancel(&self, py: Python<'_>) -> usize {
        let task = self.lock().task.as_ref().map(|task| task.clone_ref(py));
        let Some(task) = task else { return 0 };
        let left = task.call_method0(py, intern!(py, "uncancel")).and_then(|left| left.extract(py));
        left.unwrap_or_else(|error: PyErr| {
            error.write_unraisable(py, None);
            0
        })
    }

    /// Whether somebody has cancelled the task.
    fn is_cancelled(&self, py: Python<'_>) -> bool {
        let task = self.lock().task.as_ref().map(|task| task.clone_ref(py));
        let Some(task) = task else { return false };
        let asked = task.call_method0(py, intern!(py, "cancelling")).and_then(|asked| asked.extract(py));
        asked.is_ok_and(|asked: usize| asked > 0)
    }

    /// Returns whether there is a timer to be cancelled, whose end is to come.
    fn cancel_timer(&self) -> bool {
        let Some(place) = self.place.upgrade() else { return false };
        place.cancel();
        !place.desk.is_closed()
    }

    /// The end of the task.
    fn leave(&self, py: Python<'_>) -> PyErr {
        self.finish();
        let cancelled = self.lock().cancelled.take();
        cancelled.unwrap_or_else(|| stop_iteration(py, py.None()))
    }

    /// The task ends: it takes no other run.
    fn finish(&self) {
        let task = {
            let mut state = self.lock();
            state.over = true;
            state.task.take()
        };
        drop(task);
    }
}

/// Throws an exception into whatever a run awaits.
fn throw<'py>(awaited: &Bound<'py, PyAny>, error: &PyErr) -> PyResult<PySendResult<'py>> {
    let py = awaited.py();
    let thrown = match awaited.getattr(intern!(py, "throw")) {
        Ok(throw) => call_out(&throw, &PyTuple::new(py, [error.value(py)])?, None),
        Err(_) => Err(error.clone_ref(py)), // a bare iterator cannot be told
    };
    match thrown {
        Ok(waited_for) => Ok(PySendResult::Next(waited_for)),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
            Ok(PySendResult::Return(error.value(py).getattr("value")?))
        }
        Err(error) => Err(error),
    }
}

#[pymethods]
impl Runner {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.step(py)
    }

    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.step(py)
    }

    #[pyo3(signature = (kind, value = None, traceback = None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.step_throwing(py, thrown(kind, value, traceback)?)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.finish();
        let run = self.lock().run.take();
        run.map_or(Ok(()), |run| match run.awaited.bind(py).getattr(intern!(py, "close")) {
            Ok(close) => call_out(&close, &PyTuple::empty(py), None).map(drop),
            Err(_) => Ok(()),
        })
    }

    #[getter]
    fn __name__(&self) -> String {
        format!("timer:{}", self.name)
    }

    #[getter]
    fn __qualname__(&self) -> String {
        self.__name__()
    }

    fn __repr__(&self) -> String {
        format!("<runs of timer `{}`>", self.name)
    }
}
