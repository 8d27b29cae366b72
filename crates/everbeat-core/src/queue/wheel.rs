//! Lists of entries by slots of time, on four levels.
//!
//! Level 0 has slots of 2²⁰ ns; a slot of a level is as long as 2¹¹ slots of the level below, its *turn*.
//! Each level is a ring of two turns: the one the cursor is in and the next. So a slot above can be
//! emptied bit by bit while the cursor is still in the slot before it.

use alloc::vec::Vec;

use super::bits::Bits;
use super::slab::{NIL, Slab};

/// The length of a slot on level 0, as a power of two in nanoseconds: about a millisecond.
pub(super) const TICK_BITS: u32 = 20;
const TURN_BITS: u32 = 11;
pub(super) const RING: usize = 2 << TURN_BITS;
const RING_MASK: u64 = RING as u64 - 1;
const RING_BITS: u32 = TURN_BITS + 1;
/// 20 + 4 × 11 bits: to the end of time.
const LEVELS: usize = 4;
/// From ticks to slots of each level, and past them all.
const SHIFTS: [u32; LEVELS + 1] = [0, TURN_BITS, 2 * TURN_BITS, 3 * TURN_BITS, 4 * TURN_BITS];

/// How many lists are read at once.
const READ_AHEAD: usize = 4;
/// And how far from each end: what is read is to stay in the cache until it is needed.
const MOST_STEPS: usize = 512;

/// The home of entries in slot `index` of `level`.
#[allow(clippy::cast_possible_truncation)] // there are 2^14 of them
const fn home(level: usize, index: usize) -> u32 {
    (level << RING_BITS | index) as u32
}

/// No slot has this home, or a higher one.
pub(super) const HOMES: u32 = home(LEVELS, 0);

/// A list through the entries, in the order in which they came.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) head: u32,
    pub(super) tail: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { head: NIL, tail: NIL };

    #[inline]
    pub(super) fn append<V>(&mut self, slab: &mut Slab<V>, index: u32, home: u32) {
        let entry = slab.entry_mut(index);
        (entry.home, entry.prev, entry.next) = (home, self.tail, NIL);
        match self.tail {
            NIL => self.head = index,
            tail => slab.entry_mut(tail).next = index,
        }
        self.tail = index;
    }

    pub(super) fn unlink<V>(&mut self, slab: &mut Slab<V>, index: u32) {
        let entry = slab.entry(index);
        let (prev, next) = (entry.prev, entry.next);
        match prev {
            NIL => self.head = next,
            prev => slab.entry_mut(prev).next = next,
        }
        match next {
            NIL => self.tail = prev,
            next => slab.entry_mut(next).prev = prev,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    list: List,
    /// The earliest deadline in the list; too early if the level counts the slot as stale.
    min: u64,
}

#[derive(Clone, Debug)]
struct Level {
    /// Empty until the level is needed.
    buckets: Vec<Bucket>,
    occupied: Bits,
    stale: Bits,
}

/// A slot with entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) level: usize,
    pub(super) index: usize,
    /// Its first tick.
    pub(super) start: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Wheel {
    levels: Vec<Level>,
    /// The last tick whose slot has been opened: all entries lie in later ones.
    pub(super) cursor: u64,
    /// No slot with entries starts before this tick.
    quiet_until: u64,
    /// Whether the next slot of an upper level may have entries.
    unsettled: bool,
    /// The lists of the slots before this tick have been read.
    read_until: u64,
}

impl Wheel {
    pub(super) const fn new() -> Self {
        Self { levels: Vec::new(), cursor: 0, quiet_until: 0, unsettled: false, read_until: 0 }
    }

    pub(super) fn is_built(&self) -> bool {
        !self.levels.is_empty()
    }

    pub(super) fn build(&mut self) {
        self.levels.resize_with(LEVELS, Level::new);
    }

    /// Gives the memory back. There must be no entries.
    pub(super) fn tear_down(&mut self) {
        self.levels = Vec::new();
    }

    /// The home of the entries whose slot is open.
    #[inline]
    pub(super) fn open_home(&self) -> u32 {
        home(0, (self.cursor & RING_MASK) as usize)
    }

    /// Files an entry whose tick is after the cursor.
    #[inline]
    pub(super) fn place<V>(&mut self, slab: &mut Slab<V>, index: u32, due: u64) {
        let differ = due >> TICK_BITS ^ self.cursor;
        // The highest level on which cursor and entry are in different slots.
        let level = ((63 - (differ | 1).leading_zeros()) / TURN_BITS) as usize;
        self.place_from(slab, index, due, level);
    }

    /// Files an entry on `level` or below.
    ///
    /// It may go below only if its slot is the next one and empty: in a slot that is being emptied from
    /// the front, it belongs behind those that came before it.
    fn place_from<V>(&mut self, slab: &mut Slab<V>, index: u32, due: u64, mut level: usize) {
        while level > 0 && self.ahead(level, due) == 1 {
            if self.is_occupied(level, due) {
                self.unsettled = true;
                break;
            }
            level -= 1;
        }
        let slot = slot_of(due >> TICK_BITS, level);
        self.quiet_until = self.quiet_until.min(slot << SHIFTS[level]);
        let slot = (slot & RING_MASK) as usize;
        self.levels[level].append(slab, slot, home(level, slot), index, due);
    }

    #[inline]
    pub(super) fn unlink<V>(&mut self, slab: &mut Slab<V>, index: u32) {
        let entry = slab.entry(index);
        let (level, slot, due) = (entry.home >> RING_BITS, entry.home as usize % RING, entry.due);
        self.levels[level as usize].unlink(slab, slot, index, due);
    }

    /// The first slot with entries, if it starts by `tick`.
    pub(super) fn first_by(&mut self, tick: u64) -> Option<Slot> {
        if tick < self.quiet_until {
            return None;
        }
        let first = self.first();
        self.quiet_until = first.map_or(u64::MAX, |slot| slot.start);
        first.filter(|slot| slot.start <= tick)
    }

    /// The first slot with entries; of those that start together, the longest.
    fn first(&self) -> Option<Slot> {
        let mut first: Option<Slot> = None;
        for level in 0..self.levels.len() {
            let Some(slot) = self.first_of(level) else { continue };
            if first.is_none_or(|first| slot.start <= first.start) {
                first = Some(slot);
            }
            if self.is_in_turn(slot) {
                break;
            }
        }
        first
    }

    /// Brings in the lists of the slot at `tick`, which has entries, and of the next few. With many entries
    /// in random places each step along a list waits for the memory; of several lists, from both ends, the
    /// processor takes the steps at the same time.
    pub(super) fn read_ahead<V>(&mut self, slab: &Slab<V>, tick: u64) {
        if tick < self.read_until {
            return;
        }
        self.read_until = tick.saturating_add(READ_AHEAD as u64);
        let buckets = &self.levels[0].buckets;
        let list = |n| buckets[(tick.wrapping_add(n as u64) & RING_MASK) as usize].list;
        let mut lists: [List; READ_AHEAD] = core::array::from_fn(list);
        let (mut steps, mut seen) = (0, 0);
        while steps < MOST_STEPS && lists.iter().any(|list| list.head != NIL) {
            steps += 1;
            for list in lists.iter_mut().filter(|list| list.head != NIL) {
                let (first, last) = (slab.entry(list.head), slab.entry(list.tail));
                seen ^= first.home ^ last.home;
                let over = list.head == list.tail || first.next == list.tail;
                *list = if over { List::EMPTY } else { List { head: first.next, tail: last.prev } };
            }
        }
        core::hint::black_box(seen);
    }

    /// Takes the list of a slot.
    pub(super) fn take(&mut self, slot: Slot) -> List {
        let level = &mut self.levels[slot.level];
        level.occupied.remove(slot.index);
        core::mem::replace(&mut level.buckets[slot.index].list, List::EMPTY)
    }

    /// Moves all entries of an upper slot, the first by `tick`, down.
    ///
    /// The cursor goes with them as far as it may, or else after a long jump of time they would pass
    /// through every level. It stays short of the next entry, so that its slot is not open yet.
    pub(super) fn settle_all<V>(&mut self, slab: &mut Slab<V>, slot: Slot, tick: u64) {
        let min = self.levels[slot.level].buckets[slot.index].min >> TICK_BITS;
        let mut index = self.take(slot).head;
        let next = self.first().map_or(u64::MAX, |slot| slot.start);
        self.go_to(min.min(next).min(tick) - 1);
        while index != NIL {
            let entry = slab.entry(index);
            let (due, next) = (entry.due, entry.next);
            self.place(slab, index, due);
            index = next;
        }
    }

    pub(super) fn go_to(&mut self, tick: u64) {
        self.unsettled |= slot_of(tick, 1) != slot_of(self.cursor, 1);
        self.cursor = tick;
    }

    /// Moves one or two entries of the next slots of the upper levels down.
    #[inline]
    pub(super) fn settle_some<V>(&mut self, slab: &mut Slab<V>) {
        if self.unsettled {
            self.unsettled = self.settle_one(slab) && self.settle_one(slab);
        }
    }

    fn settle_one<V>(&mut self, slab: &mut Slab<V>) -> bool {
        for level in 1..self.levels.len() {
            let slot = ((slot_of(self.cursor, level) + 1) & RING_MASK) as usize;
            if self.levels[level].occupied.contains(slot) {
                let index = self.levels[level].buckets[slot].list.head;
                let due = slab.entry(index).due;
                self.levels[level].unlink(slab, slot, index, due);
                self.place_from(slab, index, due, level - 1);
                return true;
            }
        }
        false
    }

    /// How many levels above the lowest have entries.
    #[cfg(test)]
    pub(super) fn upper_levels_in_use(&self) -> usize {
        (1..self.levels.len()).filter_map(|level| self.first_of(level)).count()
    }

    /// The earliest deadline of all.
    pub(super) fn min<V>(&mut self, slab: &Slab<V>) -> Option<u64> {
        let mut min = None;
        for level in 0..self.levels.len() {
            let Some(slot) = self.first_of(level) else { continue };
            min = self.levels[level].min_of(slab, slot.index, min);
            if self.is_in_turn(slot) {
                break;
            }
        }
        min
    }

    /// Whether a slot is in the same turn as the cursor: then all slots of the levels above are later.
    fn is_in_turn(&self, slot: Slot) -> bool {
        slot_of(slot.start, slot.level + 1) == slot_of(self.cursor, slot.level + 1)
    }

    fn first_of(&self, level: usize) -> Option<Slot> {
        let current = slot_of(self.cursor, level);
        let index = self.levels[level].occupied.first_from((current & RING_MASK) as usize)?;
        let ahead = (index as u64).wrapping_sub(current) & RING_MASK;
        Some(Slot { level, index, start: (current + ahead) << SHIFTS[level] })
    }

    fn ahead(&self, level: usize, due: u64) -> u64 {
        slot_of(due >> TICK_BITS, level) - slot_of(self.cursor, level)
    }

    fn is_occupied(&self, level: usize, due: u64) -> bool {
        self.levels[level].occupied.contains((slot_of(due >> TICK_BITS, level) & RING_MASK) as usize)
    }
}

const fn slot_of(tick: u64, level: usize) -> u64 {
    tick >> SHIFTS[level]
}

impl Level {
    fn new() -> Self {
        Self { buckets: Vec::new(), occupied: Bits::new(), stale: Bits::new() }
    }

    #[inline]
    fn append<V>(&mut self, slab: &mut Slab<V>, slot: usize, home: u32, index: u32, due: u64) {
        if self.buckets.is_empty() {
            self.buckets.resize(RING, Bucket { list: List::EMPTY, min: 0 });
        }
        let bucket = &mut self.buckets[slot];
        if bucket.list.head == NIL {
            bucket.min = due;
            self.occupied.insert(slot);
            self.stale.remove(slot);
        }
        bucket.min = bucket.min.min(due);
        bucket.list.append(slab, index, home);
    }

    #[inline]
    fn unlink<V>(&mut self, slab: &mut Slab<V>, slot: usize, index: u32, due: u64) {
        let bucket = &mut self.buckets[slot];
        bucket.list.unlink(slab, index);
        if bucket.list.head == NIL {
            self.occupied.remove(slot);
        } else if bucket.min == due {
            self.stale.insert(slot);
        }
    }

    /// The earlier of `other` and the earliest deadline in a slot, which is looked for only if it could
    /// be the earlier.
    fn min_of<V>(&mut self, slab: &Slab<V>, slot: usize, other: Option<u64>) -> Option<u64> {
        let bucket = &mut self.buckets[slot];
        if other.is_some_and(|other| other <= bucket.min) {
            return other;
        }
        if self.stale.contains(slot) {
            bucket.min = min_of_list(slab, bucket.list);
            self.stale.remove(slot);
        }
        Some(other.map_or(bucket.min, |other| other.min(bucket.min)))
    }
}

fn min_of_list<V>(slab: &Slab<V>, list: List) -> u64 {
    let (mut min, mut index) = (u64::MAX, list.head);
    while index != NIL {
        let entry = slab.entry(index);
        min = min.min(entry.due);
        index = entry.next;
    }
    min
}
