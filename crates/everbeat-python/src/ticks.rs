//! A schedule without a target, as an async iterator.
//!
//! # Invariants
//!
//! 1. The schedule begins with the first request for a tick, or with `async with`: it is made anywhere, and
//!    belongs to the loop where it begins.
//! 2. Whoever waits for a tick has taken the library's `Ticks` out of the state and puts it back: one waits at
//!    a time, and no lock is held while the loop is asked for the time.
//! 3. The lock is held for a few instructions; no Python code can run under it.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::prelude::*;

use crate::answer::{Answer, Ask, Wait};
use crate::config::{Config, Limits, text};
use crate::desk::Desk;
use crate::stats::truth;
use crate::tick::Tick;
use crate::{durations, errors, loops};

/// A schedule as an async iterator of ticks.
#[pyclass(frozen, weakref, module = "everbeat")]
pub(crate) struct Ticks {
    config: Config,
    name: Box<str>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// A period that was set before it began.
    period: Option<Duration>,
    begun: Option<Begun>,
    /// What gives the ticks; nothing while somebody waits for one.
    idle: Option<everbeat::Ticks>,
    /// It was cancelled before it began.
    cancelled: bool,
    /// It is to be paused when it begins.
    paused: bool,
}

#[derive(Clone)]
struct Begun {
    timer: everbeat::Timer<everbeat::Tick>,
    desk: Arc<Desk>,
}

impl Ticks {
    fn begin(&self, py: Python<'_>) -> PyResult<Begun> {
        if let Some(begun) = self.begun() {
            return Ok(begun);
        }
        let desk = loops::for_timers(py, None)?;
        desk.expect_period(self.period());
        let builder = self.config.apply(desk.engine().every(self.period())).name(&self.name);
        let ticks = builder.ticks().map_err(|error| errors::to_python(py, &error))?;
        let begun = Begun { timer: ticks.timer().clone(), desk };
        let paused = {
            let mut state = self.lock();
            state.begun = Some(begun.clone());
            state.idle = Some(ticks);
            state.paused
        };
        if paused {
            begun.timer.pause();
        }
        Ok(begun)
    }

    fn begun(&self) -> Option<Begun> {
        self.lock().begun.clone()
    }

    /// One that has not begun yet begins like this.
    fn suspend(&self, paused: bool, command: fn(&everbeat::Timer<everbeat::Tick>)) {
        let begun = {
            let mut state = self.lock();
            state.paused = paused;
            state.begun.clone()
        };
        if let Some(begun) = begun {
            command(&begun.timer);
        }
    }

    /// It was cancelled before it began, and never will.
    fn is_called_off(&self) -> bool {
        let state = self.lock();
        state.cancelled && state.begun.is_none()
    }

    fn period(&self) -> Duration {
        let (begun, period) = {
            let state = self.lock();
            (state.begun.clone(), state.period)
        };
        begun.map_or_else(|| period.unwrap_or(self.config.period), |begun| begun.timer.period())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // By invariant 3 nothing can panic under the lock, so a poisoned one is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the next tick.
struct NextTick {
    schedule: Py<Ticks>,
    begun: Begun,
    taken: Option<everbeat::Ticks>,
}

impl Ask for NextTick {
    /// Between two ticks others have their turn, which takes somebody who can be woken.
    fn look(&mut self, _: Python<'_>) -> Poll<PyResult<Py<PyAny>>> {
        Poll::Pending
    }

    fn poll(&mut self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        if self.taken.is_none() {
            self.taken = self.schedule.get().lock().idle.take();
        }
        let Some(ticks) = &mut self.taken else {
            let message = format!("another task waits for a tick of `{}` already", self.schedule.get().name);
            return Poll::Ready(Err(errors::timer_error(py, message)));
        };
        let polled = pin!(ticks.next()).poll(cx);
        polled.map(|tick| match tick {
            Some(tick) => {
                let tick = Tick::new(&tick, self.begun.desk.seconds_of(tick.scheduled));
                Ok(Py::new(py, tick)?.into_any())
            }
            None => Err(PyStopAsyncIteration::new_err(())),
        })
    }
}

impl Drop for NextTick {
    fn drop(&mut self) {
        if let Some(ticks) = self.taken.take() {
            self.schedule.get().lock().idle = Some(ticks);
        }
    }
}

#[pymethods]
impl Ticks {
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    #[getter]
    fn delay(&self) -> f64 {
        durations::seconds(self.period())
    }

    /// Whether it has begun and has not ended.
    fn is_running(&self) -> bool {
        self.begun().is_some_and(|begun| begun.timer.is_running())
    }

    /// Has it tick now.
    fn trigger(&self, py: Python<'_>) -> PyResult<()> {
        let Some(begun) = self.begun().filter(|begun| begun.timer.is_running()) else {
            return Err(errors::not_running(py, format!("the schedule `{}` is not running", self.name)));
        };
        drop(begun.timer.trigger());
        Ok(())
    }

    /// Another period, from the next wait on.
    #[pyo3(signature = (new_delay, *, rearm = false))]
    fn set_delay(&self, new_delay: &Bound<'_, PyAny>, rearm: bool) -> PyResult<()> {
        let period = durations::parse("delay", new_delay)?;
        if let Some(begun) = self.begun() {
            begun.desk.expect_period(period);
        }
        match self.begun() {
            Some(begun) if rearm => begun.timer.rearm(period),
            Some(begun) => begun.timer.set_period(period),
            None => self.lock().period = Some(period),
        }
        Ok(())
    }

    fn pause(&self) {
        self.suspend(true, everbeat::Timer::pause);
    }

    fn resume(&self) {
        self.suspend(false, everbeat::Timer::resume);
    }

    /// Ends it.
    fn cancel(&self, py: Python<'_>) -> Answer {
        let begun = {
            let mut state = self.lock();
            state.cancelled = true;
            state.begun.clone()
        };
        let Some(begun) = begun else {
            return Answer::value("cancel", py.None());
        };
        let convert = |py: Python<'_>, _| Ok(py.None());
        Answer::asking("cancel", None, Wait { future: begun.timer.cancel(), convert })
    }

    /// As `cancel`, under the name that async generators have for it.
    fn aclose(&self, py: Python<'_>) -> Answer {
        self.cancel(py)
    }

    fn __aenter__(slf: &Bound<'_, Self>) -> PyResult<Answer> {
        if !slf.get().is_called_off() {
            slf.get().begin(slf.py())?;
        }
        Ok(Answer::value("__aenter__", slf.clone().into_any().unbind()))
    }

    #[pyo3(signature = (*_exc))]
    fn __aexit__(&self, py: Python<'_>, _exc: &Bound<'_, PyAny>) -> Answer {
        self.cancel(py)
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __anext__(slf: &Bound<'_, Self>) -> PyResult<Answer> {
        let schedule = slf.get();
        if schedule.is_called_off() {
            return Ok(Answer::error("__anext__", PyStopAsyncIteration::new_err(())));
        }
        let begun = schedule.begin(slf.py())?;
        let ask = NextTick { schedule: slf.clone().unbind(), begun, taken: None };
        Ok(Answer::asking("__anext__", None, ask))
    }

    fn __repr__(&self) -> String {
        format!("<Ticks name={:?} delay={} running={}>", self.name, self.delay(), truth(self.is_running()))
    }
}

/// A schedule without a target.
#[pyfunction]
#[pyo3(signature = (
    delay, *, mode = None, initial_delay = None, jitter = None, seed = None, missed = None, max_runs = None,
    run_for = None, max_lateness = None, keep_phase = None, name = None,
), text_signature = "(delay, *, mode=None, initial_delay=None, jitter=None, seed=None, missed=None, max_runs=None, \
    run_for=None, max_lateness=None, keep_phase=False, name='ticks')")]
#[allow(clippy::too_many_arguments)] // they are keywords in Python
pub(crate) fn ticks(
    delay: &Bound<'_, PyAny>,
    mode: Option<&Bound<'_, PyAny>>,
    initial_delay: Option<&Bound<'_, PyAny>>,
    jitter: Option<&Bound<'_, PyAny>>,
    seed: Option<&Bound<'_, PyAny>>,
    missed: Option<&Bound<'_, PyAny>>,
    max_runs: Option<&Bound<'_, PyAny>>,
    run_for: Option<&Bound<'_, PyAny>>,
    max_lateness: Option<&Bound<'_, PyAny>>,
    keep_phase: Option<&Bound<'_, PyAny>>,
    name: Option<&Bound<'_, PyAny>>,
) -> PyResult<Ticks> {
    let mut config = Config::parse(("delay", delay), mode, initial_delay, jitter)?;
    config.limit(&Limits { seed, missed, max_runs, run_for, max_lateness, keep_phase })?;
    let name = text("name", name)?.map_or_else(|| "ticks".into(), |name| name.to_string().into());
    Ok(Ticks { config, name, state: Mutex::default() })
}
