//! Deliberate random offsets: seeded, and a pure function of the seed and the slot.

use crate::Ratio;

/// How far ticks may stray from their nominal time, and the seed of the draws.
///
/// The draw for a slot depends on the seed and the slot alone: the same timer replays the same offsets,
/// whatever happened in between, and nothing has to be stored from one tick to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter {
    /// The largest offset, as a fraction of the period; at most [`Ratio::ONE`].
    pub fraction: Ratio,
    /// Selects the sequence of draws.
    pub seed: u64,
}

impl Jitter {
    /// No jitter at all.
    pub const NONE: Self = Self { fraction: Ratio::ZERO, seed: 0 };

    /// The largest offset for a wait of `nanos`.
    pub(crate) fn reach_nanos(self, nanos: u64) -> u64 {
        self.fraction.of(nanos)
    }

    /// A number drawn evenly from `low..high` for this slot; `low` if the range is empty.
    pub(crate) fn draw(self, slot: u64, low: u64, high: u64) -> u64 {
        let width = high.saturating_sub(low);
        let unit = mix(self.seed ^ mix(slot));
        let offset = (u128::from(width) * u128::from(unit)) >> 64;
        low.saturating_add(u64::try_from(offset).unwrap_or(width))
    }

    /// A wait of nominally `nanos`, spread evenly over `nanos ± fraction × nanos`. One past the end of time stays there.
    pub(crate) fn spread(self, slot: u64, nanos: u64) -> u64 {
        if nanos == u64::MAX {
            return nanos;
        }
        let reach = self.reach_nanos(nanos);
        self.draw(slot, nanos - reach.min(nanos), nanos.saturating_add(reach))
    }
}

/// The finalizer of `SplitMix64`: every input bit changes every output bit with probability one half.
const fn mix(input: u64) -> u64 {
    let a = input.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let b = (a ^ (a >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let c = (b ^ (b >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    c ^ (c >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: Jitter = Jitter { fraction: Ratio::from_bits(Ratio::ONE.to_bits() / 10), seed: 42 };

    #[test]
    fn s5_draws_fill_the_range_evenly() {
        // 100,000 draws over ten bins: a fair bin holds 10,000 ± 300 (three standard deviations are 285).
        let mut bins = [0_u32; 10];
        for slot in 0..100_000 {
            bins[usize::try_from(TENTH.draw(slot, 0, 10)).unwrap()] += 1;
        }
        assert!(bins.iter().all(|&count| (9_600..=10_400).contains(&count)), "{bins:?}");
    }

    #[test]
    fn s5_same_seed_same_draws() {
        let other = Jitter { seed: 43, ..TENTH };
        let draws = |jitter: Jitter| (0..50).map(move |slot| jitter.spread(slot, 1_000_000));
        assert!(draws(TENTH).eq(draws(TENTH)));
        assert!(!draws(TENTH).eq(draws(other)));
    }

    /// A seed means the same for ever: these are the numbers of the published `SplitMix64`.
    #[test]
    fn s5_a_seed_gives_the_same_draws_in_every_version() {
        let numbers = [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4, 0x06C4_5D18_8009_454F];
        let states = (0_u64..).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        assert!(states.zip(numbers).all(|(state, number)| mix(state) == number));
        let draws = [0, 1, 2].map(|slot| TENTH.spread(slot, 1_000_000_000));
        assert_eq!(draws, [960_630_025, 998_985_905, 923_199_883]);
    }

    #[test]
    fn s5_spread_stays_in_reach_and_never_below_zero() {
        let full = Jitter { fraction: Ratio::ONE, seed: 1 };
        for slot in 0..10_000 {
            let wait = TENTH.spread(slot, 1_000);
            assert!((900..1_100).contains(&wait), "{wait}");
            assert!(full.spread(slot, 1_000) < 2_000);
        }
        assert_eq!(full.spread(3, 0), 0);
        assert!(full.spread(3, u64::MAX) > 0);
    }

    #[test]
    fn s5_no_jitter_is_exact() {
        assert_eq!(Jitter::NONE.spread(9, 123), 123);
        assert_eq!(Jitter::NONE.spread(9, u64::MAX), u64::MAX);
    }
}
