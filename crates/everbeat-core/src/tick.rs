//! What a run is told about itself.

use core::time::Duration;

use crate::Instant;

/// Why a run takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Its slot is due.
    Schedule,
    /// Somebody asked for it.
    Trigger,
    /// The run before failed, and the error policy retries.
    Retry,
}

/// One firing: everything that a run may want to know about when and why it takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tick {
    /// The number of the run, from 1; goes on over restarts.
    pub run: u64,
    /// The index on the grid, from 0 at each start. A retry has the slot of the run that failed; a
    /// trigger that keeps the phase has the slot still to come.
    pub slot: u64,
    /// When the run was due.
    pub scheduled: Instant,
    /// How long after that it started.
    pub lateness: Duration,
    /// How many slots were dropped since the run before.
    pub missed: u64,
    /// Why it runs.
    pub cause: Cause,
}

impl Tick {
    /// When the run started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.scheduled + self.lateness
    }
}
