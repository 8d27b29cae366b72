//! Timers that belong to something with an end.
//!
//! The timers of a scope live no longer than the scope, so they are its own, running or not: the collector
//! is shown all that they refer to. A session whose methods are called by the timers of its scope can
//! be forgotten like any other object; the timers end with it.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::engine::Engine;
use super::oneshot::OneShot;
use super::periodic::PeriodicTask;
use super::process::Native;
use super::timer::Timer;
use crate::durations;

/// How long a close waits for runs in flight unless it is told.
const GRACE: Duration = Duration::from_secs(5);

/// A list shorter than this is not worth a sweep.
const SMALLEST_SWEEP: usize = 32;

/// Owns timers, and ends them when it is closed or forgotten.
#[pyclass(frozen, weakref, module = "everbeat.threading")]
pub(crate) struct Scope {
    native: Native<everbeat::Scope>,
    /// Locked as a job is.
    members: Mutex<Members>,
}

/// Whether a timer is tied to a scope, as its Python object knows.
pub(super) struct Tie {
    is_made: bool,
    /// The scope owns it no longer, as it does not run. Should it be started again, it lives by itself, and still ends
    /// with the scope.
    is_forgotten: AtomicBool,
}

impl Tie {
    pub(super) fn new(is_made: bool) -> Self {
        Self { is_made, is_forgotten: AtomicBool::new(false) }
    }

    pub(super) fn is_made(&self) -> bool {
        self.is_made
    }

    /// Whether the scope owns it, which the collector knows of.
    pub(super) fn is_owned(&self) -> bool {
        self.is_made && !self.is_forgotten.load(Ordering::Relaxed)
    }

    pub(super) fn forget(&self) {
        self.is_forgotten.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Members {
    list: Vec<Member>,
    /// The length at which those that have ended are forgotten.
    next_sweep: usize,
}

impl Members {
    fn take_those_over(&mut self) -> Vec<Member> {
        let (over, list): (Vec<_>, _) = mem::take(&mut self.list).into_iter().partition(Member::is_over);
        self.list = list;
        over.iter().for_each(Member::forget);
        over
    }
}

enum Member {
    OneShot(Py<OneShot>),
    Task(Py<PeriodicTask>),
    Timer(Py<Timer>),
}

impl Member {
    fn is_over(&self) -> bool {
        match self {
            Self::OneShot(timer) => timer.get().is_over(),
            Self::Task(timer) => timer.get().is_over(),
            Self::Timer(timer) => timer.get().is_over(),
        }
    }

    fn forget(&self) {
        match self {
            Self::OneShot(timer) => timer.get().forget(),
            Self::Task(timer) => timer.get().forget(),
            Self::Timer(timer) => timer.get().forget(),
        }
    }

    fn object(&self, py: Python<'_>) -> Py<PyAny> {
        match self {
            Self::OneShot(timer) => timer.clone_ref(py).into_any(),
            Self::Task(timer) => timer.clone_ref(py).into_any(),
            Self::Timer(timer) => timer.clone_ref(py).into_any(),
        }
    }
}

impl Scope {
    pub(super) fn native(&self, py: Python<'_>) -> PyResult<&everbeat::Scope> {
        self.native.here(py, "scope")
    }

    pub(super) fn own_timer(&self, timer: Py<Timer>) {
        self.own(Member::Timer(timer));
    }

    fn own(&self, member: Member) {
        let forgotten: Vec<_> = {
            let mut members = self.lock();
            let forgotten = if members.list.len() >= members.next_sweep.max(SMALLEST_SWEEP) {
                let forgotten = members.take_those_over();
                members.next_sweep = members.list.len() * 2;
                forgotten
            } else {
                Vec::new()
            };
            members.list.push(member);
            forgotten
        };
        drop(forgotten);
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Scope {
    #[new]
    fn new() -> Self {
        Self { native: Native::new(everbeat::Scope::new()), members: Mutex::default() }
    }

    /// Calls `fn(*args, **kwargs)` once, after `delay`.
    #[pyo3(signature = (delay, r#fn, /, *args, **kwargs))]
    fn after(
        &self,
        delay: &Bound<'_, PyAny>,
        r#fn: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<OneShot>> {
        let py = delay.py();
        let engine = Engine::or_default(py, None)?;
        let timer = OneShot::start(engine, Some(self.native(py)?), delay, r#fn, args, kwargs)?;
        self.own(Member::OneShot(timer.clone_ref(py)));
        Ok(timer)
    }

    /// A `PeriodicTask`, started.
    #[pyo3(signature = (interval, func, /, *args, **kwargs))]
    fn periodic(
        &self,
        interval: &Bound<'_, PyAny>,
        func: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PeriodicTask>> {
        let py = interval.py();
        let engine = Engine::or_default(py, None)?;
        let task = PeriodicTask::build(engine, Some(self.native(py)?), interval, func, args, kwargs)?;
        let task = Py::new(py, task)?;
        self.own(Member::Task(task.clone_ref(py)));
        PeriodicTask::start(task.bind(py))?;
        Ok(task)
    }

    /// A `Timer`, started.
    #[pyo3(signature = (delay, target, **options))]
    fn timer<'py>(
        slf: &Bound<'py, Self>,
        delay: &Bound<'py, PyAny>,
        target: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let options = options.map_or_else(|| Ok(PyDict::new(py)), PyDictMethods::copy)?;
        options.set_item("scope", slf)?;
        options.set_item("start", true)?;
        py.get_type::<Timer>().call((delay, target), Some(&options))
    }

    /// The timers that run at the moment.
    fn active(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        self.native(py)?;
        let members = self.lock();
        Ok(members.list.iter().filter(|member| !member.is_over()).map(|member| member.object(py)).collect())
    }

    /// Ends all its timers, refuses new ones, and waits for runs in flight.
    #[pyo3(signature = (grace = None))]
    fn close(&self, py: Python<'_>, grace: Option<&Bound<'_, PyAny>>) -> PyResult<Closed> {
        let native = self.native(py)?;
        let grace = grace.map_or(Ok(GRACE), |grace| durations::parse("grace", grace))?;
        let closed = py.detach(|| native.close(grace));
        let ended = self.lock().take_those_over();
        drop(ended);
        let left = closed.left.iter().map(ToString::to_string).collect();
        Ok(Closed { drained: closed.drained, cancelled: closed.cancelled, left })
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        self.native(py).map(everbeat::Scope::is_closed)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py, None).map(drop)
    }

    fn __repr__(&self) -> String {
        if self.native.get().is_none() {
            return "<Scope of another process>".to_owned();
        }
        format!("<Scope of {} timers>", self.lock().list.len())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(members) = self.members.try_lock() else { return Ok(()) };
        members.list.iter().try_for_each(|member| match member {
            Member::OneShot(timer) => visit.call(timer),
            Member::Task(timer) => visit.call(timer),
            Member::Timer(timer) => visit.call(timer),
        })
    }

    fn __clear__(&self) {
        if let Some(scope) = self.native.get() {
            scope.cancel();
        }
        let members = mem::take(&mut *self.lock());
        drop(members);
    }
}

/// How the timers of a scope ended.
#[pyclass(frozen, get_all, module = "everbeat.threading")]
#[derive(Debug)]
pub(crate) struct Closed {
    drained: usize,
    cancelled: usize,
    left: Vec<String>,
}

#[pymethods]
impl Closed {
    fn __repr__(&self) -> String {
        let Self { drained, cancelled, left } = self;
        format!("Closed(drained={drained}, cancelled={cancelled}, left={left:?})")
    }
}
