//! Who gives an engine its turns, if it has no thread of its own: a task that is there while there are timers.
//!
//! # Locks
//!
//! The lock guards whether there is a task, where, and what wakes it. It is held for a few instructions; under it
//! nothing is spawned, woken or dropped, and no clock is read. No other lock is taken under it, and it is taken
//! under none.
//!
//! # Invariants
//!
//! 1. There is at most one task. Who has something to do for the engine and finds none spawns it.
//! 2. A task that is about to go looks for an alert under the lock in which it writes itself off. So an alert
//!    either finds the task, which stays, or spawns another.
//! 3. Who goes because the runtime does takes all timers out before it writes itself off, in the same way.
//!    So it ends none of those for which there is another task.

use std::mem;
use std::sync::PoisonError;
use std::task::Waker;
use std::thread::ThreadId;

use crate::sync::{Mutex, MutexGuard};

/// The presence of a task, on a runtime of this kind.
#[derive(Debug)]
pub(crate) struct Attendance<R>(Mutex<Presence<R>>);

#[derive(Debug)]
struct Presence<R> {
    /// Where the task is, or is to be spawned.
    runtime: Option<R>,
    /// There is one, or somebody who takes all timers out since there can be none.
    has_task: bool,
    /// There is something to do of which the task has not heard.
    alerted: bool,
    task: Option<Waker>,
    /// The thread that polls the task, where its runtime has only one.
    thread: Option<ThreadId>,
}

impl<R> Default for Presence<R> {
    fn default() -> Self {
        Self { runtime: None, has_task: false, alerted: false, task: None, thread: None }
    }
}

impl<R> Default for Attendance<R> {
    fn default() -> Self {
        Self(Mutex::new(Presence::default()))
    }
}

/// What whoever calls the task has to do.
#[derive(Debug)]
pub(crate) enum Call<R> {
    /// There is none: it is to be spawned here.
    Spawn(R),
    Wake(Waker),
    /// It has not been polled yet, and hears of it then.
    Noted,
    /// There is neither a task nor a runtime for one.
    Nobody,
}

impl<R: Clone> Attendance<R> {
    /// There is something to do. `takes_over`: where there is [`Nobody`](Call::Nobody), the caller is on duty.
    pub(crate) fn call(&self, takes_over: bool) -> Call<R> {
        let mut presence = self.lock();
        if presence.has_task {
            presence.alerted = true;
            return presence.task.clone().map_or(Call::Noted, Call::Wake);
        }
        presence.alerted = false;
        let runtime = presence.runtime.clone();
        presence.has_task = runtime.is_some() || takes_over;
        runtime.map_or(Call::Nobody, Call::Spawn)
    }

    /// Where the task is, or the next one is to be.
    pub(crate) fn runtime(&self) -> Option<R> {
        self.lock().runtime.clone()
    }
}

impl<R> Attendance<R> {
    fn lock(&self) -> MutexGuard<'_, Presence<R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_task(&self) -> bool {
        self.lock().has_task
    }

    /// The thread that polls the task, where its runtime has only one.
    pub(crate) fn thread(&self) -> Option<ThreadId> {
        self.lock().thread
    }

    /// The next task is to be here. Returns where the last one was; `None` if there is a task by now.
    pub(crate) fn move_to(&self, runtime: R, thread: Option<ThreadId>) -> Option<Option<R>> {
        let mut presence = self.lock();
        if presence.has_task {
            drop(presence);
            return None;
        }
        presence.thread = thread;
        Some(presence.runtime.replace(runtime))
    }

    /// The task, on this thread, begins to look at the engine: it has heard every alert before this.
    pub(crate) fn listen(&self, waker: &Waker, here: ThreadId) {
        let fresh = waker.clone();
        let before = {
            let mut presence = self.lock();
            presence.alerted = false;
            if let Some(thread) = &mut presence.thread {
                *thread = here;
            }
            presence.task.replace(fresh)
        };
        drop(before);
    }

    /// The task has nothing left to do. Returns whether it goes; it stays if it was alerted meanwhile.
    pub(crate) fn write_off(&self) -> bool {
        let mut presence = self.lock();
        if presence.alerted {
            return false;
        }
        presence.has_task = false;
        let waker = presence.task.take();
        drop(presence);
        drop(waker);
        true
    }

    /// Whoever calls this is on duty, and there is no runtime any more: takes all timers out, and goes.
    pub(crate) fn leave(&self, mut take_timers_out: impl FnMut()) {
        let left = loop {
            let waker = {
                let mut presence = self.lock();
                presence.alerted = false;
                presence.task.take()
            };
            drop(waker);
            take_timers_out();
            let mut presence = self.lock();
            if !presence.alerted {
                break mem::take(&mut *presence);
            }
        };
        drop(left);
    }
}
