//! The next slot of a grid, found by division, against a walk from slot to slot.

use proptest::prelude::*;

use crate::Instant;
use crate::missed::{Grid, Missed, NextSlot};
use crate::tests::seeded::seeded;

const POLICIES: [Missed; 6] = [
    Missed::Skip,
    Missed::Delay,
    Missed::Burst { max: 0 },
    Missed::Burst { max: 1 },
    Missed::Burst { max: 3 },
    Missed::Burst { max: u64::MAX },
];

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

/// What the policies say, given how many slots have passed.
fn by_policy(grid: Grid, first: u64, now: u64, passed: u64, policy: Missed) -> NextSlot {
    match policy {
        Missed::Skip => NextSlot { grid, slot: first + passed, passed, dropped: passed },
        Missed::Delay if passed == 0 => NextSlot { grid, slot: first, passed, dropped: 0 },
        Missed::Delay => {
            let grid = Grid { anchor: at(now), anchor_slot: first + passed - 1, ..grid };
            NextSlot { grid, slot: first + passed, passed, dropped: passed }
        }
        Missed::Burst { max } => {
            let dropped = passed.saturating_sub(max);
            NextSlot { grid, slot: first + dropped, passed, dropped }
        }
    }
}

#[test]
fn s4_the_next_slot_is_that_of_a_walk_over_all_small_grids() {
    for (period, anchor, anchor_slot) in
        (0..=6).flat_map(|p| [0, 1, 9].into_iter().flat_map(move |a| [0, 2].map(move |s| (p, a, s))))
    {
        let grid = Grid { anchor: at(anchor), anchor_slot, period_nanos: period };
        for (first, now) in (0..4).flat_map(|n| (0..45).map(move |now| (anchor_slot + n, now))) {
            for grace in [0, 1, 2, period, 50] {
                let (mut passed, mut due) = (0, anchor + (first - anchor_slot) * period);
                assert_eq!(grid.time_of(first), at(due));
                while period > 0 && due + grace < now {
                    (passed, due) = (passed + 1, due + period);
                }
                for policy in POLICIES {
                    let next = grid.next_slot(first, at(now), grace, policy);
                    let wanted = by_policy(grid, first, now, passed, policy);
                    assert_eq!(next, wanted, "{grid:?} from {first} at {now}, grace {grace}, {policy:?}");
                }
            }
        }
    }
}

/// The ends of time and of numbers, what a clock shows after centuries, and anything.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => 0..1_000_u64,
        1 => Just(1 << 63),
        1 => Just(1_000_000 << 36),
        1 => (0..1_000_u64).prop_map(|n| u64::MAX - n),
        1 => (0..64_u32, any::<u64>()).prop_map(|(bits, n)| n >> bits),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..seeded() })]

    #[test]
    fn s3_s9_a_slot_of_any_grid_is_exact_or_never(
        anchor in number(),
        anchor_slot in number(),
        period_nanos in number(),
        steps in number(),
    ) {
        let grid = Grid { anchor: at(anchor), anchor_slot, period_nanos };
        let slot = anchor_slot.saturating_add(steps);
        let truth = u128::from(anchor) + u128::from(slot - anchor_slot) * u128::from(period_nanos);
        prop_assert_eq!(grid.time_of(slot), at(u64::try_from(truth).unwrap_or(u64::MAX)));
    }

    /// Everything before the next slot has passed, and it has not itself.
    #[test]
    fn s4_s9_the_next_slot_of_any_grid_is_the_first_that_has_not_passed(
        anchor in number(),
        anchor_slot in number(),
        period in number(),
        ahead in number(),
        now in number(),
        grace in number(),
    ) {
        let grid = Grid { anchor: at(anchor), anchor_slot, period_nanos: period };
        let first = anchor_slot.saturating_add(ahead);
        let time_of = |slot: u64| u128::from(anchor) + u128::from(slot - anchor_slot) * u128::from(period);
        let has_passed = |slot| period > 0 && time_of(slot) + u128::from(grace) < u128::from(now);
        let next = grid.next_slot(first, at(now), grace, Missed::Skip);
        prop_assert_eq!(next.slot, first.saturating_add(next.passed));
        prop_assert!(next.slot == u64::MAX || !has_passed(next.slot));
        prop_assert!(next.slot == first || has_passed(next.slot - 1));
        if next.slot < u64::MAX {
            for policy in POLICIES {
                let wanted = by_policy(grid, first, now, next.passed, policy);
                prop_assert_eq!(grid.next_slot(first, at(now), grace, policy), wanted);
            }
        }
    }
}
