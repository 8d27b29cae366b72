//! Figures of a timer, as a snapshot.

use std::time::{Duration, Instant};

use everbeat_core::{Skipped, Summary};

use crate::name::Name;
use crate::shared::State;

/// What a timer has done so far, over all its starts. A snapshot: taking one copies a few hundred bytes
/// and never waits for a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// The timer.
    pub name: Name,
    /// The period in force.
    pub period: Duration,
    /// Whether it was started and has not ended.
    pub running: bool,
    /// Whether a run is in flight.
    pub busy: bool,
    /// Whether it is paused.
    pub paused: bool,
    /// Runs begun.
    pub runs: u64,
    /// Runs that delivered a value.
    pub hits: u64,
    /// Runs that failed, panicked or exceeded their time limit.
    pub failures: u64,
    /// Runs that held their thread for longer than the threshold.
    pub blocked: u64,
    /// Turns that had to wait because all workers of the engine were busy.
    pub queued: u64,
    /// Open feeds.
    pub feeds: usize,
    /// Slots that never ran, by reason, and those that were missed.
    pub skipped: Skipped,
    /// When the last value was delivered.
    pub last_tick: Option<Instant>,
    /// When the next run is due; `None` during a run, while paused, if that is never, and for a timer that does
    /// not run.
    pub next_due: Option<Instant>,
    /// How late runs started. Empty unless the timer keeps figures of its own, see
    /// [`Builder::histograms`](crate::Builder::histograms); on an engine [`EngineStats`] has them for all its
    /// timers.
    ///
    /// [`EngineStats`]: crate::thread::EngineStats
    pub lateness: Summary,
    /// How long runs took. Empty unless the timer keeps figures of its own.
    pub duration: Summary,
}

impl Stats {
    pub(crate) fn of<V: Send + Sync + 'static>(name: &Name, queued: u64, state: &State<V>) -> Self {
        let machine = &state.machine;
        let to_std = |instant| state.clock.as_ref()?.to_std(instant);
        let due = machine.next_due().filter(|due| !machine.is_paused() && !due.is_never());
        Self {
            name: name.clone(),
            period: machine.schedule().period(),
            running: machine.is_running(),
            busy: machine.is_busy(),
            paused: machine.is_paused(),
            runs: machine.runs(),
            hits: state.ledger.hits,
            failures: state.ledger.failures,
            blocked: state.ledger.blocked,
            queued,
            feeds: state.feeds(),
            skipped: machine.skipped(),
            last_tick: state.last_tick.and_then(to_std),
            next_due: due.and_then(to_std),
            lateness: state.ledger.lateness.clone(),
            duration: state.ledger.duration.clone(),
        }
    }
}
