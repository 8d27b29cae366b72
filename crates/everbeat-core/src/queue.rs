//! Many deadlines: an indexed heap.
//!
//! A recurring timer nearly always fires and is put back, so the operation that counts is "move an entry
//! to its next deadline" ([`Queue::set_due`]): one sift through a heap with four children to a node,
//! without removing anything. Entries with the same deadline leave in the order in which they were
//! given it.

use alloc::vec::Vec;

use crate::Instant;

/// Names an entry of a [`Queue`]. Once the entry is gone its key is unknown, even if the place is used
/// again (up to 2³² times).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    index: u32,
    generation: u32,
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
#[derive(Clone, Debug)]
pub struct Queue<V> {
    /// The heap: node `i` has the children `4i + 1 ..= 4i + 4`.
    heap: Vec<Node>,
    slots: Vec<Slot<V>>,
    /// The head of the chain of vacant slots.
    vacant: Option<u32>,
    sequence: u64,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    due: Instant,
    sequence: u64,
    key: Key,
}

#[derive(Clone, Debug)]
enum Slot<V> {
    Taken { place: u32, generation: u32, value: V },
    Vacant { next: Option<u32>, generation: u32 },
}

impl Node {
    fn rank(&self) -> (Instant, u64) {
        (self.due, self.sequence)
    }
}

impl<V> Default for Queue<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> Queue<V> {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self { heap: Vec::new(), slots: Vec::new(), vacant: None, sequence: 0 }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.heap.first().map(|node| node.due)
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// At 2³² entries.
    pub fn insert(&mut self, due: Instant, value: V) -> Key {
        let place = u32::try_from(self.heap.len()).expect("a queue holds fewer than 2^32 entries");
        let key = self.occupy(place, value);
        let sequence = self.next_sequence();
        self.heap.push(Node { due, sequence, key });
        self.sift_up(self.heap.len() - 1);
        key
    }

    /// Moves an entry to another deadline, behind those that already have it. Returns whether the key
    /// was known.
    pub fn set_due(&mut self, key: Key, due: Instant) -> bool {
        let Some(place) = self.place_of(key) else {
            return false;
        };
        let sequence = self.next_sequence();
        self.heap[place] = Node { due, sequence, key };
        self.restore(place);
        true
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: Key) -> Option<V> {
        let place = self.place_of(key)?;
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.restore(place);
        }
        self.vacate(key)
    }

    /// Takes out the earliest entry that is due at `now`, with its deadline.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, V)> {
        let first = *self.heap.first().filter(|node| node.due <= now)?;
        self.remove(first.key).map(|value| (first.due, value))
    }

    /// The earliest entry, if it is due at `now`; it stays where it is.
    pub fn peek_due(&mut self, now: Instant) -> Option<(Key, &mut V)> {
        let key = self.heap.first().filter(|node| node.due <= now)?.key;
        self.get_mut(key).map(|value| (key, value))
    }

    /// The keys of all entries, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.heap.iter().map(|node| node.key)
    }

    /// The value of an entry.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut V> {
        match self.slots.get_mut(key.index as usize)? {
            Slot::Taken { value, generation, .. } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn occupy(&mut self, place: u32, value: V) -> Key {
        let Some(index) = self.vacant else {
            let index = u32::try_from(self.slots.len()).expect("a queue holds fewer than 2^32 entries");
            self.slots.push(Slot::Taken { place, generation: 0, value });
            return Key { index, generation: 0 };
        };
        let slot = &mut self.slots[index as usize];
        let Slot::Vacant { next, generation } = *slot else { unreachable!("only vacant slots are chained") };
        self.vacant = next;
        *slot = Slot::Taken { place, generation, value };
        Key { index, generation }
    }

    fn vacate(&mut self, key: Key) -> Option<V> {
        let generation = key.generation.wrapping_add(1);
        let vacant = Slot::Vacant { next: self.vacant.replace(key.index), generation };
        match core::mem::replace(&mut self.slots[key.index as usize], vacant) {
            Slot::Taken { value, .. } => Some(value),
            Slot::Vacant { .. } => None,
        }
    }

    fn place_of(&self, key: Key) -> Option<usize> {
        match self.slots.get(key.index as usize)? {
            Slot::Taken { place, generation, .. } if *generation == key.generation => Some(*place as usize),
            _ => None,
        }
    }

    fn restore(&mut self, place: usize) {
        self.sift_up(place);
        self.sift_down(place);
    }

    fn sift_up(&mut self, mut place: usize) {
        let node = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / 4;
            if self.heap[parent].rank() <= node.rank() {
                break;
            }
            self.settle(place, self.heap[parent]);
            place = parent;
        }
        self.settle(place, node);
    }

    fn sift_down(&mut self, mut place: usize) {
        let node = self.heap[place];
        while let Some(child) = self.first_child(place) {
            if self.heap[child].rank() >= node.rank() {
                break;
            }
            self.settle(place, self.heap[child]);
            place = child;
        }
        self.settle(place, node);
    }

    /// The child that is due first.
    fn first_child(&self, place: usize) -> Option<usize> {
        let start = 4 * place + 1;
        let end = (start + 4).min(self.heap.len());
        (start..end).min_by_key(|&child| self.heap[child].rank())
    }

    #[allow(clippy::cast_possible_truncation)]
    fn settle(&mut self, at: usize, node: Node) {
        self.heap[at] = node;
        if let Slot::Taken { place, .. } = &mut self.slots[node.key.index as usize] {
            // Places are below 2^32: `insert` saw to that.
            *place = at as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    const fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn t1_equal_deadlines_leave_in_the_order_of_arrival() {
        let mut queue = Queue::new();
        (0..100).for_each(|value| _ = queue.insert(at(7), value));
        let order: Vec<_> = core::iter::from_fn(|| queue.pop_due(at(7))).map(|(_, value)| value).collect();
        assert!(order.into_iter().eq(0..100));
    }

    #[test]
    fn a_removed_key_is_unknown() {
        let mut queue = Queue::new();
        let key = queue.insert(at(1), 'a');
        assert_eq!(queue.remove(key), Some('a'));
        assert_eq!(queue.remove(key), None);
        assert!(!queue.set_due(key, at(2)));
        queue.insert(at(1), 'b');
        assert_eq!((queue.remove(key), queue.get_mut(key)), (None, None), "the place is another's now");
        assert_eq!(queue.pop_due(at(1)), Some((at(1), 'b')));
        assert!(queue.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Insert(u64),
        SetDue(usize, u64),
        Remove(usize),
        Pop(u64),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            3 => (0..50_u64).prop_map(Operation::Insert),
            3 => (any::<usize>(), 0..50_u64).prop_map(|(i, due)| Operation::SetDue(i, due)),
            1 => any::<usize>().prop_map(Operation::Remove),
            2 => (0..50_u64).prop_map(Operation::Pop),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_an_ordered_map(operations in prop::collection::vec(operation(), 0..400)) {
            let mut queue = Queue::new();
            let mut model: BTreeMap<(u64, u64), u64> = BTreeMap::new();
            let mut live: Vec<(Key, (u64, u64), u64)> = Vec::new();
            for (sequence, operation) in (0_u64..).zip(operations) {
                match operation {
                    Operation::Insert(due) => {
                        let key = queue.insert(at(due), sequence);
                        model.insert((due, sequence), sequence);
                        live.push((key, (due, sequence), sequence));
                    }
                    Operation::SetDue(pick, due) if !live.is_empty() => {
                        let pick = pick % live.len();
                        let (key, rank, value) = &mut live[pick];
                        prop_assert!(queue.set_due(*key, at(due)));
                        model.remove(rank);
                        *rank = (due, sequence);
                        model.insert(*rank, *value);
                    }
                    Operation::Remove(pick) if !live.is_empty() => {
                        let (key, rank, value) = live.swap_remove(pick % live.len());
                        prop_assert_eq!(queue.remove(key), Some(value));
                        model.remove(&rank);
                    }
                    Operation::Pop(now) => {
                        let first = model.first_key_value().filter(|(rank, _)| rank.0 <= now);
                        let first = first.map(|(&rank, &value)| (rank, value));
                        let popped = queue.pop_due(at(now));
                        prop_assert_eq!(popped, first.map(|(rank, value)| (at(rank.0), value)));
                        if let Some((rank, _)) = first {
                            model.remove(&rank);
                            live.retain(|(_, other, _)| *other != rank);
                        }
                    }
                    Operation::SetDue(..) | Operation::Remove(_) => {}
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.next_due(), model.keys().next().map(|rank| at(rank.0)));
            }
        }
    }
}
