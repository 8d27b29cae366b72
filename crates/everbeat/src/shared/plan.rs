//! What is settled about a timer when it is built. Timers that are built alike share it.

use std::sync::{Arc, Mutex, PoisonError, Weak};
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
    /// Whether it can only be started once.
    pub(crate) single_use: bool,
    /// How long a run may hold its thread before it is reported.
    pub(crate) blocked_after: Duration,
}

impl Plan {
    /// Whether a timer can do with the few bytes of a lean one while nothing special happens.
    pub(crate) fn can_be_lean(&self) -> bool {
        self.home.is_engine()
            && !self.figures
            && self.until.is_none()
            && !self.single_use
            && self.schedule.can_rest()
    }
}

/// The plans of an engine's timers that are likely to be used again: the last one, since who starts many
/// timers starts them in a row.
///
/// Its lock is held to compare and to exchange, and no other is taken under it.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    last: Mutex<Weak<Plan>>,
}

impl Plans {
    pub(crate) fn known(&self, alike: impl FnOnce(&Plan) -> bool) -> Option<Arc<Plan>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).upgrade()?;
        alike(&last).then_some(last)
    }

    pub(crate) fn remember(&self, plan: &Arc<Plan>) {
        let plan = Arc::downgrade(plan);
        let before = std::mem::replace(&mut *self.last.lock().unwrap_or_else(PoisonError::into_inner), plan);
        drop(before);
    }
}
