//! Which slot is next: a walk from slot to slot, each of which is booked when its time is over.

use std::collections::VecDeque;

use super::jitter::draw;
use crate::expect::{Batch, Skipped};
use crate::scenario::{MissedSpec, Mode, TimerSpec};
use crate::span::Span;

/// More slots than anybody wants to walk over.
const MOST_STEPS: u32 = 1_000_000;

/// A slot that has not been booked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) number: u64,
    pub(super) due: Span,
}

/// What a timer did while a slot passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum During {
    Run,
    Pause,
    Backoff,
}

pub(super) struct Slots<'a> {
    spec: &'a TimerSpec,
    pub(super) period: Span,
    /// The first slot that has not been booked, where it lies on the grid.
    next: Slot,
    /// With jitter: when the upcoming slot of a grid is due, drawn at the beginning of the wait for it.
    drawn: Option<Slot>,
    /// Whether the upcoming slot comes later than on the grid, and the period has changed meanwhile.
    stretched: bool,
    /// Whether that mattered: it is left open which slots of the new period have passed.
    pub(super) undecided: bool,
    /// Missed slots that a burst will run, oldest first.
    backlog: VecDeque<Slot>,
    /// Whether slots passed during the run in flight.
    late: bool,
    /// What the wait in progress counts from: the slot before the next on a grid, else the end of the last
    /// run. Nothing before the first tick.
    since: Option<Span>,
    /// How many slots were dropped since the run before.
    dropped: u64,
    pub(super) skipped: Skipped,
    pub(super) missed: u64,
    /// Slots that passed and were not reported yet: how many, how many of them were dropped, and when the
    /// first was due.
    batch: Option<(u64, u64, Span)>,
    pub(super) batches: Vec<Batch>,
    steps: u32,
}

impl<'a> Slots<'a> {
    pub(super) fn new(spec: &'a TimerSpec) -> Self {
        Self {
            spec,
            period: spec.period,
            next: Slot { number: 0, due: Span::NEVER },
            drawn: None,
            stretched: false,
            undecided: false,
            backlog: VecDeque::new(),
            late: false,
            since: None,
            dropped: 0,
            skipped: Skipped::default(),
            missed: 0,
            batch: None,
            batches: Vec::new(),
            steps: 0,
        }
    }

    /// A start: the first slot, whatever was before.
    pub(super) fn start(&mut self, now: Span) {
        self.next = Slot { number: 0, due: now.plus(self.spec.initial_delay) };
        self.drawn = self.spec.jitter.filter(|_| self.is_grid()).map(|_| self.next);
        self.stretched = false;
        self.backlog.clear();
        self.late = false;
        self.since = None;
        self.dropped = 0;
        self.batch = None;
    }

    /// Whether it took too many steps for a walk.
    pub(super) fn is_too_long(&self) -> bool {
        self.steps >= MOST_STEPS
    }

    /// The slot whose tick comes next.
    pub(super) fn upcoming(&self) -> Slot {
        let slot = self.nominal();
        self.drawn.filter(|drawn| drawn.number == slot.number).unwrap_or(slot)
    }

    fn nominal(&self) -> Slot {
        self.backlog.front().copied().unwrap_or(self.next)
    }

    /// How far a slot of the grid may stray to either side.
    fn reach(&self) -> Span {
        self.spec.jitter.map_or(Span::ZERO, |jitter| jitter.fraction.of(self.period))
    }

    /// The wait for the upcoming slot begins. On a grid it takes place within its reach, but neither before now nor
    /// in the slot after it. One past the end of time stays there.
    fn plan(&mut self, now: Span) {
        let (slot, reach) = (self.nominal(), self.reach());
        self.undecided |= self.stretched;
        let strays = self.is_grid() && reach > Span::ZERO && slot.due < Span::NEVER;
        self.drawn = self.spec.jitter.filter(|_| strays).map(|jitter| {
            let end = slot.due.plus(reach.min(self.period));
            let begin = slot.due.minus(reach).max(now).min(end);
            Slot { due: draw(jitter.seed, slot.number, begin, end), ..slot }
        });
    }

    /// How long a wait from run to run is.
    fn wait(&self, number: u64) -> Span {
        let reach = self.reach();
        let strays = reach > Span::ZERO && self.period < Span::NEVER;
        self.spec.jitter.filter(|_| strays).map_or(self.period, |jitter| {
            draw(jitter.seed, number, self.period.minus(reach), self.period.plus(reach))
        })
    }

    /// A scheduled tick takes the upcoming slot. Says how many were dropped before it.
    pub(super) fn take(&mut self) -> (Slot, u64) {
        let slot = self.upcoming();
        self.undecided |= self.stretched;
        if self.backlog.pop_front().is_none() {
            self.step();
        }
        (slot, self.tell())
    }

    /// A triggered run takes the next slot that has not passed, and the grid goes on from there; or it
    /// takes none, and the grid stays.
    pub(super) fn take_triggered(&mut self, now: Span) -> (u64, u64) {
        self.drawn = None;
        if self.is_grid() && self.spec.keep_phase {
            return (self.upcoming().number, self.tell());
        }
        self.drop_backlog(0);
        self.stretched = false;
        let number = self.next.number;
        self.next.due = now;
        self.step();
        (number, self.tell())
    }

    /// How many slots were dropped since this was last told.
    pub(super) fn tell(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Books the slots that can only have taken place before `until`.
    pub(super) fn pass(&mut self, until: Span, during: During) {
        let reach = self.reach();
        // A slot that is waited for keeps its time when the period changes.
        let kept = self.drawn.filter(|drawn| drawn.due >= until).map(|drawn| drawn.number);
        while self.is_grid()
            && self.period > Span::ZERO
            && self.next.due.plus(reach) < until
            && kept != Some(self.next.number)
            && !self.is_too_long()
        {
            self.undecided |= self.stretched;
            let slot = self.next;
            self.step();
            self.book(slot, during);
        }
    }

    /// A run has ended: the policy decides about the slots that passed.
    pub(super) fn run_ended(&mut self, now: Span) {
        if !self.is_grid() {
            self.since = Some(now);
            self.next.due = now.plus(self.wait(self.next.number));
            return;
        }
        if self.period == Span::ZERO {
            self.next.due = self.next.due.max(now);
        }
        self.drop_backlog(match self.spec.missed {
            MissedSpec::Skip | MissedSpec::Delay => 0,
            MissedSpec::Burst(max) => usize::try_from(max).unwrap_or(usize::MAX),
        });
        self.report(now);
        if std::mem::take(&mut self.late) && self.spec.missed == MissedSpec::Delay {
            self.since = Some(now);
            self.next.due = now.plus(self.period);
        }
        self.plan(now);
    }

    /// None of the slots that passed will run, and the grid stays where it is, whatever the policy.
    pub(super) fn drop_passed(&mut self, now: Span) {
        self.drop_backlog(0);
        self.late = false;
        self.report(now);
    }

    /// What was drawn for the slot that was waited for does not count any more.
    pub(super) fn end_wait(&mut self) {
        self.drawn = None;
    }

    /// Another slot is waited for if the one before it has passed.
    pub(super) fn wait_again(&mut self, now: Span) {
        if self.drawn.is_some_and(|drawn| drawn.number != self.next.number) {
            self.plan(now);
        }
    }

    /// A pause is over.
    pub(super) fn resume(&mut self, now: Span) {
        self.drop_backlog(0);
        let waits = self.drawn.is_none_or(|drawn| drawn.number == self.next.number);
        if waits && self.upcoming().due >= now {
            return;
        }
        if !self.is_grid() {
            return self.lose_wait(now);
        }
        if self.period == Span::ZERO {
            self.next.due = now; // all others have been booked
        }
        self.plan(now);
    }

    /// A fixed delay ended, and nothing came of it; another begins now.
    pub(super) fn lose_wait(&mut self, now: Span) {
        self.skipped.paused += 1;
        self.dropped += 1;
        let number = self.next.number + 1;
        self.next = Slot { number, due: now.plus(self.wait(number)) };
        self.since = Some(now);
    }

    /// Skips the upcoming slot if it is too late for it, and with it all others that passed. A burst may
    /// still run those that are not too late yet.
    pub(super) fn skip_if_too_late(&mut self, now: Span) -> bool {
        let Some(most) = self.spec.max_lateness else { return false };
        if now.minus(self.upcoming().due) <= most {
            return false;
        }
        if !self.is_grid() {
            self.note_missed(self.next);
            self.drop_late();
            self.step();
            self.since = Some(now);
            self.next.due = now.plus(self.wait(self.next.number));
            self.report(now);
            return true;
        }
        if self.period == Span::ZERO {
            // Every slot is now: none can pass, nor be too late.
            self.next.due = now;
            return true;
        }
        let bursts = matches!(self.spec.missed, MissedSpec::Burst(_));
        let is_over = |due: Span| if bursts { now.minus(due) > most } else { due < now };
        while self.backlog.front().is_some_and(|slot| is_over(slot.due)) {
            self.backlog.pop_front();
            self.drop_late();
        }
        while self.backlog.is_empty() && is_over(self.next.due) {
            self.note_missed(self.next);
            self.drop_late();
            self.step();
        }
        self.report(now);
        true
    }

    fn drop_late(&mut self) {
        self.skipped.late += 1;
        self.dropped += 1;
        self.report_dropped();
    }

    /// Another period. With `rearm` it holds for the wait in progress too, if there is one: who has asked for a run
    /// has ended it, and with it what was drawn.
    pub(super) fn set_period(&mut self, now: Span, period: Span, rearm: bool, asked: bool) {
        let was_busy = std::mem::replace(&mut self.period, period) == Span::ZERO;
        let Some(since) = self.since.filter(|_| rearm) else {
            let jitters = self.spec.jitter.is_some() && self.is_grid();
            if period == Span::ZERO {
                // What follows comes when the slot does that is waited for.
                let drawn = self.drawn.filter(|drawn| drawn.number == self.next.number && !asked);
                self.next.due = drawn.map_or(self.next.due, |drawn| drawn.due);
            }
            self.stretched = jitters && self.upcoming().due.max(now) > self.next.due;
            // The slot that is waited for keeps its time; without a period that was now.
            if self.is_grid() && was_busy {
                self.next.due = self.next.due.max(now);
            }
            return;
        };
        if !self.is_grid() {
            self.next.due = since.plus(self.wait(self.next.number)).max(now);
            return;
        }
        self.next.due = since.plus(period);
        while period > Span::ZERO && self.next.due.plus(self.reach()) < now {
            self.next.due = self.next.due.plus(period);
            self.steps += 1;
        }
        if period == Span::ZERO {
            self.next.due = self.next.due.max(now);
        }
        self.plan(now);
    }

    pub(super) fn is_grid(&self) -> bool {
        self.spec.mode == Mode::FixedRate
    }

    /// On to the slot after the next.
    fn step(&mut self) {
        self.steps += 1;
        self.since = Some(self.next.due);
        self.next = Slot { number: self.next.number + 1, due: self.next.due.plus(self.period) };
    }

    fn book(&mut self, slot: Slot, during: During) {
        match during {
            During::Pause => {
                self.skipped.paused += 1;
                self.dropped += 1;
            }
            During::Backoff => {
                self.note_missed(slot);
                self.skipped.backoff += 1;
                self.dropped += 1;
                self.report_dropped();
            }
            During::Run => {
                self.note_missed(slot);
                self.backlog.push_back(slot);
                self.late = true;
            }
        }
    }

    fn note_missed(&mut self, slot: Slot) {
        self.missed += 1;
        self.batch.get_or_insert((0, 0, slot.due)).0 += 1;
    }

    fn report_dropped(&mut self) {
        self.batch.iter_mut().for_each(|batch| batch.1 += 1);
    }

    /// Drops the oldest of the backlog, down to as many as may be kept.
    fn drop_backlog(&mut self, keep: usize) {
        while self.backlog.len() > keep {
            self.backlog.pop_front();
            self.skipped.overrun += 1;
            self.dropped += 1;
            self.report_dropped();
        }
    }

    pub(super) fn report(&mut self, now: Span) {
        let batch = self.batch.take();
        self.batches.extend(batch.map(|(missed, dropped, due)| Batch {
            missed,
            dropped,
            late: now.minus(due),
        }));
    }
}
