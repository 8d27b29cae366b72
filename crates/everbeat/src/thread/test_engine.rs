//! An engine whose time a test moves by hand.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant as StdInstant};

use everbeat_core::Instant;

use super::handle::Engine;
use super::host::Host;

/// A test that has not come to rest after this many rounds never will.
const MOST_ROUNDS: usize = 1_000_000;

/// An engine whose time a test moves by hand, on the test's own thread.
///
/// Timers that are given it by [`Builder::on`](crate::Builder::on) run only during
/// [`advance`](Self::advance), [`advance_to_next`](Self::advance_to_next) and [`settle`](Self::settle), in
/// the order of their deadlines, each at exactly its time, and everything that one of them brings about
/// happens before the next. Nothing sleeps, and no other thread is involved.
///
/// Time stands still during a run; one that is to take time says so by [`pass`](Self::pass).
///
/// The thread that moves the time cannot wait for it. What blocks there gives an answer that is there already, and
/// is refused at once with [`Error::ThreadsafeDispatch`](crate::Error::ThreadsafeDispatch) otherwise: advance the
/// engine first. That thread is the one that made the engine, until another one moves it. Others may block.
///
/// ```
/// use everbeat::{testing::TestEngine, thread};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), everbeat::Error> {
/// let hour = Duration::from_secs(3600);
/// let clock = TestEngine::new();
/// let beat = thread::every(hour).fixed_rate().on(&clock).start(|| ())?;
/// clock.settle();
/// assert_eq!(beat.hits(), 1);
/// clock.advance(hour * 2);
/// assert_eq!(beat.hits(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TestEngine {
    engine: Engine,
    hands: Arc<Hands>,
}

/// The hands of the clock.
#[derive(Debug)]
struct Hands {
    origin: StdInstant,
    passed_nanos: AtomicU64,
    /// The thread that has moved time last, or is about to. `None`: it knows by itself what to wait for. Locked for a
    /// few instructions.
    mover: Option<Mutex<ThreadId>>,
}

struct ByHand(Arc<Hands>);

impl Host for ByHand {
    fn now(&self) -> StdInstant {
        let passed = Duration::from_nanos(self.0.passed_nanos.load(Ordering::Acquire));
        // Times that the machine cannot represent are its last ones, for ever.
        let halves = std::iter::successors(Some(passed), |passed| Some(*passed / 2));
        let mut times = halves.filter_map(|passed| self.0.origin.checked_add(passed));
        times.next().unwrap_or(self.0.origin)
    }

    /// Whoever moves the time looks by itself.
    fn alert(&self) {}

    fn needs_this_thread(&self) -> bool {
        let is_here = |mover: &Mutex<ThreadId>| {
            *mover.lock().unwrap_or_else(PoisonError::into_inner) == thread::current().id()
        };
        self.0.mover.as_ref().is_some_and(is_here)
    }
}

impl TestEngine {
    /// An engine at the time zero.
    #[must_use]
    pub fn new() -> Self {
        Self::moved_by(Some(Mutex::new(thread::current().id())))
    }

    /// The same for a face that has a way of its own to wait on the thread that moves the time: nothing is refused
    /// there.
    #[doc(hidden)]
    #[must_use]
    pub fn unguarded() -> Self {
        Self::moved_by(None)
    }

    fn moved_by(mover: Option<Mutex<ThreadId>>) -> Self {
        let hands = Hands { origin: StdInstant::now(), passed_nanos: AtomicU64::new(0), mover };
        let hands = Arc::new(hands);
        Self { engine: Engine::hosted(ByHand(hands.clone())), hands }
    }

    /// The engine itself.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The time since this was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now().elapsed_since_origin()
    }

    /// When the next timer is due, counted from when this was made.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.engine.next_due().map(Instant::elapsed_since_origin)
    }

    /// Moves time by `span`. Every timer that comes due runs at its own time; returns once all that
    /// followed from it has happened.
    ///
    /// # Panics
    /// As [`settle`](Self::settle).
    pub fn advance(&self, span: Duration) {
        self.advance_to(self.now() + span);
    }

    /// Moves time to the next deadline, runs every timer that is due there, and returns how far it was.
    /// `None`, at once, if no timer waits for anything.
    ///
    /// # Panics
    /// As [`settle`](Self::settle).
    pub fn advance_to_next(&self) -> Option<Duration> {
        self.settle();
        let start = self.now();
        let next = self.engine.next_due()?;
        self.advance_to(next);
        Some(self.now().saturating_since(start))
    }

    /// Lets everything run that can, without moving time. Beside a timer of period zero, which always can,
    /// it lets the others come to rest and gives that one a turn each time.
    ///
    /// # Panics
    /// If a target never comes to rest: one that wakes itself for ever.
    pub fn settle(&self) {
        if let Some(mover) = &self.hands.mover {
            *mover.lock().unwrap_or_else(PoisonError::into_inner) = thread::current().id();
        }
        for _ in 0..MOST_ROUNDS {
            if self.engine.settle_once() {
                return;
            }
        }
        panic!("after {MOST_ROUNDS} rounds a timer of this engine is still busy: its target never waits");
    }

    /// Lets time pass without running anything: for a run that takes this long, or a process that is
    /// suspended.
    pub fn pass(&self, span: Duration) {
        self.move_to(self.now() + span);
    }

    fn advance_to(&self, end: Instant) {
        self.settle();
        while let Some(next) = self.engine.next_due().filter(|due| *due <= end) {
            self.move_to(next);
            self.settle();
        }
        self.move_to(end);
        self.settle();
    }

    /// Time never runs backwards: a run may have moved it already. And it stops short of its end, since
    /// what is due there is never due.
    fn move_to(&self, time: Instant) {
        let time = time.min(Instant::NEVER.sub_nanos(1));
        self.hands.passed_nanos.fetch_max(time.as_nanos(), Ordering::AcqRel);
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.hands.passed_nanos.load(Ordering::Acquire))
    }
}

impl Default for TestEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl From<&TestEngine> for Engine {
    fn from(test: &TestEngine) -> Self {
        test.engine.clone()
    }
}

impl fmt::Debug for TestEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestEngine").field("elapsed", &self.elapsed()).finish_non_exhaustive()
    }
}
