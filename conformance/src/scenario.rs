//! What a scenario does: a timer, what its runs are like, and what happens to it when.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::expect::Expect;
use crate::span::Span;

/// A file of scenarios about one topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// What the scenarios of the file have in common.
    pub about: String,
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
}

/// One story in virtual time, and how it has to go.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name, unique among all files.
    pub name: String,
    /// The clauses that it proves.
    pub clauses: Vec<String>,
    /// What would be wrong if it failed, in a line.
    pub why: String,
    /// The drivers that play it; all of them if it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drivers: Option<Vec<Driver>>,
    /// Why the other drivers do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The timer.
    pub timer: TimerSpec,
    /// Whether the timer starts at time zero by itself.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub autostart: bool,
    /// What particular runs are like, by number, from 1, over all starts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub runs: BTreeMap<u64, RunPlan>,
    /// What all other runs are like.
    #[serde(default, skip_serializing_if = "is_default")]
    pub other_runs: RunPlan,
    /// What happens, in order of time.
    #[serde(default, skip_serializing_if = "is_default")]
    pub commands: Vec<Command>,
    /// How long it is watched: what happens at this time or later is not seen.
    pub watch: Span,
    /// How it has to go.
    pub expect: Expect,
}

/// Who can play a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// The core alone, with a clock of nanoseconds.
    Core,
    /// The tokio face under paused time, with a clock of milliseconds.
    Tokio,
    /// The thread face.
    Thread,
}

/// How the timer is configured.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimerSpec {
    /// What the next due time is measured from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// The nominal time between slots.
    pub period: Span,
    /// The wait before the first tick.
    #[serde(default, skip_serializing_if = "is_default")]
    pub initial_delay: Span,
    /// The random offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<JitterSpec>,
    /// What becomes of missed slots.
    #[serde(default, skip_serializing_if = "is_default")]
    pub missed: MissedSpec,
    /// Whether triggered runs leave the grid alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_phase: bool,
    /// The lateness from which on a tick is skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lateness: Option<Span>,
    /// How many runs end it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_runs: Option<u64>,
    /// The time of the scenario at which it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Span>,
    /// How long after each start it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_for: Option<Span>,
    /// The time of the scenario at which its stop condition comes true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_when: Option<Span>,
    /// The time limit of a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_timeout: Option<Span>,
    /// What a failing run does to it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_error: OnErrorSpec,
    /// What it runs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub target: TargetSpec,
}

/// What the next due time is measured from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The end of the last run.
    #[default]
    FixedDelay,
    /// The anchor.
    FixedRate,
}

/// A deliberate random offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JitterSpec {
    /// The largest offset, as a fraction of the period.
    pub fraction: Fraction,
    /// Selects the sequence of offsets.
    pub seed: u64,
}

/// A fraction: `"1/10"`, or a whole number as `"2"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fraction {
    /// Above the line.
    pub numerator: u32,
    /// Below the line; never zero.
    pub denominator: u32,
}

impl Fraction {
    /// So much of a time, rounded down.
    #[must_use]
    pub fn of(self, whole: Span) -> Span {
        let part = u128::from(whole.as_nanos()) * u128::from(self.numerator) / u128::from(self.denominator);
        Span::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
    }
}

impl From<Fraction> for String {
    fn from(Fraction { numerator, denominator }: Fraction) -> Self {
        format!("{numerator}/{denominator}")
    }
}

impl TryFrom<String> for Fraction {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (above, below) = text.split_once('/').unwrap_or((&text, "1"));
        match (above.parse(), below.parse()) {
            (Ok(numerator), Ok(denominator)) if denominator > 0 => Ok(Self { numerator, denominator }),
            _ => Err(format!("`{text}` is no fraction: write \"1/10\" or \"2\"")),
        }
    }
}

/// What becomes of slots that pass before they can run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissedSpec {
    /// None of them runs.
    #[default]
    Skip,
    /// None of them runs, and the grid is anchored anew at the end of the late run.
    Delay,
    /// At most this many of them run, back to back.
    Burst(u64),
}

/// What a failing run does to the timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnErrorSpec {
    /// It ends.
    #[default]
    Stop,
    /// The schedule goes on.
    Continue,
    /// It retries after a growing wait.
    Backoff(BackoffSpec),
}

/// Growing waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackoffSpec {
    /// The first wait.
    pub first: Span,
    /// How much longer each wait is than the one before; twice as long if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<Fraction>,
    /// The longest wait.
    pub max: Span,
}

/// What a timer runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetSpec {
    /// A callable.
    #[default]
    Call,
    /// A maker of iterators with this many items; a run takes one.
    Iterator(u64),
    /// A maker of streams, or async generators, with this many items; a run awaits one.
    Stream(u64),
    /// Nothing: it is a schedule without a target, and a run is what its consumer does with a tick. Ends of the
    /// timer that somebody asks for are over at once, and then so is the run.
    Ticks,
}

impl TargetSpec {
    /// The items that a start has, for targets that run out of them.
    #[must_use]
    pub const fn items(self) -> Option<u64> {
        match self {
            Self::Iterator(items) | Self::Stream(items) => Some(items),
            Self::Call | Self::Ticks => None,
        }
    }
}

/// What a run is like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunPlan {
    /// How long it takes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub takes: Span,
    /// What it returns.
    #[serde(default, skip_serializing_if = "is_default")]
    pub returns: Returns,
    /// What it does to its own timer when it begins.
    #[serde(default, skip_serializing_if = "is_default")]
    pub does: Vec<Do>,
}

/// What a run returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Returns {
    /// Its own number as its value.
    #[default]
    Number,
    /// This value.
    Value(u64),
    /// An error.
    Error,
    /// Nothing: it panics.
    Panic,
}

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// When.
    pub at: Span,
    /// What.
    #[serde(rename = "do")]
    pub action: Do,
    /// The name of its answer. An answer without a name is not listened to.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How long its answer is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Do {
    /// Start the timer.
    Start,
    /// Ask for a run, and wait for its value.
    Trigger,
    /// Wait for the result of the next tick.
    Join,
    /// Wait for this hit count.
    WaitHits(u64),
    /// Wait for this many further hits.
    WaitMore(u64),
    /// Wait for the end.
    Wait,
    /// Suspend the schedule.
    Pause,
    /// Take it up again.
    Resume,
    /// Another period, from the next wait on.
    SetPeriod(Span),
    /// Another period, for the wait in progress too.
    Rearm(Span),
    /// Stop now.
    Cancel,
    /// Stop gently, with this grace.
    Shutdown(Span),
    /// Open a feed.
    Subscribe(FeedSpec),
    /// Wait for the next item of this feed.
    Next(String),
    /// Take all values that this feed holds.
    Read(String),
    /// Drop values of a feed unread.
    DropOldest(DropSpec),
    /// Close this feed.
    CloseFeed(String),
    /// Let go of this feed.
    DropFeed(String),
    /// Let go of whoever waits for the answer of this name.
    Forget(String),
    /// Read the figures.
    Look,
    /// Nothing of the process runs for this long.
    Stall(Span),
    /// Let the timer live without a handle.
    Detach,
    /// Let go of the only handle.
    DropHandle,
}

/// A feed to open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedSpec {
    /// What the scenario calls it.
    pub feed: String,
    /// How many values it holds; any number if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounded: Option<usize>,
    /// Which value gives way when it is full.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drop: DropPolicy,
}

/// Which value gives way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropPolicy {
    /// The one that has waited longest.
    #[default]
    Oldest,
    /// The one that arrives.
    Newest,
}

/// Values to drop unread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropSpec {
    /// Of which feed.
    pub feed: String,
    /// At most how many.
    pub count: usize,
}

impl TimerSpec {
    /// Whether nothing is asked of it that a timer has to be whole for.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let times = [self.until, self.run_for, self.stop_when, self.run_timeout];
        self.jitter.is_none() && times.iter().all(Option::is_none)
    }
}

impl Scenario {
    /// What run number `run` is like.
    #[must_use]
    pub fn plan(&self, run: u64) -> &RunPlan {
        self.runs.get(&run).unwrap_or(&self.other_runs)
    }

    /// Whether this driver plays it.
    #[must_use]
    pub fn is_for(&self, driver: Driver) -> bool {
        self.drivers.as_ref().is_none_or(|drivers| drivers.contains(&driver))
    }

    /// Whether time passes after each stop. A timer that only waits may end with the command, as ticks do, and others
    /// with their next turn.
    #[must_use]
    pub fn gives_stops_time(&self) -> bool {
        let stops =
            |command: &Command| matches!(command.action, Do::Cancel | Do::Shutdown(_) | Do::DropHandle);
        self.commands.windows(2).all(|pair| !stops(&pair[0]) || pair[0].at < pair[1].at)
    }

    /// Whether no run takes any time.
    #[must_use]
    pub fn is_instant(&self) -> bool {
        self.runs.values().chain([&self.other_runs]).all(|run| run.takes == Span::ZERO)
    }
}

fn yes() -> bool {
    true
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
