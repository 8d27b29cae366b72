//! A timing wheel with nothing but the wheel.

use crate::by_hand::next_due;

/// What is called at each tick, with the lateness in nanoseconds.
pub(crate) type Callback = Box<dyn FnMut(u64) + Send>;

/// A slot is 2^20 ns wide: 1.05 ms.
pub(crate) const SLOT_BITS: u32 = 20;
const WHEEL_BITS: u32 = 12;
const SLOTS: u64 = 1 << WHEEL_BITS;
const NONE: u32 = u32::MAX;

/// A wheel of 2^12 slots, and one with the same number of slots of 4.3 s for what is further away.
pub(crate) struct Wheel {
    nodes: Vec<Node>,
    /// The first node of each slot, of both wheels.
    heads: Vec<u32>,
    /// The slot that was fired last.
    current: u64,
    vacant: u32,
}

struct Node {
    due: u64,
    period: u64,
    previous: u32,
    next: u32,
    /// The place in `heads`.
    place: u32,
    callback: Option<Callback>,
}

impl Wheel {
    pub(crate) fn new(now: u64) -> Self {
        let heads = vec![NONE; 2 * SLOTS as usize];
        Self { nodes: Vec::new(), heads, current: now >> SLOT_BITS, vacant: NONE }
    }

    pub(crate) fn insert(&mut self, due: u64, period: u64, callback: Callback) -> u32 {
        let node = Node { due, period, previous: NONE, next: NONE, place: 0, callback: Some(callback) };
        let id = self.vacant;
        let id = if id == NONE {
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        } else {
            self.vacant = self.nodes[id as usize].next;
            self.nodes[id as usize] = node;
            id
        };
        self.link(id);
        id
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<Callback> {
        let node = &mut self.nodes[id as usize];
        let callback = node.callback.take()?;
        let (previous, next, place) = (node.previous, node.next, node.place);
        node.next = std::mem::replace(&mut self.vacant, id);
        match previous {
            NONE => self.heads[place as usize] = next,
            _ => self.nodes[previous as usize].next = next,
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        Some(callback)
    }

    /// Fires what is due.
    pub(crate) fn advance(&mut self, now: u64) {
        while self.current < now >> SLOT_BITS {
            self.current += 1;
            if self.current % SLOTS == 0 {
                self.cascade();
            }
            let place = self.current % SLOTS;
            let mut id = std::mem::replace(&mut self.heads[place as usize], NONE);
            while id != NONE {
                let next = self.nodes[id as usize].next;
                self.fire(id, now);
                id = next;
            }
        }
    }

    fn fire(&mut self, id: u32, now: u64) {
        let node = &mut self.nodes[id as usize];
        if let Some(callback) = &mut node.callback {
            callback(now - node.due);
        }
        node.due = next_due(node.due, node.period, now);
        self.link(id);
    }

    /// Brings what has come near into the inner wheel.
    fn cascade(&mut self) {
        let place = SLOTS + (self.current >> WHEEL_BITS) % SLOTS;
        let mut id = std::mem::replace(&mut self.heads[place as usize], NONE);
        while id != NONE {
            let next = self.nodes[id as usize].next;
            self.link(id);
            id = next;
        }
    }

    fn link(&mut self, id: u32) {
        let slot = ((self.nodes[id as usize].due >> SLOT_BITS) + 1).max(self.current);
        let place =
            if slot - self.current < SLOTS { slot % SLOTS } else { SLOTS + (slot >> WHEEL_BITS) % SLOTS };
        let next = std::mem::replace(&mut self.heads[place as usize], id);
        if next != NONE {
            self.nodes[next as usize].previous = id;
        }
        let node = &mut self.nodes[id as usize];
        (node.previous, node.next, node.place) = (NONE, next, place as u32);
    }
}
