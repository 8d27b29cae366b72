//! What is settled about a timer when it is built. Timers that are built alike share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant as StdInstant};

use everbeat_core::Schedule;

use crate::home::Home;
use crate::name::Name;

/// How a timer was built.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: Name,
    pub(crate) home: Home,
    pub(crate) schedule: Arc<Schedule>,
    /// Whether figures of lateness and duration are kept for this timer alone.
    pub(crate) figures: bool,
    /// When the clock ends it.
    pub(crate) until: Option<StdInstant>,
    /// Whether it can do with the few bytes of a lean timer while nothing special happens.
    pub(crate) can_be_lean: bool,
    /// Whether it can only be started once.
    pub(crate) single_use: bool,
    /// How long a run may hold its thread before it is reported.
    pub(crate) blocked_after: Duration,
}

impl Plan {
    /// Whether a plan of these parts allows a lean timer, if its target does.
    pub(crate) fn is_plain(home: &Home, until: Option<StdInstant>, schedule: &Schedule) -> bool {
        // On an engine the next run would be due in the same round, over and over where time stands still.
        let is_paced = !home.is_engine() || !schedule.period().is_zero();
        home.has_lean_timers() && is_paced && until.is_none() && schedule.can_rest()
    }
}

/// How many plans are remembered.
const REMEMBERED: usize = 8;

/// The plans of an engine's timers that are likely to be used again: the newest, since who starts many
/// timers starts them in a row, of a few kinds.
///
/// Its lock is held to copy or to exchange a reference, and no other is taken under it.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    newest: Mutex<Newest>,
}

#[derive(Debug, Default)]
struct Newest {
    plans: [Weak<Plan>; REMEMBERED],
    /// The place of the oldest.
    oldest: usize,
}

impl Plans {
    pub(crate) fn known(&self, alike: impl Fn(&Plan) -> bool) -> Option<Arc<Plan>> {
        // One at a time: none is compared or dropped under the lock.
        let mut plans = (0..REMEMBERED).filter_map(|place| self.lock().plans[place].upgrade());
        plans.find(|plan| alike(plan))
    }

    pub(crate) fn remember(&self, plan: &Arc<Plan>) {
        let mut newest = self.lock();
        let place = newest.oldest;
        newest.oldest = (place + 1) % REMEMBERED;
        let forgotten = std::mem::replace(&mut newest.plans[place], Arc::downgrade(plan));
        drop(newest);
        drop(forgotten);
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
