//! Every tick for one consumer.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use everbeat::{Feed, Name, thread};
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::clock::Clock;
use super::job::Delivery;
use super::process::Native;
use super::{clock, object};
use crate::config::count;
use crate::errors::{failure_to_python, stopped, to_python};
use crate::feed::Order;

/// Every tick of a timer from the moment of the subscription on.
#[pyclass(frozen, weakref, generic, module = "everbeat.threading")]
pub(crate) struct Subscription {
    native: Native<Shared>,
}

struct Shared {
    feed: Feed<Delivery>,
    timer: Name,
    name: Option<String>,
    clock: Clock,
}

impl Subscription {
    pub(super) fn open(timer: &everbeat::Timer<Delivery>, clock: &Clock, order: Order) -> PyResult<Self> {
        let feed = order.open(timer)?;
        let (timer, clock) = (timer.name().clone(), clock.clone());
        Ok(Self { native: Native::new(Shared { feed, timer, name: order.name, clock }) })
    }

    fn native(&self, py: Python<'_>) -> PyResult<&Shared> {
        self.native.here(py, "subscription")
    }

    /// The next value; `None` at the end.
    fn next(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
        let (shared, limit) = (self.native(py)?, clock::limit(timeout)?);
        let next = match shared.feed.may_block() {
            Ok(()) => shared
                .clock
                .wait(py, limit, |slice| thread::wait_for(poll_fn(|cx| shared.feed.poll_value(cx)), slice))?,
            // What is there, or the end, needs no wait.
            Err(refused) => match shared.feed.poll_value(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(next) => Some(next),
                Poll::Pending => return Err(to_python(py, &refused)),
            },
        };
        match next {
            Some(None) => Ok(None),
            Some(Some(Ok(value))) => Ok(Some(object(py, &value))),
            Some(Some(Err(failure))) => Err(failure_to_python(py, &failure)),
            None => {
                Err(PyTimeoutError::new_err(format!("no tick of timer {} has come in time", shared.timer)))
            }
        }
    }
}

#[pymethods]
impl Subscription {
    /// The next value.
    #[pyo3(signature = (timeout = None))]
    fn get(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let over = || stopped(py, "the subscription has ended");
        self.next(py, timeout)?.ok_or_else(over)
    }

    /// The name that it was given.
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.native(py).map(|shared| shared.name.clone())
    }

    /// How many values wait to be read.
    #[getter]
    fn qsize(&self, py: Python<'_>) -> PyResult<usize> {
        self.native(py).map(|shared| shared.feed.len())
    }

    /// How many values were lost.
    #[getter]
    fn dropped_count(&self, py: Python<'_>) -> PyResult<u64> {
        self.native(py).map(|shared| shared.feed.dropped_count())
    }

    /// Drops up to `n` of the oldest values.
    #[pyo3(signature = (n = None), text_signature = "($self, n=1)")]
    fn drop_oldest(&self, py: Python<'_>, n: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
        let most = n.map_or(Ok(1), |n| count("n", n, 0))?;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let shared = self.native(py)?;
        Ok(shared.feed.drop_oldest(most))
    }

    /// Ends it: no more values arrive.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.native(py).map(|shared| shared.feed.close())
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.qsize(py)
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.next(py, None)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        match self.native.get() {
            Some(Shared { feed, timer, name, .. }) => {
                let name = name.as_ref().map_or_else(String::new, |name| format!(" name={name:?}"));
                format!(
                    "<Subscription to {timer}{name} qsize={} dropped={}>",
                    feed.len(),
                    feed.dropped_count()
                )
            }
            None => "<Subscription of another process>".to_owned(),
        }
    }
}
