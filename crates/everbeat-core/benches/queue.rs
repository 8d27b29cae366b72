//! What a queue of deadlines costs, beside structures that could have been chosen.
//!
//! `cargo bench -p everbeat-core --bench queue [-- [--quick] [TEXT]]`; `TEXT` picks the loads whose names
//! contain it. Time is virtual. Costs are medians of several repetitions; compare them within one run only.

// A benchmark is the one place beside the core that reads a clock.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, clippy::cast_possible_truncation)]

use std::time::Instant as Clock;

use everbeat_core::{Instant, Key, Queue};

const MILLIS: u64 = 1_000_000;
const SECONDS: u64 = 1000 * MILLIS;

fn main() {
    // Only `cargo bench` says `--bench`; run as a test, it is enough that it works.
    let given = |flag| std::env::args().any(|arg| arg == flag);
    let quick = given("--quick") || !given("--bench");
    let sizes: &[usize] = if quick { &[10_000] } else { &[10_000, 100_000, 1_000_000] };
    let repetitions = if quick { 1 } else { 3 };
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with("--")).unwrap_or_default();
    println!("Recurring timers: ns per tick (and the longest wake-up in µs); median of {repetitions}");
    print_header();
    for &size in sizes {
        for load in loads(size).filter(|load| load.name().contains(&wanted)) {
            print_row(&load.name(), &candidates(|run| run.recurring(&load), repetitions));
        }
    }
    println!("\nTimeouts, 100,000 others live: ns per insert + remove (and the longest turn in µs)");
    print_header();
    for (name, polls) in [("next_due once a ms", false), ("next_due each time", true)] {
        if !name.contains(&wanted) {
            continue;
        }
        let pairs = if quick { 200_000 } else { 2_000_000 };
        print_row(name, &candidates(|run| run.timeouts(pairs, polls), repetitions));
    }
}

const NAMES: [&str; 5] = ["Queue", "4-ary heap", "wheel 2^6", "wheel 2^8", "wheel 2^12"];

/// Nanoseconds per operation, and the longest wake-up in microseconds.
type Figures = (f64, f64);

/// Runs a load on every candidate in turn, several times over, so that a disturbance meets them all.
fn candidates(load: impl Fn(&mut dyn Run) -> Figures, repetitions: usize) -> Vec<Figures> {
    let mut figures = vec![Vec::new(); NAMES.len()];
    for _ in 0..repetitions {
        figures[0].push(load(&mut Runner(Queue::new())));
        figures[1].push(load(&mut Runner(Heap::default())));
        figures[2].push(load(&mut Runner(Wheel::<6>::new())));
        figures[3].push(load(&mut Runner(Wheel::<8>::new())));
        figures[4].push(load(&mut Runner(Wheel::<12>::new())));
    }
    figures.into_iter().map(median).collect()
}

/// The median cost, and the longest wake-up of the quietest repetition: the others were interrupted.
fn median(figures: Vec<Figures>) -> Figures {
    let (mut costs, stalls): (Vec<_>, Vec<_>) = figures.into_iter().unzip();
    costs.sort_by(f64::total_cmp);
    (costs[costs.len() / 2], stalls.into_iter().fold(f64::INFINITY, f64::min))
}

fn print_header() {
    print!("{:44}", "");
    NAMES.iter().for_each(|name| print!("{name:>18}"));
    println!();
}

fn print_row(name: &str, figures: &[Figures]) {
    print!("{name:44}");
    figures.iter().for_each(|(cost, stall)| print!("{:>18}", format!("{cost:.0} ({stall:.0})")));
    println!();
}

/// How timers recur.
struct Load {
    size: usize,
    period: Period,
    shuffled: bool,
    /// The driver wakes exactly at the next deadline, not once a millisecond.
    exact: bool,
}

#[derive(Clone, Copy)]
enum Period {
    Fixed(u64),
    /// 1% 10 ms, half of the rest 1 s, the others 60 s.
    Mixed,
}

fn loads(size: usize) -> impl Iterator<Item = Load> {
    let fixed = [10 * MILLIS, SECONDS, 60 * SECONDS].map(Period::Fixed);
    let periods = fixed.into_iter().chain([Period::Mixed]);
    periods.flat_map(move |period| {
        let ways = [(false, false), (true, false), (false, true), (true, true)];
        ways.into_iter().map(move |(shuffled, exact)| Load { size, period, shuffled, exact })
    })
}

impl Load {
    fn name(&self) -> String {
        let period = match self.period {
            Period::Fixed(nanos) => format!("{} ms", nanos / MILLIS),
            Period::Mixed => "mixed".into(),
        };
        let phases = if self.shuffled { "shuffled" } else { "in order" };
        let steps = if self.exact { "exact" } else { "1 ms steps" };
        format!("{:>7} x {period:>8}, {phases}, {steps}", self.size)
    }

    fn period(&self, index: usize) -> u64 {
        match self.period {
            Period::Fixed(period) => period,
            Period::Mixed if index % 100 == 0 => 10 * MILLIS,
            Period::Mixed if index % 2 == 0 => SECONDS,
            Period::Mixed => 60 * SECONDS,
        }
    }

    fn phase(&self, index: usize) -> u64 {
        let period = self.period(index);
        if self.shuffled {
            return scramble(index as u64) % period;
        }
        (u128::from(period) * index as u128 / self.size as u128) as u64
    }
}

/// A fixed bijection with the looks of chance.
fn scramble(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

trait Run {
    fn recurring(&mut self, load: &Load) -> Figures;
    fn timeouts(&mut self, pairs: usize, polls: bool) -> Figures;
}

struct Runner<C>(C);

impl<C: Candidate> Run for Runner<C> {
    fn recurring(&mut self, load: &Load) -> Figures {
        (0..load.size).for_each(|index| _ = self.0.insert(load.phase(index), load.period(index)));
        let mut now = 0;
        self.tick(load, &mut now, load.size);
        self.tick(load, &mut now, load.size.max(200_000))
    }

    fn timeouts(&mut self, pairs: usize, polls: bool) -> Figures {
        let deadline = |n: usize| SECONDS + scramble(n as u64) % (59 * SECONDS);
        let mut keys: Vec<_> = (0..100_000).map(|n| self.0.insert(deadline(n), 0)).collect();
        let (start, mut turn, mut stall, mut now) = (Clock::now(), Clock::now(), 0, 0);
        for n in 0..pairs {
            // Cancelled after 100,000 others, that is after 0.9 s.
            now += 9000;
            let place = &mut keys[n % 100_000];
            self.0.remove(*place);
            *place = self.0.insert(now + deadline(n), 0);
            if polls {
                std::hint::black_box(self.0.next_due());
            }
            if n % 111 == 0 {
                std::hint::black_box((self.0.peek_due(now), self.0.next_due()));
                let end = Clock::now();
                (stall, turn) = (stall.max((end - turn).as_nanos()), end);
            }
        }
        (start.elapsed().as_nanos() as f64 / pairs as f64, stall as f64 / 1000.0)
    }
}

impl<C: Candidate> Runner<C> {
    fn tick(&mut self, load: &Load, now: &mut u64, ticks: usize) -> Figures {
        let (start, mut turn, mut stall, mut done) = (Clock::now(), Clock::now(), 0, 0);
        while done < ticks {
            *now = if load.exact { self.0.next_due().unwrap_or(*now) } else { *now + MILLIS };
            let before = done;
            while let Some((key, due, period)) = self.0.peek_due(*now) {
                self.0.set_due(key, due + period);
                done += 1;
            }
            // In exact steps the clock would cost more than what it measures.
            if !load.exact || (before >> 6 != done >> 6) {
                let end = Clock::now();
                (stall, turn) = (stall.max((end - turn).as_nanos()), end);
            }
        }
        (start.elapsed().as_nanos() as f64 / done as f64, stall as f64 / 1000.0)
    }
}

trait Candidate {
    type Key: Copy;
    fn insert(&mut self, due: u64, period: u64) -> Self::Key;
    fn set_due(&mut self, key: Self::Key, due: u64);
    fn remove(&mut self, key: Self::Key);
    /// The first entry, its deadline and its period.
    fn peek_due(&mut self, now: u64) -> Option<(Self::Key, u64, u64)>;
    fn next_due(&mut self) -> Option<u64>;
}

/// The value holds deadline and period, as a timer would.
impl Candidate for Queue<(u64, u64)> {
    type Key = Key;

    fn insert(&mut self, due: u64, period: u64) -> Key {
        self.insert(Instant::from_nanos(due), (due, period))
    }

    fn set_due(&mut self, key: Key, due: u64) {
        self.set_due(key, Instant::from_nanos(due));
    }

    fn remove(&mut self, key: Key) {
        self.remove(key);
    }

    fn peek_due(&mut self, now: u64) -> Option<(Key, u64, u64)> {
        let (key, value) = self.peek_due(Instant::from_nanos(now))?;
        let (due, period) = *value;
        value.0 += period;
        Some((key, due, period))
    }

    fn next_due(&mut self) -> Option<u64> {
        self.next_due().map(Instant::as_nanos)
    }
}

/// An indexed heap with four children to a node: exact, but every move is a walk through memory.
#[derive(Default)]
struct Heap {
    nodes: Vec<Node>,
    /// The place in the heap, and the period.
    slots: Vec<(u32, u64)>,
    vacant: Vec<u32>,
    sequence: u64,
}

#[derive(Clone, Copy)]
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

impl Candidate for Heap {
    type Key = u32;

    fn insert(&mut self, due: u64, period: u64) -> u32 {
        let index = self.vacant.pop().unwrap_or(self.slots.len() as u32);
        self.slots.resize(self.slots.len().max(index as usize + 1), (0, 0));
        self.slots[index as usize].1 = period;
        self.sequence += 1;
        self.nodes.push(Node { due, sequence: self.sequence, index });
        self.sift_up(self.nodes.len() - 1);
        index
    }

    fn set_due(&mut self, index: u32, due: u64) {
        let place = self.slots[index as usize].0 as usize;
        self.sequence += 1;
        self.nodes[place] = Node { due, sequence: self.sequence, index };
        self.sift_up(place);
        self.sift_down(place);
    }

    fn remove(&mut self, index: u32) {
        let place = self.slots[index as usize].0 as usize;
        self.nodes.swap_remove(place);
        if place < self.nodes.len() {
            self.sift_up(place);
            self.sift_down(place);
        }
        self.vacant.push(index);
    }

    fn peek_due(&mut self, now: u64) -> Option<(u32, u64, u64)> {
        let node = self.nodes.first().filter(|node| node.due <= now)?;
        Some((node.index, node.due, self.slots[node.index as usize].1))
    }

    fn next_due(&mut self) -> Option<u64> {
        self.nodes.first().map(|node| node.due)
    }
}

impl Heap {
    fn sift_up(&mut self, mut place: usize) {
        let node = self.nodes[place];
        while place > 0 && self.nodes[(place - 1) / 4].rank() > node.rank() {
            self.settle(place, self.nodes[(place - 1) / 4]);
            place = (place - 1) / 4;
        }
        self.settle(place, node);
    }

    fn sift_down(&mut self, mut place: usize) {
        let node = self.nodes[place];
        loop {
            let children = 4 * place + 1..(4 * place + 5).min(self.nodes.len());
            let first = children.min_by_key(|&child| self.nodes[child].rank());
            let Some(child) = first.filter(|&child| self.nodes[child].rank() < node.rank()) else { break };
            self.settle(place, self.nodes[child]);
            place = child;
        }
        self.settle(place, node);
    }

    fn settle(&mut self, place: usize, node: Node) {
        self.nodes[place] = node;
        self.slots[node.index as usize].0 = place as u32;
    }
}

const NIL: u32 = u32::MAX;
const TICK_BITS: u32 = 20;

/// A hierarchical wheel with 2^`BITS` slots a level: upper slots are moved down at once, and within a tick
/// of 2^20 ns there is no order. So it promises less than the queue.
struct Wheel<const BITS: u32> {
    entries: Vec<Entry>,
    vacant: Vec<u32>,
    /// The heads of the lists, level by level. Entry 0 of the lists is for what is due.
    heads: Vec<u32>,
    occupied: Vec<u64>,
    cursor: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    due: u64,
    period: u64,
    next: u32,
    prev: u32,
    home: u32,
}

impl<const BITS: u32> Wheel<BITS> {
    const SLOTS: usize = 1 << BITS;

    fn new() -> Self {
        let lists = (64 - TICK_BITS).div_ceil(BITS) as usize * Self::SLOTS;
        let occupied = vec![0; lists.div_ceil(64) + 1];
        Self { entries: Vec::new(), vacant: Vec::new(), heads: vec![NIL; lists + 1], occupied, cursor: 0 }
    }

    fn place(&mut self, index: u32) {
        let tick = self.entries[index as usize].due >> TICK_BITS;
        let differ = tick ^ self.cursor;
        let level = (63 - (differ | 1).leading_zeros()) / BITS;
        let slot = (tick >> (level * BITS)) as usize % Self::SLOTS;
        let late = tick <= self.cursor;
        self.link(index, if late { self.heads.len() - 1 } else { level as usize * Self::SLOTS + slot });
    }

    fn link(&mut self, index: u32, home: usize) {
        let head = std::mem::replace(&mut self.heads[home], index);
        if head == NIL {
            self.occupied[home / 64] |= 1 << (home % 64);
        } else {
            self.entries[head as usize].prev = index;
        }
        let entry = &mut self.entries[index as usize];
        (entry.home, entry.prev, entry.next) = (home as u32, NIL, head);
    }

    fn unlink(&mut self, index: u32) {
        let Entry { next, prev, home, .. } = self.entries[index as usize];
        if next != NIL {
            self.entries[next as usize].prev = prev;
        }
        if prev != NIL {
            self.entries[prev as usize].next = next;
            return;
        }
        self.heads[home as usize] = next;
        if next == NIL {
            self.occupied[home as usize / 64] &= !(1 << (home % 64));
        }
    }

    /// The first list, and the tick at which it begins.
    fn first(&self) -> Option<(usize, u64)> {
        let word = self.occupied.iter().position(|&word| word != 0)?;
        let home = word * 64 + self.occupied[word].trailing_zeros() as usize;
        let shift = (home / Self::SLOTS) as u32 * BITS;
        let start =
            ((self.cursor >> shift & !(Self::SLOTS as u64 - 1)) + (home % Self::SLOTS) as u64) << shift;
        Some((home, if home == self.heads.len() - 1 { 0 } else { start }))
    }

    fn cascade(&mut self, home: usize, start: u64) {
        self.cursor = start;
        let mut index = std::mem::replace(&mut self.heads[home], NIL);
        self.occupied[home / 64] &= !(1 << (home % 64));
        while index != NIL {
            let next = self.entries[index as usize].next;
            self.place(index);
            index = next;
        }
    }
}

impl<const BITS: u32> Candidate for Wheel<BITS> {
    type Key = u32;

    fn insert(&mut self, due: u64, period: u64) -> u32 {
        let entry = Entry { due, period, next: NIL, prev: NIL, home: 0 };
        let index = self.vacant.pop().unwrap_or(self.entries.len() as u32);
        self.entries.resize(self.entries.len().max(index as usize + 1), entry);
        self.entries[index as usize] = entry;
        self.place(index);
        index
    }

    fn set_due(&mut self, index: u32, due: u64) {
        self.unlink(index);
        self.entries[index as usize].due = due;
        self.place(index);
    }

    fn remove(&mut self, index: u32) {
        self.unlink(index);
        self.vacant.push(index);
    }

    fn peek_due(&mut self, now: u64) -> Option<(u32, u64, u64)> {
        let late = self.heads.len() - 1;
        loop {
            if self.heads[late] != NIL {
                let entry = self.entries[self.heads[late] as usize];
                return Some((self.heads[late], entry.due, entry.period));
            }
            let (home, start) = self.first().filter(|(_, start)| *start <= now >> TICK_BITS)?;
            self.cascade(home, start);
        }
    }

    /// Only to the tick.
    fn next_due(&mut self) -> Option<u64> {
        self.first().map(|(_, start)| start << TICK_BITS)
    }
}
