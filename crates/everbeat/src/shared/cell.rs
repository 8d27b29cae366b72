//! Lean timers: what a timer is stored as while nothing special happens to it.
//!
//! A lean timer waits for its next run or is in the middle of it, nobody but the consumers of its feeds waits
//! for it, and nothing was ever missed or failed. Everything else about it follows from its [`Plan`]. Whatever
//! asks more of it *thaws* it to a whole [`State`]; when that has become plain again it is *frozen*. All
//! rules are written once, for the whole state; what is lean is only stored otherwise.
//!
//! One that delivers nothing needs even less, and lies with its engine: see `thread/lean.rs`. It comes here as
//! [`Lean`] when it is looked at, or promoted.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use everbeat_core::{Instant, Key, Rested, Schedule, StopReason, Tick, Timer as Machine};

use super::plan::Plan;
use super::state::State;
use super::turn::unit;
use crate::beat::{Attachments, Beat, BoxDrive};
use crate::clock::Clock;
use crate::feed::Feeds;
#[cfg(feature = "tokio")]
use crate::runtime::clock::RuntimeClock;
use crate::target::{Call, CallTarget};

/// What a timer's lock guards.
pub(super) enum Cell<V> {
    Lean(Lean<V>),
    Full(Box<State<V>>),
}

pub(crate) struct Lean<V> {
    pub(crate) phase: Phase,
    pub(crate) rested: Rested,
    /// `None` during a run.
    pub(crate) call: Option<Call<V>>,
    pub(crate) latest: Option<Arc<V>>,
    pub(crate) feeds: Option<Box<Feeds<V>>>,
    /// Timers that are built alike may differ in this.
    pub(crate) initial_delay_nanos: u64,
    /// On a runtime: its clock since the start, and what wakes the task.
    #[cfg(feature = "tokio")]
    pub(crate) clock: Option<Arc<RuntimeClock>>,
    pub(crate) driver: Option<Waker>,
}

/// Where a lean timer is in its life. As large as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Never started, or ended for this reason.
    Off(Option<StopReason>),
    /// It has this place with its engine, or its task this key. What is at rest knows whether it waits or runs.
    On(Key),
}

impl<V: Send + Sync + 'static> Cell<V> {
    /// The whole state, from here on.
    pub(super) fn thaw(&mut self, plan: &Plan) -> &mut State<V> {
        if let Self::Lean(lean) = self {
            let feeds = lean.feeds.take();
            let mut state = Box::new(lean.state(plan));
            (state.feeds, state.driver) = (feeds, lean.driver.take());
            state.take_up(lean.call.take(), lean.phase, plan);
            *self = Self::Full(state);
        }
        match self {
            Self::Full(state) => state,
            Self::Lean(_) => unreachable!("thawed above"),
        }
    }

    /// Looks at the whole state. That of a lean timer is made for the occasion, without its target.
    pub(super) fn read<R>(&self, plan: &Plan, f: impl FnOnce(&State<V>) -> R) -> R {
        match self {
            Self::Full(state) => f(state),
            Self::Lean(lean) => f(&lean.state(plan)),
        }
    }

    /// Makes it lean if nothing would be lost. Hands out what is not needed any more.
    pub(super) fn freeze(&mut self, plan: &Plan) -> Option<Box<State<V>>> {
        let Self::Full(state) = self else { return None };
        let lean = state.take_lean(plan)?;
        match std::mem::replace(self, Self::Lean(lean)) {
            Self::Full(state) => Some(state),
            Self::Lean(_) => None,
        }
    }
}

impl<V> Cell<V> {
    /// A lean timer that waits at this place.
    pub(super) fn lean_that_waits(&mut self, key: Key) -> Option<&mut Lean<V>> {
        match self {
            Self::Lean(lean) if lean.phase == Phase::On(key) && !lean.rested.is_in_run() => Some(lean),
            _ => None,
        }
    }

    /// The timer's place with its engine, while it runs.
    pub(super) fn key(&self) -> Option<Key> {
        match self {
            Self::Lean(Lean { phase: Phase::On(key), .. }) => Some(*key),
            Self::Lean(_) => None,
            Self::Full(state) => state.key,
        }
    }
}

impl<V: Send + Sync + 'static> Lean<V> {
    /// Built, and not started.
    pub(super) fn idle(call: Call<V>, initial_delay: Duration) -> Self {
        let initial_delay_nanos = u64::try_from(initial_delay.as_nanos()).unwrap_or(u64::MAX);
        Self { call: Some(call), initial_delay_nanos, ..Self::gone() }
    }

    /// One that has been stored elsewhere.
    pub(crate) fn gone() -> Self {
        Self {
            phase: Phase::Off(None),
            rested: Rested::default(),
            call: None,
            latest: None,
            feeds: None,
            initial_delay_nanos: 0,
            #[cfg(feature = "tokio")]
            clock: None,
            driver: None,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::On(_))
    }

    /// Whether it is known that this wakes its task.
    pub(super) fn knows(&self, driver: &Waker) -> bool {
        self.driver.as_ref().is_some_and(|known| known.will_wake(driver))
    }

    pub(crate) fn is_in_run(&self) -> bool {
        self.rested.is_in_run()
    }

    /// The same with another name for `()`, and without the target.
    pub(crate) fn of_unit<W: Send + Sync + 'static>(self) -> Lean<W> {
        let Self { rested, phase, initial_delay_nanos, latest, .. } = self;
        let latest = latest.and_then(|_| unit());
        Lean { rested, phase, latest, initial_delay_nanos, ..Lean::gone() }
    }

    pub(crate) fn hits(&self) -> u64 {
        u64::from(self.rested.runs() - u32::from(self.is_in_run()))
    }

    /// Its whole state, without the target.
    pub(crate) fn state(&self, plan: &Plan) -> State<V> {
        let mut state = State::new(plan, self.machine(plan), false);
        state.hits = self.hits();
        state.last_tick = (state.hits > 0).then(|| self.rested.last_end(&plan.schedule));
        state.latest.clone_from(&self.latest);
        state.feeds.clone_from(&self.feeds);
        state.clock = self.clock(plan);
        state
    }

    /// The clock since the start.
    pub(super) fn clock(&self, plan: &Plan) -> Option<Clock> {
        #[cfg(feature = "tokio")]
        if let Some(clock) = &self.clock {
            return Some(Clock::Runtime(clock.clone()));
        }
        (self.phase != Phase::Off(None)).then(|| plan.home.clock(None, Instant::ORIGIN)).flatten()
    }

    /// It is started on this clock.
    #[cfg_attr(not(feature = "tokio"), allow(clippy::unused_self, clippy::needless_pass_by_ref_mut))]
    pub(super) fn set_clock(&mut self, clock: Option<&Clock>) {
        #[cfg(feature = "tokio")]
        self.clock.clone_from(&clock.and_then(Clock::runtime).cloned());
        #[cfg(not(feature = "tokio"))]
        let _ = clock;
    }

    /// The schedule with the delay of its own.
    fn schedule(&self, plan: &Plan) -> Arc<Schedule> {
        if self.initial_delay_nanos == 0 {
            return plan.schedule.clone();
        }
        let delay = Duration::from_nanos(self.initial_delay_nanos);
        Arc::new(Schedule::clone(&plan.schedule).with_initial_delay(delay))
    }

    fn machine(&self, plan: &Plan) -> Machine {
        let schedule = self.schedule(plan);
        match self.phase {
            Phase::Off(None) => Machine::new(schedule),
            Phase::On(_) => Machine::from_rest(schedule, self.rested),
            Phase::Off(Some(reason)) => {
                let mut machine = Machine::from_rest(schedule, self.rested);
                let now = machine.now();
                machine.drain(now, reason, Duration::MAX);
                machine.handle_closed();
                machine
            }
        }
    }
}

impl<V: Send + Sync + 'static> State<V> {
    /// Takes over what a lean timer has besides its figures: the target, and its place with the engine.
    fn take_up(&mut self, call: Option<Call<V>>, phase: Phase, plan: &Plan) {
        let beat = call.map(|call| beat_of(call, None, plan));
        match phase {
            Phase::Off(_) => self.parked = beat,
            Phase::On(key) => {
                self.beat = beat;
                self.settle_at(key, plan);
            }
        }
    }

    /// The timer has this place with its engine.
    pub(super) fn settle_at(&mut self, key: Key, plan: &Plan) {
        self.key = Some(key);
        if let Some(engine) = plan.home.engine() {
            self.bell = Some(engine.bell(key));
            self.driver.clone_from(&self.bell);
        }
    }

    /// The same as a lean timer, if nothing would be lost.
    fn take_lean(&mut self, plan: &Plan) -> Option<Lean<V>> {
        if !plan.can_be_lean() || !self.waiters.is_empty() {
            return None;
        }
        let rested = self.machine.rest()?;
        let key = self.key?;
        let plain = self.machine.schedule().is_alike(&plan.schedule)
            && !self.retired
            && self.hits == u64::from(rested.runs())
            && self.failures == 0
            && self.blocked == 0
            && self.failure.is_none();
        if !plain {
            return None;
        }
        let rested = match self.last_tick {
            Some(end) => rested.with_last_end(&plan.schedule, end)?,
            None => rested,
        };
        let call = match self.beat.take()?.into_call() {
            Ok(call) => call,
            Err(beat) => {
                self.beat = Some(beat);
                return None;
            }
        };
        let mut lean = Lean::idle(call, self.machine.schedule().initial_delay());
        (lean.rested, lean.phase) = (rested, Phase::On(key));
        lean.set_clock(self.clock.as_ref());
        if !plan.home.is_engine() {
            lean.driver = self.driver.take();
        }
        (lean.latest, lean.feeds) = (self.latest.take(), self.feeds.take());
        Some(lean)
    }
}

/// The target of a lean timer with all that belongs to its runs; `run`: that one goes on.
pub(super) fn beat_of<V: Send + Sync + 'static>(
    call: Call<V>,
    run: Option<Tick>,
    plan: &Plan,
) -> BoxDrive<V> {
    let attachments = Attachments { run_timeout: None, blocked_after: plan.blocked_after, extras: None };
    let beat = Beat::new(CallTarget::new(call), attachments);
    Box::pin(run.into_iter().fold(beat, Beat::in_run))
}

#[cfg(all(test, feature = "tokio", target_pointer_width = "64", not(everbeat_loom)))]
mod tests {
    use super::*;

    /// With its counts, its plan and its lock a timer is to fit 136 bytes: allocators find room for those beside the
    /// task, which tokio aligns to 128.
    #[test]
    fn a_lean_timer_takes_88_bytes() {
        assert_eq!((size_of::<Phase>(), size_of::<Rested>()), (8, 16));
        assert_eq!((size_of::<Lean<u64>>(), size_of::<Cell<u64>>()), (88, 88));
    }
}
