//! What one would write by hand. None of these can be cancelled, changed or asked anything.

use std::collections::BinaryHeap;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use crate::beats::{Beat, MILLI};
use crate::contenders::Kept;
use crate::measure::{Counter, now, sleep_until};
use crate::wheel::{Callback, SLOT_BITS, Wheel};

pub(crate) fn callback() -> Callback {
    let mut counter = Counter::default();
    Box::new(move |late| counter.tick(late))
}

/// The next point of the grid in the future.
pub(crate) fn next_due(due: u64, period: u64, now: u64) -> u64 {
    if due + period > now { due + period } else { due + ((now - due) / period + 1) * period }
}

pub(crate) fn on_heap(beats: &[Beat], grain: u64) -> Kept {
    let heap = Heap::start(grain);
    for (sequence, &beat) in (0..).zip(beats) {
        heap.insert(sequence, beat);
    }
    Box::new(heap)
}

pub(crate) fn on_wheel(beats: &[Beat]) -> Kept {
    let wheel = start_wheel();
    let insert = |beat: &Beat| wheel.lock().unwrap().insert(beat.first, beat.period, callback());
    let ids: Vec<u32> = beats.iter().map(insert).collect();
    Box::new((wheel, ids))
}

pub(crate) fn on_sorted_array(beats: &[Beat]) -> Kept {
    step_through(Lane::sort(beats));
    Box::new(())
}

pub(crate) fn on_threads(beats: &[Beat]) -> Kept {
    for &beat in beats {
        let stack = thread::Builder::new().stack_size(64 << 10);
        stack.spawn(move || tick_by_sleeping(beat)).expect("a thread");
    }
    Box::new(())
}

pub(crate) fn tick_by_sleeping(beat: Beat) {
    let mut counter = Counter::default();
    let mut due = beat.first;
    loop {
        sleep_until(due);
        let now = now();
        counter.tick(now.saturating_sub(due));
        due = next_due(due, beat.period, now);
    }
}

/// A heap of deadlines, a thread, and a condition to wake it.
struct Heap {
    entries: Mutex<BinaryHeap<Entry>>,
    changed: Condvar,
}

struct Entry {
    due: u64,
    sequence: u64,
    period: u64,
    callback: Callback,
}

impl Heap {
    /// Wakes up at most once in `grain` nanoseconds; zero: for each deadline, with a look at the clock
    /// before each call.
    fn start(grain: u64) -> Arc<Self> {
        let heap = Arc::new(Self { entries: Mutex::default(), changed: Condvar::new() });
        let own = heap.clone();
        thread::spawn(move || own.keep(grain));
        heap
    }

    fn insert(&self, sequence: u64, beat: Beat) {
        let entry = Entry { due: beat.first, sequence, period: beat.period, callback: callback() };
        let mut entries = self.entries.lock().unwrap();
        let earliest = entries.peek().is_none_or(|first| entry.due < first.due);
        entries.push(entry);
        drop(entries);
        if earliest {
            self.changed.notify_one();
        }
    }

    fn keep(&self, grain: u64) {
        let mut woke = 0;
        loop {
            let now = now();
            self.fire(now, grain > 0);
            let entries = self.entries.lock().unwrap();
            let due = entries.peek().map_or(now + 1000 * MILLI, |first| first.due);
            let rest = due.max(woke + grain).saturating_sub(crate::measure::now());
            if rest > 0 {
                let _woken = self.changed.wait_timeout(entries, Duration::from_nanos(rest)).unwrap();
                woke = crate::measure::now();
            }
        }
    }

    /// One tick, or all that are due.
    fn fire(&self, now: u64, all: bool) {
        while let Some(mut entry) = self.pop_due(now) {
            (entry.callback)(now - entry.due);
            entry.due = next_due(entry.due, entry.period, now);
            self.entries.lock().unwrap().push(entry);
            if !all {
                return;
            }
        }
    }

    fn pop_due(&self, now: u64) -> Option<Entry> {
        let mut entries = self.entries.lock().unwrap();
        entries.peek().is_some_and(|first| first.due <= now).then(|| entries.pop())?
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.sequence).cmp(&(self.due, self.sequence))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

/// A thread for the wheel, and a lock that is taken once for all that is due in a slot.
fn start_wheel() -> Arc<Mutex<Wheel>> {
    let wheel = Arc::new(Mutex::new(Wheel::new(now())));
    let own = wheel.clone();
    thread::spawn(move || {
        loop {
            sleep_until(((now() >> SLOT_BITS) + 1) << SLOT_BITS);
            own.lock().unwrap().advance(now());
        }
    });
    wheel
}

/// Timers of one period, in the order in which they tick.
struct Lane {
    period: u64,
    timers: Vec<(u64, Counter)>,
    cursor: usize,
    /// What the rounds so far add to the first deadlines.
    shift: u64,
}

impl Lane {
    /// The timers, sorted, by period.
    fn sort(beats: &[Beat]) -> Vec<Self> {
        let mut lanes: Vec<Self> = Vec::new();
        for beat in beats {
            let known = lanes.iter().position(|lane| lane.period == beat.period);
            let lane = known.unwrap_or_else(|| {
                lanes.push(Self { period: beat.period, timers: Vec::new(), cursor: 0, shift: 0 });
                lanes.len() - 1
            });
            lanes[lane].timers.push((beat.first, Counter::default()));
        }
        lanes.iter_mut().for_each(|lane| lane.timers.sort_by_key(|(first, _)| *first));
        lanes
    }

    fn advance(&mut self, now: u64) {
        loop {
            let (first, counter) = &mut self.timers[self.cursor];
            let due = *first + self.shift;
            if due > now {
                return;
            }
            counter.tick(now - due);
            self.cursor += 1;
            if self.cursor == self.timers.len() {
                self.cursor = 0;
                self.shift += self.period;
            }
        }
    }
}

/// Steps through what is sorted already, once a millisecond.
fn step_through(mut lanes: Vec<Lane>) {
    thread::spawn(move || {
        loop {
            let now = now();
            lanes.iter_mut().for_each(|lane| lane.advance(now));
            sleep_until(now + MILLI);
        }
    });
}
