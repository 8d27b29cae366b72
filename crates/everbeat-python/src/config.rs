//! What the arguments of a timer say.

use std::ops::RangeInclusive;
use std::time::Duration;

use everbeat::{Builder, Missed, OnError, Ratio};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};

use crate::durations;
use crate::errors::{bad_value, schedule};

/// The schedule of a timer and the policies of its runs, as they were given.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) period: Duration,
    pub(crate) initial_delay: Duration,
    pub(crate) fixed_rate: bool,
    /// Most timers have none of these.
    pub(crate) rare: Option<Box<Rare>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Rare {
    pub(crate) jitter: f64,
    pub(crate) seed: Option<u64>,
    pub(crate) on_error: OnError,
    pub(crate) missed: Missed,
    pub(crate) run_timeout: Option<Duration>,
    pub(crate) run_for: Option<Duration>,
    pub(crate) max_lateness: Option<Duration>,
    pub(crate) max_runs: Option<u64>,
    pub(crate) keep_phase: bool,
    pub(crate) histograms: bool,
}

/// Arguments that most callers leave out.
pub(crate) struct Limits<'a, 'py> {
    pub(crate) seed: Option<&'a Bound<'py, PyAny>>,
    pub(crate) missed: Option<&'a Bound<'py, PyAny>>,
    pub(crate) max_runs: Option<&'a Bound<'py, PyAny>>,
    pub(crate) run_for: Option<&'a Bound<'py, PyAny>>,
    pub(crate) max_lateness: Option<&'a Bound<'py, PyAny>>,
    pub(crate) keep_phase: Option<&'a Bound<'py, PyAny>>,
}

impl Config {
    /// Parses what every timer has.
    ///
    /// # Errors
    /// `TypeError` and `ScheduleError`, with the field, the value and what is allowed.
    pub(crate) fn parse(
        period: (&str, &Bound<'_, PyAny>),
        mode: Option<&Bound<'_, PyAny>>,
        initial_delay: Option<&Bound<'_, PyAny>>,
        jitter: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let initial_delay = initial_delay.map(|delay| durations::parse("initial_delay", delay));
        let mut config = Self {
            period: durations::parse(period.0, period.1)?,
            initial_delay: initial_delay.transpose()?.unwrap_or_default(),
            fixed_rate: false,
            rare: None,
        };
        if let Some(jitter) = jitter {
            config.rare().jitter = parse_jitter(jitter)?;
        }
        config.fixed_rate = mode.map(is_fixed_rate).transpose()?.unwrap_or_default();
        Ok(config)
    }

    /// Parses what timers and schedules without a target have in common beyond that.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub(crate) fn limit(&mut self, limits: &Limits<'_, '_>) -> PyResult<()> {
        if let Some(seed) = limits.seed {
            self.rare().seed = Some(count("seed", seed, 0)?);
        }
        if let Some(policy) = limits.missed {
            self.rare().missed = parse_missed(policy)?;
        }
        if let Some(span) = limits.run_for {
            self.rare().run_for = Some(durations::parse("run_for", span)?);
        }
        if let Some(lateness) = limits.max_lateness {
            self.rare().max_lateness = Some(durations::parse("max_lateness", lateness)?);
        }
        if let Some(runs) = limits.max_runs {
            self.rare().max_runs = Some(count("max_runs", runs, 1)?);
        }
        if flag("keep_phase", limits.keep_phase)? {
            self.rare().keep_phase = true;
        }
        Ok(())
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Tells a builder all of it.
    pub(crate) fn apply(&self, builder: Builder) -> Builder {
        let builder = builder.initial_delay(self.initial_delay);
        let builder = if self.fixed_rate { builder.fixed_rate() } else { builder };
        let Some(rare) = self.rare.as_deref() else { return builder };
        let builder = builder
            .jitter(rare.jitter)
            .on_error(rare.on_error)
            .missed(rare.missed)
            .histograms(rare.histograms);
        let builder = if rare.keep_phase { builder.keep_phase() } else { builder };
        let builder = rare.seed.into_iter().fold(builder, Builder::jitter_seed);
        let builder = rare.run_timeout.into_iter().fold(builder, Builder::run_timeout);
        let builder = rare.run_for.into_iter().fold(builder, Builder::run_for);
        let builder = rare.max_lateness.into_iter().fold(builder, Builder::max_lateness);
        rare.max_runs.into_iter().fold(builder, Builder::max_runs)
    }
}

fn is_fixed_rate(mode: &Bound<'_, PyAny>) -> PyResult<bool> {
    match one_of("mode", mode, &["fixed_delay", "fixed_rate"])? {
        "fixed_rate" => Ok(true),
        _ => Ok(false),
    }
}

/// One of some words.
///
/// # Errors
/// `TypeError` if it is no string, `ScheduleError` if it is another one.
pub(crate) fn one_of<'w>(field: &str, given: &Bound<'_, PyAny>, words: &[&'w str]) -> PyResult<&'w str> {
    one_of_or(field, given, words, "")
}

/// The same, of a field that may also be something else.
fn one_of_or<'w>(field: &str, given: &Bound<'_, PyAny>, words: &[&'w str], or: &str) -> PyResult<&'w str> {
    let listed = words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
    let Ok(text) = given.cast::<PyString>() else {
        return Err(wrong_type(field, &format!("a string, one of {listed}{or}"), given));
    };
    let text = text.to_string();
    let known = words.iter().find(|word| **word == text);
    known.copied().ok_or_else(|| bad_value(given.py(), field, given, &format!("one of {listed}{or}")))
}

fn parse_jitter(given: &Bound<'_, PyAny>) -> PyResult<f64> {
    number("jitter", given, "a fraction of the period from 0 to 1", 0.0..=1.0)
}

/// A number in this range.
fn number(field: &str, given: &Bound<'_, PyAny>, allowed: &str, range: RangeInclusive<f64>) -> PyResult<f64> {
    let py = given.py();
    let number = match given.extract::<f64>() {
        _ if given.is_instance_of::<PyBool>() => return Err(wrong_type(field, allowed, given)),
        Ok(number) => Some(number),
        Err(error) if error.is_instance_of::<PyOverflowError>(py) => None,
        Err(_) => return Err(wrong_type(field, allowed, given)),
    };
    number.filter(|number| range.contains(number)).ok_or_else(|| bad_value(py, field, given, allowed))
}

/// `"stop"`, `"continue"` or a `Backoff`.
pub(crate) fn parse_on_error(given: &Bound<'_, PyAny>) -> PyResult<OnError> {
    let py = given.py();
    if !given.hasattr(intern!(py, "factor"))? {
        return match one_of_or("on_error", given, &["stop", "continue"], ", or a Backoff")? {
            "continue" => Ok(OnError::Continue),
            _ => Ok(OnError::Stop),
        };
    }
    let first = durations::parse_nonzero("backoff.first", &given.getattr(intern!(py, "first"))?)?;
    let max = durations::parse("backoff.max", &given.getattr(intern!(py, "max"))?)?;
    let factor = given.getattr(intern!(py, "factor"))?;
    let policy = OnError::backoff_by(first, ratio("backoff.factor", &factor)?, max);
    policy.map_err(|error| crate::errors::schedule(py, error.to_string()))
}

/// A float of at least zero in the core's fixed point.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn ratio(field: &str, given: &Bound<'_, PyAny>) -> PyResult<Ratio> {
    let number = number(field, given, "a number from 1 to 1e6", 1.0..=1e6)?;
    // In range, so the cast neither saturates nor loses a sign.
    Ok(Ratio::from_bits((number * Ratio::ONE.to_bits() as f64).round() as u64))
}

/// `"skip"`, `"delay"` or a `Burst`.
fn parse_missed(given: &Bound<'_, PyAny>) -> PyResult<Missed> {
    let py = given.py();
    if given.is_instance_of::<PyString>() || !given.hasattr(intern!(py, "max"))? {
        return match one_of_or("missed", given, &["skip", "delay"], ", or a Burst")? {
            "delay" => Ok(Missed::Delay),
            _ => Ok(Missed::Skip),
        };
    }
    Ok(Missed::Burst { max: count("burst.max", &given.getattr(intern!(py, "max"))?, 0)? })
}

/// Yes or no; no if it was left out.
///
/// # Errors
/// `TypeError` if it is anything else.
pub(crate) fn flag(field: &str, given: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
    let Some(given) = given else { return Ok(false) };
    match given.cast::<PyBool>() {
        Ok(flag) => Ok(flag.is_true()),
        Err(_) => Err(wrong_type(field, "True or False", given)),
    }
}

/// A text, if there is one.
///
/// # Errors
/// `TypeError` if it is anything else.
pub(crate) fn text<'a, 'py>(
    field: &str,
    given: Option<&'a Bound<'py, PyAny>>,
) -> PyResult<Option<&'a Bound<'py, PyString>>> {
    let cast = given.map(|given| given.cast::<PyString>().map_err(|_| wrong_type(field, "a string", given)));
    cast.transpose()
}

/// The ticks that a wait is for.
pub(crate) enum Ticks {
    /// So many in all.
    Total(u64),
    /// So many more.
    More(u64),
}

/// Those that a wait is for; `None`: for the end.
pub(crate) fn ticks_to_wait_for(
    py: Python<'_>,
    hit_count: Option<&Bound<'_, PyAny>>,
    hits: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<Ticks>> {
    match (hit_count, hits) {
        (None, None) => Ok(None),
        (Some(total), None) => count("hit_count", total, 0).map(|total| Some(Ticks::Total(total))),
        (None, Some(more)) => count("hits", more, 0).map(|more| Some(Ticks::More(more))),
        (Some(_), Some(_)) => Err(schedule(py, "wait takes hit_count or hits, not both")),
    }
}

/// Refuses what no timer can be asked to wait for, before one is asked.
#[pyfunction]
#[pyo3(name = "_check_wait")]
pub(crate) fn check_wait(
    py: Python<'_>,
    hit_count: Option<&Bound<'_, PyAny>>,
    hits: Option<&Bound<'_, PyAny>>,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    ticks_to_wait_for(py, hit_count, hits)?;
    timeout.map_or(Ok(()), |timeout| durations::parse("timeout", timeout).map(drop))
}

/// Not what it must be.
pub(crate) fn wrong_type(field: &str, kind: &str, given: &Bound<'_, PyAny>) -> PyErr {
    let found = given.get_type();
    let found = found.name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{field} must be {kind}, not {found}"))
}

/// A whole number of at least `least`.
pub(crate) fn count(field: &str, given: &Bound<'_, PyAny>, least: u64) -> PyResult<u64> {
    let py = given.py();
    if given.is_instance_of::<PyBool>() || !given.hasattr(intern!(py, "__index__"))? {
        return Err(wrong_type(field, "a whole number", given));
    }
    match given.extract::<u64>() {
        Ok(number) if number >= least => Ok(number),
        Err(_) if given.gt(least)? => {
            Err(bad_value(py, field, given, &format!("a whole number of at most {}", u64::MAX)))
        }
        _ => Err(bad_value(py, field, given, &format!("a whole number of at least {least}"))),
    }
}

/// Something to be called.
///
/// # Errors
/// `TypeError` if it cannot be called.
pub(crate) fn parse_callback(
    field: &str,
    callback: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<Py<PyAny>>> {
    match callback {
        Some(callback) if !callback.is_callable() => Err(wrong_type(field, "callable", callback)),
        callback => Ok(callback.map(|callback| callback.clone().unbind())),
    }
}
