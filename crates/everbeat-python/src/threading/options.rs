//! The options of a timer, as Python callers write them.

use everbeat::thread::Engine;
use everbeat::{Builder, Missed, OnError, Ratio};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::durations;
use crate::errors::{bad_value, schedule};

/// Retries after a failure: `first` seconds later, then `factor` times that, and so on up to `max`.
#[pyclass(frozen, module = "everbeat.threading")]
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: OnError,
    text: String,
}

#[pymethods]
impl Backoff {
    #[new]
    #[pyo3(signature = (first, max, factor = 2.0))]
    fn new(first: &Bound<'_, PyAny>, max: &Bound<'_, PyAny>, factor: f64) -> PyResult<Self> {
        let py = first.py();
        let text = format!("Backoff({}, {}, factor={factor:?})", first.repr()?, max.repr()?);
        let (first, max) = (durations::parse("first", first)?, durations::parse("max", max)?);
        let factor = ratio(py, factor)?;
        let policy =
            OnError::backoff_by(first, factor, max).map_err(|error| schedule(py, error.to_string()))?;
        Ok(Self { policy, text })
    }

    fn __repr__(&self) -> &str {
        &self.text
    }
}

/// A factor in the library's fixed point.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn ratio(py: Python<'_>, factor: f64) -> PyResult<Ratio> {
    if !(1.0..=1e6).contains(&factor) {
        let factor = pyo3::types::PyFloat::new(py, factor);
        return Err(bad_value(py, "factor", &factor, "from 1 to 1e6"));
    }
    // In range, so the cast neither saturates nor loses a sign.
    Ok(Ratio::from_bits((factor * Ratio::ONE.to_bits() as f64).round() as u64))
}

/// Whether the mode is that of a fixed rate.
pub(crate) fn is_fixed_rate(given: &Bound<'_, PyAny>) -> PyResult<bool> {
    match text(given) {
        Some("fixed_rate") => Ok(true),
        Some("fixed_delay") => Ok(false),
        _ => Err(refused("mode", given, "\"fixed_delay\" or \"fixed_rate\"")),
    }
}

pub(crate) fn on_error(given: &Bound<'_, PyAny>) -> PyResult<OnError> {
    if let Ok(backoff) = given.cast::<Backoff>() {
        return Ok(backoff.get().policy);
    }
    match text(given) {
        Some("stop") => Ok(OnError::Stop),
        Some("continue") => Ok(OnError::Continue),
        _ => Err(refused("on_error", given, "\"stop\", \"continue\" or a Backoff")),
    }
}

pub(crate) fn missed(given: &Bound<'_, PyAny>) -> PyResult<Missed> {
    if let Ok((kind, max)) = given.extract::<(String, u64)>() {
        if kind == "burst" {
            return Ok(Missed::Burst { max });
        }
    }
    match text(given) {
        Some("skip") => Ok(Missed::Skip),
        Some("delay") => Ok(Missed::Delay),
        _ => Err(refused("missed", given, "\"skip\", \"delay\" or (\"burst\", n)")),
    }
}

/// A whole number of at least one.
pub(crate) fn count(field: &str, given: &Bound<'_, PyAny>) -> PyResult<u64> {
    let wrong_type = || PyTypeError::new_err(format!("{field} must be a whole number"));
    if given.is_instance_of::<pyo3::types::PyBool>() || given.getattr("__index__").is_err() {
        return Err(wrong_type());
    }
    match given.extract::<u64>() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(bad_value(given.py(), field, given, "a whole number of at least 1")),
    }
}

fn text<'a>(given: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    given.cast::<PyString>().ok()?.to_str().ok()
}

/// An unknown word is a bad value, anything else a wrong type.
fn refused(field: &str, given: &Bound<'_, PyAny>, allowed: &str) -> PyErr {
    if given.is_instance_of::<PyString>() || given.is_instance_of::<pyo3::types::PyTuple>() {
        return bad_value(given.py(), field, given, allowed);
    }
    PyTypeError::new_err(format!("{field} must be {allowed}"))
}

/// What a schedule is made of.
pub(crate) struct Schedule<'a, 'py> {
    pub(crate) delay: &'a Bound<'py, PyAny>,
    pub(crate) mode: Option<&'a Bound<'py, PyAny>>,
    pub(crate) initial_delay: Option<&'a Bound<'py, PyAny>>,
    pub(crate) jitter: f64,
    pub(crate) seed: Option<u64>,
    pub(crate) missed: Option<&'a Bound<'py, PyAny>>,
    pub(crate) max_runs: Option<&'a Bound<'py, PyAny>>,
    pub(crate) max_lateness: Option<&'a Bound<'py, PyAny>>,
    pub(crate) keep_phase: bool,
}

impl Schedule<'_, '_> {
    /// A timer on this engine. A jitter out of range is refused when it is built.
    pub(crate) fn on(&self, engine: &Engine) -> PyResult<Builder> {
        let mut builder = engine.every(durations::parse("delay", self.delay)?).jitter(self.jitter);
        if self.mode.map_or(Ok(false), is_fixed_rate)? {
            builder = builder.fixed_rate();
        }
        if let Some(delay) = self.initial_delay {
            builder = builder.initial_delay(durations::parse("initial_delay", delay)?);
        }
        if let Some(seed) = self.seed {
            builder = builder.jitter_seed(seed);
        }
        if let Some(policy) = self.missed {
            builder = builder.missed(missed(policy)?);
        }
        if let Some(runs) = self.max_runs {
            builder = builder.max_runs(count("max_runs", runs)?);
        }
        if let Some(lateness) = self.max_lateness {
            builder = builder.max_lateness(durations::parse("max_lateness", lateness)?);
        }
        Ok(if self.keep_phase { builder.keep_phase() } else { builder })
    }
}

/// A callback has to be callable.
pub(crate) fn callback(field: &str, given: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    match given {
        Some(callback) if !callback.is_callable() => {
            Err(PyTypeError::new_err(format!("{field} must be callable")))
        }
        _ => Ok(()),
    }
}
