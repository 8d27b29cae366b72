//! What an engine knows of its timers: when each is due, and whose turn it is.
//!
//! Everything here happens under the engine's lock. No task is run, woken or dropped here; what has to be
//! is handed out. Whose turn it is, is in `line.rs`; lean timers that lie here themselves are in `lean.rs`.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

use everbeat_core::{Instant, Key, Queue, Summary};

use super::lean::{Front, Hands, Record};
use super::runs::Batch;
use crate::any::Control;
use crate::beat::Progress;
use crate::shared::Plan;
use crate::sync::thread::Thread;
use crate::target::Call;

/// A timer, as an engine sees it.
pub(super) type Task = Arc<dyn Control>;

/// The timers of an engine.
pub(super) struct Roster {
    pub(super) queue: Queue<Entry>,
    pub(super) hands: Hands,
    /// That of a host, between two rounds.
    pub(super) spare: Option<Batch>,
    /// Whose turn it is on the thread that keeps the time.
    pub(super) own: VecDeque<Key>,
    /// Whose turn it is on a worker.
    pub(super) pooled: VecDeque<Key>,
    /// What the keeper sleeps for; the origin while it is awake, since then nobody has to wake it.
    wakes_at: Instant,
    /// The keeper has to be woken.
    alert: bool,
    pub(super) keeper: Option<Thread>,
    pub(super) workers: Workers,
    pub(super) timers: usize,
    /// Appointments of others.
    pub(super) bells: usize,
    /// How many keys on the lists have lost their meaning.
    pub(super) unlisted: usize,
    /// How often somebody was given something to do, other than by being restless.
    pub(super) stirred: u64,
    pub(super) figures: Figures,
    pub(super) closed: bool,
    /// How often it was closed.
    pub(super) closings: u32,
}

/// How many threads there are to run what is pooled.
#[derive(Debug)]
pub(super) struct Workers {
    pub(super) most: usize,
    pub(super) alive: usize,
    /// Of those, how many wait for work.
    pub(super) idle: usize,
    /// Of those, how many are being started.
    pub(super) coming: usize,
}

impl Workers {
    /// How many will take the next jobs.
    pub(super) fn free(&self) -> usize {
        self.idle + self.coming
    }
}

/// What is counted for all timers of an engine.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) turns: u64,
    pub(super) queued: u64,
    pub(super) wakeups: u64,
    pub(super) lateness: Summary,
}

pub(super) enum Entry {
    Timer {
        /// `None` while it has its turn.
        task: Option<Task>,
        seat: Seat,
        pooled: bool,
        /// If it was a lean one.
        front: Option<Front>,
    },
    Lean(Record),
    /// Here was a timer that has ended, and whose handles still ask here.
    Moved(Front),
    /// Somebody who wants to be woken at a time.
    Bell(Waker),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// For its deadline, or for somebody to wake it.
    Waiting,
    /// For its turn.
    Listed,
    /// For its turn, since all workers were busy when it came up.
    Queued,
    /// It has its turn.
    Away,
    /// It has its turn, and another one after it: there is more to do.
    AwayAndWoken,
    /// It has its turn, and no other: the engine was closed meanwhile.
    AwayAndClosed,
}

/// Something to be done, outside of the lock.
pub(super) enum Job {
    /// A task has its turn. `queued`: it had to wait for a worker.
    Turn {
        key: Key,
        task: Task,
        queued: bool,
    },
    /// A run of a lean timer, which lies in the hand. The plan, unless it is that of the run before.
    Lean {
        key: Key,
        plan: Option<Arc<Plan>>,
    },
    Ring(Waker),
    /// What it was has been done.
    Done,
}

/// What was found of a task that is woken.
pub(super) enum Woken {
    /// It only waited, and is away from here on.
    Waiting(Task),
    /// It waits for its turn, and stays where it is.
    Listed(Task),
    /// It has its turn, and another one after it.
    Away,
    Gone,
}

/// A task that has no other turn.
pub(super) enum Over {
    /// It has ended, and may have been started again since.
    Ended(Task),
    /// The engine is closed. The task keeps its place until its end has been announced.
    Closed(Key, Task),
    /// The engine is closed, and a lean timer has ended with it. Its call, if nobody has a handle of it.
    Lean(Arc<Plan>, Option<Call<()>>),
}

/// Whom to call once the lock is released.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// The keeper: there is something to do before it meant to wake up.
    pub(super) keeper: bool,
    /// A worker that waits for work.
    pub(super) worker: bool,
    /// A worker that does not exist yet; it is counted as alive already.
    pub(super) new_worker: bool,
}

/// What the keeper does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// There is more to do.
    None,
    /// Until then.
    Until(Option<Instant>),
    /// Nothing is left.
    Empty,
}

/// What the keeper does when nothing is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linger {
    /// Something has come.
    Not,
    /// It waits for more to come.
    On,
    /// It goes for good.
    Over,
}

impl Roster {
    pub(super) fn new(most_workers: usize) -> Self {
        Self {
            queue: Queue::new(),
            hands: Hands::default(),
            spare: None,
            own: VecDeque::new(),
            pooled: VecDeque::new(),
            wakes_at: Instant::ORIGIN,
            alert: false,
            keeper: None,
            workers: Workers { most: most_workers, alive: 0, idle: 0, coming: 0 },
            timers: 0,
            bells: 0,
            unlisted: 0,
            stirred: 0,
            figures: Figures { turns: 0, queued: 0, wakeups: 0, lateness: Summary::with_histogram() },
            closed: false,
            closings: 0,
        }
    }

    /// A place for a task, which is away until [`Roster::give_back`].
    pub(super) fn enter(&mut self, inline: bool) -> Key {
        self.timers += 1;
        let pooled = !inline && self.workers.most > 0;
        self.queue.insert_aside(Entry::Timer { task: None, seat: Seat::Away, pooled, front: None })
    }

    /// Gives a place up, and what is left there. The place itself stays as long as handles name it.
    pub(super) fn leave(&mut self, key: Key) -> Option<Task> {
        let Some(Entry::Timer { task, seat, front, .. }) = self.queue.get_mut(key) else { return None };
        let (task, seat, front) = (task.take(), *seat, front.take());
        let left = match front {
            Some(front) if front.is_needed() => {
                self.queue.set_aside(key);
                if let Some(entry) = self.queue.get_mut(key) {
                    *entry = Entry::Moved(front);
                }
                task
            }
            front => {
                self.queue.remove(key);
                task.or_else(|| front.map(|front| front.into_timer() as _))
            }
        };
        self.timers -= 1;
        if matches!(seat, Seat::Listed | Seat::Queued) {
            self.unlist();
        }
        self.note_empty();
        left
    }

    /// Whether there is nothing to wait for.
    fn is_empty(&self) -> bool {
        self.timers == 0 && self.bells == 0
    }

    /// Somebody has gone.
    pub(super) fn note_empty(&mut self) {
        if self.is_empty() {
            self.call_keeper(); // to find out that it is not needed any longer
        }
    }

    /// A task has had its turn. Hands it back if nothing is left for it to do here.
    pub(super) fn give_back(&mut self, key: Key, task: Task, progress: &Progress) -> Option<Over> {
        if matches!(progress, Progress::Ended) {
            self.leave(key);
            return Some(Over::Ended(task));
        }
        if self.was_closed_on(key) {
            return Some(Over::Closed(key, task));
        }
        let Some(Entry::Timer { task: place, seat, .. }) = self.queue.get_mut(key) else {
            return Some(Over::Ended(task)); // by somebody else, who has given its place up
        };
        self.stirred += u64::from(!matches!(progress, Progress::Yield { restless: true }));
        let woken = mem::replace(seat, Seat::Waiting) == Seat::AwayAndWoken;
        *place = Some(task);
        match progress {
            Progress::Sleep { until, .. } if !woken => {
                // Without a deadline it stays aside, until somebody wakes it.
                if let Some(due) = *until {
                    self.queue.set_due(key, due);
                    self.note_due(due);
                    self.demote(key);
                }
            }
            _ => self.list(key),
        }
        None
    }

    /// Whether the engine was closed, or was while this task was away: one that is everybody's is open again.
    pub(super) fn was_closed_on(&mut self, key: Key) -> bool {
        let seat = self.queue.get_mut(key);
        self.closed || matches!(seat, Some(Entry::Timer { seat: Seat::AwayAndClosed, .. }))
    }

    /// Somebody has something for this task to do. Hands it out if it only waited; then it is away.
    pub(super) fn wake(&mut self, key: Key) -> Woken {
        let Some(Entry::Timer { task, seat, .. }) = self.queue.get_mut(key) else { return Woken::Gone };
        match (&*seat, &*task) {
            (Seat::Listed | Seat::Queued, Some(task)) => Woken::Listed(task.clone()),
            (Seat::Waiting, Some(_)) => {
                *seat = Seat::Away;
                let task = task.take();
                self.queue.set_aside(key);
                task.map_or(Woken::Gone, Woken::Waiting)
            }
            (Seat::AwayAndClosed, _) => Woken::Away,
            _ => {
                *seat = Seat::AwayAndWoken;
                self.stirred += 1;
                Woken::Away
            }
        }
    }

    /// Takes a task off the list, which is away then. Whoever asks has the task already.
    pub(super) fn take_listed(&mut self, key: Key) -> bool {
        let Some(Entry::Timer { task, seat: seat @ (Seat::Listed | Seat::Queued), .. }) =
            self.queue.get_mut(key)
        else {
            return false;
        };
        *seat = Seat::Away;
        let listed = task.take();
        self.unlist();
        drop(listed); // not the last reference
        true
    }

    /// Keeps an appointment for somebody.
    pub(super) fn ring_at(&mut self, due: Instant, waker: Waker) -> Key {
        self.note_due(due);
        self.bells += 1;
        self.queue.insert(due, Entry::Bell(waker))
    }

    /// Replaces the waker of an appointment; hands back the one that is not needed.
    pub(super) fn set_bell(&mut self, key: Key, waker: Waker) -> Result<Waker, Waker> {
        match self.queue.get_mut(key) {
            Some(Entry::Bell(known)) => Ok(mem::replace(known, waker)),
            _ => Err(waker),
        }
    }

    /// Gives an appointment up.
    pub(super) fn cancel_bell(&mut self, key: Key) -> Option<Waker> {
        let Some(Entry::Bell(_)) = self.queue.get_mut(key) else { return None };
        let Some(Entry::Bell(waker)) = self.queue.remove(key) else { return None };
        self.bells -= 1;
        self.note_empty();
        Some(waker)
    }
}

/// The keeper.
impl Roster {
    /// The keeper is awake. Returns how many turns are listed for its own thread.
    pub(super) fn begin_round(&mut self) -> usize {
        self.wakes_at = Instant::ORIGIN;
        self.figures.wakeups += 1;
        self.own.len()
    }

    /// What the keeper does next; if it sleeps, whoever has something earlier for it wakes it.
    pub(super) fn rest(&mut self) -> Rest {
        if !self.own.is_empty() {
            return Rest::None;
        }
        if self.is_empty() {
            return Rest::Empty;
        }
        let due = self.next_due();
        self.wakes_at = due.unwrap_or(Instant::NEVER);
        Rest::Until(due)
    }

    /// Keeps the batch of a host for its next round.
    pub(super) fn keep(&mut self, batch: Batch) {
        if let Some(of_inner_round) = self.spare.replace(batch) {
            of_inner_round.lay_down(self);
        }
    }

    /// As [`Roster::rest`], for a host: it is alerted of whatever comes.
    pub(super) fn rest_hosted(&mut self) -> Rest {
        let rest = self.rest();
        if rest == Rest::Empty {
            self.linger(Instant::NEVER);
        }
        rest
    }

    /// As [`Roster::rest`], where nothing was left: the keeper stays until a while has passed.
    pub(super) fn rest_empty(&mut self, now: Instant, until: Instant) -> Linger {
        if self.rest() != Rest::Empty {
            self.wakes_at = Instant::ORIGIN; // it is awake, and looks again
            return Linger::Not;
        }
        if now < until {
            self.linger(until);
            return Linger::On;
        }
        self.keeper = None;
        Linger::Over
    }

    /// The keeper sleeps until then although nothing is due.
    pub(super) fn linger(&mut self, until: Instant) {
        self.wakes_at = until;
    }

    /// The earliest deadline.
    pub(super) fn next_due(&mut self) -> Option<Instant> {
        self.queue.next_due().filter(|due| !due.is_never())
    }

    /// Whether no timer is left, or none is to stay.
    pub(super) fn is_deserted(&self) -> bool {
        self.timers == 0 || self.closed
    }

    /// Whether nobody has a turn to take.
    #[cfg(feature = "test-engine")]
    pub(super) fn is_settled(&self) -> bool {
        self.own.is_empty() && self.pooled.is_empty()
    }

    pub(super) fn note_due(&mut self, due: Instant) {
        if due < self.wakes_at {
            self.call_keeper();
        }
    }

    pub(super) fn call_keeper(&mut self) {
        if self.wakes_at != Instant::ORIGIN {
            self.wakes_at = Instant::ORIGIN;
            self.alert = true;
        }
    }

    /// As [`Roster::calls`], without any worker.
    pub(super) fn keeper_calls(&mut self) -> Calls {
        Calls { keeper: mem::take(&mut self.alert), ..Calls::default() }
    }

    /// Whom to call after the release of the lock.
    pub(super) fn calls(&mut self) -> Calls {
        let keeper = mem::take(&mut self.alert);
        let workers = &mut self.workers;
        let worker = !self.pooled.is_empty() && workers.idle > 0;
        let new_worker = self.pooled.len() > workers.free() && workers.alive < workers.most;
        workers.alive += usize::from(new_worker);
        workers.coming += usize::from(new_worker);
        Calls { keeper, worker, new_worker }
    }

    /// A worker that was counted on cannot be had. If it would have been the only one, the keeper does
    /// its work.
    pub(super) fn miss_worker(&mut self) {
        self.workers.alive -= 1;
        self.workers.coming -= 1;
        if self.workers.alive == 0 && !self.pooled.is_empty() {
            self.own.append(&mut self.pooled);
            self.call_keeper();
        }
    }

    /// There is nobody to keep the time: takes out timers as [`Roster::close`] does, and all appointments. It is
    /// open for who comes after this, of whom the host is alerted.
    #[cfg(feature = "tokio")]
    pub(super) fn dismiss(&mut self) -> (Vec<Over>, Vec<Waker>) {
        self.linger(Instant::ORIGIN); // nobody has to be called for what leaves now
        let over = self.close();
        self.closed = false;
        let bells = self.cancel_bells();
        self.linger(Instant::NEVER);
        (over, bells)
    }

    /// Gives all appointments up, which nobody is to keep.
    pub(super) fn cancel_bells(&mut self) -> Vec<Waker> {
        let keys: Vec<_> = self.queue.keys().collect();
        keys.into_iter().filter_map(|key| self.cancel_bell(key)).collect()
    }

    /// Takes everybody out who does not have a turn just now: nobody has another one.
    pub(super) fn close(&mut self) -> Vec<Over> {
        self.closed = true;
        self.closings = self.closings.wrapping_add(1);
        self.own.clear();
        self.pooled.clear();
        let keys: Vec<_> = self.queue.keys().collect();
        let close = |key| {
            let lean = self.close_lean(key);
            if lean.is_some() {
                return lean;
            }
            let Some(Entry::Timer { task, seat, .. }) = self.queue.get_mut(key) else { return None };
            let task = task.take();
            *seat = if task.is_some() { Seat::Away } else { Seat::AwayAndClosed };
            task.map(|task| Over::Closed(key, task))
        };
        keys.into_iter().filter_map(close).collect()
    }
}
