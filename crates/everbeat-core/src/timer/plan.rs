//! Which run comes next: the timer's bookkeeping of slots.
//!
//! `next_slot` is the first slot that has neither run nor been dropped. Everything here either takes it
//! (`take_slot`), drops slots from it on (`drop_older`), or moves the grid under it (`change_period`).

use alloc::sync::Arc;
use core::time::Duration;

use super::{Outcome, Run, State, Timer, Troubles, Wait};
use crate::missed::{Grid, Missed};
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
            self.drop_before_trigger(now);
            self.state = State::Due(Wait { due: now, cause: Cause::Trigger, requested: true });
            return;
        }
        let backoff_nanos = self.troubles.as_ref().map_or(0, |troubles| troubles.backoff_nanos);
        match outcome {
            Outcome::Failure if backoff_nanos > 0 => {
                // A burst has no place before a retry, and a retry leaves the grid alone.
                self.drop_passed(now, Missed::Skip, self.policy().1);
                self.troubles().retry_slot = run.slot;
                let due = now.add_nanos(backoff_nanos);
                self.state = State::Waiting(Wait { due, cause: Cause::Retry, requested: false });
            }
            _ => {
                let (policy, reason) = self.policy();
                self.plan_by_schedule(now, policy, reason);
            }
        }
    }

    /// The slot of a run that begins: its own for a retry, else the next one.
    pub(super) fn take_slot(&mut self, wait: Wait) -> u64 {
        match wait.cause {
            Cause::Retry => {
                self.drop_passed(wait.due, Missed::Skip, Reason::Backoff);
                return self.troubles().retry_slot;
            }
            Cause::Trigger if self.schedule.is_grid() => {
                if self.schedule.keep_phase {
                    return self.next_slot;
                }
                (self.anchor, self.anchor_slot) = (wait.due, self.next_slot);
            }
            Cause::Trigger | Cause::Schedule => {}
        }
        let slot = self.next_slot;
        self.wait_base = self.grid().time_of(slot);
        self.next_slot = slot.saturating_add(1);
        slot
    }

    /// What becomes of slots that pass now, and why. What passes during a pause or before a retry never
    /// runs.
    fn policy(&self) -> (Missed, Reason) {
        match self.state {
            _ if self.paused => (Missed::Skip, Reason::Paused),
            State::Waiting(Wait { cause: Cause::Retry, .. }) => (Missed::Skip, Reason::Backoff),
            _ => (self.schedule.missed, Reason::Overrun),
        }
    }

    /// A pause begins: what passed during a run or the wait for a retry until here is not due to it.
    pub(super) fn note_pause(&mut self, now: Instant) {
        let retries = matches!(self.state, State::Waiting(Wait { cause: Cause::Retry, .. }));
        if retries || self.is_busy() {
            self.drop_passed(now, Missed::Skip, self.policy().1);
        }
    }

    /// A trigger ends a wait: books what passed during it.
    pub(super) fn note_trigger(&mut self, now: Instant, wait: Wait) {
        let retries = wait.cause == Cause::Retry;
        if self.paused && !retries && !self.schedule.is_grid() && wait.due < now {
            self.lose_slot(now, Reason::Paused);
        } else {
            self.drop_before_trigger(now);
        }
    }

    /// If the grid stays, so does what a burst has still to run.
    fn drop_before_trigger(&mut self, now: Instant) {
        let (policy, reason) = self.policy();
        let policy = if self.schedule.keep_phase { policy } else { Missed::Skip };
        self.drop_passed(now, policy, reason);
    }

    /// A pause ends: drops what passed meanwhile, whatever the policy, and waits for the next slot.
    pub(super) fn skip_paused(&mut self, now: Instant) {
        match self.state {
            State::Waiting(Wait { due, cause: Cause::Schedule, .. }) if due < now => {
                self.skip(now, Reason::Paused);
            }
            State::Waiting(Wait { cause: Cause::Schedule, .. }) => {}
            _ => self.drop_passed(now, Missed::Skip, Reason::Paused),
        }
    }

    /// Drops a slot that is too late, with all others that passed, and waits for the next. A burst may
    /// still run those that are not too late yet.
    pub(super) fn skip_late(&mut self, now: Instant) {
        if self.schedule.is_grid() && matches!(self.schedule.missed, Missed::Burst { .. }) {
            let patience = self.schedule.max_lateness_nanos.max(self.reach_nanos());
            self.drop_older(now, patience, Missed::Skip, Reason::Late);
            self.wait_on_grid(now);
        } else {
            self.skip(now, Reason::Late);
        }
        self.handle_timeout(now);
    }

    /// What was waited for is over: on to what comes next.
    fn skip(&mut self, now: Instant, reason: Reason) {
        if !self.schedule.is_grid() {
            self.lose_slot(now, reason);
        }
        self.plan_by_schedule(now, Missed::Skip, reason);
    }

    /// Without a grid one slot at a time is waited for, and just that one is lost.
    fn lose_slot(&mut self, now: Instant, reason: Reason) {
        let late = self.next_due().map_or(Duration::ZERO, |due| now.saturating_since(due));
        self.next_slot = self.next_slot.saturating_add(1);
        self.troubles().count(reason, 1, 1, late);
    }

    fn plan_by_schedule(&mut self, now: Instant, policy: Missed, reason: Reason) {
        if self.schedule.is_grid() {
            self.drop_passed(now, policy, reason);
            self.wait_on_grid(now);
            return;
        }
        self.wait_base = now;
        let due = now.add_nanos(self.schedule.jitter.spread(self.next_slot, self.schedule.period_nanos));
        self.state = State::Waiting(Wait { due, ..Wait::for_slot() });
    }

    fn wait_on_grid(&mut self, now: Instant) {
        let due = self.grid_due(now);
        if self.schedule.period_nanos == 0 {
            // Without a distance between slots the grid is where the next one is.
            (self.anchor, self.anchor_slot) = (due, self.next_slot);
        }
        self.state = State::Waiting(Wait { due, ..Wait::for_slot() });
    }

    /// When the next slot of the grid is due: its nominal time, or a draw from the jitter's window
    /// around it, cut to what lies after `now` and before the slot after it.
    fn grid_due(&self, now: Instant) -> Instant {
        let (grid, reach) = (self.grid(), self.reach_nanos());
        let nominal = grid.time_of(self.next_slot);
        if self.schedule.period_nanos == 0 {
            return nominal.max(now);
        }
        // A slot past the end of time strays from nowhere.
        if reach == 0 || nominal.is_never() {
            return nominal;
        }
        let latest = nominal.add_nanos(reach).min(grid.time_of(self.next_slot.saturating_add(1)));
        let earliest = nominal.sub_nanos(reach).max(now.min(latest));
        let due = self.schedule.jitter.draw(self.next_slot, earliest.as_nanos(), latest.as_nanos());
        Instant::from_nanos(due)
    }

    pub(super) fn grid(&self) -> Grid {
        let period_nanos = self.schedule.period_nanos;
        Grid { anchor: self.anchor, anchor_slot: self.anchor_slot, period_nanos }
    }

    fn reach_nanos(&self) -> u64 {
        self.schedule.jitter.reach_nanos(self.schedule.period_nanos)
    }

    /// Drops, of the slots that have passed, those that `policy` does not run. Without a grid none has; nor as long as
    /// one is waited for, even if that was drawn to come later than slots of a shorter period would; nor once a run was
    /// asked for that takes the next one.
    fn drop_passed(&mut self, now: Instant, policy: Missed, reason: Reason) {
        let is_spoken_for = match self.state {
            State::Waiting(wait) => wait.cause == Cause::Schedule && wait.due >= now,
            State::Due(wait) => wait.cause == Cause::Trigger && !self.schedule.keep_phase,
            _ => false,
        };
        if self.schedule.is_grid() && !is_spoken_for {
            self.drop_older(now, self.reach_nanos(), policy, reason);
        }
    }

    /// The same for slots of a grid that passed more than `patience_nanos` ago. Counts what it drops.
    fn drop_older(&mut self, now: Instant, patience_nanos: u64, policy: Missed, reason: Reason) {
        let next = self.grid().next_slot(self.next_slot, now, patience_nanos, policy);
        if next.passed == 0 {
            return;
        }
        let passed_to = self.next_slot.saturating_add(next.passed);
        let counted_slot = self.troubles().counted_slot;
        let first_new = self.next_slot.max(counted_slot);
        let missed = passed_to.saturating_sub(first_new);
        let late = self.now.saturating_since(self.grid().time_of(first_new));
        let troubles = self.troubles();
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
        // A slot is waited for, whether or not a trigger comes in between. Once it is due it cannot move.
        let triggered = matches!(self.state, State::Due(Wait { cause: Cause::Trigger, .. }));
        let waiting = matches!(self.state, State::Waiting(Wait { cause: Cause::Schedule, .. }));
        let movable = triggered || waiting;
        let pending = movable || matches!(self.state, State::Due(Wait { cause: Cause::Schedule, .. }));
        if self.paused || !pending {
            // What was missed so far was missed on the old grid.
            let waited_for = self.next_slot;
            self.drop_passed(now, Missed::Skip, self.policy().1);
            if waiting && self.next_slot != waited_for {
                self.wait_on_grid(now);
            }
        }
        let first_wait = self.next_slot == 0;
        let rearm = rearm && movable && !first_wait;
        if first_wait || (pending && !rearm) {
            // The slot that is waited for keeps its time; the new period counts from there. If it is late
            // already it runs at once, and what follows is to come after it.
            let nominal = match self.state {
                // What follows without a distance comes when this slot does, wherever it was drawn to.
                State::Waiting(Wait { due, cause: Cause::Schedule, .. })
                | State::Due(Wait { due, cause: Cause::Schedule, .. })
                    if period_nanos == 0 && self.schedule.is_grid() =>
                {
                    due
                }
                _ => self.grid().time_of(self.next_slot),
            };
            let held_up = triggered || self.paused || !pending;
            // Without a period a slot that something else holds up is always now.
            let is_now = held_up && self.schedule.period_nanos == 0;
            let anchor = if is_now { nominal.max(now) } else { nominal };
            self.start_grid(anchor, self.next_slot, period_nanos, now);
            return;
        }
        // A slot at `now`, or one whose window of jitter is still open, can take place.
        let reach = self.schedule.jitter.reach_nanos(period_nanos);
        let passed = now.sub_nanos(reach.saturating_add(1));
        self.start_grid(self.wait_base, self.next_slot - 1, period_nanos, passed);
        if rearm && waiting {
            self.rearm(now);
        }
    }

    /// Begins a new grid at `anchor`, the time of `slot`. Its slots up to `passed` never were slots: none
    /// of them is missed, and the slot after `slot` is the first one later than that.
    fn start_grid(&mut self, anchor: Instant, slot: u64, period_nanos: u64, passed: Instant) {
        let whole_periods = passed.nanos_since(anchor).checked_div(period_nanos).unwrap_or(0);
        self.anchor = anchor.add_nanos(whole_periods.saturating_mul(period_nanos));
        self.anchor_slot = slot;
        Arc::make_mut(&mut self.schedule).period_nanos = period_nanos;
    }

    fn rearm(&mut self, now: Instant) {
        if self.schedule.is_grid() {
            self.wait_on_grid(now);
            return;
        }
        let wait = self.schedule.jitter.spread(self.next_slot, self.schedule.period_nanos);
        let due = self.wait_base.add_nanos(wait).max(now);
        self.state = State::Waiting(Wait { due, ..Wait::for_slot() });
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
