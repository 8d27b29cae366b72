//! Times as scenarios write them: `"250ms"`, `"1s 5ms"`, `"100y"`, `"never"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use everbeat_core::Instant;
use serde::{Deserialize, Serialize};

/// The units, longest first, in nanoseconds. A year has 365 days.
const UNITS: [(&str, u64); 8] = [
    ("y", 365 * 86_400_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// A duration, or a point in time as the distance from the beginning of the scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(u64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The end of time.
    pub const NEVER: Self = Self(u64::MAX);
    /// The finest step there is.
    pub const NANOSECOND: Self = Self(1);
    /// The finest step of a driver that sleeps by tokio's clock.
    pub const MILLISECOND: Self = Self(1_000_000);

    /// This many nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// In nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// For an API that takes a duration; the end of time is the longest of all durations there.
    #[must_use]
    pub const fn to_duration(self) -> Duration {
        if self.0 == u64::MAX { Duration::MAX } else { Duration::from_nanos(self.0) }
    }

    /// The point in time for the core.
    #[must_use]
    pub const fn to_instant(self) -> Instant {
        Instant::from_nanos(self.0)
    }

    /// Whether this is a whole number of milliseconds, or the end of time.
    #[must_use]
    pub const fn is_coarse(self) -> bool {
        self.0 == u64::MAX || self.0 % Self::MILLISECOND.0 == 0
    }

    /// The sum; saturates at the end of time.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference; never below zero.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// This many times as long; saturates at the end of time.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }

    /// The next whole number of `grain`, or this if it is one.
    #[must_use]
    pub const fn up_to(self, grain: Self) -> Self {
        Self(self.0.div_ceil(grain.0).saturating_mul(grain.0))
    }

    /// Whether the two are at most `tolerance` apart.
    #[must_use]
    pub const fn is_within(self, tolerance: Self, other: Self) -> bool {
        self.0.abs_diff(other.0) <= tolerance.0
    }
}

impl From<Instant> for Span {
    fn from(instant: Instant) -> Self {
        Self(instant.as_nanos())
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::NEVER);
        }
        let mut parts = text.split_whitespace().map(parse_part).peekable();
        let known = parts.peek().is_some();
        let sum = parts.try_fold(0_u64, |sum, part| sum.checked_add(part?)).filter(|_| known);
        sum.map(Self).ok_or_else(|| {
            format!("`{text}` is no time: write \"250ms\", \"1s 5ms\", \"100y\" (584 at most) or \"never\"")
        })
    }
}

fn parse_part(part: &str) -> Option<u64> {
    let digits = part.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = part.split_at(digits);
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*nanos)
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => return f.write_str("0s"),
            u64::MAX => return f.write_str("never"),
            _ => {}
        }
        let (mut rest, mut gap) = (self.0, "");
        for (unit, nanos) in UNITS {
            if rest >= nanos {
                write!(f, "{gap}{}{unit}", rest / nanos)?;
                (rest, gap) = (rest % nanos, " ");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for text in ["0s", "250ms", "1s 5ms", "100y 1ns", "1h 30min", "never"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in ["", "5", "ms", "5 ms", "-1s", "1.5s", "600y", "1s 5", "5xs"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
