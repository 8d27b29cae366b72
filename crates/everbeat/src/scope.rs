//! Timers that belong to something with an end: a session, a connection, a program.
//!
//! # Locks
//!
//! The lock of a scope guards the list of its timers. No timer is asked, ended or dropped under it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::any::AnyTimer;
use crate::block;
#[cfg(doc)]
use crate::builder::Builder;
use crate::name::Name;
use crate::pending::Shutdown;

/// Owns timers, and ends them when it is closed or dropped.
///
/// A timer that is built [`tied_to`](Builder::tied_to) a scope needs no handle elsewhere, and cannot outlive
/// it: at the latest with the last clone of the scope it is cancelled. Timers that have ended are forgotten
/// by and by.
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
    timers: Vec<AnyTimer>,
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
    /// How many were given up at the end of the grace period.
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
        let mut timers = self.lock().timers.clone();
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
    /// [`Closed::left`]. Blocks the thread; called by a run of one of its own timers it does not wait for
    /// that one.
    pub fn close(&self, grace: Duration) -> Closed {
        let timers = self.shut();
        let answers: Vec<_> = timers.iter().map(|timer| (timer, timer.shutdown(grace))).collect();
        let end = Instant::now().checked_add(grace);
        let mut report = Closed::default();
        for (timer, answer) in answers {
            let rest = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            // A run that is given up needs a moment to notice.
            match block::on(answer, rest.saturating_add(NOTICE)) {
                Some(Shutdown::Cancelled) => report.cancelled += 1,
                Some(_) => report.drained += 1,
                None => report.left.push(timer.name().clone()),
            }
        }
        report
    }

    /// Cancels all its timers and refuses new ones, without waiting.
    pub fn cancel(&self) {
        self.shut().iter().for_each(|timer| drop(timer.cancel()));
    }

    /// Ties a timer to the scope. A scope that is closed cancels it.
    pub fn tie(&self, timer: impl Into<AnyTimer>) {
        let timer = timer.into();
        let (refused, forgotten) = self.enlist(timer);
        if let Some(timer) = refused {
            drop(timer.cancel());
        }
        drop(forgotten);
    }

    /// Returns the timer if the scope is closed, and those that have ended.
    fn enlist(&self, timer: AnyTimer) -> (Option<AnyTimer>, Vec<AnyTimer>) {
        let crowd = {
            let mut roll = self.lock();
            if roll.closed {
                return (Some(timer), Vec::new());
            }
            roll.timers.push(timer);
            if roll.timers.len() <= roll.next_sweep.max(SMALLEST_SWEEP) {
                return (None, Vec::new());
            }
            std::mem::take(&mut roll.timers)
        };
        // Whether a timer has ended is asked without the lock of the scope.
        let (ended, live): (Vec<_>, Vec<_>) = crowd.into_iter().partition(AnyTimer::has_ended);
        let mut roll = self.lock();
        if roll.closed {
            drop(roll);
            live.iter().for_each(|timer| drop(timer.cancel()));
            return (None, ended);
        }
        roll.timers.extend(live);
        roll.next_sweep = roll.timers.len() * 2;
        (None, ended)
    }

    fn shut(&self) -> Vec<AnyTimer> {
        let mut roll = self.lock();
        roll.closed = true;
        std::mem::take(&mut roll.timers)
    }

    fn lock(&self) -> MutexGuard<'_, Roll> {
        self.inner.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long past the grace period the end of a run is waited for that was given up.
const NOTICE: Duration = Duration::from_millis(100);

/// A list shorter than this is not worth a sweep.
const SMALLEST_SWEEP: usize = 32;

impl Drop for Inner {
    fn drop(&mut self) {
        let roll = self.roll.get_mut().unwrap_or_else(PoisonError::into_inner);
        roll.timers.drain(..).for_each(|timer| drop(timer.cancel()));
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
