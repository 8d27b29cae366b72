//! How a scenario has to go. What a driver is seen to do is written in the same words, so that the two
//! can be compared and printed side by side.

use std::collections::BTreeMap;

use everbeat_core as core;
use serde::{Deserialize, Deserializer, Serialize};

use crate::scenario::is_default;
use crate::span::Span;

/// Everything that a driver must be seen to do. What is not mentioned must not happen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The field of the configuration that is refused. Nothing else happens then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The runs, in order: the n-th one here is run number n.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ticks: Vec<TickSpec>,
    /// How many ticks at least lie before, and how many after their nominal time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub both_sides: Option<usize>,
    /// What each named command was answered; `null` if it was not, for as long as the scenario is watched.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<String, Option<AnswerSpec>>,
    /// What is in each feed that still exists.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub feeds: BTreeMap<String, FeedState>,
    /// The ends of the timer: one for each start that came to an end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<EndSpec>,
    /// What was counted.
    #[serde(skip_serializing_if = "is_default")]
    pub counters: Counters,
    /// The reports of missed slots, where a driver can see them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batches: Option<Vec<Batch>>,
}

impl Expect {
    /// The same with zero for every value.
    #[must_use]
    pub fn without_values(&self) -> Self {
        let mut expect = self.clone();
        for answer in expect.answers.values_mut().flatten() {
            match &mut answer.got {
                Some(Got::Value(value)) => *value = 0,
                Some(Got::Items(items)) => items.fill(0),
                Some(Got::Look(Look { latest: Some(Some(latest)), .. })) => *latest = 0,
                _ => {}
            }
        }
        expect.feeds.values_mut().for_each(|feed| feed.holds.fill(0));
        expect
    }
}

/// A run that must take place, or a row of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TickSpec {
    /// Its slot.
    pub slot: u64,
    /// When it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Span>,
    /// When it starts, counted from the end of the run before. In place of `at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Span>,
    /// How far its scheduled time may lie from that, for a timer with jitter.
    #[serde(default, skip_serializing_if = "is_default")]
    pub give: Span,
    /// When it was due; when it starts, if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Span>,
    /// How many slots were dropped since the run before.
    #[serde(default, skip_serializing_if = "is_default")]
    pub missed: u64,
    /// Why it runs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cause: Cause,
    /// When it is given up, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_up: Option<Span>,
    /// That it stands for a row of runs, one slot apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Repeat>,
}

/// A row of runs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// How many, the first one included.
    pub times: u64,
    /// How far apart.
    pub every: Span,
}

/// Why a run takes place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its slot was due.
    #[default]
    Schedule,
    /// Somebody asked for it.
    Trigger,
    /// The run before failed.
    Retry,
}

/// What a named command has to be answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerSpec {
    /// When.
    pub at: Span,
    /// What; anything if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub got: Option<Got>,
    /// Which hit count whoever is answered reads; any if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hits: Option<u64>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Got {
    /// It was done, or has come about.
    Ok,
    /// The value of a run.
    Value(u64),
    /// A run failed like this.
    Failed(FailureKind),
    /// The timer has ended, as was waited for.
    Ended(Reason),
    /// The timer has ended before what was waited for came about.
    Stopped(Reason),
    /// How a shutdown went.
    Shutdown(ShutdownKind),
    /// The timer does not run.
    NotRunning,
    /// The timer was started already.
    AlreadyRunning,
    /// The timer can be started only once.
    Restart,
    /// The scope or the engine of the timer is closed.
    Closed,
    /// It took too long.
    Timeout,
    /// The timer still runs; no error.
    StillRunning,
    /// This field was refused.
    Refused(String),
    /// The values that a feed held.
    Items(Vec<u64>),
    /// The feed has ended.
    FeedEnd,
    /// The figures.
    Look(Look),
    /// Something that no scenario expects.
    Unexpected(String),
}

/// How a run failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// It returned an error.
    Error,
    /// It panicked.
    Panic,
    /// It exceeded its time limit.
    TimedOut,
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownKind {
    /// The last run ended by itself.
    Drained,
    /// The last run was given up.
    Cancelled,
    /// A failure had ended the timer.
    Failed,
}

/// Why a timer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The target had no more values.
    Exhausted,
    /// It made all its runs.
    MaxRuns,
    /// Its time was over.
    Until,
    /// Its stop condition came true.
    Condition,
    /// It was shut down.
    Drained,
    /// It was shut down, and its last run took longer than the grace.
    GraceExpired,
    /// It was cancelled.
    Cancelled,
    /// A run failed.
    Failed,
    /// Nobody held it any more.
    Dropped,
    /// What drove it went away.
    Abandoned,
}

/// The figures at a time. A figure that is not given is not compared; `null` says that there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Look {
    /// Whether it was started and has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
    /// Whether a run is in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<bool>,
    /// Whether it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// How many values it has delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hits: Option<u64>,
    /// The newest of them.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub latest: Option<Option<u64>>,
    /// When the next run is due.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub next_due: Option<Option<Span>>,
}

/// What a feed holds and how it goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeedState {
    /// The values that nobody has taken.
    pub holds: Vec<u64>,
    /// How many values were lost.
    pub dropped: u64,
    /// What follows them.
    pub then: FeedThen,
}

/// What follows the values of a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedThen {
    /// Further values, perhaps.
    #[default]
    Open,
    /// The end.
    End,
    /// This failure, which ended the timer; then the end.
    Failed(FailureKind),
}

/// An end that the timer must come to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndSpec {
    /// When; at any time if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Span>,
    /// Why.
    pub reason: Reason,
}

/// An end of the timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// When.
    pub at: Span,
    /// Why.
    pub reason: Reason,
}

/// What was counted, over all starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Counters {
    /// Runs that delivered a value.
    #[serde(skip_serializing_if = "is_default")]
    pub hits: u64,
    /// Runs that failed.
    #[serde(skip_serializing_if = "is_default")]
    pub failures: u64,
    /// Slots that never ran, by reason.
    #[serde(skip_serializing_if = "is_default")]
    pub skipped: Skipped,
    /// Slots that passed while the timer was not paused, those that a burst ran afterwards included.
    #[serde(skip_serializing_if = "is_default")]
    pub missed: u64,
}

/// Slots that never ran, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Skipped {
    /// Passed during a run or a stall.
    #[serde(skip_serializing_if = "is_default")]
    pub overrun: u64,
    /// Passed while the timer was paused.
    #[serde(skip_serializing_if = "is_default")]
    pub paused: u64,
    /// Would have been too late.
    #[serde(skip_serializing_if = "is_default")]
    pub late: u64,
    /// Passed while a retry was waited for.
    #[serde(skip_serializing_if = "is_default")]
    pub backoff: u64,
}

/// Missed slots that are reported together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// How many there are.
    pub missed: u64,
    /// How many of them will never run.
    pub dropped: u64,
    /// How long ago the first of them was due.
    pub late: Span,
}

impl TickSpec {
    /// The runs that it stands for.
    pub fn row(&self) -> impl Iterator<Item = Self> + '_ {
        let Repeat { times, every } = self.repeat.unwrap_or(Repeat { times: 1, every: Span::ZERO });
        (0..times).map(move |step| Self {
            slot: self.slot + step,
            at: self.at.map(|at| at.plus(every.times(step))),
            scheduled: self.scheduled.map(|due| due.plus(every.times(step))),
            repeat: None,
            ..self.clone()
        })
    }
}

impl Look {
    /// Whether all figures that this one gives are those of the other.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        fn agree<T: PartialEq>(wanted: Option<&T>, seen: Option<&T>) -> bool {
            wanted.is_none() || wanted == seen
        }
        agree(self.running.as_ref(), other.running.as_ref())
            && agree(self.busy.as_ref(), other.busy.as_ref())
            && agree(self.paused.as_ref(), other.paused.as_ref())
            && agree(self.hits.as_ref(), other.hits.as_ref())
            && agree(self.latest.as_ref(), other.latest.as_ref())
            && agree(self.next_due.as_ref(), other.next_due.as_ref())
    }
}

impl From<core::Cause> for Cause {
    fn from(cause: core::Cause) -> Self {
        match cause {
            core::Cause::Trigger => Self::Trigger,
            core::Cause::Retry => Self::Retry,
            _ => Self::Schedule,
        }
    }
}

impl From<core::StopReason> for Reason {
    fn from(reason: core::StopReason) -> Self {
        match reason {
            core::StopReason::Exhausted => Self::Exhausted,
            core::StopReason::MaxRuns => Self::MaxRuns,
            core::StopReason::Until => Self::Until,
            core::StopReason::Condition => Self::Condition,
            core::StopReason::Drained => Self::Drained,
            core::StopReason::GraceExpired => Self::GraceExpired,
            core::StopReason::Cancelled => Self::Cancelled,
            core::StopReason::Failed => Self::Failed,
            core::StopReason::Dropped => Self::Dropped,
            _ => Self::Abandoned,
        }
    }
}

impl From<core::MissedBatch> for Batch {
    fn from(batch: core::MissedBatch) -> Self {
        Self { missed: batch.missed, dropped: batch.dropped, late: batch.late.into() }
    }
}

impl From<core::Skipped> for Skipped {
    fn from(skipped: core::Skipped) -> Self {
        let core::Skipped { overrun, paused, late, backoff, .. } = skipped;
        Self { overrun, paused, late, backoff }
    }
}

/// Tells `null` from a field that is not there.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(input: D) -> Result<Option<T>, D::Error> {
    T::deserialize(input).map(Some)
}
