//! Many deadlines: a wheel of slots with one slot in order.
//!
//! A recurring timer nearly always fires and is put back, so the operation that counts is "move the
//! earliest entry to its next deadline" ([`Queue::peek_due`], then [`Queue::set_due`]). The wheel files
//! entries by slots of about a millisecond, in lists that cost nothing to append to. Only when time
//! reaches a slot is it *opened*: its entries are sorted, once, by their exact deadlines. What comes for a
//! slot that is open already, or past, goes to a heap beside it.
//!
//! Three rules keep the order. Every entry in an open slot is earlier than every entry in the wheel. Among
//! equal deadlines, entries of the batch are older than those in the heap. And lists are in the order of
//! arrival, since an upper slot is emptied from its front, and nobody overtakes it on the way down.

mod batch;
mod bits;
mod late;
mod slab;
#[cfg(test)]
mod tests;
mod wheel;

use core::num::NonZeroU32;

use crate::Instant;
use batch::Batch;
use late::{LATE, Late};
use slab::{NIL, Slab};
use wheel::{List, TICK_BITS, Wheel};

/// The home of entries that are never due.
const PARKED: u32 = LATE - 1;

/// The home of entries that are linked nowhere.
const ASIDE: u32 = LATE - 2;

// What has no slot is told apart by its home, from entries of slots as well.
const _: () = assert!(PARKED != LATE && ASIDE != LATE && ASIDE != PARKED);
const _: () = assert!(wheel::HOMES <= ASIDE && wheel::HOMES <= PARKED && wheel::HOMES <= LATE);

/// A queue of at most this many entries is a heap and has no wheel.
const SMALL: usize = 64;

/// Names an entry of a [`Queue`]. Once the entry is gone its key is unknown, even if the place is used
/// again (up to about 2³² times).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    index: u32,
    // Never zero, so that an option of a key, or a choice between one and something else, costs nothing.
    generation: NonZeroU32,
}

impl Key {
    /// A key of no queue, for things that are told apart like entries but lie elsewhere. Two numbers below 2⁶³
    /// make two keys.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub const fn of_none(number: u64) -> Self {
        // The lower half and the upper half, which is below 2³¹ and has its highest bit set, so it is not zero.
        let generation = (number >> 32) as u32 | 1 << 31;
        match NonZeroU32::new(generation) {
            Some(generation) => Self { index: number as u32, generation },
            None => unreachable!(),
        }
    }
}

/// Values ordered by deadline; the earliest first, and the first come among equals.
///
/// ```
/// use core::time::Duration;
/// use everbeat_core::{Instant, Queue};
///
/// let mut queue = Queue::new();
/// let tea = queue.insert(Instant::from_nanos(30), "tea");
/// queue.insert(Instant::from_nanos(20), "eggs");
/// queue.set_due(tea, Instant::from_nanos(10));
/// assert_eq!(queue.next_due(), Some(Instant::from_nanos(10)));
/// assert_eq!(queue.pop_due(Instant::from_nanos(15)), Some((Instant::from_nanos(10), "tea")));
/// assert_eq!(queue.pop_due(Instant::from_nanos(15)), None);
/// ```
///
/// A driver takes everything that is due and puts recurring entries back without removing them:
///
/// ```
/// # use core::time::Duration;
/// # use everbeat_core::{Instant, Queue};
/// # let mut queue = Queue::new();
/// # queue.insert(Instant::from_nanos(20), Duration::from_nanos(20));
/// # let now = Instant::from_nanos(50);
/// while let Some((key, period)) = queue.peek_due(now) {
///     let next = now + *period;
///     queue.set_due(key, next);
/// }
/// assert_eq!(queue.next_due(), Some(Instant::from_nanos(70)));
/// ```
///
/// # Cost
///
/// With *k* entries due within the same millisecond (2²⁰ ns):
///
/// - [`insert`](Self::insert), [`remove`](Self::remove), [`set_due`](Self::set_due): constant; O(log *m*)
///   for the *m* entries that were given a deadline in a millisecond that has already begun.
/// - [`peek_due`](Self::peek_due), [`pop_due`](Self::pop_due): constant, except that the first call in a
///   millisecond sorts its *k* entries. How far `now` jumps does not matter.
/// - [`next_due`](Self::next_due): constant, but O(*k*) after the very earliest entry was removed or moved
///   before it was due; if it was more than 2 s ahead, *k* counts its 2 s, or its 73 minutes.
/// - An entry parked at [`Instant::NEVER`] costs only its memory.
///
/// What is more than 2 to 4 s ahead is filed by stretches of 2 s, of 73 minutes or of 104 days, and moved
/// down as time draws near. Every call of `peek_due` and `pop_due` moves up to two entries of the stretch
/// that comes next; what is left when time gets there is moved in one call. That is the longest stall. It
/// grows with the number of entries in a stretch, and is met only if there were fewer than half as many
/// calls in the stretch before, say after time has jumped.
///
/// An entry takes 24 bytes and its value. A queue of more than 64 adds 64 KiB for each of up to four
/// levels of the wheel that it uses. Growing copies no entries, and memory is given back in pieces of 256
/// entries, all but one, once all entries of a piece are gone.
#[derive(Clone, Debug)]
pub struct Queue<V> {
    slab: Slab<V>,
    wheel: Wheel,
    /// The entries of the slot at the wheel's cursor.
    batch: Batch,
    /// Entries that came for the cursor's slot after it was opened, or for an earlier one; all entries of
    /// a small queue.
    late: Late,
    parked: List,
}

impl<V> Default for Queue<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> Queue<V> {
    /// An empty queue. It does not allocate.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            slab: Slab::new(),
            wheel: Wheel::new(),
            batch: Batch::new(),
            late: Late::new(),
            parked: List::EMPTY,
        }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_due(&mut self) -> Option<Instant> {
        let due = match self.front() {
            Some((due, _)) => Some(due),
            None => self.wheel.min(&self.slab),
        };
        let parked = (self.parked.head != NIL).then_some(Instant::NEVER);
        due.map(Instant::from_nanos).or(parked)
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// Near 2³² entries.
    pub fn insert(&mut self, due: Instant, value: V) -> Key {
        let key = self.slab.insert(due.as_nanos(), value);
        self.place(key.index, due.as_nanos());
        key
    }

    /// Moves an entry to another deadline, behind those that already have it. Returns whether the key
    /// was known.
    #[inline]
    pub fn set_due(&mut self, key: Key, due: Instant) -> bool {
        let Some(home) = self.slab.find(key).map(|entry| entry.home) else {
            return false;
        };
        self.leave(key.index, home);
        self.slab.entry_mut(key.index).due = due.as_nanos();
        self.place(key.index, due.as_nanos());
        true
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: Key) -> Option<V> {
        let home = self.slab.find(key)?.home;
        self.leave(key.index, home);
        let value = self.slab.remove(key.index);
        if self.is_empty() {
            self.wheel.tear_down();
            self.batch.give_back();
        }
        Some(value)
    }

    /// Takes out the earliest entry that is due at `now`, with its deadline.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, V)> {
        let index = self.first_due(now.as_nanos())?;
        let due = self.slab.entry(index).due;
        self.remove(self.slab.key(index)).map(|value| (Instant::from_nanos(due), value))
    }

    /// The earliest entry, if it is due at `now`; it stays where it is.
    #[inline]
    pub fn peek_due(&mut self, now: Instant) -> Option<(Key, &mut V)> {
        let index = self.first_due(now.as_nanos())?;
        let key = self.slab.key(index);
        Some((key, &mut self.slab.entry_mut(index).value))
    }

    /// The keys of all entries, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.slab.keys()
    }

    /// Takes the earliest entry aside, if it is due at `now`, and returns its deadline. It stays in the
    /// queue without one until [`set_due`](Self::set_due) gives it the next: the fast path of a driver that
    /// hands out what is due and gets it back.
    #[inline]
    pub fn take_due(&mut self, now: Instant) -> Option<(Key, Instant, &mut V)> {
        let index = self.first_due(now.as_nanos())?;
        let key = self.slab.key(index);
        self.leave(index, self.slab.entry(index).home);
        let entry = self.slab.entry_mut(index);
        entry.home = ASIDE;
        Some((key, Instant::from_nanos(entry.due), &mut entry.value))
    }

    /// Takes an entry aside, due or not. Returns whether the key was known.
    pub fn set_aside(&mut self, key: Key) -> bool {
        let Some(home) = self.slab.find(key).map(|entry| entry.home) else {
            return false;
        };
        self.leave(key.index, home);
        self.slab.entry_mut(key.index).home = ASIDE;
        true
    }

    /// Adds an entry that is aside: without a deadline until [`set_due`](Self::set_due) gives it one.
    ///
    /// # Panics
    /// Near 2³² entries.
    pub fn insert_aside(&mut self, value: V) -> Key {
        let key = self.slab.insert(u64::MAX, value);
        self.slab.entry_mut(key.index).home = ASIDE;
        key
    }

    /// The deadline of an entry. One that is aside has that with which it was taken there.
    pub fn due(&self, key: Key) -> Option<Instant> {
        let entry = self.slab.get(key.index).filter(|entry| entry.has(key))?;
        Some(Instant::from_nanos(entry.due))
    }

    /// The value of an entry.
    pub fn get(&self, key: Key) -> Option<&V> {
        self.slab.get(key.index).filter(|entry| entry.has(key)).map(|entry| &entry.value)
    }

    /// The value of an entry.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut V> {
        self.slab.find(key).map(|entry| &mut entry.value)
    }

    /// Links an entry that is linked nowhere.
    #[inline]
    fn place(&mut self, index: u32, due: u64) {
        if due == u64::MAX {
            self.parked.append(&mut self.slab, index, PARKED);
        } else if due >> TICK_BITS <= self.wheel.cursor {
            self.late.push(&mut self.slab, index);
        } else if self.wheel.is_built() {
            self.wheel.place(&mut self.slab, index, due);
        } else {
            self.place_in_small(index);
        }
    }

    fn place_in_small(&mut self, index: u32) {
        self.late.push(&mut self.slab, index);
        if self.late.len() > SMALL {
            self.wheel.build();
            for index in self.late.take_all() {
                self.place(index, self.slab.entry(index).due);
            }
        }
    }

    /// Unlinks an entry.
    #[inline]
    fn leave(&mut self, index: u32, home: u32) {
        match home {
            // The batch notices by itself that an entry is elsewhere.
            _ if home == self.wheel.open_home() => self.slab.entry_mut(index).home = NIL,
            LATE => {
                let place = self.slab.entry(index).prev;
                self.late.remove(&mut self.slab, place);
            }
            PARKED => self.parked.unlink(&mut self.slab, index),
            ASIDE => {}
            _ => self.wheel.unlink(&mut self.slab, index),
        }
    }

    /// The first entry, if it is due.
    #[inline]
    fn first_due(&mut self, now: u64) -> Option<u32> {
        self.wheel.settle_some(&mut self.slab);
        loop {
            if let Some((due, index)) = self.front() {
                return (due <= now).then_some(index);
            }
            if !self.open_slot(now >> TICK_BITS) {
                return (now == u64::MAX && self.parked.head != NIL).then_some(self.parked.head);
            }
        }
    }

    /// The first of the entries that are in order.
    #[inline]
    fn front(&mut self) -> Option<(u64, u32)> {
        let first = self.batch.first(&self.slab, self.wheel.open_home());
        match (first, self.late.first()) {
            (Some(first), Some(late)) if late.0 < first.0 => Some(late),
            (Some(first), _) => Some(first),
            (None, late) => late,
        }
    }

    /// Opens the first slot that has begun by `tick`. Returns whether there was one.
    fn open_slot(&mut self, tick: u64) -> bool {
        while let Some(slot) = self.wheel.first_by(tick) {
            if slot.level == 0 {
                self.wheel.go_to(slot.start);
                self.wheel.read_ahead(&self.slab, slot.start);
                let list = self.wheel.take(slot);
                self.batch.fill(&self.slab, list, slot.start << TICK_BITS);
                return true;
            }
            self.wheel.settle_all(&mut self.slab, slot, tick);
        }
        // The slot of `tick` itself stays closed: more may come for it before time has passed it.
        self.wheel.go_to(self.wheel.cursor.max(tick.saturating_sub(1)));
        false
    }
}
