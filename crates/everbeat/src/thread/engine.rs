//! The engine: one thread that keeps the time for all its timers.
//!
//! # Invariants
//!
//! 1. One lock guards the [`Roster`]. It is held for a few instructions; under it no task is run, woken
//!    or dropped, no clock of a host is read, and no thread is woken. Only the keeper is started under it.
//! 2. The lock of a timer and the lock of an engine are never held together.
//! 3. A task lies in its seat or is with exactly one thread: two turns of a timer never overlap.
//! 4. A wake-up of a task that is away is remembered, and another turn follows.
//! 5. Before the keeper sleeps it writes down until when. Who makes something due before that calls it;
//!    nobody else does.
//! 6. What is pooled is taken by a worker, or waits while all of them are busy: a worker that is idle
//!    looks once more before it waits or goes. One that blocks for a timer lends its place to another.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ptr;
use std::sync::{Arc, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

use everbeat_core::{Instant, Key};

use super::exit::{self, stop_here_at_exit};
use super::roster::{Calls, Job, Linger, Over, Rest, Roster, Task, Woken};
use super::sleep::{Note, Precision, Sleeper};
use super::time::Time;
use crate::beat::Progress;
use crate::guard::guarded;
use crate::shared::Plans;
use crate::sync::{Condvar, Mutex, MutexGuard, thread, thread_local};

/// How long the threads of an engine stay when there is nothing left to do: who starts a timer soon after
/// does not pay for new ones.
const LINGER: Duration = Duration::from_millis(100);

/// How long a worker stays idle while there are timers.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What all handles of an engine share.
pub(super) struct Core {
    roster: Mutex<Roster>,
    /// There is work for workers, or none is to come.
    work: Condvar,
    /// A task has come back to an engine that is closed.
    returned: Condvar,
    note: Note,
    pub(super) plans: Plans,
    pub(super) time: Arc<Time>,
    pub(super) precision: Precision,
    pub(super) name: Box<str>,
    /// Whether it is one of those that everybody shares.
    is_default: bool,
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

thread_local! {
    /// The engine that this thread keeps the time for.
    static KEPT: Cell<*const Core> = const { Cell::new(ptr::null()) };
}

thread_local! {
    /// The engine that this thread is a worker of.
    static WORKED_FOR: RefCell<Option<Arc<Core>>> = const { RefCell::new(None) };
}

impl Core {
    pub(super) fn new(
        name: &str,
        precision: Precision,
        workers: usize,
        time: Time,
        is_default: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            roster: Mutex::new(Roster::new(workers)),
            work: Condvar::new(),
            returned: Condvar::new(),
            note: Note::default(),
            plans: Plans::default(),
            time: Arc::new(time),
            precision,
            name: name.into(),
            is_default,
        })
    }

    /// Looks at the roster.
    pub(super) fn read<R>(&self, f: impl FnOnce(&Roster) -> R) -> R {
        f(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Roster> {
        // By invariant 1 nothing can panic under the lock, so a poisoned one is as good as any.
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the roster, and calls whom that concerns after the release.
    pub(super) fn change<R>(self: &Arc<Self>, f: impl FnOnce(&mut Roster) -> R) -> R {
        let (result, calls) = {
            let mut roster = self.lock();
            let result = f(&mut roster);
            (result, roster.calls())
        };
        self.make(&calls);
        result
    }

    fn make(self: &Arc<Self>, calls: &Calls) {
        if calls.worker {
            self.work.notify_one();
        }
        if calls.keeper {
            self.call_keeper();
        }
        if calls.new_worker {
            self.hire();
        }
    }

    fn call_keeper(&self) {
        if let Some(host) = self.time.host() {
            if let Err(failure) = guarded(|| host.alert()) {
                tracing::error!(engine = &*self.name, "the host of an engine {failure}");
            }
            return;
        }
        self.note.leave();
        let keeper = self.lock().keeper.clone();
        if let Some(keeper) = keeper {
            keeper.unpark();
        }
    }

    pub(super) fn is_kept_by_this_thread(&self) -> bool {
        KEPT.try_with(|kept| ptr::eq(kept.get(), self)).unwrap_or(false)
    }
}

/// Tasks come and go.
impl Core {
    /// A place for a task that is about to be started. `None` if the engine is closed.
    ///
    /// # Errors
    /// The thread that keeps the time cannot be started.
    pub(super) fn enter(self: &Arc<Self>, inline: bool) -> io::Result<Option<Key>> {
        let mut roster = self.staffed()?;
        Ok((!roster.closed).then(|| roster.enter(inline)))
    }

    /// Wakes somebody at a time. `None` if the engine is closed.
    ///
    /// # Errors
    /// As [`Core::enter`].
    pub(super) fn ring_at(self: &Arc<Self>, due: Instant, waker: Waker) -> io::Result<Option<Key>> {
        let (key, calls) = {
            let mut roster = self.staffed()?;
            if roster.closed {
                drop(roster);
                return Ok(None);
            }
            (roster.ring_at(due, waker), roster.calls())
        };
        self.make(&calls);
        Ok(Some(key))
    }

    /// The roster, with a keeper, unless the engine is closed or has a host.
    fn staffed(self: &Arc<Self>) -> io::Result<MutexGuard<'_, Roster>> {
        let mut roster = self.lock();
        if roster.keeper.is_none() && !roster.closed && self.time.host().is_none() {
            exit::watch();
            let core = self.clone();
            // Under the lock: whoever comes second finds the thread or starts one, but never relies on
            // one that could not be started.
            let keeper = thread::Builder::new().name(self.thread_name()).spawn(move || core.keep())?;
            roster.keeper = Some(keeper.thread().clone());
        }
        Ok(roster)
    }

    fn thread_name(&self) -> String {
        // A thread's name ends at the first NUL, and the standard library takes none that has one.
        format!("everbeat {}", self.name.replace('\0', " "))
    }

    /// Gives a place up: of a timer that has ended, or was not started after all.
    pub(super) fn leave(self: &Arc<Self>, key: Key) {
        let (task, last) = self.change(|roster| (roster.leave(key), roster.is_deserted()));
        drop(task);
        self.tell_end(last);
    }

    /// A task has had its turn, or begins to wait for its first.
    pub(super) fn give_back(self: &Arc<Self>, key: Key, task: Task, progress: &Progress) {
        if let Some(over) = self.change(|roster| roster.give_back(key, task, progress)) {
            self.let_go(over);
        }
    }

    /// Lets go of a task that has no other turn. On an engine that is closed it is abandoned, and gives
    /// its place up when its end has been announced.
    fn let_go(self: &Arc<Self>, over: Over) {
        match over {
            Over::Ended(task) => {
                drop(task);
                self.tell_end(self.read(Roster::is_deserted));
            }
            Over::Closed(key, task) => {
                task.abandon_at_engine(key);
                self.leave(key);
            }
        }
    }

    /// Workers find out whether they are needed any longer, and so does who waits for the end.
    fn tell_end(&self, last: bool) {
        if last {
            self.work.notify_all();
            self.returned.notify_all();
        }
    }

    fn wake(self: &Arc<Self>, key: Key) {
        let task = match self.change(|roster| roster.wake(key)) {
            Woken::Away | Woken::Gone => return,
            Woken::Waiting(task) => task,
            Woken::Listed(task) => {
                if !task.ends_quietly(key) || !self.change(|roster| roster.take_listed(key)) {
                    return;
                }
                task
            }
        };
        if task.ends_quietly(key) {
            // Who cancels a timer that only waited ends it without waking anybody.
            let progress = task.clone().full_turn(key);
            return self.give_back(key, task, &progress);
        }
        self.give_back(key, task, &Progress::Yield { restless: false });
    }

    /// `now` is moved on to the end of the turn.
    fn turn_of(&self, key: Key, task: &Task, queued: bool, now: &mut Instant) -> Progress {
        if self.time.host().is_none() {
            stop_here_at_exit();
        }
        if queued {
            task.count_queued();
        }
        task.lean_turn(key, task, now).unwrap_or_else(|| {
            let progress = task.clone().full_turn(key);
            *now = self.time.now();
            progress
        })
    }

    fn perform(self: &Arc<Self>, job: Job) {
        match job {
            Job::Turn { key, task, queued } => {
                let progress = self.turn_of(key, &task, queued, &mut self.time.now());
                self.give_back(key, task, &progress);
            }
            Job::Ring(waker) => {
                if let Err(failure) = guarded(|| waker.wake()) {
                    tracing::error!(engine = &*self.name, "a waker {failure}");
                }
            }
        }
    }

    /// Ends everything that does not have its turn just now, and waits at most this long for what has.
    /// Returns how many are left.
    pub(super) fn close(self: &Arc<Self>, timeout: Duration) -> usize {
        self.change(Roster::close).into_iter().for_each(|over| self.let_go(over));
        self.work.notify_all();
        let here = self.is_kept_by_this_thread() || self.is_worked_for_by_this_thread();
        let timeout = if here { Duration::ZERO } else { timeout };
        let roster = self.lock();
        let waited = self.returned.wait_timeout_while(roster, timeout, |roster| roster.timers > 0);
        let mut roster = waited.unwrap_or_else(PoisonError::into_inner).0;
        if self.is_default {
            roster.closed = false; // it is everybody's, and there is no other
        }
        roster.timers
    }
}

/// How many timers have their turns between two looks at the roster. What becomes due meanwhile, or is
/// ended, is seen after that; whether a run may start is asked of each timer itself.
const MOST_AT_ONCE: usize = 64;

/// Timers that have their turns one after the other, taken from the roster and given back together.
struct Batch {
    most: usize,
    jobs: Vec<Job>,
    done: Vec<(Key, Task, Progress)>,
    /// Those that have no other turn.
    over: Vec<Over>,
}

impl Batch {
    fn of(most: usize) -> Self {
        Self { most, jobs: Vec::new(), done: Vec::new(), over: Vec::new() }
    }

    /// Gives back what is done, and takes what is due. Returns whether there is anything to do.
    fn exchange(&mut self, roster: &mut Roster, due_by: Instant) -> bool {
        for (key, task, progress) in self.done.drain(..) {
            self.over.extend(roster.give_back(key, task, &progress));
        }
        while self.jobs.len() < self.most {
            let Some(job) = roster.next_due_job(due_by) else { break };
            self.jobs.push(job);
        }
        !self.jobs.is_empty() || !self.over.is_empty()
    }

    /// Brings the memory of all timers in. Independent loads overlap, where those of the turns would wait
    /// for each other: with a million timers that are due in random order this halves the cost of a tick.
    fn fetch(&self) {
        let look = |sum: usize, job: &Job| match job {
            Job::Turn { task, .. } => sum.wrapping_add(task.handles()),
            Job::Ring(_) => sum,
        };
        std::hint::black_box(self.jobs.iter().fold(0, look));
    }
}

/// The thread that keeps the time.
impl Core {
    fn keep(self: Arc<Self>) {
        let _kept = Kept::enter(&self);
        let mut sleeper = Sleeper::new(self.precision);
        let mut empty_since = None;
        let mut batch = Batch::of(MOST_AT_ONCE);
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
                        Linger::Over => return,
                    }
                }
            }
        }
    }

    /// Everything that is due, and one turn for everybody who is on the list for this thread.
    fn round(self: &Arc<Self>, batch: &mut Batch) {
        let listed = self.change(Roster::begin_round);
        let due_by = self.time.now();
        while self.change(|roster| batch.exchange(roster, due_by)) {
            self.take_turns(batch);
        }
        for _ in 0..listed {
            let Some(job) = self.change(Roster::next_own_job) else { return };
            self.perform(job);
        }
    }

    /// Gives all of a batch their turn.
    fn take_turns(self: &Arc<Self>, batch: &mut Batch) {
        batch.over.drain(..).for_each(|over| self.let_go(over));
        batch.fetch();
        let mut now = self.time.now();
        for job in batch.jobs.drain(..) {
            match job {
                Job::Turn { key, task, queued } => {
                    let progress = self.turn_of(key, &task, queued, &mut now);
                    batch.done.push((key, task, progress));
                }
                ring @ Job::Ring(_) => {
                    self.perform(ring);
                    now = self.time.now();
                }
            }
        }
    }

    /// A round on this thread, for an engine without one of its own. Returns when the next is needed.
    pub(super) fn host_round(self: &Arc<Self>) -> Option<Instant> {
        let _kept = Kept::enter(self);
        // Who hosts an engine, a test above all, sees one timer at a time.
        self.round(&mut Batch::of(1));
        match self.change(Roster::rest_hosted) {
            Rest::None => Some(self.time.now()),
            Rest::Until(due) => due,
            Rest::Empty => None,
        }
    }
}

/// For tests.
#[cfg(feature = "testing")]
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

/// Workers.
impl Core {
    /// Starts a worker, which is counted as alive already.
    fn hire(self: &Arc<Self>) {
        let core = self.clone();
        let hired = thread::Builder::new().name(self.thread_name()).spawn(move || core.work());
        if let Err(error) = hired {
            tracing::error!(engine = &*self.name, %error, "a worker could not be started");
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
        let mut coming = true;
        while let Some(job) = self.next_pooled_job(coming) {
            coming = false;
            match job {
                Job::Turn { key, task, queued } => {
                    let progress = self.turn_of(key, &task, queued, &mut self.time.now());
                    let over = self.change(|roster| {
                        roster.workers.idle += 1; // it takes the next job, this task's if it is first
                        roster.give_back(key, task, &progress)
                    });
                    if let Some(over) = over {
                        self.let_go(over);
                    }
                }
                ring @ Job::Ring(_) => self.perform(ring),
            }
        }
    }

    pub(super) fn is_worked_for_by_this_thread(&self) -> bool {
        let is_it = |core: &Option<Arc<Self>>| core.as_ref().is_some_and(|core| ptr::eq(&**core, self));
        WORKED_FOR.try_with(|core| is_it(&core.borrow())).unwrap_or(false)
    }

    /// Waits for work; `None` when there has been none for long enough. The worker is not counted as
    /// alive any more then.
    fn next_pooled_job(self: &Arc<Self>, coming: bool) -> Option<Job> {
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
            if let Some(job) = roster.next_pooled_job() {
                let calls = roster.calls();
                drop(roster);
                self.make(&calls);
                return Some(job);
            }
            if !patient {
                roster.workers.alive -= 1;
                return None;
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

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("name", &self.name).field("precision", &self.precision).finish()
    }
}

/// Wakes a task.
pub(super) struct Bell {
    pub(super) core: Arc<Core>,
    pub(super) key: Key,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.core.wake(self.key);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.core.wake(self.key);
    }
}
