//! The place that timers have in an event loop: one engine, one armed call.
//!
//! # Invariants
//!
//! 1. The engine has its turns on the loop's own thread, called by the loop. However many timers there are, at
//!    most one `call_soon` and one alarm are outstanding.
//! 2. `loop.time()` is the only clock. What is due is decided by it in the turn; an alarm that rings early,
//!    late or for nothing leads to another look. Within a turn it is read once, and again after Python code
//!    has run.
//! 3. The lock is held for a few instructions and never while Python code can run; what it guards is moved
//!    out first.
//! 4. Tasks that a turn has woken are stepped at its end, in the order in which they were woken, outside of
//!    the engine.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use everbeat::thread::{Engine, Host};
use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::alarm::Alarm;

/// What is due so soon is not worth an alarm, which asyncio may round up to a millisecond.
const AT_ONCE: Duration = Duration::from_micros(20);

/// The place for timers in one event loop.
pub(crate) struct Desk {
    event_loop: Py<PyAny>,
    /// The moment that `origin_seconds` is on the clock of the loop.
    origin: Instant,
    origin_seconds: f64,
    /// The latest time that the loop has told, in nanoseconds since the origin.
    told_nanos: AtomicU64,
    /// Whether `told_nanos` is the present time: in a turn, until Python code runs.
    is_present: AtomicBool,
    turns: OnceLock<[Py<Turn>; 2]>,
    engine: OnceLock<Engine>,
    alarm: Alarm,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// A turn is scheduled with `call_soon`.
    soon: bool,
    /// A turn is being taken.
    turning: bool,
    /// Somebody asked for another turn meanwhile.
    again: bool,
    closed: bool,
    /// What the alarm is set to.
    armed: Option<Instant>,
    /// When it was looked at last.
    looked_at: Option<Instant>,
    ready: Vec<Wakeup>,
    /// What a sync target raised to end the program.
    interrupt: Option<PyErr>,
}

/// A task to be stepped, or whoever else waits: calls `callback(argument)` in its context.
pub(crate) struct Wakeup {
    pub(crate) callback: Py<PyAny>,
    pub(crate) argument: Py<PyAny>,
    pub(crate) context: Option<Py<PyAny>>,
}

/// What tells the engine of a desk the time. It does not keep the desk.
struct DeskHost {
    desk: Weak<Desk>,
    origin: Instant,
}

impl Host for DeskHost {
    fn now(&self) -> Instant {
        let desk = self.desk.upgrade();
        desk.and_then(|desk| Python::try_attach(|py| desk.now(py))).unwrap_or(self.origin)
    }

    fn alert(&self) {
        if let Some(desk) = self.desk.upgrade() {
            Python::try_attach(|py| desk.kick(py));
        }
    }
}

impl Desk {
    pub(crate) fn new(event_loop: &Bound<'_, PyAny>, alarm: Alarm) -> PyResult<Arc<Self>> {
        let origin = Instant::now();
        // A clock for tests counts from zero.
        let origin_seconds = match alarm {
            Alarm::Manual(_) => 0.0,
            Alarm::CallAt(_) => event_loop.call_method0(intern!(event_loop.py(), "time"))?.extract()?,
        };
        let desk = Arc::new(Self {
            event_loop: event_loop.clone().unbind(),
            origin,
            origin_seconds,
            told_nanos: AtomicU64::new(0),
            is_present: AtomicBool::new(false),
            turns: OnceLock::new(),
            engine: OnceLock::new(),
            alarm,
            state: Mutex::default(),
        });
        let engine = Engine::hosted(DeskHost { desk: Arc::downgrade(&desk), origin });
        assert!(desk.engine.set(engine).is_ok(), "a new desk has no engine yet");
        let turn = |by_alarm| Py::new(event_loop.py(), Turn { desk: Arc::downgrade(&desk), by_alarm });
        assert!(desk.turns.set([turn(false)?, turn(true)?]).is_ok(), "a new desk has no turns yet");
        Ok(desk)
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.engine.get().expect("set before anybody sees the desk")
    }

    pub(crate) fn event_loop<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.event_loop.bind(py)
    }

    /// Whether this thread is running the loop.
    pub(crate) fn is_here(&self, py: Python<'_>) -> bool {
        running_loop(py).is_some_and(|running| running.is(&self.event_loop))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Whether its time is told by a clock for tests.
    pub(crate) fn is_for_tests(&self) -> bool {
        matches!(self.alarm, Alarm::Manual(_))
    }

    /// The seconds that a moment is on the clock of the loop.
    pub(crate) fn seconds(&self, moment: Instant) -> f64 {
        self.origin_seconds + moment.saturating_duration_since(self.origin).as_secs_f64()
    }

    /// The same for a moment on the clock of the engine.
    pub(crate) fn seconds_of(&self, moment: everbeat::core::Instant) -> f64 {
        self.engine().time_of(moment).map_or(f64::INFINITY, |moment| self.seconds(moment))
    }

    /// How long after the origin a moment is.
    pub(crate) fn since_origin(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.origin)
    }

    /// The time.
    pub(crate) fn now(&self, py: Python<'_>) -> Instant {
        if self.is_present.load(Ordering::Acquire) {
            return self.origin + self.told();
        }
        let told = self.alarm.told_time().unwrap_or_else(|| self.ask_loop(py));
        self.told_nanos.fetch_max(u64::try_from(told.as_nanos()).unwrap_or(u64::MAX), Ordering::AcqRel);
        self.origin + told
    }

    /// Python code is about to run: the time is not what it was.
    pub(crate) fn expect_time_to_pass(&self) {
        self.is_present.store(false, Ordering::Release);
    }

    /// Reads the time for what comes until Python code runs.
    pub(crate) fn look_at_clock(&self, py: Python<'_>) {
        self.expect_time_to_pass();
        self.now(py);
        if self.lock().turning {
            self.is_present.store(true, Ordering::Release);
        }
    }

    /// The time since the origin. A loop that fails to tell it has it stand still.
    fn ask_loop(&self, py: Python<'_>) -> Duration {
        let seconds: PyResult<f64> =
            self.event_loop.bind(py).call_method0(intern!(py, "time")).and_then(|time| time.extract());
        let elapsed = seconds.ok().and_then(|seconds| {
            let elapsed = seconds - self.origin_seconds;
            if elapsed <= 0.0 { Some(Duration::ZERO) } else { Duration::try_from_secs_f64(elapsed).ok() }
        });
        elapsed.unwrap_or_else(|| self.told())
    }

    fn told(&self) -> Duration {
        Duration::from_nanos(self.told_nanos.load(Ordering::Acquire))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // By invariant 3 nothing can panic under the lock, so a poisoned one is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Turns.
impl Desk {
    /// Asks for a turn soon. From any thread.
    pub(crate) fn kick(self: &Arc<Self>, py: Python<'_>) {
        {
            let mut state = self.lock();
            if state.turning {
                state.again = true;
                return;
            }
            if mem::replace(&mut state.soon, true) || state.closed {
                return;
            }
        }
        let method =
            if self.is_here(py) { intern!(py, "call_soon") } else { intern!(py, "call_soon_threadsafe") };
        let called = self.event_loop.bind(py).call_method1(method, (self.turn_object(false),));
        if called.is_err() {
            self.close(); // the loop is closed: nothing runs there any more
        }
    }

    /// Steps a task at the end of the turn, or soon.
    pub(crate) fn wake_up(self: &Arc<Self>, py: Python<'_>, wakeup: Wakeup) {
        let unwanted = {
            let mut state = self.lock();
            if state.closed {
                Some(wakeup)
            } else {
                state.ready.push(wakeup);
                None
            }
        };
        if unwanted.is_none() {
            self.kick(py);
        }
    }

    /// Remembers what shall end the program, to be raised out of the loop after the turn.
    pub(crate) fn interrupt(self: &Arc<Self>, py: Python<'_>, error: &PyErr) {
        if ends_program(py, error) {
            let replaced = self.lock().interrupt.replace(error.clone_ref(py));
            drop(replaced);
            self.kick(py);
        }
    }

    fn turn(self: &Arc<Self>, py: Python<'_>, by_alarm: bool) -> PyResult<()> {
        {
            let mut state = self.lock();
            if state.closed || state.turning {
                return Ok(()); // a target runs the loop itself, one level deeper
            }
            state.turning = true;
            if by_alarm {
                state.armed = None;
            } else {
                state.soon = false;
            }
        }
        if by_alarm {
            self.alarm.rang();
        }
        self.look_at_clock(py);
        let mut next = self.engine().turn();
        let mut raised = self.step_ready(py);
        // Who was stepped may have finished a run: one more look spares an iteration of the loop.
        if mem::take(&mut self.lock().again) && raised.is_ok() {
            self.look_at_clock(py);
            next = self.engine().turn();
            raised = self.step_ready(py);
        }
        self.expect_time_to_pass();
        let (again, interrupt) = {
            let mut state = self.lock();
            state.turning = false;
            (mem::take(&mut state.again), state.interrupt.take())
        };
        if again || raised.is_err() {
            self.kick(py);
        }
        self.arm(py, next);
        raised.and(interrupt.map_or(Ok(()), Err))
    }

    /// Calls everybody who was woken. What ends the program leaves the rest for the next turn.
    fn step_ready(&self, py: Python<'_>) -> PyResult<()> {
        self.expect_time_to_pass();
        let mut ready = mem::take(&mut self.lock().ready).into_iter();
        while let Some(Wakeup { callback, argument, context }) = ready.next() {
            let called = match &context {
                Some(context) => context.call_method1(py, intern!(py, "run"), (&callback, argument)),
                None => callback.call1(py, (argument,)),
            };
            let Err(error) = called else { continue };
            if ends_program(py, &error) {
                let rest: Vec<_> = ready.collect();
                self.lock().ready.splice(..0, rest);
                return Err(error);
            }
            self.report(py, "a callback of a waiting task failed", &error);
        }
        Ok(())
    }

    fn report(&self, py: Python<'_>, message: &str, error: &PyErr) {
        let context = PyDict::new(py);
        let told = context
            .set_item("message", message)
            .and_then(|()| context.set_item("exception", error.value(py)))
            .and_then(|()| self.event_loop.bind(py).call_method1("call_exception_handler", (context,)));
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    }

    /// Sets the alarm to the next turn.
    fn arm(self: &Arc<Self>, py: Python<'_>, next: Option<Instant>) {
        let now = self.origin + self.told();
        let (before, due, at_once) = {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            // A clock for tests stands still as long as anything goes on in the loop.
            let stands_still = state.looked_at.replace(now) == Some(now);
            let soon = if stands_still { now } else { now + AT_ONCE };
            let at_once = next.is_some_and(|due| due <= soon);
            let due = if at_once { None } else { next };
            (mem::replace(&mut state.armed, due), due, at_once)
        };
        if at_once {
            self.kick(py);
        }
        if before != due {
            if let Err(error) = self.alarm.set(py, self, due) {
                self.report(py, "the alarm of timers could not be set", &error);
            }
        }
    }

    /// What the alarm calls.
    pub(crate) fn turn_by_alarm(&self) -> &Py<Turn> {
        self.turn_object(true)
    }

    fn turn_object(&self, by_alarm: bool) -> &Py<Turn> {
        let turns = self.turns.get().expect("set before anybody sees the desk");
        &turns[usize::from(by_alarm)]
    }
}

impl Desk {
    /// Ends all timers that are left, as abandoned. Nobody gets a turn from here on.
    pub(crate) fn close(&self) {
        let ready = {
            let mut state = self.lock();
            if mem::replace(&mut state.closed, true) {
                return;
            }
            mem::take(&mut state.ready)
        };
        self.engine().close(Duration::ZERO);
        Python::try_attach(|py| self.alarm.clear(py));
        drop(ready);
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// A turn, as the loop calls it.
#[pyclass(frozen, module = "everbeat._everbeat", name = "_Turn")]
pub(crate) struct Turn {
    desk: Weak<Desk>,
    by_alarm: bool,
}

#[pymethods]
impl Turn {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.desk.upgrade().map_or(Ok(()), |desk| desk.turn(py, self.by_alarm))
    }
}

/// The loop that this thread is running.
pub(crate) fn running_loop(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    static GET: pyo3::sync::PyOnceLock<Py<PyAny>> = pyo3::sync::PyOnceLock::new();
    let get = GET.import(py, "asyncio", "_get_running_loop").ok()?;
    get.call0().ok().filter(|running| !running.is_none())
}

/// Whether an exception is none of a timer's business but ends the program.
pub(crate) fn ends_program(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py)
}
