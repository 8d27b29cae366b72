//! Whose turn it is: what is due, and the lists of those who wait, for the keeper and for workers.

use std::collections::VecDeque;
use std::mem;

use everbeat_core::{Instant, Key};

use super::hand::Slot;
use super::lean::Record;
use super::roster::{Entry, Job, Roster, Seat};
use crate::shared::Plan;
use crate::sync::MutexGuard;

/// What a thread takes from the roster.
pub(super) struct Taking<'a> {
    pub(super) jobs: &'a mut Vec<Job>,
    /// Where runs of lean timers go, and the number of that hand. Without one there are none.
    pub(super) hand: Option<(u8, MutexGuard<'a, Vec<Slot>>)>,
    pub(super) last_plan: *const Plan,
}

impl Taking<'_> {
    /// Returns whether there is a hand for it.
    #[inline]
    fn take_lean(&mut self, key: Key, due: Instant, record: &mut Record) -> bool {
        let Some((number, slots)) = &mut self.hand else { return false };
        let Ok(slot) = u8::try_from(slots.len()) else { return false };
        slots.push(record.take(due, *number, slot));
        self.jobs.push(Job::Lean { key, plan: record.plan_after(&mut self.last_plan) });
        true
    }
}

impl Roster {
    /// A key on a list has lost its meaning. The lists are cleared of such keys before they are mostly that.
    pub(super) fn unlist(&mut self) {
        self.unlisted += 1;
        if self.unlisted < 64 || self.unlisted * 2 < self.own.len() + self.pooled.len() {
            return;
        }
        self.unlisted = 0;
        let queue = &mut self.queue;
        let mut means_something = |key: &Key| match queue.get(*key) {
            Some(Entry::Timer { task, .. }) => task.is_some(),
            Some(Entry::Lean(record)) => record.is_listed(),
            _ => false,
        };
        self.own.retain(&mut means_something);
        self.pooled.retain(&mut means_something);
    }

    /// Makes it the turn of a task that waits.
    pub(super) fn list(&mut self, key: Key) {
        let workers = &self.workers;
        let busy = workers.alive >= workers.most && self.pooled.len() >= workers.free();
        let (pooled, queued) = match self.queue.get_mut(key) {
            Some(Entry::Timer { seat: seat @ Seat::Waiting, pooled, .. }) => {
                let queued = *pooled && busy;
                *seat = if queued { Seat::Queued } else { Seat::Listed };
                (*pooled, queued)
            }
            Some(Entry::Lean(record)) => {
                let queued = record.is_pooled() && busy;
                if !record.list(queued) {
                    return;
                }
                (record.is_pooled(), queued)
            }
            _ => return,
        };
        self.figures.queued += u64::from(queued);
        if pooled {
            self.pooled.push_back(key);
        } else {
            self.own.push_back(key);
            self.call_keeper();
        }
    }

    /// Adds the next job that is due, in the order of the deadlines. What workers run is only listed for
    /// them. Returns whether there was one.
    #[inline]
    pub(super) fn take_due_job(&mut self, now: Instant, taking: &mut Taking<'_>) -> bool {
        loop {
            let Some((key, due, entry)) = self.queue.take_due(now) else { return false };
            let taken = match entry {
                Entry::Lean(record) if !record.is_pooled() => taking.take_lean(key, due, record),
                Entry::Timer { task: place @ Some(_), seat, pooled: false, .. } => {
                    *seat = Seat::Away;
                    taking.jobs.extend(place.take().map(|task| Job::Turn { key, task, queued: false }));
                    true
                }
                Entry::Timer { .. } | Entry::Lean(_) => false,
                Entry::Bell(_) | Entry::Moved(_) => {
                    let Some(Entry::Bell(waker)) = self.queue.remove(key) else { continue };
                    self.bells -= 1;
                    taking.jobs.push(Job::Ring(waker));
                    return true;
                }
            };
            self.figures.lateness.record(now.saturating_since(due));
            if taken {
                self.figures.turns += 1;
                return true;
            }
            self.list(key);
        }
    }

    /// Adds the next turn on the keeper's own thread. Returns whether there was one.
    pub(super) fn take_own_job(&mut self, taking: &mut Taking<'_>) -> bool {
        self.take_listed_job(|roster| &mut roster.own, taking)
    }

    /// Adds the next turn on a worker.
    pub(super) fn take_pooled_job(&mut self, taking: &mut Taking<'_>) -> bool {
        self.take_listed_job(|roster| &mut roster.pooled, taking)
    }

    fn take_listed_job(
        &mut self,
        list: fn(&mut Self) -> &mut VecDeque<Key>,
        taking: &mut Taking<'_>,
    ) -> bool {
        while let Some(key) = list(self).pop_front() {
            if self.take_turn(key, taking) {
                self.figures.turns += 1;
                return true;
            }
        }
        false
    }

    /// Returns whether the timer is still there and waits for its turn.
    fn take_turn(&mut self, key: Key, taking: &mut Taking<'_>) -> bool {
        let Some(due) = self.queue.due(key) else { return false };
        if let Some(Entry::Lean(record)) = self.queue.get_mut(key) {
            if !record.is_listed() {
                return false;
            }
            if taking.take_lean(key, due, record) {
                return true;
            }
            self.promote(key); // there is no hand for it
        }
        let Some(Entry::Timer { task, seat, .. }) = self.queue.get_mut(key) else { return false };
        let Some(task) = task.take() else { return false };
        let queued = mem::replace(seat, Seat::Away) == Seat::Queued;
        taking.jobs.push(Job::Turn { key, task, queued });
        true
    }
}
