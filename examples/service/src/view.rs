//! Answers as JSON.

use std::time::{Duration, Instant};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use everbeat::{Stats, Summary};
use serde::Serialize;

/// An answer for whoever reads it in a terminal: indented, and with an end of line.
pub(crate) struct Pretty<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Pretty<T> {
    fn into_response(self) -> Response {
        match serde_json::to_string_pretty(&self.0) {
            Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json + "\n").into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
}

/// What a timer has done so far.
#[derive(Serialize)]
pub(crate) struct TimerView {
    name: String,
    period_ms: u64,
    running: bool,
    busy: bool,
    paused: bool,
    runs: u64,
    hits: u64,
    failures: u64,
    blocked: u64,
    /// Event streams that are open.
    feeds: usize,
    /// Slots that passed unrun while the timer was not paused.
    missed: u64,
    skipped: SkippedView,
    /// Absent during a run and while paused.
    next_due_ms: Option<u64>,
    lateness_us: SummaryView,
    duration_us: SummaryView,
}

/// Slots that never ran, by reason.
#[derive(Serialize)]
struct SkippedView {
    overrun: u64,
    paused: u64,
    late: u64,
    backoff: u64,
}

/// In microseconds.
#[derive(Serialize)]
struct SummaryView {
    last: u64,
    mean: u64,
    max: u64,
    p50: Option<u64>,
    p99: Option<u64>,
}

impl TimerView {
    pub(crate) fn of(stats: &Stats) -> Self {
        let skipped = stats.skipped;
        Self {
            name: stats.name.to_string(),
            period_ms: whole_millis(stats.period),
            running: stats.running,
            busy: stats.busy,
            paused: stats.paused,
            runs: stats.runs,
            hits: stats.hits,
            failures: stats.failures,
            blocked: stats.blocked,
            feeds: stats.feeds,
            missed: skipped.missed,
            skipped: SkippedView {
                overrun: skipped.overrun,
                paused: skipped.paused,
                late: skipped.late,
                backoff: skipped.backoff,
            },
            next_due_ms: stats
                .next_due
                .map(|due| whole_millis(due.saturating_duration_since(Instant::now()))),
            lateness_us: SummaryView::of(&stats.lateness),
            duration_us: SummaryView::of(&stats.duration),
        }
    }
}

impl SummaryView {
    fn of(summary: &Summary) -> Self {
        Self {
            last: whole_micros(summary.last()),
            mean: whole_micros(summary.mean()),
            max: whole_micros(summary.max()),
            p50: summary.quantile(0.5).map(whole_micros),
            p99: summary.quantile(0.99).map(whole_micros),
        }
    }
}

pub(crate) fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
