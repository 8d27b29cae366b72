//! Which run comes next: the timer's bookkeeping of slots.
//!
//! `next_slot` is the first slot that has neither run nor been dropped. Everything here either takes it
//! (`take_slot`), drops slots from it on (`drop_slots`), or moves the grid under it (`change_period`).

use alloc::sync::Arc;
use core::time::Duration;

use super::{Outcome, Run, State, Timer, Troubles, Wait};
use crate::missed::{Grid, Missed, NextSlot};
use crate::{Cause, Instant};

/// Why slots never ran.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Overrun,
    Paused,
    Late,
    Backoff,
}

impl Timer {
    /// What follows a run that did not end the timer.
    pub(super) fn plan_after(&mut self, now: Instant, run: Run, outcome: Outcome) {
        if core::mem::take(&mut self.follow_up) {
            self.state = State::Due(Wait { due: now, cause: Cause::Trigger });
            return;
        }
        match &mut self.troubles {
            Some(troubles) if outcome == Outcome::Failure && troubles.backoff_nanos > 0 => {
                troubles.retry_slot = run.slot;
                let due = now.add_nanos(troubles.backoff_nanos);
                self.state = State::Waiting(Wait { due, cause: Cause::Retry });
            }
            _ => self.plan_by_schedule(now, self.schedule.missed, Reason::Overrun),
        }
    }

    /// The slot of a run that begins: its own for a retry, else the next one.
    pub(super) fn take_slot(&mut self, wait: Wait) -> u64 {
        match wait.cause {
            Cause::Retry => {
                self.drop_passed(wait.due, Reason::Backoff);
                return self.troubles().retry_slot;
            }
            Cause::Trigger if self.schedule.is_grid() => {
                if self.schedule.keep_phase {
                    return self.next_slot;
                }
                self.drop_passed(wait.due, Reason::Overrun);
                (self.anchor, self.anchor_slot) = (wait.due, self.next_slot);
            }
            Cause::Trigger | Cause::Schedule => {}
        }
        let slot = self.next_slot;
        self.wait_base = self.grid().time_of(slot);
        self.next_slot = slot.saturating_add(1);
        slot
    }

    /// Drops what passed during a pause, whatever the policy, and waits for the next slot.
    pub(super) fn skip_paused(&mut self, now: Instant) {
        self.skip(now, Reason::Paused);
    }

    /// Drops a slot that is too late, with all others that passed, and waits for the next.
    pub(super) fn skip_late(&mut self, now: Instant) {
        self.skip(now, Reason::Late);
    }

    fn skip(&mut self, now: Instant, reason: Reason) {
        if !self.schedule.is_grid() {
            // Without a grid one slot at a time is waited for: just that one is lost.
            let late = self.next_due().map_or(Duration::ZERO, |due| now.saturating_since(due));
            self.next_slot = self.next_slot.saturating_add(1);
            self.troubles().count(reason, 1, 1, late);
        }
        self.plan_by_schedule(now, Missed::Skip, reason);
        self.handle_timeout(now);
    }

    fn plan_by_schedule(&mut self, now: Instant, policy: Missed, reason: Reason) {
        let due = if self.schedule.is_grid() {
            let next = self.grid().next_slot(self.next_slot, now, self.reach_nanos(), policy);
            self.drop_slots(now, next, reason);
            self.grid_due(now)
        } else {
            self.wait_base = now;
            now.add_nanos(self.schedule.jitter.spread(self.next_slot, self.schedule.period_nanos))
        };
        self.state = State::Waiting(Wait { due, cause: Cause::Schedule });
    }

    /// When the next slot of the grid is due: its nominal time, or a draw from the jitter's window
    /// around it, cut to what lies after `now` and before the slot after it.
    fn grid_due(&self, now: Instant) -> Instant {
        if self.schedule.period_nanos == 0 {
            return now;
        }
        let (grid, reach) = (self.grid(), self.reach_nanos());
        let nominal = grid.time_of(self.next_slot);
        if reach == 0 {
            return nominal;
        }
        let latest = nominal.add_nanos(reach).min(grid.time_of(self.next_slot.saturating_add(1)));
        let earliest = nominal.sub_nanos(reach).max(now.min(latest));
        let due = self.schedule.jitter.draw(self.next_slot, earliest.as_nanos(), latest.as_nanos());
        Instant::from_nanos(due)
    }

    fn grid(&self) -> Grid {
        let period_nanos = self.schedule.period_nanos;
        Grid { anchor: self.anchor, anchor_slot: self.anchor_slot, period_nanos }
    }

    fn reach_nanos(&self) -> u64 {
        self.schedule.jitter.reach_nanos(self.schedule.period_nanos)
    }

    fn drop_passed(&mut self, now: Instant, reason: Reason) {
        if self.schedule.is_grid() {
            let next = self.grid().next_slot(self.next_slot, now, self.reach_nanos(), Missed::Skip);
            self.drop_slots(now, next, reason);
        }
    }

    /// Moves on to `next`, counting what it leaves behind.
    fn drop_slots(&mut self, now: Instant, next: NextSlot, reason: Reason) {
        if next.passed == 0 {
            return;
        }
        let passed_to = self.next_slot.saturating_add(next.passed);
        let late = now.saturating_since(self.grid().time_of(self.next_slot));
        let first = self.next_slot;
        let troubles = self.troubles();
        let missed = passed_to.saturating_sub(first.max(troubles.counted_slot));
        troubles.counted_slot = troubles.counted_slot.max(passed_to);
        troubles.count(reason, missed, next.dropped, late);
        self.next_slot = next.slot;
        (self.anchor, self.anchor_slot) = (next.grid.anchor, next.grid.anchor_slot);
        if next.dropped > 0 {
            self.wait_base = self.grid().time_of(next.slot.saturating_sub(1));
        }
    }

    /// Puts the new period into force: from the next wait on, or for the wait in progress too.
    pub(super) fn change_period(&mut self, now: Instant, period_nanos: u64, rearm: bool) {
        let pending = match self.state {
            State::Waiting(wait) | State::Due(wait) => wait.cause == Cause::Schedule,
            _ => false,
        };
        let first_wait = self.next_slot == 0;
        let rearm = rearm && pending && !first_wait && matches!(self.state, State::Waiting(_));
        let (anchor, anchor_slot) = if first_wait || (pending && !rearm) {
            // The slot that is waited for keeps its time.
            (self.grid().time_of(self.next_slot), self.next_slot)
        } else {
            (self.wait_base, self.next_slot - 1)
        };
        (self.anchor, self.anchor_slot) = (anchor, anchor_slot);
        Arc::make_mut(&mut self.schedule).period_nanos = period_nanos;
        if rearm {
            self.rearm(now);
        }
    }

    fn rearm(&mut self, now: Instant) {
        let due = if self.schedule.is_grid() {
            // The slots of the new grid that lie before `now` never were slots: none of them is missed.
            let grid = self.grid();
            let next = grid.next_slot(self.next_slot, now, self.reach_nanos(), Missed::Skip);
            (self.anchor, self.anchor_slot) = (grid.time_of(next.slot), self.next_slot);
            self.grid_due(now)
        } else {
            let wait = self.schedule.jitter.spread(self.next_slot, self.schedule.period_nanos);
            self.wait_base.add_nanos(wait).max(now)
        };
        self.state = State::Waiting(Wait { due, cause: Cause::Schedule });
    }
}

impl Troubles {
    fn count(&mut self, reason: Reason, missed: u64, dropped: u64, late: Duration) {
        let counter = match reason {
            Reason::Overrun => &mut self.skipped.overrun,
            Reason::Paused => &mut self.skipped.paused,
            Reason::Late => &mut self.skipped.late,
            Reason::Backoff => &mut self.skipped.backoff,
        };
        *counter = counter.saturating_add(dropped);
        self.dropped_since_run = self.dropped_since_run.saturating_add(dropped);
        if reason == Reason::Paused || missed == 0 {
            return;
        }
        self.skipped.missed = self.skipped.missed.saturating_add(missed);
        let batch = self.batch.get_or_insert_default();
        batch.missed = batch.missed.saturating_add(missed);
        batch.dropped = batch.dropped.saturating_add(dropped);
        batch.late = batch.late.max(late);
    }
}
