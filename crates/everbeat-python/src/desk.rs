//! The place that timers have in an event loop: one engine, one armed call.
//!
//! # Invariants
//!
//! 1. The engine has its turns on the loop's own thread, called by the loop. However many timers there are, at
//!    most one `call_soon` and one alarm are outstanding.
//! 2. `loop.time()` is the only clock (`clock.rs`). What is due is decided by it in the turn; an alarm that
//!    rings early, late or for nothing leads to another look.
//! 3. The lock is held for a few instructions and never while Python code can run; what it guards is moved
//!    out first.
//! 4. Tasks that a turn has woken are stepped at its end, in the order in which they were woken, outside of
//!    the engine.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use everbeat::thread::{Engine, Host};
use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::alarm::Alarm;
use crate::call::call_out;
use crate::clock::LoopClock;
use crate::{context, errors, process};

/// What is due so soon is not worth an alarm, which asyncio may round up to a millisecond.
const AT_ONCE: Duration = Duration::from_micros(20);

/// asyncio rounds a wait of this length up to two milliseconds.
const GATHER: Duration = Duration::from_micros(1_700);

/// A timer with a longer period does not mind two milliseconds.
const UNHURRIED: Duration = Duration::from_millis(100);

/// So few runs are not worth a wake-up each millisecond.
const FEW_RUNS: u32 = 4;

/// The place for timers in one event loop.
pub(crate) struct Desk {
    /// A child of `fork` has a copy of the loop, and leaves the timers to its parent.
    process: u32,
    event_loop: Py<PyAny>,
    clock: LoopClock,
    turns: OnceLock<[Py<Turn>; 2]>,
    finished: OnceLock<Py<PyAny>>,
    engine: OnceLock<Engine>,
    alarm: Alarm,
    /// In the present turn.
    runs: AtomicU32,
    /// Whether there was ever a timer with a short period.
    hurries: AtomicBool,
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
    /// When the alarm has rung last.
    rang: Option<Instant>,
    /// How often in a row it has rung before what it was set to, at one and the same time.
    early: u32,
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
        let clock = match alarm {
            Alarm::Manual(_) => LoopClock::for_tests(),
            _ => LoopClock::new(event_loop)?,
        };
        let origin = clock.origin();
        let desk = Arc::new(Self {
            process: process::id(),
            event_loop: event_loop.clone().unbind(),
            clock,
            turns: OnceLock::new(),
            finished: OnceLock::new(),
            engine: OnceLock::new(),
            alarm,
            runs: AtomicU32::new(0),
            hurries: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let engine = Engine::hosted(DeskHost { desk: Arc::downgrade(&desk), origin });
        assert!(desk.engine.set(engine).is_ok(), "a new desk has no engine yet");
        let turn = |by_alarm| Py::new(event_loop.py(), Turn { desk: Arc::downgrade(&desk), by_alarm });
        assert!(desk.turns.set([turn(false)?, turn(true)?]).is_ok(), "a new desk has no turns yet");
        desk.alarm.connect(event_loop.py(), &desk)?;
        Ok(desk)
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.engine.get().expect("set before anybody sees the desk")
    }

    pub(crate) fn event_loop<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.event_loop.bind(py)
    }

    /// A future of the loop that is done, with the result `None`.
    pub(crate) fn finished_future(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        if let Some(finished) = self.finished.get() {
            return Some(finished.clone_ref(py));
        }
        let future = self.event_loop.call_method0(py, intern!(py, "create_future")).ok()?;
        future.call_method1(py, intern!(py, "set_result"), (py.None(),)).ok()?;
        Some(self.finished.get_or_init(|| future).clone_ref(py))
    }

    /// Whether this process has only inherited it.
    ///
    /// # Errors
    /// `TimerError`, if that is so.
    pub(crate) fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        let (maker, this) = (self.process, process::id());
        if maker == this {
            return Ok(());
        }
        let message = format!(
            "this timer belongs to process {maker}, of which this one ({this}) is a fork: make a new one here"
        );
        Err(errors::timer_error(py, message))
    }

    /// Whether this thread is running the loop.
    pub(crate) fn is_here(&self, py: Python<'_>) -> bool {
        running_loop(py).is_some_and(|running| running.is(&self.event_loop))
    }

    /// Whether the loop goes on, and on another thread than this.
    pub(crate) fn is_elsewhere(&self, py: Python<'_>) -> bool {
        !self.is_closed() && !self.is_here(py)
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
        self.clock.seconds(moment)
    }

    /// The same for a moment on the clock of the engine.
    pub(crate) fn seconds_of(&self, moment: everbeat::core::Instant) -> f64 {
        self.engine().time_of(moment).map_or(f64::INFINITY, |moment| self.seconds(moment))
    }

    /// When to have the loop call for a moment.
    pub(crate) fn alarm_seconds(&self, moment: Instant) -> f64 {
        self.clock.alarm_seconds(moment, self.lock().early)
    }

    /// How long after the origin of its clock a moment is.
    pub(crate) fn since_origin(&self, moment: Instant) -> Duration {
        self.clock.since_origin(moment)
    }

    /// The time.
    pub(crate) fn now(&self, py: Python<'_>) -> Instant {
        match self.alarm.told_time() {
            Some(told) => self.clock.note(told),
            None => self.clock.now(self.event_loop.bind(py)),
        }
    }

    /// Python code is about to run in a turn.
    pub(crate) fn let_time_pass(&self) {
        self.clock.let_time_pass();
    }

    /// Python code has run in a turn.
    pub(crate) fn look_at_clock(&self, py: Python<'_>) {
        if !self.is_for_tests() && self.lock().turning {
            self.clock.look_again(self.event_loop.bind(py));
        }
    }

    /// One more run in this turn.
    pub(crate) fn count_run(&self) {
        self.runs.fetch_add(1, Ordering::Relaxed);
    }

    /// A timer with this period is to live here.
    pub(crate) fn expect_period(&self, period: Duration) {
        if period < UNHURRIED {
            self.hurries.store(true, Ordering::Relaxed);
        }
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
        let turn = (self.turn_object(false),);
        let called = empty_context(py).and_then(|options| {
            self.event_loop.bind(py).call_method(self.call_soon(py), turn, Some(&options))
        });
        match called {
            Err(error) if ends_program(py, &error) => {
                self.lock().soon = false;
                self.interrupt(py, &error); // a signal came in the middle of the call
            }
            Err(_) => self.close(), // the loop is closed: nothing runs there any more
            Ok(_) => {}
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
        match unwanted {
            None => self.kick(py),
            Some(wakeup) => self.hand_over(py, wakeup),
        }
    }

    /// Has the loop itself call somebody for whom there is no turn any more: it may go on after the desk.
    fn hand_over(&self, py: Python<'_>, wakeup: Wakeup) {
        let Wakeup { callback, argument, context } = wakeup;
        let options = PyDict::new(py);
        let called = options.set_item(intern!(py, "context"), context).and_then(|()| {
            let call = (callback, argument);
            self.event_loop.bind(py).call_method(self.call_soon(py), call, Some(&options))
        });
        drop(called); // a loop that is closed calls nobody
    }

    /// The name of the loop's method that is right for this thread.
    fn call_soon<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        if self.is_here(py) { intern!(py, "call_soon") } else { intern!(py, "call_soon_threadsafe") }
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
        let set_to = {
            let mut state = self.lock();
            let set_to = if by_alarm { state.armed.take() } else { None };
            if !by_alarm {
                state.soon = false;
            }
            if state.closed || self.process != process::id() {
                return Ok(());
            }
            if mem::replace(&mut state.turning, true) {
                state.again = true; // a target runs the loop itself, one level deeper
                return Ok(());
            }
            set_to
        };
        if by_alarm {
            self.alarm.rang();
        }
        let event_loop = self.event_loop.bind(py);
        if !self.is_for_tests() {
            self.clock.begin_turn(event_loop);
        }
        if by_alarm {
            self.note_ring(set_to);
        }
        self.runs.store(0, Ordering::Relaxed);
        let mut next = self.engine().turn();
        let mut raised = self.step_ready(py);
        // Who was stepped may have finished a run: one more look spares an iteration of the loop.
        if mem::take(&mut self.lock().again) && raised.is_ok() {
            self.look_at_clock(py);
            next = self.engine().turn();
            raised = self.step_ready(py);
        }
        self.clock.let_time_pass();
        let (again, interrupt) = {
            let mut state = self.lock();
            state.turning = false;
            (mem::take(&mut state.again), state.interrupt.take())
        };
        let interrupt = interrupt.or_else(|| self.clock.take_interrupt());
        if again || raised.is_err() {
            self.kick(py);
        }
        self.arm(py, next);
        raised.and(interrupt.map_or(Ok(()), Err))
    }

    /// Calls everybody who was woken. What ends the program leaves the rest for the next turn: a task that has ended in
    /// this one would stop the loop once more, in the middle of its cleanup.
    fn step_ready(&self, py: Python<'_>) -> PyResult<()> {
        self.clock.let_time_pass();
        let interrupt = self.lock().interrupt.take();
        interrupt.map_or(Ok(()), Err)?;
        let mut ready = mem::take(&mut self.lock().ready).into_iter();
        while let Some(Wakeup { callback, argument, context }) = ready.next() {
            let called = match &context {
                Some(context) => context::run(py, (context, &callback, argument)),
                None => {
                    (argument,).into_pyobject(py).and_then(|args| call_out(callback.bind(py), &args, None))
                }
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
        // A clock for tests may stand still as long as anything goes on in the loop.
        let soon = if self.clock.is_real() { self.clock.told() + AT_ONCE } else { self.clock.told() };
        let at_once = next.is_some_and(|due| due <= soon);
        let due = if at_once { None } else { next.map(|due| self.gathered(due)) };
        let before = {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            mem::replace(&mut state.armed, due)
        };
        if at_once {
            self.kick(py);
        }
        if before != due {
            let set = self.alarm.set(py, self, due);
            if !matches!(set, Ok(true)) {
                self.lock().armed = None; // the next turn tries again
            }
            match set {
                Err(error) if ends_program(py, &error) => self.interrupt(py, &error),
                Err(error) => self.report(py, "the alarm of timers could not be set", &error),
                Ok(_) => {}
            }
        }
    }

    /// The alarm has rung. A loop may call a little early, and time goes on; but one whose clock has stood still
    /// since the last call would do so for ever.
    fn note_ring(&self, set_to: Option<Instant>) {
        let now = self.clock.told();
        let mut state = self.lock();
        let before = state.rang.replace(now);
        let again = before == Some(now) && set_to.is_some_and(|due| due > now);
        state.early = if again { state.early.saturating_add(1) } else { 0 };
    }

    /// When to ring for what is due then. A wake-up costs many times what a run does, so where there is little
    /// to do in each and nobody is in a hurry, what is due within two milliseconds shares one. asyncio, which
    /// rounds its waits up to a millisecond, would be as late.
    fn gathered(&self, due: Instant) -> Instant {
        let few = self.runs.load(Ordering::Relaxed) < FEW_RUNS;
        if !few || self.hurries.load(Ordering::Relaxed) || !self.clock.is_real() || self.alarm.is_precise() {
            return due;
        }
        self.lock().rang.map_or(due, |rang| due.max(rang + GATHER))
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
        if self.process != process::id() {
            return; // its timers go on, in the parent
        }
        self.engine().close(Duration::ZERO);
        Python::try_attach(|py| {
            self.alarm.close(py, self);
            ready.into_iter().for_each(|wakeup| self.hand_over(py, wakeup));
        });
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

/// The option `context` of a call: an empty one. That of whoever happens to make a call would be kept by it,
/// with all that is in it. One for each call, since a target may run the loop itself, and a context is entered
/// once at a time: a turn that cannot begin would never be asked for again.
pub(crate) fn empty_context(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let options = PyDict::new(py);
    options.set_item(intern!(py, "context"), context::empty(py)?)?;
    Ok(options)
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
