//! What a task waits for: the future-like object that it is handed, and the waker behind it.
//!
//! A plain `asyncio.Future` would serve, at the price of a `call_soon` and a `Handle` for every task that a
//! tick wakes. A pause goes on with all tasks of its desk in one call, and is used again for the next wait.
//!
//! # Invariants
//!
//! 1. The lock is held for a few instructions; no Python code can run under it.
//! 2. A pause that somebody waits for is kept by whoever may wake it: a task that nobody else holds is not
//!    lost.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::desk::{Desk, Wakeup};

/// One wait after the other, for one task at a time.
#[pyclass(frozen, module = "everbeat._everbeat", name = "_Pause")]
pub(crate) struct Pause {
    bell: Arc<Bell>,
}

struct Bell {
    desk: Arc<Desk>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// asyncio's protocol: set by who hands the pause to a task, cleared by the task.
    blocking: bool,
    /// The time that somebody gave the wait was over first.
    expired: bool,
    waiting: Waits,
}

/// Mostly one.
#[derive(Default)]
struct Waits {
    first: Option<Waiting>,
    others: Vec<Waiting>,
}

#[derive(Default)]
enum Phase {
    #[default]
    Waiting,
    Woken,
    Cancelled(Option<Py<PyAny>>),
}

/// Somebody who waits, and the pause itself, which is handed to the callback.
struct Waiting {
    callback: Py<PyAny>,
    context: Option<Py<PyAny>>,
    pause: Py<Pause>,
}

impl Waits {
    fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn push(&mut self, waiting: Waiting) {
        match &self.first {
            None => self.first = Some(waiting),
            Some(_) => self.others.push(waiting),
        }
    }

    fn all(self) -> impl Iterator<Item = Waiting> {
        self.first.into_iter().chain(self.others)
    }

    fn callbacks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.first.iter().chain(&self.others).map(|waiting| waiting.callback.clone_ref(py)).collect()
    }

    /// Takes out those who have one of these callbacks.
    fn remove(&mut self, callbacks: &[Py<PyAny>]) -> Vec<Waiting> {
        let is_meant = |waiting: &Waiting| callbacks.iter().any(|callback| callback.is(&waiting.callback));
        let (removed, kept): (Vec<_>, _) = mem::take(self).all().partition(is_meant);
        kept.into_iter().for_each(|waiting: Waiting| self.push(waiting));
        removed
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let woken = self.end(Phase::Woken);
        if let Some(waiting) = woken.filter(|waiting| !waiting.is_empty()) {
            // Without an interpreter there are no tasks either.
            Python::try_attach(|py| self.go_on(py, waiting.all()));
        }
    }
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, State> {
        // By invariant 1 nothing can panic under the lock, so a poisoned one is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the wait; hands out who waited, or nothing if it was over already.
    fn end(&self, phase: Phase) -> Option<Waits> {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Waiting) {
            return None;
        }
        state.phase = phase;
        Some(mem::take(&mut state.waiting))
    }

    fn go_on(&self, py: Python<'_>, waiting: impl Iterator<Item = Waiting>) {
        let woken = matches!(self.lock().phase, Phase::Woken);
        for Waiting { callback, context, pause } in waiting {
            // A task learns from a future of asyncio's own, and a finished one, faster than from a pause.
            let argument = if woken { self.desk.finished_future(py) } else { None };
            let argument = argument.unwrap_or_else(|| pause.into_any());
            self.desk.wake_up(py, Wakeup { callback, argument, context });
        }
    }
}

impl Pause {
    pub(crate) fn new(py: Python<'_>, desk: &Arc<Desk>) -> PyResult<Py<Self>> {
        Py::new(py, Self { bell: Arc::new(Bell { desk: desk.clone(), state: Mutex::default() }) })
    }

    /// Begins another wait. What can end it wakes the waker.
    pub(crate) fn begin(&self) -> Waker {
        let before = mem::take(&mut *self.bell.lock());
        drop(before);
        Waker::from(self.bell.clone())
    }

    /// Ready to be handed to a task.
    pub(crate) fn hand_out(slf: &Py<Self>, py: Python<'_>) -> Py<PyAny> {
        slf.get().bell.lock().blocking = true;
        slf.clone_ref(py).into_any()
    }

    /// Whether a task waits that was not woken yet.
    pub(crate) fn is_awaited(&self) -> bool {
        let state = self.bell.lock();
        matches!(state.phase, Phase::Waiting) && !state.waiting.is_empty()
    }

    pub(crate) fn wake(&self) {
        self.bell.wake_by_ref();
    }

    pub(crate) fn desk(&self) -> &Arc<Desk> {
        &self.bell.desk
    }

    pub(crate) fn has_expired(&self) -> bool {
        self.bell.lock().expired
    }
}

/// As much of a future as tasks ask for.
#[pymethods]
impl Pause {
    #[getter(_asyncio_future_blocking)]
    fn blocking(&self) -> bool {
        self.bell.lock().blocking
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, blocking: bool) {
        self.bell.lock().blocking = blocking;
    }

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.bell.desk.event_loop(py).clone().unbind()
    }

    #[pyo3(signature = (callback, *, context = None))]
    fn add_done_callback(slf: &Bound<'_, Self>, callback: Py<PyAny>, context: Option<Py<PyAny>>) {
        let waiting = Waiting { callback, context, pause: slf.clone().unbind() };
        let bell = &slf.get().bell;
        let over = {
            let mut state = bell.lock();
            if matches!(state.phase, Phase::Waiting) {
                state.waiting.push(waiting);
                None
            } else {
                Some(waiting)
            }
        };
        if let Some(waiting) = over {
            bell.go_on(slf.py(), std::iter::once(waiting));
        }
    }

    fn remove_done_callback(&self, py: Python<'_>, callback: &Bound<'_, PyAny>) -> PyResult<usize> {
        // To compare may run code of the user's, which may wake whoever waits: so nobody is taken out for that.
        let known = self.bell.lock().waiting.callbacks(py);
        let mut same = Vec::new();
        for known in known {
            if known.bind(py).eq(callback)? {
                same.push(known);
            }
        }
        let removed = self.bell.lock().waiting.remove(&same);
        Ok(removed.len())
    }

    #[pyo3(signature = (msg = None))]
    fn cancel(&self, py: Python<'_>, msg: Option<Py<PyAny>>) -> bool {
        let waiting = self.bell.end(Phase::Cancelled(msg));
        let in_time = waiting.is_some();
        self.bell.go_on(py, waiting.unwrap_or_default().all());
        in_time
    }

    fn done(&self) -> bool {
        !matches!(self.bell.lock().phase, Phase::Waiting)
    }

    fn cancelled(&self) -> bool {
        matches!(self.bell.lock().phase, Phase::Cancelled(_))
    }

    fn result(&self, py: Python<'_>) -> PyResult<()> {
        let message = match &self.bell.lock().phase {
            Phase::Woken => return Ok(()),
            Phase::Waiting => return Err(PyRuntimeError::new_err("the wait is not over")),
            Phase::Cancelled(message) => message.as_ref().map(|message| message.clone_ref(py)),
        };
        Err(cancelled_error(py, message))
    }

    fn exception(&self, py: Python<'_>) -> PyResult<()> {
        self.result(py)
    }

    /// The time for the wait is over.
    fn expire(&self) {
        self.bell.lock().expired = true;
        self.bell.wake_by_ref();
    }

    fn __repr__(&self) -> &'static str {
        if self.done() { "<a wait for a timer, over>" } else { "<a wait for a timer>" }
    }
}

fn cancelled_error_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "asyncio", "CancelledError")
}

fn cancelled_error(py: Python<'_>, message: Option<Py<PyAny>>) -> PyErr {
    match (cancelled_error_type(py), message) {
        (Err(error), _) => error,
        (Ok(kind), None) => PyErr::from_type(kind.clone(), ()),
        (Ok(kind), Some(message)) => PyErr::from_type(kind.clone(), (message,)),
    }
}

pub(crate) fn is_cancelled_error(py: Python<'_>, error: &PyErr) -> bool {
    cancelled_error_type(py).is_ok_and(|kind| error.is_instance(py, kind))
}

/// The exception that ends a coroutine with this value.
pub(crate) fn stop_iteration(py: Python<'_>, value: Py<PyAny>) -> PyErr {
    py.get_type::<PyStopIteration>().call1((value,)).map_or_else(|error| error, PyErr::from_value)
}

/// `loop.call_later`, which ends a wait as expired.
pub(crate) fn expire_later(py: Python<'_>, pause: &Py<Pause>, seconds: f64) -> PyResult<Py<PyAny>> {
    let expire = pause.bind(py).getattr(intern!(py, "expire"))?;
    let event_loop = pause.get().desk().event_loop(py);
    event_loop.call_method1(intern!(py, "call_later"), (seconds, expire))?.into_py_any(py)
}
