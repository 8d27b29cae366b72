//! The clock of an event loop, as its desk reads it.
//!
//! `loop.time()` decides. Asking it costs a call of Python code, so within a turn of the desk it is asked
//! once. After Python code has run in the turn the time is read anew: from the machine's clock if the loop has
//! always told the same, as asyncio's own loop does, and else from the loop again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;

use crate::desk::ends_program;

/// A loop that tells a time between two readings of the machine's clock, or so little off, has the same clock.
const SAME: Duration = Duration::from_micros(5);

/// Of a second.
const NANOSECOND: f64 = 1e-9;

/// So often the loop is asked at first: the first time it takes long, and nobody knows when in between it looked.
const FIRST_LOOKS: usize = 3;

pub(crate) struct LoopClock {
    /// The moment that `origin_seconds` is on the clock of the loop.
    origin: Instant,
    origin_seconds: f64,
    /// Whether the loop counts whole milliseconds, as uvloop does.
    counts_millis: bool,
    /// The latest time that the loop has told, in nanoseconds since the origin.
    told_nanos: AtomicU64,
    /// Whether `told_nanos` is the present time: in a turn, until Python code runs.
    is_present: AtomicBool,
    /// Whether the loop has once told another time than the machine: one in virtual time agrees by chance.
    is_another: AtomicBool,
    /// Whether the loop's clock was the machine's when the turn began.
    is_real: AtomicBool,
    /// What the handler of a signal has raised in the middle of `loop.time()`.
    interrupt: Mutex<Option<PyErr>>,
}

impl LoopClock {
    pub(crate) fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let look = || -> PyResult<(Duration, Instant, f64)> {
            // Before the loop is asked: so the machine's clock is never behind that of the loop, and no tick is early.
            let before = Instant::now();
            let seconds = event_loop.call_method0(intern!(event_loop.py(), "time"))?.extract()?;
            Ok((before.elapsed(), before, seconds))
        };
        let mut closest = look()?;
        for _ in 1..FIRST_LOOKS {
            let (took, before, seconds) = look()?;
            if took < closest.0 {
                closest = (took, before, seconds);
            }
        }
        let (_, origin, origin_seconds) = closest;
        let kind = event_loop.get_type();
        let counts_millis = kind.module().is_ok_and(|module| module == "uvloop");
        Ok(Self { counts_millis, ..Self::from(origin, origin_seconds) })
    }

    fn from(origin: Instant, origin_seconds: f64) -> Self {
        Self {
            origin,
            origin_seconds,
            counts_millis: false,
            told_nanos: AtomicU64::new(0),
            is_present: AtomicBool::new(false),
            is_another: AtomicBool::new(false),
            is_real: AtomicBool::new(false),
            interrupt: Mutex::default(),
        }
    }

    /// A clock that somebody moves by [`note`](Self::note). It counts from zero.
    pub(crate) fn for_tests() -> Self {
        Self::from(Instant::now(), 0.0)
    }

    pub(crate) fn origin(&self) -> Instant {
        self.origin
    }

    /// The time.
    pub(crate) fn now(&self, event_loop: &Bound<'_, PyAny>) -> Instant {
        if self.is_present.load(Ordering::Acquire) { self.told() } else { self.ask(event_loop) }
    }

    /// The latest time that was told.
    pub(crate) fn told(&self) -> Instant {
        self.origin + Duration::from_nanos(self.told_nanos.load(Ordering::Acquire))
    }

    /// Whether the machine's clock was seen to be the loop's in this turn.
    pub(crate) fn is_real(&self) -> bool {
        self.is_real.load(Ordering::Acquire)
    }

    /// A turn begins: from here until Python code runs it is this time.
    pub(crate) fn begin_turn(&self, event_loop: &Bound<'_, PyAny>) {
        let before = Instant::now();
        let told = self.ask(event_loop);
        let after = Instant::now();
        let agrees = told + SAME >= before && told <= after + SAME;
        let is_another = self.is_another.fetch_or(!agrees, Ordering::AcqRel);
        // A clock of milliseconds agrees with the machine's at times, and then stands still.
        self.is_real.store(agrees && !is_another && !self.counts_millis, Ordering::Release);
        self.is_present.store(true, Ordering::Release);
    }

    /// Python code is about to run: the time is not what it was.
    pub(crate) fn let_time_pass(&self) {
        self.is_present.store(false, Ordering::Release);
    }

    /// Python code has run in a turn: from here until it does again it is this time.
    pub(crate) fn look_again(&self, event_loop: &Bound<'_, PyAny>) {
        if self.is_real() {
            self.note(self.origin.elapsed());
        } else {
            self.ask(event_loop);
        }
        self.is_present.store(true, Ordering::Release);
    }

    /// Sets a clock for tests, which has no loop to be asked.
    pub(crate) fn note(&self, told: Duration) -> Instant {
        let told = u64::try_from(told.as_nanos()).unwrap_or(u64::MAX);
        self.told_nanos.fetch_max(told, Ordering::AcqRel);
        self.told()
    }

    /// Asks the loop. One that fails to tell the time has it stand still.
    fn ask(&self, event_loop: &Bound<'_, PyAny>) -> Instant {
        let seconds: PyResult<f64> =
            event_loop.call_method0(intern!(event_loop.py(), "time")).and_then(|time| time.extract());
        let elapsed = seconds.map_or_else(
            |error| {
                self.keep_interrupt(event_loop.py(), error);
                0.0
            },
            |seconds| seconds - self.origin_seconds,
        );
        // What is before the origin, or no number, or past all bounds, changes nothing.
        self.note(Duration::try_from_secs_f64(elapsed.max(0.0)).unwrap_or_default())
    }

    fn keep_interrupt(&self, py: Python<'_>, error: PyErr) {
        if ends_program(py, &error) {
            let before = self.interrupt().replace(error);
            drop(before);
        }
    }

    /// What shall end the program.
    pub(crate) fn take_interrupt(&self) -> Option<PyErr> {
        self.interrupt().take()
    }

    fn interrupt(&self) -> MutexGuard<'_, Option<PyErr>> {
        self.interrupt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The seconds that a moment is on the clock of the loop.
    pub(crate) fn seconds(&self, moment: Instant) -> f64 {
        self.origin_seconds + self.since_origin(moment).as_secs_f64()
    }

    /// When to have the loop call for a moment: then it has come. `early` calls in a row came before, and the clock
    /// has stood still since: it rounds off what it is asked for, so each time twice as much is added.
    pub(crate) fn alarm_seconds(&self, moment: Instant, early: u32) -> f64 {
        let seconds = self.seconds(moment);
        let more = f64::from((1_u32 << early.min(31)) - 1);
        if self.counts_millis {
            // Such a loop takes a fraction of a millisecond for nothing, and would call again and again.
            return ((seconds * 1_000.0).ceil() + more) / 1_000.0;
        }
        let next = f64::from_bits(seconds.to_bits() + 1).max(seconds); // the next larger number
        next + more * (seconds.abs() * f64::EPSILON).max(NANOSECOND)
    }

    /// How long after the origin a moment is.
    pub(crate) fn since_origin(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.origin)
    }
}
