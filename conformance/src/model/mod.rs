//! A second opinion: what a scenario has to come to, worked out from the clauses in the plainest way there
//! is. It walks from event to event and from slot to slot, and shares nothing with the core.

mod commands;
mod company;
mod desk;
mod jitter;
mod queue;
mod slots;

use std::fmt;

use crate::expect::{Cause, Counters, Ended, FailureKind, Reason};
use crate::scenario::{
    BackoffSpec, Command, Fraction, OnErrorSpec, Returns, RunPlan, Scenario, TargetSpec, TimerSpec,
};
use crate::span::Span;
use crate::trace::{Run, RunEnd, Trace};
use desk::Desk;
use slots::{During, Slots};

pub use company::foresee;
pub use queue::compare_queue;

/// More runs than anybody wants to walk over.
const MOST_RUNS: usize = 1_000_000;

/// Why there is no prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpredictable {
    /// There are too many slots for somebody who walks.
    TooLong,
    /// It depends on an order that is left to the driver.
    Order(&'static str),
}

impl fmt::Display for Unpredictable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "there are too many slots to walk over",
            Self::Order(what) => what,
        })
    }
}

/// Works out what a scenario has to come to for a driver whose clock has this grain: what is due in between begins
/// later. What the scenario expects is not looked at.
///
/// # Errors
/// That cannot be said, or not in a reasonable time.
pub fn predict(scenario: &Scenario, grain: Span) -> Result<Trace, Unpredictable> {
    if let Some(field) = refused(&scenario.timer) {
        return Ok(Trace { refused: Some(field.to_owned()), ..Trace::default() });
    }
    let mut model = Model::new(scenario, grain);
    model.play()?;
    Ok(model.trace())
}

/// The field of the configuration that is refused.
fn refused(spec: &TimerSpec) -> Option<&'static str> {
    let exceeds = |Fraction { numerator, denominator }: Fraction| numerator > denominator;
    let shrinks = |Fraction { numerator, denominator }: Fraction| numerator < denominator;
    match spec.on_error {
        OnErrorSpec::Backoff(BackoffSpec { first, .. }) if first == Span::ZERO => Some("backoff.first"),
        OnErrorSpec::Backoff(backoff) if backoff.factor.is_some_and(shrinks) => Some("backoff.factor"),
        OnErrorSpec::Backoff(BackoffSpec { first, max, .. }) if max < first => Some("backoff.max"),
        _ if spec.max_runs == Some(0) => Some("max_runs"),
        _ if spec.run_timeout == Some(Span::ZERO) => Some("run_timeout"),
        _ if spec.jitter.is_some_and(|jitter| exceeds(jitter.fraction)) => Some("jitter"),
        _ => None,
    }
}

struct Model<'a> {
    scenario: &'a Scenario,
    grain: Span,
    now: Span,
    commands: std::slice::Iter<'a, Command>,
    condition: Option<Span>,
    detached: bool,
    /// Whether it may not be started any more.
    closed: bool,
    /// It is a call that is made once: nobody starts it again.
    single_use: bool,
    /// What goes on between a start and its end.
    life: Option<Life<'a>>,
    /// How the last life ended.
    ended: Option<(Reason, Option<FailureKind>)>,
    slots: Slots<'a>,
    desk: Desk,
    runs: Vec<Run>,
    ends: Vec<Ended>,
    /// That a stall has just ended.
    stalled: bool,
    order: Option<&'static str>,
}

#[derive(Default)]
struct Life<'a> {
    paused: bool,
    until: Option<Span>,
    runs: u64,
    /// What is left of them, if there are any.
    items: Option<u64>,
    /// When a run was asked for.
    trigger: Option<Span>,
    /// The slot of the run that failed, and when it is due again.
    retry: Option<(u64, Span)>,
    /// The last wait for a retry.
    backoff: Option<Span>,
    flight: Option<Flight<'a>>,
    stop: Option<Stop>,
}

/// The run in flight.
#[derive(Clone, Copy)]
struct Flight<'a> {
    number: u64,
    slot: u64,
    plan: &'a RunPlan,
    ends: Span,
    limit: Option<Span>,
}

/// No further run starts. The one in flight is given up at the end of the grace.
struct Stop {
    reason: Reason,
    grace: Span,
    /// Whether there was none left when that was asked for.
    expired: bool,
}

impl<'a> Model<'a> {
    fn new(scenario: &'a Scenario, grain: Span) -> Self {
        Self {
            scenario,
            grain,
            now: Span::ZERO,
            commands: scenario.commands.iter(),
            condition: scenario.timer.stop_when,
            detached: false,
            closed: false,
            single_use: false,
            life: None,
            ended: None,
            slots: Slots::new(&scenario.timer),
            desk: Desk::default(),
            runs: Vec::new(),
            ends: Vec::new(),
            stalled: false,
            order: None,
        }
    }

    fn play(&mut self) -> Result<(), Unpredictable> {
        if self.scenario.autostart {
            self.start();
        }
        self.walk(self.scenario.watch)
    }

    /// Goes on to everything that happens before this time.
    fn walk(&mut self, until: Span) -> Result<(), Unpredictable> {
        while let Some(next) = self.next_event().filter(|next| *next < until) {
            self.move_to(self.now.max(next));
            self.give_commands();
            self.step()?;
        }
        Ok(())
    }

    /// One turn, if what comes of it can be said.
    fn step(&mut self) -> Result<(), Unpredictable> {
        let hits = self.desk.hits;
        self.turn();
        let expired = self.desk.expire();
        if expired && self.desk.hits != hits {
            self.order = Some("a run that ends at the end of a timeout");
        }
        if self.slots.is_too_long() || self.runs.len() > MOST_RUNS {
            return Err(Unpredictable::TooLong);
        }
        if self.slots.undecided {
            return Err(Unpredictable::Order("slots that jitter has moved into others"));
        }
        if self.desk.photo_finish {
            return Err(Unpredictable::Order("an answer at the end of its timeout"));
        }
        if let Some(order) = self.order {
            return Err(Unpredictable::Order(order));
        }
        Ok(())
    }

    fn trace(&self) -> Trace {
        let Slots { skipped, missed, .. } = self.slots;
        let Desk { hits, failures, .. } = self.desk;
        Trace {
            runs: self.runs.clone(),
            ended: Some(self.ends.clone()),
            counters: Some(Counters { hits, failures, skipped, missed }),
            failures_told: Some(failures),
            batches: Some(self.slots.batches.clone()),
            feeds: self.desk.feeds(),
            answers: self.desk.answers.clone(),
            ..Trace::default()
        }
    }

    fn next_event(&self) -> Option<Span> {
        let command = self.commands.as_slice().first().map(|command| command.at);
        let life = self.life.as_ref().map(|life| {
            let flight = life.flight.map(|flight| flight.ends.min(flight.limit.unwrap_or(Span::NEVER)));
            let stop = life.stop.as_ref().map(|stop| stop.grace);
            let running = stop.is_none();
            let condition = self.condition.filter(|_| running);
            let until = life.until.filter(|_| running && !self.is_in_other_hands(life));
            let due = self.next_due().map(|due| due.up_to(self.grain));
            [flight, stop, condition, until, due].into_iter().flatten().min()
        });
        [command, life.flatten(), self.desk.next_deadline()].into_iter().flatten().min()
    }

    /// When the next run is due.
    fn next_due(&self) -> Option<Span> {
        let life = self.life.as_ref().filter(|life| life.flight.is_none() && life.stop.is_none())?;
        let scheduled = || life.retry.map_or(self.slots.upcoming().due, |(_, due)| due);
        life.trigger.or_else(|| (!life.paused).then(scheduled))
    }

    /// Whether the timer is a schedule whose consumer is busy with a tick: nobody looks at the time meanwhile.
    fn is_in_other_hands(&self, life: &Life<'_>) -> bool {
        self.scenario.timer.target == TargetSpec::Ticks && life.flight.is_some()
    }

    fn move_to(&mut self, now: Span) {
        self.now = now;
        self.desk.now = now;
    }

    /// All that is to be done at this time, in the order of the README.
    fn turn(&mut self) {
        self.note_order();
        while !self.slots.is_too_long() && self.runs.len() <= MOST_RUNS && self.order.is_none() {
            if self.life.is_some() && self.condition.is_some_and(|at| at <= self.now) {
                self.condition = None;
                self.stop_unless_stopping(Reason::Condition);
            }
            let Some(life) = &self.life else { return };
            if life.until.is_some_and(|until| until <= self.now) && !self.is_in_other_hands(life) {
                self.stop_unless_stopping(Reason::Until);
            }
            let Some(life) = &self.life else { return };
            match (life.flight, &life.stop) {
                (None, Some(stop)) => {
                    let reason = stop.reason;
                    self.end(reason, None);
                }
                (Some(flight), Some(stop)) if stop.grace <= self.now => {
                    let cancelled = stop.reason == Reason::Cancelled;
                    let reason = if cancelled { Reason::Cancelled } else { Reason::GraceExpired };
                    self.give_up(flight);
                    self.end(reason, None);
                }
                (Some(flight), _) if flight.limit.is_some_and(|limit| limit <= self.now) => {
                    self.give_up(flight);
                    self.fail(flight, FailureKind::TimedOut);
                }
                (Some(flight), _) if flight.ends <= self.now => self.land(flight),
                (None, None) if self.next_due().is_some_and(|due| due <= self.now) => self.begin(),
                _ => return,
            }
        }
    }

    fn stop_unless_stopping(&mut self, reason: Reason) {
        if self.life.as_ref().is_some_and(|life| life.stop.is_none()) {
            self.stop(reason, Span::NEVER);
        }
    }

    /// After a stall it is left to the driver which of several things it notices first.
    fn note_order(&mut self) {
        let Some(life) = self.life.as_ref().filter(|_| std::mem::take(&mut self.stalled)) else { return };
        let limit = life.flight.and_then(|flight| flight.limit);
        let stop = life.stop.as_ref().map(|stop| stop.grace);
        let tick = self.next_due().filter(|_| self.condition.is_some_and(|at| at <= self.now));
        let ends = life.flight.map(|flight| flight.ends);
        let events = [self.condition, life.until, stop, limit, ends, tick];
        if events.into_iter().flatten().filter(|at| *at <= self.now).count() > 1 {
            self.order = Some("several things happen during a stall");
        }
    }

    fn begin(&mut self) {
        let now = self.now;
        let Some(life) = &mut self.life else { return };
        let number = self.runs.len() as u64 + 1;
        let (cause, slot, scheduled, missed);
        if let Some(asked) = life.trigger.take() {
            life.retry = None;
            cause = Cause::Trigger;
            scheduled = asked;
            (slot, missed) = self.slots.take_triggered(asked);
        } else if let Some((failed, due)) = life.retry.take() {
            (cause, slot, scheduled) = (Cause::Retry, failed, due);
            self.slots.pass(due, During::Backoff);
            missed = self.slots.tell();
        } else {
            if self.slots.skip_if_too_late(now) {
                return;
            }
            cause = Cause::Schedule;
            let taken;
            (taken, missed) = self.slots.take();
            (slot, scheduled) = (taken.number, taken.due);
        }
        self.slots.report(now);
        self.runs.push(Run {
            number,
            slot,
            at: now,
            scheduled,
            lateness: now.minus(scheduled),
            missed,
            cause,
            hits: Some(self.desk.hits),
            end: None,
        });
        self.run(number, slot);
    }

    fn run(&mut self, number: u64, slot: u64) {
        let Some(life) = &mut self.life else { return };
        let plan = self.scenario.plan(number);
        let limit = self.scenario.timer.run_timeout.map(|limit| self.now.plus(limit));
        let flight = Flight { number, slot, plan, ends: self.now.plus(plan.takes), limit };
        life.runs += 1;
        life.flight = Some(flight);
        let exhausted = life.items == Some(0);
        plan.does.iter().for_each(|action| self.act(action));
        if flight.ends == self.now || exhausted {
            self.land(flight);
        }
    }

    /// A run ends by itself.
    fn land(&mut self, flight: Flight<'a>) {
        let Some(life) = &mut self.life else { return };
        let exhausted = life.items == Some(0);
        life.items = life.items.map(|items| items.saturating_sub(1));
        let grace = life.stop.as_ref().filter(|stop| stop.reason != Reason::Cancelled).map(|stop| stop.grace);
        if [grace, flight.limit].into_iter().flatten().any(|end| end <= self.now) {
            self.order = Some("a run that ends at the end of its time");
        }
        if exhausted {
            let stop = life.stop.as_ref().map(|stop| stop.reason);
            self.end_run(RunEnd::Exhausted);
            return self.end(stop.unwrap_or(Reason::Exhausted), None);
        }
        match flight.plan.returns {
            Returns::Error => self.crash(flight, FailureKind::Error),
            Returns::Panic => self.crash(flight, FailureKind::Panic),
            Returns::Number => self.deliver(flight, flight.number),
            Returns::Value(value) => self.deliver(flight, value),
        }
    }

    fn deliver(&mut self, flight: Flight<'a>, value: u64) {
        self.end_run(RunEnd::Value(value));
        self.desk.deliver(flight.number, value);
        self.life.iter_mut().for_each(|life| life.backoff = None);
        self.go_on(flight, None);
    }

    fn crash(&mut self, flight: Flight<'a>, kind: FailureKind) {
        self.end_run(RunEnd::Failed(kind));
        self.fail(flight, kind);
    }

    fn fail(&mut self, flight: Flight<'a>, kind: FailureKind) {
        self.desk.fail(flight.number, kind);
        let stop = self.life.as_ref().and_then(|life| life.stop.as_ref());
        let cancelled = stop.is_some_and(|stop| stop.reason == Reason::Cancelled);
        match self.scenario.timer.on_error {
            OnErrorSpec::Stop if cancelled => self.end(Reason::Cancelled, None),
            OnErrorSpec::Stop => self.end(Reason::Failed, Some(kind)),
            OnErrorSpec::Continue => self.go_on(flight, None),
            OnErrorSpec::Backoff(spec) => {
                let before = self.life.as_ref().and_then(|life| life.backoff);
                let wait = before.map_or(spec.first, |before| grown(before, &spec));
                self.go_on(flight, Some(wait));
            }
        }
    }

    /// A run is over; what follows it?
    fn go_on(&mut self, flight: Flight<'a>, retry: Option<Span>) {
        let now = self.now;
        let during = self.during();
        let Some(life) = &mut self.life else { return };
        life.flight = None;
        if life.stop.is_some() {
            return;
        }
        if self.scenario.timer.max_runs == Some(life.runs) {
            return self.end(Reason::MaxRuns, None);
        }
        if life.until.is_some_and(|until| until <= now) {
            return self.end(Reason::Until, None);
        }
        if retry.is_some() {
            life.backoff = retry;
        }
        life.retry = retry.map(|wait| (flight.slot, now.plus(wait)));
        life.trigger = life.trigger.map(|_| now);
        let moves = life.trigger.is_some() && !self.scenario.timer.keep_phase;
        let waits = life.trigger.is_none() && retry.is_some();
        self.pass(during);
        if self.slots.is_grid() && (moves || waits) {
            return self.slots.drop_passed(now);
        }
        self.slots.run_ended(now);
    }

    fn give_up(&mut self, flight: Flight<'a>) {
        if flight.ends <= self.now {
            self.order = Some("a run that ends when it is given up");
        }
        self.end_run(RunEnd::GivenUp);
    }

    fn end_run(&mut self, end: RunEnd) {
        let now = self.now;
        self.runs.last_mut().into_iter().for_each(|run| run.end = Some((now, end)));
    }

    fn end(&mut self, reason: Reason, failure: Option<FailureKind>) {
        self.life = None;
        self.ended = Some((reason, failure));
        self.ends.push(Ended { at: self.now, reason });
        self.desk.end(reason, failure);
    }
}

/// The wait after this one.
fn grown(wait: Span, spec: &BackoffSpec) -> Span {
    let Fraction { numerator, denominator } =
        spec.factor.unwrap_or(Fraction { numerator: 2, denominator: 1 });
    Span::from_nanos(wait.times(numerator.into()).as_nanos() / u64::from(denominator)).min(spec.max)
}
