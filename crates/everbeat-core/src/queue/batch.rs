//! The entries of one slot in exact order.

use alloc::vec::Vec;

use super::slab::{NIL, Slab};
use super::wheel::List;

/// A batch of more entries than this is not kept as room for later ones.
const KEPT: usize = 1 << 12;

/// Indices of entries, sorted once. An entry that leaves stays listed; its home tells.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// The distance from `base` in the upper half, the index in the lower.
    items: Vec<u64>,
    /// Room for half of them while they are collected.
    rear: Vec<u64>,
    base: u64,
    /// How many have left from the front.
    taken: usize,
}

impl Batch {
    pub(super) const fn new() -> Self {
        Self { items: Vec::new(), rear: Vec::new(), base: 0, taken: 0 }
    }

    /// The earliest entry that is still at `home`.
    #[inline]
    pub(super) fn first<V>(&mut self, slab: &Slab<V>, home: u32) -> Option<(u64, u32)> {
        while let Some(&item) = self.items.get(self.taken) {
            let index = index_of(item);
            if slab.get(index).is_some_and(|entry| entry.home == home) {
                return Some((self.base + (item >> 32), index));
            }
            self.taken += 1;
        }
        None
    }

    /// Takes over a list of entries that are due less than 2³² ns after `base`.
    pub(super) fn fill<V>(&mut self, slab: &Slab<V>, list: List, base: u64) {
        self.give_back();
        self.base = base;
        self.collect(slab, list);
        // Stable: equals stay in the order of their arrival.
        self.items.sort_by_key(|item| item >> 32);
    }

    /// Walks the list from both ends at once: the next entry is seldom in the cache, and so the processor
    /// waits for two of them at a time.
    fn collect<V>(&mut self, slab: &Slab<V>, List { mut head, mut tail }: List) {
        let item = |due: u64, index: u32| (due - self.base) << 32 | u64::from(index);
        while head != tail {
            let (first, last) = (slab.entry(head), slab.entry(tail));
            self.items.push(item(first.due, head));
            self.rear.push(item(last.due, tail));
            if first.next == tail {
                head = NIL;
                break;
            }
            (head, tail) = (first.next, last.prev);
        }
        if head != NIL {
            self.items.push(item(slab.entry(head).due, head));
        }
        self.items.extend(self.rear.drain(..).rev());
    }

    /// Forgets the entries, and the memory if it is much.
    pub(super) fn give_back(&mut self) {
        if self.items.capacity() > KEPT {
            (self.items, self.rear) = (Vec::new(), Vec::new());
        }
        self.items.clear();
        self.taken = 0;
    }
}

#[allow(clippy::cast_possible_truncation)]
const fn index_of(item: u64) -> u32 {
    item as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch with this many entries, all due at `base`.
    fn filled(batch: &mut Batch, count: usize) {
        let (mut slab, mut list) = (Slab::new(), List::EMPTY);
        for _ in 0..count {
            let key = slab.insert(7, ());
            list.append(&mut slab, key.index, 0);
        }
        batch.fill(&slab, list, 7);
        assert_eq!(batch.items.len(), count);
    }

    #[test]
    fn room_is_kept_for_batches_of_usual_size() {
        let mut batch = Batch::new();
        filled(&mut batch, 4096);
        assert_eq!(batch.items.capacity(), 4096);
        batch.give_back();
        assert_eq!((batch.items.capacity(), batch.items.len()), (4096, 0));
        filled(&mut batch, 4097);
        assert!(batch.items.capacity() > 4096);
        batch.give_back();
        assert_eq!((batch.items.capacity(), batch.rear.capacity()), (0, 0));
    }
}
