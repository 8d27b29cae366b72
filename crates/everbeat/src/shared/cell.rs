//! Lean timers: what a timer is stored as while nothing special happens to it.
//!
//! A lean timer waits for its next run or is in the middle of it, nobody but the consumers of its feeds waits
//! for it, and nothing that was missed or failed is still to be dealt with. Everything else about it follows from
//! its [`Plan`]. Whatever asks more of it *thaws* it to a whole [`State`]; when that has become plain again it is
//! *frozen*. All rules are written once, for the whole state; what is lean is only stored otherwise. One that keeps
//! figures of its own, or has ever missed a slot, failed, blocked its thread, been started again, or triggered beside its
//! grid, has its [`Books`] beside it.
//!
//! One that delivers nothing needs even less, and lies with its engine: see `thread/lean.rs`. It comes here as
//! [`Lean`] when it is looked at, or promoted.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use everbeat_core::{Instant, Key, Past, Rested, Schedule, StopReason, Timer as Machine};

use super::plan::Plan;
use super::state::{Ledger, State};
use super::turn::unit;
use crate::beat::{Attachments, Beat, BoxDrive, Elsewhere};
use crate::clock::Clock;
use crate::feed::Feeds;
use crate::log::MissedSlots;
#[cfg(feature = "tokio")]
use crate::runtime::clock::RuntimeClock;
use crate::target::{Call, CallTarget};

/// What a timer's lock guards.
pub(super) enum Cell<V> {
    Lean(Lean<V>),
    Apart(Apart<V>),
}

/// What has a block of memory of its own. (A cell of three kinds would be larger than a lean timer.)
pub(super) enum Apart<V> {
    Booked(Box<Booked<V>>),
    Full(Box<State<V>>),
}

/// A lean timer with its books.
pub(super) struct Booked<V> {
    lean: Lean<V>,
    books: Books,
}

/// What cannot be told from the number of its runs.
#[derive(Default)]
pub(super) struct Books {
    pub(super) ledger: Ledger,
    /// Most have [`Past::NOTHING`] behind them.
    past: Option<Box<Past>>,
}

impl Books {
    /// What a lean timer has behind it.
    pub(super) fn past(books: Option<&Self>) -> &Past {
        books.and_then(|books| books.past.as_deref()).unwrap_or(&Past::NOTHING)
    }

    /// The same for a run that begins: what it is told is behind it.
    pub(super) fn past_mut<'a>(books: Option<&'a mut Self>, nothing: &'a mut Past) -> &'a mut Past {
        books.and_then(|books| books.past.as_deref_mut()).unwrap_or(nothing)
    }

    /// The run of a lean timer has ended after slots that came meanwhile. Returns what is to be told of them now; `None`,
    /// and nothing has changed, if that takes the whole state.
    pub(super) fn finish_late(
        &mut self,
        rested: &mut Rested,
        schedule: &Arc<Schedule>,
        now: Instant,
    ) -> Option<Option<MissedSlots>> {
        let mut past = *Self::past(Some(self));
        let batch = rested.finish_late(schedule, &mut past, now)?;
        **self.past.get_or_insert_default() = past;
        Some(self.ledger.note_missed(batch, now))
    }
}

impl<V> Booked<V> {
    pub(super) fn hits(&self) -> u64 {
        self.books.ledger.hits
    }
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
    /// A lean timer that was never started.
    pub(super) fn idle(lean: Lean<V>, plan: &Plan) -> Self {
        let books = plan.figures.then(|| Books { ledger: Ledger::new(plan), past: None });
        Self::of(lean, books)
    }

    fn of(lean: Lean<V>, books: Option<Books>) -> Self {
        match books {
            None => Self::Lean(lean),
            Some(books) => Self::Apart(Apart::Booked(Box::new(Booked { lean, books }))),
        }
    }

    /// The whole state, from here on.
    pub(super) fn thaw(&mut self, plan: &Plan) -> &mut State<V> {
        if let Some((lean, books)) = self.lean_with_books() {
            let feeds = lean.feeds.take();
            let mut state = Box::new(lean.state(plan, books.map(std::mem::take)));
            (state.feeds, state.driver) = (feeds, lean.driver.take());
            state.take_up(lean.call.take(), lean.phase, plan);
            *self = Self::Apart(Apart::Full(state));
        }
        match self {
            Self::Apart(Apart::Full(state)) => state,
            Self::Lean(_) | Self::Apart(Apart::Booked(_)) => unreachable!("thawed above"),
        }
    }

    /// Looks at the whole state. That of a lean timer is made for the occasion, without its target.
    pub(super) fn read<R>(&mut self, plan: &Plan, f: impl FnOnce(&State<V>) -> R) -> R {
        match self {
            Self::Apart(Apart::Full(state)) => f(state),
            Self::Lean(lean) => f(&lean.whole(plan)),
            Self::Apart(Apart::Booked(booked)) => {
                let Booked { lean, books } = &mut **booked;
                // Lent, for histograms are large.
                let lent = Books { ledger: std::mem::take(&mut books.ledger), past: books.past.clone() };
                let state = lean.state(plan, Some(lent));
                let result = f(&state);
                books.ledger = state.ledger;
                result
            }
        }
    }

    /// Makes it lean if nothing would be lost. Hands out what is not needed any more.
    pub(super) fn freeze(&mut self, plan: &Plan) -> Option<Box<State<V>>> {
        let Self::Apart(Apart::Full(state)) = self else { return None };
        let (lean, books) = state.take_lean(plan)?;
        match std::mem::replace(self, Self::of(lean, books)) {
            Self::Apart(Apart::Full(state)) => Some(state),
            Self::Lean(_) | Self::Apart(Apart::Booked(_)) => None,
        }
    }
}

impl<V> Cell<V> {
    /// A lean timer.
    pub(super) fn lean(&self) -> Option<&Lean<V>> {
        match self {
            Self::Lean(lean) => Some(lean),
            Self::Apart(Apart::Booked(booked)) => Some(&booked.lean),
            Self::Apart(Apart::Full(_)) => None,
        }
    }

    pub(super) fn lean_mut(&mut self) -> Option<&mut Lean<V>> {
        self.lean_with_books().map(|(lean, _)| lean)
    }

    /// A lean timer, and its books if it has any.
    pub(super) fn lean_with_books(&mut self) -> Option<(&mut Lean<V>, Option<&mut Books>)> {
        match self {
            Self::Lean(lean) => Some((lean, None)),
            Self::Apart(Apart::Booked(booked)) => {
                let Booked { lean, books } = &mut **booked;
                Some((lean, Some(books)))
            }
            Self::Apart(Apart::Full(_)) => None,
        }
    }

    pub(super) fn feeds_mut(&mut self) -> &mut Option<Box<Feeds<V>>> {
        match self {
            Self::Lean(lean) => &mut lean.feeds,
            Self::Apart(Apart::Booked(booked)) => &mut booked.lean.feeds,
            Self::Apart(Apart::Full(state)) => &mut state.feeds,
        }
    }

    /// A lean timer that waits at this place.
    pub(super) fn lean_that_waits(&mut self, key: Key) -> Option<(&mut Lean<V>, Option<&mut Books>)> {
        self.lean_with_books().filter(|(lean, _)| lean.phase == Phase::On(key) && !lean.rested.is_in_run())
    }

    /// The timer's place with its engine, while it runs.
    pub(super) fn key(&self) -> Option<Key> {
        match self {
            Self::Apart(Apart::Full(state)) => state.key,
            cell => match cell.lean()?.phase {
                Phase::On(key) => Some(key),
                Phase::Off(_) => None,
            },
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

    /// How many values it has delivered, if it has no books.
    pub(crate) fn hits(&self) -> u64 {
        u64::from(self.rested.runs() - u32::from(self.is_in_run()))
    }

    /// The whole state of one without books, without the target.
    pub(crate) fn whole(&self, plan: &Plan) -> State<V> {
        self.state(plan, None)
    }

    fn state(&self, plan: &Plan, books: Option<Books>) -> State<V> {
        let machine = self.machine(plan, Books::past(books.as_ref()));
        let counted = || Ledger { hits: self.hits(), ..Ledger::default() };
        let ledger = books.map_or_else(counted, |books| books.ledger);
        let mut state = State::new(ledger, machine, false);
        state.last_tick = (state.ledger.hits > 0).then(|| self.rested.last_end(&plan.schedule));
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

    fn machine(&self, plan: &Plan, past: &Past) -> Machine {
        let schedule = self.schedule(plan);
        match self.phase {
            Phase::Off(None) => Machine::new(schedule),
            Phase::On(_) => Machine::from_rest(schedule, self.rested, past),
            Phase::Off(Some(reason)) => {
                let mut machine = Machine::from_rest(schedule, self.rested, past);
                let now = machine.now();
                machine.drain(now, reason, Duration::MAX);
                machine.handle_closed();
                machine
            }
        }
    }
}

impl<V: Send + Sync + 'static> State<V> {
    /// Takes over what a lean timer has besides its books: the target, and its place with the engine.
    fn take_up(&mut self, call: Option<Call<V>>, phase: Phase, plan: &Plan) {
        let beat = call.map(|call| beat_of(call, Elsewhere::Nothing, plan));
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
    fn take_lean(&mut self, plan: &Plan) -> Option<(Lean<V>, Option<Books>)> {
        if !plan.can_be_lean || !self.waiters.is_empty() {
            return None;
        }
        let (rested, past) = self.machine.rest()?;
        let key = self.key?;
        let Ledger { hits, blocked, .. } = self.ledger;
        // A run that failed is one without a hit.
        let eventful = past != Past::NOTHING || hits != u64::from(rested.runs()) || blocked > 0;
        let plain =
            self.machine.schedule().is_alike(&plan.schedule) && !self.retired && self.failure.is_none();
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
        let keeps_books = plan.figures || eventful;
        let books = keeps_books.then(|| {
            let past = (past != Past::NOTHING).then(|| Box::new(past));
            Books { ledger: std::mem::take(&mut self.ledger), past }
        });
        Some((lean, books))
    }
}

/// The target of a lean timer with all that belongs to its runs.
pub(super) fn beat_of<V: Send + Sync + 'static>(
    call: Call<V>,
    elsewhere: Elsewhere,
    plan: &Plan,
) -> BoxDrive<V> {
    let attachments = Attachments { run_timeout: None, blocked_after: plan.blocked_after, extras: None };
    Box::pin(Beat::new(CallTarget::new(call), attachments).after(elsewhere))
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
