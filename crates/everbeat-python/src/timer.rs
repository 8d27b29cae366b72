//! The timer of the asyncio face.

use std::fmt::Write as _;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use everbeat::{Error, Pending, Shutdown, StopReason, thread};
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::answer::{Answer, Settled, Wait};
use crate::blocking::in_slices;
use crate::conditions::Conditions;
use crate::config::{self, Config, Limits};
use crate::desk::{Desk, ends_program};
use crate::errors;
use crate::feed::{Line, Subscription};
use crate::link::{Alive, Link};
use crate::stats::{Stats, truth};
use crate::target::PyTarget;
use crate::tick::Tick;
use crate::value::{Raised, Value};
use crate::{durations, loops};

/// A recurring timer in an event loop.
#[pyclass(frozen, subclass, weakref, generic, module = "everbeat")]
pub(crate) struct Timer {
    /// Set by `__init__`, so that subclasses may have parameters of their own.
    ///
    /// The collector may come between the allocation of an object and its first field, when all its memory is
    /// zero: unlike a `OnceLock`, this then reads as "not set yet".
    core: Mutex<Option<Arc<Core>>>,
}

struct Core {
    target: Py<PyAny>,
    exc_cb: Option<Py<PyAny>>,
    cancel_cb: Option<Py<PyAny>>,
    /// The name that was given.
    name: Option<Box<str>>,
    config: Config,
    offload: bool,
    fine: bool,
    conditions: Option<Conditions>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    place: Option<Arc<Place>>,
    /// A period that was set before the timer was bound to a loop.
    period: Option<Duration>,
    /// What was delivered before it moved to the loop where it is now.
    earlier_hits: u64,
    earlier_runs: u64,
    earlier_failures: u64,
    earlier_result: Option<Arc<Value>>,
    earlier_tick: Option<f64>,
    was_started: bool,
    /// Feeds that wait for the next start.
    feeds: Vec<Weak<Line>>,
    /// A clock of its own, for tests.
    clock: Option<Py<PyAny>>,
}

/// The timer in the loop where it was started.
pub(crate) struct Place {
    pub(crate) timer: everbeat::Timer<Value>,
    link: Arc<Link>,
    desk: Arc<Desk>,
}

#[pymethods]
impl Timer {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { core: Mutex::new(None) }
    }

    #[pyo3(signature = (
        delay, target, exc_cb = None, cancel_cb = None, cancel_aws = None, start = false, *,
        mode = None, initial_delay = None, jitter = None, name = None, seed = None, on_error = None,
        missed = None, run_timeout = None, run_for = None, max_runs = None, max_lateness = None,
        keep_phase = false, offload = false, precision = None, histograms = false,
    ))]
    #[allow(clippy::too_many_arguments)] // those of the documented constructor
    fn __init__(
        slf: &Bound<'_, Self>,
        delay: &Bound<'_, PyAny>,
        target: &Bound<'_, PyAny>,
        exc_cb: Option<&Bound<'_, PyAny>>,
        cancel_cb: Option<&Bound<'_, PyAny>>,
        cancel_aws: Option<&Bound<'_, PyAny>>,
        start: bool,
        mode: Option<&Bound<'_, PyAny>>,
        initial_delay: Option<&Bound<'_, PyAny>>,
        jitter: Option<&Bound<'_, PyAny>>,
        name: Option<&str>,
        seed: Option<&Bound<'_, PyAny>>,
        on_error: Option<&Bound<'_, PyAny>>,
        missed: Option<&Bound<'_, PyAny>>,
        run_timeout: Option<&Bound<'_, PyAny>>,
        run_for: Option<&Bound<'_, PyAny>>,
        max_runs: Option<&Bound<'_, PyAny>>,
        max_lateness: Option<&Bound<'_, PyAny>>,
        keep_phase: bool,
        offload: bool,
        precision: Option<&Bound<'_, PyAny>>,
        histograms: bool,
    ) -> PyResult<()> {
        let py = slf.py();
        let mut config = Config::parse(("delay", delay), mode, initial_delay, jitter)?;
        config.limit(&Limits { seed, missed, max_runs, run_for, max_lateness, keep_phase })?;
        if let Some(policy) = on_error {
            config.rare().on_error = config::parse_on_error(policy)?;
        }
        if let Some(limit) = run_timeout {
            let parsed = durations::parse("run_timeout", limit)?;
            if parsed.is_zero() {
                return Err(errors::bad_value(py, "run_timeout", limit, "a duration longer than zero"));
            }
            config.rare().run_timeout = Some(parsed);
        }
        if histograms {
            config.rare().histograms = true;
        }
        let fine =
            precision.map(|given| config::one_of("precision", given, &["coarse", "fine"])).transpose()?;
        let core = Core {
            target: checked_target(target)?,
            exc_cb: config::parse_callback("exc_cb", exc_cb)?,
            cancel_cb: config::parse_callback("cancel_cb", cancel_cb)?,
            name: name.map(Into::into),
            config,
            offload,
            fine: fine == Some("fine"),
            conditions: Conditions::parse(cancel_aws)?,
            inner: Mutex::default(),
        };
        if slf.get().set_core(core).is_some() {
            return Err(PyTypeError::new_err("Timer.__init__() was called before"));
        }
        if start { slf.call_method0(intern!(py, "start")).map(drop) } else { Ok(()) }
    }

    /// Begins the schedule, in the loop that is running.
    fn start(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let core = slf.get().core()?;
        core.place_here(py)?;
        if core.is_running() {
            loops::sweep(py); // its loop may have been closed without having told anybody
        }
        if core.is_running() {
            return Err(errors::already_running(
                py,
                format!("timer `{}` is already running", core.label(py)),
            ));
        }
        let single_use = core.conditions.is_some();
        if single_use && core.lock().was_started {
            let message = "was built with cancel_aws, which serve for one start only: build another one";
            return Err(errors::restart(py, format!("timer `{}` {message}", core.label(py))));
        }
        let place = core.bind(py)?;
        let context = py.import(intern!(py, "contextvars"))?.call_method0(intern!(py, "copy_context"))?;
        context.call_method1(intern!(py, "run"), (set_current_timer(py)?, slf))?;
        place.link.hold(Alive { owner: slf.clone().unbind(), context: context.unbind() });
        if let Err(error) = place.timer.start() {
            place.link.let_go();
            return Err(errors::to_python(py, &error));
        }
        // After the start, since a timer that has ended has nothing for feeds. Its first turn is yet to come.
        core.attach(py, &place).inspect_err(|_| place.link.cancel())
    }

    /// Stops it now; awaited, returns when nothing is left of the current run.
    fn cancel(&self, py: Python<'_>) -> PyResult<Answer> {
        self.end(py, "cancel", everbeat::Timer::cancel, |_| None)
    }

    /// Another name of `cancel`.
    fn stop(&self, py: Python<'_>) -> PyResult<Answer> {
        self.end(py, "stop", everbeat::Timer::cancel, |_| None)
    }

    /// Lets the current run finish, for at most `grace`.
    fn shutdown(&self, py: Python<'_>, grace: &Bound<'_, PyAny>) -> PyResult<Answer> {
        let grace = durations::parse("grace", grace)?;
        let told = |shutdown: Shutdown| Some(shutdown.to_string());
        self.end(py, "shutdown", |timer| timer.shutdown(grace), told)
    }

    fn pause(&self) -> PyResult<()> {
        self.command(everbeat::Timer::pause)
    }

    fn resume(&self) -> PyResult<()> {
        self.command(everbeat::Timer::resume)
    }

    /// The result of the next run to end.
    fn join(&self, py: Python<'_>) -> PyResult<Answer> {
        self.ask_run(py, "join", everbeat::Timer::join, |error| error)
    }

    /// The result of a run that starts at or after this call.
    fn trigger(&self, py: Python<'_>) -> PyResult<Answer> {
        self.ask_run(py, "trigger", everbeat::Timer::trigger, |error| error)
    }

    /// Waits for a hit count, for further hits, or for the end.
    #[pyo3(signature = (hit_count = None, hits = None, timeout = None))]
    fn wait(
        slf: &Bound<'_, Self>,
        hit_count: Option<i64>,
        hits: Option<i64>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Answer> {
        let timer = slf.get();
        let limit = timeout.map(|timeout| durations::parse("timeout", timeout)).transpose()?;
        let before = timer.core()?.hits();
        let target = match (hit_count, hits) {
            (Some(count), _) => Some(u64::try_from(count).unwrap_or(0)),
            (None, Some(more)) => Some(before.saturating_add(u64::try_from(more).unwrap_or(0))),
            (None, None) => None,
        };
        match target {
            Some(target) => Self::wait_for_hits(slf, target, before, limit),
            None => Self::wait_for_end(slf, before, limit),
        }
    }

    /// A buffered feed of every tick from now on.
    #[pyo3(signature = (maxsize = 0, *, name = None, overflow = "drop_oldest"))]
    fn subscribe(
        &self,
        py: Python<'_>,
        maxsize: i64,
        name: Option<String>,
        overflow: &str,
    ) -> PyResult<Subscription> {
        let line = Line::new(py, maxsize, name, overflow)?;
        let core = self.core()?;
        // Of a timer that has ended: such a feed ends at once, as it would on every other face.
        match core.place_here(py)? {
            Some(place) => line.open(&place.timer)?,
            None => core.lock().feeds.push(Arc::downgrade(&line)),
        }
        Ok(Subscription::new(line))
    }

    /// Another period, from the next wait on.
    #[pyo3(signature = (new_delay, *, rearm = false))]
    fn set_delay(&self, new_delay: &Bound<'_, PyAny>, rearm: bool) -> PyResult<()> {
        let period = durations::parse("delay", new_delay)?;
        let core = self.core()?;
        let place = {
            let mut inner = core.lock();
            if inner.place.is_none() {
                inner.period = Some(period);
            }
            inner.place.clone()
        };
        if let Some(place) = &place {
            place.desk.expect_period(period);
        }
        match place {
            Some(place) if rearm => place.timer.rearm(period),
            Some(place) => place.timer.set_period(period),
            None => {}
        }
        Ok(())
    }

    #[getter]
    fn delay(&self) -> PyResult<f64> {
        Ok(self.core()?.period().as_secs_f64())
    }

    #[getter]
    fn name(&self) -> PyResult<Option<String>> {
        Ok(self.core()?.name.as_deref().map(str::to_owned))
    }

    #[getter]
    fn target_object(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.core()?.target.clone_ref(py))
    }

    #[getter]
    fn hit_count(&self) -> PyResult<u64> {
        Ok(self.core()?.hits())
    }

    #[getter]
    fn last_result(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.core()?.latest().map(|value| value.object(py)))
    }

    #[getter]
    fn last_tick_at(&self) -> PyResult<Option<f64>> {
        let core = self.core()?;
        let (place, earlier) = {
            let inner = core.lock();
            (inner.place.clone(), inner.earlier_tick)
        };
        let latest =
            place.and_then(|place| place.timer.last_tick_at().map(|moment| place.desk.seconds(moment)));
        Ok(latest.or(earlier))
    }

    fn is_running(&self) -> PyResult<bool> {
        Ok(self.core()?.is_running())
    }

    fn is_paused(&self) -> PyResult<bool> {
        Ok(self.core()?.place().is_some_and(|place| place.timer.is_paused()))
    }

    /// Everything that is counted and measured. From any thread.
    fn stats(&self, py: Python<'_>) -> PyResult<Stats> {
        self.core()?.stats(py)
    }

    /// `cancel`, from another thread than the loop's: blocks until it is done.
    #[pyo3(signature = (timeout = None))]
    fn cancel_threadsafe(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let place = self.place_seen_from_outside(py, "cancel()")?;
        self.block(py, "cancel_threadsafe", place.timer.cancel(), timeout)?;
        Ok(())
    }

    /// `trigger`, from another thread than the loop's: blocks for the value.
    #[pyo3(signature = (timeout = None))]
    fn trigger_threadsafe(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let place = self.place_seen_from_outside(py, "trigger()")?;
        let value = self.block(py, "trigger_threadsafe", place.timer.trigger(), timeout)?;
        value.map(|value| value.object(py)).map_err(|error| errors::to_python(py, &error))
    }

    fn __aenter__(slf: &Bound<'_, Self>) -> PyResult<Answer> {
        slf.call_method0(intern!(slf.py(), "start"))?;
        Ok(Answer::new("__aenter__", None, Settled::value(slf.clone().into_any().unbind())))
    }

    #[pyo3(signature = (*_exc))]
    fn __aexit__<'py>(slf: &Bound<'py, Self>, _exc: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        slf.call_method0(intern!(slf.py(), "cancel"))
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(&self, py: Python<'_>) -> PyResult<Answer> {
        self.ask_run(py, "__anext__", everbeat::Timer::join, |error| {
            let kind = Python::attach(|py| errors::is_not_running(py, &error));
            if kind { PyStopAsyncIteration::new_err(()) } else { error }
        })
    }

    /// What the latest run was told when it began.
    fn _current_tick(&self) -> PyResult<Option<Tick>> {
        let Some(place) = self.core()?.place() else { return Ok(None) };
        let tick = place.link.latest_tick();
        Ok(tick.map(|tick| Tick::new(&tick, place.desk.seconds_of(tick.scheduled))))
    }

    /// Lives by this clock. For tests, before the start.
    fn _use_clock(&self, clock: Py<PyAny>) -> PyResult<()> {
        let before = self.core()?.lock().clock.replace(clock);
        drop(before);
        Ok(())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let core = slf.get().core()?;
        let mut text = format!("<{}", slf.get_type().name()?);
        if let Some(name) = &core.name {
            let _ = write!(text, " name={name:?}");
        }
        let target = core.target.bind(slf.py()).repr().map_or_else(|_| "?".into(), |repr| repr.to_string());
        let running = slf.get().is_running()?;
        let (delay, hits) = (core.period().as_secs_f64(), core.hits());
        let _ = write!(text, " target={target} delay={delay} hit_count={hits} running={}>", truth(running));
        Ok(text)
    }

    #[allow(clippy::needless_pass_by_value)] // the protocol's signature
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Who holds the lock is about to take a reference, so the timer is alive anyway.
        let Ok(core) = self.core.try_lock() else { return Ok(()) };
        let Some(core) = &*core else { return Ok(()) };
        visit.call(&core.target)?;
        visit.call(&core.exc_cb)?;
        visit.call(&core.cancel_cb)?;
        core.traverse_latest(&visit)?;
        core.conditions.as_ref().map_or(Ok(()), |conditions| conditions.traverse(&visit))
    }
}

/// What the timer's own machinery asks.
impl Timer {
    fn core(&self) -> PyResult<Arc<Core>> {
        let core = self.known_core();
        core.ok_or_else(|| PyRuntimeError::new_err("Timer.__init__() was not called by the subclass"))
    }

    fn known_core(&self) -> Option<Arc<Core>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hands the core back if there is one already.
    fn set_core(&self, core: Core) -> Option<Arc<Core>> {
        let core = Arc::new(core);
        let mut place = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_some() {
            return Some(core);
        }
        *place = Some(core);
        None
    }

    pub(crate) fn target<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.core()?.target.bind(py).clone())
    }

    pub(crate) fn is_offloaded(&self) -> bool {
        self.known_core().is_some_and(|core| core.offload)
    }

    /// A run has failed: calls back, or logs it if there is no callback.
    pub(crate) fn tell_failure(&self, py: Python<'_>, alive: &Alive, error: &PyErr) {
        let Some(core) = self.known_core() else { return };
        let callback = core.exc_cb.as_ref().map(|callback| callback.clone_ref(py));
        let arguments = (callback, &alive.owner, &core.target, core.label(py), error.value(py));
        call_back(py, alive, "tell_failure", arguments);
    }

    /// The timer has ended, and there is nobody else to be told than those who wait.
    pub(crate) fn note_end(&self, py: Python<'_>, link: &Link) {
        if self.known_core().is_none_or(|core| core.cancel_cb.is_none()) {
            link.let_go();
        }
        let _ = py;
    }

    pub(crate) fn forget_conditions(&self, py: Python<'_>) {
        if let Some(conditions) = self.known_core().as_ref().and_then(|core| core.conditions.as_ref()) {
            conditions.forget(py);
        }
    }

    /// A callback has raised what none should: that which ends the program does so.
    fn report(&self, py: Python<'_>, error: &PyErr) {
        let place = self.known_core().and_then(|core| core.place());
        match place.filter(|place| ends_program(py, error) && !place.desk.is_closed()) {
            Some(place) => place.desk.interrupt(py, error),
            None => error.clone_ref(py).write_unraisable(py, None),
        }
    }

    fn tell_end(&self, py: Python<'_>, alive: &Alive) {
        let Some(core) = self.known_core() else { return };
        let Some(callback) = &core.cancel_cb else { return };
        call_back(py, alive, "tell_end", (callback, &alive.owner, &core.target, core.label(py)));
    }
}

/// Waiting.
impl Timer {
    fn ask_run(
        &self,
        py: Python<'_>,
        what: &'static str,
        ask: impl FnOnce(&everbeat::Timer<Value>) -> Pending<Value, Result<Arc<Value>, Error>>,
        raise: fn(PyErr) -> PyErr,
    ) -> PyResult<Answer> {
        let core = self.core()?;
        let Some(place) = core.place_here(py)? else {
            return Ok(Answer::new(what, None, Settled::error(raise(core.not_running(py)))));
        };
        let future = ask(&place.timer);
        let convert = move |py: Python<'_>, answer: Option<Result<Arc<Value>, Error>>| match answer {
            Some(Ok(value)) => Ok(value.object(py)),
            Some(Err(error)) => Err(raise(errors::to_python(py, &error))),
            None => Ok(py.None()),
        };
        Ok(Answer::new(what, None, Wait { future, convert }))
    }

    fn end<O>(
        &self,
        py: Python<'_>,
        what: &'static str,
        ask: impl FnOnce(&everbeat::Timer<Value>) -> Pending<Value, O>,
        told: fn(O) -> Option<String>,
    ) -> PyResult<Answer>
    where
        O: From<StopReason> + Send + Sync + 'static,
    {
        let Some(place) = self.core()?.place_here(py)? else {
            let answer = told(O::from(StopReason::Drained)).into_pyobject(py)?;
            return Ok(Answer::new(what, None, Settled::value(answer.unbind())));
        };
        let future = ask(&place.timer);
        let convert = move |py: Python<'_>, answer: Option<O>| {
            Ok(answer.and_then(told).into_pyobject(py)?.into_any().unbind())
        };
        Ok(Answer::new(what, None, Wait { future, convert }))
    }

    fn wait_for_hits(
        slf: &Bound<'_, Self>,
        target: u64,
        before: u64,
        limit: Option<Duration>,
    ) -> PyResult<Answer> {
        let (core, py) = (slf.get().core()?, slf.py());
        if before >= target {
            return Ok(Answer::new("wait", None, Settled::value(py.None())));
        }
        let Some(place) = core.place_here(py)? else {
            return Ok(Answer::new("wait", None, Settled::error(core.not_running(py))));
        };
        let future = place.timer.wait_hits(target - core.lock().earlier_hits);
        let (owner, label) = (slf.clone().unbind(), core.label(py));
        let convert = move |py: Python<'_>, answer| match answer {
            Some(Ok(())) => Ok(owner.get().core()?.latest_object(py)),
            Some(Err(error)) => Err(errors::to_python(py, &error)),
            None => Err(errors::timeout(format!("timer `{label}` did not reach hit count {target} in time"))),
        };
        Ok(Answer::new("wait", limit, Wait { future, convert }))
    }

    fn wait_for_end(slf: &Bound<'_, Self>, before: u64, limit: Option<Duration>) -> PyResult<Answer> {
        let (core, py) = (slf.get().core()?, slf.py());
        let Some(place) = core.place_here(py)? else {
            return Ok(Answer::new("wait", None, Settled::value(py.None())));
        };
        let owner = slf.clone().unbind();
        let convert = move |py: Python<'_>, answer| match answer {
            Some(Err(error @ Error::Failed { .. })) => Err(errors::to_python(py, &error)),
            // It has ended, or still runs when the time is over: neither is an error.
            _ if owner.get().core()?.hits() > before => Ok(owner.get().core()?.latest_object(py)),
            _ => Ok(py.None()),
        };
        Ok(Answer::new("wait", limit, Wait { future: place.timer.wait(), convert }))
    }

    fn command(&self, command: fn(&everbeat::Timer<Value>)) -> PyResult<()> {
        if let Some(place) = self.core()?.place() {
            command(&place.timer);
        }
        Ok(())
    }

    /// The timer, for a call that blocks a thread that is not its loop's.
    fn place_seen_from_outside(&self, py: Python<'_>, alternative: &str) -> PyResult<Arc<Place>> {
        let core = self.core()?;
        let Some(place) = core.place_here(py)? else {
            let message =
                format!("timer `{}` has not been started yet: it belongs to no loop", core.label(py));
            return Err(errors::threadsafe_dispatch(py, message));
        };
        errors::check_dispatch(py, &place.desk, &format!("timer `{}`", core.label(py)), alternative)?;
        Ok(place)
    }

    fn block<F: Future + Unpin + Send>(
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
        let answer = in_slices(py, limit, |slice| thread::wait_for(&mut future, slice))?;
        let label = self.core()?.label(py);
        answer.ok_or_else(|| {
            errors::timeout(format!(
                "{what}: timer `{label}` did not answer within {limit:?}; what was asked stands"
            ))
        })
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Held for a few instructions in which nothing can panic, so a poisoned one is as good as any.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> Option<Arc<Place>> {
        self.lock().place.clone()
    }

    fn is_running(&self) -> bool {
        self.place().is_some_and(|place| place.timer.is_running())
    }

    /// The same, for a call from Python.
    ///
    /// # Errors
    /// `TimerError` in a child of the process where it was started.
    fn place_here(&self, py: Python<'_>) -> PyResult<Option<Arc<Place>>> {
        let place = self.place();
        place.iter().try_for_each(|place| place.desk.check_process(py))?;
        Ok(place)
    }

    fn period(&self) -> Duration {
        let (place, period) = {
            let inner = self.lock();
            (inner.place.clone(), inner.period)
        };
        place.map_or_else(|| period.unwrap_or(self.config.period), |place| place.timer.period())
    }

    fn hits(&self) -> u64 {
        let (place, earlier) = {
            let inner = self.lock();
            (inner.place.clone(), inner.earlier_hits)
        };
        earlier + place.map_or(0, |place| place.timer.hits())
    }

    fn stats(&self, py: Python<'_>) -> PyResult<Stats> {
        let (place, earlier) = {
            let inner = self.lock();
            (inner.place.clone(), (inner.earlier_runs, inner.earlier_hits, inner.earlier_failures))
        };
        let Some(place) = place else {
            return Stats::unstarted(py, self.label(py), self.period().as_secs_f64());
        };
        let mut stats = Stats::of(py, &place.timer.stats(), |moment| Ok(place.desk.seconds(moment)))?;
        stats.add(earlier);
        Ok(stats)
    }

    fn latest(&self) -> Option<Arc<Value>> {
        let (place, earlier) = {
            let inner = self.lock();
            (inner.place.clone(), inner.earlier_result.clone())
        };
        place.and_then(|place| place.timer.latest()).or(earlier)
    }

    /// The latest value, or `None`.
    fn latest_object(&self, py: Python<'_>) -> Py<PyAny> {
        self.latest().map_or_else(|| py.None(), |value| value.object(py))
    }

    /// Values may refer to their timer. One that somebody else holds too is theirs to report.
    fn traverse_latest(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(inner) = self.inner.try_lock() else { return Ok(()) };
        let latest = inner.place.as_ref().and_then(|place| place.timer.latest());
        if let Some(value) = latest.filter(|value| Arc::strong_count(value) == 2) {
            visit.call(&value.0)?;
        }
        if let Some(place) = &inner.place {
            Raised::traverse_last(&place.timer, visit)?;
        }
        match &inner.earlier_result {
            Some(value) if Arc::strong_count(value) == 1 => visit.call(&value.0),
            _ => Ok(()),
        }
    }

    /// What it is called in logs and errors: its name, else that of its target.
    fn label(&self, py: Python<'_>) -> String {
        if let Some(name) = &self.name {
            return name.to_string();
        }
        let target = self.target.bind(py);
        let named = target
            .getattr(intern!(py, "__qualname__"))
            .or_else(|_| target.get_type().qualname().map(Bound::into_any));
        named.map_or_else(|_| "unnamed".into(), |name| name.to_string())
    }

    fn not_running(&self, py: Python<'_>) -> PyErr {
        errors::not_running(py, format!("timer `{}` is not running", self.label(py)))
    }

    /// Connects a timer that was started with everything that belongs to it.
    fn attach(&self, py: Python<'_>, place: &Place) -> PyResult<()> {
        let feeds = self.note_start();
        for line in feeds.iter().filter_map(Weak::upgrade) {
            line.open(&place.timer)?;
        }
        match &self.conditions {
            Some(conditions) => conditions.watch(py, place.desk.event_loop(py), &place.link),
            None => Ok(()),
        }
    }

    fn note_start(&self) -> Vec<Weak<Line>> {
        let mut inner = self.lock();
        inner.was_started = true;
        std::mem::take(&mut inner.feeds)
    }

    /// The timer in the running loop. One that comes from another loop goes on counting where it was.
    fn bind(&self, py: Python<'_>) -> PyResult<Arc<Place>> {
        let desk = self.desk(py)?;
        let before = self.place();
        if let Some(place) = &before {
            if Arc::ptr_eq(&place.desk, &desk) {
                return Ok(place.clone());
            }
        }
        let period = self.period();
        let (hits, latest) = (self.hits(), self.latest());
        let tick = before.as_ref().and_then(|place| Some(place.desk.seconds(place.timer.last_tick_at()?)));
        let place = Arc::new(self.build(py, period, desk)?);
        let figures = before.as_ref().map(|place| place.timer.stats());
        let replaced = {
            let mut inner = self.lock();
            inner.earlier_runs += figures.as_ref().map_or(0, |figures| figures.runs);
            inner.earlier_failures += figures.as_ref().map_or(0, |figures| figures.failures);
            (inner.earlier_hits, inner.earlier_result, inner.earlier_tick) = (hits, latest, tick);
            inner.place.replace(place.clone())
        };
        drop(replaced);
        Ok(place)
    }

    /// Where it lives from the next start on.
    fn desk(&self, py: Python<'_>) -> PyResult<Arc<Desk>> {
        let clock = self.lock().clock.as_ref().map(|clock| clock.clone_ref(py));
        let desk = loops::for_timers(py, clock)?;
        if self.fine && !desk.is_for_tests() { loops::fine(py) } else { Ok(desk) }
    }

    fn build(&self, py: Python<'_>, period: Duration, desk: Arc<Desk>) -> PyResult<Place> {
        desk.expect_period(period);
        let link = Link::new(self.label(py).into());
        let builder = self.config.apply(desk.engine().every(period)).inline().name(&link.name);
        let builder = if self.cancel_cb.is_some() {
            let link = link.clone();
            builder.on_end(move |_| end_of(&link))
        } else {
            builder
        };
        let builder = if self.config.rare.as_ref().is_some_and(|rare| rare.run_timeout.is_some()) {
            let link = link.clone();
            builder.on_failure(move |failure| timed_out(&link, failure))
        } else {
            builder
        };
        let timer = builder.build(PyTarget::new(link.clone(), desk.clone()));
        let timer = timer.map_err(|error| errors::to_python(py, &error))?;
        timer.clone().detach();
        // A new link has no timer yet.
        let _ = link.timer.set(timer.downgrade());
        Ok(Place { timer, link, desk })
    }
}

/// Tells the code of a timer which one it is, in the context where it runs.
fn set_current_timer(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static SET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    SET.get_or_try_init(py, || {
        let current = py.import(intern!(py, "everbeat._current"))?.getattr(intern!(py, "_timer"))?;
        Ok(current.getattr(intern!(py, "set"))?.unbind())
    })
    .map(|set| set.bind(py))
}

/// The callback for the end of a timer that has one of the user's.
fn end_of(link: &Link) {
    Python::try_attach(|py| {
        let Some(alive) = link.alive(py) else { return };
        alive.owner.get().tell_end(py, &alive);
        link.let_go();
    });
}

/// A run has exceeded its time limit, which its target cannot know.
fn timed_out(link: &Link, failure: &everbeat::Failure) {
    if !matches!(failure, everbeat::Failure::TimedOut(_)) {
        return; // the target has told of it already
    }
    Python::try_attach(|py| {
        let Some(alive) = link.alive(py) else { return };
        let error = errors::failure_to_python(py, failure);
        alive.owner.get().tell_failure(py, &alive, &error);
    });
}

/// Calls a function of `everbeat._callbacks`, in the context of the timer.
fn call_back<'py>(
    py: Python<'py>,
    alive: &Alive,
    function: &str,
    arguments: impl IntoPyObject<
        'py,
        Target = pyo3::types::PyTuple,
        Output = Bound<'py, pyo3::types::PyTuple>,
        Error = PyErr,
    >,
) {
    let place = alive.owner.get().known_core().and_then(|core| core.place());
    if let Some(place) = &place {
        place.desk.let_time_pass();
    }
    let called = py.import(intern!(py, "everbeat._callbacks")).and_then(|callbacks| {
        let function = callbacks.getattr(function)?;
        let arguments = arguments.into_pyobject(py)?;
        let with_function = std::iter::once(function).chain(arguments.iter());
        let all = pyo3::types::PyTuple::new(py, with_function.collect::<Vec<_>>())?;
        alive.context.bind(py).call_method1(intern!(py, "run"), all)
    });
    if let Err(error) = called {
        alive.owner.get().report(py, &error);
    }
    if let Some(place) = &place {
        place.desk.look_at_clock(py);
    }
}

fn checked_target(target: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let kind = target.get_type();
    let is_class = target.is_instance_of::<PyType>();
    if target.is_callable() || !is_class && (kind.hasattr("__next__")? || kind.hasattr("__anext__")?) {
        return Ok(target.clone().unbind());
    }
    Err(PyTypeError::new_err(format!(
        "target must be a callable, an iterator or an async iterator, not {}",
        kind.name()?
    )))
}
