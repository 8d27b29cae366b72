//! What a feed holds for its consumer: values in order, and beside them how the stream ends.

use alloc::collections::VecDeque;

use crate::ScheduleError;

/// Which value gives way when a bounded buffer is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest one: the consumer sees the newest values.
    #[default]
    DropOldest,
    /// The arriving one: the consumer sees the oldest values.
    DropNewest,
}

/// What a consumer finds at the head of its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head<V, E> {
    /// The next value.
    Value(V),
    /// Nothing yet.
    Empty,
    /// The stream failed, once all values were taken. Told once, then [`Head::End`].
    Failed(E),
    /// The stream is over.
    End,
}

/// Values waiting for one consumer.
///
/// The end of the stream is kept beside the values: it evicts none, is never evicted, and
/// [`Buffer::len`] counts values only. What a push evicts is handed back, so that the caller can drop it
/// wherever dropping is safe.
#[derive(Debug)]
pub struct Buffer<V, E> {
    values: VecDeque<V>,
    capacity: usize,
    overflow: Overflow,
    dropped: u64,
    end: End<E>,
}

#[derive(Debug)]
enum End<E> {
    Open,
    Failed(E),
    Closed,
}

impl<V, E> Buffer<V, E> {
    /// A buffer without a bound.
    #[must_use]
    pub fn unbounded() -> Self {
        let values = VecDeque::new();
        Self { values, capacity: usize::MAX, overflow: Overflow::DropOldest, dropped: 0, end: End::Open }
    }

    /// A buffer of at most `capacity` values.
    ///
    /// # Errors
    /// The capacity is zero: such a buffer could never deliver anything.
    pub fn bounded(capacity: usize, overflow: Overflow) -> Result<Self, ScheduleError> {
        if capacity == 0 {
            return Err(ScheduleError::new("capacity", capacity, "at least 1"));
        }
        Ok(Self { capacity, overflow, ..Self::unbounded() })
    }

    /// Adds a value at the tail and returns the value that had to give way, if any. After the end,
    /// that is the value itself, and it does not count as dropped.
    pub fn push(&mut self, value: V) -> Option<V> {
        if self.is_closed() {
            return Some(value);
        }
        let evicted = match self.overflow {
            _ if self.values.len() < self.capacity => None,
            Overflow::DropOldest => self.values.pop_front(),
            Overflow::DropNewest => {
                self.dropped += 1;
                return Some(value);
            }
        };
        self.dropped += u64::from(evicted.is_some());
        self.values.push_back(value);
        evicted
    }

    /// Takes what is at the head.
    pub fn pop(&mut self) -> Head<V, E> {
        if let Some(value) = self.values.pop_front() {
            return Head::Value(value);
        }
        if let End::Open = self.end {
            return Head::Empty;
        }
        match core::mem::replace(&mut self.end, End::Closed) {
            End::Failed(failure) => Head::Failed(failure),
            End::Open | End::Closed => Head::End,
        }
    }

    /// Ends the stream after the values that are already here; the first end counts.
    pub fn close(&mut self, failure: Option<E>) {
        if let End::Open = self.end {
            self.end = failure.map_or(End::Closed, End::Failed);
        }
    }

    /// Takes up to `count` of the oldest values out, counted as dropped. The end of the stream stays.
    pub fn drop_oldest(&mut self, count: usize) -> impl Iterator<Item = V> + use<'_, V, E> {
        let count = count.min(self.values.len());
        self.dropped += count as u64;
        self.values.drain(..count)
    }

    /// How many values wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether no value waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether the stream has ended; values may still wait.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !matches!(self.end, End::Open)
    }

    /// How many values were lost: evicted, refused or dropped by the consumer.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    type Numbers = Buffer<u32, &'static str>;

    fn drain(buffer: &mut Numbers) -> Vec<u32> {
        core::iter::from_fn(|| match buffer.pop() {
            Head::Value(value) => Some(value),
            _ => None,
        })
        .collect()
    }

    fn filled(overflow: Overflow) -> Numbers {
        let mut buffer = Numbers::bounded(2, overflow).unwrap();
        (1..=4).for_each(|value| _ = buffer.push(value));
        buffer
    }

    #[test]
    fn d6_values_arrive_in_order_without_a_bound() {
        let mut buffer = Numbers::unbounded();
        (0..100).for_each(|value| assert_eq!(buffer.push(value), None));
        assert!(drain(&mut buffer).into_iter().eq(0..100));
        assert_eq!((buffer.pop(), buffer.is_empty()), (Head::Empty, true));
        buffer.push(1);
        assert!(!buffer.is_empty());
    }

    #[test]
    fn d6_overflow_drops_by_policy_and_counts() {
        let mut oldest = filled(Overflow::DropOldest);
        assert_eq!((oldest.dropped(), drain(&mut oldest)), (2, Vec::from([3, 4])));
        let mut newest = filled(Overflow::DropNewest);
        assert_eq!((newest.dropped(), drain(&mut newest)), (2, Vec::from([1, 2])));
        assert_eq!(newest.push(9), None);
    }

    #[test]
    fn d7_the_end_evicts_nothing_and_survives_everything() {
        let mut buffer = filled(Overflow::DropOldest);
        buffer.close(Some("failed"));
        assert_eq!((buffer.len(), buffer.is_closed()), (2, true));
        assert_eq!(buffer.drop_oldest(1).collect::<Vec<_>>(), [3]);
        assert_eq!(buffer.drop_oldest(usize::MAX).collect::<Vec<_>>(), [4]);
        assert_eq!(buffer.dropped(), 4);
        assert_eq!(buffer.pop(), Head::Failed("failed"));
        assert_eq!(buffer.pop(), Head::End);
    }

    #[test]
    fn d8_the_first_end_counts_and_nothing_enters_after_it() {
        let mut buffer = Numbers::unbounded();
        buffer.close(None);
        buffer.close(Some("later"));
        assert_eq!(buffer.push(1), Some(1));
        assert_eq!((buffer.dropped(), buffer.pop()), (0, Head::End));
    }

    #[test]
    fn e2_a_capacity_of_zero_is_refused() {
        assert_eq!(Numbers::bounded(0, Overflow::DropOldest).unwrap_err().field(), "capacity");
    }
}
