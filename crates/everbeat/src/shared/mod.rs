//! What a timer's handles and its driver share.
//!
//! # Invariants
//!
//! 1. One lock guards one timer's [`State`]. It is held for a few instructions and never across an await.
//! 2. Under it nothing of the user's runs: no target, no callback, no waker, no drop of a value. What has
//!    to be woken or dropped is put into [`Leftovers`] and dealt with after the release. So a panic can
//!    not strike while the lock is held, and a waker may call back into the timer.
//! 3. Lock order: a timer's lock, then the lock of one of its feeds. No two timers' locks at once.
//! 4. Whether a run may start is decided by the machine under the lock. Once a stop has been entered
//!    there, no run starts, whichever thread asks.
//! 5. Whoever changes the machine wakes the driver; the driver leaves its waker under the same lock in
//!    which it last polled the machine, so no change is overlooked.
//! 6. The count of a tick is raised in the same critical section that settles its waiters: whoever is
//!    woken by a tick sees it counted.

mod cell;
mod commands;
mod plan;
mod state;
mod turn;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::Duration;

use everbeat_core::{AbortCause, Instant, Key, Outcome, Output, StopReason, Tick, Timer as Machine};

use self::cell::{Apart, Cell};
pub(crate) use self::cell::{Lean, Phase};
pub(crate) use self::plan::{Plan, Plans};
pub(crate) use self::state::State;
use self::state::{Ledger, Leftovers, wake};
pub(crate) use self::turn::{Made, TurnOf, unit};
use crate::any::Identity;
use crate::beat::BoxDrive;
use crate::block;
use crate::current::{Current, is_inside};
use crate::error::Failure;
use crate::guard::drop_quietly;
use crate::home::Home;
use crate::name::Name;
use crate::stats::Stats;
use crate::sync::{AtomicU32, Mutex, MutexGuard};
use crate::target::{Call, Step};
use crate::waiters::{Place, Reply};

/// One timer.
pub(crate) struct Shared<V> {
    plan: Arc<Plan>,
    /// How many there are, and the flag [`DETACHED`].
    handles: AtomicU32,
    /// Turns that had to wait for a worker. A count without a lock: it must not thaw a lean timer.
    queued: AtomicU32,
    /// The place with its engine where it lay before it had a lock of its own.
    origin: Option<Key>,
    cell: Mutex<Cell<V>>,
}

/// Set among the handles once the timer does not need any.
pub(crate) const DETACHED: u32 = 1 << 31;

/// More handles than any program has. Beyond that they cannot be told from [`DETACHED`].
pub(crate) const MOST_HANDLES: u32 = 1 << 30;

/// A timer that may be stored in fewer bytes is, after a run whose number is a multiple of this.
const LAID_DOWN_EVERY: u32 = if cfg!(all(test, everbeat_loom)) { 1 } else { 8 };

/// What a driver does next.
#[derive(Debug)]
pub(crate) enum Action {
    Run(Tick),
    Abort(AbortCause),
    Stopped(StopReason),
    /// Something is due already, but others get their turn first.
    Yield,
    Wait {
        until: Option<Instant>,
        busy: bool,
    },
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum RunEnd<V> {
    Delivered(V),
    Failed(Failure),
    Exhausted,
    Aborted,
}

/// The end of a timer, for somebody who waits for it.
pub(crate) enum Ending<V> {
    /// To come.
    Awaited(Place),
    /// It has ended, as this says.
    Past(Reply<V>),
    NeverStarted,
}

impl<V> From<Step<V>> for RunEnd<V> {
    fn from(step: Step<V>) -> Self {
        match step {
            Step::Value(value) => Self::Delivered(value),
            Step::Failed(error) => Self::Failed(Failure::from_error(error)),
            Step::Exhausted => Self::Exhausted,
        }
    }
}

impl<V> RunEnd<V> {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Delivered(_) => Outcome::Success,
            Self::Failed(_) => Outcome::Failure,
            Self::Exhausted => Outcome::Exhausted,
            Self::Aborted => Outcome::Aborted,
        }
    }
}

/// What a timer runs, as it was built.
pub(crate) enum Work<V> {
    /// A target with everything that belongs to its runs.
    Beat(BoxDrive<V>),
    /// A target that is a plain call, with nothing else, and the delay before its first run. The plan has
    /// to allow a lean timer, and has no such delay.
    Lean(Call<V>, Duration),
    /// Nothing: it is a schedule without a target.
    Nothing,
}

impl<V: Send + Sync + 'static> Shared<V> {
    pub(crate) fn new(plan: Arc<Plan>, work: Work<V>) -> Arc<Self> {
        let whole = |parked: Option<BoxDrive<V>>| {
            let machine = Machine::new(plan.schedule.clone());
            let mut state = State::new(Ledger::new(&plan), machine, parked.is_none());
            state.parked = parked;
            Cell::Apart(Apart::Full(Box::new(state)))
        };
        let cell = match work {
            Work::Lean(call, delay) => Cell::idle(Lean::idle(call, delay), &plan),
            Work::Beat(beat) => whole(Some(beat)),
            Work::Nothing => whole(None),
        };
        let (handles, queued) = (AtomicU32::new(1), AtomicU32::new(0));
        Arc::new(Self { plan, handles, queued, origin: None, cell: Mutex::new(cell) })
    }

    /// A timer that was a lean one in the queue of its engine.
    pub(crate) fn taken_from_engine(
        plan: Arc<Plan>,
        key: Key,
        lean: Lean<V>,
        handles: u32,
        queued: u32,
    ) -> Arc<Self> {
        let (handles, queued) = (AtomicU32::new(handles), AtomicU32::new(queued));
        Arc::new(Self { plan, handles, queued, origin: Some(key), cell: Mutex::new(Cell::Lean(lean)) })
    }

    /// The timer to be stored elsewhere, with its handles and its queued turns, if it is a lean one that waits.
    /// Now and then only: what is asked of it again and again stays where it is.
    pub(crate) fn lay_down(&mut self) -> Option<(Lean<V>, u32, u32)> {
        // Nobody else has a reference, so all have done with it. Only the model checker, which does not see
        // references that are counted, would find an older value if this did not write.
        let latest = |count: &AtomicU32| count.fetch_or(0, Ordering::AcqRel);
        let (handles, queued) = (latest(&self.handles), latest(&self.queued));
        let Cell::Lean(lean) = self.cell.get_mut().unwrap_or_else(PoisonError::into_inner) else {
            return None;
        };
        let waits = lean.is_running() && !lean.is_in_run() && lean.call.is_some();
        let laid_down = waits && lean.feeds.is_none() && lean.rested.runs() % LAID_DOWN_EVERY == 0;
        laid_down.then(|| (std::mem::replace(lean, Lean::gone()), handles, queued))
    }

    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    pub(crate) fn name(&self) -> &Name {
        &self.plan.name
    }

    pub(crate) fn identity(&self) -> Identity {
        let here = || Identity::At(std::ptr::from_ref(self) as usize);
        self.origin.map_or_else(here, |key| self.plan.home.identity_of(key))
    }

    pub(crate) fn home(&self) -> &Home {
        &self.plan.home
    }

    /// Whether it was started and has not ended.
    pub(crate) fn is_running(&self) -> bool {
        match &*self.lock() {
            Cell::Apart(Apart::Full(state)) => state.machine.is_running(),
            cell => cell.lean().is_some_and(Lean::is_running),
        }
    }

    /// The failure that ended it.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match &*self.lock() {
            Cell::Apart(Apart::Full(state)) => state.failure.clone(),
            _ => None,
        }
    }

    /// The newest value.
    pub(crate) fn latest(&self) -> Option<Arc<V>> {
        match &*self.lock() {
            Cell::Apart(Apart::Full(state)) => state.latest.clone(),
            cell => cell.lean()?.latest.clone(),
        }
    }

    /// How many values it has delivered.
    pub(crate) fn hits(&self) -> u64 {
        match &*self.lock() {
            Cell::Apart(Apart::Full(state)) => state.ledger.hits,
            Cell::Apart(Apart::Booked(booked)) => booked.hits(),
            Cell::Lean(lean) => lean.hits(),
        }
    }

    /// Everything that is counted and measured.
    pub(crate) fn stats(&self) -> Stats {
        self.read(|state| Stats::of(self.name(), self.queued(), state))
    }

    /// Looks at the state.
    pub(crate) fn read<R>(&self, f: impl FnOnce(&State<V>) -> R) -> R {
        self.lock().read(&self.plan, f)
    }

    fn lock(&self) -> MutexGuard<'_, Cell<V>> {
        // By invariant 2 nothing can panic under the lock, so a poisoned one is as good as any.
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and deals with the leftovers after the release.
    fn change<R>(&self, f: impl FnOnce(&mut State<V>, &mut Leftovers<V>) -> R) -> R {
        let mut leftovers = Leftovers::none();
        let result = f(self.lock().thaw(&self.plan), &mut leftovers);
        leftovers.settle(self.name());
        result
    }
}

impl<V> Drop for Shared<V> {
    /// The last value and the target are the user's, and their drops may panic wherever this happens. Feeds that are
    /// still open are those of a timer that was never started, and now never will be.
    fn drop(&mut self) {
        let cell = self.cell.get_mut().unwrap_or_else(PoisonError::into_inner);
        let waiting = cell.feeds_mut().take();
        for consumer in waiting.iter().flat_map(|feeds| feeds.lines()).filter_map(|line| line.end(None)) {
            wake(consumer, &self.plan.name);
        }
        match cell {
            Cell::Apart(Apart::Full(state)) => {
                drop_quietly(state.latest.take());
                drop_quietly(state.failure.take());
                drop_quietly(state.parked.take());
                drop_quietly(state.beat.take());
            }
            cell => {
                if let Some(lean) = cell.lean_mut() {
                    drop_quietly(lean.latest.take());
                    drop_quietly(lean.call.take());
                }
            }
        }
    }
}

/// The driver's side.
impl<V: Send + Sync + 'static> Shared<V> {
    /// What to do at `now`. With `may_run` false a run that is due waits for the next call.
    pub(crate) fn next_action(&self, now: Instant, waker: &Waker, may_run: bool) -> Action {
        let mut fresh = None;
        loop {
            let action = self.change(|state, left| {
                if !state.driver.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    left.unneeded = state.driver.replace(fresh.take()?);
                }
                Some(state.next_action(now, may_run, left))
            });
            match action {
                Some(action) => return action,
                // Cloning a waker may run code of the user's, so it is done without the lock.
                None => fresh = Some(waker.clone()),
            }
        }
    }

    pub(crate) fn has_period_zero(&self) -> bool {
        match &*self.lock() {
            Cell::Apart(Apart::Full(state)) => state.machine.schedule().period().is_zero(),
            Cell::Lean(_) | Cell::Apart(Apart::Booked(_)) => self.plan.schedule.period().is_zero(),
        }
    }

    /// Whether a run is due at `now`.
    pub(crate) fn next_is_due(&self, now: Instant) -> bool {
        self.read(|state| state.machine.poll_timeout().is_some_and(|due| due <= now))
    }

    /// A run is over and nothing of it is left. What has to give way to its result is dropped as `me`, the timer that
    /// made it.
    pub(crate) fn finish(&self, me: &mut Option<Current>, now: Instant, tick: &Tick, end: RunEnd<V>) {
        let mut left = Leftovers::none();
        self.finish_under_lock(&mut left, now, tick, end);
        left.settle_inside(self.name(), me);
    }

    fn finish_under_lock(&self, left: &mut Leftovers<V>, now: Instant, tick: &Tick, end: RunEnd<V>) {
        let mut cell = self.lock();
        let state = cell.thaw(&self.plan);
        if !state.machine.is_busy() {
            // A command ended the run of a schedule without a target.
            match end {
                RunEnd::Delivered(value) => left.value = Some(value),
                RunEnd::Failed(failure) => left.failure = Some(failure),
                RunEnd::Exhausted | RunEnd::Aborted => {}
            }
            return;
        }
        if !matches!(end, RunEnd::Exhausted) {
            state.ledger.measure(&self.plan, tick, now);
        }
        state.machine.handle_finished(now, end.outcome());
        match end {
            RunEnd::Delivered(value) => state.deliver(now, tick.run, value, left),
            RunEnd::Failed(failure) => state.fail(tick.run, failure, left),
            RunEnd::Exhausted | RunEnd::Aborted => {}
        }
    }

    /// The timer has ended: ends the feeds and tells everybody who waits for a run or a count.
    pub(crate) fn announce_end(&self, reason: StopReason) {
        self.change(|state, left| state.announce_end(reason, left));
    }

    /// Everybody was told: from now on the timer can be started again, with this.
    pub(crate) fn close(&self, beat: Option<BoxDrive<V>>) {
        let spent = self.change(|state, left| {
            state.machine.handle_closed();
            left.unneeded = state.driver.take();
            left.bell = state.bell.take();
            state.key = None;
            state.settle_all(left);
            state.park(beat)
        });
        drop_quietly(spent);
    }

    /// The driver goes away before the timer has ended. Returns the reason for the end, unless it was
    /// announced before.
    pub(crate) fn abandon(&self) -> Option<StopReason> {
        self.change(|state, left| {
            if !state.machine.is_running() {
                return None;
            }
            state.machine.abandon();
            if let Some(Output::Missed(batch)) = state.machine.poll_output(state.machine.now()) {
                state.note_missed(batch, state.machine.now(), left);
            }
            let reason = state.machine.stop_reason()?;
            state.announce_end(reason, left);
            Some(reason)
        })
    }

    /// Whether a run or a callback of the timer is what is calling this.
    pub(crate) fn is_inside(&self) -> bool {
        is_inside(std::ptr::from_ref(self).cast())
    }

    /// Whether blocking this thread would keep the timer from getting on.
    pub(crate) fn needs_this_thread(&self) -> bool {
        if self.is_inside() || self.plan.home.needs_this_thread() {
            return true;
        }
        block::is_in_runtime() && self.clock().is_some_and(|clock| clock.needs_this_thread())
    }

    /// How many turns had to wait for a worker.
    pub(crate) fn queued(&self) -> u64 {
        u64::from(self.queued.load(Ordering::Relaxed))
    }

    /// Counts a turn that had to wait for a worker.
    pub(crate) fn count_queued(&self) {
        let more = |count: u32| count.checked_add(1);
        let _ = self.queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Counts a run that held its thread for too long.
    pub(crate) fn count_blocked(&self) {
        self.change(|state, _| state.ledger.blocked += 1);
    }
}

/// Handles.
impl<V: Send + Sync + 'static> Shared<V> {
    pub(crate) fn handles(&self) -> usize {
        (self.handles.load(Ordering::Relaxed) & !DETACHED) as usize
    }

    pub(crate) fn add_handle(&self) {
        let before = self.handles.fetch_add(1, Ordering::Relaxed) & !DETACHED;
        assert!(before < MOST_HANDLES, "a timer has more than 2^30 handles");
    }

    /// One handle fewer; the last one asks the timer to stop after the current run.
    pub(crate) fn release_handle(&self) {
        // AcqRel: whoever sees zero sees everything that was done through the other handles.
        if self.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.request_stop(StopReason::Dropped);
        }
    }

    /// One handle more, if there is still one or the timer does not need any.
    pub(crate) fn revive_handle(&self) -> bool {
        let alive = |count: u32| (count > 0).then_some(count + 1);
        self.handles.fetch_update(Ordering::AcqRel, Ordering::Relaxed, alive).is_ok()
    }

    pub(crate) fn detach(&self) {
        self.handles.fetch_or(DETACHED, Ordering::AcqRel);
    }
}
