//! What a Python timer is: how it was described, and where it has been.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::calls::{end_of, timed_out};
use super::place::Place;
use crate::conditions::Conditions;
use crate::config::Config;
use crate::desk::Desk;
use crate::durations;
use crate::errors;
use crate::feed::Line;
use crate::loops;
use crate::stats::Stats;
use crate::value::{Raised, Value};

pub(crate) struct Core {
    pub(crate) target: Py<PyAny>,
    /// The target gives items, and is not called.
    pub(crate) is_source: bool,
    pub(crate) offload: bool,
    pub(super) fine: bool,
    pub(super) was_started: AtomicBool,
    /// Most timers have none of these.
    pub(super) others: Option<Box<Others>>,
    /// The name that was given.
    pub(super) name: Option<Py<PyString>>,
    pub(super) config: Config,
    pub(super) inner: Mutex<Inner>,
}

/// What is called or waited for besides the target.
pub(super) struct Others {
    pub(super) exc_cb: Option<Py<PyAny>>,
    pub(super) cancel_cb: Option<Py<PyAny>>,
    pub(super) conditions: Option<Conditions>,
}

#[derive(Default)]
pub(super) struct Inner {
    place: Option<Arc<Place>>,
    /// Most timers have nothing there.
    aside: Option<Box<Aside>>,
}

/// What is not of the place where the timer is.
#[derive(Default)]
pub(super) struct Aside {
    /// A period that was set before the timer was bound to a loop.
    period: Option<Duration>,
    /// Feeds that wait for the next start.
    feeds: Vec<Weak<Line>>,
    /// A clock of its own, for tests.
    clock: Option<Py<PyAny>>,
    earlier: Earlier,
}

/// What the library does not count where the timer is now: what was before it moved there, and how many steps of
/// its task have held the loop for too long.
#[derive(Clone, Default)]
pub(super) struct Earlier {
    pub(super) hits: u64,
    runs: u64,
    failures: u64,
    blocked: u64,
    result: Option<Arc<Value>>,
    tick: Option<f64>,
}

impl Inner {
    fn aside(&mut self) -> &mut Aside {
        self.aside.get_or_insert_default()
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Held for a few instructions in which nothing can panic, so a poisoned one is as good as any.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn place(&self) -> Option<Arc<Place>> {
        self.lock().place.clone()
    }

    /// The same, for a call from Python.
    ///
    /// # Errors
    /// `TimerError` in a child of the process where it was started.
    pub(super) fn place_here(&self, py: Python<'_>) -> PyResult<Option<Arc<Place>>> {
        let place = self.place();
        place.iter().try_for_each(|place| place.desk.check_process(py))?;
        Ok(place)
    }

    /// The place, and what was before it.
    fn place_and_earlier(&self) -> (Option<Arc<Place>>, Earlier) {
        let inner = self.lock();
        let earlier = inner.aside.as_ref().map(|aside| aside.earlier.clone());
        (inner.place.clone(), earlier.unwrap_or_default())
    }

    pub(super) fn exc_cb(&self) -> Option<&Py<PyAny>> {
        self.others.as_ref()?.exc_cb.as_ref()
    }

    pub(super) fn cancel_cb(&self) -> Option<&Py<PyAny>> {
        self.others.as_ref()?.cancel_cb.as_ref()
    }

    pub(super) fn conditions(&self) -> Option<&Conditions> {
        self.others.as_ref()?.conditions.as_ref()
    }

    /// What it is called in logs and errors: its name, else that of its target.
    pub(super) fn label(&self, py: Python<'_>) -> String {
        if let Some(name) = &self.name {
            return name.bind(py).to_string();
        }
        let target = self.target.bind(py);
        let named = target
            .getattr(intern!(py, "__qualname__"))
            .or_else(|_| target.get_type().qualname().map(Bound::into_any));
        named.map_or_else(|_| "unnamed".into(), |name| name.to_string())
    }

    pub(super) fn not_running(&self, py: Python<'_>) -> PyErr {
        errors::not_running(py, format!("timer `{}` is not running", self.label(py)))
    }
}

/// Figures.
impl Core {
    pub(super) fn is_running(&self) -> bool {
        self.place().is_some_and(|place| place.timer().is_running())
    }

    pub(super) fn period(&self) -> Duration {
        let (place, period) = {
            let inner = self.lock();
            (inner.place.clone(), inner.aside.as_ref().and_then(|aside| aside.period))
        };
        place.map_or_else(|| period.unwrap_or(self.config.period), |place| place.timer().period())
    }

    pub(super) fn earlier_runs(&self) -> u64 {
        self.lock().aside.as_ref().map_or(0, |aside| aside.earlier.runs)
    }

    pub(super) fn earlier_hits(&self) -> u64 {
        self.lock().aside.as_ref().map_or(0, |aside| aside.earlier.hits)
    }

    pub(super) fn hits(&self) -> u64 {
        let (place, earlier) = self.place_and_earlier();
        earlier.hits + place.map_or(0, |place| place.timer().hits())
    }

    pub(super) fn last_tick_at(&self) -> Option<f64> {
        let (place, earlier) = self.place_and_earlier();
        let latest =
            place.and_then(|place| place.timer().last_tick_at().map(|moment| place.desk.seconds(moment)));
        latest.or(earlier.tick)
    }

    pub(super) fn stats(&self, py: Python<'_>) -> PyResult<Stats> {
        let (place, earlier) = self.place_and_earlier();
        let Some(place) = place else {
            return Stats::unstarted(py, self.label(py), durations::seconds(self.period()));
        };
        let mut stats = Stats::of(py, &place.timer().stats(), |moment| Ok(place.desk.seconds(moment)))?;
        stats.add((earlier.runs, earlier.hits, earlier.failures, earlier.blocked));
        Ok(stats)
    }

    fn latest(&self) -> Option<Arc<Value>> {
        let (place, earlier) = self.place_and_earlier();
        place.and_then(|place| place.timer().latest()).or(earlier.result)
    }

    /// The latest value, or `None`.
    pub(super) fn latest_object(&self, py: Python<'_>) -> Py<PyAny> {
        self.latest().map_or_else(|| py.None(), |value| value.object(py))
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.target)?;
        visit.call(self.exc_cb())?;
        visit.call(&self.name)?;
        visit.call(self.cancel_cb())?;
        self.traverse_latest(visit)?;
        self.conditions().map_or(Ok(()), |conditions| conditions.traverse(visit))
    }

    /// Values may refer to their timer. One that somebody else holds too is theirs to report.
    fn traverse_latest(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(inner) = self.inner.try_lock() else { return Ok(()) };
        let latest = inner.place.as_ref().and_then(|place| place.timer().latest());
        if let Some(value) = latest.filter(|value| Arc::strong_count(value) == 2) {
            visit.call(&value.0)?;
        }
        if let Some(place) = &inner.place {
            Raised::traverse_last(place.timer(), visit)?;
        }
        match inner.aside.as_ref().and_then(|aside| aside.earlier.result.as_ref()) {
            Some(value) if Arc::strong_count(value) == 1 => visit.call(&value.0),
            _ => Ok(()),
        }
    }
}

/// From loop to loop.
impl Core {
    /// The timer in the running loop. One that comes from another loop goes on counting where it was.
    pub(super) fn bind(&self, py: Python<'_>) -> PyResult<Arc<Place>> {
        let desk = self.desk(py)?;
        let before = self.place();
        if let Some(place) = before.as_ref().filter(|place| Arc::ptr_eq(&place.desk, &desk)) {
            return Ok(place.clone());
        }
        let place = self.build(py, desk)?;
        let earlier = before.as_ref().map(|before| self.earlier_by(before));
        let replaced = {
            let mut inner = self.lock();
            if let Some(earlier) = earlier {
                inner.aside().earlier = earlier;
            }
            inner.place.replace(place.clone())
        };
        drop(replaced);
        Ok(place)
    }

    /// What was before the place that follows this one.
    fn earlier_by(&self, place: &Place) -> Earlier {
        let (_, earlier) = self.place_and_earlier();
        let (timer, figures) = (place.timer(), place.timer().stats());
        Earlier {
            hits: self.hits(),
            runs: earlier.runs + figures.runs,
            failures: earlier.failures + figures.failures,
            blocked: earlier.blocked + figures.blocked,
            result: self.latest(),
            tick: timer.last_tick_at().map(|moment| place.desk.seconds(moment)),
        }
    }

    /// Where it lives from the next start on.
    fn desk(&self, py: Python<'_>) -> PyResult<Arc<Desk>> {
        let clock = {
            let inner = self.lock();
            let clock = inner.aside.as_ref().and_then(|aside| aside.clock.as_ref());
            clock.map(|clock| clock.clone_ref(py))
        };
        let desk = loops::for_timers(py, clock)?;
        if self.fine && !desk.is_for_tests() { loops::fine(py) } else { Ok(desk) }
    }

    fn build(&self, py: Python<'_>, desk: Arc<Desk>) -> PyResult<Arc<Place>> {
        let (period, label, engine) = (self.period(), self.label(py), desk.engine().clone());
        desk.expect_period(period);
        Place::build(py, desk, |place| {
            let mut builder = self.config.apply(engine.every(period)).inline().name(&label);
            if self.cancel_cb().is_some() {
                let place = place.clone();
                builder = builder.on_end(move |_| end_of(&place));
            }
            if self.config.rare.as_ref().is_some_and(|rare| rare.run_timeout.is_some()) {
                let place = place.clone();
                builder = builder.on_failure(move |failure| timed_out(&place, failure));
            }
            builder
        })
    }

    /// Connects a timer that was started with everything that belongs to it.
    pub(super) fn attach(&self, py: Python<'_>, place: &Arc<Place>) -> PyResult<()> {
        let feeds = self.note_start();
        for line in feeds.iter().filter_map(Weak::upgrade) {
            line.open(place.timer())?;
        }
        match self.conditions() {
            Some(conditions) => conditions.watch(py, place.desk.event_loop(py), place),
            None => Ok(()),
        }
    }

    fn note_start(&self) -> Vec<Weak<Line>> {
        self.was_started.store(true, Ordering::Relaxed);
        let mut inner = self.lock();
        inner.aside.as_mut().map(|aside| std::mem::take(&mut aside.feeds)).unwrap_or_default()
    }

    pub(super) fn count_blocked(&self) {
        self.lock().aside().earlier.blocked += 1;
    }

    /// A feed to be opened by the next start.
    pub(super) fn keep_feed(&self, line: &Arc<Line>) {
        self.lock().aside().feeds.push(Arc::downgrade(line));
    }

    /// Notes a period for the first start; the place of the timer, if it has one.
    pub(super) fn expect_period(&self, period: Duration) -> Option<Arc<Place>> {
        let mut inner = self.lock();
        if inner.place.is_none() {
            inner.aside().period = Some(period);
        }
        inner.place.clone()
    }

    /// Lives by this clock from the next start on. Returns the one before.
    pub(super) fn use_clock(&self, clock: Py<PyAny>) -> Option<Py<PyAny>> {
        self.lock().aside().clock.replace(clock)
    }
}

// Each timer has one, with two counts and a word of the allocator on top.
const _: () = assert!(size_of::<Core>() <= 104);
