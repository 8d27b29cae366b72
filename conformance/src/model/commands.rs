//! What the commands of a scenario do, and what whoever gives them waits for.

use super::desk::{Want, at_the_end};
use super::slots::During;
use super::{Life, Model, Stop};
use crate::expect::{Got, Look, Reason};
use crate::scenario::{Command, Do, TargetSpec};
use crate::span::Span;
use crate::trace::RunEnd;

impl Model<'_> {
    pub(super) fn give_commands(&mut self) {
        while let Some(command) = self.commands.as_slice().first().filter(|command| command.at <= self.now) {
            self.commands.next();
            self.give(command);
        }
    }

    pub(super) fn give(&mut self, command: &Command) {
        if self.next_due().is_some_and(|due| due < self.now) {
            self.order = Some("a command after a tick was due by the grain of the clock");
        }
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
                let was_started = self.life.is_some() || self.ended.is_some();
                if !was_started {
                    self.desk.end_feeds(None); // nobody can start it any more
                } else if !self.detached {
                    self.stop(Reason::Dropped, Span::NEVER);
                }
                return;
            }
            action => {
                // What there is to wait for is known before the command changes it.
                let waiting = name.map(|_| self.request(action));
                self.act(action);
                if let (Some(name), Some(waiting)) = (name, waiting) {
                    match (waiting, self.ended.filter(|_| self.life.is_none())) {
                        (Ok(want), Some((reason, failure))) => {
                            // It was over at once.
                            let got = at_the_end(&want, reason, failure).unwrap_or(Got::NotRunning);
                            self.desk.answer(name, got);
                        }
                        (Ok(want), None) => self.desk.wait(name, want, command.timeout),
                        (Err(got), _) => self.desk.answer(name, got),
                    }
                }
                return;
            }
        };
        if let Some(name) = name {
            self.desk.answer(name, got);
        }
    }

    pub(super) fn start(&mut self) -> Got {
        let timer = &self.scenario.timer;
        if self.closed {
            return Got::Closed;
        }
        if self.life.is_some() {
            return Got::AlreadyRunning;
        }
        let single_use = self.single_use || timer.stop_when.is_some() || timer.target == TargetSpec::Ticks;
        if self.ended.is_some() && single_use {
            return Got::Restart;
        }
        let items = timer.target.items();
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
    pub(super) fn act(&mut self, action: &Do) {
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
                        self.pass_unless_asked(during);
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
    pub(super) fn during(&self) -> Option<During> {
        let life = self.life.as_ref().filter(|life| life.stop.is_none())?;
        let busy = life.flight.map(|_| During::Run);
        let paused = life.paused.then_some(During::Pause);
        paused.or(busy).or(life.retry.map(|_| During::Backoff))
    }

    pub(super) fn pass(&mut self, during: Option<During>) {
        if let Some(during) = during {
            self.slots.pass(self.now, during);
        }
    }

    /// A run that was asked for and has not begun takes the next slot, whatever passes until it does; or it takes none,
    /// and has ended the wait for the next one all the same.
    fn pass_unless_asked(&mut self, during: Option<During>) {
        let is_asked = self.life.as_ref().is_some_and(|life| life.trigger.is_some() && life.flight.is_none());
        if is_asked && !self.scenario.timer.keep_phase {
            return;
        }
        if is_asked {
            self.slots.end_wait();
        }
        self.pass(during);
    }

    fn set_period(&mut self, period: Span, rearm: bool) {
        if self.life.as_ref().is_none_or(|life| life.stop.is_some()) {
            self.slots.period = period;
            return;
        }
        let during = self.during();
        self.pass_unless_asked(during);
        self.slots.drop_passed(self.now);
        // No slot is waited for during a run and before a retry.
        let waits = |life: &Life<'_>| life.flight.is_none() && life.retry.is_none();
        let moves = rearm || !self.life.as_ref().is_some_and(waits);
        if self.life.as_ref().is_some_and(|life| waits(life) && life.trigger.is_none()) {
            self.slots.wait_again(self.now);
        }
        let asked = self.life.as_ref().is_some_and(|life| life.trigger.is_some());
        self.slots.set_period(self.now, period, moves, asked);
    }

    /// No further run starts. The first reason counts; the least patient grace counts.
    pub(super) fn stop(&mut self, reason: Reason, grace: Span) {
        let Some(life) = &mut self.life else { return };
        if life.flight.is_none() && life.stop.is_some() {
            return; // nothing is left to change
        }
        life.trigger = None;
        life.paused &= life.flight.is_some();
        let stop = life.stop.get_or_insert(Stop { reason, grace, expired: false });
        stop.grace = stop.grace.min(grace);
        stop.expired |= stop.grace <= self.now;
        if reason == Reason::Cancelled {
            stop.reason = reason;
        }
        if self.scenario.timer.target == TargetSpec::Ticks {
            // Nobody waits for a consumer who is busy with a tick, nor for one who has not come back yet.
            self.abandon();
        }
    }

    /// Whether the only call is still to come.
    pub(super) fn is_to_come(&self) -> bool {
        self.runs.is_empty() && self.life.as_ref().is_some_and(|life| life.stop.is_none())
    }

    /// It ends at once: nobody gives it another turn, and the run in flight goes with it.
    pub(super) fn abandon(&mut self) {
        let Some(Life { flight, stop, .. }) = self.life.take() else { return };
        let reason = match stop {
            Some(Stop { reason: Reason::Cancelled, .. }) => Reason::Cancelled,
            Some(stop) if stop.expired && flight.is_some() => Reason::GraceExpired,
            Some(stop) => stop.reason,
            None => Reason::Abandoned,
        };
        if flight.is_some() {
            self.end_run(RunEnd::GivenUp);
        }
        self.end(reason, None);
    }
}
