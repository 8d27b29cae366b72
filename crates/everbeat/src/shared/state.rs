//! The state that a timer's lock guards, and what is left to do once it is released.

use std::sync::Arc;
use std::task::Waker;

use everbeat_core::{
    Instant, Key, MissedBatch, Outcome, Output, StopReason, Summary, Tick, Timer as Machine,
};

use super::plan::Plan;
use super::turn::Replaced;
use super::{Action, Ending};
use crate::beat::BoxDrive;
use crate::clock::Clock;
use crate::current::{Current, Scope};
use crate::error::{Error, Failure};
use crate::feed::{Feeds, Line};
use crate::guard::{drop_all_quietly, drop_quietly, guarded, tell};
use crate::log::{MissedLog, MissedSlots, slots_missed};
use crate::name::Name;
use crate::waiters::{Reply, Waiters, Wakers, Want};

/// What the lock guards.
pub(crate) struct State<V> {
    pub(crate) machine: Machine,
    pub(crate) clock: Option<Clock>,
    /// The driver between its starts.
    pub(super) parked: Option<BoxDrive<V>>,
    /// The driver between two turns that an engine gives it.
    pub(super) beat: Option<BoxDrive<V>>,
    /// The timer's place with its engine, and what wakes it there.
    pub(super) key: Option<Key>,
    pub(super) bell: Option<Waker>,
    /// It may not be started any more: its scope is closed.
    pub(super) retired: bool,
    /// There is no target, and so no driver: the consumer of the ticks drives it.
    pub(super) driverless: bool,
    pub(super) driver: Option<Waker>,
    pub(crate) latest: Option<Arc<V>>,
    pub(crate) last_tick: Option<Instant>,
    pub(crate) ledger: Ledger,
    /// The failure that ended the timer.
    pub(super) failure: Option<Failure>,
    pub(super) waiters: Waiters<V>,
    pub(super) feeds: Option<Box<Feeds<V>>>,
}

/// What is counted and measured of the runs of a timer.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Runs that have delivered a value.
    pub(crate) hits: u64,
    pub(crate) failures: u64,
    /// Runs that held their thread for too long.
    pub(crate) blocked: u64,
    /// What is told of missed slots, if any ever were.
    pub(super) missed_log: Option<Box<MissedLog>>,
    /// How late runs were, and how long they took: if the plan asks for that.
    pub(crate) lateness: Summary,
    pub(crate) duration: Summary,
}

impl Ledger {
    pub(super) fn new(plan: &Plan) -> Self {
        if !plan.figures {
            return Self::default();
        }
        let (lateness, duration) = (Summary::with_histogram(), Summary::with_histogram());
        Self { lateness, duration, ..Self::default() }
    }

    /// Whether missed slots are still to be told.
    pub(super) fn has_untold(&self) -> bool {
        self.missed_log.as_ref().is_some_and(|log| log.has_untold())
    }

    /// Returns what is to be told of missed slots now.
    pub(super) fn note_missed(&mut self, batch: MissedBatch, now: Instant) -> Option<MissedSlots> {
        self.missed_log.get_or_insert_default().note(batch, now)
    }

    /// A run has ended, and was not one without an outcome.
    pub(super) fn measure(&mut self, plan: &Plan, tick: &Tick, now: Instant) {
        if plan.figures {
            self.lateness.record(tick.lateness);
            self.duration.record(now.saturating_since(tick.started()));
        }
    }
}

/// What is done once the lock is released.
pub(super) struct Leftovers<V> {
    pub(super) woken: Wakers,
    /// Wakers that nobody is to wake.
    pub(super) unneeded: Option<Waker>,
    pub(super) bell: Option<Waker>,
    pub(super) values: Vec<Arc<V>>,
    pub(super) value: Option<V>,
    pub(super) lossy: Vec<Arc<Line<V>>>,
    pub(super) missed: Option<MissedSlots>,
    pub(super) failure: Option<Failure>,
}

impl<V: 'static> State<V> {
    /// The state of a timer with this machine, and nothing else to remember.
    pub(super) fn new(ledger: Ledger, machine: Machine, driverless: bool) -> Self {
        Self {
            machine,
            clock: None,
            parked: None,
            beat: None,
            key: None,
            bell: None,
            retired: false,
            driverless,
            driver: None,
            latest: None,
            last_tick: None,
            ledger,
            failure: None,
            waiters: Waiters::default(),
            feeds: None,
        }
    }

    /// How many feeds are open.
    pub(crate) fn feeds(&self) -> usize {
        self.feeds.as_ref().map_or(0, |feeds| feeds.lines().len())
    }

    pub(super) fn start_machine(
        &mut self,
        plan: &Plan,
        (clock, now): (Clock, Instant),
        left: &mut Leftovers<V>,
    ) -> Result<Clock, Error> {
        self.machine.start(now).map_err(|_| Error::AlreadyRunning { name: plan.name.clone() })?;
        if let Some(until) = plan.until {
            self.machine.end_by(clock.at_std(until));
        }
        left.failure = self.failure.take();
        self.clock = Some(clock.clone());
        Ok(clock)
    }

    pub(super) fn next_action(&mut self, now: Instant, may_run: bool, left: &mut Leftovers<V>) -> Action {
        let machine = &mut self.machine;
        if !may_run && !machine.is_busy() && machine.poll_timeout().is_some_and(|due| due <= now) {
            return Action::Yield;
        }
        machine.handle_timeout(now);
        loop {
            return match self.machine.poll_output(now) {
                Some(Output::Run(tick)) => Action::Run(tick),
                Some(Output::Abort(cause)) => Action::Abort(cause),
                Some(Output::Missed(batch)) => {
                    self.note_missed(batch, now, left);
                    continue;
                }
                Some(Output::Stopped(reason)) => Action::Stopped(reason),
                _ => Action::Wait { until: self.machine.poll_timeout(), busy: self.machine.is_busy() },
            };
        }
    }

    pub(super) fn note_missed(&mut self, batch: MissedBatch, now: Instant, left: &mut Leftovers<V>) {
        left.missed = self.ledger.note_missed(batch, now).or(left.missed);
    }

    /// A command has changed the machine: whoever drives it has to look.
    pub(super) fn follow_command(&mut self, now: Instant, left: &mut Leftovers<V>) {
        if self.driverless {
            self.end_without_driver(now, left);
        }
        left.woken.extend(self.driver.take());
    }

    pub(super) fn deliver(&mut self, now: Instant, run: u64, value: V, left: &mut Leftovers<V>) {
        self.ledger.hits += 1;
        self.last_tick = Some(now);
        let latest = self.replace_latest(value, left);
        let hits = self.ledger.hits;
        self.waiters.settle(&mut left.woken, |want| match want {
            Want::Hits(target) if target <= hits => Some(Reply::Reached),
            Want::Run(wanted) if wanted <= run => Some(Reply::Value(latest.clone())),
            _ => None,
        });
        if let Some(feeds) = &mut self.feeds {
            left.feed(feeds, &latest, now);
        }
        // `self.latest` holds it too, so no value is dropped here.
        drop(latest);
    }

    fn replace_latest(&mut self, value: V, left: &mut Leftovers<V>) -> Arc<V> {
        match Replaced::by(&mut self.latest, value) {
            Replaced::Alone(value) => left.value = Some(value),
            Replaced::Shared(value) => left.values.extend(value),
        }
        self.latest.clone().expect("set above")
    }

    /// Nobody but the consumer drives a schedule without a target, and the consumer may be the one who
    /// waits: what a command has ended is over at once, the tick in the consumer's hands included.
    pub(super) fn end_without_driver(&mut self, now: Instant, left: &mut Leftovers<V>) {
        if self.machine.stop_reason().is_none() {
            return; // what is due is for the consumer to ask for
        }
        self.machine.handle_finished(now, Outcome::Aborted);
        while let Some(output) = self.machine.poll_output(now) {
            match output {
                Output::Missed(batch) => self.note_missed(batch, now, left),
                Output::Stopped(reason) => {
                    self.announce_end(reason, left);
                    self.machine.handle_closed();
                    self.settle_all(left);
                }
                _ => {}
            }
        }
    }

    pub(super) fn fail(&mut self, run: u64, failure: Failure, left: &mut Leftovers<V>) {
        self.ledger.failures += 1;
        self.waiters.settle(&mut left.woken, |want| match want {
            Want::Run(wanted) if wanted <= run => Some(Reply::Failed(failure.clone())),
            _ => None,
        });
        let ended_it = self.machine.stop_reason() == Some(StopReason::Failed);
        left.failure = if ended_it { self.failure.replace(failure) } else { Some(failure) };
    }

    pub(super) fn announce_end(&mut self, reason: StopReason, left: &mut Leftovers<V>) {
        self.end_feeds(left);
        let untold = self.ledger.missed_log.as_mut().and_then(|log| log.take_untold());
        left.missed = untold.or(left.missed);
        let failure = self.failure.clone();
        self.waiters.settle(&mut left.woken, |want| match want {
            Want::End => None,
            Want::Hits(_) | Want::Run(_) => Some(end_reply(failure.as_ref(), reason)),
        });
    }

    pub(super) fn end_feeds(&mut self, left: &mut Leftovers<V>) {
        let Some(feeds) = self.feeds.take() else { return };
        // What the quiet time of the log has kept back is told now.
        left.lossy.extend(feeds.lines().iter().cloned());
        left.woken.extend(feeds.lines().iter().filter_map(|line| line.end(self.failure.clone())));
    }

    /// The end is over: whoever came while it was being announced is told too.
    pub(super) fn settle_all(&mut self, left: &mut Leftovers<V>) {
        self.end_feeds(left);
        let Some(reason) = self.machine.stop_reason() else { return };
        let failure = self.failure.as_ref();
        self.waiters.settle(&mut left.woken, |_| Some(end_reply(failure, reason)));
    }

    /// Keeps this for the next start. Hands it out if there will be none.
    pub(super) fn park(&mut self, beat: Option<BoxDrive<V>>) -> Option<BoxDrive<V>> {
        if self.retired { beat } else { std::mem::replace(&mut self.parked, beat) }
    }

    /// Takes a place in the line for the end.
    pub(super) fn queue_end(&mut self) -> Ending<V> {
        if self.machine.is_running() {
            return Ending::Awaited(self.waiters.wait_for(Want::End));
        }
        match self.machine.stop_reason() {
            Some(reason) => Ending::Past(self.end_reply(reason)),
            None => Ending::NeverStarted,
        }
    }

    pub(super) fn end_reply(&self, reason: StopReason) -> Reply<V> {
        end_reply(self.failure.as_ref(), reason)
    }

    /// Why there is nothing to wait for: the failure that ended the timer, if one did.
    pub(super) fn not_running(&self, name: &Name) -> Error {
        let name = name.clone();
        match &self.failure {
            Some(failure) => Error::Failed { name, failure: failure.clone() },
            None => Error::NotRunning { name },
        }
    }
}

/// Wakes somebody whose waker may panic.
pub(super) fn wake(waker: Waker, timer: &Name) {
    if let Err(failure) = guarded(|| waker.wake()) {
        tell!(ERROR, timer = %timer, "a waker {failure}");
    }
}

fn end_reply<V>(failure: Option<&Failure>, reason: StopReason) -> Reply<V> {
    failure.map_or(Reply::Ended(reason), |failure| Reply::Failed(failure.clone()))
}

impl<V> Leftovers<V> {
    pub(super) fn none() -> Self {
        Self {
            woken: Wakers::default(),
            unneeded: None,
            bell: None,
            values: Vec::new(),
            value: None,
            lossy: Vec::new(),
            missed: None,
            failure: None,
        }
    }

    #[inline]
    pub(super) fn settle(mut self, timer: &Name) {
        if !self.is_empty() {
            self.tell(timer);
            self.spend();
        }
    }

    /// As [`settle`](Self::settle), in a turn of the timer: what is dropped there counts as a part of its own code. It
    /// may do to the timer what that may, and does not wait for a turn that it is a part of.
    pub(super) fn settle_inside(mut self, timer: &Name, me: &mut Option<Current>) {
        if self.is_empty() {
            return;
        }
        self.tell(timer);
        if self.holds_something() {
            let _scope = Scope::enter(me);
            self.spend();
        }
    }

    /// A value for each of the feeds.
    pub(super) fn feed(&mut self, feeds: &mut Feeds<V>, value: &Arc<V>, now: Instant) {
        let mut lost = false;
        for line in feeds.lines() {
            let pushed = line.push(value.clone());
            lost |= pushed.evicted.is_some();
            self.woken.extend(pushed.consumer);
            self.values.extend(pushed.evicted);
        }
        if lost && feeds.tells_losses(now) {
            self.lossy.extend(feeds.lines().iter().cloned());
        }
    }

    /// Most changes leave nothing behind.
    fn is_empty(&self) -> bool {
        self.woken.is_empty() && self.lossy.is_empty() && self.missed.is_none() && !self.holds_something()
    }

    /// Whether something of the user's is to be dropped.
    fn holds_something(&self) -> bool {
        self.value.is_some() || !self.values.is_empty() || self.failure.is_some()
    }

    /// Wakes and tells everybody. What is left is only to be dropped.
    fn tell(&mut self, timer: &Name) {
        std::mem::take(&mut self.woken).into_iter().for_each(|waker| wake(waker, timer));
        if let Some(missed) = self.missed {
            slots_missed(timer, missed);
        }
        for line in self.lossy.drain(..) {
            crate::log::feed_losses(timer, &line);
        }
    }

    fn spend(&mut self) {
        if let Some(value) = self.value.take() {
            drop_quietly(value);
        }
        drop_all_quietly(self.values.drain(..));
        drop_quietly(self.failure.take());
    }
}
