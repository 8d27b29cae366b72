//! The one place that decides which slot of a grid comes next.

use crate::Instant;

/// What a fixed-rate timer does about slots that passed before they could run.
///
/// Slots are missed when a run takes longer than the period, or when the driver could not run for a
/// while. Whatever the policy, each missed slot is counted, and finding the next one costs a division,
/// not a walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missed {
    /// None of them runs afterwards; the next run is at the next slot that has not passed.
    ///
    /// ```text
    /// slot  0         1         2         3         4
    /// run   |#######################|     |##|      |##
    ///                 missed    missed
    /// ```
    #[default]
    Skip,
    /// None of them runs afterwards; the grid is anchored anew at the end of the late run, so the next
    /// run is a full period later.
    ///
    /// ```text
    /// slot  0         1         2         .
    /// run   |#######################|     .
    ///                               |--period-|##
    /// ```
    Delay,
    /// At most `max` of them run afterwards, back to back; the older ones are dropped.
    ///
    /// ```text
    /// slot  0         1         2         3         4
    /// run   |#######################|#1|#2||##|     |##
    /// ```
    Burst {
        /// How many missed slots may be run late.
        max: u64,
    },
}

/// The grid of a fixed-rate timer: slot k is at `anchor + (k − anchor_slot) × period`.
///
/// Only commands move the anchor; ticks never do, so there is nothing in which an error could add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub anchor: Instant,
    pub anchor_slot: u64,
    pub period_nanos: u64,
}

/// What follows a point in time on a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextSlot {
    /// The grid from here on; a new one after [`Missed::Delay`].
    pub grid: Grid,
    /// The slot to run next.
    pub slot: u64,
    /// Slots that passed without a run.
    pub passed: u64,
    /// How many of them will never run.
    pub dropped: u64,
}

impl Grid {
    /// When `slot` is nominally due. Slots before the anchor do not exist.
    pub(crate) fn time_of(&self, slot: u64) -> Instant {
        let steps = slot.saturating_sub(self.anchor_slot);
        self.anchor.add_nanos(steps.saturating_mul(self.period_nanos))
    }

    /// How many slots from `first` on lie strictly before `now`.
    fn passed_from(&self, first: u64, now: Instant) -> u64 {
        let Some(elapsed) = now.nanos_since(self.anchor).checked_sub(1) else {
            return 0;
        };
        // Period zero: every slot is "now", and none can be missed.
        let Some(steps) = elapsed.checked_div(self.period_nanos) else {
            return 0;
        };
        self.anchor_slot.saturating_add(steps).saturating_add(1).saturating_sub(first)
    }

    /// Which slot, `first` or a later one, is to run next at `now`. A slot counts as passed once it
    /// lies more than `grace_nanos` (the reach of the jitter) before `now`.
    pub(crate) fn next_slot(self, first: u64, now: Instant, grace_nanos: u64, policy: Missed) -> NextSlot {
        let limit = now.as_nanos().checked_sub(grace_nanos).map(Instant::from_nanos);
        let passed = limit.map_or(0, |limit| self.passed_from(first, limit));
        let next = NextSlot { grid: self, slot: first.saturating_add(passed), passed, dropped: passed };
        match policy {
            Missed::Delay if passed > 0 => {
                // The last dropped slot moves to `now`, so that the next one is a full period away.
                let grid = Self { anchor: now, anchor_slot: next.slot.saturating_sub(1), ..self };
                NextSlot { grid, ..next }
            }
            Missed::Burst { max } => {
                let dropped = passed - passed.min(max);
                NextSlot { slot: first.saturating_add(dropped), dropped, ..next }
            }
            Missed::Skip | Missed::Delay => next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    const TENS: Grid = Grid { anchor: at(100), anchor_slot: 0, period_nanos: 10 };

    #[test]
    fn s3_slots_are_exact_after_a_trillion() {
        let grid = Grid { period_nanos: 7_777_777, ..TENS };
        assert_eq!(grid.time_of(1_000_000_000_000), at(100 + 7_777_777_000_000_000_000));
    }

    #[test]
    fn s4_a_slot_at_this_very_moment_has_not_passed() {
        let next = TENS.next_slot(1, at(110), 0, Missed::Skip);
        assert_eq!((next.slot, next.passed), (1, 0));
        let next = TENS.next_slot(1, at(111), 0, Missed::Skip);
        assert_eq!((next.slot, next.passed), (2, 1));
    }

    #[test]
    fn s4_skip_goes_to_the_next_slot_in_the_future() {
        let next = TENS.next_slot(1, at(135), 0, Missed::Skip);
        assert_eq!(next, NextSlot { grid: TENS, slot: 4, passed: 3, dropped: 3 });
    }

    #[test]
    fn s4_delay_anchors_at_the_end_of_the_late_run() {
        let next = TENS.next_slot(1, at(135), 0, Missed::Delay);
        assert_eq!((next.slot, next.dropped), (4, 3));
        assert_eq!(next.grid.time_of(4), at(145));
        let in_time = TENS.next_slot(1, at(105), 0, Missed::Delay);
        assert_eq!(in_time.grid, TENS);
    }

    #[test]
    fn s4_burst_keeps_the_newest() {
        let next = TENS.next_slot(1, at(135), 0, Missed::Burst { max: 2 });
        assert_eq!((next.slot, next.passed, next.dropped), (2, 3, 1));
        let all = TENS.next_slot(1, at(135), 0, Missed::Burst { max: u64::MAX });
        assert_eq!((all.slot, all.dropped), (1, 0));
        let none = TENS.next_slot(1, at(135), 0, Missed::Burst { max: 0 });
        assert_eq!((none.slot, none.dropped), (4, 3));
    }

    #[test]
    fn s4_a_billion_missed_slots_are_one_division() {
        let grid = Grid { period_nanos: 1_000, ..TENS };
        let next = grid.next_slot(6, at(100 + 1_000_000_006_000), 0, Missed::Skip);
        assert_eq!(next.slot, 1_000_000_006);
        assert_eq!(next.dropped, 1_000_000_000);
    }

    #[test]
    fn s5_jitter_gives_a_slot_time_until_its_reach_is_over() {
        assert_eq!(TENS.next_slot(1, at(113), 3, Missed::Skip).slot, 1);
        assert_eq!(TENS.next_slot(1, at(114), 3, Missed::Skip).slot, 2);
    }

    #[test]
    fn s6_period_zero_misses_nothing() {
        let grid = Grid { period_nanos: 0, ..TENS };
        let next = grid.next_slot(42, at(u64::MAX), 0, Missed::Skip);
        assert_eq!((next.slot, next.passed), (42, 0));
    }

    #[test]
    fn s9_the_ends_of_time_saturate() {
        assert_eq!(TENS.time_of(u64::MAX), Instant::NEVER);
        let nanos = Grid { anchor: at(0), anchor_slot: 0, period_nanos: 1 };
        let next = nanos.next_slot(1, Instant::NEVER, 0, Missed::Skip);
        assert_eq!(next.slot, u64::MAX);
        assert_eq!(next.grid.time_of(next.slot), Instant::NEVER);
        assert_eq!(TENS.next_slot(1, at(0), 0, Missed::Delay).passed, 0);
    }
}
