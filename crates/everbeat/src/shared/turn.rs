//! The turns of a timer, on an engine or in a task: how it takes its place there, and what it does when it has one.
//!
//! A lean timer makes its run here, with two short visits to its lock: one that begins the run, one that
//! ends it. If anything came in between, or the run went any other way than well, the whole state takes
//! over in the middle of the run.

use std::any::Any;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use everbeat_core::{Instant, Key, Past, Rested, Schedule, StopReason, Tick};

use super::cell::{Apart, Books, Cell, Lean, Phase, beat_of};
use super::state::{Leftovers, wake};
use super::{RunEnd, Shared};
use crate::beat::{BoxDrive, Duty, Elsewhere, Progress, log_failure, report_blocked, spans_are_wanted};
use crate::clock::Clock;
use crate::current::{Current, Scope};
use crate::error::{Error, Failure};
use crate::guard::{drop_quietly, guarded, tell};
use crate::log::MissedSlots;
use crate::target::{Call, Step};

impl<V: Send + Sync + 'static> Shared<V> {
    /// Starts the timer at this place with its engine, or in a task with this key. Returns when it has its first turn.
    pub(crate) fn start_at(&self, key: Key) -> Result<Progress, Error> {
        let start = self.clock_for_start()?;
        if let Some(due) = self.start_lean(key, &start) {
            return Ok(Progress::Sleep { until: Some(due), busy: false });
        }
        let (beat, _) = self.launch_with(start)?;
        let has_extras = beat.has_extras();
        Ok(self.change(|state, left| {
            left.unneeded = state.driver.take();
            state.settle_at(key, &self.plan);
            state.beat = Some(beat);
            if has_extras || state.machine.stop_reason().is_some() {
                // There are stop conditions to be polled, or somebody was quick to stop it.
                return Progress::Yield { restless: false };
            }
            Progress::Sleep { until: state.machine.poll_timeout(), busy: false }
        }))
    }

    fn start_lean(&self, key: Key, (clock, now): &(Clock, Instant)) -> Option<Instant> {
        let mut cell = self.lock();
        let lean = cell.lean_mut().filter(|lean| lean.phase == Phase::Off(None))?;
        lean.rested = Rested::start(&self.plan.schedule, now.add_nanos(lean.initial_delay_nanos))?;
        lean.phase = Phase::On(key);
        lean.set_clock(Some(clock));
        Some(lean.rested.due())
    }

    /// Calls off the only run of a timer. Returns whether that came in time: it has not begun, and never will.
    pub(crate) fn call_off(&self) -> bool {
        if let Some((_, in_time)) = self.stop_lean(StopReason::Cancelled) {
            return in_time;
        }
        self.command(|machine, now| {
            let in_time = machine.accepts_triggers() && machine.runs() == 0;
            machine.drain(now, StopReason::Cancelled, Duration::MAX);
            in_time
        })
    }

    /// Stops a lean timer that waits. Returns why it has ended, and whether that was now; `None` if it was
    /// never started, or if that takes the whole state.
    pub(super) fn stop_lean(&self, reason: StopReason) -> Option<(StopReason, bool)> {
        let (key, resting, driver) = {
            let mut cell = self.lock();
            let (lean, books) = cell.lean_with_books()?;
            let untold = books.is_some_and(|books| books.ledger.has_untold());
            // What is left of the last run is for the timer itself to let go of, in a turn.
            let plain = lean.call.as_ref().is_some_and(|call| call.is_plain());
            let ends_here = plain && lean.feeds.is_none() && !untold;
            let key = match lean.phase {
                Phase::On(key) if !lean.is_in_run() && ends_here => key,
                Phase::Off(Some(reason)) => return Some((reason, false)),
                Phase::Off(None) | Phase::On(_) => return None,
            };
            lean.phase = Phase::Off(Some(reason));
            (key, lean.call.take_if(|call| call.has_rest()), lean.driver.take())
        };
        if let Some(call) = resting {
            self.let_rest(call);
        }
        tell!(DEBUG, timer = %self.name(), ?reason, "timer ended");
        if let Some(engine) = self.home().engine() {
            engine.leave(key);
        }
        if let Some(driver) = driver {
            wake(driver, self.name()); // to find out that it is not needed any longer
        }
        Some((reason, true))
    }

    /// The call of a lean timer that has ended lets go of what a start makes anew. Without it the timer cannot be
    /// started again yet.
    fn let_rest(&self, mut call: Call<V>) {
        if let Err(failure) = guarded(|| call.rest()) {
            tell!(ERROR, timer = %self.name(), "letting go of the target {failure}");
        }
        let spent = match &mut *self.lock() {
            Cell::Apart(Apart::Full(state)) => {
                state.park(Some(beat_of(call, Elsewhere::Nothing, &self.plan)))
            }
            cell => {
                if let Some(lean) = cell.lean_mut() {
                    lean.call = Some(call);
                }
                None
            }
        };
        drop_quietly(spent);
    }

    /// A turn of a lean timer, for the start that has this place; `None` if it takes the whole state. `now` is
    /// moved on to the end of the turn; the clock is not read for a timer that is not lean.
    pub(crate) fn lean_turn(&self, turn: &TurnOf<'_>, now: &mut Option<Instant>) -> Option<Progress> {
        if spans_are_wanted() {
            return None; // the beat enters one for each run
        }
        let (mut call, tick, began) = {
            // Cloning and dropping a waker may run code of the user's, so it is done without the lock.
            let mut driver;
            let mut cell = self.lock();
            let (mut lean, mut books) = cell.lean_that_waits(turn.key)?;
            if let Some(fresh) = turn.driver.filter(|driver| !lean.knows(driver)) {
                drop(cell);
                driver = Some(fresh.clone());
                cell = self.lock();
                (lean, books) = cell.lean_that_waits(turn.key)?;
                std::mem::swap(&mut lean.driver, &mut driver);
            }
            let due = lean.rested.due();
            let now = *now.get_or_insert_with(turn.time);
            if now < due {
                return Some(Progress::Sleep { until: Some(due), busy: false });
            }
            let mut nothing = Past::NOTHING;
            let past = Books::past_mut(books, &mut nothing);
            let tick = lean.rested.begin(&self.plan.schedule, past, now)?;
            (lean.call.take()?, tick, now)
        };
        let mut me = Some((turn.me)());
        let step = {
            let _scope = Scope::enter(&mut me);
            guarded(|| call.call(tick))
        };
        let ended = (turn.time)().max(began);
        *now = Some(ended);
        let blocked =
            ended.saturating_since(began) >= self.plan.blocked_after && self.home().shares_its_thread();
        match step {
            Ok(Poll::Ready(Step::Value(value))) if !blocked => {
                let (progress, told) = self.deliver_lean(&mut me, &tick, call, value, ended);
                let others_follow = turn.driver.is_none();
                if others_follow && (told || std::mem::needs_drop::<V>()) {
                    // Somebody was woken or a value dropped, and who comes next is not to be blamed for that.
                    *now = Some((turn.time)().max(ended));
                }
                progress
            }
            step => {
                self.take_back(&mut me, call, Made { tick, step, ended, blocked });
                None
            }
        }
    }

    /// Returns too whether it has told anybody of the value, or of missed slots.
    fn deliver_lean(
        &self,
        me: &mut Option<Current>,
        tick: &Tick,
        call: Call<V>,
        value: V,
        now: Instant,
    ) -> (Option<Progress>, bool) {
        let (mut replaced, mut left) = (None, None);
        let unused = {
            let mut cell = self.lock();
            match cell.lean_with_books() {
                Some((lean, mut books)) => {
                    match lean.finish(&self.plan.schedule, books.as_deref_mut(), now) {
                        Some(missed) => {
                            lean.call = Some(call);
                            replaced = Some(Replaced::by(&mut lean.latest, value));
                            if let Some(Books { ledger, .. }) = books {
                                ledger.hits += 1;
                                ledger.measure(&self.plan, tick, now);
                            }
                            left = lean.leftovers(missed, now);
                            Ok(lean.rested.due())
                        }
                        None => Err((call, value)),
                    }
                }
                None => Err((call, value)),
            }
        };
        let told = left.is_some();
        if let Some(left) = left {
            left.settle_inside(self.name(), me);
        }
        {
            let _scope = std::mem::needs_drop::<V>().then(|| Scope::enter(me));
            drop_quietly(replaced);
        }
        match unused {
            Ok(due) => (Some(Progress::Sleep { until: Some(due), busy: false }), told),
            Err((call, value)) => {
                let (tick, step) = (*tick, Ok(Poll::Ready(Step::Value(value))));
                self.take_back(me, call, Made { tick, step, ended: now, blocked: false });
                (None, told)
            }
        }
    }

    /// The call of a lean timer comes back to the whole state, with what was made of its run so far.
    pub(crate) fn take_back(&self, me: &mut Option<Current>, call: Call<V>, made: Made<V>) {
        let Made { tick, step, ended, blocked } = made;
        let end = match step {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(step)) => Some(step.into()),
            Err(failure) => Some(RunEnd::Failed(failure)),
        };
        // The beat makes no further run in this turn: whoever is woken by this one has a turn first.
        let elsewhere = if end.is_none() { Elsewhere::Begun(tick) } else { Elsewhere::Made };
        let beat = beat_of(call, elsewhere, &self.plan);
        if blocked {
            report_blocked(self, ended.saturating_since(tick.started()));
        }
        if let Some(RunEnd::Failed(failure)) = &end {
            log_failure(self.name(), &tick, failure);
        }
        self.change(|state, _| state.beat = Some(beat));
        if let Some(end) = end {
            self.finish(me, ended, &tick, end);
        }
    }

    /// A turn with everything that can come up, for the start that has this place. Another start is none of
    /// its business.
    pub(crate) fn full_turn(self: &Arc<Self>, key: Key, driver: Option<&Waker>) -> Progress {
        let (Some(beat), Some(clock), bell) = self.take_beat(key) else {
            return Progress::Ended; // the timer has ended meanwhile
        };
        let Some(driver) = driver.or(bell.as_ref()) else { return Progress::Ended };
        let mut duty = Duty::resume(self, clock, beat);
        let progress = duty.poll(&mut Context::from_waker(driver));
        if let Some(beat) = duty.pause() {
            self.put_back(beat);
        }
        progress
    }

    /// The beat of the start that has this place, its clock, and what wakes it.
    fn take_beat(&self, key: Key) -> (Option<BoxDrive<V>>, Option<Clock>, Option<Waker>) {
        let mut cell = self.lock();
        if cell.key() != Some(key) {
            return (None, None, None);
        }
        let state = cell.thaw(&self.plan);
        (state.beat.take(), state.clock.clone(), state.bell.clone())
    }

    fn put_back(&self, beat: BoxDrive<V>) {
        let frozen = {
            let mut cell = self.lock();
            cell.thaw(&self.plan).beat = Some(beat);
            cell.freeze(&self.plan)
        };
        drop(frozen);
    }

    /// The engine or the task goes away before the timer has ended.
    pub(crate) fn abandon_at(self: &Arc<Self>, key: Key) {
        if let (Some(beat), Some(clock), _) = self.take_beat(key) {
            drop(Duty::resume(self, clock, beat));
        }
    }

    /// Whether the end of the start that has this place is decided, nothing is in flight, and neither a callback nor
    /// the target makes it a longer affair.
    pub(crate) fn ends_quietly(&self, key: Key) -> bool {
        self.read(|state| {
            let ends =
                state.key == Some(key) && state.machine.stop_reason().is_some() && !state.machine.is_busy();
            ends && state.beat.as_ref().is_some_and(|beat| beat.ends_easily())
        })
    }
}

impl<V: Send + Sync + 'static> Lean<V> {
    /// The run in flight has delivered: it waits for the next. Returns what is to be told of slots that it has missed;
    /// `None`, and nothing has changed, if the whole state has to deal with that.
    fn finish(
        &mut self,
        schedule: &Arc<Schedule>,
        books: Option<&mut Books>,
        now: Instant,
    ) -> Option<Option<MissedSlots>> {
        if !self.is_in_run() {
            return None;
        }
        if self.rested.finish(schedule, Books::past(books.as_deref()), now) {
            return Some(None);
        }
        // The first that it misses makes the books.
        books?.finish_late(&mut self.rested, schedule, now)
    }

    /// The newest value for whoever has subscribed, and this for the log.
    fn leftovers(&mut self, missed: Option<MissedSlots>, now: Instant) -> Option<Leftovers<V>> {
        let mut left = None;
        if let (Some(feeds), Some(latest)) = (self.feeds.as_mut(), self.latest.as_ref()) {
            left.get_or_insert_with(Leftovers::none).feed(feeds, latest, now);
        }
        if missed.is_some() {
            left.get_or_insert_with(Leftovers::none).missed = missed;
        }
        left
    }
}

/// A turn, as who gives it sees it.
pub(crate) struct TurnOf<'a> {
    /// Which start of the timer is meant: its place with its engine, or the key of its task.
    pub(crate) key: Key,
    /// The timer, to be made the current one.
    pub(crate) me: &'a dyn Fn() -> Current,
    /// The clock, which is none of the user's unless the time is given with the turn.
    pub(crate) time: &'a dyn Fn() -> Instant,
    /// What wakes the task that gives the turn, if it is not an engine.
    pub(crate) driver: Option<&'a Waker>,
}

/// What was made of a run.
pub(crate) struct Made<V> {
    pub(crate) tick: Tick,
    /// `Pending`: it goes on.
    pub(crate) step: Result<Poll<Step<V>>, Failure>,
    pub(crate) ended: Instant,
    /// It held its thread for too long.
    pub(crate) blocked: bool,
}

/// A value that has given way to a newer one.
#[derive(Debug)]
pub(super) enum Replaced<V> {
    Alone(V),
    Shared(Option<Arc<V>>),
}

impl<V: 'static> Replaced<V> {
    /// Makes `value` the latest one. If nobody else holds the one before, its place is used again and
    /// nothing is allocated.
    pub(super) fn by(latest: &mut Option<Arc<V>>, value: V) -> Self {
        let alike = size_of::<V>() == 0 && !std::mem::needs_drop::<V>();
        match latest {
            // One is like the other.
            Some(_) if alike => Self::Alone(value),
            Some(shared) => match Arc::get_mut(shared) {
                Some(place) => Self::Alone(std::mem::replace(place, value)),
                None => Self::Shared(latest.replace(Arc::new(value))),
            },
            None => {
                *latest = Some(shared(value));
                Self::Shared(None)
            }
        }
    }
}

/// Many timers deliver nothing but `()`, and need not allocate a place for it each.
fn shared<V: 'static>(value: V) -> Arc<V> {
    unit().unwrap_or_else(|| Arc::new(value))
}

/// The one `()` that all share; `None` if that is not what it is to be.
pub(crate) fn unit<V: 'static>() -> Option<Arc<V>> {
    static UNIT: LazyLock<Arc<()>> = LazyLock::new(|| Arc::new(()));
    let unit: Option<&Arc<V>> = (&*UNIT as &dyn Any).downcast_ref();
    unit.cloned()
}
