//! The engine: one thread that keeps the time for all its timers, and what all its threads share. The
//! keeper itself is in `keeper.rs`, the workers in `workers.rs`, timers that need no lock of their own in
//! `lean.rs`.
//!
//! # Invariants
//!
//! 1. One lock guards the [`Roster`]. It is held for a few instructions; under it no task is run, woken
//!    or dropped, no clock of a host is read, and no thread is woken. Only the keeper is started under it.
//! 2. The lock of a timer and the lock of an engine are never held together. That of a hand may be taken
//!    under the engine's; see `hand.rs`.
//! 3. A task lies in its seat or is with exactly one thread: two turns of a timer never overlap.
//! 4. A wake-up of a task that is away is remembered, and another turn follows.
//! 5. Before the keeper sleeps it writes down until when. Who makes something due before that calls it;
//!    nobody else does.
//! 6. What is pooled is taken by a worker, or waits while all of them are busy: a worker that is idle
//!    looks once more before it waits or goes. One that blocks for a timer lends its place to another.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

use everbeat_core::{Instant, Key, StopReason};

use super::exit::{self, stop_here_at_exit};
use super::roster::{Calls, Job, Over, Roster, Task, Woken};
use super::sleep::{Note, Precision};
use super::time::Time;
use crate::beat::Progress;
use crate::current::Current;
use crate::error::Error;
use crate::guard::{drop_quietly, guarded, tell};
use crate::name::Name;
use crate::shared::{Plans, TurnOf};
use crate::sync::{AtomicU32, Condvar, Mutex, MutexGuard, thread};

/// How long the threads of an engine stay when there is nothing left to do: who starts a timer soon after
/// does not pay for new ones.
pub(super) const LINGER: Duration = Duration::from_millis(100);

/// What all handles of an engine share.
pub(super) struct Core {
    roster: Mutex<Roster>,
    /// There is work for workers, or none is to come.
    pub(super) work: Condvar,
    /// A task has come back to an engine that is closed.
    returned: Condvar,
    /// [`Roster::closings`], for threads that have taken turns before and have not come to them yet.
    pub(super) closings: AtomicU32,
    pub(super) note: Note,
    pub(super) plans: Plans,
    pub(super) time: Arc<Time>,
    pub(super) precision: Precision,
    pub(super) name: Box<str>,
    /// Whether it takes new timers after it was closed: there is no other in its place.
    reopens: bool,
    /// What each thread lives in.
    frame: Option<Frame>,
}

/// Something of the user's that surrounds the life of a thread.
pub(super) type Frame = Arc<dyn Fn(&mut (dyn FnMut() + Send)) + Send + Sync>;

impl Core {
    pub(super) fn new(
        name: &str,
        precision: Precision,
        workers: usize,
        time: Time,
        reopens: bool,
        frame: Option<Frame>,
    ) -> Arc<Self> {
        Arc::new(Self {
            roster: Mutex::new(Roster::new(workers)),
            work: Condvar::new(),
            returned: Condvar::new(),
            closings: AtomicU32::new(0),
            note: Note::default(),
            plans: Plans::default(),
            time: Arc::new(time),
            precision,
            name: name.into(),
            reopens,
            frame,
        })
    }

    /// Looks at the roster.
    pub(super) fn read<R>(&self, f: impl FnOnce(&Roster) -> R) -> R {
        f(&self.lock())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Roster> {
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

    pub(super) fn make(self: &Arc<Self>, calls: &Calls) {
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
                tell!(ERROR, engine = &*self.name, "the host of an engine {failure}");
            }
            return;
        }
        self.note.leave();
        let keeper = self.lock().keeper.clone();
        if let Some(keeper) = keeper {
            keeper.unpark();
        }
    }
}

/// Tasks come and go.
impl Core {
    /// A place for a task that is about to be started.
    pub(super) fn enter(self: &Arc<Self>, inline: bool) -> Result<Key, Refusal> {
        self.attended()?;
        Ok(self.staffed()?.enter(inline))
    }

    /// Wakes somebody at a time.
    pub(super) fn ring_at(self: &Arc<Self>, due: Instant, waker: Waker) -> Result<Key, Refusal> {
        let (key, calls) = {
            self.attended()?;
            let mut roster = self.staffed()?;
            (roster.ring_at(due, waker), roster.calls())
        };
        self.make(&calls);
        Ok(key)
    }

    /// Asks the host of an engine to keep its time. To be done before the time is read for a start.
    pub(super) fn attended(&self) -> Result<(), Refusal> {
        let Some(host) = self.time.host() else { return Ok(()) };
        match guarded(|| host.attend()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::Unattended),
            Err(failure) => {
                tell!(ERROR, engine = &*self.name, "the host of an engine {failure}");
                Err(Refusal::Unattended)
            }
        }
    }

    /// The roster of an engine that is open, with a keeper if it has one of its own.
    pub(super) fn staffed(self: &Arc<Self>) -> Result<MutexGuard<'_, Roster>, Refusal> {
        let mut roster = self.lock();
        if roster.closed {
            return Err(Refusal::Closed);
        }
        if roster.keeper.is_none() && self.time.host().is_none() {
            exit::watch();
            let core = self.clone();
            // Under the lock: whoever comes second finds the thread or starts one, but never relies on
            // one that could not be started.
            let keeper =
                thread::Builder::new().name(self.thread_name()).spawn(move || core.live(Self::keep))?;
            roster.keeper = Some(keeper.thread().clone());
        }
        Ok(roster)
    }

    /// The life of a thread, inside what the user has put around it.
    pub(super) fn live(self: &Arc<Self>, life: fn(Arc<Self>)) {
        let mut core = Some(self.clone());
        if let Some(frame) = &self.frame {
            if let Err(failure) = guarded(|| frame(&mut || _ = core.take().map(life))) {
                tell!(ERROR, engine = &*self.name, "what surrounds the threads of an engine {failure}");
            }
        }
        // One that fails before it has called what it is given, or does not call it, leaves the thread bare.
        core.map(life);
    }

    pub(super) fn thread_name(&self) -> String {
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
    pub(super) fn let_go(self: &Arc<Self>, over: Over) {
        match over {
            Over::Ended(task) => {
                drop(task);
                self.tell_end(self.read(Roster::is_deserted));
            }
            Over::Closed(key, task) => {
                task.abandon_at(key);
                self.leave(key);
            }
            Over::Lean(plan, call) => {
                tell!(DEBUG, timer = %plan.name, reason = ?StopReason::Abandoned, "timer ended");
                drop_quietly(call);
            }
        }
    }

    /// Workers find out whether they are needed any longer, and so does who waits for the end.
    pub(super) fn tell_end(&self, last: bool) {
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
            let progress = task.clone().full_turn(key, None);
            return self.give_back(key, task, &progress);
        }
        self.give_back(key, task, &Progress::Yield { restless: false });
    }

    /// `now` is moved on to the end of the turn.
    pub(super) fn turn_of(&self, key: Key, task: &Task, queued: bool, now: &mut Instant) -> Progress {
        if self.time.host().is_none() {
            stop_here_at_exit();
        }
        if queued {
            task.count_queued();
        }
        let turn =
            TurnOf { key, me: &|| Current::Whole(task.clone()), time: &|| self.time.now(), driver: None };
        let mut at = Some(*now);
        let progress = task.lean_turn(&turn, &mut at);
        *now = at.unwrap_or(*now);
        progress.unwrap_or_else(|| {
            let progress = task.clone().full_turn(key, None);
            *now = self.time.now();
            progress
        })
    }

    /// Keeps an appointment.
    pub(super) fn ring(&self, job: Job) {
        if let Job::Ring(waker) = job {
            if let Err(failure) = guarded(|| waker.wake()) {
                tell!(ERROR, engine = &*self.name, "a waker {failure}");
            }
        }
    }

    /// There is nobody to keep the time: takes everybody out. They are to be let go after this.
    #[cfg(feature = "tokio")]
    pub(super) fn dismiss(self: &Arc<Self>) -> Dismissed {
        self.change(|roster| {
            let (over, bells) = roster.dismiss();
            self.closings.store(roster.closings, Ordering::SeqCst);
            Dismissed { over, bells }
        })
    }

    /// Lets go of who was dismissed: timers end as abandoned, and who has an appointment looks what to do.
    #[cfg(feature = "tokio")]
    pub(super) fn let_go_dismissed(self: &Arc<Self>, Dismissed { over, bells }: Dismissed) {
        over.into_iter().for_each(|over| self.let_go(over));
        bells.into_iter().for_each(|waker| self.ring(Job::Ring(waker)));
        self.tell_end(true);
    }

    /// Ends everything that does not have its turn just now, tells who has an appointment, and waits at most this
    /// long for what has a turn. Returns how many are left.
    pub(super) fn close(self: &Arc<Self>, timeout: Duration) -> usize {
        let close = |roster: &mut Roster| {
            let over = roster.close();
            self.closings.store(roster.closings, Ordering::SeqCst);
            // One that takes new timers keeps its appointments too.
            (over, if self.reopens { Vec::new() } else { roster.cancel_bells() })
        };
        let (over, bells) = self.change(close);
        over.into_iter().for_each(|over| self.let_go(over));
        bells.into_iter().for_each(|waker| self.ring(Job::Ring(waker)));
        self.tell_end(true);
        let here = self.is_kept_by_this_thread() || self.is_worked_for_by_this_thread();
        let timeout = if here { Duration::ZERO } else { timeout };
        let roster = self.lock();
        let waited = self.returned.wait_timeout_while(roster, timeout, |roster| roster.timers > 0);
        let mut roster = waited.unwrap_or_else(PoisonError::into_inner).0;
        if self.reopens {
            roster.closed = false;
        }
        roster.timers
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("name", &self.name).field("precision", &self.precision).finish()
    }
}

/// Who was there when nobody kept the time any more.
#[cfg(feature = "tokio")]
pub(crate) struct Dismissed {
    over: Vec<Over>,
    bells: Vec<Waker>,
}

/// Why an engine does not take somebody in.
#[derive(Debug)]
pub(super) enum Refusal {
    Closed,
    /// The thread that keeps the time cannot be started.
    NoThread(io::Error),
    /// Nobody keeps the time of a hosted engine.
    Unattended,
}

impl Refusal {
    /// What is said to who starts a timer of this name.
    pub(super) fn of(self, name: &Name) -> Error {
        let name = name.clone();
        match self {
            Self::Closed => Error::EngineClosed { name },
            Self::NoThread(reason) => Error::NoThread { name, reason: Arc::new(reason) },
            Self::Unattended => Error::NoRuntime { name },
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(reason: io::Error) -> Self {
        Self::NoThread(reason)
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Closed => Self::other("the engine is closed"),
            Refusal::NoThread(reason) => reason,
            Refusal::Unattended => Self::other("nobody keeps the time of the engine"),
        }
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
