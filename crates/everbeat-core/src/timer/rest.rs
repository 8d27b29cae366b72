//! A timer in a few bytes, for those that have a million of them.
//!
//! While nothing special happens, all that a timer has to remember is when its next run is due and how
//! many it has made. Everything here is a short cut: it does exactly what the machine does, or declines.

use alloc::sync::Arc;

use super::{Abort, Run, State, Timer, Wait};
use crate::{Cause, Instant, Mode, Ratio, Schedule, Tick};

/// What a timer comes down to while nothing special happens: it waits for its next run, or is in the
/// middle of one that the schedule asked for; it was started once, and nothing was ever missed, failed,
/// triggered, paused or limited.
///
/// Made by [`Timer::rest`]; [`Timer::from_rest`] makes it a machine again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rested {
    /// When the next run is due; during a run, when that one was.
    due: Instant,
    /// Runs begun.
    runs: u64,
}

impl Rested {
    /// A timer that was just started, with its first run due at `due`. `None` if its schedule needs the
    /// whole machine.
    #[must_use]
    pub fn start(schedule: &Schedule, due: Instant) -> Option<Self> {
        (schedule.can_rest() && !due.is_never()).then_some(Self { due, runs: 0 })
    }

    /// A timer at rest of which somebody has kept these two: when its next run is due, or that in progress
    /// was, and how many were begun.
    #[must_use]
    pub fn new(due: Instant, runs: u64) -> Self {
        Self { due, runs }
    }

    /// When the next run is due; during a run, when that one was.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Runs begun so far.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// When the last run ended, while it waits for the next: exactly so at a fixed delay. On a grid it is
    /// the time that the last run was due. Without meaning before the first.
    #[must_use]
    pub fn last_end(&self, schedule: &Schedule) -> Instant {
        self.due.sub_nanos(schedule.period_nanos)
    }

    /// Begins the run that it waits for; `now` must not be before it is due. `None`, and nothing has
    /// changed, if that takes the whole machine.
    #[must_use]
    pub fn begin(&mut self, schedule: &Schedule, now: Instant) -> Option<Tick> {
        let late_nanos = now.nanos_since(self.due);
        let plain = now >= self.due && !now.is_never() && late_nanos <= schedule.max_lateness_nanos;
        if !plain || self.runs == u64::MAX {
            return None;
        }
        let slot = self.runs;
        self.runs += 1;
        let lateness = core::time::Duration::from_nanos(late_nanos);
        let (scheduled, cause) = (self.due, Cause::Schedule);
        Some(Tick { run: self.runs, slot, scheduled, lateness, missed: 0, cause })
    }

    /// The run has delivered a value. Returns whether it waits for the next; if not, nothing has changed,
    /// and it takes the whole machine.
    #[must_use]
    pub fn finish(&mut self, schedule: &Schedule, now: Instant) -> bool {
        let next = match schedule.mode {
            Mode::FixedRate => self.due.add_nanos(schedule.period_nanos),
            Mode::FixedDelay => now.add_nanos(schedule.period_nanos),
        };
        let plain = next >= now && !next.is_never() && self.runs < schedule.max_runs;
        if plain {
            self.due = next;
        }
        plain
    }
}

impl Schedule {
    /// Whether a timer with this schedule can do without the machine at all.
    #[must_use]
    pub fn can_rest(&self) -> bool {
        self.period_nanos > 0
            && self.jitter.fraction == Ratio::ZERO
            && self.run_timeout_nanos == u64::MAX
            && self.end_of(Instant::ORIGIN).is_never()
    }
}

impl Timer {
    /// The timer in a few bytes; `None` if it has more to remember, or is not waiting for a run.
    #[must_use]
    pub fn rest(&self) -> Option<Rested> {
        let State::Waiting(Wait { due, cause: Cause::Schedule, requested: false }) = self.state else {
            return None;
        };
        let rested = Rested { due, runs: self.runs };
        let plain = self.schedule.can_rest()
            && !due.is_never()
            && !self.paused
            && !self.follow_up
            && self.end_at.is_never()
            && self.runs_before_start == 0
            && self.troubles.is_none()
            && self.next_slot == self.runs
            && rested.wait_base(&self.schedule) == Some(self.wait_base)
            && (!self.schedule.is_grid() || self.grid().time_of(self.next_slot) == due);
        plain.then_some(rested)
    }

    /// The machine of a timer at rest; `running` if it is in the middle of a run.
    #[must_use]
    pub fn from_rest(schedule: Arc<Schedule>, rested: Rested, running: bool) -> Self {
        let Rested { due, runs } = rested;
        let slot = if running { runs.saturating_sub(1) } else { runs };
        let wait_base = if running { due } else { rested.wait_base(&schedule).unwrap_or(due) };
        let state = if running {
            let never = Instant::NEVER;
            State::Running(Run { slot, time_limit: never, grace_limit: never, abort: Abort::No })
        } else {
            State::Waiting(Wait { due, ..Wait::for_slot() })
        };
        let (anchor, anchor_slot, next_slot, now) = (due, slot, runs, wait_base);
        Self { state, now, wait_base, anchor, anchor_slot, next_slot, runs, ..Self::new(schedule) }
    }
}

impl Rested {
    /// What the wait in progress is measured from; `None` if that lies before the beginning of time.
    fn wait_base(&self, schedule: &Schedule) -> Option<Instant> {
        let wait = if self.runs == 0 { schedule.initial_delay_nanos } else { schedule.period_nanos };
        self.due.as_nanos().checked_sub(wait).map(Instant::from_nanos)
    }
}
