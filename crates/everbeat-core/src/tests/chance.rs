//! Whether jitter is as even as it says. The seeds are fixed: these tests give the same answer for ever.

use alloc::vec::Vec;
use core::time::Duration;

use crate::{Instant, Jitter, Outcome, Output, Ratio, Schedule, Timer};

const DRAWS: usize = 20_000;
const BINS: usize = 64;
const SEEDS: [u64; 5] = [0, 1, 42, 1 << 63, u64::MAX];

fn jitter(percent: u32, seed: u64) -> Jitter {
    Jitter { fraction: Ratio::new(percent, 100).unwrap(), seed }
}

/// Makes runs that take no time; tells for each the instants of the run before and of this one.
fn runs(schedule: Schedule, count: usize) -> Vec<(u64, u64)> {
    let (mut timer, mut now) = (Timer::new(schedule), Instant::from_nanos(3));
    timer.start(now).unwrap();
    let mut run = || {
        let before = now.as_nanos();
        now = timer.poll_timeout().unwrap();
        timer.handle_timeout(now);
        assert!(matches!(timer.poll_output(now), Some(Output::Run(_))));
        timer.handle_finished(now, Outcome::Success);
        (before, now.as_nanos())
    };
    run();
    (0..count).map(|_| run()).collect()
}

/// Where `value` lies between `low` and `high`, as a fraction in 2³².
fn position(value: u64, low: u64, high: u64) -> u64 {
    assert!((low..high).contains(&value), "{value} is not in {low}..{high}");
    u64::try_from((u128::from(value - low) << 32) / u128::from(high - low)).unwrap()
}

fn fixed_delay(period: u64, jitter: Jitter) -> Vec<u64> {
    let schedule = Schedule::fixed_delay(Duration::from_nanos(period)).with_jitter(jitter).unwrap();
    let reach = jitter.fraction.of(period);
    let place = |(before, due)| position(due - before, period - reach, period + reach);
    runs(schedule, DRAWS).into_iter().map(place).collect()
}

fn fixed_rate(period: u64, jitter: Jitter) -> Vec<u64> {
    let schedule = Schedule::fixed_rate(Duration::from_nanos(period)).with_jitter(jitter).unwrap();
    let reach = jitter.fraction.of(period);
    let place = |((before, due), slot): ((u64, u64), u64)| {
        let nominal = 3 + slot * period;
        // The rest of the window: after the run before, and before the next slot.
        position(due, (nominal - reach).max(before), nominal + reach.min(period))
    };
    runs(schedule, DRAWS).into_iter().zip(1..).map(place).collect()
}

/// Kolmogorov and Smirnov: how far the share of positions below any point is from even. The bound of
/// 2.0 / √n is exceeded by chance in 1 of 1,500 samples.
fn assert_even(mut positions: Vec<u64>, what: &str) {
    let n = positions.len() as u64;
    positions.sort_unstable();
    let distance = |(rank, position): (u64, u64)| (rank << 32).abs_diff(position * n) >> 32;
    let furthest = (0..).zip(positions).map(distance).max().unwrap();
    assert!(furthest * furthest < 4 * n, "{what}: {furthest} of {n} are in the wrong place");
}

/// Pearson: Σ (seen − expected)² / expected over the bins. For d degrees of freedom it is d ± √2d; outside
/// of five times that it is no chance.
fn assert_fair(bins: &[u64], what: &str) {
    let (total, freedom) = (bins.iter().sum::<u64>(), bins.len() as u64 - 1);
    let expected = total / bins.len() as u64;
    let squares: u64 = bins.iter().map(|&seen| seen.abs_diff(expected).pow(2)).sum();
    let off = (squares / expected).abs_diff(freedom);
    assert!(off * off < 25 * 2 * freedom, "{what}: chi-square {} for {freedom}", squares / expected);
}

fn bin_of(position: u64, bins: usize) -> usize {
    usize::try_from((position * bins as u64) >> 32).unwrap()
}

#[test]
fn s5_waits_of_a_fixed_delay_are_even_over_their_window() {
    for (percent, seed) in [1, 10, 50, 100].into_iter().flat_map(|p| SEEDS.map(|seed| (p, seed))) {
        let positions = fixed_delay(1_000_000_000, jitter(percent, seed));
        assert_even(positions, &alloc::format!("{percent} % with seed {seed}"));
    }
}

#[test]
fn s5_slots_of_a_grid_are_even_over_what_is_left_of_their_window() {
    for (percent, seed) in [1, 10, 50, 80, 100].into_iter().flat_map(|p| SEEDS.map(|seed| (p, seed))) {
        let positions = fixed_rate(1_000_000_000, jitter(percent, seed));
        assert_even(positions, &alloc::format!("{percent} % with seed {seed}"));
    }
}

#[test]
fn s5_draws_one_after_the_other_do_not_know_of_each_other() {
    for (seed, mode) in SEEDS.into_iter().flat_map(|seed| [fixed_delay, fixed_rate].map(|mode| (seed, mode)))
    {
        let positions = mode(1_000_000_000, jitter(50, seed));
        let mut pairs = [0; 16 * 16];
        for two in positions.chunks_exact(2) {
            pairs[bin_of(two[0], 16) * 16 + bin_of(two[1], 16)] += 1;
        }
        assert_fair(&pairs, &alloc::format!("seed {seed}"));
    }
}

/// A thousand timers with seeds from 0 on must not tick together.
#[test]
fn s5_timers_with_neighbouring_seeds_are_spread() {
    for slot in [0, 1, 2, 1_000, u64::MAX] {
        let mut bins = [0; BINS];
        let draws = (0..DRAWS as u64).map(|seed| jitter(100, seed).draw(slot, 0, 1 << 32));
        draws.for_each(|draw| bins[bin_of(draw, BINS)] += 1);
        assert_fair(&bins, &alloc::format!("slot {slot}"));
    }
}

#[test]
fn s5_periods_of_a_few_nanoseconds_are_spread_over_what_there_is() {
    for period in 1..=8_u64 {
        // With a fraction of one a wait is 0, 1, … or 2p − 1 ns.
        let mut bins = alloc::vec![0; usize::try_from(2 * period).unwrap()];
        let full = Jitter { fraction: Ratio::ONE, seed: period };
        (0..DRAWS as u64).for_each(|slot| bins[usize::try_from(full.spread(slot, period)).unwrap()] += 1);
        assert_fair(&bins, &alloc::format!("{period} ns"));
    }
}

#[test]
fn s5_s9_jitter_at_the_ends_of_time_stays_in_its_window() {
    for nanos in [0, 1, 2, 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX] {
        for (percent, slot) in [0, 1, 50, 99, 100].into_iter().flat_map(|p| (0..200).map(move |s| (p, s))) {
            let jitter = jitter(percent, slot);
            let reach = jitter.reach_nanos(nanos);
            assert!(reach <= nanos);
            let wait = jitter.spread(u64::MAX - slot, nanos);
            assert!(wait >= nanos - reach && wait <= nanos.saturating_add(reach), "{wait} for {nanos}");
        }
    }
    assert_eq!(jitter(100, 1).draw(5, 9, 9), 9);
    assert_eq!(jitter(100, 1).draw(5, u64::MAX, 0), u64::MAX, "an empty range");
}
