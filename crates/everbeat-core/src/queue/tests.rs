//! The queue against an ordered map, and its corners.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::mem;
use proptest::prelude::*;

use super::*;
use crate::tests::seeded::seeded;

const MILLIS: u64 = 1_000_000;
const SECONDS: u64 = 1000 * MILLIS;

const fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn drain<V>(queue: &mut Queue<V>, now: Instant) -> Vec<V> {
    core::iter::from_fn(|| queue.pop_due(now)).map(|(_, value)| value).collect()
}

#[test]
fn t1_equal_deadlines_leave_in_the_order_of_arrival() {
    let mut queue = Queue::new();
    (0..100).for_each(|value| _ = queue.insert(at(7), value));
    assert!(drain(&mut queue, at(7)).into_iter().eq(0..100));
}

#[test]
fn t1_equal_deadlines_keep_their_order_among_others() {
    let mut queue = Queue::new();
    (0..2000_u64).for_each(|n| _ = queue.insert(at(SECONDS + n % 7), n));
    let wanted = (0..7).flat_map(|rest| (0..2000).filter(move |n| n % 7 == rest));
    assert!(drain(&mut queue, at(2 * SECONDS)).into_iter().eq(wanted));
}

#[test]
fn far_entries_move_down_while_time_draws_near() {
    let mut queue = Queue::new();
    (0..1000_u64).for_each(|n| _ = queue.insert(at(5 * SECONDS + n), n));
    assert_eq!((queue.wheel.upper_levels_in_use(), queue.peek_due(at(4 * SECONDS))), (1, None));
    (0..500).for_each(|_| assert_eq!(queue.peek_due(at(4 * SECONDS)), None));
    assert_eq!(queue.wheel.upper_levels_in_use(), 0, "two a call");
    assert!(drain(&mut queue, at(6 * SECONDS)).into_iter().eq(0..1000));
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

#[test]
fn keys_of_no_queue_are_as_many_as_there_are_numbers() {
    let near = |bit: u32| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1];
    let numbers: BTreeSet<u64> = (0..63).flat_map(near).chain([(1 << 63) - 1]).collect();
    let keys: Vec<Key> = numbers.into_iter().map(Key::of_none).collect();
    assert!((1..keys.len()).all(|i| !keys[..i].contains(&keys[i])));
    let mut queue = Queue::new();
    let key = queue.insert(at(1), ());
    assert!(!keys.contains(&key) && keys.iter().all(|&key| queue.get(key).is_none()));
}

#[test]
fn t1_equal_deadlines_keep_their_order_through_all_levels() {
    for due in [3 * SECONDS, 7000 * SECONDS, 50_000_000 * SECONDS, u64::MAX - 1] {
        let mut queue = Queue::new();
        (0..200).for_each(|value| _ = queue.insert(at(due), value));
        // Ever closer, with some already on their way down.
        for (value, ahead) in (200..).zip([due / 2, 4000 * MILLIS, 2200 * MILLIS, 2100 * MILLIS, MILLIS, 1]) {
            assert_eq!(queue.pop_due(at(due.saturating_sub(ahead))), None);
            queue.insert(at(due), value);
            assert_eq!(queue.next_due(), Some(at(due)));
        }
        assert!(drain(&mut queue, at(due)).into_iter().eq(0..206), "due at {due}");
    }
}

#[test]
fn what_is_parked_is_never_first() {
    let mut queue = Queue::new();
    let parked = queue.insert(Instant::NEVER, "parked");
    assert_eq!((queue.next_due(), queue.pop_due(at(u64::MAX - 1))), (Some(Instant::NEVER), None));
    queue.insert(at(u64::MAX - 1), "last");
    assert_eq!(queue.pop_due(Instant::NEVER), Some((at(u64::MAX - 1), "last")));
    assert!(queue.set_due(parked, at(5)));
    assert_eq!(queue.next_due(), Some(at(5)));
    assert!(queue.set_due(parked, Instant::NEVER));
    assert_eq!(queue.pop_due(Instant::NEVER), Some((Instant::NEVER, "parked")));
}

#[test]
fn next_due_is_exact_after_the_earliest_was_removed() {
    for ahead in [1, 10 * MILLIS, 3 * SECONDS, 9000 * SECONDS] {
        let mut queue = Queue::new();
        let keys: Vec<_> = (0..500).rev().map(|n| queue.insert(at(ahead + n), n)).collect();
        for (n, key) in (0..500).zip(keys.into_iter().rev()) {
            assert_eq!(queue.next_due(), Some(at(ahead + n)));
            queue.remove(key);
        }
        assert_eq!(queue.next_due(), None);
    }
}

#[test]
fn memory_is_given_back() {
    let mut queue = Queue::new();
    let keys: Vec<_> = (0..100_000_u64).map(|n| queue.insert(at(n * n), n)).collect();
    assert!(queue.wheel.is_built());
    queue.pop_due(at(MILLIS));
    keys.into_iter().for_each(|key| _ = queue.remove(key));
    assert!(queue.is_empty() && !queue.wheel.is_built());
}

#[derive(Clone, Debug)]
enum Operation {
    Insert(u64),
    SetDue(usize, u64),
    Remove(usize),
    Pop(u64),
    Restart(u64, u64),
    TakeDue(u64),
    SetAside(usize),
    NextDue,
}

/// Times near each other, near the edges of ticks, turns and levels, and near the end of time.
fn time() -> impl Strategy<Value = u64> {
    let edge = (0..64_u32, 0..4_u64, -3..=3_i64);
    let edge = edge.prop_map(|(bit, times, off)| (times << bit).saturating_add_signed(off));
    prop_oneof![
        4 => 0..50_u64,
        4 => 0..20 * MILLIS,
        3 => (0..5000_u64).prop_map(|n| n * MILLIS),
        2 => (0..90_u64).prop_map(|n| n * SECONDS),
        4 => edge,
        1 => any::<u64>(),
        1 => (0..5_u64).prop_map(|n| u64::MAX - n),
    ]
}

/// Times that are close to one another, so that much happens in few slots.
fn close_time() -> impl Strategy<Value = u64> {
    prop_oneof![(0..50_u64), (0..5000_u64).prop_map(|n| n * MILLIS)]
}

fn operation<S: Strategy<Value = u64> + Clone>(time: S) -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => time.clone().prop_map(Operation::Insert),
        3 => (any::<usize>(), time.clone()).prop_map(|(i, due)| Operation::SetDue(i, due)),
        1 => any::<usize>().prop_map(Operation::Remove),
        2 => time.clone().prop_map(Operation::Pop),
        3 => (time.clone(), time).prop_map(|(now, due)| Operation::Restart(now, due)),
        2 => any::<u8>().prop_map(|n| Operation::TakeDue(u64::from(n) * 3 * MILLIS)),
        1 => any::<usize>().prop_map(Operation::SetAside),
        2 => Just(Operation::NextDue),
    ]
}

/// The queue and what it ought to be.
struct Pair {
    queue: Queue<u64>,
    model: BTreeMap<(u64, u64), u64>,
    live: Vec<(Key, (u64, u64), u64)>,
    /// Times count from here: the latest that was asked for, or zero.
    base: u64,
    moving: bool,
}

impl Pair {
    fn new(moving: bool) -> Self {
        Self { queue: Queue::new(), model: BTreeMap::new(), live: Vec::new(), base: 0, moving }
    }

    fn time(&self, time: u64) -> u64 {
        self.base.saturating_add(time)
    }

    fn first(&self, now: u64) -> Option<((u64, u64), u64)> {
        self.model.first_key_value().filter(|(rank, _)| rank.0 <= now).map(|(&rank, &value)| (rank, value))
    }

    fn asked(&mut self, now: u64) {
        if self.moving {
            self.base = now;
        }
    }

    fn rerank(&mut self, pick: usize, rank: (u64, u64)) -> Result<(), TestCaseError> {
        let (key, old, value) = &mut self.live[pick];
        prop_assert!(self.queue.set_due(*key, at(rank.0)));
        self.model.remove(old);
        *old = rank;
        self.model.insert(rank, *value);
        Ok(())
    }

    fn apply(&mut self, sequence: u64, operation: &Operation) -> Result<(), TestCaseError> {
        match *operation {
            Operation::Insert(due) => {
                let rank = (self.time(due), sequence);
                let key = self.queue.insert(at(rank.0), sequence);
                self.model.insert(rank, sequence);
                self.live.push((key, rank, sequence));
            }
            Operation::SetDue(pick, due) if !self.live.is_empty() => {
                self.rerank(pick % self.live.len(), (self.time(due), sequence))?;
            }
            Operation::Remove(pick) if !self.live.is_empty() => {
                let (key, rank, value) = self.live.swap_remove(pick % self.live.len());
                prop_assert_eq!(self.queue.remove(key), Some(value));
                prop_assert_eq!(self.queue.get_mut(key), None);
                self.model.remove(&rank);
            }
            Operation::Pop(now) => self.pop(self.time(now))?,
            Operation::Restart(now, due) => self.restart(self.time(now), due, sequence)?,
            Operation::TakeDue(now) => {
                let now = self.time(now);
                let first = self.first(now);
                self.asked(now);
                let taken = self.queue.take_due(at(now)).map(|(key, due, value)| (key, due, *value));
                let seen = taken.map(|(_, due, value)| (due, value));
                prop_assert_eq!(seen, first.map(|(rank, value)| (at(rank.0), value)));
                if let Some((key, ..)) = taken {
                    let pick = self.live.iter().position(|(other, ..)| *other == key);
                    self.forget_rank(pick.unwrap());
                }
            }
            Operation::SetAside(pick) if !self.live.is_empty() => {
                let pick = pick % self.live.len();
                prop_assert!(self.queue.set_aside(self.live[pick].0));
                self.forget_rank(pick);
            }
            Operation::NextDue => {
                let first = self.model.keys().next().map(|rank| at(rank.0));
                prop_assert_eq!(self.queue.next_due(), first);
            }
            Operation::SetDue(..) | Operation::Remove(_) | Operation::SetAside(_) => {}
        }
        prop_assert_eq!(self.queue.len(), self.live.len());
        Ok(())
    }

    /// The entry is aside: it has no place in the order.
    fn forget_rank(&mut self, pick: usize) {
        let rank = mem::replace(&mut self.live[pick].1, (u64::MAX, u64::MAX));
        self.model.remove(&rank);
    }

    fn pop(&mut self, now: u64) -> Result<(), TestCaseError> {
        let first = self.first(now);
        self.asked(now);
        prop_assert_eq!(self.queue.pop_due(at(now)), first.map(|(rank, value)| (at(rank.0), value)));
        if let Some((rank, _)) = first {
            self.model.remove(&rank);
            self.live.retain(|(_, other, _)| *other != rank);
        }
        Ok(())
    }

    fn restart(&mut self, now: u64, due: u64, sequence: u64) -> Result<(), TestCaseError> {
        let first = self.first(now);
        self.asked(now);
        let peeked = self.queue.peek_due(at(now)).map(|(key, value)| (key, *value));
        prop_assert_eq!(peeked.map(|(_, value)| value), first.map(|(_, value)| value));
        let Some((key, _)) = peeked else { return Ok(()) };
        let pick = self.live.iter().position(|(other, ..)| *other == key);
        self.rerank(pick.unwrap(), (self.time(due), sequence))
    }

    fn finish(mut self) -> Result<(), TestCaseError> {
        while !self.model.is_empty() {
            self.pop(u64::MAX)?;
        }
        prop_assert_eq!(self.queue.pop_due(Instant::NEVER), None);
        Ok(())
    }
}

fn check(operations: &[Operation], moving: bool, small: bool) -> Result<(), TestCaseError> {
    let mut pair = Pair::new(moving);
    for (sequence, operation) in (0_u64..).zip(operations) {
        if !small && !pair.queue.wheel.is_built() {
            pair.queue.wheel.build();
        }
        pair.apply(sequence, operation)?;
    }
    pair.finish()
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn behaves_like_an_ordered_map(
        operations in prop::collection::vec(operation(time().boxed()), 0..400),
        moving: bool,
        small: bool,
    ) {
        check(&operations, moving, small)?;
    }

    #[test]
    fn behaves_like_an_ordered_map_in_close_quarters(
        operations in prop::collection::vec(operation(close_time().boxed()), 0..600),
        moving: bool,
        small: bool,
    ) {
        check(&operations, moving, small)?;
    }
}

#[test]
fn all_keys_are_those_that_were_not_removed() {
    let mut queue = Queue::new();
    let keys: Vec<_> = (0..1000_u64).map(|n| queue.insert(at(n * SECONDS), n)).collect();
    keys.iter().step_by(3).for_each(|key| _ = queue.remove(*key));
    let mut left: Vec<_> = queue.keys().filter_map(|key| queue.clone().remove(key)).collect();
    left.sort_unstable();
    assert!(left.into_iter().eq((0..1000).filter(|n| n % 3 != 0)));
}

#[test]
fn an_entry_can_be_looked_at_by_its_key_only() {
    let mut queue = Queue::new();
    let (key, other) = (queue.insert(at(5), 'a'), queue.insert_aside('b'));
    assert_eq!((queue.due(key), queue.get(key), queue.get(other)), (Some(at(5)), Some(&'a'), Some(&'b')));
    assert_eq!(queue.get_mut(key), Some(&mut 'a'));
    assert_eq!((queue.len(), queue.is_empty()), (2, false));
    queue.remove(key);
    queue.insert(at(6), 'c');
    assert_eq!((queue.due(key), queue.get(key)), (None, None), "another's place");
    assert!(queue.get_mut(key).is_none() && !queue.set_aside(key) && !queue.set_due(key, at(7)));
    assert_eq!(queue.next_due(), Some(at(6)));
}

#[test]
fn an_entry_that_is_aside_has_no_place_in_the_order() {
    let mut queue = Queue::new();
    let (first, second) = (queue.insert(at(5), 'a'), queue.insert(at(6), 'b'));
    assert_eq!(queue.take_due(at(4)), None);
    assert_eq!(queue.take_due(at(5)), Some((first, at(5), &mut 'a')));
    assert!(queue.set_aside(second) && queue.set_aside(second));
    assert_eq!((queue.next_due(), queue.pop_due(Instant::NEVER), queue.len()), (None, None, 2));
    assert!(queue.set_due(second, at(7)) && queue.set_due(first, at(8)));
    assert_eq!(drain(&mut queue, at(8)), ['b', 'a']);
}

#[test]
fn a_queue_of_64_entries_has_no_wheel() {
    let mut queue = Queue::new();
    (0..64_u64).for_each(|n| _ = queue.insert(at(SECONDS * (n + 1)), n));
    assert!(!queue.wheel.is_built());
    queue.insert(at(SECONDS), 64);
    assert!(queue.wheel.is_built());
    assert!(drain(&mut queue, at(64 * SECONDS)).into_iter().eq([0, 64].into_iter().chain(1..64)));
}

/// The lengths of slots on all levels and their neighbours, in nanoseconds, and the ends of time.
fn borders() -> Vec<u64> {
    let bits = [0, 1, 19, 20, 21, 30, 31, 32, 41, 42, 43, 52, 53, 54, 63];
    let times = bits.into_iter().flat_map(|bit| [1, 2, 3, 2047, 2048, 4096].map(|n: u64| n.checked_shl(bit)));
    let times = times.flatten().flat_map(|time| [time.wrapping_sub(1), time, time.saturating_add(1)]);
    let mut all: Vec<_> = times.chain([u64::MAX - 1, u64::MAX]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// A queue with a wheel, whatever the number of its entries.
fn wheel() -> Queue<u64> {
    let mut queue = Queue::new();
    queue.wheel.build();
    queue
}

/// Whatever the time is when an entry comes, and whenever it is asked for: nothing is early, late or lost.
#[test]
fn s9_deadlines_at_the_borders_of_all_slots_are_exact() {
    let borders = borders();
    for (n, &now) in borders.iter().enumerate() {
        let mut queue = wheel();
        assert_eq!(queue.pop_due(at(now)), None);
        // The second time for slots that are open or past.
        for _ in 0..2 {
            borders.iter().for_each(|&due| _ = queue.insert(at(due), due));
            assert!(drain(&mut queue, at(now)).iter().eq(&borders[..=n]), "at {now}");
        }
        assert_eq!(queue.next_due(), borders.get(n + 1).map(|&due| at(due)));
        let rest = borders[n + 1..].iter().flat_map(|due| [due, due]);
        assert!(drain(&mut queue, Instant::NEVER).iter().eq(rest), "after {now}");
    }
}

/// From each border to each later one.
#[test]
fn s9_an_entry_that_moves_from_border_to_border_is_exact() {
    let borders = borders();
    for (n, &now) in borders.iter().enumerate() {
        let mut queue = wheel();
        let key = queue.insert(at(now), 0);
        for &due in &borders[n..] {
            assert!(queue.set_due(key, at(due)));
            assert_eq!(queue.next_due(), Some(at(due)), "from {now}");
            assert_eq!(queue.peek_due(at(now)).is_some(), due == now, "from {now} to {due}");
        }
        assert_eq!(queue.pop_due(Instant::NEVER), Some((Instant::NEVER, 0)));
    }
}

/// What leaves an open slot leaves nothing behind for the slot that has its place a turn of the ring later.
#[test]
fn an_open_slot_that_was_left_can_be_used_again() {
    let mut queue = wheel();
    let slot = 5 << TICK_BITS;
    let keys = [0, 1, 2].map(|n| queue.insert(at(slot + n), n));
    assert_eq!(queue.peek_due(at(slot)).map(|(key, _)| key), Some(keys[0]));
    keys.into_iter().for_each(|key| _ = queue.remove(key));
    let again = slot + ((wheel::RING as u64) << TICK_BITS);
    assert_eq!(queue.insert(at(slot + 9), 9).index, keys[2].index);
    assert_eq!(drain(&mut queue, at(again - (3 << TICK_BITS))), [9]);
    (0..3).for_each(|n| _ = queue.insert(at(again + n), n));
    assert_eq!(queue.next_due(), Some(at(again)));
    assert_eq!(drain(&mut queue, at(again + 2)), [0, 1, 2]);
}

/// Some have been moved down already; those that have not are earlier.
#[test]
fn the_next_deadline_is_found_while_a_slot_is_being_emptied() {
    let mut queue = wheel();
    let turn = 2048 << TICK_BITS;
    (0..100).rev().for_each(|n| _ = queue.insert(at(2 * turn + (n << TICK_BITS)), n));
    assert_eq!(queue.peek_due(at(turn + (5 << TICK_BITS))), None);
    for _ in 0..60 {
        assert_eq!(queue.next_due(), Some(at(2 * turn)));
        assert_eq!(queue.peek_due(at(turn + (6 << TICK_BITS))), None);
    }
    assert_eq!(queue.wheel.upper_levels_in_use(), 0);
    assert!(drain(&mut queue, at(3 * turn)).into_iter().eq(0..100));
}

/// Entries that are moved down do not take the cursor along to the present slot.
#[test]
fn a_jump_leaves_the_present_slot_closed_for_what_is_still_to_come() {
    let mut queue = wheel();
    queue.insert(at(7000 * SECONDS), 0);
    assert_eq!(queue.wheel.upper_levels_in_use(), 1);
    let now = 7000 * SECONDS - 100 * MILLIS;
    assert_eq!(queue.peek_due(at(now)), None);
    assert_eq!((queue.wheel.upper_levels_in_use(), queue.wheel.cursor), (0, (now >> TICK_BITS) - 1));
}

/// Else what comes later would all go into the heap, and nothing into the wheel.
#[test]
fn no_slot_is_opened_before_its_time() {
    let mut queue = wheel();
    (0..100).for_each(|n| _ = queue.insert(at(n * SECONDS), n));
    for now in (0..100_000).map(|millis| millis * MILLIS) {
        while queue.pop_due(at(now)).is_some() {}
        assert!(queue.wheel.cursor <= now >> TICK_BITS, "at {now}");
        assert!(queue.wheel.cursor + 1 >= now >> TICK_BITS, "at {now}");
    }
}
