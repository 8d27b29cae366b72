//! The state that a timer's lock guards, and what is left to do once it is released.

use std::mem;
use std::sync::Arc;
use std::task::Waker;
use std::thread::ThreadId;

use everbeat_core::{Instant, StopReason, Summary, Timer as Machine};
use tokio::runtime::RuntimeFlavor;

use super::Setup;
use crate::clock::{Clock, Source};
use crate::driver::BoxDrive;
use crate::error::{Error, Failure};
use crate::feed::Line;
use crate::guard::{drop_quietly, guarded};
use crate::log::RateLimit;
use crate::name::Name;
use crate::waiters::{Reply, Waiters, Want};

/// What the lock guards.
pub(crate) struct State<V> {
    pub(crate) machine: Machine,
    pub(crate) clock: Option<Arc<Clock>>,
    pub(super) source: Source,
    /// The driver between its starts.
    pub(super) parked: Option<BoxDrive<V>>,
    /// Whether the driver can only be started once.
    pub(super) single_use: bool,
    /// When the clock ends it, as the user gave it.
    pub(super) until: Option<std::time::Instant>,
    pub(super) driver: Option<Waker>,
    /// The thread that drives it, where its runtime has only one.
    pub(super) thread: Option<ThreadId>,
    pub(crate) latest: Option<Arc<V>>,
    pub(crate) last_tick: Option<Instant>,
    pub(crate) hits: u64,
    pub(crate) failures: u64,
    pub(crate) blocked: u64,
    pub(crate) lateness: Summary,
    pub(crate) duration: Summary,
    /// The failure that ended the timer.
    pub(super) failure: Option<Failure>,
    pub(super) waiters: Waiters<V>,
    pub(super) feeds: Vec<Arc<Line<V>>>,
    pub(super) loss_log: RateLimit,
}

/// What is done once the lock is released.
pub(super) struct Leftovers<V> {
    pub(super) woken: Vec<Waker>,
    /// A waker that nobody is to wake.
    pub(super) unneeded: Option<Waker>,
    pub(super) values: Vec<Arc<V>>,
    pub(super) value: Option<V>,
    pub(super) lossy: Vec<Arc<Line<V>>>,
}

impl<V> State<V> {
    /// The state of a timer that was built and not started, with its name.
    pub(super) fn new(setup: Setup<V>) -> (Name, Self) {
        let summary = if setup.histograms { Summary::with_histogram } else { Summary::default };
        let state = Self {
            machine: setup.machine,
            clock: None,
            source: setup.source,
            parked: setup.parked,
            single_use: setup.single_use,
            until: setup.until,
            driver: None,
            thread: None,
            latest: None,
            last_tick: None,
            hits: 0,
            failures: 0,
            blocked: 0,
            lateness: summary(),
            duration: summary(),
            failure: None,
            waiters: Waiters::default(),
            feeds: Vec::new(),
            loss_log: RateLimit::default(),
        };
        (setup.name, state)
    }

    /// The present time; the origin before the first start.
    pub(super) fn now(&self) -> Instant {
        self.clock.as_ref().map_or(Instant::ORIGIN, |clock| clock.now_anywhere())
    }

    pub(super) fn take_users_own(&mut self) -> (Option<Arc<V>>, Option<BoxDrive<V>>) {
        (self.latest.take(), self.parked.take())
    }

    pub(super) fn start_machine(&mut self, name: &Name) -> Result<Arc<Clock>, Error> {
        let clock = Clock::current(self.source.clone(), self.clock.as_deref(), self.machine.now())
            .ok_or_else(|| Error::NoRuntime { name: name.clone() })?;
        let clock = Arc::new(clock);
        let now = clock.now();
        self.machine.start(now).map_err(|_| Error::AlreadyRunning { name: name.clone() })?;
        if let Some(until) = self.until {
            self.machine.end_by(clock.at_std(until));
        }
        self.failure = None;
        self.clock = Some(clock.clone());
        let single = clock.runtime().runtime_flavor() == RuntimeFlavor::CurrentThread;
        self.thread = single.then(|| std::thread::current().id());
        Ok(clock)
    }

    pub(super) fn deliver(&mut self, now: Instant, run: u64, value: V, left: &mut Leftovers<V>) {
        self.hits += 1;
        self.last_tick = Some(now);
        let latest = self.replace_latest(value, left);
        let hits = self.hits;
        self.waiters.settle(&mut left.woken, |want| match want {
            Want::Hits(target) if target <= hits => Some(Reply::Reached),
            Want::Run(wanted) if wanted <= run => Some(Reply::Value(latest.clone())),
            _ => None,
        });
        let mut lost = false;
        for line in &self.feeds {
            let pushed = line.push(latest.clone());
            lost |= pushed.evicted.is_some();
            left.woken.extend(pushed.consumer);
            left.values.extend(pushed.evicted);
        }
        if lost && self.loss_log.permits(now) {
            left.lossy.extend(self.feeds.iter().cloned());
        }
        // `self.latest` holds it too, so no value is dropped here.
        drop(latest);
    }

    /// Makes `value` the latest one. If nobody else holds the one before, its place is used again and
    /// nothing is allocated.
    fn replace_latest(&mut self, value: V, left: &mut Leftovers<V>) -> Arc<V> {
        match self.latest.as_mut().map(Arc::get_mut) {
            Some(Some(place)) => left.value = Some(mem::replace(place, value)),
            _ => left.values.extend(self.latest.replace(Arc::new(value))),
        }
        self.latest.clone().expect("set above")
    }

    pub(super) fn fail(&mut self, run: u64, failure: Failure, left: &mut Leftovers<V>) {
        self.failures += 1;
        self.waiters.settle(&mut left.woken, |want| match want {
            Want::Run(wanted) if wanted <= run => Some(Reply::Failed(failure.clone())),
            _ => None,
        });
        if self.machine.stop_reason() == Some(StopReason::Failed) {
            self.failure = Some(failure);
        }
    }

    pub(super) fn announce_end(&mut self, reason: StopReason, left: &mut Leftovers<V>) {
        let failure = self.failure.clone();
        for line in self.feeds.drain(..) {
            left.woken.extend(line.end(failure.clone()));
        }
        self.waiters.settle(&mut left.woken, |want| match want {
            Want::End => None,
            Want::Hits(_) | Want::Run(_) => Some(end_reply(failure.as_ref(), reason)),
        });
    }

    pub(super) fn settle_all(&mut self, left: &mut Leftovers<V>) {
        let Some(reason) = self.machine.stop_reason() else { return };
        let failure = self.failure.as_ref();
        self.waiters.settle(&mut left.woken, |_| Some(end_reply(failure, reason)));
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

fn end_reply<V>(failure: Option<&Failure>, reason: StopReason) -> Reply<V> {
    failure.map_or(Reply::Ended(reason), |failure| Reply::Failed(failure.clone()))
}

impl<V> Leftovers<V> {
    pub(super) fn none() -> Self {
        Self { woken: Vec::new(), unneeded: None, values: Vec::new(), value: None, lossy: Vec::new() }
    }

    pub(super) fn settle(self, timer: &Name) {
        for waker in self.woken {
            if let Err(failure) = guarded(|| waker.wake()) {
                tracing::error!(timer = %timer, "a waker {failure}");
            }
        }
        for line in self.lossy {
            crate::log::feed_losses(timer, &line);
        }
        if self.value.is_some() || !self.values.is_empty() {
            drop_quietly((self.value, self.values));
        }
    }
}
