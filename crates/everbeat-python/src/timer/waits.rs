//! Waiting for a timer.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use everbeat::{Error, Pending, StopReason, thread};
use pyo3::prelude::*;

use super::Timer;
use super::place::Place;
use crate::answer::{Answer, Wait};
use crate::blocking::looking_up;
use crate::value::Value;
use crate::{durations, errors, loops};

impl Timer {
    pub(super) fn ask_run(
        &self,
        py: Python<'_>,
        what: &'static str,
        ask: impl FnOnce(&everbeat::Timer<Value>) -> Pending<Value, Result<Arc<Value>, Error>>,
        raise: fn(PyErr) -> PyErr,
    ) -> PyResult<Answer> {
        let core = self.core()?;
        let Some(place) = core.place_here(py)? else {
            return Ok(Answer::error(what, raise(core.not_running(py))));
        };
        let future = ask(place.timer());
        let convert = move |py: Python<'_>, answer: Option<Result<Arc<Value>, Error>>| match answer {
            Some(Ok(value)) => Ok(value.object(py)),
            Some(Err(error)) => Err(raise(errors::to_python(py, &error))),
            None => Ok(py.None()),
        };
        Ok(Answer::asking(what, None, Wait { future, convert }))
    }

    pub(super) fn end<O>(
        &self,
        py: Python<'_>,
        what: &'static str,
        ask: impl FnOnce(&everbeat::Timer<Value>) -> Pending<Value, O>,
        told: fn(O) -> Option<String>,
    ) -> PyResult<Answer>
    where
        O: From<StopReason> + Send + Sync + 'static,
    {
        let place = self.core()?.place_here(py)?;
        let ended = match place {
            Some(place) => ask(place.timer()).into_answer(),
            None => Ok(O::from(StopReason::Drained)),
        };
        let convert = move |py: Python<'_>, answer: Option<O>| {
            Ok(answer.and_then(told).into_pyobject(py)?.into_any().unbind())
        };
        match ended {
            Ok(answer) => Ok(Answer::value(what, convert(py, Some(answer))?)),
            Err(future) => Ok(Answer::asking(what, None, Wait { future, convert })),
        }
    }

    pub(super) fn wait_for_hits(
        slf: &Bound<'_, Self>,
        target: u64,
        before: u64,
        limit: Option<Duration>,
    ) -> PyResult<Answer> {
        let (core, py) = (slf.get().core()?, slf.py());
        if before >= target {
            return Ok(Answer::value("wait", py.None()));
        }
        let Some(place) = core.place_here(py)? else {
            return Ok(Answer::error("wait", core.not_running(py)));
        };
        let future = place.timer().wait_hits(target - core.earlier_hits());
        let (owner, label) = (slf.clone().unbind(), core.label(py));
        let convert = move |py: Python<'_>, answer| match answer {
            Some(Ok(())) => Ok(owner.get().core()?.latest_object(py)),
            Some(Err(error)) => Err(errors::to_python(py, &error)),
            None => Err(errors::timeout(format!("timer `{label}` did not reach hit count {target} in time"))),
        };
        Ok(Answer::asking("wait", limit, Wait { future, convert }))
    }

    pub(super) fn wait_for_end(
        slf: &Bound<'_, Self>,
        before: u64,
        limit: Option<Duration>,
    ) -> PyResult<Answer> {
        let (core, py) = (slf.get().core()?, slf.py());
        let Some(place) = core.place_here(py)? else {
            return Ok(Answer::value("wait", py.None()));
        };
        let owner = slf.clone().unbind();
        let convert = move |py: Python<'_>, answer| match answer {
            Some(Err(error @ (Error::Failed { .. } | Error::InsideRun { .. }))) => {
                Err(errors::to_python(py, &error))
            }
            // It has ended, or still runs when the time is over: neither is an error.
            _ if owner.get().core()?.hits() > before => Ok(owner.get().core()?.latest_object(py)),
            _ => Ok(py.None()),
        };
        Ok(Answer::asking("wait", limit, Wait { future: place.timer().wait(), convert }))
    }
}

/// From other threads than the loop's.
impl Timer {
    /// The timer, for a call that blocks a thread that is not its loop's.
    pub(super) fn place_seen_from_outside(&self, py: Python<'_>, alternative: &str) -> PyResult<Arc<Place>> {
        let core = self.core()?;
        let Some(place) = core.place_here(py)? else {
            let message =
                format!("timer `{}` has not been started yet: it belongs to no loop", core.label(py));
            return Err(errors::threadsafe_dispatch(py, message));
        };
        errors::check_dispatch(py, &place.desk, &format!("timer `{}`", core.label(py)), alternative)?;
        Ok(place)
    }

    pub(super) fn block<F: Future + Unpin + Send>(
        &self,
        py: Python<'_>,
        what: &str,
        mut future: F,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<F::Output>
    where
        F::Output: Send,
    {
        let limit = timeout.map(|timeout| durations::parse("timeout", timeout)).transpose()?;
        let limit = limit.unwrap_or(Duration::MAX);
        // A loop may be closed without telling anybody, and then nothing answers but what ends its timers.
        let answer = looking_up(py, limit, |slice| thread::wait_for(&mut future, slice), loops::sweep)?;
        let label = self.core()?.label(py);
        answer.ok_or_else(|| {
            errors::timeout(format!(
                "{what}: timer `{label}` did not answer within {limit:?}; what was asked stands"
            ))
        })
    }
}
