//! Timers that belong to something with an end: a session, a connection, a program.
//!
//! # Locks
//!
//! The lock of a scope guards the list of its timers. No timer is asked, ended or dropped under it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::any::{AnyTimer, Identity};
use crate::block;
#[cfg(doc)]
use crate::builder::Builder;
#[cfg(doc)]
use crate::error::Error;
use crate::name::Name;
use crate::pending::Shutdown;
use crate::sync::{Mutex, MutexGuard};

/// Owns timers, and ends them when it is closed or dropped. A target that owns the scope of its own timer keeps
/// both until somebody closes or cancels the scope.
///
/// A timer that is built [`tied_to`](Builder::tied_to) a scope needs no handle elsewhere, and cannot outlive
/// it: at the latest with the last clone of the scope it is cancelled, and cannot be started again
/// ([`Error::ScopeClosed`]). Timers that do not run and to which nobody else has a handle are forgotten by
/// and by. Once a scope is closed its timers let go of their targets as they end, whoever has handles.
///
/// ```
/// use everbeat::{Scope, thread};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), everbeat::Error> {
/// struct Session {
///     timers: Scope,
/// }
///
/// let session = Session { timers: Scope::new() };
/// thread::every(Duration::from_secs(5)).tied_to(&session.timers).name("keep-alive").start(|| ())?;
/// assert_eq!(session.timers.active().len(), 1);
/// let report = session.timers.close(Duration::from_secs(1));
/// assert!(report.left.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Scope {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    roll: Mutex<Roll>,
}

#[derive(Default)]
struct Roll {
    /// By the number under which they came.
    timers: BTreeMap<u64, AnyTimer>,
    /// Under which number each came, so that nobody has to look through all of them.
    numbers: HashMap<Identity, u64>,
    next_number: u64,
    /// The length at which those that have ended are forgotten.
    next_sweep: usize,
    closed: bool,
}

/// How the timers of a [`Scope`] ended.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Closed {
    /// How many ended by themselves, before or within the grace period.
    pub drained: usize,
    /// How many had a run that took longer than the grace period, and was given up if it could be.
    pub cancelled: usize,
    /// Those whose last run has not come to an end: it cannot be interrupted. Nothing else of them runs.
    pub left: Vec<Name>,
}

impl Scope {
    /// A scope without timers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Its timers that run at the moment.
    #[must_use]
    pub fn active(&self) -> Vec<AnyTimer> {
        let mut timers: Vec<_> = self.lock().timers.values().cloned().collect();
        timers.retain(AnyTimer::is_running);
        timers
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Ends all its timers and refuses new ones. Runs in flight may finish within `grace`; then they are
    /// given up. A run that cannot be interrupted is not waited for any longer than that: it is reported in
    /// [`Closed::left`], and so is it if the scope is closed once more before it has ended.
    ///
    /// Blocks the thread. A timer that needs this thread to come to its end is not waited for; see
    /// [`Pending::block`](crate::Pending::block). It counts as drained if no run is in flight: its end is
    /// announced when the thread gets to it. One whose own run calls this has ended as far as can be told
    /// there.
    pub fn close(&self, grace: Duration) -> Closed {
        let timers = self.shut();
        let answers: Vec<_> = timers.iter().map(|(_, timer)| (timer, timer.shutdown(grace))).collect();
        // A run that is given up needs a moment to notice.
        let end = Instant::now().checked_add(grace.saturating_add(NOTICE));
        let mut report = Closed::default();
        for (timer, answer) in answers {
            let rest = match end {
                _ if timer.needs_this_thread() => Duration::ZERO,
                Some(end) => end.saturating_duration_since(Instant::now()),
                None => Duration::MAX,
            };
            match block::on(answer, rest) {
                Some(Shutdown::Cancelled) => report.cancelled += 1,
                Some(_) => report.drained += 1,
                // Where waiting was of no use: its end is decided, and there is nothing left to run.
                None if !timer.stats().busy => report.drained += 1,
                None => report.left.push(timer.name().clone()),
            }
        }
        self.forget_spent(&timers);
        report
    }

    /// Cancels all its timers and refuses new ones, without waiting.
    pub fn cancel(&self) {
        let timers = self.shut();
        timers.iter().for_each(|(_, timer)| end_for_good(timer));
        self.forget_spent(&timers);
    }

    /// Ties a timer to the scope; one that is tied to it already stays as it is. A scope that is closed cancels
    /// it, and lets it be started by nobody.
    pub fn tie(&self, timer: impl Into<AnyTimer>) {
        let timer = timer.into();
        match self.enlist(&timer) {
            Place::Taken => {}
            Place::Crowded(crowd) => self.forget_spent(&crowd),
            Place::Refused => end_for_good(&timer),
        }
    }

    /// Forgets a timer that could not be started.
    pub(crate) fn untie(&self, timer: impl Into<AnyTimer>) {
        let timer = timer.into();
        let untied = {
            let mut roll = self.lock();
            let number = roll.numbers.remove(&timer.identity());
            number.and_then(|number| roll.timers.remove(&number))
        };
        drop(untied);
    }

    fn enlist(&self, timer: &AnyTimer) -> Place {
        let mut roll = self.lock();
        if roll.closed {
            return Place::Refused;
        }
        let number = roll.next_number;
        if roll.numbers.contains_key(&timer.identity()) {
            return Place::Taken;
        }
        roll.numbers.insert(timer.identity(), number);
        roll.next_number += 1;
        roll.timers.insert(number, timer.clone());
        if roll.timers.len() <= roll.next_sweep.max(SMALLEST_SWEEP) {
            return Place::Taken;
        }
        roll.next_sweep = roll.timers.len() * 2;
        Place::Crowded(roll.copy())
    }

    /// All its timers, which stay on the list until they have ended: whoever else closes the scope
    /// meanwhile waits for them too.
    fn shut(&self) -> Vec<(u64, AnyTimer)> {
        let timers = {
            let mut roll = self.lock();
            roll.closed = true;
            roll.copy()
        };
        timers.iter().for_each(|(_, timer)| timer.retire());
        timers
    }

    /// Takes those off the list that do not run and cannot be started any more: nobody else has a handle, or
    /// the scope is closed. That is asked without the lock of the scope.
    fn forget_spent(&self, timers: &[(u64, AnyTimer)]) {
        let closed = self.is_closed();
        // The list has one handle, and `timers` another.
        let spent = |timer: &AnyTimer| !timer.is_running() && (closed || timer.handles() <= 2);
        let spent: Vec<_> = timers.iter().filter(|(_, timer)| spent(timer)).collect();
        let mut roll = self.lock();
        let mut forgotten = Vec::new();
        for (number, timer) in spent {
            roll.numbers.remove(&timer.identity());
            forgotten.extend(roll.timers.remove(number));
        }
        roll.next_sweep = roll.timers.len() * 2;
        drop(roll);
        drop(forgotten);
    }

    fn lock(&self) -> MutexGuard<'_, Roll> {
        self.inner.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Roll {
    fn copy(&self) -> Vec<(u64, AnyTimer)> {
        self.timers.iter().map(|(number, timer)| (*number, timer.clone())).collect()
    }
}

/// Cancels it, and lets nobody start it again.
fn end_for_good(timer: &AnyTimer) {
    timer.retire();
    drop(timer.cancel());
}

/// What a scope answers to a timer that comes.
enum Place {
    Taken,
    /// The list is long, and those that have ended should go.
    Crowded(Vec<(u64, AnyTimer)>),
    /// The scope is closed.
    Refused,
}

/// How long past the grace period the end of a run is waited for that was given up.
const NOTICE: Duration = Duration::from_millis(100);

/// A list shorter than this is not worth a sweep.
const SMALLEST_SWEEP: usize = 32;

impl Drop for Inner {
    fn drop(&mut self) {
        let roll = self.roll.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut roll.timers).into_values().for_each(|timer| end_for_good(&timer));
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roll = self.lock();
        let (timers, closed) = (roll.timers.len(), roll.closed);
        drop(roll);
        f.debug_struct("Scope").field("timers", &timers).field("closed", &closed).finish()
    }
}
