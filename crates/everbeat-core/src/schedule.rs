//! When a timer is due: a validated value, free of any state.

use alloc::{format, string::String};
use core::fmt;
use core::time::Duration;

use crate::time::saturating_nanos;
use crate::{Instant, Jitter, Missed, OnError, Ratio};

/// What the next due time is measured from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mode {
    /// From the end of the last run: runs are at least a period apart.
    ///
    /// ```text
    /// run   |###|         |#######|         |###|
    /// wait      |--period-|       |--period-|
    /// ```
    #[default]
    FixedDelay,
    /// From the anchor: slot k is due at `anchor + k × period`, however long the runs take.
    ///
    /// ```text
    /// slot  0         1         2         3
    /// run   |###|     |#######| |###|     |##
    /// ```
    FixedRate,
}

/// When a timer ends by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Until {
    /// It does not.
    #[default]
    Forever,
    /// At this instant.
    At(Instant),
    /// This many nanoseconds after each start.
    AfterStart(Duration),
}

/// A complete, validated schedule: period and mode, offsets, limits and policies.
///
/// A schedule holds no state, so one value can serve any number of timers.
///
/// ```
/// use core::time::Duration;
/// use everbeat_core::{Missed, Schedule};
///
/// let schedule = Schedule::fixed_rate(Duration::from_secs(5))
///     .with_initial_delay(Duration::from_secs(1))
///     .with_missed(Missed::Burst { max: 2 });
/// assert_eq!(schedule.period(), Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub(crate) mode: Mode,
    pub(crate) period_nanos: u64,
    pub(crate) initial_delay_nanos: u64,
    pub(crate) jitter: Jitter,
    pub(crate) missed: Missed,
    pub(crate) keep_phase: bool,
    pub(crate) max_lateness_nanos: u64,
    pub(crate) max_runs: u64,
    pub(crate) until: Until,
    pub(crate) run_timeout_nanos: u64,
    pub(crate) on_error: OnError,
}

impl Schedule {
    /// The next run is due one `period` after the end of the last. A period of zero means "as often as
    /// possible"; one past the end of time means "once".
    #[must_use]
    #[inline]
    pub fn fixed_delay(period: Duration) -> Self {
        Self {
            mode: Mode::FixedDelay,
            period_nanos: saturating_nanos(period),
            initial_delay_nanos: 0,
            jitter: Jitter::NONE,
            missed: Missed::Skip,
            keep_phase: false,
            max_lateness_nanos: u64::MAX,
            max_runs: u64::MAX,
            until: Until::Forever,
            run_timeout_nanos: u64::MAX,
            on_error: OnError::Stop,
        }
    }

    /// Slot k is due at `anchor + k × period`, exactly.
    #[must_use]
    pub fn fixed_rate(period: Duration) -> Self {
        Self::fixed_delay(period).with_mode(Mode::FixedRate)
    }

    /// Replaces the mode.
    #[must_use]
    #[inline]
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Replaces the period.
    #[must_use]
    pub fn with_period(mut self, period: Duration) -> Self {
        self.period_nanos = saturating_nanos(period);
        self
    }

    /// The first tick is due this long after the start (default: at once).
    #[must_use]
    #[inline]
    pub fn with_initial_delay(mut self, delay: Duration) -> Self {
        self.initial_delay_nanos = saturating_nanos(delay);
        self
    }

    /// Spreads ticks around their nominal time.
    ///
    /// # Errors
    /// The fraction is above one.
    pub fn with_jitter(mut self, jitter: Jitter) -> Result<Self, ScheduleError> {
        if jitter.fraction > Ratio::ONE {
            return Err(ScheduleError::new(
                "jitter",
                jitter.fraction,
                "a fraction of the period from 0 to 1",
            ));
        }
        self.jitter = jitter;
        Ok(self)
    }

    /// What becomes of slots that pass during a long run or a stall (fixed rate only).
    #[must_use]
    #[inline]
    pub fn with_missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Whether a triggered run leaves the grid of a fixed-rate timer alone. By default the grid is
    /// anchored anew at that run. Without meaning in fixed delay.
    #[must_use]
    #[inline]
    pub fn with_keep_phase(mut self, keep_phase: bool) -> Self {
        self.keep_phase = keep_phase;
        self
    }

    /// A scheduled tick that cannot start within this time of its due time is skipped in place of
    /// being late: after a suspend of the machine, say.
    #[must_use]
    #[inline]
    pub fn with_max_lateness(mut self, lateness: Duration) -> Self {
        self.max_lateness_nanos = saturating_nanos(lateness);
        self
    }

    /// Ends the timer normally after this many runs, counted from each start.
    ///
    /// # Errors
    /// The limit is zero.
    #[inline]
    pub fn with_max_runs(mut self, runs: u64) -> Result<Self, ScheduleError> {
        if runs == 0 {
            return Err(ScheduleError::new("max_runs", runs, "at least 1"));
        }
        self.max_runs = runs;
        Ok(self)
    }

    /// Ends the timer normally by the clock: from then on no run starts, a current one may finish.
    #[must_use]
    pub fn with_until(mut self, until: Until) -> Self {
        self.until = until;
        self
    }

    /// A run over this limit is cancelled and counts as a failure.
    ///
    /// # Errors
    /// The limit is zero.
    pub fn with_run_timeout(mut self, limit: Duration) -> Result<Self, ScheduleError> {
        if limit.is_zero() {
            return Err(ScheduleError::new("run_timeout", "0s", "longer than zero"));
        }
        self.run_timeout_nanos = saturating_nanos(limit);
        Ok(self)
    }

    /// What a failing run does to the timer.
    #[must_use]
    pub fn with_on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// The nominal time between slots.
    #[must_use]
    pub fn period(&self) -> Duration {
        Duration::from_nanos(self.period_nanos)
    }

    /// What the next due time is measured from.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What happens to missed slots.
    #[must_use]
    pub fn missed(&self) -> Missed {
        self.missed
    }

    /// What a failing run does to the timer.
    #[must_use]
    pub fn on_error(&self) -> OnError {
        self.on_error
    }

    /// The wait before the first tick.
    #[must_use]
    pub fn initial_delay(&self) -> Duration {
        Duration::from_nanos(self.initial_delay_nanos)
    }

    /// The jitter.
    #[must_use]
    pub fn jitter(&self) -> Jitter {
        self.jitter
    }

    /// The time limit of a run, if it has one.
    #[must_use]
    pub fn run_timeout(&self) -> Option<Duration> {
        (self.run_timeout_nanos != u64::MAX).then(|| Duration::from_nanos(self.run_timeout_nanos))
    }

    /// Whether the two differ in nothing but the delay before the first tick.
    #[must_use]
    #[inline]
    pub fn is_alike(&self, other: &Self) -> bool {
        let Self { initial_delay_nanos: _, mode, period_nanos, jitter, missed, keep_phase, .. } = other;
        let Self { max_lateness_nanos, max_runs, until, run_timeout_nanos, on_error, .. } = other;
        (self.mode, self.period_nanos, self.jitter, self.missed) == (*mode, *period_nanos, *jitter, *missed)
            && (self.keep_phase, self.max_lateness_nanos) == (*keep_phase, *max_lateness_nanos)
            && (self.max_runs, self.until, self.run_timeout_nanos) == (*max_runs, *until, *run_timeout_nanos)
            && self.on_error == *on_error
    }

    pub(crate) fn is_grid(&self) -> bool {
        self.mode == Mode::FixedRate
    }

    /// A grid without a distance between slots: the next one is where the run before it ends.
    pub(crate) fn is_bare_grid(&self) -> bool {
        self.is_grid() && self.period_nanos == 0
    }

    /// When the clock ends a timer that starts now.
    pub(crate) fn end_of(&self, start: Instant) -> Instant {
        match self.until {
            Until::Forever => Instant::NEVER,
            Until::At(end) => end,
            Until::AfterStart(span) => start + span,
        }
    }
}

/// A configuration that was refused: which field, what it was given, and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleError {
    field: &'static str,
    value: String,
    allowed: &'static str,
}

impl ScheduleError {
    /// Names the field, the value that was given, and the values that are allowed.
    pub fn new(field: &'static str, value: impl fmt::Display, allowed: &'static str) -> Self {
        Self { field, value: format!("{value}"), allowed }
    }

    /// The field's name, as in the builder.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// The value that was refused.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What the field takes.
    #[must_use]
    pub fn allowed(&self) -> &'static str {
        self.allowed
    }
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}, got {}", self.field, self.allowed, self.value)
    }
}

impl core::error::Error for ScheduleError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn every_second() -> Schedule {
        Schedule::fixed_rate(Duration::from_secs(1))
    }

    #[test]
    fn e2_errors_name_field_value_and_range() {
        let above_one = Jitter { fraction: Ratio::TWO, seed: 0 };
        let error = every_second().with_jitter(above_one).unwrap_err();
        assert_eq!(error.to_string(), "jitter must be a fraction of the period from 0 to 1, got 2.000");
        let error = every_second().with_max_runs(0).unwrap_err();
        assert_eq!((error.field(), error.value(), error.allowed()), ("max_runs", "0", "at least 1"));
        let error = every_second().with_run_timeout(Duration::ZERO).unwrap_err();
        assert_eq!(error.field(), "run_timeout");
    }

    #[test]
    fn s9_periods_past_the_end_of_time_are_as_good_as_never() {
        assert_eq!(Schedule::fixed_delay(Duration::MAX).period_nanos, u64::MAX);
    }

    #[test]
    fn s11_until_counts_from_the_start_or_is_absolute() {
        let start = Instant::from_nanos(10);
        let after = every_second().with_until(Until::AfterStart(Duration::from_nanos(5)));
        let at = every_second().with_until(Until::At(Instant::from_nanos(12)));
        assert_eq!(after.end_of(start), Instant::from_nanos(15));
        assert_eq!(at.end_of(start), Instant::from_nanos(12));
        assert_eq!(every_second().end_of(start), Instant::NEVER);
    }

    #[test]
    fn a_schedule_tells_what_it_was_given() {
        let plain = Schedule::fixed_delay(Duration::from_nanos(7));
        assert_eq!((plain.mode(), plain.missed(), plain.on_error()), Default::default());
        assert_eq!((plain.initial_delay(), plain.jitter(), plain.run_timeout()), Default::default());
        let (jitter, second) = (Jitter { fraction: Ratio::ONE, seed: 3 }, Duration::from_secs(1));
        let full = plain.with_mode(Mode::FixedRate).with_initial_delay(second).with_missed(Missed::Delay);
        let full = full.with_on_error(OnError::Continue).with_jitter(jitter).unwrap();
        let full = full.with_run_timeout(2 * second).unwrap().with_period(3 * second);
        assert_eq!(
            (full.mode(), full.missed(), full.on_error()),
            (Mode::FixedRate, Missed::Delay, OnError::Continue)
        );
        assert_eq!(
            (full.initial_delay(), full.jitter(), full.run_timeout()),
            (second, jitter, Some(2 * second))
        );
        assert_eq!(full.period(), 3 * second);
    }

    #[test]
    fn schedules_that_differ_in_anything_but_the_initial_delay_are_not_alike() {
        let second = Duration::from_secs(1);
        let plain = every_second();
        assert!(plain.is_alike(&plain.clone().with_initial_delay(second)));
        let others = [
            plain.clone().with_mode(Mode::FixedDelay),
            plain.clone().with_period(2 * second),
            plain.clone().with_jitter(Jitter { fraction: Ratio::ONE, seed: 0 }).unwrap(),
            plain.clone().with_jitter(Jitter { fraction: Ratio::ZERO, seed: 1 }).unwrap(),
            plain.clone().with_missed(Missed::Delay),
            plain.clone().with_keep_phase(true),
            plain.clone().with_max_lateness(second),
            plain.clone().with_max_runs(1).unwrap(),
            plain.clone().with_until(Until::AfterStart(second)),
            plain.clone().with_run_timeout(second).unwrap(),
            plain.clone().with_on_error(OnError::Continue),
        ];
        for other in others {
            assert!(!plain.is_alike(&other) && !other.is_alike(&plain), "{other:?}");
        }
    }
}
