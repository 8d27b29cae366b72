//! The threads that make the runs of an engine's timers.

use std::cell::RefCell;
use std::ptr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::engine::{Core, LINGER};
use super::roster::Roster;
use super::runs::Batch;
use crate::guard::tell;
use crate::sync::{thread, thread_local};

/// How long a worker stays idle while there are timers.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

thread_local! {
    /// The engine that this thread is a worker of.
    static WORKED_FOR: RefCell<Option<Arc<Core>>> = const { RefCell::new(None) };
}

/// Workers.
impl Core {
    /// Starts a worker, which is counted as alive already.
    pub(super) fn hire(self: &Arc<Self>) {
        let core = self.clone();
        let hired = thread::Builder::new().name(self.thread_name()).spawn(move || core.live(Self::work));
        if let Err(error) = hired {
            tell!(ERROR, engine = &*self.name, %error, "a worker could not be started");
            // Another one cannot be had either, so only the keeper is called, if anybody.
            let calls = {
                let mut roster = self.lock();
                roster.miss_worker();
                roster.keeper_calls()
            };
            self.make(&calls);
        }
    }

    fn work(self: Arc<Self>) {
        WORKED_FOR.with(|core| core.replace(Some(self.clone())));
        let (mut coming, mut batch) = (true, Batch::of(1, &self));
        while self.next_pooled_job(coming, &mut batch) {
            coming = false;
            self.take_turns(&mut batch);
            self.change(|roster| {
                roster.workers.idle += 1; // it takes the next job, this task's if it is first
                batch.give_back(roster);
            });
            self.let_go_all(&mut batch);
        }
        batch.end(&self);
    }

    pub(super) fn is_worked_for_by_this_thread(&self) -> bool {
        let is_it = |core: &Option<Arc<Self>>| core.as_ref().is_some_and(|core| ptr::eq(&**core, self));
        WORKED_FOR.try_with(|core| is_it(&core.borrow())).unwrap_or(false)
    }

    /// Waits for work. Returns whether there is any: if there has been none for long enough, the worker is
    /// not counted as alive any more.
    fn next_pooled_job(self: &Arc<Self>, coming: bool, batch: &mut Batch) -> bool {
        let mut roster = self.lock();
        if coming {
            roster.workers.coming -= 1;
        } else {
            roster.workers.idle -= 1;
        }
        let mut patient = true;
        loop {
            if roster.workers.alive > roster.workers.most {
                patient = false; // a place that was lent has been given back
            }
            if batch.take(&mut roster, Roster::take_pooled_job) {
                let calls = roster.calls();
                drop(roster);
                self.make(&calls);
                return true;
            }
            if !patient {
                roster.workers.alive -= 1;
                return false;
            }
            let limit = if roster.timers == 0 { LINGER } else { KEEP_ALIVE };
            roster.workers.idle += 1;
            let waited = self.work.wait_timeout(roster, limit).unwrap_or_else(PoisonError::into_inner);
            roster = waited.0;
            roster.workers.idle -= 1;
            patient = !waited.1.timed_out();
        }
    }
}

/// While it exists, the worker that this thread is does not count as one: it waits for something that
/// another may have to do.
pub(crate) struct LentPlace(Option<Arc<Core>>);

impl LentPlace {
    pub(crate) fn lend() -> Self {
        let core = WORKED_FOR.try_with(|core| core.borrow().clone()).ok().flatten();
        if let Some(core) = &core {
            core.change(|roster| roster.workers.most += 1);
        }
        Self(core)
    }
}

impl Drop for LentPlace {
    fn drop(&mut self) {
        if let Some(core) = &self.0 {
            core.change(|roster| roster.workers.most -= 1);
        }
    }
}
