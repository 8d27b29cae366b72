//! A scenario's timer as a schedule of the core.

use everbeat_core::{Jitter, Missed, OnError, Ratio, Schedule, ScheduleError, Until};

use crate::scenario::{Fraction, MissedSpec, Mode, OnErrorSpec, TimerSpec};
use crate::span::Span;

/// The schedule, or why there can be none.
pub(super) fn schedule(spec: &TimerSpec) -> Result<Schedule, ScheduleError> {
    let mut schedule = match spec.mode {
        Mode::FixedDelay => Schedule::fixed_delay(spec.period.to_duration()),
        Mode::FixedRate => Schedule::fixed_rate(spec.period.to_duration()),
    }
    .with_initial_delay(spec.initial_delay.to_duration())
    .with_missed(missed(spec.missed))
    .with_keep_phase(spec.keep_phase)
    .with_until(until(spec))
    .with_on_error(on_error(spec.on_error)?);
    if let Some(lateness) = spec.max_lateness {
        schedule = schedule.with_max_lateness(lateness.to_duration());
    }
    if let Some(runs) = spec.max_runs {
        schedule = schedule.with_max_runs(runs)?;
    }
    if let Some(limit) = spec.run_timeout {
        schedule = schedule.with_run_timeout(limit.to_duration())?;
    }
    if let Some(jitter) = spec.jitter {
        schedule = schedule.with_jitter(Jitter { fraction: ratio(jitter.fraction), seed: jitter.seed })?;
    }
    Ok(schedule)
}

/// The missed policy.
pub(crate) fn missed(spec: MissedSpec) -> Missed {
    match spec {
        MissedSpec::Skip => Missed::Skip,
        MissedSpec::Delay => Missed::Delay,
        MissedSpec::Burst(max) => Missed::Burst { max },
    }
}

/// The error policy.
pub(crate) fn on_error(spec: OnErrorSpec) -> Result<OnError, ScheduleError> {
    match spec {
        OnErrorSpec::Stop => Ok(OnError::Stop),
        OnErrorSpec::Continue => Ok(OnError::Continue),
        OnErrorSpec::Backoff(spec) => {
            let (first, max) = (spec.first.to_duration(), spec.max.to_duration());
            let factor = spec.factor.map_or(Ratio::TWO, ratio);
            OnError::backoff_by(first, factor, max)
        }
    }
}

fn until(spec: &TimerSpec) -> Until {
    match (spec.until, spec.run_for) {
        (Some(end), _) => Until::At(end.to_instant()),
        (None, Some(span)) => Until::AfterStart(Span::to_duration(span)),
        (None, None) => Until::Forever,
    }
}

fn ratio(fraction: Fraction) -> Ratio {
    Ratio::new(fraction.numerator, fraction.denominator).unwrap_or(Ratio::ZERO)
}
