//! The thread that keeps the time of an engine, or the host that does so in its place.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
#[cfg(feature = "tokio")]
use std::time::Duration;

#[cfg(any(feature = "tokio", feature = "test-engine"))]
use everbeat_core::Instant;

use super::engine::{Core, LINGER};
use super::hand::MOST_AT_ONCE;
#[cfg(feature = "tokio")]
use super::handle::Engine;
use super::roster::{Linger, Rest, Roster};
use super::runs::Batch;
use super::sleep::Sleeper;
use crate::sync::thread_local;

/// The thread that keeps the time.
impl Core {
    pub(super) fn keep(self: Arc<Self>) {
        let _kept = Kept::enter(&self);
        let mut sleeper = Sleeper::new(self.precision);
        let mut empty_since = None;
        let mut batch = Batch::of(MOST_AT_ONCE, &self);
        loop {
            self.round(&mut batch);
            match self.change(Roster::rest) {
                Rest::None => {}
                Rest::Until(due) => {
                    empty_since = None;
                    sleeper.sleep(&self.time, due, &self.note);
                }
                Rest::Empty => {
                    let now = self.time.now();
                    let until = *empty_since.get_or_insert(now) + LINGER;
                    match self.change(|roster| roster.rest_empty(now, until)) {
                        Linger::Not => empty_since = None,
                        Linger::On => sleeper.sleep(&self.time, Some(until), &self.note),
                        Linger::Over => return batch.end(&self),
                    }
                }
            }
        }
    }

    /// Everything that is due, and one turn for everybody who is on the list for this thread.
    fn round(self: &Arc<Self>, batch: &mut Batch) {
        let due_by = self.time.now();
        let (listed, mut more) = self.change(|roster| (roster.begin_round(), batch.exchange(roster, due_by)));
        while more {
            self.take_turns(batch);
            more = self.change(|roster| batch.exchange(roster, due_by));
        }
        self.take_listed_turns(listed, batch);
    }

    /// A round that takes part of what is due, and of what is listed, if that is much: other tasks of the
    /// thread have their turns too.
    #[cfg(feature = "tokio")]
    pub(super) fn short_round(self: &Arc<Self>, batch: &mut Batch) -> Rest {
        let _kept = Kept::enter(self);
        let due_by = self.time.now();
        let (listed, more) = self.change(|roster| (roster.begin_round(), batch.exchange(roster, due_by)));
        if more {
            self.take_turns(batch);
            self.change(|roster| batch.give_back(roster));
            self.let_go_all(batch);
        }
        self.take_listed_turns(listed.min(MOST_AT_ONCE), batch);
        self.change(Roster::rest_hosted)
    }

    fn take_listed_turns(self: &Arc<Self>, listed: usize, batch: &mut Batch) {
        for _ in 0..listed {
            if !self.change(|roster| batch.take(roster, Roster::take_own_job)) {
                return;
            }
            self.take_turns(batch);
            self.change(|roster| batch.give_back(roster));
            self.let_go_all(batch);
        }
    }

    /// A round on this thread, for an engine without one of its own.
    pub(super) fn host_round(self: &Arc<Self>) -> Rest {
        let _kept = Kept::enter(self);
        let spare = self.lock().spare.take();
        // Who hosts an engine, a test above all, sees one timer at a time.
        let mut batch = spare.unwrap_or_else(|| Batch::of(1, self));
        self.round(&mut batch);
        self.change(|roster| {
            roster.keep(batch);
            roster.rest_hosted()
        })
    }
}

/// Somebody who gives a hosted engine its turns, one after the other.
#[cfg(feature = "tokio")]
pub(crate) struct Turns {
    core: Arc<Core>,
    batch: Option<Batch>,
}

#[cfg(feature = "tokio")]
impl Turns {
    pub(crate) fn of(engine: &Engine) -> Self {
        let core = engine.core().clone();
        Self { batch: Some(Batch::of(MOST_AT_ONCE, &core)), core }
    }

    /// Gives turns to timers for a short while, and tells what comes next.
    pub(crate) fn take(&mut self) -> Rest {
        self.batch.as_mut().map_or(Rest::Empty, |batch| self.core.short_round(batch))
    }

    /// How long it is until then.
    pub(crate) fn time_until(&self, due: Instant) -> Duration {
        due.saturating_since(self.core.time.now())
    }
}

#[cfg(feature = "tokio")]
impl Drop for Turns {
    fn drop(&mut self) {
        if let Some(batch) = self.batch.take() {
            batch.end(&self.core);
        }
    }
}

/// For tests.
#[cfg(feature = "test-engine")]
impl Core {
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lock().next_due()
    }

    /// Gives everybody a turn who has something to do. Returns whether it has come to rest.
    pub(super) fn settle_once(self: &Arc<Self>) -> bool {
        let stirred = self.read(|roster| roster.stirred);
        self.host_round();
        self.read(|roster| roster.is_settled() || roster.stirred == stirred)
    }
}

thread_local! {
    /// The engine that this thread keeps the time for.
    static KEPT: Cell<*const Core> = const { Cell::new(ptr::null()) };
}

/// While it exists, this thread is known as the keeper of an engine.
struct Kept(*const Core);

impl Kept {
    fn enter(core: &Arc<Core>) -> Self {
        Self(KEPT.with(|kept| kept.replace(Arc::as_ptr(core))))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.with(|kept| kept.set(self.0));
    }
}

/// Whether this thread keeps the time for this engine.
pub(super) fn is_kept_by_this_thread(core: *const Core) -> bool {
    KEPT.try_with(|kept| ptr::eq(kept.get(), core)).unwrap_or(false)
}

impl Core {
    pub(super) fn is_kept_by_this_thread(&self) -> bool {
        is_kept_by_this_thread(self)
    }
}

#[cfg(all(test, feature = "testing", feature = "tokio", not(everbeat_loom)))]
mod tests;
