//! What a driver was seen to do.

use std::collections::BTreeMap;

use everbeat_core::Tick;

use crate::expect::{
    AnswerSpec, Batch, Cause, Counters, EndSpec, Ended, Expect, FailureKind, FeedState, Got, TickSpec,
};
use crate::scenario::Scenario;
use crate::span::Span;

/// More runs than any scenario has. A timer that makes them has run wild.
const MOST_RUNS: usize = 250_000;

/// One play of a scenario by one driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The field of the configuration that was refused.
    pub refused: Option<String>,
    /// The runs, in the order in which they began.
    pub runs: Vec<Run>,
    /// What each named command was answered.
    pub answers: BTreeMap<String, Given>,
    /// The feeds as they were left.
    pub feeds: BTreeMap<String, FeedState>,
    /// The ends of the timer that were announced; `None` where nobody listens.
    pub ended: Option<Vec<Ended>>,
    /// What was counted; `None` where nobody is left to ask.
    pub counters: Option<Counters>,
    /// The failures that the callback was told of; `None` where there is none.
    pub failures_told: Option<u64>,
    /// The reports of missed slots; `None` where they cannot be seen.
    pub batches: Option<Vec<Batch>>,
    /// Whether runs deliver nothing but `()`, which is written as zero.
    pub valueless: bool,
    /// Whether runs are in the hands of a consumer, for whom nobody waits.
    pub in_other_hands: bool,
    /// What must never happen, in no scenario, and did.
    pub faults: Vec<String>,
    /// Where it depends on an order that is left to the driver, as no scenario may.
    pub left_open: Vec<String>,
}

/// A run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub number: u64,
    /// Its slot.
    pub slot: u64,
    /// When it began, by the clock of the driver.
    pub at: Span,
    /// When it was due, as it was told.
    pub scheduled: Span,
    /// How late it was, as it was told.
    pub lateness: Span,
    /// How many slots were dropped before it, as it was told.
    pub missed: u64,
    /// Why it ran, as it was told.
    pub cause: Cause,
    /// The hit count that it read when it began, if it did.
    pub hits: Option<u64>,
    /// How it ended and when, if it did.
    pub end: Option<(Span, RunEnd)>,
}

/// How a run ended, as its target saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// With this value.
    Value(u64),
    /// With an error or a panic.
    Failed(FailureKind),
    /// There was no item.
    Exhausted,
    /// It was dropped on the way.
    GivenUp,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// When.
    pub at: Span,
    /// What.
    pub got: Got,
    /// The hit count that whoever was answered read; `None` where nobody could be asked.
    pub hits: Option<u64>,
}

impl Trace {
    /// A run begins. Returns whether the play may go on: a timer that has run wild is to be stopped.
    #[must_use]
    pub fn begin(&mut self, tick: &Tick, at: Span, hits: Option<u64>) -> bool {
        self.begin_run(Run {
            number: tick.run,
            slot: tick.slot,
            at,
            scheduled: tick.scheduled.into(),
            lateness: tick.lateness.into(),
            missed: tick.missed,
            cause: tick.cause.into(),
            hits,
            end: None,
        })
    }

    /// The same for a run that is described otherwise.
    #[must_use]
    pub fn begin_run(&mut self, run: Run) -> bool {
        let at = run.at;
        if let Some(running) = self.open_run() {
            let number = running.number;
            self.faults.push(format!("run {} began at {at}, during run {number}", run.number));
        }
        self.runs.push(run);
        let wild = self.runs.len() == MOST_RUNS;
        if wild {
            self.faults.push(format!("there were {MOST_RUNS} runs at {at}"));
        }
        !wild
    }

    /// The run in flight is over. Does nothing if there is none.
    pub fn end(&mut self, at: Span, end: RunEnd) {
        if let Some(run) = self.open_run() {
            run.end = Some((at, end));
        }
    }

    /// Somebody is answered.
    pub fn answer(&mut self, name: &str, given: Given) {
        if let Got::Ended(_) | Got::Shutdown(_) = given.got {
            let awaited = !self.in_other_hands;
            if let Some(run) = self.open_run().filter(|_| awaited) {
                let number = run.number;
                self.faults.push(format!("`{name}` was told of the end during run {number}"));
            }
            if !self.runs.is_empty() && self.ended.as_ref().is_some_and(Vec::is_empty) {
                self.faults.push(format!("`{name}` was told of an end before the callback"));
            }
        }
        self.answers.insert(name.to_owned(), given);
    }

    /// What a scenario that goes like this expects.
    #[must_use]
    pub fn expectation(&self, scenario: &Scenario) -> Expect {
        let names = scenario.commands.iter().filter_map(|command| command.name.clone());
        Expect {
            refused: self.refused.clone(),
            ticks: self.runs.iter().map(TickSpec::from).collect(),
            both_sides: None,
            answers: names
                .map(|name| (name.clone(), self.answers.get(&name).map(AnswerSpec::from)))
                .collect(),
            feeds: self.feeds.clone(),
            ended: self
                .ended
                .iter()
                .flatten()
                .map(|end| EndSpec { at: Some(end.at), reason: end.reason })
                .collect(),
            counters: self.counters.unwrap_or_default(),
            batches: self.batches.clone(),
        }
    }

    fn open_run(&mut self) -> Option<&mut Run> {
        self.runs.last_mut().filter(|run| run.end.is_none())
    }
}

impl From<&Run> for TickSpec {
    fn from(run: &Run) -> Self {
        let given_up = run.end.filter(|(_, end)| *end == RunEnd::GivenUp).map(|(at, _)| at);
        Self {
            slot: run.slot,
            at: Some(run.at),
            after: None,
            give: Span::ZERO,
            scheduled: (run.scheduled != run.at).then_some(run.scheduled),
            missed: run.missed,
            cause: run.cause,
            given_up,
            repeat: None,
        }
    }
}

impl From<&Given> for AnswerSpec {
    fn from(given: &Given) -> Self {
        Self { at: given.at, got: Some(given.got.clone()), hits: given.hits }
    }
}
