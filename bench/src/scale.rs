//! Many timers: CPU a tick, bytes a timer, lateness, ticks kept.

use std::thread;
use std::time::{Duration, Instant};

use crate::beats::{Load, MILLI, Order, SECOND};
use crate::cases::Group;
use crate::contenders::{Kept, for_count};
use crate::measure::{Figures, Window, nanos, origin, rss_bytes, sleep_until};

type Periods = &'static [(u64, u64)];

const MILLIS_10: Periods = &[(10 * MILLI, 100)];
const SECOND_1: Periods = &[(SECOND, 100)];
const SECONDS_60: Periods = &[(60 * SECOND, 100)];
/// 0.46 ticks a second for each timer.
const MIXTURE: Periods = &[(100 * MILLI, 2), (SECOND, 18), (10 * SECOND, 80)];

pub(crate) fn groups(quick: bool) -> Vec<Group> {
    use Order::{Random, Sorted};
    let length = Duration::from_millis(if quick { 1000 } else { 4000 });
    let groups: &[(&str, u64, Periods, Order, bool)] = &[
        ("1e0/10ms", 1, MILLIS_10, Sorted, false),
        ("1e1/10ms", 10, MILLIS_10, Sorted, false),
        ("1e2/10ms", 100, MILLIS_10, Random, true),
        ("1e3/10ms", 1000, MILLIS_10, Random, false),
        ("1e4/10ms", 10_000, MILLIS_10, Random, true),
        ("1e3/1s", 1000, SECOND_1, Random, false),
        ("1e4/1s", 10_000, SECOND_1, Random, false),
        ("1e5/1s/sorted", 100_000, SECOND_1, Sorted, false),
        ("1e5/1s", 100_000, SECOND_1, Random, true),
        ("1e6/1s/sorted", 1_000_000, SECOND_1, Sorted, false),
        ("1e6/1s", 1_000_000, SECOND_1, Random, false),
        ("1e5/mixture", 100_000, MIXTURE, Random, false),
        ("1e6/mixture", 1_000_000, MIXTURE, Random, false),
        ("1e6/60s", 1_000_000, SECONDS_60, Random, false),
    ];
    let wanted = groups.iter().filter(|(.., in_quick)| !quick || *in_quick);
    wanted
        .map(|&(name, count, periods, order, _)| group(name, Load { count, periods, order, length }))
        .collect()
}

fn group(name: &str, load: Load) -> Group {
    let cases = for_count(load.count);
    cases.fold(Group::new(format!("scale/{name}")), |group, contender| {
        group.case(contender.name, move || run(&load, contender.start))
    })
}

fn run(load: &Load, start: fn(&'static [crate::beats::Beat]) -> Kept) -> Figures {
    let _origin = origin();
    let beats = load.beats();
    let begin = beats.iter().map(|beat| beat.first).min().unwrap_or(0);
    let (before, begun) = (rss_bytes(), Instant::now());
    // They stay, so that the memory they take counts for nobody.
    let kept = start(beats.leak());
    let took = begun.elapsed();
    thread::sleep(Duration::from_millis(50));
    let started = rss_bytes();
    // All have ticked once by then; of those with a period of a minute the first tick is measured.
    let settled = load.longest_period().min(10 * SECOND);
    sleep_until(begin + settled + settled / 10);
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
    figures.push(("ns/start", nanos(took) as f64 / load.count as f64));
    // The process ends before.
    Box::leak(kept);
    figures
}
