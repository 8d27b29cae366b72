//! What the methods of timers return to be awaited.
//!
//! An [`Answer`] is a coroutine to asyncio: it can be awaited, wrapped in a task, gathered, given a time
//! limit, cancelled. What it waits for is a future of the Rust library. The request itself was made by the
//! call; who does not await only does not learn the answer.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    /// It was there from the beginning.
    Settled(PyResult<Py<PyAny>>),
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
    pub(crate) fn asking(what: &'static str, limit: Option<Duration>, ask: impl Ask + 'static) -> Self {
        let asking = Asking { ask: Box::new(ask), pause: None, expiry: None };
        Self { state: Mutex::new(State::Asking(asking)), limit, what }
    }

    pub(crate) fn value(what: &'static str, value: Py<PyAny>) -> Self {
        Self::settled(what, Ok(value))
    }

    pub(crate) fn error(what: &'static str, error: PyErr) -> Self {
        Self::settled(what, Err(error))
    }

    fn settled(what: &'static str, answer: PyResult<Py<PyAny>>) -> Self {
        Self { state: Mutex::new(State::Settled(answer)), limit: None, what }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing can panic under the lock, so a poisoned one is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> State {
        mem::take(&mut *self.lock())
    }

    /// Whether a task waits for it that has not been woken.
    fn is_awaited(&self) -> bool {
        match &*self.lock() {
            State::Asking(asking) => asking.pause.as_ref().is_some_and(|pause| pause.get().is_awaited()),
            State::Settled(_) | State::Over => false,
        }
    }

    /// What to wait for; `None`: the answer is there, and it is `None`.
    fn step(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if self.is_awaited() {
            return Err(PyRuntimeError::new_err(format!("{}() is being awaited already", self.what)));
        }
        let answer = match self.take() {
            State::Asking(mut asking) => match asking.poll(py, self.limit)? {
                Poll::Pending => {
                    let pause = asking.pause.as_ref().map(|pause| Pause::hand_out(pause, py));
                    *self.lock() = State::Asking(asking);
                    return match pause {
                        None => Err(PyRuntimeError::new_err("a wait without a pause")),
                        pause => Ok(pause),
                    };
                }
                Poll::Ready(answer) => {
                    asking.end(py);
                    answer
                }
            },
            State::Settled(answer) => answer,
            State::Over => {
                return Err(PyRuntimeError::new_err(format!("{}() was awaited already", self.what)));
            }
        };
        let value = answer?;
        if value.is_none(py) { Ok(None) } else { Err(stop_iteration(py, value)) }
    }

    fn give_up(&self, py: Python<'_>) {
        if let State::Asking(mut asking) = self.take() {
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

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.step(py)
    }

    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.step(py)?.ok_or_else(|| stop_iteration(py, py.None()))
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
