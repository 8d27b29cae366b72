//! Compares what was seen with what was expected.

use std::fmt::Write;

use serde::Serialize;

use crate::always::check_always;
use crate::expect::{AnswerSpec, Cause, EndSpec, Ended, Got, TickSpec};
use crate::scenario::Scenario;
use crate::span::Span;
use crate::trace::{Given, Run, RunEnd, Trace};

/// How many wrong runs a report shows.
const MOST_LINES: usize = 12;

/// Everything in which the trace is not what the scenario expects, ready to be printed. Empty if it is.
#[must_use]
pub fn check(scenario: &Scenario, trace: &Trace) -> Vec<String> {
    let mut differences = compare(scenario, trace);
    differences.extend(check_always(scenario, trace));
    differences
}

/// Of these only what the scenario expects itself.
pub(crate) fn compare(scenario: &Scenario, trace: &Trace) -> Vec<String> {
    let valueless = trace.valueless.then(|| scenario.expect.without_values());
    let expect = valueless.as_ref().unwrap_or(&scenario.expect);
    let mut report = Report::default();
    report.compare("refused", &expect.refused, &trace.refused);
    let ticks: Vec<_> = expect.ticks.iter().flat_map(TickSpec::row).collect();
    report.ticks(&ticks, &trace.runs);
    report.both_sides(expect.both_sides, &ticks, &trace.runs);
    for (name, wanted) in &expect.answers {
        report.answer(name, wanted.as_ref(), trace.answers.get(name));
    }
    report.compare("feeds", &expect.feeds, &trace.feeds);
    if let Some(ended) = &trace.ended {
        report.ends(&expect.ended, ended);
    }
    if let Some(counters) = &trace.counters {
        report.compare("counters", &expect.counters, counters);
    }
    if let (Some(wanted), Some(seen)) = (&expect.batches, &trace.batches) {
        report.compare("batches", wanted, seen);
    }
    report.differences.extend(trace.left_open.iter().cloned());
    report.differences
}

#[derive(Default)]
struct Report {
    differences: Vec<String>,
}

impl Report {
    fn note(&mut self, difference: impl Into<String>) {
        self.differences.push(difference.into());
    }

    fn compare<T: Serialize + PartialEq>(&mut self, what: &str, wanted: &T, seen: &T) {
        if wanted != seen {
            self.note(format!("{what}\n    - {}\n    + {}", json(wanted), json(seen)));
        }
    }

    fn ticks(&mut self, wanted: &[TickSpec], seen: &[Run]) {
        let (mut table, mut known, mut wrong) = (String::new(), String::new(), 0);
        let mut before = Span::ZERO;
        for number in 0..wanted.len().max(seen.len()) {
            let (spec, run) = (wanted.get(number), seen.get(number));
            let right = spec.zip(run).is_some_and(|(spec, run)| fits(spec, run, before));
            before = run.map_or(before, ended_at);
            if right {
                known = run.map_or(String::new(), |run| format!("\n      {}", describe(run)));
                continue;
            }
            wrong += 1;
            if wrong <= MOST_LINES {
                table += &std::mem::take(&mut known);
                // Writing to a string cannot fail.
                let _ = spec.map(|spec| write!(table, "\n    - {}", describe_spec(number + 1, spec)));
                let _ = run.map(|run| write!(table, "\n    + {}", describe(run)));
            }
        }
        if wrong > MOST_LINES {
            let _ = write!(table, "\n      and {} more", wrong - MOST_LINES);
        }
        if wrong > 0 {
            self.note(format!("ticks{table}"));
        }
    }

    fn both_sides(&mut self, wanted: Option<usize>, specs: &[TickSpec], seen: &[Run]) {
        let Some(wanted) = wanted else { return };
        let (mut early, mut late) = (0, 0);
        let mut before = Span::ZERO;
        for (spec, run) in specs.iter().zip(seen) {
            let nominal = nominal(spec, before);
            before = ended_at(run);
            if spec.give > Span::ZERO {
                early += usize::from(run.scheduled < nominal);
                late += usize::from(run.scheduled > nominal);
            }
        }
        if early.min(late) < wanted {
            self.note(format!("both_sides\n    - at least {wanted} each\n    + {early} early, {late} late"));
        }
    }

    fn ends(&mut self, wanted: &[EndSpec], seen: &[Ended]) {
        let same = |(wanted, seen): (&EndSpec, &Ended)| {
            wanted.reason == seen.reason && wanted.at.is_none_or(|at| at == seen.at)
        };
        if wanted.len() != seen.len() || !wanted.iter().zip(seen).all(same) {
            self.note(format!("ended\n    - {}\n    + {}", json(&wanted), json(&seen)));
        }
    }

    fn answer(&mut self, name: &str, wanted: Option<&AnswerSpec>, seen: Option<&Given>) {
        let right = match (wanted, seen) {
            (None, None) => true,
            (Some(wanted), Some(seen)) => answers(wanted, seen),
            _ => false,
        };
        if !right {
            let seen = seen.map(|Given { at, got, hits }| AnswerSpec {
                at: *at,
                got: Some(got.clone()),
                hits: *hits,
            });
            let (wanted, seen) = (json(&wanted), json(&seen));
            self.note(format!("answer `{name}`\n    - {wanted}\n    + {seen}"));
        }
    }
}

fn answers(wanted: &AnswerSpec, seen: &Given) -> bool {
    let same = match (&wanted.got, &seen.got) {
        (None, _) => true,
        (Some(Got::Look(wanted)), Got::Look(seen)) => wanted.agrees_with(seen),
        (Some(wanted), seen) => wanted == seen,
    };
    let hits = wanted.hits.is_none() || seen.hits.is_none() || wanted.hits == seen.hits;
    same && wanted.at == seen.at && hits
}

/// Whether a run is the one that was expected, `before` being the end of the run before it.
fn fits(spec: &TickSpec, run: &Run, before: Span) -> bool {
    let at = nominal(spec, before);
    let in_time = if spec.give == Span::ZERO {
        (run.at, run.scheduled) == (at, spec.scheduled.unwrap_or(at))
    } else {
        // Due at any nanosecond, but begun by a clock that may be coarse.
        run.scheduled.is_within(spec.give, at) && run.at.minus(run.scheduled) < Span::MILLISECOND
    };
    in_time
        && (spec.slot, spec.missed, spec.cause) == (run.slot, run.missed, run.cause)
        && spec.given_up == given_up_at(run)
}

/// When a run should take place, `before` being the end of the run before it.
fn nominal(spec: &TickSpec, before: Span) -> Span {
    spec.at.unwrap_or_else(|| before.plus(spec.after.unwrap_or_default()))
}

fn ended_at(run: &Run) -> Span {
    run.end.map_or(run.at, |(at, _)| at)
}

fn given_up_at(run: &Run) -> Option<Span> {
    run.end.filter(|(_, end)| *end == RunEnd::GivenUp).map(|(at, _)| at)
}

pub(crate) fn describe(run: &Run) -> String {
    let mut line = format!("run {}  slot {}  at {}", run.number, run.slot, run.at);
    if run.scheduled != run.at {
        let _ = write!(line, "  scheduled {}", run.scheduled);
    }
    line + &rest(run.missed, run.cause, given_up_at(run))
}

fn describe_spec(number: usize, spec: &TickSpec) -> String {
    let mut line = format!("run {number}  slot {}", spec.slot);
    let _ = match (spec.at, spec.after) {
        (Some(at), _) => write!(line, "  at {at}"),
        (None, after) => write!(line, "  {} after the run before", after.unwrap_or_default()),
    };
    if spec.give > Span::ZERO {
        let _ = write!(line, " ± {}", spec.give);
    }
    if let Some(scheduled) = spec.scheduled {
        let _ = write!(line, "  scheduled {scheduled}");
    }
    line + &rest(spec.missed, spec.cause, spec.given_up)
}

fn rest(missed: u64, cause: Cause, given_up: Option<Span>) -> String {
    let mut line = String::new();
    if missed > 0 {
        let _ = write!(line, "  missed {missed}");
    }
    if cause != Cause::Schedule {
        let _ = write!(line, "  {}", json(&cause).trim_matches('"'));
    }
    if let Some(at) = given_up {
        let _ = write!(line, "  given up at {at}");
    }
    line
}

pub(crate) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect::{FeedThen, Reason};
    use crate::{CoreSubject, Subject, parse};

    /// Has a run of every kind, an answer, a feed, an end, and counts.
    const STORY: &str = r#"{
        "about": "A bit of everything.",
        "scenarios": [{
            "name": "everything", "clauses": ["S1"], "why": "It is not.",
            "timer": { "mode": "fixed_rate", "period": "10ms" },
            "runs": { "1": { "takes": "25ms" }, "3": { "takes": "1h" } },
            "commands": [
                { "at": "0s", "do": { "subscribe": { "feed": "f" } } },
                { "at": "26ms", "do": "join", "as": "joined" },
                { "at": "45ms", "do": "cancel" }
            ],
            "watch": "60ms",
            "expect": {
                "ticks": [
                    { "slot": 0, "at": "0s" },
                    { "slot": 3, "at": "30ms", "missed": 2 },
                    { "slot": 4, "at": "40ms", "given_up": "45ms" }
                ],
                "answers": { "joined": { "at": "30ms", "got": { "value": 2 }, "hits": 2 } },
                "feeds": { "f": { "holds": [1, 2], "then": "end" } },
                "ended": [{ "at": "45ms", "reason": "cancelled" }],
                "counters": { "hits": 2, "skipped": { "overrun": 2 }, "missed": 2 },
                "batches": [{ "missed": 2, "dropped": 2, "late": "15ms" }]
            }
        }]
    }"#;

    fn differences(distort: impl FnOnce(&mut Trace)) -> String {
        let scenario = parse(STORY).unwrap().scenarios.remove(0);
        let mut trace = CoreSubject { restless: false }.play(&scenario);
        distort(&mut trace);
        check(&scenario, &trace).join("\n")
    }

    #[test]
    fn what_is_as_expected_is_no_difference() {
        assert_eq!(differences(|_| {}), "");
    }

    #[test]
    fn every_distortion_of_a_run_is_noticed() {
        let late = Span::from_nanos(1);
        assert!(differences(|trace| _ = trace.runs.pop()).contains("- run 3  slot 4"));
        assert!(differences(|trace| trace.runs.push(trace.runs[2])).contains("+ run 3  slot 4"));
        assert!(differences(|trace| trace.runs[1].slot = 2).contains("+ run 2  slot 2"));
        assert!(differences(|trace| trace.runs[1].at = late).contains("ticks"));
        assert!(differences(|trace| trace.runs[1].scheduled = late).contains("scheduled 1ns"));
        assert!(differences(|trace| trace.runs[1].lateness = late).contains("a lateness of 1ns"));
        assert!(differences(|trace| trace.runs[1].missed = 1).contains("missed 1"));
        assert!(differences(|trace| trace.runs[1].cause = Cause::Retry).contains("retry"));
        assert!(differences(|trace| trace.runs[1].hits = Some(7)).contains("read a hit count of 7"));
        assert!(differences(|trace| trace.runs[1].number = 7).contains("has number 7"));
        assert!(differences(|trace| trace.runs[2].end = None).contains("given up at 45ms"));
    }

    #[test]
    fn every_other_distortion_is_noticed() {
        assert!(differences(|trace| trace.refused = Some("period".into())).contains("refused"));
        assert!(differences(|trace| trace.answers.clear()).contains("answer `joined`"));
        assert!(differences(|trace| trace.feeds.clear()).contains("feeds"));
        let reopen = |trace: &mut Trace| trace.feeds.values_mut().for_each(|feed| feed.then = FeedThen::Open);
        assert!(differences(reopen).contains("feeds"));
        assert!(differences(|trace| trace.ended = Some(Vec::new())).contains("ended"));
        let change = |trace: &mut Trace| trace.ended.as_mut().unwrap()[0].reason = Reason::Until;
        assert!(differences(change).contains("until"));
        assert!(differences(|trace| trace.failures_told = Some(1)).contains("failures told"));
        assert!(differences(|trace| trace.valueless = true).contains("answer `joined`"));
        assert!(differences(|trace| trace.batches = Some(Vec::new())).contains("batches"));
        assert!(differences(|trace| trace.faults.push("a fault".into())).contains("a fault"));
        let miscount = |trace: &mut Trace| trace.counters = trace.counters.map(|_| Default::default());
        assert!(differences(miscount).contains("counters"));
    }
}
