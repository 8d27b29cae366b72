//! What a scenario asks of the timer, and what whoever asked waits for.

use everbeat_core::{AlreadyRunning, StopReason};

use super::Play;
use super::desk::Want;
use crate::expect::{Got, Look, Reason};
use crate::scenario::{Command, Do};
use crate::span::Span;

impl Play<'_> {
    pub(super) fn give(&mut self, command: &Command) {
        let name = command.name.as_deref();
        match &command.action {
            Do::Start => {
                let got = self.start();
                self.answer(name, got);
            }
            Do::Stall(span) => self.move_to(self.now + span.to_duration()),
            Do::Look => {
                let look = self.look();
                self.answer(name, Got::Look(look));
            }
            Do::Subscribe(_) | Do::Read(_) | Do::Next(_) | Do::DropOldest(_) => self.give_to_feed(command),
            Do::CloseFeed(feed) => self.desk.close_feed(feed),
            Do::DropFeed(feed) => self.desk.drop_feed(feed),
            Do::Forget(name) => self.desk.forget(name),
            Do::Detach => self.detached = true,
            // Nobody can start it any more.
            Do::DropHandle if !self.timer.was_started() => self.desk.close_feeds(None),
            Do::DropHandle if self.detached => {}
            Do::DropHandle => self.timer.drain(self.now, StopReason::Dropped, std::time::Duration::MAX),
            action => {
                let wanted = self.request(action);
                self.act(action);
                self.wait_for(command, wanted);
            }
        }
    }

    fn answer(&mut self, name: Option<&str>, got: Got) {
        if let Some(name) = name {
            self.desk.answer(name, got);
        }
    }

    fn give_to_feed(&mut self, command: &Command) {
        let got = match &command.action {
            Do::Subscribe(spec) => {
                let ended = self.timer.was_started() && !self.timer.is_running();
                self.desk.subscribe(spec, ended)
            }
            Do::Read(feed) => self.desk.read(feed),
            Do::DropOldest(spec) => return self.desk.drop_oldest(&spec.feed, spec.count),
            Do::Next(feed) => {
                let name = command.name.as_deref().unwrap_or_default();
                return self.desk.next(name, feed, command.timeout);
            }
            _ => return,
        };
        self.answer(command.name.as_deref(), got);
    }

    pub(super) fn start(&mut self) -> Got {
        let single_use = self.scenario.timer.stop_when.is_some();
        if single_use && self.timer.was_started() && !self.timer.is_running() {
            return Got::Restart;
        }
        if let Err(AlreadyRunning) = self.timer.start(self.now) {
            return Got::AlreadyRunning;
        }
        self.desk.failure = None;
        self.items = self.scenario.timer.target.items();
        Got::Ok
    }

    /// What can also be done from inside a run.
    pub(super) fn act(&mut self, action: &Do) {
        let (timer, now) = (&mut self.timer, self.now);
        match action {
            Do::Trigger => _ = timer.trigger(now),
            Do::Pause => timer.pause(now),
            Do::Resume => timer.resume(now),
            Do::SetPeriod(period) => timer.set_period(now, period.to_duration(), false),
            Do::Rearm(period) => timer.set_period(now, period.to_duration(), true),
            Do::Cancel => timer.cancel(now),
            Do::Shutdown(grace) => timer.drain(now, StopReason::Drained, grace.to_duration()),
            _ => {}
        }
    }

    /// What a command waits for, if it waits for anything.
    fn request(&self, action: &Do) -> Option<Want> {
        let (begun, busy) = (self.timer.runs(), self.timer.is_busy());
        match action {
            Do::Trigger => Some(Want::Run(begun + 1)),
            Do::Join => Some(Want::Run(begun + u64::from(!busy))),
            Do::WaitHits(count) => Some(Want::Hits(*count)),
            Do::WaitMore(count) => Some(Want::Hits(self.desk.hits + count)),
            Do::Wait => Some(Want::End),
            Do::Cancel => Some(Want::Cancelled),
            Do::Shutdown(_) => Some(Want::ShutDown),
            _ => None,
        }
    }

    fn wait_for(&mut self, command: &Command, wanted: Option<Want>) {
        let (Some(name), Some(want)) = (&command.name, wanted) else { return };
        let refused = match want {
            Want::Hits(count) if count <= self.desk.hits => Some(Got::Ok),
            // A trigger on a timer that is about to end is refused as well.
            Want::Run(_) if command.action == Do::Trigger => {
                (!self.timer.accepts_triggers()).then(|| self.not_running())
            }
            _ if self.timer.is_running() => None,
            Want::Run(_) => Some(self.not_running()),
            _ => Some(self.after_the_end(&want)),
        };
        match refused {
            Some(got) => self.desk.answer(name, got),
            None => self.desk.wait(name, want, command.timeout),
        }
    }

    fn after_the_end(&self, want: &Want) -> Got {
        let reason = self.timer.stop_reason().map(Reason::from);
        reason.and_then(|reason| self.desk.ended_before(want, reason)).unwrap_or(Got::NotRunning)
    }

    fn not_running(&self) -> Got {
        self.desk.failure.map_or(Got::NotRunning, Got::Failed)
    }

    fn look(&self) -> Look {
        let due = self.timer.next_due().filter(|due| !self.timer.is_paused() && !due.is_never());
        Look {
            running: Some(self.timer.is_running()),
            busy: Some(self.timer.is_busy()),
            paused: Some(self.timer.is_paused()),
            hits: Some(self.desk.hits),
            latest: Some(self.desk.latest),
            next_due: Some(due.map(Span::from)),
        }
    }
}
