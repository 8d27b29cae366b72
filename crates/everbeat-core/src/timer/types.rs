//! What goes into the machine and comes out of it.

use core::fmt;
use core::time::Duration;

use crate::Tick;
#[cfg(doc)]
use crate::Timer;

/// Why a timer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// The target had no more values.
    Exhausted,
    /// It made as many runs as it was allowed.
    MaxRuns,
    /// Its time was over.
    Until,
    /// A stop condition came true.
    Condition,
    /// It was shut down and its last run ended within the grace period.
    Drained,
    /// It was shut down, and its last run was given up at the end of the grace period.
    GraceExpired,
    /// It was cancelled.
    Cancelled,
    /// A run failed and the error policy ended the timer.
    Failed,
    /// Nobody held it any more.
    Dropped,
    /// What drove it went away: its runtime, its event loop.
    Abandoned,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exhausted => "its target has no more values",
            Self::MaxRuns => "it made all its runs",
            Self::Until => "its time was over",
            Self::Condition => "its stop condition came true",
            Self::Drained => "it was shut down",
            Self::GraceExpired => "it was shut down, and its last run took longer than the grace period",
            Self::Cancelled => "it was cancelled",
            Self::Failed => "a run failed",
            Self::Dropped => "its last handle was dropped",
            Self::Abandoned => "its runtime went away",
        })
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It delivered a value.
    Success,
    /// It failed, panicked or exceeded its time limit.
    Failure,
    /// The target has no more values.
    Exhausted,
    /// It was given up because the timer stops.
    Aborted,
}

/// Why a run is to be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AbortCause {
    /// It exceeded its time limit: report it as [`Outcome::Failure`].
    TimedOut,
    /// The timer stops: report it as [`Outcome::Aborted`].
    Stopping,
}

/// What a driver has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Run the target, and report its end by [`Timer::handle_finished`].
    Run(Tick),
    /// Give the current run up, and report when nothing of it is left.
    Abort(AbortCause),
    /// Log that slots were missed.
    Missed(MissedBatch),
    /// The timer has ended: tell whoever wants to know, then call [`Timer::handle_closed`].
    Stopped(StopReason),
}

/// Slots that passed without a run, reported together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissedBatch {
    /// How many slots were missed.
    pub missed: u64,
    /// How many slots will never run, some of an earlier batch that a burst had kept included.
    pub dropped: u64,
    /// How long ago the first of them was due.
    pub late: Duration,
}

/// Slots that never ran, by reason, over all starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Passed during a run or a stall.
    pub overrun: u64,
    /// Passed while the timer was paused.
    pub paused: u64,
    /// Could not start within the permitted lateness.
    pub late: u64,
    /// Passed while a retry was waited for.
    pub backoff: u64,
    /// Slots that were missed: all that passed unrun while the timer was not paused, those that a burst
    /// ran afterwards included.
    pub missed: u64,
}

impl Skipped {
    /// All slots that never ran.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.paused, self.late, self.backoff].into_iter().fold(self.overrun, u64::saturating_add)
    }
}

/// The timer was already started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyRunning;

impl fmt::Display for AlreadyRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the timer is already running")
    }
}

impl core::error::Error for AlreadyRunning {}

/// The timer does not run, or is about to end: the command has nothing to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRunning;

impl fmt::Display for NotRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the timer is not running")
    }
}

impl core::error::Error for NotRunning {}
