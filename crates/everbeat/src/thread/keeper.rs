//! The thread that keeps the time of an engine, or the host that does so in its place.

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;

use everbeat_core::Instant;

use super::engine::{Core, LINGER};
use super::hand::MOST_AT_ONCE;
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
        for _ in 0..listed {
            if !self.change(|roster| batch.take(roster, Roster::take_own_job)) {
                return;
            }
            self.take_turns(batch);
            self.change(|roster| batch.give_back(roster));
            self.let_go_all(batch);
        }
    }

    /// A round on this thread, for an engine without one of its own. Returns when the next is needed.
    pub(super) fn host_round(self: &Arc<Self>) -> Option<Instant> {
        let _kept = Kept::enter(self);
        // Who hosts an engine, a test above all, sees one timer at a time.
        let mut batch = Batch::of(1, self);
        self.round(&mut batch);
        batch.end(self);
        match self.change(Roster::rest_hosted) {
            Rest::None => Some(self.time.now()),
            Rest::Until(due) => due,
            Rest::Empty => None,
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

impl Core {
    pub(super) fn is_kept_by_this_thread(&self) -> bool {
        KEPT.try_with(|kept| ptr::eq(kept.get(), self)).unwrap_or(false)
    }
}
