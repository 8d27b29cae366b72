//! What a failing run does to its timer.

use core::time::Duration;

use crate::time::saturating_nanos;
use crate::{Ratio, ScheduleError};

/// The error policy of a timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnError {
    /// The timer ends with the failure. Whoever asks later is told of it.
    #[default]
    Stop,
    /// The failure is reported and the schedule goes on.
    Continue,
    /// The next run is due after a wait that grows with every failure in a row; the first success
    /// returns to the schedule. Made by [`OnError::backoff`].
    Backoff(Backoff),
}

/// Waits between retries: `first`, then `factor` times the wait before, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first_nanos: u64,
    factor: Ratio,
    max_nanos: u64,
}

impl OnError {
    /// Retries after `first`, then twice that, and so on up to `max`.
    ///
    /// # Errors
    /// `first` is zero, or `max` is below it.
    pub fn backoff(first: Duration, max: Duration) -> Result<Self, ScheduleError> {
        Self::backoff_by(first, Ratio::TWO, max)
    }

    /// Retries after `first`, then `factor` times that, and so on up to `max`.
    ///
    /// # Errors
    /// `first` is zero, `factor` is below one, or `max` is below `first`.
    pub fn backoff_by(first: Duration, factor: Ratio, max: Duration) -> Result<Self, ScheduleError> {
        if first.is_zero() {
            return Err(ScheduleError::new("backoff.first", "0s", "longer than zero"));
        }
        if factor < Ratio::ONE {
            return Err(ScheduleError::new("backoff.factor", factor, "at least 1"));
        }
        if max < first {
            let value = alloc::format!("{max:?}");
            return Err(ScheduleError::new("backoff.max", value, "at least backoff.first"));
        }
        let (first_nanos, max_nanos) = (saturating_nanos(first), saturating_nanos(max));
        Ok(Self::Backoff(Backoff { first_nanos, factor, max_nanos }))
    }
}

impl Backoff {
    /// The wait that follows the wait `previous_nanos`; zero stands for "no failure before".
    pub(crate) fn next_nanos(self, previous_nanos: u64) -> u64 {
        match previous_nanos {
            0 => self.first_nanos,
            previous => self.factor.of(previous).clamp(self.first_nanos, self.max_nanos),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn waits(policy: OnError) -> Vec<u64> {
        let OnError::Backoff(backoff) = policy else { panic!("not a backoff") };
        let grow = |&wait: &u64| Some(backoff.next_nanos(wait));
        core::iter::successors(Some(backoff.next_nanos(0)), grow).take(5).collect()
    }

    #[test]
    fn r3_backoff_grows_by_the_factor_up_to_the_cap() {
        let second = Duration::from_secs(1);
        let doubling = OnError::backoff(second, 10 * second).unwrap();
        assert_eq!(waits(doubling), [1, 2, 4, 8, 10].map(|s| s * 1_000_000_000));
        let steady = OnError::backoff_by(second, Ratio::ONE, second).unwrap();
        assert_eq!(waits(steady), [1_000_000_000; 5]);
    }

    #[test]
    fn r3_backoff_saturates() {
        let endless = OnError::backoff(Duration::MAX, Duration::MAX).unwrap();
        assert_eq!(waits(endless), [u64::MAX; 5]);
    }

    #[test]
    fn e2_bad_backoffs_are_refused_by_name() {
        let (zero, one) = (Duration::ZERO, Duration::from_secs(1));
        let field = |result: Result<OnError, ScheduleError>| result.unwrap_err().field();
        assert_eq!(field(OnError::backoff(zero, one)), "backoff.first");
        assert_eq!(field(OnError::backoff(2 * one, one)), "backoff.max");
        assert_eq!(field(OnError::backoff_by(one, Ratio::ZERO, one)), "backoff.factor");
    }
}
