//! Timers with everything that there is.

use std::sync::Arc;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::asked::{Asked, Wish};
use super::callbacks::{self, Callbacks};
use super::engine::Engine;
use super::job::{Delivery, Job, SharedJob, check_not_exiting};
use super::options::{Schedule, builder};
use super::process::Native;
use super::scope::{Scope, Tie};
use super::subscription::Subscription;
use super::targets;
use super::{clock, object, traverse_latest};
use crate::config::{self, Limits, parse_on_error};
use crate::durations;
use crate::errors::{is_not_running, to_python};
use crate::feed::Order;
use crate::stats::Stats;
use crate::value::Attached;

type Inner = everbeat::Timer<Delivery>;

/// A recurring timer on threads.
#[pyclass(frozen, weakref, generic, module = "everbeat.threading")]
pub(crate) struct Timer {
    native: Native<Inner>,
    job: SharedJob,
    callbacks: Option<Arc<Attached<Callbacks>>>,
    tie: Tie,
}

impl Timer {
    fn native(&self, py: Python<'_>) -> PyResult<&Inner> {
        self.native.here(py, "timer")
    }

    /// Its scope owns it no longer.
    pub(super) fn forget(&self) {
        self.tie.forget();
    }

    pub(super) fn is_over(&self) -> bool {
        self.native.get().is_none_or(|native| !native.is_running())
    }

    fn let_go(&self) {
        self.job.clear();
        if let Some(callbacks) = &self.callbacks {
            callbacks.clear();
        }
    }

    /// Makes a request.
    pub(super) fn ask(&self, py: Python<'_>, wish: Wish) -> PyResult<Asked> {
        Ok(Asked::of(self.native(py)?, &self.job, wish))
    }

    /// Makes a request and waits for the answer.
    fn answer(&self, py: Python<'_>, wish: Wish, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let limit = clock::limit(timeout)?;
        self.ask(py, wish)?.wait(py, limit)
    }
}

#[pymethods]
impl Timer {
    #[new]
    #[pyo3(signature = (
        delay, target, exc_cb = None, cancel_cb = None, start = None, *, mode = None, initial_delay = None,
        jitter = None, seed = None, name = None, on_error = None, missed = None, run_timeout = None,
        max_runs = None, run_for = None, max_lateness = None, keep_phase = None, inline = None, engine = None, scope = None,
    ), text_signature = "(delay, target, exc_cb=None, cancel_cb=None, start=False, *, mode='fixed_delay', \
        initial_delay=None, jitter=0.0, seed=None, name=None, on_error='stop', missed='skip', \
        run_timeout=None, max_runs=None, run_for=None, max_lateness=None, keep_phase=False, inline=False, engine=None, \
        scope=None)")]
    #[allow(clippy::too_many_arguments)] // they are keywords in Python
    fn new<'py>(
        delay: &Bound<'py, PyAny>,
        target: &Bound<'py, PyAny>,
        exc_cb: Option<&Bound<'py, PyAny>>,
        cancel_cb: Option<&Bound<'py, PyAny>>,
        start: Option<&Bound<'py, PyAny>>,
        mode: Option<&Bound<'py, PyAny>>,
        initial_delay: Option<&Bound<'py, PyAny>>,
        jitter: Option<&Bound<'py, PyAny>>,
        seed: Option<&Bound<'py, PyAny>>,
        name: Option<&Bound<'py, PyAny>>,
        on_error: Option<&Bound<'py, PyAny>>,
        missed: Option<&Bound<'py, PyAny>>,
        run_timeout: Option<&Bound<'py, PyAny>>,
        max_runs: Option<&Bound<'py, PyAny>>,
        run_for: Option<&Bound<'py, PyAny>>,
        max_lateness: Option<&Bound<'py, PyAny>>,
        keep_phase: Option<&Bound<'py, PyAny>>,
        inline: Option<&Bound<'py, PyAny>>,
        engine: Option<Py<Engine>>,
        scope: Option<&Bound<'py, Scope>>,
    ) -> PyResult<Py<Self>> {
        let py = delay.py();
        let start = config::flag("start", start)?;
        let engine = Engine::or_default(py, engine)?;
        let native = engine.get().native(py)?.clone();
        let limits = Limits { seed, missed, max_runs, run_for, max_lateness, keep_phase };
        let mut config = Schedule { delay, mode, initial_delay, jitter, limits }.parse()?;
        config.rare().histograms = true;
        if let Some(policy) = on_error {
            config.rare().on_error = parse_on_error(policy)?;
        }
        if let Some(limit) = run_timeout {
            config.rare().run_timeout = Some(durations::parse_nonzero("run_timeout", limit)?);
        }
        let mut builder = builder(&native, &config);

        let mut job = Job::of_target(engine, target)?;
        if let Some(name) = config::text("name", name)? {
            job.name = name.clone().unbind();
        }
        builder = builder.name(&job.name.bind(py).to_string_lossy());
        if config::flag("inline", inline)? {
            builder = builder.inline();
        }
        // A run over its limit has failed as well: with one, that is known only after the run.
        job.reports = exc_cb.is_none() && run_timeout.is_none();
        let callbacks = Callbacks::new(exc_cb, cancel_cb)?;
        job.calls_back = callbacks.is_some();
        let job = job.share();
        builder = callbacks::attach(builder, callbacks.as_ref(), &job);
        if let Some(scope) = scope {
            builder = builder.tied_to(scope.get().native(py)?);
        }
        let timer =
            builder.build(targets::called_or_iterated(job.clone())).map_err(|error| to_python(py, &error))?;
        if scope.is_none() {
            timer.clone().detach(); // it runs until it ends, held or not
        }
        let tie = Tie::new(scope.is_some());
        let timer = Py::new(py, Self { native: Native::new(timer), job, callbacks, tie })?;
        if let Some(scope) = scope {
            scope.get().own_timer(timer.clone_ref(py));
        }
        if start {
            Self::start(timer.bind(py))?;
        }
        Ok(timer)
    }

    /// Starts it.
    pub(super) fn start(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        check_not_exiting(py)?;
        let native = this.native(py)?;
        this.job.hold(slf);
        py.detach(|| native.start()).map_err(|error| {
            this.job.release();
            to_python(py, &error)
        })
    }

    /// Stops it. Once this has returned nothing runs.
    #[pyo3(signature = (timeout = None))]
    fn cancel(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.answer(py, Wish::Cancel, timeout).map(drop)
    }

    /// The same as `cancel`.
    #[pyo3(signature = (timeout = None))]
    fn stop(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.cancel(py, timeout)
    }

    /// Starts no other run, and waits for the current one.
    #[pyo3(signature = (grace, timeout = None))]
    fn shutdown(
        &self,
        py: Python<'_>,
        grace: &Bound<'_, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.answer(py, Wish::shutdown(grace)?, timeout)
    }

    /// Suspends the schedule.
    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        self.native(py).map(Inner::pause)
    }

    /// Takes the schedule up again.
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.native(py).map(Inner::resume)
    }

    /// Asks for a run now and returns its value.
    #[pyo3(signature = (timeout = None))]
    fn trigger(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        self.answer(py, Wish::Trigger, timeout)
    }

    /// Another delay, from the next wait on; with `rearm` for the wait in progress too.
    #[pyo3(signature = (delay, rearm = false))]
    fn set_delay(&self, delay: &Bound<'_, PyAny>, rearm: bool) -> PyResult<()> {
        let native = self.native(delay.py())?;
        let period = durations::parse("delay", delay)?;
        if rearm {
            native.rearm(period);
        } else {
            native.set_period(period);
        }
        Ok(())
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        Self::start(slf)?;
        Ok(slf.clone())
    }

    fn __iter__(slf: Py<Self>) -> Values {
        Values(slf)
    }

    #[pyo3(signature = (*_exc_info))]
    fn __exit__(&self, py: Python<'_>, _exc_info: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.cancel(py, None)
    }

    /// Waits for the next run to end and returns its value.
    #[pyo3(signature = (timeout = None))]
    fn join(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        self.answer(py, Wish::Join, timeout)
    }

    /// Waits for a count of ticks, or for the end.
    #[pyo3(signature = (hit_count = None, *, hits = None, timeout = None))]
    fn wait(
        &self,
        py: Python<'_>,
        hit_count: Option<&Bound<'_, PyAny>>,
        hits: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.answer(py, Wish::wait(py, hit_count, hits)?, timeout)
    }

    /// Every tick from now on, in a buffer of its own.
    #[pyo3(
        signature = (maxsize = None, *, name = None, overflow = None),
        text_signature = "($self, maxsize=0, *, name=None, overflow='drop_oldest')",
    )]
    fn subscribe(
        &self,
        py: Python<'_>,
        maxsize: Option<&Bound<'_, PyAny>>,
        name: Option<&Bound<'_, PyAny>>,
        overflow: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Subscription> {
        let order = Order::parse(maxsize, name, overflow)?;
        Subscription::open(self.native(py)?, self.job.clock(), order)
    }

    /// How many values it has delivered.
    #[getter]
    fn hit_count(&self, py: Python<'_>) -> PyResult<u64> {
        self.native(py).map(Inner::hits)
    }

    /// The newest value; `None` before the first.
    #[getter]
    fn last_result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.native(py)?.latest().map_or_else(|| py.None(), |value| object(py, &value)))
    }

    /// When the newest value was delivered, on the clock of the engine.
    #[getter]
    fn last_tick_at(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        self.native(py)?.last_tick_at().map(|moment| self.job.clock().seconds(py, moment)).transpose()
    }

    /// The period in force, in seconds.
    #[getter]
    fn delay(&self, py: Python<'_>) -> PyResult<f64> {
        self.native(py).map(|native| durations::seconds(native.period()))
    }

    /// What it is called.
    #[getter]
    fn name(&self, py: Python<'_>) -> Py<PyString> {
        self.job.name.clone_ref(py)
    }

    /// Whether it was started and has not ended.
    fn is_running(&self, py: Python<'_>) -> PyResult<bool> {
        self.native(py).map(Inner::is_running)
    }

    /// Whether it is paused.
    fn is_paused(&self, py: Python<'_>) -> PyResult<bool> {
        self.native(py).map(Inner::is_paused)
    }

    /// Everything that is counted and measured.
    fn stats(&self, py: Python<'_>) -> PyResult<Stats> {
        Stats::of(py, &self.native(py)?.stats(), |moment| self.job.clock().seconds(py, moment))
    }

    fn __repr__(&self) -> String {
        let Some(native) = self.native.get() else {
            return format!("<Timer {} of another process>", self.job.name);
        };
        let state = if native.is_running() { "running" } else { "stopped" };
        let (delay, hits) = (durations::seconds(native.period()), native.hits());
        format!("<Timer {} delay={delay} hits={hits} {state}>", self.job.name)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(native) = self.native.get().filter(|native| self.tie.is_owned() || !native.is_running())
        else {
            return Ok(());
        };
        traverse_latest(native, &visit)?;
        if let Some(callbacks) = &self.callbacks {
            callbacks.traverse(&visit)?;
        }
        self.job.traverse(&visit)
    }

    fn __clear__(&self) {
        self.let_go();
    }
}

impl Drop for Timer {
    /// The scope may know the timer for longer, and nobody would see what it refers to.
    fn drop(&mut self) {
        if self.tie.is_made() {
            self.let_go();
        }
    }
}

/// The values of a timer as they come: who is busy misses some.
#[pyclass(frozen, module = "everbeat.threading", name = "_Values")]
pub(crate) struct Values(Py<Timer>);

#[pymethods]
impl Values {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.0.get().answer(py, Wish::Join, None) {
            Err(error) if is_not_running(py, &error) => Ok(None), // it has ended
            value => value.map(Some),
        }
    }

    #[allow(clippy::needless_pass_by_value)] // the protocol's signature
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}
