//! Feeds: every tick for one consumer, in a buffer of its own.
//!
//! The locks are held for a few instructions and never while Python code can run.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use everbeat::Feed;
use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::prelude::*;

use crate::answer::{Answer, Ask};
use crate::config::{count, one_of, text};
use crate::errors;
use crate::pause::Pause;
use crate::value::Value;

/// What was asked of a feed.
pub(crate) struct Order {
    /// How many values it may hold; `None` as many as come.
    bound: Option<usize>,
    drop_newest: bool,
    pub(crate) name: Option<String>,
}

impl Order {
    /// # Errors
    /// `TypeError` and `ScheduleError`, with the field, the value and what is allowed.
    pub(crate) fn parse(
        maxsize: Option<&Bound<'_, PyAny>>,
        name: Option<&Bound<'_, PyAny>>,
        overflow: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let overflow = overflow.map(|given| one_of("overflow", given, &["drop_oldest", "drop_newest"]));
        let drop_newest = overflow.transpose()? == Some("drop_newest");
        let size = maxsize.map_or(Ok(0), |given| count("maxsize", given, 0))?;
        let bound = usize::try_from(size).ok().filter(|size| *size > 0);
        let name = text("name", name)?.map(ToString::to_string);
        Ok(Self { bound, drop_newest: drop_newest && bound.is_some(), name })
    }

    /// A feed that sees the ticks of this timer from now on.
    pub(crate) fn open<V: Send + Sync + 'static>(&self, timer: &everbeat::Timer<V>) -> PyResult<Feed<V>> {
        let feed = self.bound.iter().fold(timer.subscribe(), |feed, bound| feed.bounded(*bound));
        let feed = if self.drop_newest { feed.drop_newest() } else { feed };
        let feed = self.name.iter().fold(feed, |feed, name| feed.name(name));
        feed.open().map_err(|error| Python::attach(|py| errors::to_python(py, &error)))
    }
}

/// A feed, which is opened when the timer runs.
pub(crate) struct Line {
    order: Order,
    feed: OnceLock<Feed<Value>>,
    /// Which may be before it is opened.
    closed: Mutex<bool>,
    readers: Arc<Readers>,
    /// Wakes the readers.
    waker: Waker,
    pause: Mutex<Option<Py<Pause>>>,
}

/// Who waits for the next value, in the order in which they came: mostly one task. All of them are woken, in that
/// order, and who finds nothing keeps its place.
#[derive(Default)]
struct Readers(Mutex<Vec<Waker>>);

impl Readers {
    fn add(&self, waker: &Waker) {
        let fresh = waker.clone();
        let unneeded = {
            let mut waiting = self.lock();
            if waiting.iter().any(|known| known.will_wake(waker)) {
                Some(fresh)
            } else {
                waiting.push(fresh);
                None
            }
        };
        drop(unneeded);
    }

    fn remove(&self, waker: &Waker) {
        let removed = {
            let mut waiting = self.lock();
            let place = waiting.iter().position(|known| known.will_wake(waker));
            place.map(|place| waiting.remove(place))
        };
        drop(removed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Readers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Nothing is allocated for the only one.
        let (first, others) = {
            let waiting = self.lock();
            (waiting.first().cloned(), waiting.get(1..).map_or_else(Vec::new, <[Waker]>::to_vec))
        };
        first.into_iter().chain(others).for_each(Waker::wake);
    }
}

impl Line {
    pub(crate) fn new(
        maxsize: Option<&Bound<'_, PyAny>>,
        name: Option<&Bound<'_, PyAny>>,
        overflow: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Arc<Self>> {
        let order = Order::parse(maxsize, name, overflow)?;
        let readers = Arc::<Readers>::default();
        let waker = Waker::from(readers.clone());
        let (feed, closed, pause) = (OnceLock::new(), Mutex::default(), Mutex::default());
        Ok(Arc::new(Self { order, feed, closed, readers, waker, pause }))
    }

    /// Sees the ticks of this timer from now on.
    pub(crate) fn open(&self, timer: &everbeat::Timer<Value>) -> PyResult<()> {
        let feed = self.order.open(timer)?;
        if let Err(second) = self.feed.set(feed) {
            drop(second); // opened before
        }
        // Only now, so that a close from another thread finds the feed, or is found here.
        let closed = *self.lock_closed();
        if let Some(feed) = self.feed.get().filter(|_| closed) {
            feed.close();
        }
        self.waker.wake_by_ref(); // whoever reads already
        Ok(())
    }

    fn close(&self) {
        *self.lock_closed() = true;
        match self.feed.get() {
            Some(feed) => feed.close(),
            None => self.waker.wake_by_ref(),
        }
    }

    /// The next value, or the readers are woken when there may be one: those who are among them before this.
    fn poll(&self, py: Python<'_>) -> Poll<PyResult<Py<PyAny>>> {
        let over = || Err(PyStopAsyncIteration::new_err(()));
        let Some(feed) = self.feed.get() else {
            return if *self.lock_closed() { Poll::Ready(over()) } else { Poll::Pending };
        };
        feed.poll_value(&mut Context::from_waker(&self.waker)).map(|item| match item {
            Some(Ok(value)) => Ok(value.object(py)),
            Some(Err(failure)) => Err(errors::failure_to_python(py, &failure)),
            None => over(),
        })
    }

    fn lock_closed(&self) -> MutexGuard<'_, bool> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the feed open as long as somebody waits.
struct NextValue {
    of: Py<Subscription>,
    /// That of the reader, if it waits.
    waker: Option<Waker>,
}

impl NextValue {
    fn line(&self) -> &Line {
        &self.of.get().line
    }

    fn leave(&mut self) {
        if let Some(waker) = self.waker.take() {
            self.line().readers.remove(&waker);
        }
    }
}

impl Ask for NextValue {
    fn poll(&mut self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        // First: a value may come from now on.
        self.line().readers.add(cx.waker());
        self.waker = Some(cx.waker().clone());
        let polled = self.line().poll(py);
        if polled.is_ready() {
            self.leave();
        }
        polled
    }

    fn look(&mut self, py: Python<'_>) -> Poll<PyResult<Py<PyAny>>> {
        self.line().poll(py)
    }

    fn kept_pause(&self) -> Option<&Mutex<Option<Py<Pause>>>> {
        Some(&self.line().pause)
    }
}

impl Drop for NextValue {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A buffered feed of the ticks of a timer.
#[pyclass(frozen, weakref, generic, module = "everbeat")]
pub(crate) struct Subscription {
    line: Arc<Line>,
}

impl Subscription {
    pub(crate) fn new(line: Arc<Line>) -> Self {
        Self { line }
    }
}

#[pymethods]
impl Subscription {
    /// A feed of no timer, which has nothing until it is closed: for code that makes one by hand.
    #[new]
    #[pyo3(
        signature = (maxsize = None, *, name = None, overflow = None),
        text_signature = "(maxsize=0, *, name=None, overflow='drop_oldest')",
    )]
    fn of_no_timer(
        maxsize: Option<&Bound<'_, PyAny>>,
        name: Option<&Bound<'_, PyAny>>,
        overflow: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Line::new(maxsize, name, overflow).map(Self::new)
    }

    /// How many values wait to be read.
    #[getter]
    fn qsize(&self) -> usize {
        self.line.feed.get().map_or(0, Feed::len)
    }

    fn __len__(&self) -> usize {
        self.qsize()
    }

    // A feed is true however many values it holds.
    #[allow(clippy::unused_self)]
    fn __bool__(&self) -> bool {
        true
    }

    #[getter]
    fn name(&self) -> Option<&str> {
        self.line.order.name.as_deref()
    }

    /// How many values this feed has lost.
    #[getter]
    fn dropped_count(&self) -> u64 {
        self.line.feed.get().map_or(0, Feed::dropped_count)
    }

    /// Drops up to `n` of the oldest values; returns how many.
    #[pyo3(signature = (n = None), text_signature = "($self, n=1)")]
    fn drop_oldest(&self, n: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
        let most = n.map_or(Ok(1), |n| count("n", n, 0))?;
        let Some(feed) = self.line.feed.get() else { return Ok(0) };
        Ok(feed.drop_oldest(usize::try_from(most).unwrap_or(usize::MAX)))
    }

    /// Ends the feed. From any thread.
    fn close(&self) {
        self.line.close();
    }

    /// As `close`.
    fn close_threadsafe(&self) {
        self.line.close();
    }

    fn __aenter__(slf: &Bound<'_, Self>) -> Answer {
        Answer::value("__aenter__", slf.clone().into_any().unbind())
    }

    #[pyo3(signature = (*_exc))]
    fn __aexit__(&self, py: Python<'_>, _exc: &Bound<'_, PyAny>) -> Answer {
        self.line.close();
        Answer::value("__aexit__", py.None())
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(slf: Py<Self>) -> Answer {
        Answer::asking("__anext__", None, NextValue { of: slf, waker: None })
    }

    fn __repr__(&self) -> String {
        let name = self.line.order.name.as_ref().map_or_else(String::new, |name| format!(" name={name:?}"));
        format!("<Subscription{name} qsize={} dropped={}>", self.qsize(), self.dropped_count())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.line.close();
        let pause = self.line.pause.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(pause);
    }
}
