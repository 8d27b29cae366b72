//! The core alone, moved by the plainest driver there can be: a loop with a number for a clock.

mod commands;
pub(crate) mod config;
mod desk;

use everbeat_core::{AbortCause, Instant, Outcome, Output, StopReason, Tick, Timer};

use crate::Subject;
use crate::expect::{Counters, Ended, FailureKind, Reason};
use crate::scenario::{Command, Driver, Returns, RunPlan, Scenario, TargetSpec};
use crate::span::Span;
use crate::trace::{RunEnd, Trace};
use desk::Desk;

/// More turns than any scenario takes. A machine that takes them asks to be woken for nothing.
const MOST_TURNS: u32 = 4_000_000;

/// The core alone.
#[derive(Clone, Copy, Debug)]
pub struct CoreSubject {
    /// Whether it is woken in the middle of every wait, too, and told times that have passed: none of
    /// that may change anything.
    pub restless: bool,
}

impl Subject for CoreSubject {
    fn name(&self) -> String {
        if self.restless { "core, woken needlessly".into() } else { "core".into() }
    }

    fn driver(&self) -> Driver {
        Driver::Core
    }

    fn can_play(&self, scenario: &Scenario) -> bool {
        scenario.timer.target != TargetSpec::Ticks
    }

    fn play(&self, scenario: &Scenario) -> Trace {
        let schedule = match config::schedule(&scenario.timer) {
            Ok(schedule) => schedule,
            Err(error) => return Trace { refused: Some(error.field().to_owned()), ..Trace::default() },
        };
        let mut play = Play::new(scenario, Timer::new(schedule), self.restless);
        play.play();
        play.into_trace()
    }
}

struct Play<'a> {
    scenario: &'a Scenario,
    restless: bool,
    turns: u32,
    timer: Timer,
    now: Instant,
    commands: std::slice::Iter<'a, Command>,
    flight: Option<Flight<'a>>,
    /// When the stop condition comes true.
    condition: Option<Instant>,
    /// How many items the target has left, if it has any.
    items: Option<u64>,
    detached: bool,
    desk: Desk,
    trace: Trace,
}

/// The run in flight.
struct Flight<'a> {
    tick: Tick,
    plan: &'a RunPlan,
    ends: Instant,
}

impl<'a> Play<'a> {
    fn new(scenario: &'a Scenario, timer: Timer, restless: bool) -> Self {
        Self {
            scenario,
            restless,
            turns: 0,
            timer,
            now: Instant::ORIGIN,
            commands: scenario.commands.iter(),
            flight: None,
            condition: scenario.timer.stop_when.map(Span::to_instant),
            items: None,
            detached: false,
            desk: Desk::default(),
            trace: Trace {
                ended: Some(Vec::new()),
                failures_told: Some(0),
                batches: Some(Vec::new()),
                ..Trace::default()
            },
        }
    }

    fn play(&mut self) {
        if self.scenario.autostart {
            self.start();
        }
        let end = self.scenario.watch.to_instant();
        while let Some(next) = self.next_event().filter(|next| *next < end) {
            if !self.may_go_on() {
                return;
            }
            if self.restless {
                self.wake_needlessly(next);
            }
            self.move_to(self.now.max(next));
            self.give_commands();
            self.settle();
            self.desk.expire();
        }
    }

    /// Counts a turn. Too many, and the play is given up.
    fn may_go_on(&mut self) -> bool {
        self.turns += 1;
        if self.turns == MOST_TURNS {
            self.trace.faults.push(format!("at {} there was always more to do", Span::from(self.now)));
        }
        self.turns < MOST_TURNS
    }

    fn into_trace(mut self) -> Trace {
        let skipped = self.timer.skipped();
        let Desk { hits, failures, .. } = self.desk;
        let counters = Counters { hits, failures, skipped: skipped.into(), missed: skipped.missed };
        Trace {
            counters: Some(counters),
            feeds: self.desk.leave_feeds(),
            answers: self.desk.answers,
            ..self.trace
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let command = self.commands.as_slice().first().map(|command| command.at.to_instant());
        let flight = self.flight.as_ref().map(|flight| flight.ends);
        let condition = self.condition.filter(|_| self.timer.accepts_triggers());
        let patience = self.desk.next_deadline().map(Span::to_instant);
        [command, flight, condition, patience, self.timer.poll_timeout()].into_iter().flatten().min()
    }

    fn move_to(&mut self, now: Instant) {
        self.now = now;
        self.desk.now = now.into();
    }

    fn wake_needlessly(&mut self, next: Instant) {
        let half = next.saturating_since(self.now) / 2;
        if !half.is_zero() {
            self.move_to(self.now + half);
            self.timer.handle_timeout(self.now);
            self.timer.handle_timeout(Instant::ORIGIN);
            self.poll_outputs();
        }
    }

    fn give_commands(&mut self) {
        while let Some(command) = self.commands.as_slice().first() {
            if command.at.to_instant() > self.now {
                return;
            }
            self.commands.next();
            self.give(command);
        }
    }

    /// Does all that is to be done at this time.
    fn settle(&mut self) {
        loop {
            if self.condition.is_some_and(|at| at <= self.now) && self.timer.is_running() {
                self.condition = None;
                self.timer.drain(self.now, StopReason::Condition, std::time::Duration::MAX);
            }
            self.timer.handle_timeout(self.now);
            self.poll_outputs();
            match self.flight.take_if(|flight| flight.ends <= self.now) {
                Some(flight) => self.land(&flight),
                None => return,
            }
        }
    }

    fn poll_outputs(&mut self) {
        while let Some(output) = self.timer.poll_output(self.now).filter(|_| self.may_go_on()) {
            match output {
                Output::Run(tick) => self.begin(tick),
                Output::Abort(cause) => self.abort(cause),
                Output::Missed(batch) => self.trace.batches.get_or_insert_default().push(batch.into()),
                Output::Stopped(reason) => self.stopped(reason.into()),
                output => self.trace.faults.push(format!("an unknown output: {output:?}")),
            }
        }
    }

    fn begin(&mut self, tick: Tick) {
        if !self.trace.begin(&tick, self.now.into(), Some(self.desk.hits)) {
            self.timer.cancel(self.now);
        }
        let plan = self.scenario.plan(tick.run);
        plan.does.iter().for_each(|action| self.act(action));
        let ends = self.now + plan.takes.to_duration();
        let flight = Flight { tick, plan, ends };
        if ends == self.now || self.is_exhausted() {
            self.land(&flight);
        } else {
            self.flight = Some(flight);
        }
    }

    fn is_exhausted(&self) -> bool {
        self.items == Some(0)
    }

    /// A run ends by itself.
    fn land(&mut self, flight: &Flight<'_>) {
        if self.is_exhausted() {
            return self.end_run(flight, RunEnd::Exhausted);
        }
        self.items = self.items.map(|items| items.saturating_sub(1));
        let end = match flight.plan.returns {
            Returns::Number => RunEnd::Value(flight.tick.run),
            Returns::Value(value) => RunEnd::Value(value),
            Returns::Error => RunEnd::Failed(FailureKind::Error),
            Returns::Panic => RunEnd::Failed(FailureKind::Panic),
        };
        self.end_run(flight, end);
    }

    fn end_run(&mut self, flight: &Flight<'_>, end: RunEnd) {
        self.trace.end(self.now.into(), end);
        match end {
            RunEnd::Value(value) => {
                self.timer.handle_finished(self.now, Outcome::Success);
                self.desk.deliver(flight.tick.run, value);
            }
            RunEnd::Failed(kind) => self.fail(flight, kind),
            RunEnd::Exhausted => self.timer.handle_finished(self.now, Outcome::Exhausted),
            RunEnd::GivenUp => self.timer.handle_finished(self.now, Outcome::Aborted),
        }
    }

    fn fail(&mut self, flight: &Flight<'_>, kind: FailureKind) {
        self.trace.failures_told.iter_mut().for_each(|told| *told += 1);
        self.timer.handle_finished(self.now, Outcome::Failure);
        let fatal = self.timer.stop_reason() == Some(StopReason::Failed);
        self.desk.fail(flight.tick.run, kind, fatal);
    }

    fn abort(&mut self, cause: AbortCause) {
        let Some(flight) = self.flight.take() else { return };
        if flight.ends <= self.now {
            let number = flight.tick.run;
            self.trace
                .left_open
                .push(format!("run {number} ends when it is given up: the order is left to the driver"));
        }
        if cause != AbortCause::TimedOut {
            return self.end_run(&flight, RunEnd::GivenUp);
        }
        self.trace.end(self.now.into(), RunEnd::GivenUp);
        self.fail(&flight, FailureKind::TimedOut);
    }

    fn stopped(&mut self, reason: Reason) {
        self.trace.ended.iter_mut().for_each(|ended| ended.push(Ended { at: self.now.into(), reason }));
        self.timer.handle_closed();
        self.desk.end(reason);
    }
}
