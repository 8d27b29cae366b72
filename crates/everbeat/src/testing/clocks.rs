//! The clocks for timers on tokio.
//!
//! # Locks
//!
//! The lock of a clock is held for a few instructions, never while anything is woken or polled, and no
//! other lock is taken under it. Whoever moves time holds the clock's `turn` all the while; it may wait.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use everbeat_core::{Instant, Key, Queue};

use crate::runtime::clock::Source;

/// Everything has settled once this many yields to the runtime in a row saw no timer do anything. On
/// tokio's single-threaded runtime each yield comes back only after up to 61 other tasks had their turn.
const QUIET_YIELDS: usize = 64;

/// A test that has not come to rest after this many yields never will.
const MOST_YIELDS: usize = 1_000_000;

/// How many waits a [`MockClock`] remembers.
const WAITS_REMEMBERED: usize = 65_536;

/// A clock that a test moves by hand.
///
/// Timers that are given it by [`Builder::clock`](crate::Builder::clock) tick only during
/// [`advance`](Self::advance) and [`advance_to_next`](Self::advance_to_next), in the order of their
/// deadlines, and everything that one of them wakes settles before the next. tokio's own clock is paused
/// and moved along, so that `tokio::time::sleep` in a target takes its time as well.
///
/// Works on tokio's single-threaded runtime (the default of `#[tokio::test]`). Runs that are offloaded
/// to a thread take real time. Beside a timer of period zero, or one with a [`MockClock`], tokio's own
/// sleeps end late, at the next deadline of a timer; beside a task of yours that never waits, time cannot
/// move at all. While the runtime is otherwise idle, tokio's paused clock still jumps to the next of
/// *tokio's* deadlines, as it always does.
///
/// If several tasks move time they take turns: each goes its whole way before the next one begins. So
/// do not wait for one way while you hold the future of another that you no longer poll.
#[derive(Clone, Debug)]
pub struct TestClock {
    origin: tokio::time::Instant,
    appointments: Arc<Mutex<Appointments>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Appointments {
    queue: Queue<Waker>,
    /// The test that moves time, to be told of new appointments.
    traveller: Option<Waker>,
    /// How often a timer of this clock did something.
    activity: u64,
    /// A timer of the runtime, whichever its clock, runs as often as it can.
    restless: bool,
}

thread_local! {
    /// The clocks moved on this thread, which is the one that drives the runtime they share.
    static CLOCKS: RefCell<Vec<Weak<Mutex<Appointments>>>> = const { RefCell::new(Vec::new()) };
}

impl TestClock {
    /// Pauses tokio's time, if it is not paused yet, and takes it into the test's hand.
    ///
    /// # Panics
    /// Outside of a tokio runtime, or on a multi-threaded one.
    #[must_use]
    pub fn new() -> Self {
        if !is_paused() {
            tokio::time::pause();
        }
        Self { origin: tokio::time::Instant::now(), appointments: Arc::default(), turn: Arc::default() }
    }

    /// The time since this clock was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    /// When the next timer is due, counted from when this clock was made.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.appointments().queue.next_due().map(Instant::elapsed_since_origin)
    }

    /// Moves time by `span`. Every timer that comes due ticks at its own time; returns once all that
    /// followed from it has settled.
    pub async fn advance(&self, span: Duration) {
        let _turn = self.turn.lock().await;
        self.advance_to(self.now() + span).await;
    }

    /// Moves time to the next deadline, lets every timer tick that is due there, and returns how far it
    /// was. `None`, at once, if no timer waits for anything.
    pub async fn advance_to_next(&self) -> Option<Duration> {
        let _turn = self.turn.lock().await;
        self.settle().await;
        let start = self.now();
        let next = self.appointments().queue.next_due()?;
        self.advance_to(next).await;
        Some(self.now().saturating_since(start))
    }

    /// Lets everything run that can, without moving time: until the timers of this clock, and what they
    /// have woken, have nothing left to do. Beside a timer of period zero, which always has, it lets the
    /// others settle.
    ///
    /// # Panics
    /// When a target never comes to rest: one that loops around `yield_now`, say.
    pub async fn settle(&self) {
        self.listen_for_restlessness();
        let (mut seen, mut quiet) = (self.appointments().activity, 0);
        for _ in 0..MOST_YIELDS {
            tokio::task::yield_now().await;
            let activity = self.appointments().activity;
            quiet = if activity == seen { quiet + 1 } else { 0 };
            if quiet == QUIET_YIELDS {
                return;
            }
            seen = activity;
        }
        panic!("after {MOST_YIELDS} turns a timer of this clock is still busy: its target never waits");
    }

    /// From here on it shows whether a timer of the runtime is restless.
    fn listen_for_restlessness(&self) {
        self.appointments().restless = false;
        CLOCKS.with_borrow_mut(|clocks| {
            let me = Arc::downgrade(&self.appointments);
            if !clocks.iter().any(|clock| clock.ptr_eq(&me)) {
                clocks.retain(|clock| clock.strong_count() > 0);
                clocks.push(me);
            }
        });
    }

    async fn advance_to(&self, end: Instant) {
        self.settle().await;
        loop {
            let next = self.appointments().queue.next_due().filter(|due| *due <= end);
            if !self.travel_to(next.unwrap_or(end)).await {
                self.settle().await; // on the way somebody made an earlier appointment
                continue;
            }
            let appointment = self.appointments().queue.pop_due(end);
            let over = appointment.is_none();
            if let Some((_, waker)) = appointment {
                waker.wake();
            }
            self.settle().await;
            if over && self.appointments().queue.next_due().is_none_or(|due| due > end) {
                return;
            }
        }
    }

    /// Moves to `time`, or only to where somebody makes an appointment before it: then `false`.
    async fn travel_to(&self, time: Instant) -> bool {
        // Sleeping lets tokio's own timers fire on the way; they are exact to a millisecond only.
        let almost = time.saturating_since(self.now()).saturating_sub(Duration::from_millis(1));
        // A timer of period zero never lets the runtime be idle, and tokio's time moves only when it is.
        if almost > Duration::from_millis(1) && !self.appointments().restless {
            let mut sleep = std::pin::pin!(tokio::time::sleep(almost));
            let arrived = poll_fn(|cx| {
                let waker = cx.waker().clone();
                let mut appointments = self.appointments();
                let before = appointments.traveller.replace(waker);
                let earlier = appointments.queue.next_due().is_some_and(|due| due < time);
                let interrupted = earlier || appointments.restless;
                drop((appointments, before));
                if interrupted { Poll::Ready(false) } else { sleep.as_mut().poll(cx).map(|()| true) }
            });
            if !arrived.await {
                return false;
            }
        }
        let rest = time.saturating_since(self.now());
        if !rest.is_zero() {
            tokio::time::advance(rest).await;
        }
        true
    }

    fn now(&self) -> Instant {
        Instant::from_elapsed(self.origin.elapsed())
    }

    /// A timer of this clock did something, other than to make way for others because it is restless.
    pub(crate) fn note_activity(&self) {
        self.appointments().activity += 1;
    }

    fn appointments(&self) -> MutexGuard<'_, Appointments> {
        self.appointments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready if `wait` is over, else keeps the appointment at its end.
    pub(crate) fn poll_appointment(
        &self,
        appointment: &mut Option<Appointment>,
        wait: Duration,
        cx: &Context<'_>,
    ) -> Poll<()> {
        if wait.is_zero() {
            *appointment = None;
            return Poll::Ready(());
        }
        let due = self.now() + wait;
        match appointment {
            Some(kept) if kept.due == due && kept.refresh(cx.waker()) => {}
            _ => *appointment = Some(Appointment::make(self, due, cx.waker().clone())),
        }
        Poll::Pending
    }
}

/// A timer makes way for others because its period is zero or its clock does not wait. The runtime is
/// never idle beside it, so tokio's time stands still: whoever moves time has to know.
pub(crate) fn note_restless() {
    let travellers = CLOCKS.try_with(|clocks| {
        let clocks = clocks.borrow();
        let living = clocks.iter().filter_map(Weak::upgrade);
        let told = living.filter_map(|clock| {
            let mut appointments = clock.lock().unwrap_or_else(PoisonError::into_inner);
            appointments.restless = true;
            appointments.traveller.take()
        });
        told.collect::<Vec<_>>()
    });
    // A thread that is being torn down drives no runtime.
    travellers.unwrap_or_default().into_iter().for_each(Waker::wake);
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether tokio's clock stands still while the machine's goes on.
fn is_paused() -> bool {
    let before = tokio::time::Instant::now();
    let real = std::time::Instant::now();
    while real.elapsed() < Duration::from_micros(5) {
        std::hint::spin_loop();
    }
    tokio::time::Instant::now() == before
}

/// A place in the queue of a [`TestClock`], given up when dropped.
#[derive(Debug)]
pub(crate) struct Appointment {
    clock: TestClock,
    key: Key,
    due: Instant,
}

impl Appointment {
    fn make(clock: &TestClock, due: Instant, waker: Waker) -> Self {
        let (key, traveller) = {
            let mut appointments = clock.appointments();
            (appointments.queue.insert(due, waker), appointments.traveller.take())
        };
        if let Some(traveller) = traveller {
            traveller.wake();
        }
        Self { clock: clock.clone(), key, due }
    }

    /// Whether the appointment still stands; its waker is `waker` from now on.
    fn refresh(&self, waker: &Waker) -> bool {
        let fresh = waker.clone(); // outside of the lock: it may run code of the user's
        let mut appointments = self.clock.appointments();
        let old = appointments.queue.get_mut(self.key).map(|kept| std::mem::replace(kept, fresh));
        drop(appointments);
        old.is_some()
    }
}

impl Drop for Appointment {
    fn drop(&mut self) {
        let waker = self.clock.appointments().queue.remove(self.key);
        drop(waker);
    }
}

/// A clock that never waits: timers tick as fast as the runtime runs them.
///
/// Each timer has a time of its own that jumps to the deadline it would have slept for. What it would
/// have slept is recorded in [`waits`](Self::waits).
///
/// ```
/// use everbeat::{Timer, testing::MockClock};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), everbeat::Error> {
/// let clock = MockClock::new();
/// let hour = Duration::from_secs(3600);
/// let beat = Timer::every(hour).max_runs(3).clock(&clock).start(|| ())?;
/// beat.wait().await?;
/// assert_eq!(clock.waits(), [hour, hour]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct MockClock {
    waits: Arc<Mutex<VecDeque<Duration>>>,
    now_nanos: Arc<AtomicU64>,
}

impl MockClock {
    /// A clock with nothing recorded.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The waits that were skipped, oldest first; the newest 65,536 of them.
    #[must_use]
    pub fn waits(&self) -> Vec<Duration> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// The same record, with a time of its own for one more timer.
    pub(crate) fn for_timer(&self) -> Self {
        Self { waits: self.waits.clone(), now_nanos: Arc::default() }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(self.now_nanos.load(Ordering::Relaxed))
    }

    /// Skips the wait, but yields once. While a run is in flight only that run can end the wait.
    pub(crate) fn poll_sleep(&self, due: Instant, busy: bool, cx: &Context<'_>) -> Poll<()> {
        if busy {
            return Poll::Pending;
        }
        let wait = due.saturating_since(self.now());
        if wait.is_zero() {
            return Poll::Ready(());
        }
        self.now_nanos.store(due.as_nanos(), Ordering::Relaxed);
        self.record(wait);
        note_restless();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn record(&self, wait: Duration) {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if waits.len() == WAITS_REMEMBERED {
            waits.pop_front();
        }
        waits.push_back(wait);
    }
}

/// A clock for tests, as [`Builder::clock`](crate::Builder::clock) takes it.
#[derive(Clone, Debug)]
pub struct Clock(pub(crate) Source);

impl From<&TestClock> for Clock {
    fn from(clock: &TestClock) -> Self {
        Self(Source::Test(clock.clone()))
    }
}

impl From<&MockClock> for Clock {
    fn from(clock: &MockClock) -> Self {
        Self(Source::Mock(clock.for_timer()))
    }
}
