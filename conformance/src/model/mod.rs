//! A second opinion: what a scenario has to come to, worked out from the clauses in the plainest way there
//! is. It walks from event to event and from slot to slot, and shares nothing with the core.

mod desk;
mod slots;

use std::fmt;

use crate::expect::{Cause, Counters, Ended, FailureKind, Got, Look, Reason};
use crate::scenario::{
    BackoffSpec, Command, Do, Fraction, OnErrorSpec, Returns, RunPlan, Scenario, TargetSpec, TimerSpec,
};
use crate::span::Span;
use crate::trace::{Run, RunEnd, Trace};
use desk::{Desk, Want, at_the_end};
use slots::{During, Slots};

/// More runs than anybody wants to walk over.
const MOST_RUNS: usize = 1_000_000;

/// Why there is no prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpredictable {
    /// Jitter is drawn, and the model has no draws.
    Draws,
    /// There are too many slots for somebody who walks.
    TooLong,
    /// It depends on an order that is left to the driver.
    Order(&'static str),
}

impl fmt::Display for Unpredictable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Draws => "jitter is drawn",
            Self::TooLong => "there are too many slots to walk over",
            Self::Order(what) => what,
        })
    }
}

/// Works out what a scenario has to come to. What it expects is not looked at.
///
/// # Errors
/// That cannot be said, or not in a reasonable time.
pub fn predict(scenario: &Scenario) -> Result<Trace, Unpredictable> {
    if let Some(field) = refused(&scenario.timer) {
        return Ok(Trace { refused: Some(field.to_owned()), ..Trace::default() });
    }
    if scenario.timer.jitter.is_some_and(|jitter| jitter.fraction.numerator > 0) {
        return Err(Unpredictable::Draws);
    }
    let mut model = Model::new(scenario);
    model.play()?;
    Ok(model.into_trace())
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
    now: Span,
    commands: std::slice::Iter<'a, Command>,
    condition: Option<Span>,
    detached: bool,
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
    items: u64,
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
}

impl<'a> Model<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        Self {
            scenario,
            now: Span::ZERO,
            commands: scenario.commands.iter(),
            condition: scenario.timer.stop_when,
            detached: false,
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
        while let Some(next) = self.next_event().filter(|next| *next < self.scenario.watch) {
            self.move_to(self.now.max(next));
            self.give_commands();
            let hits = self.desk.hits;
            self.turn();
            let expired = self.desk.expire();
            if expired && self.desk.hits != hits {
                self.order = Some("a run that ends at the end of a timeout");
            }
            if self.slots.is_too_long() || self.runs.len() > MOST_RUNS {
                return Err(Unpredictable::TooLong);
            }
            if self.desk.photo_finish {
                return Err(Unpredictable::Order("an answer at the end of its timeout"));
            }
            if let Some(order) = self.order {
                return Err(Unpredictable::Order(order));
            }
        }
        Ok(())
    }

    fn into_trace(self) -> Trace {
        let Slots { skipped, missed, batches, .. } = self.slots;
        let Desk { hits, failures, .. } = self.desk;
        Trace {
            runs: self.runs,
            ended: self.ends,
            counters: Some(Counters { hits, failures, skipped, missed }),
            failures_told: failures,
            batches: Some(batches),
            feeds: self.desk.feeds(),
            answers: self.desk.answers,
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
            let until = life.until.filter(|_| running);
            [flight, stop, condition, until, self.next_due()].into_iter().flatten().min()
        });
        [command, life.flatten(), self.desk.next_deadline()].into_iter().flatten().min()
    }

    /// When the next run is due.
    fn next_due(&self) -> Option<Span> {
        let life = self.life.as_ref().filter(|life| life.flight.is_none() && life.stop.is_none())?;
        let scheduled = || life.retry.map_or(self.slots.upcoming().due, |(_, due)| due);
        life.trigger.or_else(|| (!life.paused).then(scheduled))
    }

    fn move_to(&mut self, now: Span) {
        self.now = now;
        self.desk.now = now;
    }

    fn give_commands(&mut self) {
        while let Some(command) = self.commands.as_slice().first().filter(|command| command.at <= self.now) {
            self.commands.next();
            self.give(command);
        }
    }

    fn give(&mut self, command: &Command) {
        let name = command.name.as_deref();
        let got = match &command.action {
            Do::Start => self.start(),
            Do::Look => Got::Look(self.look()),
            Do::Subscribe(spec) => {
                let ended = self.ended.filter(|_| self.life.is_none());
                self.desk.subscribe(spec, ended.map(|(_, failure)| failure))
            }
            Do::Read(feed) => self.desk.read(feed),
            Do::Next(feed) => {
                self.desk.wait(name.unwrap_or_default(), Want::Item(feed.clone()), command.timeout);
                return self.desk.serve();
            }
            Do::DropOldest(spec) => return self.desk.drop_oldest(&spec.feed, spec.count),
            Do::CloseFeed(feed) => return self.desk.close(feed),
            Do::DropFeed(feed) => return self.desk.drop_feed(feed),
            Do::Forget(name) => return self.desk.forget(name),
            Do::Stall(span) => {
                self.stalled = true;
                return self.move_to(self.now.plus(*span));
            }
            Do::Detach => return self.detached = true,
            Do::DropHandle => {
                if !self.detached {
                    self.stop(Reason::Dropped, Span::NEVER);
                }
                return;
            }
            action => {
                // What there is to wait for is known before the command changes it.
                let waiting = name.map(|_| self.request(action));
                self.act(action);
                if let (Some(name), Some(waiting)) = (name, waiting) {
                    match waiting {
                        Ok(want) => self.desk.wait(name, want, command.timeout),
                        Err(got) => self.desk.answer(name, got),
                    }
                }
                return;
            }
        };
        if let Some(name) = name {
            self.desk.answer(name, got);
        }
    }

    fn start(&mut self) -> Got {
        let timer = &self.scenario.timer;
        if self.life.is_some() {
            return Got::AlreadyRunning;
        }
        if self.ended.is_some() && timer.stop_when.is_some() {
            return Got::Restart;
        }
        let items = match timer.target {
            TargetSpec::Iterator(items) | TargetSpec::Stream(items) => items,
            TargetSpec::Call => 0,
        };
        let until = timer.until.or(timer.run_for.map(|span| self.now.plus(span)));
        self.life = Some(Life { until, items, ..Life::default() });
        self.slots.start(self.now);
        Got::Ok
    }

    /// What somebody who gives this command waits for, or what it is answered at once.
    fn request(&self, action: &Do) -> Result<Want, Got> {
        let begun = self.runs.len() as u64;
        let busy = self.life.as_ref().is_some_and(|life| life.flight.is_some());
        let stopping = self.life.as_ref().is_none_or(|life| life.stop.is_some());
        let want = match action {
            Do::Trigger if stopping => return Err(self.not_running()),
            Do::Trigger => Want::Run(begun + 1),
            Do::Join if self.life.is_none() => return Err(self.not_running()),
            Do::Join => Want::Run(begun + u64::from(!busy)),
            Do::WaitHits(count) => Want::Hits(*count),
            Do::WaitMore(count) => Want::Hits(self.desk.hits + count),
            Do::Wait => Want::End,
            Do::Cancel => Want::Cancelled,
            _ => Want::ShutDown,
        };
        match (&want, self.ended) {
            (Want::Hits(count), _) if *count <= self.desk.hits => Err(Got::Ok),
            _ if self.life.is_some() => Ok(want),
            (Want::Cancelled | Want::ShutDown, ended) => {
                let (reason, failure) = ended.unwrap_or((Reason::Drained, None));
                Err(at_the_end(&want, reason, failure).unwrap_or(Got::NotRunning))
            }
            (_, Some((reason, failure))) => {
                Err(at_the_end(&want, reason, failure).unwrap_or(Got::NotRunning))
            }
            (_, None) => Err(Got::NotRunning),
        }
    }

    fn not_running(&self) -> Got {
        let failure = self.ended.filter(|_| self.life.is_none()).and_then(|(_, failure)| failure);
        failure.map_or(Got::NotRunning, Got::Failed)
    }

    fn look(&self) -> Look {
        let life = self.life.as_ref();
        let paused = life.is_some_and(|life| life.paused);
        Look {
            running: Some(life.is_some()),
            busy: Some(life.is_some_and(|life| life.flight.is_some())),
            paused: Some(paused),
            hits: Some(self.desk.hits),
            latest: Some(self.desk.latest),
            next_due: Some(self.next_due().filter(|due| !paused && *due < Span::NEVER)),
        }
    }

    /// What can also be done by a run.
    fn act(&mut self, action: &Do) {
        let now = self.now;
        match action {
            Do::SetPeriod(period) => self.set_period(*period, false),
            Do::Rearm(period) => self.set_period(*period, true),
            Do::Cancel => self.stop(Reason::Cancelled, now),
            Do::Shutdown(grace) => self.stop(Reason::Drained, now.plus(*grace)),
            _ => {
                let during = self.during();
                let Some(life) = &mut self.life else { return };
                match action {
                    Do::Resume if life.stop.is_some() => life.paused = false,
                    Do::Pause if life.stop.is_some() => life.paused = life.flight.is_some(),
                    _ if life.stop.is_some() => {}
                    Do::Trigger if life.flight.is_some() || life.trigger.is_some() => {
                        life.trigger = life.trigger.or(Some(now));
                    }
                    Do::Trigger => {
                        let waited = life.retry.take().is_none() && life.paused;
                        life.trigger = Some(now);
                        self.pass(during);
                        if waited && !self.slots.is_grid() && self.slots.upcoming().due < now {
                            self.slots.lose_wait(now);
                        }
                    }
                    Do::Pause if !life.paused => {
                        self.pass(during);
                        self.slots.drop_passed(now);
                        self.life.iter_mut().for_each(|life| life.paused = true);
                    }
                    Do::Resume if life.paused => {
                        self.pass(during);
                        self.resume();
                    }
                    _ => {}
                }
            }
        }
    }

    fn resume(&mut self) {
        let Some(life) = &mut self.life else { return };
        life.paused = false;
        if life.flight.is_none() && life.retry.is_none() && life.trigger.is_none() {
            self.slots.resume(self.now);
        }
    }

    /// What slots pass during, if the timer does not just wait for the next one.
    fn during(&self) -> Option<During> {
        let life = self.life.as_ref().filter(|life| life.stop.is_none())?;
        let busy = life.flight.map(|_| During::Run);
        let paused = life.paused.then_some(During::Pause);
        paused.or(busy).or(life.retry.map(|_| During::Backoff))
    }

    fn pass(&mut self, during: Option<During>) {
        if let Some(during) = during {
            self.slots.pass(self.now, during);
        }
    }

    fn set_period(&mut self, period: Span, rearm: bool) {
        if self.life.as_ref().is_none_or(|life| life.stop.is_some()) {
            self.slots.period = period;
            return;
        }
        let during = self.during();
        self.pass(during);
        self.slots.drop_passed(self.now);
        // No slot is waited for during a run and before a retry.
        let waits = |life: &Life<'_>| life.flight.is_none() && life.retry.is_none();
        let moves = rearm || !self.life.as_ref().is_some_and(waits);
        self.slots.set_period(self.now, period, moves);
    }

    /// No further run starts. The first reason counts; the least patient grace counts.
    fn stop(&mut self, reason: Reason, grace: Span) {
        let Some(life) = &mut self.life else { return };
        if life.flight.is_none() && life.stop.is_some() {
            return; // nothing is left to change
        }
        life.trigger = None;
        life.paused &= life.flight.is_some();
        let stop = life.stop.get_or_insert(Stop { reason, grace });
        stop.grace = stop.grace.min(grace);
        if reason == Reason::Cancelled {
            stop.reason = reason;
        }
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
            if life.until.is_some_and(|until| until <= self.now) {
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
            hits: self.desk.hits,
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
        let exhausted = life.items == 0 && self.scenario.timer.target != TargetSpec::Call;
        plan.does.iter().for_each(|action| self.act(action));
        if flight.ends == self.now || exhausted {
            self.land(flight);
        }
    }

    /// A run ends by itself.
    fn land(&mut self, flight: Flight<'a>) {
        let Some(life) = &mut self.life else { return };
        let exhausted = life.items == 0 && self.scenario.timer.target != TargetSpec::Call;
        life.items = life.items.saturating_sub(1);
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
