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
mod plan;
mod state;
mod turn;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use everbeat_core::{
    AbortCause, Instant, Key, MissedBatch, Outcome, Output, StopReason, Tick, Timer as Machine,
};

use self::cell::Cell;
pub(crate) use self::cell::{Lean, Phase};
pub(crate) use self::plan::{Plan, Plans};
use self::state::Leftovers;
pub(crate) use self::state::State;
pub(crate) use self::turn::{Made, TurnOf, unit};
use crate::any::Identity;
use crate::beat::BoxDrive;
use crate::block;
use crate::clock::Clock;
use crate::current::is_inside;
use crate::error::{Error, Failure};
use crate::feed::{Feeds, Line};
use crate::guard::drop_quietly;
use crate::home::Home;
use crate::name::Name;
use crate::stats::Stats;
use crate::sync::{AtomicU32, Mutex, MutexGuard};
use crate::target::{Call, Step};
use crate::waiters::{Place, Reply, Want};

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
    Missed(MissedBatch),
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
            let mut state = State::new(&plan, machine, parked.is_none());
            state.parked = parked;
            Cell::Full(Box::new(state))
        };
        let cell = match work {
            Work::Lean(call, delay) => Cell::Lean(Lean::idle(call, delay)),
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
            Cell::Lean(lean) => lean.is_running(),
            Cell::Full(state) => state.machine.is_running(),
        }
    }

    /// The newest value.
    pub(crate) fn latest(&self) -> Option<Arc<V>> {
        match &*self.lock() {
            Cell::Lean(lean) => lean.latest.clone(),
            Cell::Full(state) => state.latest.clone(),
        }
    }

    /// How many values it has delivered.
    pub(crate) fn hits(&self) -> u64 {
        match &*self.lock() {
            Cell::Lean(lean) => lean.hits(),
            Cell::Full(state) => state.hits,
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
    /// The last value and the target are the user's, and their drops may panic wherever this happens.
    fn drop(&mut self) {
        match self.cell.get_mut().unwrap_or_else(PoisonError::into_inner) {
            Cell::Lean(lean) => {
                drop_quietly(lean.latest.take());
                drop_quietly(lean.call.take());
            }
            Cell::Full(state) => {
                drop_quietly(state.latest.take());
                drop_quietly(state.failure.take());
                drop_quietly(state.parked.take());
                drop_quietly(state.beat.take());
            }
        }
    }
}

/// Commands.
impl<V: Send + Sync + 'static> Shared<V> {
    /// Gives the machine a command at the present time and wakes the driver.
    pub(crate) fn command<R>(&self, f: impl FnOnce(&mut Machine, Instant) -> R) -> R {
        let now = self.present();
        self.change(|state, left| {
            let result = f(&mut state.machine, now);
            state.follow_command(now, left);
            result
        })
    }

    /// The time, read outside of the lock. Where no clock can be read (before the first start, or on a
    /// thread that is being torn down) it is the origin, which the machine takes for the latest time it
    /// has seen.
    fn present(&self) -> Instant {
        self.clock().and_then(|clock| clock.now_anywhere()).unwrap_or(Instant::ORIGIN)
    }

    /// The clock since the last start; `None` before the first.
    pub(crate) fn clock(&self) -> Option<Clock> {
        match &*self.lock() {
            Cell::Lean(lean) => lean.clock(&self.plan),
            Cell::Full(state) => state.clock.clone(),
        }
    }

    /// Stops it now.
    pub(crate) fn cancel(&self) -> Ending<V> {
        self.stop(StopReason::Cancelled, Machine::cancel)
    }

    /// Stops it gently.
    pub(crate) fn shut_down(&self, grace: Duration) -> Ending<V> {
        self.stop(StopReason::Drained, |machine, now| machine.drain(now, StopReason::Drained, grace))
    }

    /// Gives a command that ends it, and takes a place in the line for that end in the same moment: who
    /// starts it again meanwhile does not make this wait for another one. A lean timer that waits ends at
    /// once, for `reason`.
    fn stop(&self, reason: StopReason, command: impl FnOnce(&mut Machine, Instant)) -> Ending<V> {
        if let Some((reason, _)) = self.stop_lean(reason) {
            return Ending::Past(Reply::Ended(reason));
        }
        let now = self.present();
        self.change(|state, left| {
            let ending = state.queue_end();
            command(&mut state.machine, now);
            state.follow_command(now, left);
            ending
        })
    }

    /// From now on it cannot be started. It goes on if it runs; otherwise nothing needs its target.
    pub(crate) fn retire(&self) {
        let spent = self.change(|state, _| {
            state.retired = true;
            state.parked.take()
        });
        drop_quietly(spent);
    }

    /// Asks it to stop after the current run. Reads no clock and enters no runtime, so that it can be
    /// called wherever a handle can be dropped: on a thread that is being torn down, too.
    pub(crate) fn request_stop(&self, reason: StopReason) {
        if self.stop_lean(reason).is_some() || !self.is_running() {
            return;
        }
        self.change(|state, left| {
            let now = state.machine.now();
            state.machine.drain(now, reason, Duration::MAX);
            state.follow_command(now, left);
        });
    }

    fn launch_with(&self, start: (Clock, Instant)) -> Result<(BoxDrive<V>, Clock), Error> {
        self.change(|state, left| {
            if state.retired {
                return Err(Error::ScopeClosed { name: self.name().clone() });
            }
            if self.plan.single_use && state.machine.was_started() && !state.machine.is_running() {
                return Err(Error::Restart { name: self.name().clone() });
            }
            // The driver comes back with the announcement of the end: without it that is still going on.
            let Some(driver) = state.parked.take() else {
                return Err(Error::AlreadyRunning { name: self.name().clone() });
            };
            match state.start_machine(&self.plan, start, left) {
                Ok(clock) => Ok((driver, clock)),
                Err(error) => {
                    state.parked = Some(driver);
                    Err(error)
                }
            }
        })
    }

    /// As [`Shared::launch`], for a driver that is not kept here.
    pub(crate) fn launch_driven(&self) -> Result<Clock, Error> {
        let start = self.clock_for_start()?;
        self.change(|state, left| state.start_machine(&self.plan, start, left))
    }

    /// The clock for a start, and the time on it. Reading a clock may run code of the user's, so it is
    /// done without the lock.
    fn clock_for_start(&self) -> Result<(Clock, Instant), Error> {
        let (before, seen) = match &*self.lock() {
            Cell::Lean(Lean { phase: Phase::Off(None), .. }) => (None, Instant::ORIGIN),
            cell => cell.read(&self.plan, |state| {
                // The machine of a lean timer knows of its slots, and not when the last run ended.
                let seen = state.machine.now().max(state.last_tick.unwrap_or(Instant::ORIGIN));
                (state.clock.clone(), seen)
            }),
        };
        let clock = self.plan.home.clock(before.as_ref(), seen);
        let clock = clock.ok_or_else(|| Error::NoRuntime { name: self.name().clone() })?;
        let now = clock.now();
        Ok((clock, now))
    }

    /// Asks for a run and takes a place in the line for its result.
    pub(crate) fn queue_trigger(&self) -> Result<Place, Error> {
        let now = self.present();
        self.change(|state, left| {
            let run = state.machine.trigger(now).map_err(|_| state.not_running(self.name()))?;
            left.woken.extend(state.driver.take());
            Ok(state.waiters.wait_for(Want::Run(run)))
        })
    }

    /// Takes a place in the line for the result of the next run to end.
    pub(crate) fn queue_join(&self) -> Result<Place, Error> {
        self.change(|state, _| {
            if !state.machine.is_running() {
                return Err(state.not_running(self.name()));
            }
            let in_flight = u64::from(state.machine.is_busy());
            let next = state.machine.runs().saturating_add(1) - in_flight;
            Ok(state.waiters.wait_for(Want::Run(next)))
        })
    }

    /// Takes a place in the line for a hit count; `None` if it is reached already.
    pub(crate) fn queue_hits(&self, target: impl FnOnce(u64) -> u64) -> Result<Option<Place>, Error> {
        self.change(|state, _| {
            let target = target(state.hits);
            if state.hits >= target {
                return Ok(None);
            }
            if state.machine.is_running() {
                return Ok(Some(state.waiters.wait_for(Want::Hits(target))));
            }
            Err(match state.machine.stop_reason() {
                Some(reason) if state.failure.is_none() => {
                    Error::Stopped { name: self.name().clone(), reason }
                }
                _ => state.not_running(self.name()),
            })
        })
    }

    /// Takes a place in the line for the end.
    pub(crate) fn queue_end(&self) -> Ending<V> {
        if let Cell::Lean(Lean { phase: Phase::Off(Some(reason)), .. }) = &*self.lock() {
            return Ending::Past(Reply::Ended(*reason));
        }
        self.change(|state, _| state.queue_end())
    }

    /// The reply for a place, or the waker of `cx` is remembered.
    pub(crate) fn poll_reply(&self, place: Place, cx: &Context<'_>) -> Poll<Reply<V>> {
        if let Some(polled) = self.lock().thaw(&self.plan).waiters.poll(place, cx.waker()) {
            return polled;
        }
        // Cloning a waker may run code of the user's, so it is done without the lock.
        let waker = cx.waker().clone();
        self.change(|state, left| {
            left.unneeded = state.waiters.set_waker(place, waker);
            state.waiters.poll(place, cx.waker()).unwrap_or(Poll::Pending)
        })
    }

    /// Gives a place back.
    pub(crate) fn forget(&self, place: Place) {
        let (waker, reply) = self.lock().thaw(&self.plan).waiters.forget(place);
        drop(waker);
        drop_quietly(reply);
    }

    pub(crate) fn subscribe(&self, line: &Arc<Line<V>>) {
        self.change(|state, left| {
            let machine = &state.machine;
            if machine.was_started() && !machine.is_running() {
                left.woken.extend(line.end(state.failure.clone()));
            } else {
                Feeds::add(&mut state.feeds, line.clone());
            }
        });
    }

    pub(crate) fn unsubscribe(&self, line: &Arc<Line<V>>) {
        let removed = {
            let mut cell = self.lock();
            let feeds = match &mut *cell {
                Cell::Lean(lean) => &mut lean.feeds,
                Cell::Full(state) => &mut state.feeds,
            };
            Feeds::remove(feeds, line)
        };
        drop(removed);
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
                Some(state.next_action(now, may_run))
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
            Cell::Lean(_) => self.plan.schedule.period().is_zero(),
            Cell::Full(state) => state.machine.schedule().period().is_zero(),
        }
    }

    /// Whether a run is due at `now`.
    pub(crate) fn next_is_due(&self, now: Instant) -> bool {
        self.read(|state| state.machine.poll_timeout().is_some_and(|due| due <= now))
    }

    /// A run is over and nothing of it is left.
    pub(crate) fn finish(&self, now: Instant, tick: &Tick, end: RunEnd<V>) {
        self.change(|state, left| {
            if !state.machine.is_busy() {
                // A command ended the run of a schedule without a target.
                if let RunEnd::Delivered(value) = end {
                    left.value = Some(value);
                }
                return;
            }
            if self.plan.figures && !matches!(end, RunEnd::Exhausted) {
                state.lateness.record(tick.lateness);
                state.duration.record(now.saturating_since(tick.started()));
            }
            state.machine.handle_finished(now, end.outcome());
            match end {
                RunEnd::Delivered(value) => state.deliver(now, tick.run, value, left),
                RunEnd::Failed(failure) => state.fail(tick.run, failure, left),
                RunEnd::Exhausted | RunEnd::Aborted => {}
            }
        });
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
                left.missed = Some(batch);
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
        self.change(|state, _| state.blocked += 1);
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
