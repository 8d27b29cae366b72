//! The lifecycle machine: one for every driver.

mod plan;
#[cfg(test)]
mod properties;
mod rest;
#[cfg(test)]
mod tests;
mod types;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::time::Duration;

use crate::time::saturating_nanos;
use crate::{Cause, Instant, OnError, Schedule, Tick};

pub use rest::{Past, Rested};
pub use types::{AbortCause, AlreadyRunning, MissedBatch, NotRunning, Outcome, Output, Skipped, StopReason};

/// Decides when a timer ticks and what happens next. It reads no clock, runs nothing and wakes nobody:
/// a driver tells it what happened, and asks it what to do.
///
/// ```text
///          start            due            poll: Run         finished
///   Idle ────────▶ Waiting ─────▶ Due ┄┄┄┄┄┄┄┄┄┄┄▶ Running ───────────┐
///                     ▲  ▲         ▲   (the gate)     │ ▲             │
///                     │  └─────────┼──────────────────┼─┼─────────────┤ next slot, retry
///                     │            └──────────────────┼─┼─────────────┘ a trigger waited
///                     │ start                  drain  ▼ │
///                  Stopped ◀──────── Closing ◀──── Draining ─▶ Cancelling
///                          closed            finished
/// ```
///
/// # Grammar
///
/// - Getters take `&self` and can be called at any time.
/// - **Commands** come from the user: [`start`](Self::start), [`trigger`](Self::trigger),
///   [`set_period`](Self::set_period), [`pause`](Self::pause), [`resume`](Self::resume),
///   [`drain`](Self::drain), [`cancel`](Self::cancel).
/// - **Inputs** named `handle_*` come from the driver: [`handle_timeout`](Self::handle_timeout) when time
///   has passed, [`handle_finished`](Self::handle_finished) when a run is over,
///   [`handle_closed`](Self::handle_closed) when the end has been announced.
/// - **Outputs** named `poll_*` say what the driver has to do: [`poll_output`](Self::poll_output) until it
///   returns `None`, then [`poll_timeout`](Self::poll_timeout).
///
/// # Call order
///
/// After every command and every input, call `poll_output` until it returns `None` and do what it says;
/// then wait until the instant that `poll_timeout` names, the end of the current run, or the next
/// command, whichever comes first. `handle_timeout` may be called at any time, early, late or for no
/// reason: the machine trusts the time it is given, not the reason of the call. An instant before one
/// that it has already seen counts as that later one, so time never runs backwards.
///
/// # The gate
///
/// Between `Due` and `Running` a run is decided but not yet begun. A driver that has to ask somebody
/// else before it may run would leave the machine in `Due` and poll for output once it was allowed to:
/// the lateness of a tick is taken when [`Output::Run`] is polled, and a cancel, a drain or a pause in
/// between takes the run back.
#[derive(Clone, Debug)]
pub struct Timer {
    schedule: Arc<Schedule>,
    state: State,
    paused: bool,
    /// A trigger arrived during the current run: one more run follows it.
    follow_up: bool,
    /// The latest instant seen.
    now: Instant,
    /// When the clock ends this timer.
    end_at: Instant,
    /// What the next wait is measured from: on a grid the time of the slot before `next_slot`, else the
    /// end of the last run.
    wait_base: Instant,
    /// The time of `anchor_slot`, from which the times of all later slots follow.
    anchor: Instant,
    anchor_slot: u64,
    /// The first slot that has neither run nor been dropped.
    next_slot: u64,
    /// Runs begun, over all starts.
    runs: u64,
    /// `runs` at the last start.
    runs_before_start: u64,
    /// What a timer needs only once something has gone wrong.
    troubles: Option<Box<Troubles>>,
}

/// The bookkeeping of a timer that has missed, skipped or failed. Most never do, and a million of them
/// should not carry it.
#[derive(Clone, Debug, Default)]
struct Troubles {
    /// Slots below this one have been counted as missed already; a burst runs some of them late.
    counted_slot: u64,
    /// Slots dropped since the last run.
    dropped_since_run: u64,
    /// The wait before the current retry; zero after a success.
    backoff_nanos: u64,
    /// The slot of the run that is retried.
    retry_slot: u64,
    skipped: Skipped,
    batch: Option<MissedBatch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Waiting(Wait),
    Due(Wait),
    Running(Run),
    Draining(Run, StopReason),
    Cancelling(Run, StopReason),
    Closing(StopReason),
    Stopped(StopReason),
}

/// A run to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    due: Instant,
    cause: Cause,
    /// Somebody asked for it: neither a pause nor its lateness takes it back.
    requested: bool,
}

impl Wait {
    fn for_slot() -> Self {
        Self { due: Instant::NEVER, cause: Cause::Schedule, requested: false }
    }
}

/// The run in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    slot: u64,
    /// When it exceeds its own time limit.
    time_limit: Instant,
    /// When a drain loses patience with it.
    grace_limit: Instant,
    abort: Abort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Abort {
    No,
    /// The driver has yet to be told.
    Pending(AbortCause),
    Told,
}

/// Getters.
impl Timer {
    /// A timer at rest.
    #[must_use]
    pub fn new(schedule: impl Into<Arc<Schedule>>) -> Self {
        Self {
            schedule: schedule.into(),
            state: State::Idle,
            paused: false,
            follow_up: false,
            now: Instant::ORIGIN,
            end_at: Instant::NEVER,
            wait_base: Instant::ORIGIN,
            anchor: Instant::ORIGIN,
            anchor_slot: 0,
            next_slot: 0,
            runs: 0,
            runs_before_start: 0,
            troubles: None,
        }
    }

    /// The schedule in force.
    #[must_use]
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The latest instant that it was told.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Whether it was started and has not ended; true until the end has been announced.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !matches!(self.state, State::Idle | State::Stopped(_))
    }

    /// Whether further runs may start: it runs and no end has been decided.
    #[must_use]
    pub fn accepts_triggers(&self) -> bool {
        matches!(self.state, State::Waiting(_) | State::Due(_) | State::Running(_))
    }

    /// Whether a run is in flight.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self.state, State::Running(_) | State::Draining(..) | State::Cancelling(..))
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether it was ever started.
    #[must_use]
    pub fn was_started(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// Why it ended or is about to end.
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        match self.state {
            State::Closing(reason) | State::Stopped(reason) => Some(reason),
            State::Draining(_, reason) | State::Cancelling(_, reason) => Some(reason),
            State::Idle | State::Waiting(_) | State::Due(_) | State::Running(_) => None,
        }
    }

    /// When the next run is due, if one is waited for.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting(wait) | State::Due(wait) => Some(wait.due),
            _ => None,
        }
    }

    /// Runs begun so far, over all starts.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Slots that never ran, by reason.
    #[must_use]
    pub fn skipped(&self) -> Skipped {
        self.troubles.as_ref().map_or_else(Skipped::default, |troubles| troubles.skipped)
    }
}

/// Commands.
impl Timer {
    /// Starts it with a fresh schedule; run numbers and counts go on.
    ///
    /// # Errors
    /// It runs already.
    pub fn start(&mut self, now: Instant) -> Result<(), AlreadyRunning> {
        if self.is_running() {
            return Err(AlreadyRunning);
        }
        let now = self.advance(now);
        let due = now.add_nanos(self.schedule.initial_delay_nanos);
        (self.anchor, self.anchor_slot, self.next_slot) = (due, 0, 0);
        self.end_at = self.schedule.end_of(now);
        self.wait_base = now;
        self.runs_before_start = self.runs;
        (self.paused, self.follow_up) = (false, false);
        if let Some(troubles) = &mut self.troubles {
            **troubles = Troubles { skipped: troubles.skipped, ..Troubles::default() };
        }
        self.state = State::Waiting(Wait { due, ..Wait::for_slot() });
        Ok(())
    }

    /// Asks for a run now, or for exactly one more after the current one. Returns the number of the run
    /// that serves the request: it starts at or after this call. Works while paused too.
    ///
    /// # Errors
    /// It does not run, or is about to end.
    pub fn trigger(&mut self, now: Instant) -> Result<u64, NotRunning> {
        let now = self.advance(now);
        match self.state {
            State::Waiting(wait) => {
                self.note_trigger(now, wait);
                self.state = State::Due(Wait { due: now, cause: Cause::Trigger, requested: true });
            }
            State::Due(wait) => self.state = State::Due(Wait { requested: true, ..wait }),
            State::Running(_) => self.follow_up = true,
            _ => return Err(NotRunning),
        }
        Ok(self.runs.saturating_add(1))
    }

    /// Gives it another period. The wait in progress keeps its deadline unless `rearm` is set. On a grid
    /// the anchor moves to the last scheduled tick, so that neither a gap nor a burst follows, however
    /// old the timer is; what the current run has missed so far is dropped. Without effect on the wait before
    /// the first tick.
    pub fn set_period(&mut self, now: Instant, period: Duration, rearm: bool) {
        let now = self.advance(now);
        let period_nanos = saturating_nanos(period);
        if self.accepts_triggers() {
            self.change_period(now, period_nanos, rearm);
        } else {
            Arc::make_mut(&mut self.schedule).period_nanos = period_nanos;
        }
    }

    /// Ends it normally at `end`, unless it ends earlier: from then on no run starts, a current one may
    /// finish. Holds until the next start.
    pub fn end_by(&mut self, end: Instant) {
        self.end_at = self.end_at.min(end);
    }

    /// Suspends the schedule: slots that pass are skipped, and so is what a burst would still have run. A
    /// current run goes on, and triggers run.
    /// A second pause does nothing, nor does the pause of a timer that does not run.
    pub fn pause(&mut self, now: Instant) {
        let now = self.advance(now);
        if self.paused || !(self.accepts_triggers() || self.is_busy()) {
            return;
        }
        if self.accepts_triggers() {
            self.note_pause(now);
        }
        self.paused = true;
        if let State::Due(wait @ Wait { requested: false, .. }) = self.state {
            self.state = State::Waiting(wait);
        }
    }

    /// Takes the schedule up again at the next slot to come, without a burst. Without effect if it is
    /// not paused.
    pub fn resume(&mut self, now: Instant) {
        let now = self.advance(now);
        // One that is about to end has no slots to come, nor a grid that follows its period.
        if core::mem::take(&mut self.paused) && self.accepts_triggers() {
            self.skip_paused(now);
        }
    }

    /// Ends it for `reason` after the current run, or at once if there is none. A run that is still
    /// going after `grace` is given up, and the reason becomes [`StopReason::GraceExpired`], also if that
    /// is found when the run has ended; with [`Duration::MAX`] there is no such limit. A second drain can
    /// only shorten the first one's grace.
    pub fn drain(&mut self, now: Instant, reason: StopReason, grace: Duration) {
        let now = self.advance(now);
        match self.state {
            State::Waiting(_) | State::Due(_) => self.close(reason),
            State::Running(run) | State::Draining(run, _) => {
                let grace_limit = run.grace_limit.min(now + grace);
                let reason = self.stop_reason().unwrap_or(reason);
                let run = Run { grace_limit, ..run };
                // A time limit that is reached at this moment is for the driver to notice: another command
                // may come first.
                self.state =
                    if now >= grace_limit { run.out_of_grace() } else { State::Draining(run, reason) };
            }
            State::Idle | State::Cancelling(..) | State::Closing(_) | State::Stopped(_) => {}
        }
    }

    /// Ends it now: the current run, if there is one, is given up. Idempotent.
    pub fn cancel(&mut self, now: Instant) {
        self.advance(now);
        match self.state {
            State::Waiting(_) | State::Due(_) => self.close(StopReason::Cancelled),
            State::Running(run) | State::Draining(run, _) => {
                self.state = State::Cancelling(run.aborted(AbortCause::Stopping), StopReason::Cancelled);
            }
            // A grace of nothing is over at once, but this came before anybody noticed.
            State::Cancelling(run, _) if matches!(run.abort, Abort::Pending(_)) => {
                self.state = State::Cancelling(run, StopReason::Cancelled);
            }
            State::Idle | State::Cancelling(..) | State::Closing(_) | State::Stopped(_) => {}
        }
    }

    /// Records that its driver is gone, and the current run with it. What is left is to announce the end
    /// and to call [`Timer::handle_closed`].
    pub fn abandon(&mut self) {
        if self.is_running() {
            self.close(self.stop_reason().unwrap_or(StopReason::Abandoned));
        }
    }
}

/// Inputs.
impl Timer {
    /// Time has passed, or might have. Does nothing if nothing was due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        match self.state {
            State::Waiting(_) if now >= self.end_at => self.close(StopReason::Until),
            State::Waiting(wait) if now >= wait.due && !self.paused => {
                self.state = State::Due(wait);
            }
            State::Running(run) => {
                let run = run.checked_limits(now);
                let over = now >= self.end_at;
                self.state = if over { State::Draining(run, StopReason::Until) } else { State::Running(run) };
            }
            State::Draining(run, _) if now >= run.grace_limit => self.state = run.out_of_grace(),
            State::Draining(run, reason) => {
                self.state = State::Draining(run.checked_limits(now), reason);
            }
            _ => {}
        }
    }

    /// The current run is over and nothing of it is left. Ignored if no run is in flight.
    pub fn handle_finished(&mut self, now: Instant, outcome: Outcome) {
        let now = self.advance(now);
        let (run, stop) = match self.state {
            State::Running(run) => (run, None),
            State::Draining(run, reason) | State::Cancelling(run, reason) => (run, Some(reason)),
            _ => return,
        };
        self.note_backoff(outcome);
        match self.end_after(now, run.grace_limit, outcome, stop) {
            Some(reason) => self.close(reason),
            None => self.plan_after(now, run, outcome),
        }
    }

    /// The end has been announced; from now on the timer can be started again.
    pub fn handle_closed(&mut self) {
        if let State::Closing(reason) = self.state {
            self.state = State::Stopped(reason);
        }
    }
}

/// Outputs.
impl Timer {
    /// What to do next; `None` once there is nothing left to do but wait.
    ///
    /// [`Output::Stopped`] is repeated until [`Timer::handle_closed`].
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        let now = self.advance(now);
        if let Some(batch) = self.troubles.as_mut().and_then(|troubles| troubles.batch.take()) {
            return Some(Output::Missed(batch));
        }
        match &mut self.state {
            State::Due(wait) => {
                let wait = *wait;
                self.begin(now, wait)
            }
            State::Running(run) | State::Draining(run, _) | State::Cancelling(run, _) => {
                run.take_abort().map(Output::Abort)
            }
            State::Closing(reason) => Some(Output::Stopped(*reason)),
            State::Idle | State::Waiting(_) | State::Stopped(_) => None,
        }
    }

    /// When to call [`Timer::handle_timeout`] at the latest; `None` if nothing is waited for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = match self.state {
            State::Waiting(_) if self.paused => self.end_at,
            State::Waiting(wait) => wait.due.min(self.end_at),
            State::Due(wait) => wait.due,
            State::Running(run) => run.next_limit().min(self.end_at),
            State::Draining(run, _) => run.next_limit().min(run.grace_limit),
            _ => Instant::NEVER,
        };
        (!deadline.is_never()).then_some(deadline)
    }

    fn begin(&mut self, now: Instant, wait: Wait) -> Option<Output> {
        if now >= self.end_at {
            self.close(StopReason::Until);
            return self.poll_output(now);
        }
        let lateness = now.saturating_since(wait.due);
        let bound = wait.cause == Cause::Schedule && !wait.requested;
        if bound && saturating_nanos(lateness) > self.schedule.max_lateness_nanos {
            self.skip_late(now);
            return self.poll_output(now);
        }
        let slot = self.take_slot(wait);
        self.runs = self.runs.saturating_add(1);
        let troubles = self.troubles.as_mut();
        let missed = troubles.map_or(0, |troubles| core::mem::take(&mut troubles.dropped_since_run));
        let time_limit = now.add_nanos(self.schedule.run_timeout_nanos);
        self.state = State::Running(Run { slot, time_limit, grace_limit: Instant::NEVER, abort: Abort::No });
        let Wait { due: scheduled, cause, .. } = wait;
        Some(Output::Run(Tick { run: self.runs, slot, scheduled, lateness, missed, cause }))
    }

    /// The latest instant seen, `now` included.
    fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    fn close(&mut self, reason: StopReason) {
        (self.follow_up, self.paused) = (false, false);
        self.state = State::Closing(reason);
    }

    /// Lets the wait before a retry grow with a failure; anything else resets it.
    fn note_backoff(&mut self, outcome: Outcome) {
        if let (Outcome::Failure, OnError::Backoff(backoff)) = (outcome, self.schedule.on_error) {
            let troubles = self.troubles();
            troubles.backoff_nanos = backoff.next_nanos(troubles.backoff_nanos);
        } else if let Some(troubles) = &mut self.troubles {
            troubles.backoff_nanos = 0;
        }
    }

    fn troubles(&mut self) -> &mut Troubles {
        self.troubles.get_or_insert_default()
    }

    /// Whether the timer ends with this run, and why.
    fn end_after(
        &self,
        now: Instant,
        grace_limit: Instant,
        outcome: Outcome,
        stop: Option<StopReason>,
    ) -> Option<StopReason> {
        let fatal = outcome == Outcome::Failure && self.schedule.on_error == OnError::Stop;
        match stop {
            Some(reason @ (StopReason::Cancelled | StopReason::GraceExpired)) => Some(reason),
            _ if fatal => Some(StopReason::Failed),
            // Nobody could look in the middle of a run that held its thread: it is over its grace all the same.
            Some(_) if now > grace_limit => Some(StopReason::GraceExpired),
            Some(reason) => Some(reason),
            None if outcome == Outcome::Exhausted => Some(StopReason::Exhausted),
            None if self.runs - self.runs_before_start >= self.schedule.max_runs => Some(StopReason::MaxRuns),
            None if now >= self.end_at => Some(StopReason::Until),
            None => None,
        }
    }
}

impl Run {
    /// The same run, given up if it is over its time limit.
    fn checked_limits(self, now: Instant) -> Self {
        if now >= self.time_limit { self.aborted(AbortCause::TimedOut) } else { self }
    }

    /// The same run, to be given up unless it already is.
    fn aborted(self, cause: AbortCause) -> Self {
        match self.abort {
            Abort::No => Self { abort: Abort::Pending(cause), ..self },
            Abort::Pending(_) | Abort::Told => self,
        }
    }

    /// Its grace is over.
    fn out_of_grace(self) -> State {
        State::Cancelling(self.aborted(AbortCause::Stopping), StopReason::GraceExpired)
    }

    fn take_abort(&mut self) -> Option<AbortCause> {
        let Abort::Pending(cause) = self.abort else {
            return None;
        };
        self.abort = Abort::Told;
        Some(cause)
    }

    /// The time limit, as long as it has not struck.
    fn next_limit(self) -> Instant {
        match self.abort {
            Abort::No => self.time_limit,
            Abort::Pending(_) | Abort::Told => Instant::NEVER,
        }
    }
}
