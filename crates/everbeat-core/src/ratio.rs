//! Fractions without floating point: jitter and backoff factors.

use core::fmt;

/// A non-negative number in fixed point, with 32 bits on each side of the point.
///
/// Faces parse a float once, at their boundary; from there on the core computes with integers.
///
/// ```
/// use everbeat_core::Ratio;
///
/// let half = Ratio::new(1, 2).unwrap();
/// assert_eq!(half.of(1_000), 500);
/// assert!(half < Ratio::ONE);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ratio(u64);

impl Ratio {
    /// 0.
    pub const ZERO: Self = Self(0);
    /// 1.
    pub const ONE: Self = Self(1 << 32);
    /// 2.
    pub const TWO: Self = Self(2 << 32);

    /// `numerator / denominator`, rounded down to a multiple of 2⁻³²; `None` when the denominator is
    /// zero or the quotient is 2³² or more.
    #[must_use]
    pub const fn new(numerator: u32, denominator: u32) -> Option<Self> {
        match ((numerator as u64) << 32).checked_div(denominator as u64) {
            Some(bits) => Some(Self(bits)),
            None => None,
        }
    }

    /// The ratio with this fixed-point representation: `bits / 2³²`.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The fixed-point representation.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// This fraction of `nanos`, rounded down; saturates.
    #[must_use]
    pub fn of(self, nanos: u64) -> u64 {
        let product = (u128::from(nanos) * u128::from(self.0)) >> 32;
        u64::try_from(product).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thousandths = (u128::from(self.0) * 1_000) >> 32;
        write!(f, "{}.{:03}", thousandths / 1_000, thousandths % 1_000)
    }
}

impl fmt::Debug for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn scales_and_saturates() {
        assert_eq!(Ratio::new(3, 2).unwrap().of(10), 15);
        assert_eq!(Ratio::ONE.of(u64::MAX), u64::MAX);
        assert_eq!(Ratio::TWO.of(u64::MAX), u64::MAX);
        assert_eq!(Ratio::ZERO.of(u64::MAX), 0);
    }

    #[test]
    fn refuses_division_by_zero() {
        assert_eq!(Ratio::new(1, 0), None);
    }

    #[test]
    fn prints_as_a_decimal() {
        assert_eq!(format!("{}", Ratio::new(1, 4).unwrap()), "0.250");
    }
}
