//! Lean timers where they lie: in the queue of their engine.
//!
//! A timer that delivers nothing but `()` needs no block of its own while nothing special happens to it: a
//! [`Record`] in the queue is all there is. Whatever asks more of it *promotes* it to a whole timer with
//! its own lock, [`Shared`]; then its place in the queue is that of any other, and leads those of its
//! handles there that name the place.
//!
//! # Invariants
//!
//! 1. Records are read and changed under the engine's lock. A timer that has its turn lies in the [`Hand`] of a
//!    thread: what that says of it counts, and under the engine's lock it can be brought back, unless it is in
//!    the middle of its run.
//! 2. A stop that finds no run in progress ends the timer here. In all other cases the timer is promoted
//!    first, and the rules of whole timers decide; who makes the run finds that out when it puts it back.
//! 3. A record without handles is gone, unless it was detached and runs. Nothing of the user's is dropped
//!    here: it is handed out.

use std::mem;
use std::sync::Arc;

use everbeat_core::{Instant, Key, Rested, StopReason};

use super::hand::{Hand, Progress, Slot};
use super::roster::{Entry, Over, Roster, Seat};
use crate::shared::{DETACHED, Lean, MOST_HANDLES, Phase, Plan, Shared, unit};
use crate::target::Call;

/// A lean timer. Its deadline is that of its place in the queue.
pub(super) struct Record {
    /// `None` during its turn.
    call: Option<Call<()>>,
    plan: Arc<Plan>,
    /// Runs before this turn.
    runs: u32,
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
    /// It has its turn.
    InHand {
        hand: u8,
        slot: u8,
    },
    Over(StopReason),
}

/// Leads the handles that name a place in the queue to the timer that was promoted there.
pub(super) struct Front {
    to: Arc<Shared<()>>,
    handles: u32,
}

impl Record {
    /// A timer that waits for its first run, with one handle.
    pub(super) fn new(
        plan: Arc<Plan>,
        call: Option<Call<()>>,
        initial_delay_nanos: u64,
        pooled: bool,
    ) -> Self {
        Self {
            call,
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

    /// What is to be known of it beside when it is due, which the queue knows.
    #[inline]
    fn rested(&self, due: Instant) -> Rested {
        Rested::new(due, self.runs, self.after_nanos)
    }

    /// It waits for its turn from here on, if it waited for its deadline.
    pub(super) fn list(&mut self, queued: bool) -> bool {
        let waited = self.standing == Standing::Waiting;
        if waited {
            self.standing = if queued { Standing::Queued } else { Standing::Listed };
        }
        waited
    }

    /// It has its turn from here on, in this slot of a hand.
    #[inline]
    pub(super) fn take(&mut self, due: Instant, hand: u8, slot: u8) -> Slot {
        let queued = self.standing == Standing::Queued;
        self.queued = self.queued.saturating_add(u32::from(queued));
        self.standing = Standing::InHand { hand, slot };
        Slot::new(self.rested(due), self.call.take(), queued)
    }

    /// It has not had its turn after all, and waits for it as before.
    fn untake(&mut self, slot: &mut Slot) {
        self.call = slot.take_away();
        self.queued = self.queued.saturating_sub(u32::from(slot.queued));
        self.standing = if slot.queued { Standing::Queued } else { Standing::Listed };
    }

    /// It has had its turn. Returns when the next one is.
    #[inline]
    fn take_back(&mut self, slot: &mut Slot) -> Instant {
        (self.call, self.standing) = (slot.take_away(), Standing::Waiting);
        (self.runs, self.after_nanos) = (slot.rested.runs(), slot.rested.after_nanos());
        slot.rested.due()
    }

    /// The plan, unless it is this one.
    #[inline]
    pub(super) fn plan_after(&self, last: &mut *const Plan) -> Option<Arc<Plan>> {
        let known = mem::replace(last, Arc::as_ptr(&self.plan));
        (known != *last).then(|| self.plan.clone())
    }

    /// The same as a timer with its own lock stores it, without the call.
    fn lean(&self, key: Key, rested: Rested, progress: Progress) -> Lean<()> {
        let (rested, phase) = match (self.standing, progress) {
            (Standing::Over(reason), _) => (rested, Phase::Off(Some(reason))),
            (_, Progress::Begun | Progress::Promoted) => (rested.begun(), Phase::On(key)),
            _ => (rested, Phase::On(key)),
        };
        let delivered = rested.runs() > u32::from(rested.is_in_run());
        let latest = if delivered { unit() } else { None };
        let initial_delay_nanos = self.initial_delay_nanos;
        Lean { rested, phase, latest, initial_delay_nanos, ..Lean::gone() }
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

    /// A timer has had its turn, if it is still in the hand.
    #[inline]
    pub(super) fn give_back_lean(&mut self, key: Key, slot: &mut Slot) {
        if slot.progress != Progress::Delivered {
            return; // somebody has taken it away
        }
        let Some(Entry::Lean(record)) = self.queue.get_mut(key) else { return };
        let due = record.take_back(slot);
        self.stirred += 1;
        self.queue.set_due(key, due);
        self.note_due(due);
    }

    /// Brings a timer back from the hand in which it lies. One that waited for a worker and has not begun its
    /// run is the first in line. If it is in the middle of its run it has to be promoted after this, before the
    /// engine's lock is released.
    fn bring_back(&mut self, key: Key) {
        let Some(Entry::Lean(record)) = self.queue.get_mut(key) else { return };
        let Standing::InHand { hand, slot } = record.standing else { return };
        let Some(hand) = self.hands.get(hand) else { return };
        let mut slots = hand.lock();
        let Some(slot) = slots.get_mut(usize::from(slot)) else { return };
        if slot.call.is_none() {
            slot.progress = Progress::Promoted;
            return;
        }
        if record.pooled && slot.progress == Progress::Untouched {
            record.untake(slot);
            self.figures.turns -= 1;
            return self.pooled.push_front(key);
        }
        let due = record.take_back(slot);
        drop(slots);
        self.queue.set_due(key, due);
        self.note_due(due);
    }

    /// Ends the timer at this place for `reason`, unless it is in the middle of a run.
    pub(super) fn stop_lean(&mut self, key: Key, reason: StopReason) -> Option<Stopped> {
        self.bring_back(key);
        if let Some(Entry::Lean(record)) = self.queue.get_mut(key) {
            if let Standing::Over(reason) = record.standing {
                return Some(Stopped::Before(reason));
            }
            if record.waits() {
                let listed = record.is_listed();
                record.standing = Standing::Over(reason);
                self.queue.set_aside(key);
                return Some(Stopped::Now { last: self.leave_lean(listed) });
            }
        }
        self.promote(key).map(Stopped::Whole)
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
    pub(super) fn promote(&mut self, key: Key) -> Option<Arc<Shared<()>>> {
        self.bring_back(key);
        let due = self.queue.due(key)?;
        let entry = self.queue.get_mut(key)?;
        let record = match entry {
            Entry::Lean(record) => record,
            Entry::Timer { front, .. } => return front.as_ref().map(|front| front.to.clone()),
            Entry::Moved(front) => return Some(front.to.clone()),
            Entry::Bell(_) => return None,
        };
        let (seat, progress) = match record.standing {
            Standing::Waiting => (Seat::Waiting, Progress::Untouched),
            Standing::Listed => (Seat::Listed, Progress::Untouched),
            Standing::Queued => (Seat::Queued, Progress::Untouched),
            Standing::InHand { .. } => (Seat::Away, Progress::Promoted),
            Standing::Over(_) => (Seat::Away, Progress::Gone),
        };
        let mut lean = record.lean(key, record.rested(due), progress);
        lean.call = record.call.take();
        let to = Shared::taken_from_engine(record.plan.clone(), key, lean, record.handles, record.queued);
        let front = Front { to: to.clone(), handles: record.handles & !DETACHED };
        *entry = if record.is_over() {
            Entry::Moved(front)
        } else {
            let task = (seat != Seat::Away).then(|| to.clone() as _);
            Entry::Timer { task, seat, pooled: record.pooled, front: Some(front) }
        };
        Some(to)
    }

    /// Makes a timer that was promoted a record again, now and then, if it has become plain and nobody knows
    /// of it but handles that name its place.
    pub(super) fn demote(&mut self, key: Key) {
        let Some(entry) = self.queue.get_mut(key) else { return };
        let Entry::Timer { task, pooled, front: Some(front), .. } = entry else { return };
        if Arc::strong_count(&front.to) != 2 {
            return;
        }
        drop(task.take()); // not the last reference
        let laid_down = Arc::get_mut(&mut front.to).and_then(Shared::lay_down);
        *task = Some(front.to.clone() as _);
        let Some((lean, handles, queued)) = laid_down else { return };
        let plan = front.to.plan().clone();
        let mut record = Record::new(plan, lean.call, lean.initial_delay_nanos, *pooled);
        (record.runs, record.after_nanos) = (lean.rested.runs(), lean.rested.after_nanos());
        (record.handles, record.queued) = (handles, queued);
        // What is left of the other has nothing of the user's.
        *entry = Entry::Lean(record);
    }

    /// Ends a lean timer since the engine is closed; one that is in the middle of its run is a whole one from
    /// here on. `None` if it was none, or had ended before.
    pub(super) fn close_lean(&mut self, key: Key) -> Option<Over> {
        let Some(Entry::Lean(record)) = self.queue.get(key) else { return None };
        let (plan, handles) = (record.plan.clone(), record.handles & !DETACHED);
        let Some(Stopped::Now { .. }) = self.stop_lean(key, StopReason::Abandoned) else { return None };
        let unneeded = if handles == 0 { self.queue.remove(key) } else { None };
        Some(Over::Lean(plan, unneeded.and_then(Entry::into_call)))
    }
}

/// Handles that name a place in the queue.
impl Roster {
    /// Looks at the timer there.
    pub(super) fn find_lean(&self, key: Key) -> Option<Found<()>> {
        match self.queue.get(key)? {
            Entry::Lean(record) => Some(Found::Lean(self.look(key, record)?, record.queued)),
            Entry::Timer { front, .. } => front.as_ref().map(|front| Found::Whole(front.to.clone())),
            Entry::Moved(front) => Some(Found::Whole(front.to.clone())),
            Entry::Bell(_) => None,
        }
    }

    fn look(&self, key: Key, record: &Record) -> Option<Lean<()>> {
        if let Standing::InHand { hand, slot } = record.standing {
            let slots = self.hands.get(hand)?.lock();
            let slot = slots.get(usize::from(slot))?;
            return Some(record.lean(key, slot.rested, slot.progress));
        }
        Some(record.lean(key, record.rested(self.queue.due(key)?), Progress::Untouched))
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
            Some(Entry::Timer { front: Some(front), .. } | Entry::Moved(front)) => {
                return Some(front.to.clone());
            }
            _ => {}
        }
        None
    }

    /// One handle fewer; with the last one a timer ends that only waits.
    pub(super) fn release_lean(&mut self, key: Key) -> Released {
        if let Some(Entry::Lean(record)) = self.queue.get_mut(key) {
            let others = record.handles != 1;
            if others && !record.is_over() || record.handles & !DETACHED > 1 {
                record.handles -= 1;
                return Released::Nothing;
            }
            self.bring_back(key);
        }
        if let Some(Entry::Lean(record)) = self.queue.get(key) {
            if record.waits() || record.is_over() {
                return self.remove_lean(key);
            }
            self.promote(key);
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

impl Entry {
    /// What is the user's in the record of a timer, to be dropped outside of the lock.
    pub(super) fn into_call(self) -> Option<Call<()>> {
        if let Self::Lean(record) = self { record.into_call() } else { None }
    }
}

impl Record {
    /// What is the user's, to be dropped.
    pub(super) fn into_call(self) -> Option<Call<()>> {
        self.call
    }
}

/// The hands of all threads that make runs.
#[derive(Default)]
pub(super) struct Hands {
    all: Vec<Hand>,
    /// The numbers of those that nobody has.
    spare: Vec<u8>,
}

impl Hands {
    fn get(&self, number: u8) -> Option<&Hand> {
        self.all.get(usize::from(number))
    }

    /// A hand for a thread. `None` if all numbers are in use.
    pub(super) fn lend(&mut self) -> Option<Hand> {
        if let Some(number) = self.spare.pop() {
            return self.get(number).cloned();
        }
        let hand = Hand::new(u8::try_from(self.all.len()).ok()?);
        self.all.push(hand.clone());
        Some(hand)
    }

    /// A thread needs its hand no more. There is nothing in it.
    pub(super) fn take_back(&mut self, number: u8) {
        self.spare.push(number);
    }
}

#[cfg(all(test, feature = "testing", not(everbeat_loom)))]
mod tests;
