//! What holds whatever happens, so that histories without a prediction are looked at as well.

use std::collections::BTreeSet;

use crate::check::describe;
use crate::expect::{Cause, Got};
use crate::scenario::{Command, Do, Mode, Scenario};
use crate::span::Span;
use crate::trace::{Run, RunEnd, Trace};

/// Everything in which the trace is not as any trace of the scenario has to be, ready to be printed; what the scenario
/// expects is not looked at.
#[must_use]
pub fn check_always(scenario: &Scenario, trace: &Trace) -> Vec<String> {
    let mut report = what_always_holds(trace);
    if trace.refused.is_some() {
        return report;
    }
    let script = Script { scenario, trace, starts: starts(scenario, trace) };
    report.extend(script.slots());
    report.extend(script.runs_after_stops());
    report.extend(script.ends());
    report.extend(script.waits());
    report
}

/// The same as far as it shows without knowing what was asked of the timer.
#[must_use]
pub fn what_always_holds(trace: &Trace) -> Vec<String> {
    let mut report = Vec::new();
    let mut hits = 0;
    for (number, run) in (1..).zip(&trace.runs) {
        if run.number != number {
            report.push(format!("the run at {} has number {}, not {number}", run.at, run.number));
        }
        if run.scheduled.plus(run.lateness) != run.at {
            report.push(format!("run {number} was told a lateness of {}: {}", run.lateness, describe(run)));
        }
        if let Some(read) = run.hits.filter(|read| *read != hits) {
            report.push(format!("run {number} read a hit count of {read}, not {hits}"));
        }
        hits += u64::from(matches!(run.end, Some((_, RunEnd::Value(_)))));
    }
    if let Some(counters) = trace.counters {
        let told = trace.failures_told.unwrap_or(counters.failures);
        if (counters.hits, counters.failures) != (hits, told) {
            report.push(format!("{hits} values and {told} failures told, but counted {counters:?}"));
        }
        let skipped = counters.skipped;
        let dropped = skipped.overrun + skipped.paused + skipped.late + skipped.backoff;
        let told: u64 = trace.runs.iter().map(|run| run.missed).sum();
        if told > dropped {
            report.push(format!("runs were told of {told} dropped slots, but {dropped} were counted"));
        }
        let batches: u64 = trace.batches.iter().flatten().map(|batch| batch.missed).sum();
        if trace.batches.is_some() && counters.missed != batches {
            report.push(format!("{batches} missed slots were reported, {} counted", counters.missed));
        }
    }
    report.extend(trace.faults.iter().cloned());
    report
}

struct Script<'a> {
    scenario: &'a Scenario,
    trace: &'a Trace,
    /// When the timer was started, or may have been: nobody listened to the answer.
    starts: Vec<Span>,
}

fn starts(scenario: &Scenario, trace: &Trace) -> Vec<Span> {
    let commands = scenario.commands.iter().filter(|command| may_start(command, trace));
    scenario.autostart.then_some(Span::ZERO).into_iter().chain(commands.map(|command| command.at)).collect()
}

fn may_start(command: &Command, trace: &Trace) -> bool {
    let answer = command.name.as_ref().and_then(|name| trace.answers.get(name));
    command.action == Do::Start && answer.is_none_or(|answer| answer.got == Got::Ok)
}

impl Script<'_> {
    /// Whether it may have been started after the one run and before the other. Commands come before runs.
    fn starts_between(&self, before: Span, run: Span) -> bool {
        self.starts.iter().any(|start| before < *start && *start <= run)
    }

    /// No slot is taken twice, and whatever lies between two slots was told as dropped.
    fn slots(&self) -> Vec<String> {
        let timer = &self.scenario.timer;
        let mut report = Vec::new();
        let (mut next, mut before): (Option<u64>, Option<&Run>) = (None, None);
        for run in &self.trace.runs {
            match before {
                // It has the first slot that was not dropped, if there is one start that it can be of.
                None => {
                    let starts = self.starts.iter().filter(|start| **start <= run.at);
                    next = (starts.count() == 1).then_some(0);
                }
                Some(before) if self.starts_between(before.at, run.at) => next = None,
                Some(_) => {}
            }
            next = next.map(|next| next + run.missed);
            let keeps = run.cause == Cause::Trigger && timer.keep_phase && timer.mode == Mode::FixedRate;
            let wanted = if run.cause == Cause::Retry { before.map(|before| before.slot) } else { next };
            if let Some(wanted) = wanted.filter(|wanted| *wanted != run.slot) {
                report.push(format!("slot {wanted} was to come, and not this: {}", describe(run)));
            }
            if run.cause != Cause::Retry && !keeps {
                next = Some(run.slot + 1);
            }
            before = Some(run);
        }
        report
    }

    /// Once the timer was told to stop, by a command or a run, no run begins before it may have been started again.
    fn runs_after_stops(&self) -> Vec<String> {
        let mut stops: Vec<(Span, Option<Span>)> = Vec::new();
        let mut detached = false;
        for (number, command) in self.scenario.commands.iter().enumerate() {
            detached |= command.action == Do::Detach;
            let stops_it = matches!(command.action, Do::Cancel | Do::Shutdown(_));
            if stops_it || command.action == Do::DropHandle && !detached {
                let mut later = self.scenario.commands[number..].iter();
                let start = later.find(|command| may_start(command, self.trace));
                stops.push((command.at, start.map(|start| start.at)));
            }
        }
        let breaks = |run: &&Run| {
            let after = |(stop, start): &(Span, Option<Span>)| {
                run.at >= *stop && start.is_none_or(|start| run.at < start)
            };
            stops.iter().any(after)
        };
        let mut report: Vec<_> = self.trace.runs.iter().filter(breaks).map(after_a_stop).collect();
        for pair in self.trace.runs.windows(2) {
            let does = &self.scenario.plan(pair[0].number).does;
            let stops = does.iter().any(|action| matches!(action, Do::Cancel | Do::Shutdown(_)));
            if stops && !self.starts_between(pair[0].at, pair[1].at) {
                report.push(after_a_stop(&pair[1]));
            }
        }
        report
    }

    /// Each start ends once at most, and nothing runs between an end and a start.
    fn ends(&self) -> Vec<String> {
        let Some(ends) = &self.trace.ended else { return Vec::new() };
        let mut report = Vec::new();
        if ends.len() > self.starts.len() {
            report.push(format!("{} starts ended {} times: {ends:?}", self.starts.len(), ends.len()));
        }
        for end in ends {
            let next = self.trace.runs.iter().find(|run| run.at > end.at);
            let is_start = |run: &&Run| self.starts.iter().any(|start| (end.at..=run.at).contains(start));
            if let Some(run) = next.filter(|run| !is_start(run)) {
                report.push(format!("after the end at {}: {}", end.at, describe(run)));
            }
        }
        if let Some(run) = self.trace.runs.last().filter(|run| self.is_over() && run.end.is_none()) {
            report.push(format!("it has ended, and this run has not: {}", describe(run)));
        }
        report
    }

    /// Whether the timer has certainly ended, and for good.
    fn is_over(&self) -> bool {
        self.trace.ended.as_ref().is_some_and(|ends| !ends.is_empty() && ends.len() == self.starts.len())
    }

    /// Whoever waits is answered: at the end of its patience, by a stop, or when the timer has ended.
    fn waits(&self) -> Vec<String> {
        let commands = &self.scenario.commands;
        let forgotten: BTreeSet<_> = commands.iter().filter_map(Command::forgets).collect();
        let stalls = commands.iter().filter_map(Command::stalls).fold(Span::ZERO, Span::plus);
        let mut report = Vec::new();
        for command in commands {
            let Some(name) = command.name.as_ref().filter(|_| command.action.can_wait()) else { continue };
            if let Some(answer) = self.trace.answers.get(name) {
                if answer.at < command.at {
                    report.push(format!("`{name}` was answered at {}, before it was asked", answer.at));
                }
                continue;
            }
            let stop = match command.action {
                Do::Cancel => Some(Span::ZERO),
                Do::Shutdown(grace) => Some(grace),
                _ => None,
            };
            let limits = [stop, command.timeout].into_iter().flatten();
            let latest = limits.min().map(|limit| command.at.plus(limit).plus(stalls));
            let is_due = latest.is_some_and(|latest| latest < self.scenario.watch);
            let about_feeds = matches!(command.action, Do::Next(_));
            if (is_due || self.is_over() && !about_feeds) && !forgotten.contains(name) {
                report.push(format!("`{name}` was never answered"));
            }
        }
        report
    }
}

fn after_a_stop(run: &Run) -> String {
    format!("after a stop: {}", describe(run))
}

impl Command {
    fn forgets(&self) -> Option<&String> {
        match &self.action {
            Do::Forget(name) => Some(name),
            _ => None,
        }
    }

    fn stalls(&self) -> Option<Span> {
        match self.action {
            Do::Stall(span) => Some(span),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect::{Ended, Reason};
    use crate::{CoreSubject, Subject, parse};

    /// Is stopped twice: by a command, and by a run after another start.
    const STORY: &str = r#"{
        "about": "Two starts and two stops.",
        "scenarios": [{
            "name": "two", "clauses": ["L4"], "why": "It runs on.",
            "timer": { "mode": "fixed_rate", "period": "10ms" },
            "runs": { "1": { "takes": "25ms" }, "5": { "does": ["cancel"] } },
            "commands": [
                { "at": "5ms", "do": { "wait_hits": 9 }, "as": "patient", "timeout": "3ms" },
                { "at": "45ms", "do": { "shutdown": "1ms" }, "as": "stopped" },
                { "at": "60ms", "do": "start" },
                { "at": "62ms", "do": "wait", "as": "waited" }
            ],
            "watch": "99ms",
            "expect": { "answers": { "patient": null, "stopped": null, "waited": null } }
        }]
    }"#;

    fn faults(distort: impl FnOnce(&mut Trace)) -> String {
        let scenario = parse(STORY).unwrap().scenarios.remove(0);
        let mut trace = CoreSubject { restless: false }.play(&scenario);
        assert_eq!((trace.runs.len(), trace.ended.as_ref().map(Vec::len)), (5, Some(2)));
        distort(&mut trace);
        check_always(&scenario, &trace).join("\n")
    }

    /// Another run, and how it came.
    fn add(trace: &mut Trace, at: u64, slot: u64) {
        let at = Span::MILLISECOND.times(at);
        let number = trace.runs.len() as u64 + 1;
        trace.runs.push(Run { number, slot, at, scheduled: at, hits: None, ..trace.runs[1] });
    }

    #[test]
    fn every_distortion_is_noticed_without_an_expectation() {
        assert_eq!(faults(|_| {}), "");
        assert!(faults(|trace| trace.runs[1].slot = 2).contains("slot 3 was to come"));
        assert!(faults(|trace| trace.runs[1].missed = 1).contains("slot 2 was to come"));
        assert!(faults(|trace| trace.runs[4].missed = 9).contains("told of 11 dropped slots, but 2"));
        assert!(faults(|trace| add(trace, 80, 2)).contains("after a stop: run 6"));
        let late = |trace: &mut Trace| {
            trace.runs.truncate(3);
            add(trace, 50, 5);
        };
        assert!(faults(late).contains("after a stop: run 4  slot 5  at 50ms"));
        assert!(faults(late).contains("after the end at 45ms: run 4"));
        let end = Ended { at: Span::ZERO, reason: Reason::Until };
        assert!(faults(|trace| trace.ended.iter_mut().for_each(|ends| ends.push(end))).contains("3 times"));
        assert!(faults(|trace| trace.runs[4].end = None).contains("and this run has not"));
        for name in ["patient", "stopped", "waited"] {
            let text = faults(|trace| _ = trace.answers.remove(name));
            assert!(text.contains(&format!("`{name}` was never answered")), "{text}");
        }
        let hurry = |trace: &mut Trace| trace.answers.values_mut().for_each(|given| given.at = Span::ZERO);
        assert!(faults(hurry).contains("before it was asked"));
    }
}
