//! Lean timers where they lie: in the queue of their engine.
//!
//! A timer that delivers nothing but `()` needs no block of its own while nothing special happens to it: a
//! [`Record`] in the queue is all there is. Whatever asks more of it *promotes* it to a whole timer with
//! its own lock, [`Shared`]; then its place in the queue is that of any other, and leads those of its
//! handles there that name the place.
//!
//! # Invariants
//!
//! 1. Records are read and changed under the engine's lock. A run takes the call out, and brings it back.
//! 2. Whether a run may start is decided under that lock, or in the [`Hand`]. The keeper takes many runs at
//!    once; each of them begins with a swap of its place in the hand, and so does every promotion of a timer
//!    that lies there. Who swaps first wins: a run that was withdrawn does not begin.
//! 3. A stop that finds the record waiting ends it there. In all other cases the timer is promoted first,
//!    and the rules of whole timers decide. Whoever comes back with its call finds that out.
//! 4. A record without handles is gone, unless it was detached and runs. Nothing of the user's is dropped
//!    here: it is handed out.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use everbeat_core::{Instant, Key, Rested, StopReason};

use super::roster::{Entry, Roster, Seat};
use crate::shared::{DETACHED, Lean, MOST_HANDLES, Phase, Plan, Shared, finish_plainly};
use crate::sync::AtomicU64;
use crate::target::Call;

/// How many timers have their turns between two looks at the roster. What becomes due meanwhile, or is
/// ended, is seen after that; whether a run may start is asked of each timer itself.
pub(super) const MOST_AT_ONCE: usize = if cfg!(all(test, everbeat_loom)) { 2 } else { 64 };

/// A lean timer. Its deadline is that of its place in the queue.
pub(super) struct Record {
    /// `None` during a run.
    call: Option<Call<()>>,
    plan: Arc<Plan>,
    /// Runs that have come back.
    runs: u64,
    initial_delay_nanos: u64,
    /// How many there are, and the flag [`DETACHED`].
    handles: u32,
    /// When the last run ended: so long after it was due.
    after_nanos: u32,
    /// Turns that had to wait for a worker.
    queued: u32,
    standing: Standing,
    pooled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// For its deadline.
    Waiting,
    /// For its turn.
    Listed,
    /// For its turn, since all workers were busy when it came up.
    Queued,
    /// Among the runs that the keeper has taken: the hand tells how far it is.
    InHand(u8),
    Running,
    Over(StopReason),
}

/// Leads the handles that name a place in the queue to the timer that was promoted there.
pub(super) struct Front {
    to: Arc<Shared<()>>,
    handles: u32,
}

/// A run of a lean timer, outside of the lock. It is made where it lies from then on, and filled in and read
/// in place: it is too large to be copied from here to there with each tick.
pub(super) struct LeanRun {
    pub(super) key: Key,
    /// The plan, unless it is that of the run before.
    pub(super) plan: Option<Arc<Plan>>,
    /// `None` once it has come back.
    pub(super) call: Option<Call<()>>,
    pub(super) due: Instant,
    /// Runs before this one.
    pub(super) runs: u64,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    /// What has to be remembered of it once it has delivered.
    pub(super) next_due: Instant,
    pub(super) after_nanos: u32,
    pub(super) slot: Option<u8>,
}

impl LeanRun {
    #[inline]
    pub(super) fn new(key: Key, due: Instant) -> Self {
        let (began, ended, next_due) = (due, due, due);
        let (plan, call, runs, after_nanos, slot) = (None, None, 0, 0, None);
        Self { key, plan, call, due, runs, began, ended, next_due, after_nanos, slot }
    }

    /// The timer as it was before the run.
    pub(super) fn rested(&self) -> Rested {
        Rested::new(self.due, self.runs)
    }
}

/// The runs that the keeper has taken. A place is touched by the keeper, and under the engine's lock.
pub(super) struct Hand([AtomicU64; MOST_AT_ONCE]);

/// How far a run in the hand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Untouched,
    Begun,
    /// It is withdrawn: it must not begin.
    Withdrawn,
    Delivered(Instant),
}

impl Progress {
    fn to_bits(self) -> u64 {
        match self {
            Self::Untouched => 0,
            Self::Begun => 1,
            Self::Withdrawn => 2,
            Self::Delivered(at) => at.as_nanos().saturating_add(3),
        }
    }

    fn from_bits(bits: u64) -> Self {
        match bits {
            0 => Self::Untouched,
            1 => Self::Begun,
            2 => Self::Withdrawn,
            _ => Self::Delivered(Instant::from_nanos(bits - 3)),
        }
    }
}

impl Hand {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Puts a run in.
    fn take(&self, slot: u8) {
        self.0[usize::from(slot)].store(Progress::Untouched.to_bits(), Ordering::Relaxed);
    }

    /// The run is to begin. Returns whether it may.
    pub(super) fn begin(&self, slot: u8) -> bool {
        self.swap(slot, Progress::Begun) == Progress::Untouched
    }

    pub(super) fn deliver(&self, slot: u8, at: Instant) {
        self.0[usize::from(slot)].store(Progress::Delivered(at).to_bits(), Ordering::Release);
    }

    /// Keeps the run from beginning, if it has not begun. Returns how far it was.
    fn withdraw(&self, slot: u8) -> Progress {
        self.swap(slot, Progress::Withdrawn)
    }

    fn look(&self, slot: u8) -> Progress {
        Progress::from_bits(self.0[usize::from(slot)].load(Ordering::Acquire))
    }

    fn swap(&self, slot: u8, progress: Progress) -> Progress {
        Progress::from_bits(self.0[usize::from(slot)].swap(progress.to_bits(), Ordering::AcqRel))
    }
}

impl Record {
    /// A timer that waits for its first run, with one handle.
    pub(super) fn new(plan: Arc<Plan>, call: Call<()>, initial_delay_nanos: u64, pooled: bool) -> Self {
        Self {
            call: Some(call),
            plan,
            runs: 0,
            initial_delay_nanos,
            handles: 1,
            after_nanos: 0,
            queued: 0,
            standing: Standing::Waiting,
            pooled,
        }
    }

    pub(super) fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// Whether it waits for its turn.
    pub(super) fn is_listed(&self) -> bool {
        matches!(self.standing, Standing::Listed | Standing::Queued)
    }

    /// Whether it waits for its next run, and that has not been taken.
    fn waits(&self) -> bool {
        self.standing == Standing::Waiting || self.is_listed()
    }

    fn is_over(&self) -> bool {
        matches!(self.standing, Standing::Over(_))
    }

    /// It waits for its turn from here on, if it waited for its deadline.
    pub(super) fn list(&mut self, queued: bool) -> bool {
        let waited = self.standing == Standing::Waiting;
        if waited {
            self.standing = if queued { Standing::Queued } else { Standing::Listed };
        }
        waited
    }

    /// Its run goes out, if there is a `slot` into the hand. The plan goes with it unless it is that of the
    /// run before.
    #[inline]
    pub(super) fn take_run(&mut self, run: &mut LeanRun, slot: Option<(u8, &Hand)>, last_plan: &mut *const Plan) {
        run.call = self.call.take();
        run.runs = self.runs;
        let known = mem::replace(last_plan, Arc::as_ptr(&self.plan));
        if known != *last_plan {
            run.plan = Some(self.plan.clone());
        }
        self.queued = self.queued.saturating_add(u32::from(self.standing == Standing::Queued));
        self.standing = Standing::Running;
        if let Some((slot, hand)) = slot {
            hand.take(slot);
            run.slot = Some(slot);
            self.standing = Standing::InHand(slot);
        }
    }

    /// The same as a timer with its own lock stores it, without the call.
    fn lean(&self, key: Key, due: Instant, hand: impl Fn(u8) -> Progress) -> Lean<()> {
        let (mut rested, mut after_nanos) = (Rested::new(due, self.runs), self.after_nanos);
        let begun = Rested::new(due, self.runs.saturating_add(1));
        let progress = match self.standing {
            Standing::InHand(slot) => hand(slot),
            Standing::Running => Progress::Begun,
            _ => Progress::Untouched,
        };
        let phase = match (self.standing, progress) {
            (Standing::Over(reason), _) => Phase::Over(reason),
            (_, Progress::Untouched | Progress::Withdrawn) => Phase::Waiting(key),
            (_, Progress::Begun) => {
                rested = begun;
                Phase::Running(key)
            }
            (_, Progress::Delivered(at)) => {
                rested = begun;
                after_nanos = finish_plainly(&mut rested, &self.plan.schedule, at).unwrap_or(after_nanos);
                Phase::Waiting(key)
            }
        };
        Lean { rested, phase, call: None, latest: None, initial_delay_nanos: self.initial_delay_nanos, after_nanos }
    }
}

/// What a handle finds at its place.
pub(crate) enum Found<V> {
    /// A lean timer, and how many of its turns had to wait.
    Lean(Lean<V>, u32),
    Whole(Arc<Shared<V>>),
}

/// What has become of a stop.
pub(crate) enum Stopped {
    /// It had no run in flight, and has ended. `last`: nobody is left.
    Now { last: bool },
    /// It had ended before, for this reason.
    Before(StopReason),
    /// That is for the whole timer to say.
    Whole(Arc<Shared<()>>),
}

/// What a handle leaves behind that is dropped.
pub(super) enum Released {
    /// There are others, or it was detached.
    Nothing,
    /// The record, for good. `last`: nobody is left.
    Record { record: Record, ended: bool, last: bool },
    /// The whole timer has to be told that there is one fewer.
    Whole(Arc<Shared<()>>),
}

/// Lean timers come and go.
impl Roster {
    /// Takes a timer in that was just started.
    pub(super) fn enter_lean(&mut self, due: Instant, record: Record) -> Key {
        self.timers += 1;
        self.note_due(due);
        self.queue.insert(due, Entry::Lean(record))
    }

    /// A run has delivered. Returns whether the timer has it back; if not, it has become a whole one, or is
    /// to become one.
    #[inline]
    pub(super) fn give_back_lean(&mut self, run: &mut LeanRun) -> bool {
        let closed = self.closed;
        let Some(Entry::Lean(record)) = self.queue.get_mut(run.key) else { return false };
        if closed {
            return false;
        }
        (record.call, record.standing) = (run.call.take(), Standing::Waiting);
        (record.runs, record.after_nanos) = (run.runs + 1, run.after_nanos);
        self.stirred += 1;
        self.queue.set_due(run.key, run.next_due);
        self.note_due(run.next_due);
        true
    }

    /// Ends the timer at this place for `reason` if it only waits.
    pub(super) fn stop_lean(&mut self, key: Key, reason: StopReason, hand: &Hand) -> Option<Stopped> {
        if let Some(Entry::Lean(record)) = self.queue.get_mut(key) {
            match record.standing {
                Standing::Over(reason) => return Some(Stopped::Before(reason)),
                Standing::InHand(_) | Standing::Running => {}
                Standing::Waiting | Standing::Listed | Standing::Queued => {
                    let listed = record.is_listed();
                    record.standing = Standing::Over(reason);
                    self.queue.set_aside(key);
                    return Some(Stopped::Now { last: self.leave_lean(listed) });
                }
            }
        }
        self.promote(key, hand).map(Stopped::Whole)
    }

    /// A timer has ended. Returns whether nobody is left.
    fn leave_lean(&mut self, listed: bool) -> bool {
        self.timers -= 1;
        if listed {
            self.unlist();
        }
        self.note_empty();
        self.is_deserted()
    }

    /// The whole timer at this place, which it is from here on.
    pub(super) fn promote(&mut self, key: Key, hand: &Hand) -> Option<Arc<Shared<()>>> {
        let due = self.queue.due(key)?;
        let entry = self.queue.get_mut(key)?;
        let record = match entry {
            Entry::Lean(record) => record,
            Entry::Timer { front, .. } => return front.as_ref().map(|front| front.to.clone()),
            Entry::Moved(front) => return Some(front.to.clone()),
            Entry::Bell(_) => return None,
        };
        let mut lean = record.lean(key, due, |slot| hand.withdraw(slot));
        lean.call = record.call.take();
        let to = Shared::taken_from_engine(record.plan.clone(), lean, record.handles, record.queued);
        let front = Front { to: to.clone(), handles: record.handles & !DETACHED };
        let seat = match record.standing {
            Standing::Waiting => Seat::Waiting,
            Standing::Listed => Seat::Listed,
            Standing::Queued => Seat::Queued,
            Standing::InHand(_) | Standing::Running | Standing::Over(_) => Seat::Away,
        };
        *entry = if record.is_over() {
            Entry::Moved(front)
        } else {
            let task = (seat != Seat::Away).then(|| to.clone() as _);
            Entry::Timer { task, seat, pooled: record.pooled, front: Some(front) }
        };
        Some(to)
    }

    /// All lean timers that have not ended are whole ones from here on.
    pub(super) fn promote_all(&mut self, keys: &[Key], hand: &Hand) {
        for &key in keys {
            if matches!(self.queue.get_mut(key), Some(Entry::Lean(record)) if !record.is_over()) {
                self.promote(key, hand);
            }
        }
    }
}

/// Handles that name a place in the queue.
impl Roster {
    /// Looks at the timer there.
    pub(super) fn find_lean(&self, key: Key, hand: &Hand) -> Option<Found<()>> {
        let due = self.queue.due(key)?;
        match self.queue.get(key)? {
            Entry::Lean(record) => Some(Found::Lean(record.lean(key, due, |slot| hand.look(slot)), record.queued)),
            Entry::Timer { front, .. } => front.as_ref().map(|front| Found::Whole(front.to.clone())),
            Entry::Moved(front) => Some(Found::Whole(front.to.clone())),
            Entry::Bell(_) => None,
        }
    }

    /// One handle more; the whole timer if that has to count it. `Err`: there are too many.
    pub(super) fn add_lean_handle(&mut self, key: Key) -> Result<Option<Arc<Shared<()>>>, ()> {
        match self.queue.get_mut(key) {
            Some(Entry::Lean(record)) if record.handles & !DETACHED >= MOST_HANDLES => Err(()),
            Some(Entry::Lean(record)) => {
                record.handles += 1;
                Ok(None)
            }
            Some(Entry::Timer { front: Some(front), .. } | Entry::Moved(front)) => Ok(Some(front.to.clone())),
            _ => Ok(None),
        }
    }

    /// The timer does not need handles from here on.
    pub(super) fn detach_lean(&mut self, key: Key) -> Option<Arc<Shared<()>>> {
        match self.queue.get_mut(key) {
            Some(Entry::Lean(record)) => record.handles |= DETACHED,
            Some(Entry::Timer { front: Some(front), .. } | Entry::Moved(front)) => return Some(front.to.clone()),
            _ => {}
        }
        None
    }

    /// One handle fewer; with the last one a timer ends that only waits.
    pub(super) fn release_lean(&mut self, key: Key, hand: &Hand) -> Released {
        if let Some(Entry::Lean(record)) = self.queue.get_mut(key) {
            let others = record.handles != 1;
            if others && !record.is_over() || record.handles & !DETACHED > 1 {
                record.handles -= 1;
                return Released::Nothing;
            }
            if record.waits() || record.is_over() {
                return self.remove_lean(key);
            }
            self.promote(key, hand);
        }
        let Some(entry) = self.queue.get_mut(key) else { return Released::Nothing };
        let moved = matches!(entry, Entry::Moved(_));
        let (Entry::Timer { front: Some(front), .. } | Entry::Moved(front)) = entry else {
            return Released::Nothing;
        };
        front.handles -= 1;
        let to = front.to.clone();
        if moved && front.handles == 0 {
            drop(self.queue.remove(key)); // not the last reference
        }
        Released::Whole(to)
    }

    fn remove_lean(&mut self, key: Key) -> Released {
        let Some(Entry::Lean(record)) = self.queue.remove(key) else { return Released::Nothing };
        let ended = !record.is_over();
        let last = ended && self.leave_lean(record.is_listed());
        Released::Record { record, ended, last }
    }
}

impl Front {
    /// Whether handles name the place.
    pub(super) fn is_needed(&self) -> bool {
        self.handles > 0
    }

    pub(super) fn into_timer(self) -> Arc<Shared<()>> {
        self.to
    }
}

impl Record {
    /// What is the user's, to be dropped.
    pub(super) fn into_call(self) -> Option<Call<()>> {
        self.call
    }
}
