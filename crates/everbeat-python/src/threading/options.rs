//! The options that timers and schedules have in common, as Python callers write them.

use everbeat::Builder;
use everbeat::thread::Engine;
use pyo3::prelude::*;

use crate::config::{Config, Limits};

/// What a schedule is made of.
pub(super) struct Schedule<'a, 'py> {
    pub(super) delay: &'a Bound<'py, PyAny>,
    pub(super) mode: Option<&'a Bound<'py, PyAny>>,
    pub(super) initial_delay: Option<&'a Bound<'py, PyAny>>,
    pub(super) jitter: Option<&'a Bound<'py, PyAny>>,
    pub(super) limits: Limits<'a, 'py>,
}

impl Schedule<'_, '_> {
    /// What is said of it.
    ///
    /// # Errors
    /// `TypeError` and `ScheduleError`, with the field, the value and what is allowed.
    pub(super) fn parse(&self) -> PyResult<Config> {
        let mut config = Config::parse(("delay", self.delay), self.mode, self.initial_delay, self.jitter)?;
        config.limit(&self.limits)?;
        Ok(config)
    }
}

/// A timer on this engine.
pub(super) fn builder(engine: &Engine, config: &Config) -> Builder {
    config.apply(engine.every(config.period))
}
