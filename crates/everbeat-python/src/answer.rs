//! What the methods of timers return to be awaited.
//!
//! An [`Answer`] is a coroutine to asyncio: it can be awaited, wrapped in a task, gathered, given a time
//! limit, cancelled. What it waits for is a future of the Rust library. The request itself was made by the
//! call; who does not await only does not learn the answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::loops;
use crate::pause::{Pause, expire_later, stop_iteration};

/// Something that is awaited.
pub(crate) trait Ask: Send + Sync {
    fn poll(&mut self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>>;

    /// The answer, if it can be had without waiting.
    fn look(&mut self, py: Python<'_>) -> Poll<PyResult<Py<PyAny>>> {
        self.poll(py, &mut Context::from_waker(Waker::noop()))
    }

    /// Where the pause of one wait is kept for the next.
    fn kept_pause(&self) -> Option<&Mutex<Option<Py<Pause>>>> {
        None
    }

    /// The time limit was reached first.
    fn expired(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let _ = py;
        Err(pyo3::exceptions::PyTimeoutError::new_err("the time limit of the wait was reached"))
    }
}

/// A future of the library, and what its output is in Python.
pub(crate) struct Wait<F, C> {
    pub(crate) future: F,
    pub(crate) convert: C,
}

impl<F, C> Ask for Wait<F, C>
where
    F: Future + Unpin + Send + Sync,
    C: FnMut(Python<'_>, Option<F::Output>) -> PyResult<Py<PyAny>> + Send + Sync,
{
    fn poll(&mut self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        Pin::new(&mut self.future).poll(cx).map(|output| (self.convert)(py, Some(output)))
    }

    fn expired(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        (self.convert)(py, None)
    }
}

/// An answer that was there from the beginning.
pub(crate) struct Settled(Option<PyResult<Py<PyAny>>>);

impl Settled {
    pub(crate) fn value(value: Py<PyAny>) -> Self {
        Self(Some(Ok(value)))
    }

    pub(crate) fn error(error: PyErr) -> Self {
        Self(Some(Err(error)))
    }
}

impl Ask for Settled {
    fn poll(&mut self, _: Python<'_>, _: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        self.0.take().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Awaited by user code.
#[pyclass(frozen, weakref, module = "everbeat", name = "_Answer")]
pub(crate) struct Answer {
    state: Mutex<State>,
    limit: Option<Duration>,
    /// The method that made it.
    what: &'static str,
}

#[derive(Default)]
enum State {
    Asking(Asking),
    #[default]
    Over,
}

struct Asking {
    ask: Box<dyn Ask>,
    pause: Option<Py<Pause>>,
    /// The outstanding call for the time limit.
    expiry: Option<Py<PyAny>>,
}

impl Answer {
    pub(crate) fn new(what: &'static str, limit: Option<Duration>, ask: impl Ask + 'static) -> Self {
        let asking = Asking { ask: Box::new(ask), pause: None, expiry: None };
        Self { state: Mutex::new(State::Asking(asking)), limit, what }
    }

    fn take(&self) -> PyResult<Asking> {
        match std::mem::take(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner)) {
            State::Asking(asking) => Ok(asking),
            State::Over => Err(PyRuntimeError::new_err(format!("{}() was awaited already", self.what))),
        }
    }

    /// Whether a task waits for it that has not been woken.
    fn is_awaited(&self) -> bool {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Asking(asking) => asking.pause.as_ref().is_some_and(|pause| pause.get().is_awaited()),
            State::Over => false,
        }
    }

    fn step(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if self.is_awaited() {
            return Err(PyRuntimeError::new_err(format!("{}() is being awaited already", self.what)));
        }
        let mut asking = self.take()?;
        let answer = match asking.poll(py, self.limit)? {
            Poll::Pending => {
                let pause = asking.pause.as_ref().map(|pause| Pause::hand_out(pause, py));
                *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Asking(asking);
                return pause.ok_or_else(|| PyRuntimeError::new_err("a wait without a pause"));
            }
            Poll::Ready(answer) => answer,
        };
        asking.end(py);
        drop(asking);
        answer.and_then(|value| Err(stop_iteration(py, value)))
    }

    fn give_up(&self, py: Python<'_>) {
        if let Ok(mut asking) = self.take() {
            asking.end(py);
        }
    }
}

impl Asking {
    fn poll(&mut self, py: Python<'_>, limit: Option<Duration>) -> PyResult<Poll<PyResult<Py<PyAny>>>> {
        let Some(pause) = &self.pause else {
            // What is there already needs no place to wait.
            if let Poll::Ready(answer) = self.ask.look(py) {
                return Ok(Poll::Ready(answer));
            }
            let kept = self
                .ask
                .kept_pause()
                .and_then(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner).take());
            let pause = match kept.filter(|pause| pause.get().desk().is_here(py)) {
                Some(pause) => pause,
                None => Pause::new(py, &loops::here(py)?)?,
            };
            let waker = pause.get().begin();
            let polled = self.ask.poll(py, &mut Context::from_waker(&waker));
            if let (true, Some(limit)) = (polled.is_pending(), limit) {
                self.expiry = Some(expire_later(py, &pause, limit.as_secs_f64())?);
            }
            self.pause = Some(pause);
            return Ok(polled);
        };
        let expired = pause.get().has_expired();
        let waker = pause.get().begin();
        let polled = self.ask.poll(py, &mut Context::from_waker(&waker));
        Ok(if polled.is_pending() && expired { Poll::Ready(self.ask.expired(py)) } else { polled })
    }

    fn end(&mut self, py: Python<'_>) {
        if let (Some(kept), Some(pause)) = (self.ask.kept_pause(), self.pause.take()) {
            let before = kept.lock().unwrap_or_else(PoisonError::into_inner).replace(pause);
            drop(before);
        }
        if let Some(expiry) = &self.expiry {
            // An expiry that is left over wakes nobody.
            let _ = expiry.call_method0(py, intern!(py, "cancel"));
        }
    }
}

#[pymethods]
impl Answer {
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
        self.give_up(py);
        Err(thrown(kind, value, traceback)?)
    }

    fn close(&self, py: Python<'_>) {
        self.give_up(py);
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        self.what
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        self.what
    }

    fn __repr__(&self) -> String {
        format!("<answer of {}()>", self.what)
    }
}

/// The exception that the arguments of `throw` mean.
pub(crate) fn thrown(
    kind: &Bound<'_, PyAny>,
    value: Option<Bound<'_, PyAny>>,
    traceback: Option<Bound<'_, PyAny>>,
) -> PyResult<PyErr> {
    let exception = match value {
        Some(value) if value.is_instance_of::<pyo3::exceptions::PyBaseException>() => value,
        Some(value) => kind.call1((value,))?,
        None if kind.is_instance_of::<pyo3::exceptions::PyBaseException>() => kind.clone(),
        None => kind.call0()?,
    };
    if let Some(traceback) = traceback {
        exception.setattr("__traceback__", traceback)?;
    }
    Ok(PyErr::from_value(exception))
}
