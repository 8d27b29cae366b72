//! The clock of a timer on a runtime, and how it sleeps.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use everbeat_core::Instant;
use pin_project_lite::pin_project;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Sleep;

use crate::guard::tell;
#[cfg(feature = "testing")]
use crate::testing::{MockClock, TestClock};
use crate::thread::{Engine, alarm::EngineAlarm};

/// The longest single sleep. Longer waits are made of several: a wake-up with nothing due is harmless, and
/// no runtime is asked to plan for centuries.
pub(super) const LONGEST_SLEEP: Duration = Duration::from_secs(365 * 24 * 3600);

/// The clock of timers. Its origin is fixed at the first start of one, which then keeps it over restarts.
#[derive(Debug)]
pub(crate) struct RuntimeClock {
    origin: tokio::time::Instant,
    /// Makes up for a runtime whose clock is behind what the timer has already seen.
    skew: Duration,
    runtime: Handle,
    source: Source,
    /// The thread that drives the runtime, as far as is known, where there is only one at a time.
    thread: AtomicUsize,
}

thread_local! {
    /// The clock that timers without a clock of their own have begun to use last, on this thread: those of one
    /// runtime share it.
    static NEWEST: RefCell<Weak<RuntimeClock>> = const { RefCell::new(Weak::new()) };
}

/// What tells this thread from all others that are alive.
fn this_thread() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here) as usize)
}

/// Whose time counts.
#[derive(Clone, Debug, Default)]
pub(crate) enum Source {
    /// The runtime's own, paused or not.
    #[default]
    Runtime,
    /// The same, but it is a test that ends the waits.
    #[cfg(feature = "testing")]
    Test(TestClock),
    /// None: every wait is over at once.
    #[cfg(feature = "testing")]
    Mock(MockClock),
}

impl Source {
    /// Whether it is the runtime's own time, and nobody else has a say in it.
    pub(crate) fn is_runtime(&self) -> bool {
        matches!(self, Self::Runtime)
    }
}

impl RuntimeClock {
    /// A clock on the runtime that this is called in; `None` outside of one. It goes on from `seen`, the
    /// latest time of the clock before it.
    pub(crate) fn current(source: Source, before: Option<&Arc<Self>>, seen: Instant) -> Option<Arc<Self>> {
        let runtime = Handle::try_current().ok()?;
        let shared = before.is_none() && source.is_runtime();
        // A thread that is being torn down may have lost it already.
        let known =
            if shared { NEWEST.try_with(|newest| newest.borrow().upgrade()).ok().flatten() } else { None };
        let clock = known.filter(|known| known.runtime.id() == runtime.id()).unwrap_or_else(|| {
            let origin = before.map_or_else(tokio::time::Instant::now, |clock| clock.origin);
            let mut clock =
                Self { origin, skew: Duration::ZERO, runtime, source, thread: AtomicUsize::new(0) };
            clock.skew = seen.saturating_since(clock.now());
            let clock = Arc::new(clock);
            if shared {
                let _ = NEWEST.try_with(|newest| newest.replace(Arc::downgrade(&clock)));
            }
            clock
        });
        clock.note_thread();
        Some(clock)
    }

    /// This thread drives the runtime, or is about to.
    pub(crate) fn note_thread(&self) {
        let here = this_thread();
        if self.thread.load(Ordering::Relaxed) != here {
            self.thread.store(here, Ordering::Relaxed);
        }
    }

    /// Whether the runtime has one thread at a time, and this is the one.
    pub(crate) fn needs_this_thread(&self) -> bool {
        self.is_single_threaded() && self.thread.load(Ordering::Relaxed) == this_thread()
    }

    /// When that is, or a year from now if it is later.
    fn deadline(&self, due: Instant) -> tokio::time::Instant {
        let due = due.saturating_since(Instant::ORIGIN + self.skew);
        // Nobody needs to look at the clock for what is due in the first year.
        if due <= LONGEST_SLEEP {
            return self.origin + due;
        }
        self.origin + due.min(self.origin.elapsed() + LONGEST_SLEEP)
    }

    /// The time, on a thread of the runtime.
    pub(crate) fn now(&self) -> Instant {
        #[cfg(feature = "testing")]
        if let Source::Mock(mock) = &self.source {
            return mock.now();
        }
        Instant::from_elapsed(self.origin.elapsed()) + self.skew
    }

    /// The time, on any thread. Entering the runtime makes a paused clock count there as well. `None` on
    /// a thread that is being torn down, where no runtime can be entered.
    pub(crate) fn now_anywhere(&self) -> Option<Instant> {
        inside(&self.runtime, || self.now())
    }

    /// A timer did something, or makes way for others because its period is zero.
    #[cfg_attr(not(feature = "testing"), allow(unused_variables, clippy::unused_self))]
    pub(crate) fn note_activity(&self, restless: bool) {
        #[cfg(feature = "testing")]
        match &self.source {
            _ if restless => crate::testing::note_restless(),
            Source::Test(test) => test.note_activity(),
            Source::Runtime | Source::Mock(_) => {}
        }
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Whether only one thread at a time drives what lives on it.
    fn is_single_threaded(&self) -> bool {
        self.runtime.runtime_flavor() == RuntimeFlavor::CurrentThread
    }

    /// The point in time on the machine's clock; `None` if that cannot represent it.
    pub(crate) fn to_std(&self, instant: Instant) -> Option<std::time::Instant> {
        self.origin.into_std().checked_add(instant.saturating_since(Instant::ORIGIN + self.skew))
    }

    /// A point in time on the machine's clock, as this clock counts it; its origin if it lies before.
    pub(crate) fn at_std(&self, instant: std::time::Instant) -> Instant {
        let elapsed = instant.saturating_duration_since(self.origin.into_std());
        Instant::from_elapsed(elapsed) + self.skew
    }
}

/// A wait that a test ends.
#[cfg(feature = "testing")]
type Appointment = Option<crate::testing::Appointment>;
#[cfg(not(feature = "testing"))]
type Appointment = ();

/// Does something inside a runtime, on any thread. `None` on one that is being torn down, where no runtime can be
/// entered.
pub(super) fn inside<R>(runtime: &Handle, f: impl FnOnce() -> R) -> Option<R> {
    match Handle::try_current() {
        Ok(current) if current.id() == runtime.id() => Some(f()),
        Err(error) if error.is_thread_local_destroyed() => None,
        _ => {
            let _context = runtime.enter();
            Some(f())
        }
    }
}

/// A sleep to be set. `None` outside of a runtime, and where it has no time driver.
pub(super) fn new_sleep() -> Option<Sleep> {
    Handle::try_current().ok()?;
    // Without a time driver tokio panics here, and offers no way to ask before.
    std::panic::catch_unwind(|| tokio::time::sleep(Duration::ZERO)).ok()
}

pin_project! {
    /// The one sleep of a driver, set anew for every wait.
    #[derive(Debug)]
    pub(crate) struct Alarm {
        #[pin]
        sleep: Sleep,
        // Rings in place of `sleep`, more precisely.
        engine: Option<Box<EngineAlarm>>,
        appointment: Appointment,
    }
}

impl Alarm {
    /// An alarm that is not set. `None` outside of a runtime, and where it has no time driver.
    pub(crate) fn new(engine: Option<Engine>) -> Option<Self> {
        let sleep = new_sleep()?;
        let engine = engine.map(|engine| Box::new(EngineAlarm::new(engine)));
        Some(Self { sleep, engine, appointment: Appointment::default() })
    }

    /// Ready once it is worth looking at the clock again: at `due`, or earlier for a wait that is too
    /// long for one sleep. `busy` tells that a run is in flight.
    #[cfg_attr(not(feature = "testing"), allow(unused_variables))]
    pub(crate) fn poll_until(
        self: Pin<&mut Self>,
        clock: &RuntimeClock,
        due: Instant,
        busy: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        match &clock.source {
            Source::Runtime => self.poll_sleep(clock, due, cx),
            #[cfg(feature = "testing")]
            Source::Test(test) => {
                let wait = due.saturating_since(clock.now());
                test.poll_appointment(self.project().appointment, wait, cx)
            }
            #[cfg(feature = "testing")]
            Source::Mock(mock) => mock.poll_sleep(due, busy, cx),
        }
    }

    /// Nothing is waited for: no clock for tests shall see an appointment.
    pub(crate) fn clear(self: Pin<&mut Self>) {
        let this = self.project();
        *this.appointment = Appointment::default();
        if let Some(engine) = this.engine {
            engine.clear();
        }
    }

    fn poll_sleep(
        self: Pin<&mut Self>,
        clock: &RuntimeClock,
        due: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut this = self.project();
        if let Some(engine) = this.engine {
            match std::task::ready!(engine.poll_wait(due.saturating_since(clock.now()), cx)) {
                Ok(()) => return Poll::Ready(()),
                Err(error) => tell!(WARN, %error, "the engine keeps no time: tokio's clock does"),
            }
            *this.engine = None;
        }
        let deadline = clock.deadline(due);
        // One that rang has to be set again, even for the same time.
        if this.sleep.deadline() != deadline || this.sleep.is_elapsed() {
            this.sleep.as_mut().reset(deadline);
        }
        this.sleep.poll(cx)
    }
}
