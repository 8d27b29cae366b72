//! Instants, spans, fractions and backoffs against numbers that are too wide to overflow.

use core::time::Duration;

use proptest::prelude::*;

use crate::tests::seeded::seeded;
use crate::time::saturating_nanos;
use crate::{Instant, OnError, Ratio};

const LIMIT: u128 = u64::MAX as u128;

fn narrow(nanos: u128) -> u64 {
    u64::try_from(nanos.min(LIMIT)).unwrap()
}

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

/// Small numbers, all neighbours of powers of two (2³⁶ ms and 2⁶³ ns among them), and the end of time.
fn edges() -> impl Iterator<Item = u64> + Clone {
    let powers = (0..64).flat_map(|bit| [(1_u64 << bit).wrapping_sub(1), 1 << bit, (1 << bit) + 1]);
    let millis = (0..44).flat_map(|bit| [(1_000_000 << bit) - 1, 1_000_000 << bit, (1_000_000 << bit) + 1]);
    powers.chain(millis).chain([u64::MAX - 1, u64::MAX])
}

fn nanos() -> impl Strategy<Value = u64> {
    let near = (0..64_u32, -3..=3_i64).prop_map(|(bit, off)| (1_u64 << bit).saturating_add_signed(off));
    prop_oneof![2 => near, 1 => 0..100_u64, 1 => (0..100_u64).prop_map(|n| u64::MAX - n), 1 => any::<u64>()]
}

/// Durations of all sizes, many of them close to the longest that fits into 64 bits of nanoseconds.
fn duration() -> impl Strategy<Value = Duration> {
    let seconds = prop_oneof![nanos(), (0..5_u64).prop_map(|n| u64::MAX / 1_000_000_000 - 2 + n)];
    prop_oneof![
        nanos().prop_map(Duration::from_nanos),
        (seconds, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
        (0..9_u32).prop_map(
            |n| Duration::from_nanos(u64::MAX) + Duration::from_nanos(4) - Duration::from_nanos(n.into())
        ),
    ]
}

#[test]
fn s9_sums_and_differences_of_all_edges_are_exact_or_saturate() {
    for (a, b) in edges().flat_map(|a| edges().map(move |b| (a, b))) {
        let sum = narrow(u128::from(a) + u128::from(b));
        assert_eq!(at(a).add_nanos(b), at(sum), "{a} + {b}");
        assert_eq!(at(a) + Duration::from_nanos(b), at(sum), "{a} + {b}");
        let difference = u64::try_from(i128::from(a) - i128::from(b)).unwrap_or(0);
        assert_eq!((at(a).sub_nanos(b), at(a).nanos_since(at(b))), (at(difference), difference), "{a} - {b}");
        assert_eq!(at(a).saturating_since(at(b)), Duration::from_nanos(difference), "{a} - {b}");
        assert_eq!(at(a) < at(b), a < b);
    }
}

#[test]
fn s9_only_the_end_of_time_is_never() {
    assert!(edges().all(|nanos| at(nanos).is_never() == (nanos == u64::MAX)));
    assert!(edges().all(|nanos| at(nanos).elapsed_since_origin().as_nanos() == u128::from(nanos)));
    assert!(edges().all(|nanos| at(nanos).as_nanos() == nanos));
}

#[test]
fn fractions_of_small_numbers_are_exact_but_for_rounding_down() {
    for (numerator, denominator) in (0..40_u32).flat_map(|n| (1..40).map(move |d| (n, d))) {
        let ratio = Ratio::new(numerator, denominator).unwrap();
        assert_eq!(ratio.to_bits(), (u64::from(numerator) << 32) / u64::from(denominator));
        for whole in (0..200).map(|n| n * 40) {
            // The fraction itself was rounded down, which shows only where the true product is whole.
            let (seen, truth) = (ratio.of(whole), whole * u64::from(numerator) / u64::from(denominator));
            assert!(seen == truth || seen + 1 == truth, "{numerator}/{denominator} of {whole} is {seen}");
        }
    }
    assert_eq!(Ratio::new(u32::MAX, 1).unwrap().of(1), u32::MAX.into());
    assert_eq!(Ratio::new(1, u32::MAX).unwrap().to_bits(), 1);
}

#[test]
fn fractions_print_in_thousandths_at_any_size() {
    use alloc::string::ToString;
    let cases = [(0, "0.000"), (1, "0.000"), ((1 << 32) - 1, "0.999"), (5 << 32, "5.000")];
    for (bits, text) in cases.into_iter().chain([(u64::MAX, "4294967295.999")]) {
        assert_eq!(Ratio::from_bits(bits).to_string(), text);
        assert_eq!(alloc::format!("{:?}", Ratio::from_bits(bits)), text);
    }
}

/// A backoff's waits by hand, with numbers that cannot overflow.
fn naive_wait(first: u64, factor_bits: u64, max: u64, failures: u32) -> u64 {
    let mut wait = u128::from(first);
    for _ in 1..failures {
        wait = ((wait * u128::from(factor_bits)) >> 32).min(u128::from(max));
    }
    narrow(wait)
}

fn check_backoff(first: u64, factor_bits: u64, max: u64) {
    let (from, to) = (Duration::from_nanos(first), Duration::from_nanos(max));
    let policy = OnError::backoff_by(from, Ratio::from_bits(factor_bits), to);
    let Ok(OnError::Backoff(backoff)) = policy else { panic!("{first} {factor_bits} {max}: {policy:?}") };
    let mut wait = 0;
    for failures in 1..=70 {
        let next = backoff.next_nanos(wait);
        assert!(next >= wait && next <= max, "after {wait} {next}, at most {max}");
        assert_eq!(next, naive_wait(first, factor_bits, max, failures), "failure {failures}");
        wait = next;
    }
}

#[test]
fn r3_backoffs_of_small_numbers_are_those_of_a_plain_loop() {
    let factors = [1 << 32, (1 << 32) + 1, 3 << 31, 2 << 32, 10 << 32, u64::from(u32::MAX) << 32, u64::MAX];
    for factor in factors {
        for (first, span) in (1..12).flat_map(|first| (0..40).map(move |span| (first, span))) {
            check_backoff(first, factor, first + span);
        }
        check_backoff(1, factor, u64::MAX);
        check_backoff(u64::MAX, factor, u64::MAX);
        check_backoff(u64::MAX - 1, factor, u64::MAX);
    }
}

#[test]
fn e2_a_backoff_that_would_shrink_is_refused() {
    let (from, to) = (Duration::from_secs(1), Duration::from_secs(60));
    for bits in [0, 1, 1 << 31, (1 << 32) - 1] {
        let error = OnError::backoff_by(from, Ratio::from_bits(bits), to).unwrap_err();
        assert_eq!((error.field(), error.allowed()), ("backoff.factor", "at least 1"));
    }
    assert!(OnError::backoff_by(from, Ratio::ONE, to).is_ok());
    let (shortest, one_less) = (Duration::from_nanos(2), Duration::from_nanos(1));
    assert!(OnError::backoff(shortest, shortest).is_ok());
    assert_eq!(OnError::backoff(shortest, one_less).unwrap_err().field(), "backoff.max");
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn s9_durations_become_nanoseconds_or_the_end_of_time(duration in duration()) {
        let nanos = narrow(duration.as_nanos());
        prop_assert_eq!(saturating_nanos(duration), nanos);
        prop_assert_eq!(Instant::from_elapsed(duration), at(nanos));
        prop_assert_eq!(at(7) + duration, at(nanos.saturating_add(7)));
        prop_assert_eq!(crate::Schedule::fixed_rate(duration).period(), duration.min(Duration::from_nanos(u64::MAX)));
    }

    #[test]
    fn s9_fractions_of_anything_are_exact_or_saturate(bits in nanos(), nanos in nanos()) {
        let product = (u128::from(bits) * u128::from(nanos)) >> 32;
        prop_assert_eq!(Ratio::from_bits(bits).of(nanos), narrow(product));
    }

    #[test]
    fn r3_backoffs_of_any_size_grow_up_to_their_cap(first in nanos(), max in nanos(), factor in nanos()) {
        let first = first.max(1);
        check_backoff(first, factor.max(1 << 32), max.max(first));
    }
}
