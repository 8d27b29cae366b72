//! A heap for the few entries that come too late to be sorted with their slot, and for small queues.

use alloc::vec::Vec;

use super::slab::Slab;

/// The home of entries in the heap.
pub(super) const LATE: u32 = u32::MAX - 1;

/// Room for so many stays: a queue of a few entries, which come and go, allocates nothing.
const KEPT: usize = 16;

/// Node `i` has the children `4i + 1 ..= 4i + 4`.
#[derive(Clone, Debug)]
pub(super) struct Late {
    nodes: Vec<Node>,
    sequence: u64,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    due: u64,
    sequence: u64,
    index: u32,
}

impl Node {
    fn rank(&self) -> (u64, u64) {
        (self.due, self.sequence)
    }
}

impl Late {
    pub(super) const fn new() -> Self {
        Self { nodes: Vec::new(), sequence: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The earliest deadline and whose it is.
    #[inline]
    pub(super) fn first(&self) -> Option<(u64, u32)> {
        self.nodes.first().map(|node| (node.due, node.index))
    }

    pub(super) fn push<V>(&mut self, slab: &mut Slab<V>, index: u32) {
        let entry = slab.entry_mut(index);
        entry.home = LATE;
        self.sequence += 1;
        self.nodes.push(Node { due: entry.due, sequence: self.sequence, index });
        self.sift_up(slab, self.nodes.len() - 1);
    }

    /// Takes out the entry at a place.
    pub(super) fn remove<V>(&mut self, slab: &mut Slab<V>, place: u32) {
        let place = place as usize;
        self.nodes.swap_remove(place);
        if place < self.nodes.len() {
            self.sift_up(slab, place);
            self.sift_down(slab, place);
        }
        if self.nodes.capacity() > KEPT && self.nodes.len() < self.nodes.capacity() / 4 {
            self.nodes.shrink_to(KEPT.max(self.nodes.len() * 2));
        }
    }

    /// Forgets all entries; returns them in order.
    pub(super) fn take_all(&mut self) -> Vec<u32> {
        let mut nodes = core::mem::take(&mut self.nodes);
        nodes.sort_unstable_by_key(Node::rank);
        nodes.into_iter().map(|node| node.index).collect()
    }

    fn sift_up<V>(&mut self, slab: &mut Slab<V>, mut place: usize) {
        let node = self.nodes[place];
        while place > 0 {
            let parent = (place - 1) / 4;
            if self.nodes[parent].rank() <= node.rank() {
                break;
            }
            self.settle(slab, place, self.nodes[parent]);
            place = parent;
        }
        self.settle(slab, place, node);
    }

    fn sift_down<V>(&mut self, slab: &mut Slab<V>, mut place: usize) {
        let node = self.nodes[place];
        while let Some(child) = self.first_child(place) {
            if self.nodes[child].rank() >= node.rank() {
                break;
            }
            self.settle(slab, place, self.nodes[child]);
            place = child;
        }
        self.settle(slab, place, node);
    }

    /// The child that is due first.
    fn first_child(&self, place: usize) -> Option<usize> {
        let start = 4 * place + 1;
        let end = (start + 4).min(self.nodes.len());
        (start..end).min_by_key(|&child| self.nodes[child].rank())
    }

    #[allow(clippy::cast_possible_truncation)]
    fn settle<V>(&mut self, slab: &mut Slab<V>, at: usize, node: Node) {
        self.nodes[at] = node;
        // Places are below 2^32, as there are no more entries than that.
        slab.entry_mut(node.index).prev = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heap_of_which_three_quarters_have_gone_gives_half_of_the_rest_back() {
        let (mut slab, mut late) = (Slab::new(), Late::new());
        for n in 0..64 {
            let key = slab.insert(n, ());
            late.push(&mut slab, key.index);
        }
        assert_eq!(late.nodes.capacity(), 64);
        (0..48).for_each(|_| late.remove(&mut slab, 0));
        assert_eq!((late.len(), late.nodes.capacity()), (16, 64));
        late.remove(&mut slab, 0);
        assert_eq!((late.len(), late.nodes.capacity()), (15, 30));
        assert_eq!(late.first().map(|(due, _)| due), Some(49));
    }
}
