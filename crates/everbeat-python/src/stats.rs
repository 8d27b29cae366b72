//! Figures, as Python sees them.

use std::sync::OnceLock;
use std::time::Instant;

use everbeat::{Stats as Figures, Summary as Durations};
use pyo3::prelude::*;

use crate::durations;

/// What a timer has done so far: a snapshot.
#[pyclass(frozen, get_all, module = "everbeat")]
#[derive(Debug)]
pub(crate) struct Stats {
    name: String,
    delay: f64,
    running: bool,
    busy: bool,
    paused: bool,
    runs: u64,
    hits: u64,
    failures: u64,
    blocked: u64,
    queued: u64,
    subscriptions: usize,
    missed: u64,
    skipped: Py<Skipped>,
    last_tick_at: Option<f64>,
    next_due_at: Option<f64>,
    lateness: Py<Summary>,
    duration: Py<Summary>,
}

/// Slots that never ran, by reason.
#[pyclass(frozen, get_all, module = "everbeat")]
#[derive(Debug, Default)]
pub(crate) struct Skipped {
    overrun: u64,
    paused: u64,
    late: u64,
    backoff: u64,
    total: u64,
}

/// Durations in seconds.
#[pyclass(frozen, get_all, module = "everbeat")]
#[derive(Debug)]
pub(crate) struct Summary {
    count: u64,
    last: f64,
    mean: f64,
    max: f64,
    p50: Option<f64>,
    p99: Option<f64>,
}

impl Stats {
    /// `seconds`: what a moment is on the clock that users read.
    pub(crate) fn of(
        py: Python<'_>,
        figures: &Figures,
        seconds: impl Fn(Instant) -> PyResult<f64>,
    ) -> PyResult<Self> {
        let skipped = figures.skipped;
        let seconds = |moment: Option<Instant>| moment.map(&seconds).transpose();
        Ok(Self {
            name: figures.name.to_string(),
            delay: durations::seconds(figures.period),
            running: figures.running,
            busy: figures.busy,
            paused: figures.paused,
            runs: figures.runs,
            hits: figures.hits,
            failures: figures.failures,
            blocked: figures.blocked,
            queued: figures.queued,
            subscriptions: figures.feeds,
            missed: skipped.missed,
            skipped: Py::new(
                py,
                Skipped {
                    overrun: skipped.overrun,
                    paused: skipped.paused,
                    late: skipped.late,
                    backoff: skipped.backoff,
                    total: skipped.total(),
                },
            )?,
            last_tick_at: seconds(figures.last_tick)?,
            next_due_at: seconds(figures.next_due)?,
            lateness: Py::new(py, Summary::of(&figures.lateness))?,
            duration: Py::new(py, Summary::of(&figures.duration))?,
        })
    }
}

impl Stats {
    /// Those of a timer that was never started.
    pub(crate) fn unstarted(py: Python<'_>, name: String, delay: f64) -> PyResult<Self> {
        let nothing = || Py::new(py, Summary::of(&Durations::default()));
        Ok(Self {
            name,
            delay,
            running: false,
            busy: false,
            paused: false,
            runs: 0,
            hits: 0,
            failures: 0,
            blocked: 0,
            queued: 0,
            subscriptions: 0,
            missed: 0,
            skipped: Py::new(py, Skipped::default())?,
            last_tick_at: None,
            next_due_at: None,
            lateness: nothing()?,
            duration: nothing()?,
        })
    }

    /// Counts what the library does not: what the timer did in the loop where it lived before, and steps of tasks.
    pub(crate) fn add(&mut self, (runs, hits, failures, blocked): (u64, u64, u64, u64)) {
        self.runs += runs;
        self.hits += hits;
        self.failures += failures;
        self.blocked += blocked;
    }
}

impl Summary {
    pub(crate) fn of(figures: &Durations) -> Self {
        let quantile = |q| figures.quantile(q).map(durations::seconds);
        Self {
            count: figures.count(),
            last: durations::seconds(figures.last()),
            mean: durations::seconds(figures.mean()),
            max: durations::seconds(figures.max()),
            p50: quantile(0.5),
            p99: quantile(0.99),
        }
    }
}

#[pymethods]
impl Stats {
    fn __repr__(&self) -> String {
        format!(
            "Stats(name={:?}, running={}, runs={}, hits={}, failures={}, missed={})",
            self.name,
            truth(self.running),
            self.runs,
            self.hits,
            self.failures,
            self.missed
        )
    }
}

#[pymethods]
impl Skipped {
    fn __repr__(&self) -> String {
        let Self { overrun, paused, late, backoff, .. } = self;
        format!("Skipped(overrun={overrun}, paused={paused}, late={late}, backoff={backoff})")
    }
}

#[pymethods]
impl Summary {
    fn __repr__(&self) -> String {
        format!("Summary(count={}, mean={:.6}, max={:.6})", self.count, self.mean, self.max)
    }
}

/// A `bool` as Python writes it.
pub(crate) fn truth(is_so: bool) -> &'static str {
    if is_so { "True" } else { "False" }
}

/// A point in time as `time.monotonic()` counts.
pub(crate) fn monotonic(py: Python<'_>, instant: Instant) -> PyResult<f64> {
    // Both clocks are read once, so that one point in time is one number whenever somebody asks.
    static ORIGIN: OnceLock<(Instant, f64)> = OnceLock::new();
    let (origin, seconds) = match ORIGIN.get() {
        Some(origin) => *origin,
        None => {
            let seconds = py.import("time")?.call_method0("monotonic")?.extract()?;
            *ORIGIN.get_or_init(|| (Instant::now(), seconds))
        }
    };
    Ok(match instant.checked_duration_since(origin) {
        Some(after) => seconds + after.as_secs_f64(),
        None => seconds - origin.duration_since(instant).as_secs_f64(),
    })
}
