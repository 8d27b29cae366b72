//! Handles of lean timers: they name a place in the queue of an engine; see `lean.rs`.

use std::sync::Arc;

use everbeat_core::{Instant, Key, Rested, StopReason};

use super::engine::{Core, Refusal};
use super::lean::{Found, Record, Released, Stopped};
use crate::any::Identity;
use crate::error::Error;
use crate::guard::{drop_quietly, tell};
use crate::shared::{Plan, Shared};
use crate::target::Call;

/// A place in the queue of an engine where a timer is, or was before it became a whole one. It stays there
/// as long as this exists.
#[derive(Debug)]
pub(crate) struct Placed {
    plan: Arc<Plan>,
    pub(super) key: Key,
}

impl Placed {
    /// One that does not count as a handle.
    pub(super) fn new(plan: Arc<Plan>, key: Key) -> Self {
        Self { plan, key }
    }

    /// When a timer is due first that is started now; `None` if it cannot be a lean one then.
    pub(crate) fn first_due(plan: &Plan, initial_delay_nanos: u64) -> Option<Instant> {
        let core = plan.home.engine()?.core();
        core.attended().ok()?;
        let now = core.time.now();
        let rested = Rested::start(&plan.schedule, now.add_nanos(initial_delay_nanos))?;
        Some(rested.due())
    }

    /// Starts a timer that is first due at this time. This is its handle.
    pub(crate) fn start(
        plan: Arc<Plan>,
        call: Call<()>,
        initial_delay_nanos: u64,
        due: Instant,
    ) -> Result<Self, Error> {
        let record = |pooled| Record::new(plan.clone(), Some(call), initial_delay_nanos, pooled);
        match core_of(&plan).enter_lean(due, plan.home.is_inline(), record) {
            Ok(key) => Ok(Self { plan, key }),
            Err(refusal) => Err(refusal.of(&plan.name)),
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        self.plan.home.identity_of(self.key)
    }

    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Looks at the timer.
    pub(crate) fn find(&self) -> Found<()> {
        let core = core_of(&self.plan);
        core.read(|roster| roster.find_lean(self.key)).expect(STAYS)
    }

    /// The timer as a whole one, which it is from here on.
    pub(crate) fn promote(&self) -> Arc<Shared<()>> {
        core_of(&self.plan).promote(self.key).expect(STAYS)
    }

    /// As [`Placed::promote`], for whoever is inside a run.
    pub(crate) fn promote_inside(&self) -> Option<Arc<Shared<()>>> {
        core_of(&self.plan).promote(self.key)
    }

    /// Whether this is where that timer was before it became a whole one.
    pub(crate) fn was_place_of(&self, timer: *const ()) -> bool {
        let core = core_of(&self.plan);
        let found = core.read(|roster| roster.find_lean(self.key));
        matches!(found, Some(Found::Whole(whole)) if std::ptr::addr_eq(Arc::as_ptr(&whole), timer))
    }

    /// Ends the timer for `reason` if it only waits.
    pub(crate) fn stop(&self, reason: StopReason) -> Stopped {
        let core = core_of(&self.plan);
        let stopped = core.change(|roster| roster.stop_lean(self.key, reason)).expect(STAYS);
        if let Stopped::Now { last } = stopped {
            tell!(DEBUG, timer = %self.plan.name, ?reason, "timer ended");
            core.tell_end(last);
        }
        stopped
    }

    /// Another handle. `Err`: one of the whole timer that it has become.
    pub(crate) fn another(&self) -> Result<Self, Arc<Shared<()>>> {
        let added = core_of(&self.plan).lock().add_lean_handle(self.key);
        let whole = added.unwrap_or_else(|()| panic!("a timer has more than 2^30 handles"));
        whole.map_or_else(|| Ok(Self { plan: self.plan.clone(), key: self.key }), Err)
    }

    /// The timer does not need handles from here on.
    pub(crate) fn detach(&self) {
        let whole = core_of(&self.plan).lock().detach_lean(self.key);
        if let Some(whole) = whole {
            whole.detach();
        }
    }

    /// This is a handle no more; with the last one a timer ends that only waits, and others are asked to.
    pub(crate) fn release(&self) {
        let core = core_of(&self.plan);
        match core.change(|roster| roster.release_lean(self.key)) {
            Released::Nothing => {}
            Released::Record { record, ended, last } => {
                if ended {
                    tell!(DEBUG, timer = %self.plan.name, reason = ?StopReason::Dropped, "timer ended");
                }
                drop_quietly(record.into_call());
                core.tell_end(last);
            }
            Released::Whole(timer) => timer.release_handle(),
        }
    }
}

/// Why there is a timer wherever a handle names a place.
const STAYS: &str = "a place stays as long as a handle names it";

fn core_of(plan: &Plan) -> &Arc<Core> {
    plan.home.engine().expect("lean timers live on engines").core()
}

impl Core {
    /// Takes a lean timer in that is due first at this time.
    fn enter_lean(
        self: &Arc<Self>,
        due: Instant,
        inline: bool,
        record: impl FnOnce(bool) -> Record,
    ) -> Result<Key, Refusal> {
        let (key, calls) = {
            let mut roster = match self.staffed() {
                Ok(roster) => roster,
                Err(refusal) => {
                    drop_quietly(record);
                    return Err(refusal);
                }
            };
            let pooled = !inline && roster.workers.most > 0;
            (roster.enter_lean(due, record(pooled)), roster.calls())
        };
        self.make(&calls);
        Ok(key)
    }

    /// The timer at this place as a whole one, which it is from here on.
    pub(super) fn promote(self: &Arc<Self>, key: Key) -> Option<Arc<Shared<()>>> {
        self.change(|roster| roster.promote(key))
    }
}
