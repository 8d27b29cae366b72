//! What must hold for the runs of each timer, checked in the runs themselves.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everbeat::{Cause, Tick};

/// What was seen of all timers together.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) runs: AtomicU64,
    /// Of these, how many were compared with a grid that was known, and how many told where it is.
    pub(crate) on_grid: AtomicU64,
    pub(crate) moved: AtomicU64,
    /// Slots that passed, and of these those that never ran.
    pub(crate) slots: AtomicU64,
    pub(crate) skipped: AtomicU64,
    /// Runs that were not where their grid is.
    pub(crate) drifted: AtomicU64,
    /// Slots that neither ran nor were counted as skipped, or both.
    pub(crate) lost: AtomicU64,
    pub(crate) starts: AtomicU64,
    pub(crate) ends: AtomicU64,
    pub(crate) controls: AtomicU64,
    pub(crate) feed_values: AtomicU64,
    complaints: Mutex<Vec<String>>,
}

pub(crate) static TALLY: Tally = Tally {
    runs: AtomicU64::new(0),
    on_grid: AtomicU64::new(0),
    moved: AtomicU64::new(0),
    slots: AtomicU64::new(0),
    skipped: AtomicU64::new(0),
    drifted: AtomicU64::new(0),
    lost: AtomicU64::new(0),
    starts: AtomicU64::new(0),
    ends: AtomicU64::new(0),
    controls: AtomicU64::new(0),
    feed_values: AtomicU64::new(0),
    complaints: Mutex::new(Vec::new()),
};

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Something that must never be.
pub(crate) fn complain(complaint: String) {
    lock(&TALLY.complaints).push(complaint);
}

pub(crate) fn complaints() -> Vec<String> {
    lock(&TALLY.complaints).clone()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that targets hold and deliver has one of these: in the end there are none.
#[derive(Debug)]
pub(crate) struct Token(());

static ALIVE: AtomicI64 = AtomicI64::new(0);

impl Token {
    pub(crate) fn new() -> Self {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    pub(crate) fn alive() -> i64 {
        ALIVE.load(Ordering::Relaxed)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Watches one timer.
pub(crate) struct Watch {
    book: Mutex<Book>,
    busy: AtomicBool,
    /// Nothing may run: a stop has returned.
    stopped: AtomicBool,
    _token: Token,
}

/// Where the grid of a timer is, as far as its runs have told.
#[derive(Debug)]
struct Book {
    /// Without one the timer has no grid whose times are checked, only slots.
    period: Option<Duration>,
    last: Option<Tick>,
    /// So many runs may come from anywhere: the grid is being moved.
    loose: u32,
    /// Slots that were dropped since a run took one, and retries.
    dropped: u64,
    retries: u64,
}

/// What a run says of the grid.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    OnGrid,
    Moved,
    Drifted,
}

impl Book {
    /// A run has begun. Returns where it is, and by how many slots the count is off.
    fn enter(&mut self, tick: Tick) -> (Place, u64) {
        self.dropped += tick.missed;
        if tick.cause == Cause::Retry {
            self.retries += 1;
            return (Place::OnGrid, 0); // it has the slot of another run, which has been here
        }
        let expected = self.last.map_or(0, |last| last.slot + 1) + self.dropped;
        // A run that was given up in the line for a thread has taken its slot, and was told what was dropped.
        let unseen = self.last.is_some_and(|last| tick.run > last.run + 1 + self.retries);
        let off = if unseen { 0 } else { tick.slot.abs_diff(expected) };
        let place = self.place(tick);
        self.loose = self.loose.saturating_sub(1);
        (self.last, self.dropped, self.retries) = (Some(tick), 0, 0);
        (place, off)
    }

    fn place(&self, tick: Tick) -> Place {
        let (Some(period), Some(last), Cause::Schedule) = (self.period, self.last, tick.cause) else {
            return Place::Moved;
        };
        let slots = u128::from(tick.slot.abs_diff(last.slot));
        let due = u128::from(last.scheduled.as_nanos()) + slots * period.as_nanos();
        match self.loose {
            0 if due == u128::from(tick.scheduled.as_nanos()) => Place::OnGrid,
            0 => Place::Drifted,
            _ => Place::Moved,
        }
    }
}

impl Watch {
    pub(crate) fn new(grid: Option<Duration>) -> Self {
        let book = Book { period: grid, last: None, loose: 0, dropped: 0, retries: 0 };
        Self {
            book: Mutex::new(book),
            busy: AtomicBool::new(false),
            stopped: AtomicBool::new(true),
            _token: Token::new(),
        }
    }

    /// The timer is about to be started, and does not run.
    pub(crate) fn begin(&self) {
        let mut book = lock(&self.book);
        (book.last, book.loose, book.dropped, book.retries) = (None, 0, 0, 0);
        self.stopped.store(false, Ordering::SeqCst);
    }

    /// A stop has returned.
    pub(crate) fn end(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Has the period changed by `set`. Runs that begin meanwhile may belong to either grid, and so may one that
    /// is just on its way, and the one that had been waited for.
    pub(crate) fn change_period(&self, period: Duration, set: impl FnOnce()) {
        lock(&self.book).loose = u32::MAX;
        set();
        let mut book = lock(&self.book);
        book.loose = 3;
        if book.period.is_some() {
            book.period = Some(period);
        }
    }

    /// A run begins, and lasts until what is returned is dropped.
    pub(crate) fn enter(self: &Arc<Self>, tick: Tick) -> Run {
        if self.busy.swap(true, Ordering::SeqCst) {
            complain(format!("two runs at once: {tick:?}"));
        }
        if self.stopped.load(Ordering::SeqCst) {
            complain(format!("a run after a stop: {tick:?}"));
        }
        let mut book = lock(&self.book);
        let before = book.last;
        let (place, off) = book.enter(tick);
        drop(book);
        count(&TALLY.runs);
        match place {
            Place::OnGrid => count(&TALLY.on_grid),
            Place::Moved => count(&TALLY.moved),
            Place::Drifted => {
                count(&TALLY.drifted);
                complain(format!("off its grid: {tick:?} in {:?}", lock(&self.book)));
            }
        }
        TALLY.slots.fetch_add(tick.missed + u64::from(tick.cause != Cause::Retry), Ordering::Relaxed);
        TALLY.skipped.fetch_add(tick.missed, Ordering::Relaxed);
        if off > 0 {
            TALLY.lost.fetch_add(off, Ordering::Relaxed);
            complain(format!("{off} slots are neither run nor skipped: {tick:?} after {before:?}"));
        }
        Run(self.clone())
    }
}

/// A run in flight.
pub(crate) struct Run(Arc<Watch>);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_nanos(10);

    fn tick(run: u64, slot: u64, nanos: u64, missed: u64) -> Tick {
        // A real one, since nobody else can make them.
        let clock = everbeat::core::Schedule::fixed_rate(PERIOD);
        let mut timer = everbeat::core::Timer::new(clock);
        timer.start(everbeat::core::Instant::from_nanos(nanos)).unwrap();
        timer.handle_timeout(everbeat::core::Instant::from_nanos(nanos));
        match timer.poll_output(everbeat::core::Instant::from_nanos(nanos)) {
            Some(everbeat::core::Output::Run(tick)) => {
                let mut tick = tick;
                (tick.run, tick.slot, tick.missed) = (run, slot, missed);
                tick
            }
            other => panic!("{other:?}"),
        }
    }

    fn book() -> Book {
        Book { period: Some(PERIOD), last: None, loose: 0, dropped: 0, retries: 0 }
    }

    #[test]
    fn what_is_on_the_grid_is_sound() {
        let mut book = book();
        assert_eq!(book.enter(tick(1, 0, 1_000, 0)), (Place::Moved, 0));
        assert_eq!(book.enter(tick(2, 1, 1_010, 0)), (Place::OnGrid, 0));
        assert_eq!(book.enter(tick(3, 5, 1_050, 3)), (Place::OnGrid, 0));
        // Run 4 was given up before it could begin.
        assert_eq!(book.enter(tick(5, 7, 1_070, 0)), (Place::OnGrid, 0));
    }

    #[test]
    fn a_nanosecond_is_drift_and_a_slot_that_nobody_counted_is_lost() {
        let mut book = book();
        book.enter(tick(1, 0, 1_000, 0));
        assert_eq!(book.enter(tick(2, 1, 1_011, 0)).0, Place::Drifted);
        assert_eq!(book.enter(tick(3, 3, 1_031, 0)), (Place::OnGrid, 1));
        assert_eq!(book.enter(tick(4, 4, 1_041, 1)), (Place::OnGrid, 1));
    }

    #[test]
    fn a_grid_that_is_moved_is_known_again_after_three_runs() {
        let mut book = book();
        book.enter(tick(1, 0, 1_000, 0));
        book.loose = 3;
        for (slot, nanos) in [(1, 1_013), (2, 1_021), (3, 1_037)] {
            assert_eq!(book.enter(tick(slot + 1, slot, nanos, 0)), (Place::Moved, 0));
        }
        assert_eq!(book.enter(tick(5, 4, 1_047, 0)), (Place::OnGrid, 0));
    }
}
