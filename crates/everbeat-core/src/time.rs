//! Time as the core sees it: an integer handed in by whoever drives it.

use core::fmt;
use core::time::Duration;

/// A point in time: nanoseconds since an origin that the driver chose.
///
/// The core never reads a clock. A driver picks an origin once (its own start, the event loop's zero)
/// and passes every later time as the distance from it. Sixty-four bits of nanoseconds hold 584 years;
/// what lies beyond is [`Instant::NEVER`], and all arithmetic saturates there.
///
/// ```
/// use core::time::Duration;
/// use everbeat_core::Instant;
///
/// let start = Instant::ORIGIN + Duration::from_secs(1);
/// assert_eq!(start.saturating_since(Instant::ORIGIN), Duration::from_secs(1));
/// assert_eq!(start + Duration::MAX, Instant::NEVER);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The driver's origin.
    pub const ORIGIN: Self = Self(0);
    /// The end of time: a deadline that is never reached.
    pub const NEVER: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The instant `elapsed` after the origin; [`Instant::NEVER`] when that lies past the end of time.
    #[must_use]
    pub fn from_elapsed(elapsed: Duration) -> Self {
        Self(saturating_nanos(elapsed))
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whether this is the end of time.
    #[must_use]
    pub const fn is_never(self) -> bool {
        self.0 == u64::MAX
    }

    /// The time since the origin.
    #[must_use]
    pub const fn elapsed_since_origin(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// So many nanoseconds later; saturates at [`Instant::NEVER`].
    #[must_use]
    pub const fn add_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// So many nanoseconds earlier; the origin if that lies before it.
    #[must_use]
    pub const fn sub_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_sub(nanos))
    }

    /// Nanoseconds since `earlier`; zero if that is later.
    #[must_use]
    pub const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at [`Instant::NEVER`].
    fn add(self, rhs: Duration) -> Self {
        self.add_nanos(saturating_nanos(rhs))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() {
            return f.write_str("never");
        }
        write!(f, "+{:?}", self.elapsed_since_origin())
    }
}

/// A duration in nanoseconds; one that does not fit is as good as endless.
#[inline]
pub(crate) fn saturating_nanos(duration: Duration) -> u64 {
    let nanos = duration.as_secs().checked_mul(1_000_000_000);
    nanos.and_then(|nanos| nanos.checked_add(duration.subsec_nanos().into())).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn s9_arithmetic_saturates_at_never() {
        assert_eq!(Instant::from_nanos(u64::MAX - 1) + Duration::from_nanos(5), Instant::NEVER);
        assert_eq!(Instant::NEVER + Duration::ZERO, Instant::NEVER);
        assert_eq!(Instant::from_elapsed(Duration::MAX), Instant::NEVER);
        assert_eq!(Instant::ORIGIN.sub_nanos(1), Instant::ORIGIN);
    }

    #[test]
    fn s9_since_never_runs_backwards() {
        let later = Instant::from_nanos(7);
        assert_eq!(later.saturating_since(Instant::ORIGIN), Duration::from_nanos(7));
        assert_eq!(Instant::ORIGIN.saturating_since(later), Duration::ZERO);
    }

    #[test]
    fn debug_reads_as_a_distance() {
        assert_eq!(format!("{:?}", Instant::from_nanos(1_500_000)), "+1.5ms");
        assert_eq!(format!("{:?}", Instant::NEVER), "never");
    }
}
