//! The thread that keeps the time of an engine, or the host that does so in its place.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

use everbeat_core::Instant;

use super::engine::{Core, LINGER};
use super::lean::{Hand, LeanRun, MOST_AT_ONCE};
use super::roster::{Job, Linger, Over, Rest, Roster};
use super::runs::Carrier;
use super::sleep::Sleeper;
use crate::beat::Progress;
use crate::sync::thread_local;

/// Timers that have their turns one after the other, taken from the roster and given back together, in
/// the same order.
struct Batch {
    most: usize,
    jobs: Vec<Job>,
    /// The turns among them that were given, in order.
    turns: Vec<Progress>,
    /// Runs of lean timers that have become whole ones meanwhile.
    promoted: Vec<LeanRun>,
    /// Those that have no other turn.
    over: Vec<Over>,
}

impl Batch {
    fn of(most: usize) -> Self {
        Self { most, jobs: Vec::new(), turns: Vec::new(), promoted: Vec::new(), over: Vec::new() }
    }

    /// Gives back what is done, and takes what is due. Returns whether there is anything to do.
    fn exchange(&mut self, roster: &mut Roster, due_by: Instant, hand: &Hand) -> bool {
        self.give_back(roster);
        let mut last_plan = ptr::null();
        while self.jobs.len() < self.most {
            // The only run of a batch begins as soon as it is taken, and needs no hand.
            let slot = u8::try_from(self.jobs.len()).ok().filter(|_| self.most > 1).map(|slot| (slot, hand));
            if !roster.take_due_job(due_by, &mut self.jobs, slot, &mut last_plan) {
                break;
            }
        }
        !self.jobs.is_empty() || !self.over.is_empty() || !self.promoted.is_empty()
    }

    fn give_back(&mut self, roster: &mut Roster) {
        let mut turns = self.turns.drain(..);
        for job in &mut self.jobs {
            if let Job::Lean(run) = job {
                if roster.give_back_lean(run) {
                    continue;
                }
            }
            match std::mem::replace(job, Job::Done) {
                Job::Lean(run) => self.promoted.push(run),
                Job::Turn { key, task, .. } => {
                    let Some(progress) = turns.next() else { continue };
                    self.over.extend(roster.give_back(key, task, &progress));
                }
                Job::Ring(_) | Job::Done => {}
            }
        }
        drop(turns);
        self.jobs.clear(); // nothing is left in them
    }

    /// Brings the memory of all timers in. Independent loads overlap, where those of the turns would wait
    /// for each other: with a million timers that are due in random order this halves the cost of a tick.
    fn fetch(&self) {
        let look = |sum: usize, job: &Job| match job {
            Job::Turn { task, .. } => sum.wrapping_add(task.handles()),
            Job::Lean(LeanRun { call: Some(call), .. }) => sum.wrapping_add(call.touch()),
            _ => sum,
        };
        std::hint::black_box(self.jobs.iter().fold(0, look));
    }
}

/// The thread that keeps the time.
impl Core {
    pub(super) fn keep(self: Arc<Self>) {
        let _kept = Kept::enter(&self);
        let mut sleeper = Sleeper::new(self.precision);
        let mut empty_since = None;
        let mut batch = Batch::of(MOST_AT_ONCE);
        loop {
            self.round(&mut batch);
            match self.change(Roster::rest) {
                Rest::None => {}
                Rest::Until(due) => {
                    empty_since = None;
                    sleeper.sleep(&self.time, due, &self.note);
                }
                Rest::Empty => {
                    let now = self.time.now();
                    let until = *empty_since.get_or_insert(now) + LINGER;
                    match self.change(|roster| roster.rest_empty(now, until)) {
                        Linger::Not => empty_since = None,
                        Linger::On => sleeper.sleep(&self.time, Some(until), &self.note),
                        Linger::Over => return,
                    }
                }
            }
        }
    }

    /// Everything that is due, and one turn for everybody who is on the list for this thread.
    fn round(self: &Arc<Self>, batch: &mut Batch) {
        let due_by = self.time.now();
        let (listed, mut more) = self.change(|roster| (roster.begin_round(), batch.exchange(roster, due_by, &self.hand)));
        while more {
            self.take_turns(batch);
            more = self.change(|roster| batch.exchange(roster, due_by, &self.hand));
        }
        for _ in 0..listed {
            let Some(job) = self.change(Roster::next_own_job) else { return };
            self.perform(job);
        }
    }

    /// Gives all of a batch their turn.
    fn take_turns(self: &Arc<Self>, batch: &mut Batch) {
        batch.over.drain(..).for_each(|over| self.let_go(over));
        batch.promoted.drain(..).for_each(|mut run| self.finish_promoted(&mut run));
        batch.fetch();
        let (mut now, mut carrier) = (self.time.now(), Carrier::default());
        for job in &mut batch.jobs {
            match job {
                Job::Turn { key, task, queued } => {
                    batch.turns.push(self.turn_of(*key, task, *queued, &mut now));
                }
                Job::Lean(run) => {
                    if !self.make_run(run, &mut carrier, &mut now) {
                        *job = Job::Done;
                    }
                }
                Job::Ring(_) | Job::Done => {
                    self.perform(std::mem::replace(job, Job::Done));
                    now = self.time.now();
                }
            }
        }
    }

    /// A round on this thread, for an engine without one of its own. Returns when the next is needed.
    pub(super) fn host_round(self: &Arc<Self>) -> Option<Instant> {
        let _kept = Kept::enter(self);
        // Who hosts an engine, a test above all, sees one timer at a time.
        self.round(&mut Batch::of(1));
        match self.change(Roster::rest_hosted) {
            Rest::None => Some(self.time.now()),
            Rest::Until(due) => due,
            Rest::Empty => None,
        }
    }
}

/// For tests.
#[cfg(feature = "testing")]
impl Core {
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lock().next_due()
    }

    /// Gives everybody a turn who has something to do. Returns whether it has come to rest.
    pub(super) fn settle_once(self: &Arc<Self>) -> bool {
        let stirred = self.read(|roster| roster.stirred);
        self.host_round();
        self.read(|roster| roster.is_settled() || roster.stirred == stirred)
    }
}

thread_local! {
    /// The engine that this thread keeps the time for.
    static KEPT: Cell<*const Core> = const { Cell::new(ptr::null()) };
}

/// While it exists, this thread is known as the keeper of an engine.
struct Kept(*const Core);

impl Kept {
    fn enter(core: &Arc<Core>) -> Self {
        Self(KEPT.with(|kept| kept.replace(Arc::as_ptr(core))))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.with(|kept| kept.set(self.0));
    }
}

impl Core {
    pub(super) fn is_kept_by_this_thread(&self) -> bool {
        KEPT.try_with(|kept| ptr::eq(kept.get(), self)).unwrap_or(false)
    }
}
