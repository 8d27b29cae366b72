//! What timers are asked for, to be waited for alone or together.

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use everbeat::{Answer, Error, Pending, Shutdown, thread};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;

use super::clock::{self, Clock};
use super::job::{Delivery, SharedJob};
use super::object;
use super::timer::Timer;
use crate::config::{Ticks, one_of, ticks_to_wait_for};
use crate::durations;
use crate::errors::to_python;

/// What a timer can be asked for.
#[derive(Clone, Copy)]
pub(super) enum Wish {
    Cancel,
    Shutdown(Duration),
    Trigger,
    Join,
    End,
    Hits(u64),
    MoreHits(u64),
}

impl Wish {
    pub(super) fn shutdown(grace: &Bound<'_, PyAny>) -> PyResult<Self> {
        durations::parse("grace", grace).map(Self::Shutdown)
    }

    /// A count of ticks, or the end.
    pub(super) fn wait(
        py: Python<'_>,
        hit_count: Option<&Bound<'_, PyAny>>,
        hits: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Ok(match ticks_to_wait_for(py, hit_count, hits)? {
            None => Self::End,
            Some(Ticks::Total(total)) => Self::Hits(total),
            Some(Ticks::More(more)) => Self::MoreHits(more),
        })
    }
}

/// A request that was made, and its answer.
pub(super) struct Asked {
    request: Box<dyn Request>,
    job: SharedJob,
    /// What it is called if the answer does not come in time. `None`: that is an answer too.
    too_late: Option<&'static str>,
}

impl Asked {
    /// Asks a timer.
    pub(super) fn of(timer: &everbeat::Timer<Delivery>, job: &SharedJob, wish: Wish) -> Self {
        match wish {
            Wish::Cancel => Self::new(job, timer.cancel(), |_| Shown::Nothing, Some("has not ended")),
            Wish::Shutdown(grace) => Self::new(job, timer.shutdown(grace), Shown::How, Some("has not ended")),
            Wish::Trigger => Self::new(job, timer.trigger(), Shown::Value, Some("has delivered nothing")),
            Wish::Join => Self::new(job, timer.join(), Shown::Value, Some("has delivered nothing")),
            Wish::End => Self::new(job, timer.wait(), |_| Shown::Reached, None),
            Wish::Hits(total) => Self::count(job, timer.wait_hits(total)),
            Wish::MoreHits(more) => Self::count(job, timer.wait_more(more)),
        }
    }

    fn count(job: &SharedJob, hits: Pending<Delivery, Result<(), Error>>) -> Self {
        Self::new(job, hits, |()| Shown::Reached, Some("has not ticked that often"))
    }

    /// What a timer was asked for, and what its answer is shown as.
    pub(super) fn new<O>(
        job: &SharedJob,
        pending: Pending<Delivery, O>,
        show: fn(O::Value) -> Shown,
        too_late: Option<&'static str>,
    ) -> Self
    where
        O: Answer<Value: Send> + Send + 'static,
    {
        Self { request: Box::new(Waiting { pending, answer: None, show }), job: job.clone(), too_late }
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// The answer itself is one, it does not come in time, or this thread must not wait for it.
    pub(super) fn wait(mut self, py: Python<'_>, limit: Duration) -> PyResult<Py<PyAny>> {
        wait_for_all(py, slice::from_mut(&mut self), limit, true)?;
        self.result(py)
    }

    fn result(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match (self.request.answer(py), self.too_late) {
            (Some(answer), _) => answer,
            (None, Some(what)) => {
                Err(PyTimeoutError::new_err(format!("timer {} {what} in time", self.job.name)))
            }
            (None, None) => false.into_py_any(py),
        }
    }
}

/// What answers look like in Python.
pub(super) enum Shown {
    Nothing,
    Reached,
    How(Shutdown),
    Value(Arc<Delivery>),
}

impl Shown {
    fn object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Nothing => Ok(py.None()),
            Self::Reached => true.into_py_any(py),
            Self::How(how) => how.to_string().into_py_any(py),
            Self::Value(value) => Ok(object(py, &value)),
        }
    }
}

trait Request: Send {
    /// If this thread must not wait for the answer, that is the answer, unless there is one already.
    fn refuse_to_block(&mut self);

    /// Whether there is an answer.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool;

    fn has_failed(&self) -> bool;

    /// The answer, if there is one.
    fn answer(self: Box<Self>, py: Python<'_>) -> Option<PyResult<Py<PyAny>>>;
}

struct Waiting<O: Answer> {
    pending: Pending<Delivery, O>,
    answer: Option<Result<O::Value, Error>>,
    show: fn(O::Value) -> Shown,
}

impl<O> Request for Waiting<O>
where
    O: Answer<Value: Send> + Send + 'static,
{
    fn refuse_to_block(&mut self) {
        self.answer = self.pending.answer_without_waiting();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if self.answer.is_none() {
            if let Poll::Ready(answer) = Pin::new(&mut self.pending).poll(cx) {
                self.answer = Some(answer.into_result());
            }
        }
        self.answer.is_some()
    }

    fn has_failed(&self) -> bool {
        matches!(self.answer, Some(Err(_)))
    }

    fn answer(self: Box<Self>, py: Python<'_>) -> Option<PyResult<Py<PyAny>>> {
        let Self { answer, show, .. } = *self;
        answer.map(|answer| match answer {
            Ok(value) => show(value).object(py),
            Err(error) => Err(to_python(py, &error)),
        })
    }
}

/// Waits until all are answered, at most so long; in haste no longer than until one of them has failed.
fn wait_for_all(py: Python<'_>, asked: &mut [Asked], limit: Duration, haste: bool) -> PyResult<()> {
    asked.iter_mut().for_each(|asked| asked.request.refuse_to_block());
    let clocks: Vec<Clock> = asked.iter().map(|asked| asked.job.clock().clone()).collect();
    // So many have answered from the first one on.
    let mut answered = 0;
    let mut poll = |cx: &mut Context<'_>| {
        while asked.get_mut(answered).is_some_and(|asked| asked.request.poll(cx)) {
            answered += 1;
        }
        // In haste all of them have to know the waker. Otherwise who waits for a thousand is not woken by each.
        let open = &mut asked[answered..];
        if haste {
            open.iter_mut().for_each(|asked| _ = asked.request.poll(cx));
        }
        let enough = open.is_empty() || haste && asked.iter().any(|asked| asked.request.has_failed());
        if enough { Poll::Ready(()) } else { Poll::Pending }
    };
    clock::wait(py, &clocks, limit, |slice| thread::wait_for(poll_fn(&mut poll), slice))?;
    // What has been answered beside one that was waited for.
    let mut cx = Context::from_waker(Waker::noop());
    asked[answered..].iter_mut().for_each(|asked| _ = asked.request.poll(&mut cx));
    Ok(())
}

/// Requests that were made to several timers.
#[pyclass(frozen, module = "everbeat.threading", name = "_Answers")]
pub(crate) struct Answers(Mutex<Vec<Asked>>);

#[pymethods]
impl Answers {
    /// Waits for all of them, and returns what they are, in order; or raises the first failure. With
    /// `return_exceptions` a failure is an answer as well.
    #[pyo3(signature = (timeout = None, return_exceptions = false))]
    fn wait(
        &self,
        py: Python<'_>,
        timeout: Option<&Bound<'_, PyAny>>,
        return_exceptions: bool,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let limit = clock::limit(timeout)?;
        let mut asked = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        wait_for_all(py, &mut asked, limit, !return_exceptions)?;
        if return_exceptions {
            let shown =
                |result: PyResult<Py<PyAny>>| result.or_else(|error| error.into_value(py).into_py_any(py));
            return asked.into_iter().map(|asked| shown(asked.result(py))).collect();
        }
        // Who has not answered is not too late if another has failed.
        if let Some(failed) = asked.iter().position(|asked| asked.request.has_failed()) {
            asked.swap(0, failed);
        }
        asked.into_iter().map(|asked| asked.result(py)).collect()
    }
}

/// Asks several timers at once.
#[pyfunction(name = "_ask_all")]
#[pyo3(signature = (timers, request, *, grace = None, hit_count = None, hits = None))]
pub(crate) fn ask_all(
    timers: Vec<Py<Timer>>,
    request: &Bound<'_, PyAny>,
    grace: Option<&Bound<'_, PyAny>>,
    hit_count: Option<&Bound<'_, PyAny>>,
    hits: Option<&Bound<'_, PyAny>>,
) -> PyResult<Answers> {
    let py = request.py();
    let wish = match one_of("request", request, &["cancel", "trigger", "join", "wait"])? {
        "cancel" => grace.map_or(Ok(Wish::Cancel), Wish::shutdown)?,
        "trigger" => Wish::Trigger,
        "join" => Wish::Join,
        _ => Wish::wait(py, hit_count, hits)?,
    };
    let asked: PyResult<Vec<_>> = timers.into_iter().map(|timer| timer.get().ask(py, wish)).collect();
    Ok(Answers(Mutex::new(asked?)))
}
