//! Who waits for what of a timer.
//!
//! Everything here happens under the timer's lock. Wakers are never woken or dropped here: they are
//! handed out, for whoever holds the lock to wake or drop once it is released.

use std::iter::Chain;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::{mem, option, vec};

use everbeat_core::StopReason;

use crate::error::Failure;

/// What a waiter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// The hit count reaches this.
    Hits(u64),
    /// The run with this number, or a later one, delivers or fails.
    Run(u64),
    /// The timer has ended and everybody has been told.
    End,
}

/// What a waiter is told.
#[derive(Debug)]
pub(crate) enum Reply<V> {
    /// The hit count is there.
    Reached,
    /// What the run delivered.
    Value(Arc<V>),
    /// The run failed, or a failure ended the timer.
    Failed(Failure),
    /// The timer ended first, or has ended as waited for.
    Ended(StopReason),
}

/// A waiter's place. It belongs to one future, which gives it back by taking its reply or by
/// [`Waiters::forget`].
pub(crate) type Place = usize;

/// Whom to wake once the lock is released. Mostly that is one, for whom nothing is allocated.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Wakers {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl Extend<Waker> for Wakers {
    fn extend<I: IntoIterator<Item = Waker>>(&mut self, wakers: I) {
        let mut wakers = wakers.into_iter();
        if self.first.is_none() {
            self.first = wakers.next();
        }
        self.more.extend(wakers);
    }
}

impl IntoIterator for Wakers {
    type Item = Waker;
    type IntoIter = Chain<option::IntoIter<Waker>, vec::IntoIter<Waker>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.more)
    }
}

#[derive(Debug)]
pub(crate) struct Waiters<V> {
    entries: Vec<Entry<V>>,
    vacant: Vec<Place>,
    waiting: usize,
}

#[derive(Debug)]
enum Entry<V> {
    Vacant,
    Waiting(Want, Option<Waker>),
    Settled(Reply<V>),
}

impl<V> Default for Waiters<V> {
    fn default() -> Self {
        Self { entries: Vec::new(), vacant: Vec::new(), waiting: 0 }
    }
}

impl<V> Waiters<V> {
    /// Whether nobody has a place.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes a place in the line.
    pub(crate) fn wait_for(&mut self, want: Want) -> Place {
        self.waiting += 1;
        let entry = Entry::Waiting(want, None);
        if let Some(place) = self.vacant.pop() {
            self.entries[place] = entry;
            return place;
        }
        self.entries.push(entry);
        self.entries.len() - 1
    }

    /// The reply, which gives the place back, or `Pending` if this waker is known to be woken. `None`: it
    /// has to be set first.
    pub(crate) fn poll(&mut self, place: Place, waker: &Waker) -> Option<Poll<Reply<V>>> {
        if let Entry::Waiting(_, known) = &self.entries[place] {
            let known = known.as_ref().is_some_and(|known| known.will_wake(waker));
            return known.then_some(Poll::Pending);
        }
        match self.vacate(place) {
            Entry::Settled(reply) => Some(Poll::Ready(reply)),
            Entry::Vacant | Entry::Waiting(..) => unreachable!("a future polls only the place it holds"),
        }
    }

    /// Sets the waker of a place that still waits; the one that is not needed is handed out.
    pub(crate) fn set_waker(&mut self, place: Place, waker: Waker) -> Option<Waker> {
        match &mut self.entries[place] {
            Entry::Waiting(_, known) => known.replace(waker),
            Entry::Vacant | Entry::Settled(_) => Some(waker),
        }
    }

    /// Gives the place back; what it held is handed out to be dropped.
    pub(crate) fn forget(&mut self, place: Place) -> (Option<Waker>, Option<Reply<V>>) {
        match self.vacate(place) {
            Entry::Vacant => (None, None),
            Entry::Waiting(_, waker) => {
                self.waiting -= 1;
                (waker, None)
            }
            Entry::Settled(reply) => (None, Some(reply)),
        }
    }

    /// Replies to everybody for whom `answer` has one, and hands their wakers out.
    pub(crate) fn settle(&mut self, woken: &mut Wakers, mut answer: impl FnMut(Want) -> Option<Reply<V>>) {
        if self.waiting == 0 {
            return;
        }
        for entry in &mut self.entries {
            let Entry::Waiting(want, waker) = entry else { continue };
            if let Some(reply) = answer(*want) {
                woken.extend(waker.take());
                *entry = Entry::Settled(reply);
                self.waiting -= 1;
            }
        }
    }

    fn vacate(&mut self, place: Place) -> Entry<V> {
        let entry = mem::replace(&mut self.entries[place], Entry::Vacant);
        self.vacant.push(place);
        if self.vacant.len() == self.entries.len() {
            // Nobody is left: a timer that once had many waiters gives their memory back.
            (self.entries, self.vacant) = (Vec::new(), Vec::new());
        }
        entry
    }
}
