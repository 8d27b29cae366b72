//! Lean timers: what a timer is stored as while nothing special happens to it.
//!
//! A lean timer waits for its next run or is in the middle of it, nobody waits for it or subscribes to
//! it, and nothing was ever missed or failed. Everything else about it follows from its [`Plan`]. Whatever
//! asks more of it *thaws* it to a whole [`State`]; when that has become plain again it is *frozen*. All
//! rules are written once, for the whole state; what is lean is only stored otherwise.

use std::sync::Arc;

use everbeat_core::{Instant, Key, Rested, StopReason, Timer as Machine};

use super::plan::Plan;
use super::state::State;
use crate::beat::{Attachments, Beat, BoxDrive};
use crate::target::{Call, CallTarget};

/// What a timer's lock guards.
pub(super) enum Cell<V> {
    Lean(Lean<V>),
    Full(Box<State<V>>),
}

pub(super) struct Lean<V> {
    pub(super) rested: Rested,
    pub(super) phase: Phase,
    /// `None` during a run.
    pub(super) call: Option<Call<V>>,
    pub(super) latest: Option<Arc<V>>,
    pub(super) last_tick: Instant,
}

/// Where a lean timer is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Never started.
    Idle,
    /// For its next run, at this place with its engine.
    Waiting(Key),
    Running(Key),
    Over(StopReason),
}

impl<V: Send + Sync + 'static> Cell<V> {
    /// The whole state, from here on.
    pub(super) fn thaw(&mut self, plan: &Plan) -> &mut State<V> {
        if let Self::Lean(lean) = self {
            let mut state = Box::new(lean.state(plan));
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
        let lean = state.to_lean(plan)?;
        match std::mem::replace(self, Self::Lean(lean)) {
            Self::Full(state) => Some(state),
            Self::Lean(_) => None,
        }
    }
}

impl<V: Send + Sync + 'static> Lean<V> {
    /// Built, and not started.
    pub(super) fn idle(call: Call<V>) -> Self {
        let (rested, last_tick) = (Rested::default(), Instant::ORIGIN);
        Self { rested, phase: Phase::Idle, call: Some(call), latest: None, last_tick }
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Waiting(_) | Phase::Running(_))
    }

    /// Its whole state, without the target.
    fn state(&self, plan: &Plan) -> State<V> {
        let mut state = State::new(plan, self.machine(plan), false);
        let running = matches!(self.phase, Phase::Running(_));
        state.hits = self.rested.runs() - u64::from(running);
        state.last_tick = (state.hits > 0).then_some(self.last_tick);
        state.latest.clone_from(&self.latest);
        state.clock = match self.phase {
            Phase::Idle => None,
            _ => plan.home.clock(None, Instant::ORIGIN),
        };
        state
    }

    fn machine(&self, plan: &Plan) -> Machine {
        let schedule = plan.schedule.clone();
        match self.phase {
            Phase::Idle => Machine::new(schedule),
            Phase::Waiting(_) => Machine::from_rest(schedule, self.rested, false),
            Phase::Running(_) => Machine::from_rest(schedule, self.rested, true),
            Phase::Over(reason) => {
                let mut machine = Machine::from_rest(schedule, self.rested, false);
                let now = machine.now();
                machine.drain(now, reason, std::time::Duration::MAX);
                machine.handle_closed();
                machine
            }
        }
    }
}

impl<V: Send + Sync + 'static> State<V> {
    /// Takes over what a lean timer has besides its figures: the target, and its place with the engine.
    fn take_up(&mut self, call: Option<Call<V>>, phase: Phase, plan: &Plan) {
        let beat = call.map(|call| beat_of(call, plan));
        match phase {
            Phase::Idle | Phase::Over(_) => self.parked = beat,
            Phase::Waiting(key) | Phase::Running(key) => {
                self.beat = beat;
                self.settle_at(key, plan);
            }
        }
    }

    /// The timer has this place with its engine.
    pub(super) fn settle_at(&mut self, key: Key, plan: &Plan) {
        self.key = Some(key);
        self.bell = plan.home.bell(key);
        self.driver.clone_from(&self.bell);
    }

    fn to_lean(&mut self, plan: &Plan) -> Option<Lean<V>> {
        let rested = self.machine.rest()?;
        let key = self.key?;
        let plain = plan.can_be_lean()
            && self.machine.schedule() == &*plan.schedule
            && self.hits == rested.runs()
            && self.failures == 0
            && self.blocked == 0
            && self.queued == 0
            && self.failure.is_none()
            && self.waiters.is_empty()
            && self.feeds.is_empty();
        if !plain {
            return None;
        }
        let call = match self.beat.take()?.into_call() {
            Ok(call) => call,
            Err(beat) => {
                self.beat = Some(beat);
                return None;
            }
        };
        let last_tick = self.last_tick.unwrap_or(Instant::ORIGIN);
        let latest = self.latest.take();
        Some(Lean { rested, phase: Phase::Waiting(key), call: Some(call), latest, last_tick })
    }
}

/// The target of a lean timer with all that belongs to its runs.
pub(super) fn beat_of<V: Send + Sync + 'static>(call: Call<V>, plan: &Plan) -> BoxDrive<V> {
    let attachments = Attachments { run_timeout: None, blocked_after: plan.blocked_after, extras: None };
    Box::pin(Beat::new(CallTarget::new(call), attachments))
}
