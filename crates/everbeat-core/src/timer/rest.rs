//! A timer in a few bytes, for those that have a million of them.
//!
//! While nothing special happens, all that a timer has to remember is when its next run is due and how
//! many it has made. Everything here is a short cut: it does exactly what the machine does, or declines.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::num::NonZeroU32;

use super::{Abort, MissedBatch, Outcome, Output, Run, Skipped, State, Timer, Troubles, Wait};
use crate::{Cause, Instant, Ratio, Schedule, Tick};

/// What a timer comes down to while nothing special happens: it waits for its next run, or is in the
/// middle of one that the schedule asked for; it is not paused, no clock ends it, and no retry or burst is
/// under way.
///
/// Made by [`Timer::rest`], with the [`Past`] that belongs to it; [`Timer::from_rest`] makes both a machine again. It
/// has room for about 2³² runs, and for one that ends 2 s after it was due; more takes the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rested {
    /// When the next run is due; during a run, when that one was.
    due: Instant,
    /// The number of the run that would begin next. Never zero, so that a choice between this and something else
    /// costs nothing.
    next_run: NonZeroU32,
    /// On a grid: how long after it was due the last run ended. The highest bit: a run is in progress.
    after_nanos: u32,
}

/// What a timer at rest has behind it. Most have run every slot since their only start, and it is
/// [`NOTHING`](Self::NOTHING): a million of them should not carry it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// How much greater the number of the next slot is than that of the runs so far; modulo 2⁶⁴, since it may be
    /// smaller as well.
    slots_ahead: u64,
    /// The runs before the last start.
    runs_before_start: u64,
    /// Slots dropped since the last run, of which the next one is to be told.
    dropped_since_run: u64,
    skipped: Skipped,
}

impl Past {
    /// That of a timer that was started once and has run in every slot.
    pub const NOTHING: Self = Self {
        slots_ahead: 0,
        runs_before_start: 0,
        dropped_since_run: 0,
        skipped: Skipped { overrun: 0, paused: 0, late: 0, backoff: 0, missed: 0 },
    };

    /// Slots that never ran, by reason.
    #[must_use]
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// The slot after so many runs.
    fn slot_after(&self, runs: u32) -> u64 {
        u64::from(runs).wrapping_add(self.slots_ahead)
    }
}

/// Set beside the nanoseconds during a run.
const IN_RUN: u32 = 1 << 31;

/// So many nanoseconds after a run was due; `None` if that is too long.
fn after(nanos: u64) -> Option<u32> {
    u32::try_from(nanos).ok().filter(|nanos| nanos & IN_RUN == 0)
}

/// One that waits for a first run at the beginning of time.
impl Default for Rested {
    fn default() -> Self {
        Self::new(Instant::ORIGIN, 0, 0)
    }
}

impl Rested {
    /// A timer that was just started, with its first run due at `due`. `None` if its schedule needs the
    /// whole machine.
    #[must_use]
    pub fn start(schedule: &Schedule, due: Instant) -> Option<Self> {
        (schedule.can_rest() && !due.is_never()).then_some(Self { due, ..Self::default() })
    }

    /// A timer that waits, of which somebody has kept these: when its next run is due, how many were begun,
    /// which have to be fewer than 2³² − 1, and what [`after_nanos`](Self::after_nanos) was.
    #[must_use]
    pub fn new(due: Instant, runs: u32, after_nanos: u32) -> Self {
        let next_run = NonZeroU32::MIN.saturating_add(runs);
        Self { due, next_run, after_nanos: after_nanos & !IN_RUN }
    }

    /// When the next run is due; during a run, when that one was.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Runs begun so far.
    #[must_use]
    pub fn runs(&self) -> u32 {
        self.next_run.get() - 1
    }

    /// Whether it is in the middle of a run.
    #[must_use]
    pub fn is_in_run(&self) -> bool {
        self.after_nanos & IN_RUN != 0
    }

    /// On a grid: how long after it was due the last run ended. Otherwise zero.
    #[must_use]
    pub fn after_nanos(&self) -> u32 {
        self.after_nanos & !IN_RUN
    }

    /// When the last run ended, while it waits for the next. Without meaning before the first.
    #[must_use]
    pub fn last_end(&self, schedule: &Schedule) -> Instant {
        match schedule.period_nanos {
            0 => self.due, // which is there
            period_nanos => self.due.sub_nanos(period_nanos).add_nanos(u64::from(self.after_nanos())),
        }
    }

    /// The same, waiting, with the last run having ended at `end`; `None` if there is no room for that: on a grid it
    /// is too long after it was due, or before; otherwise it is not where the wait began.
    #[must_use]
    pub fn with_last_end(mut self, schedule: &Schedule, end: Instant) -> Option<Self> {
        let last = self.due.sub_nanos(schedule.period_nanos);
        if schedule.period_nanos > 0 && schedule.is_grid() {
            self.after_nanos = after(end.nanos_since(last))?;
            return (end >= last).then_some(self);
        }
        (end == last).then_some(self)
    }

    /// Begins the run that it waits for; `now` must not be before it is due. `None`, and nothing has
    /// changed, if that takes the whole machine.
    #[must_use]
    pub fn begin(&mut self, schedule: &Schedule, past: &mut Past, now: Instant) -> Option<Tick> {
        let late_nanos = now.nanos_since(self.due);
        let plain = now >= self.due && !now.is_never() && late_nanos <= schedule.max_lateness_nanos;
        if !plain || self.next_run == NonZeroU32::MAX {
            return None;
        }
        let slot = past.slot_after(self.runs());
        *self = self.begun();
        let missed = core::mem::take(&mut past.dropped_since_run);
        let lateness = core::time::Duration::from_nanos(late_nanos);
        let (scheduled, cause) = (self.due, Cause::Schedule);
        Some(Tick { run: u64::from(self.runs()), slot, scheduled, lateness, missed, cause })
    }

    /// The same in the middle of the run that it waits for.
    #[must_use]
    pub fn begun(self) -> Self {
        let (next_run, after_nanos) = (self.next_run.saturating_add(1), self.after_nanos | IN_RUN);
        Self { next_run, after_nanos, ..self }
    }

    /// The run has delivered a value. Returns whether it waits for the next; if not, nothing has changed,
    /// and it takes the whole machine.
    #[must_use]
    pub fn finish(&mut self, schedule: &Schedule, past: &Past, now: Instant) -> bool {
        let (base, nanos) = if schedule.is_grid() { (self.due, now.nanos_since(self.due)) } else { (now, 0) };
        // Without a distance between slots the next one is where this run ends.
        let next = base.add_nanos(if schedule.period_nanos == 0 { nanos } else { schedule.period_nanos });
        let Some(after_nanos) = after(nanos) else { return false };
        let runs_since_start = u64::from(self.runs()).saturating_sub(past.runs_before_start);
        // A slot at this very moment is for the machine: whoever this run wakes has a turn before it. Without a
        // period there is no other, and drivers know that.
        let is_to_come = next > now || schedule.period_nanos == 0;
        let plain = is_to_come && !next.is_never() && runs_since_start < schedule.max_runs;
        if plain {
            (self.due, self.after_nanos) = (next, after_nanos);
        }
        plain
    }

    /// The same for a run after which slots have been missed. Returns those; `None`, and nothing has changed, if there
    /// are none, or if what is to follow takes the whole machine for longer than this moment.
    #[must_use]
    pub fn finish_late(
        &mut self,
        schedule: &Arc<Schedule>,
        past: &mut Past,
        now: Instant,
    ) -> Option<MissedBatch> {
        let mut machine = Timer::from_rest(schedule.clone(), *self, past);
        machine.handle_finished(now, Outcome::Success);
        let Some(Output::Missed(batch)) = machine.poll_output(now) else { return None };
        let (rested, behind) = machine.rest()?;
        let rested = rested.with_last_end(schedule, now)?;
        // As above: a slot at this very moment.
        if rested.due <= now {
            return None;
        }
        (*self, *past) = (rested, behind);
        Some(batch)
    }
}

impl Schedule {
    /// Whether a timer with this schedule can do without the machine at all.
    #[must_use]
    pub fn can_rest(&self) -> bool {
        self.jitter.fraction == Ratio::ZERO
            && self.run_timeout_nanos == u64::MAX
            && self.end_of(Instant::ORIGIN).is_never()
    }
}

impl Timer {
    /// The timer in a few bytes, and what it has behind it; `None` if it has more to remember, or is not waiting for
    /// a run.
    #[must_use]
    pub fn rest(&self) -> Option<(Rested, Past)> {
        let State::Waiting(Wait { due, cause: Cause::Schedule, requested: false }) = self.state else {
            return None;
        };
        let has_run = self.runs > self.runs_before_start;
        let nanos = if has_run && self.schedule.is_bare_grid() { due.nanos_since(self.wait_base) } else { 0 };
        let rested = Rested::new(due, u32::try_from(self.runs).ok()?, after(nanos)?);
        let plain = self.schedule.can_rest()
            && !due.is_never()
            && !self.paused
            && !self.follow_up
            && self.end_at.is_never()
            && (has_run || self.runs == 0)
            && self.troubles.as_ref().is_none_or(|troubles| troubles.are_over(self.next_slot))
            && u64::from(rested.runs()) == self.runs
            && rested.wait_base(&self.schedule) == Some(self.wait_base)
            && (!self.schedule.is_grid() || self.grid().time_of(self.next_slot) == due);
        let past = Past {
            slots_ahead: self.next_slot.wrapping_sub(self.runs),
            runs_before_start: self.runs_before_start,
            dropped_since_run: self.troubles.as_ref().map_or(0, |troubles| troubles.dropped_since_run),
            skipped: self.skipped(),
        };
        plain.then_some((rested, past))
    }

    /// The machine of a timer at rest.
    #[must_use]
    pub fn from_rest(schedule: Arc<Schedule>, rested: Rested, past: &Past) -> Self {
        let (due, running) = (rested.due, rested.is_in_run());
        let next_slot = past.slot_after(rested.runs());
        let slot = if running { next_slot.saturating_sub(1) } else { next_slot };
        let wait_base = if running { due } else { rested.wait_base(&schedule).unwrap_or(due) };
        let state = if running {
            let never = Instant::NEVER;
            State::Running(Run { slot, time_limit: never, grace_limit: never, abort: Abort::No })
        } else {
            State::Waiting(Wait { due, ..Wait::for_slot() })
        };
        let Past { slots_ahead: _, runs_before_start, dropped_since_run, skipped } = *past;
        // Whatever was dropped was skipped.
        let troubles = (skipped != Skipped::default())
            .then(|| Box::new(Troubles { dropped_since_run, skipped, ..Troubles::default() }));
        Self {
            state,
            now: wait_base,
            wait_base,
            anchor: due,
            anchor_slot: slot,
            next_slot,
            runs: u64::from(rested.runs()),
            runs_before_start,
            troubles,
            ..Self::new(schedule)
        }
    }
}

impl Troubles {
    /// Whether nothing is left of them but what was skipped, for a timer whose next slot is this.
    fn are_over(&self, next_slot: u64) -> bool {
        let Self { counted_slot, dropped_since_run: _, backoff_nanos, retry_slot: _, skipped: _, batch } =
            self;
        *counted_slot <= next_slot && *backoff_nanos == 0 && batch.is_none()
    }
}

impl Rested {
    /// What the wait in progress is measured from; `None` if that lies before the beginning of time.
    fn wait_base(&self, schedule: &Schedule) -> Option<Instant> {
        let wait = match self.runs() {
            0 => schedule.initial_delay_nanos,
            _ if schedule.is_bare_grid() => u64::from(self.after_nanos()),
            _ => schedule.period_nanos,
        };
        self.due.as_nanos().checked_sub(wait).map(Instant::from_nanos)
    }
}
