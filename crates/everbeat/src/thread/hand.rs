//! The runs of lean timers that a thread has taken together, to make one after the other.
//!
//! # Invariants
//!
//! 1. The lock of a hand is held for a few instructions. Nothing of the user's runs under it and nothing is
//!    dropped. It is taken under the engine's lock or alone; under it no other is taken.
//! 2. A run begins when its thread takes the call out of its slot. It puts the call back when the run has
//!    delivered, in the same visit in which it takes out the next.
//! 3. So everybody who holds the engine's lock finds the call of a timer here before its run, and again once
//!    it has been put back, and may take it away for good. Who finds that the run has begun leaves a note that the timer is a
//!    whole one from here on, and the thread keeps the call for that.

use std::sync::{Arc, PoisonError};

use everbeat_core::{Instant, Past, Rested, Schedule, Tick};

use crate::sync::{Mutex, MutexGuard};
use crate::target::Call;

/// How many timers have their turns between two looks at the roster. What becomes due meanwhile, or is
/// ended, is seen after that; whether a run may start is asked of each timer itself.
pub(super) const MOST_AT_ONCE: usize = if cfg!(all(test, everbeat_loom)) { 2 } else { 64 };

/// The hand of one thread.
#[derive(Clone)]
pub(super) struct Hand {
    /// What it is called in the roster.
    pub(super) number: u8,
    slots: Arc<Mutex<Vec<Slot>>>,
}

/// A lean timer that has its turn, as of the beginning of the run or, once that has delivered, of its end.
pub(super) struct Slot {
    pub(super) rested: Rested,
    /// `None` during the run, and once somebody else has taken it.
    pub(super) call: Option<Call<()>>,
    pub(super) progress: Progress,
    /// It had to wait for a worker.
    pub(super) queued: bool,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Untouched,
    /// During the run the slot is as it was before.
    Begun,
    /// The timer has become a whole one during its run.
    Promoted,
    Delivered,
    /// Somebody else has taken the timer away.
    Gone,
}

/// A run that has delivered.
pub(super) struct Delivered {
    pub(super) slot: usize,
    /// `None` once it has been put back.
    pub(super) call: Option<Call<()>>,
    pub(super) tick: Tick,
    pub(super) ended: Instant,
    rested: Rested,
}

/// What is found of a run that is to begin.
pub(super) enum Begun {
    Run(Tick, Rested, Call<()>),
    /// That takes the whole timer. It has been left where it is.
    Declined,
    Gone,
    /// The run before could not be put back, since its timer is a whole one. What that has to do comes
    /// first: it may stop this one.
    NotYet,
}

impl Slot {
    #[inline]
    pub(super) fn new(rested: Rested, call: Option<Call<()>>, queued: bool) -> Self {
        Self { rested, call, progress: Progress::Untouched, queued }
    }

    /// Takes the timer away, and returns its call; `None`, and nothing has changed, in the middle of its run.
    pub(super) fn take_away(&mut self) -> Option<Call<()>> {
        let call = self.call.take();
        if call.is_some() {
            self.progress = Progress::Gone;
        }
        call
    }

    fn begin(&mut self, schedule: &Schedule, now: Instant) -> Begun {
        if self.progress != Progress::Untouched {
            return Begun::Gone;
        }
        let mut begun = self.rested;
        match (begun.begin(schedule, &mut Past::NOTHING.clone(), now), self.call.is_some()) {
            (Some(tick), true) => {
                self.progress = Progress::Begun;
                self.call.take().map_or(Begun::Gone, |call| Begun::Run(tick, begun, call))
            }
            _ => Begun::Declined,
        }
    }

    /// Leaves the run where it is if the timer has become a whole one.
    #[inline]
    fn put_back(&mut self, run: &mut Delivered) {
        if self.progress == Progress::Begun {
            self.rested = run.rested;
            self.call = run.call.take();
            self.progress = Progress::Delivered;
        }
    }
}

impl Delivered {
    /// A run that has delivered at this time, of the timer as the run began. `None`, and the call stays there,
    /// if that takes the whole timer.
    #[inline]
    pub(super) fn new(
        slot: usize,
        call: &mut Option<Call<()>>,
        (tick, mut rested): (Tick, Rested),
        schedule: &Schedule,
        ended: Instant,
    ) -> Option<Self> {
        let plain = rested.finish(schedule, &Past::NOTHING, ended);
        plain.then(|| Self { slot, call: call.take(), tick, ended, rested })
    }
}

impl Hand {
    pub(super) fn new(number: u8) -> Self {
        Self { number, slots: Arc::new(Mutex::new(Vec::new())) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        // By invariant 1 nothing can panic under the lock, so a poisoned one is as good as any.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts back what was made before, and begins the run in a slot unless `declined`. From here on no code
    /// of another timer's comes before that of the run.
    #[inline]
    pub(super) fn begin(
        &self,
        slot: usize,
        schedule: &Schedule,
        now: Instant,
        declined: bool,
        before: Option<&mut Delivered>,
    ) -> Begun {
        let mut slots = self.lock();
        if let Some(run) = before {
            slots[run.slot].put_back(run);
            if run.call.is_some() {
                return Begun::NotYet;
            }
        }
        let slot = &mut slots[slot];
        match slot.progress {
            Progress::Untouched if declined => Begun::Declined,
            _ => slot.begin(schedule, now),
        }
    }

    /// Puts a run back, unless its timer has become a whole one.
    pub(super) fn put_back(&self, run: &mut Delivered) {
        self.lock()[run.slot].put_back(run);
    }

    /// Brings the memory of all calls in. Independent loads overlap, where those of the runs would wait for
    /// each other: with a million timers that are due in random order this halves the cost of a tick.
    pub(super) fn fetch(&self) -> usize {
        let touch = |slot: &Slot| slot.call.as_ref().map_or(0, |call| call.touch());
        self.lock().iter().map(touch).fold(0, usize::wrapping_add)
    }
}
