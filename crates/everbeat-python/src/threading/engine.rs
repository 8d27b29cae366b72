//! Engines, and the end of all of them at exit.
//!
//! # Locks
//!
//! [`ROLL`] and [`DEFAULT`] are locked only by threads that are attached to the interpreter, and nothing is
//! called or dropped under them. So nobody holds them at a fork, which is made by such a thread too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use everbeat::thread::{self, EngineStats as Figures, Precision};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple};

use super::clock;
use super::clock::Clock;
use super::oneshot::OneShot;
use super::process::{Native, begin_exit};
use super::timer::Timer;
use crate::blocking::in_slices;
use crate::config::{one_of, wrong_type};
use crate::errors::schedule;
use crate::stats::Summary;

/// How many workers an engine has at most unless it is told: they wait for others most of the time.
const WORKERS: usize = 32;

/// All engines that exist.
static ROLL: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// The engine of timers without one of their own.
static DEFAULT: Mutex<Option<Py<Engine>>> = Mutex::new(None);

struct Entry {
    number: u64,
    engine: Native<thread::Engine>,
}

/// An engine that is on the roll. Its timers hold it, so it is there for as long as any of them.
struct Enrolled {
    number: u64,
    engine: thread::Engine,
}

impl Enrolled {
    fn new(engine: thread::Engine) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        lock(&ROLL).push(Entry { number, engine: Native::new(engine.clone()) });
        Self { number, engine }
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        let entry = {
            let mut roll = lock(&ROLL);
            let place = roll.iter().position(|entry| entry.number == self.number);
            place.map(|place| roll.swap_remove(place))
        };
        drop(entry);
    }
}

/// Keeps the time of any number of timers with one thread, and runs them on a few workers.
#[pyclass(frozen, weakref, subclass, module = "everbeat.threading")]
pub(crate) struct Engine {
    native: Native<Enrolled>,
    clock: Clock,
}

impl Engine {
    pub(super) fn native(&self, py: Python<'_>) -> PyResult<&thread::Engine> {
        self.native.here(py, "engine").map(|enrolled| &enrolled.engine)
    }

    /// The given one, or that of everybody.
    pub(super) fn or_default(py: Python<'_>, given: Option<Py<Self>>) -> PyResult<Py<Self>> {
        given.map_or_else(|| Self::default_one(py), Ok)
    }

    fn default_one(py: Python<'_>) -> PyResult<Py<Self>> {
        if let Some(known) = Self::known_default(py) {
            return Ok(known);
        }
        let fresh = Self::build(py, "default", Precision::Coarse, WORKERS)?;
        let mut place = lock(&DEFAULT);
        if let Some(known) = place.as_ref().filter(|engine| engine.get().is_usable()) {
            return Ok(known.clone_ref(py)); // somebody was quicker
        }
        let replaced = place.replace(fresh.clone_ref(py));
        drop(place);
        drop(replaced);
        Ok(fresh)
    }

    fn known_default(py: Python<'_>) -> Option<Py<Self>> {
        let place = lock(&DEFAULT);
        place.as_ref().filter(|engine| engine.get().is_usable()).map(|engine| engine.clone_ref(py))
    }

    /// Makes it that of everybody; returns the one before.
    pub(super) fn replace_default(engine: Option<Py<Self>>) -> Option<Py<Self>> {
        std::mem::replace(&mut *lock(&DEFAULT), engine)
    }

    /// Whether it belongs to this process.
    fn is_usable(&self) -> bool {
        self.native.get().is_some()
    }

    fn build(py: Python<'_>, name: &str, precision: Precision, workers: usize) -> PyResult<Py<Self>> {
        let engine = thread::Engine::builder().name(name).precision(precision).workers(workers);
        Py::new(py, Self::of(engine.around_threads(live_in_python).build(), Clock::default()))
    }

    pub(super) fn of(engine: thread::Engine, clock: Clock) -> Self {
        Self { native: Native::new(Enrolled::new(engine)), clock }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(
        signature = (*, name = "timers", precision = None, workers = None),
        text_signature = "(*, name='timers', precision='coarse', workers=32)"
    )]
    fn new(
        py: Python<'_>,
        name: &str,
        precision: Option<&Bound<'_, PyAny>>,
        workers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Self>> {
        let precision = precision.map_or(Ok(Precision::Coarse), parse_precision)?;
        let workers = workers.map_or(Ok(WORKERS), parse_workers)?;
        Self::build(py, name, precision, workers)
    }

    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<String> {
        self.native(py).map(|engine| engine.name().to_owned())
    }

    #[getter]
    fn precision(&self, py: Python<'_>) -> PyResult<&'static str> {
        self.native(py).map(|engine| precision_name(engine.precision()))
    }

    /// A `Timer` on this engine.
    #[pyo3(signature = (delay, target, **options))]
    fn every<'py>(
        slf: &Bound<'py, Self>,
        delay: &Bound<'py, PyAny>,
        target: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let options = options.map_or_else(|| Ok(PyDict::new(py)), PyDictMethods::copy)?;
        options.set_item("engine", slf)?;
        py.get_type::<Timer>().call((delay, target), Some(&options))
    }

    /// Calls `fn(*args, **kwargs)` once, after `delay`, on this engine.
    #[pyo3(signature = (delay, r#fn, /, *args, **kwargs))]
    fn after(
        slf: &Bound<'_, Self>,
        delay: &Bound<'_, PyAny>,
        r#fn: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<OneShot>> {
        OneShot::start(slf.clone().unbind(), None, delay, r#fn, args, kwargs)
    }

    /// Ends all its timers, refuses new ones, and waits for runs in flight. Returns how many are left.
    #[pyo3(signature = (timeout = None))]
    fn close(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
        let (engine, limit) = (self.native(py)?, clock::limit(timeout)?);
        let mut left = 0;
        let closed = in_slices(py, limit, |slice| {
            let start = Instant::now();
            left = engine.close(slice);
            // Its own threads do not wait for it.
            (left == 0 || start.elapsed() < slice).then_some(left)
        })?;
        Ok(closed.unwrap_or(left))
    }

    /// What all its timers together have done so far.
    fn stats(&self, py: Python<'_>) -> PyResult<EngineStats> {
        EngineStats::of(py, &self.native(py)?.stats())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py, None).map(drop)
    }

    fn __repr__(&self) -> String {
        match self.native.get() {
            Some(Enrolled { engine, .. }) => {
                let precision = precision_name(engine.precision());
                format!(
                    "<Engine {:?} precision={precision:?}, {} timers>",
                    engine.name(),
                    engine.stats().timers
                )
            }
            None => "<Engine of another process>".to_owned(),
        }
    }
}

/// What an engine has done so far: a snapshot.
#[pyclass(frozen, get_all, module = "everbeat.threading")]
pub(crate) struct EngineStats {
    timers: usize,
    workers: usize,
    idle_workers: usize,
    turns: u64,
    queued: u64,
    wakeups: u64,
    lateness: Py<Summary>,
}

impl EngineStats {
    fn of(py: Python<'_>, figures: &Figures) -> PyResult<Self> {
        let Figures { timers, workers, idle_workers, turns, queued, wakeups, .. } = *figures;
        let lateness = Py::new(py, Summary::of(&figures.lateness))?;
        Ok(Self { timers, workers, idle_workers, turns, queued, wakeups, lateness })
    }
}

#[pymethods]
impl EngineStats {
    fn __repr__(&self) -> String {
        let Self { timers, workers, turns, queued, .. } = self;
        format!("EngineStats(timers={timers}, workers={workers}, turns={turns}, queued={queued})")
    }
}

/// For the exit of the interpreter: no run begins from here on, all timers end, and runs in flight have this
/// many seconds to come to their end. Tells whether all did.
#[pyfunction(name = "_end_all_timers")]
pub(crate) fn end_all_timers(py: Python<'_>, seconds: f64) -> bool {
    begin_exit();
    let engines: Vec<_> = lock(&ROLL).iter().filter_map(|entry| entry.engine.get().cloned()).collect();
    py.detach(|| {
        engines.iter().for_each(|engine| _ = engine.close(Duration::ZERO));
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let left = engines.iter().map(|engine| engine.close(end.saturating_duration_since(Instant::now())));
        left.sum::<usize>() == 0
    })
}

/// The interpreter makes something for each thread that it does not know, a stack among others: once for the
/// life of a thread, not for each run.
fn live_in_python(life: &mut (dyn FnMut() + Send)) {
    Python::try_attach(|py| py.detach(life));
}

fn parse_precision(given: &Bound<'_, PyAny>) -> PyResult<Precision> {
    Ok(match one_of("precision", given, &["coarse", "fine", "spin"])? {
        "fine" => Precision::Fine,
        "spin" => Precision::Spin,
        _ => Precision::Coarse,
    })
}

fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::Fine => "fine",
        Precision::Spin => "spin",
        _ => "coarse",
    }
}

fn parse_workers(given: &Bound<'_, PyAny>) -> PyResult<usize> {
    let refused =
        || schedule(given.py(), format!("workers must be a whole number from 0 to 1024, got {given}"));
    if given.is_instance_of::<PyBool>() || given.getattr("__index__").is_err() {
        return Err(wrong_type("workers", "a whole number", given));
    }
    given.extract().ok().filter(|workers| *workers <= 1024).ok_or_else(refused)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
