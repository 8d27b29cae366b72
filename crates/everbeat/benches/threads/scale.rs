//! Many timers: CPU a tick, bytes a timer, lateness.

use std::any::Any;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use everbeat::Tick;
use everbeat::thread::{Engine, Precision};
use tokio::time::MissedTickBehavior;

use crate::measure::{Counter, Window, nanos, now, origin, rss_bytes, sleep_until};
use crate::peers::{Beat, Heap, Lane, callback, start_wheel, step_through};
use crate::report::{Figures, Group};

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;

/// What keeps the timers alive.
type Kept = Box<dyn Any>;

#[derive(Clone, Copy)]
struct Load {
    count: u64,
    /// Periods, each with its share of the timers in hundredths.
    periods: &'static [(u64, u64)],
    order: Order,
    length: Duration,
}

/// In which order the timers are made, compared with that of their first ticks.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Sorted,
    Random,
    /// As sorted, but each is made when its first tick is due, and has no initial delay.
    Paced,
}

const MILLIS_10: &[(u64, u64)] = &[(10 * MILLI, 100)];
const SECOND_1: &[(u64, u64)] = &[(SECOND, 100)];
const SECONDS_60: &[(u64, u64)] = &[(60 * SECOND, 100)];
/// 0.46 ticks a second for each timer.
const MIXTURE: &[(u64, u64)] = &[(100 * MILLI, 2), (SECOND, 18), (10 * SECOND, 80)];

pub(crate) fn groups(quick: bool) -> Vec<Group> {
    use Order::{Paced, Random, Sorted};
    let length = Duration::from_millis(if quick { 1500 } else { 4000 });
    let group = |name: &str, count: u64, periods, order| {
        let load = Load { count: if quick { count / 10 } else { count }, periods, order, length };
        compare(format!("scale/{name}"), load)
    };
    vec![
        group("1e4/10ms/random", 10_000, MILLIS_10, Random),
        group("1e4/1s/random", 10_000, SECOND_1, Random),
        group("1e5/1s/sorted", 100_000, SECOND_1, Sorted),
        group("1e5/1s/random", 100_000, SECOND_1, Random),
        group("1e5/1s/paced", 100_000, SECOND_1, Paced),
        group("1e5/mixture/random", 100_000, MIXTURE, Random),
        group("1e6/1s/sorted", 1_000_000, SECOND_1, Sorted),
        group("1e6/1s/random", 1_000_000, SECOND_1, Random),
        group("1e6/mixture/random", 1_000_000, MIXTURE, Random),
        group("1e6/60s/sorted", 1_000_000, SECONDS_60, Sorted),
        group("1e6/60s/random", 1_000_000, SECONDS_60, Random),
    ]
}

fn compare(name: String, load: Load) -> Group {
    let everbeat = |inline, precision| move || run(load, |beats| on_engine(load, beats, inline, precision));
    let group = Group::new(name)
        .case("everbeat-inline-coarse", everbeat(true, Precision::Coarse))
        .case("everbeat-inline-fine", everbeat(true, Precision::Fine))
        .case("everbeat-pooled-coarse", everbeat(false, Precision::Coarse))
        .case("tokio-interval", move || run(load, |beats| on_tokio(load, beats)));
    if load.order == Order::Paced {
        return group;
    }
    group
        .case("heap-exact", move || run(load, |beats| on_heap(beats, 0)))
        .case("heap-batched", move || run(load, |beats| on_heap(beats, MILLI)))
        .case("bare-wheel", move || run(load, on_wheel))
        .case("sorted-array", move || run(load, on_sorted_array))
}

fn run(load: Load, start: impl FnOnce(&'static [Beat]) -> Kept) -> Figures {
    let _origin = origin();
    let (beats, longest) = load.beats();
    let begin = beats.iter().map(|beat| beat.first).min().unwrap_or(0);
    let (before, begun) = (rss_bytes(), Instant::now());
    // They stay, so that the memory they take counts for nobody.
    let kept = start(beats.leak());
    thread::sleep(Duration::from_millis(50));
    let (started, took) = (rss_bytes(), begun.elapsed());
    sleep_until(begin + longest + longest / 10);
    let window = Window::measure(load.length);
    let bytes = |rss| (rss - before) / load.count as f64;
    let mut figures = vec![
        ("ns CPU/tick", window.cpu_per_tick()),
        ("% CPU", window.cpu_share()),
        ("% kept", 100.0 * window.ticks as f64 / load.ticks_in(window.wall)),
    ];
    figures.extend(window.lateness());
    figures.push(("B/timer", bytes(started)));
    figures.push(("B/timer later", bytes(rss_bytes())));
    if load.order != Order::Paced {
        figures.push(("ns/start", nanos(took).saturating_sub(50 * MILLI) as f64 / load.count as f64));
    }
    drop_never(kept);
    figures
}

/// The process ends before.
fn drop_never(kept: Kept) {
    Box::leak(kept);
}

impl Load {
    /// Paced timers apart, nothing ticks before the last one is made. Also the longest period.
    fn beats(&self) -> (Vec<Beat>, u64) {
        let lead = if self.order == Order::Paced { 100 * MILLI } else { 300 * MILLI + self.count * 3000 };
        let begin = now() + lead;
        let mut beats = Vec::with_capacity(self.count as usize);
        for &(period, share) in self.periods {
            let count = self.count * share / 100;
            beats.extend((0..count).map(|k| Beat { first: begin + period * k / count, period }));
        }
        match self.order {
            Order::Random => shuffle(&mut beats),
            _ => beats.sort_by_key(|beat| beat.first),
        }
        (beats, self.periods.iter().map(|&(period, _)| period).max().unwrap_or(0))
    }

    fn ticks_in(&self, wall: Duration) -> f64 {
        let rate = |&(period, share): &(u64, u64)| (self.count * share / 100) as f64 / period as f64;
        self.periods.iter().map(rate).sum::<f64>() * nanos(wall) as f64
    }

    /// When a timer is made, if that is not now.
    fn paces(&self, beat: Beat) -> Option<u64> {
        (self.order == Order::Paced && beat.first > now() + MILLI / 2).then_some(beat.first)
    }
}

/// The same order each time.
fn shuffle(beats: &mut [Beat]) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..beats.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        beats.swap(last, (random % (last as u64 + 1)) as usize);
    }
}

fn on_engine(load: Load, beats: &[Beat], inline: bool, precision: Precision) -> Kept {
    let engine = Engine::builder().name("bench").precision(precision).build();
    let mut timers = Vec::with_capacity(beats.len());
    for &beat in beats {
        let mut counter = Counter::default();
        let mut builder = engine.every(Duration::from_nanos(beat.period)).fixed_rate().histograms(false);
        if inline {
            builder = builder.inline();
        }
        if load.order == Order::Paced {
            load.paces(beat).into_iter().for_each(sleep_until);
        } else {
            builder = builder.initial_delay(Duration::from_nanos(beat.first.saturating_sub(now())));
        }
        let timer = builder.start(move |tick: Tick| counter.tick(nanos(tick.lateness)));
        timers.push(timer.expect("a thread"));
    }
    Box::new((engine, timers))
}

fn on_tokio(load: Load, beats: &'static [Beat]) -> Kept {
    let (started, all_started) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let mut tasks = Vec::with_capacity(beats.len());
            for (number, &beat) in beats.iter().enumerate() {
                if let Some(first) = load.paces(beat) {
                    tokio::time::sleep_until(tokio_instant(first)).await;
                }
                tasks.push(tokio::spawn(tick_by_interval(beat)));
                if number % 64 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            tokio::task::yield_now().await;
            started.send(()).expect("somebody who waits");
            std::future::pending::<()>().await;
            drop(tasks);
        });
    });
    all_started.recv().expect("a thread that starts them");
    Box::new(())
}

fn tokio_instant(nanos: u64) -> tokio::time::Instant {
    (origin() + Duration::from_nanos(nanos)).into()
}

pub(crate) async fn tick_by_interval(beat: Beat) {
    let mut counter = Counter::default();
    let mut interval = tokio::time::interval_at(tokio_instant(beat.first), Duration::from_nanos(beat.period));
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let due = interval.tick().await;
        counter.tick(nanos(due.elapsed()));
    }
}

fn on_heap(beats: &[Beat], grain: u64) -> Kept {
    let heap = Heap::start(grain);
    for (sequence, &beat) in (0..).zip(beats) {
        heap.insert(sequence, beat);
    }
    Box::new(heap)
}

fn on_wheel(beats: &[Beat]) -> Kept {
    let wheel = start_wheel();
    let insert = |beat: &Beat| wheel.lock().unwrap().insert(beat.first, beat.period, callback());
    let ids: Vec<u32> = beats.iter().map(insert).collect();
    Box::new((wheel, ids))
}

fn on_sorted_array(beats: &[Beat]) -> Kept {
    step_through(Lane::sort(beats));
    Box::new(())
}
