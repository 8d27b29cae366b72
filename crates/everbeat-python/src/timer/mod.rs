//! The timer of the asyncio face, as users see it.
//!
//! What it is made of is in `core.rs`; what it is while it lives in a loop, in `place.rs`.

mod calls;
mod core;
mod place;
mod waits;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use everbeat::Shutdown;
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

pub(crate) use self::core::Core;
use self::core::Others;
pub(crate) use self::place::{Alive, Place};
use crate::answer::Answer;
use crate::conditions::Conditions;
use crate::config::{self, Config, Limits, Ticks};
use crate::feed::{Line, Subscription};
use crate::stats::{Stats, truth};
use crate::target::is_source;
use crate::tick::Tick;
use crate::value::Value;
use crate::{context, durations, errors, loops};

/// A recurring timer in an event loop: calls its target again and again.
///
/// `delay` is the period in seconds (or a `timedelta`, or an `everbeat.ns`): the time from the end of a run to the
/// next, or, with `mode="fixed_rate"`, from slot to slot. `target` is a function, a coroutine function, an iterator
/// or a generator, or a function that returns one. `async with` starts the timer and cancels it; `join`, `wait`,
/// `trigger`, `subscribe` and `async for` give what the runs return. The stub `_everbeat.pyi` is the manual.
#[pyclass(frozen, subclass, weakref, generic, module = "everbeat")]
pub(crate) struct Timer {
    /// Set by `__init__`, so that subclasses may have parameters of their own.
    ///
    /// The collector may come between the allocation of an object and its first field, when all its memory is
    /// zero: unlike a `OnceLock`, this then reads as "not set yet".
    core: Mutex<Option<Arc<Core>>>,
}

#[pymethods]
impl Timer {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(delay, target, exc_cb=None, cancel_cb=None, \
        cancel_aws=None, start=False, *, mode=None, initial_delay=None, jitter=None, name=None, seed=None, \
        on_error=None, missed=None, run_timeout=None, run_for=None, max_runs=None, max_lateness=None, \
        keep_phase=False, offload=False, precision=None, histograms=False)")]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { core: Mutex::new(None) }
    }

    #[pyo3(signature = (
        delay, target, exc_cb = None, cancel_cb = None, cancel_aws = None, start = None, *,
        mode = None, initial_delay = None, jitter = None, name = None, seed = None, on_error = None,
        missed = None, run_timeout = None, run_for = None, max_runs = None, max_lateness = None,
        keep_phase = None, offload = None, precision = None, histograms = None,
    ))]
    #[allow(clippy::too_many_arguments)] // those of the documented constructor
    fn __init__(
        slf: &Bound<'_, Self>,
        delay: &Bound<'_, PyAny>,
        target: &Bound<'_, PyAny>,
        exc_cb: Option<&Bound<'_, PyAny>>,
        cancel_cb: Option<&Bound<'_, PyAny>>,
        cancel_aws: Option<&Bound<'_, PyAny>>,
        start: Option<&Bound<'_, PyAny>>,
        mode: Option<&Bound<'_, PyAny>>,
        initial_delay: Option<&Bound<'_, PyAny>>,
        jitter: Option<&Bound<'_, PyAny>>,
        name: Option<&Bound<'_, PyAny>>,
        seed: Option<&Bound<'_, PyAny>>,
        on_error: Option<&Bound<'_, PyAny>>,
        missed: Option<&Bound<'_, PyAny>>,
        run_timeout: Option<&Bound<'_, PyAny>>,
        run_for: Option<&Bound<'_, PyAny>>,
        max_runs: Option<&Bound<'_, PyAny>>,
        max_lateness: Option<&Bound<'_, PyAny>>,
        keep_phase: Option<&Bound<'_, PyAny>>,
        offload: Option<&Bound<'_, PyAny>>,
        precision: Option<&Bound<'_, PyAny>>,
        histograms: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let mut config = Config::parse(("delay", delay), mode, initial_delay, jitter)?;
        config.limit(&Limits { seed, missed, max_runs, run_for, max_lateness, keep_phase })?;
        if let Some(policy) = on_error {
            config.rare().on_error = config::parse_on_error(policy)?;
        }
        if let Some(limit) = run_timeout {
            config.rare().run_timeout = Some(durations::parse_nonzero("run_timeout", limit)?);
        }
        if config::flag("histograms", histograms)? {
            config.rare().histograms = true;
        }
        let fine =
            precision.map(|given| config::one_of("precision", given, &["coarse", "fine"])).transpose()?;
        let start = config::flag("start", start)?;
        let is_source = checked_target(target)?;
        let exc_cb = config::parse_callback("exc_cb", exc_cb)?;
        let cancel_cb = config::parse_callback("cancel_cb", cancel_cb)?;
        let conditions = Conditions::parse(cancel_aws)?;
        let has_others = exc_cb.is_some() || cancel_cb.is_some() || conditions.is_some();
        let core = Core {
            target: target.clone().unbind(),
            is_source,
            offload: config::flag("offload", offload)?,
            fine: fine == Some("fine"),
            was_started: AtomicBool::new(false),
            others: has_others.then(|| Box::new(Others { exc_cb, cancel_cb, conditions })),
            name: config::text("name", name)?.map(|name| name.clone().unbind()),
            config,
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
            loops::sweep(py)?; // its loop may have been closed without having told anybody
        }
        if core.is_running() {
            return Err(errors::already_running(
                py,
                format!("timer `{}` is already running", core.label(py)),
            ));
        }
        if core.conditions().is_some() && core.was_started.load(Ordering::Relaxed) {
            let message = "was built with cancel_aws, which serve for one start only: build another one";
            return Err(errors::restart(py, format!("timer `{}` {message}", core.label(py))));
        }
        let place = core.bind(py)?;
        let context = context::copy(py)?;
        context::run(py, (&context, set_current_timer(py)?, slf))?;
        place.hold(Alive { owner: slf.clone().unbind(), context: context.unbind() });
        if let Err(error) = place.timer().start() {
            place.let_go();
            return Err(errors::to_python(py, &error));
        }
        // After the start, since a timer that has ended has nothing for feeds. Its first turn is yet to come.
        core.attach(py, &place).inspect_err(|_| place.cancel())
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
        hit_count: Option<&Bound<'_, PyAny>>,
        hits: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Answer> {
        let timer = slf.get();
        let limit = timeout.map(|timeout| durations::parse("timeout", timeout)).transpose()?;
        let before = timer.core()?.hits();
        match config::ticks_to_wait_for(slf.py(), hit_count, hits)? {
            Some(Ticks::Total(total)) => Self::wait_for_hits(slf, total, before, limit),
            Some(Ticks::More(more)) => Self::wait_for_hits(slf, before.saturating_add(more), before, limit),
            None => Self::wait_for_end(slf, before, limit),
        }
    }

    /// A buffered feed of every tick from now on.
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
        let line = Line::new(maxsize, name, overflow)?;
        let core = self.core()?;
        // Of a timer that has ended: such a feed ends at once, as it would on every other face.
        match core.place_here(py)? {
            Some(place) => line.open(place.timer())?,
            None => core.keep_feed(&line),
        }
        Ok(Subscription::new(line))
    }

    /// Another period, from the next wait on.
    #[pyo3(signature = (new_delay, *, rearm = false))]
    fn set_delay(&self, new_delay: &Bound<'_, PyAny>, rearm: bool) -> PyResult<()> {
        let period = durations::parse("delay", new_delay)?;
        let Some(place) = self.core()?.expect_period(period) else { return Ok(()) };
        place.desk.expect_period(period);
        if rearm {
            place.timer().rearm(period);
        } else {
            place.timer().set_period(period);
        }
        Ok(())
    }

    #[getter]
    fn delay(&self) -> PyResult<f64> {
        Ok(durations::seconds(self.core()?.period()))
    }

    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<Option<Py<PyString>>> {
        Ok(self.core()?.name.as_ref().map(|name| name.clone_ref(py)))
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
    fn last_result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.core()?.latest_object(py))
    }

    #[getter]
    fn last_tick_at(&self) -> PyResult<Option<f64>> {
        Ok(self.core()?.last_tick_at())
    }

    fn is_running(&self) -> PyResult<bool> {
        Ok(self.core()?.is_running())
    }

    fn is_paused(&self) -> PyResult<bool> {
        Ok(self.core()?.place().is_some_and(|place| place.timer().is_paused()))
    }

    /// Everything that is counted and measured. From any thread.
    fn stats(&self, py: Python<'_>) -> PyResult<Stats> {
        self.core()?.stats(py)
    }

    /// `cancel`, from another thread than the loop's: blocks until it is done.
    #[pyo3(signature = (timeout = None))]
    fn cancel_threadsafe(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let place = self.place_seen_from_outside(py, "cancel()")?;
        self.block(py, "cancel_threadsafe", place.timer().cancel(), timeout)?;
        Ok(())
    }

    /// `trigger`, from another thread than the loop's: blocks for the value.
    #[pyo3(signature = (timeout = None))]
    fn trigger_threadsafe(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let place = self.place_seen_from_outside(py, "trigger()")?;
        let value = self.block(py, "trigger_threadsafe", place.timer().trigger(), timeout)?;
        value.map(|value| value.object(py)).map_err(|error| errors::to_python(py, &error))
    }

    fn __aenter__(slf: &Bound<'_, Self>) -> PyResult<Answer> {
        slf.call_method0(intern!(slf.py(), "start"))?;
        Ok(Answer::value("__aenter__", slf.clone().into_any().unbind()))
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
        let core = self.core()?;
        let Some(place) = core.place() else { return Ok(None) };
        Ok(place.latest_tick().map(|mut tick| {
            tick.run += core.earlier_runs();
            Tick::new(&tick, place.desk.seconds_of(tick.scheduled))
        }))
    }

    /// Lives by this clock. For tests, before the start.
    fn _use_clock(&self, clock: Py<PyAny>) -> PyResult<()> {
        drop(self.core()?.use_clock(clock));
        Ok(())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let core = slf.get().core()?;
        let mut text = format!("<{}", slf.get_type().name()?);
        if let Some(name) = &core.name {
            let _ = write!(text, " name={}", name.bind(slf.py()).repr()?);
        }
        let target = target_shown(slf, core.target.bind(slf.py()));
        let running = slf.get().is_running()?;
        let (delay, hits) = (durations::seconds(core.period()), core.hits());
        let _ = write!(text, " target={target} delay={delay} hit_count={hits} running={}>", truth(running));
        Ok(text)
    }

    #[allow(clippy::needless_pass_by_value)] // the protocol's signature
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Who holds the lock is about to take a reference, so the timer is alive anyway.
        let Ok(core) = self.core.try_lock() else { return Ok(()) };
        let Some(core) = &*core else { return Ok(()) };
        core.traverse(&visit)
    }
}

/// What the timer's own machinery asks.
impl Timer {
    pub(crate) fn core(&self) -> PyResult<Arc<Core>> {
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

    fn command(&self, command: fn(&everbeat::Timer<Value>)) -> PyResult<()> {
        if let Some(place) = self.core()?.place() {
            command(place.timer());
        }
        Ok(())
    }
}

/// Tells the code of a timer which one it is, in the context where it runs.
fn set_current_timer(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static SET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    SET.get_or_try_init(py, || Ok(context::current_timer(py)?.getattr(intern!(py, "set"))?.unbind()))
        .map(|set| set.bind(py))
}

/// The target in the repr of its timer: `...` within itself, as in that of a subclass whose target is its own method.
fn target_shown(timer: &Bound<'_, Timer>, target: &Bound<'_, PyAny>) -> String {
    thread_local! {
        static SHOWN: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    }
    let timer = timer.as_ptr() as usize;
    if SHOWN.with_borrow(|shown| shown.contains(&timer)) {
        return "...".into();
    }
    SHOWN.with_borrow_mut(|shown| shown.push(timer));
    let repr = target.repr();
    SHOWN.with_borrow_mut(Vec::pop);
    repr.map_or_else(|_| "?".into(), |repr| repr.to_string())
}

/// Whether it gives items; else it is called.
fn checked_target(target: &Bound<'_, PyAny>) -> PyResult<bool> {
    let is_source = is_source(target)?;
    if is_source || target.is_callable() {
        return Ok(is_source);
    }
    Err(config::wrong_type("target", "a callable, an iterator or an async iterator", target))
}
