//! Timers that come and go, the memory that they leave, and round trips to a timer.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use everbeat::thread::Engine;
use everbeat::{Timer, thread as on_threads};
use tokio::task::JoinHandle;

use crate::measure::{cpu_nanos, nanos, now, rss_bytes};
use crate::peers::callback;
use crate::report::{Figures, Group};
use crate::wheel::Wheel;

const SECOND: u64 = 1_000_000_000;
const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn groups(quick: bool) -> Vec<Group> {
    let scale = if quick { 10 } else { 1 };
    let (pairs, live) = (200_000 / scale, 100_000 / scale);
    let count = 1_000_000 / scale as usize;
    let trips = 100_000 / scale;
    vec![
        Group::new("start+cancel/1e5-live")
            .case("everbeat-inline", move || everbeat_pairs(pairs, live, start_inline))
            .case("everbeat-after", move || everbeat_pairs(pairs, live, start_after))
            .case("tokio-sleep", move || tokio_pairs(pairs, live, poll_sleep_once))
            .case("tokio-spawn-abort", move || tokio_pairs(pairs, live, spawn_and_abort))
            .case("bare-wheel", move || wheel_pairs(pairs, live)),
        Group::new("memory/1e6")
            .case("everbeat-inline", move || everbeat_memory(count))
            .case("tokio-spawn", move || tokio_memory(count)),
        Group::new("round-trip")
            .case("everbeat-inline", move || everbeat_trips(trips, true))
            .case("everbeat-pooled", move || everbeat_trips(trips, false))
            .case("channels", move || channel_trips(trips)),
    ]
}

/// Delays of 30 s to 90 s, in no order: what is started for a minute comes into their midst.
fn other_delays(count: u64) -> impl Iterator<Item = Duration> {
    (0..count).map(move |k| Duration::from_nanos(30 * SECOND + (k * 7919 % count) * 60 * SECOND / count))
}

/// Times this many calls.
fn time_pairs(count: u64, mut pair: impl FnMut()) -> Figures {
    (0..count / 10).for_each(|_| pair());
    let (cpu, begun) = (cpu_nanos(), Instant::now());
    (0..count).for_each(|_| pair());
    pair_figures(count, begun.elapsed(), cpu_nanos() - cpu)
}

fn pair_figures(count: u64, wall: Duration, cpu: f64) -> Figures {
    vec![("ns/pair", nanos(wall) as f64 / count as f64), ("ns CPU/pair", cpu / count as f64)]
}

fn everbeat_pairs(count: u64, live: u64, pair: fn(&Engine)) -> Figures {
    let engine = Engine::default();
    let start = |delay| started(&engine, delay);
    let _others: Vec<_> = other_delays(live).map(start).collect();
    time_pairs(count, || pair(&engine))
}

fn started(engine: &Engine, delay: Duration) -> Timer<()> {
    let builder = engine.every(MINUTE).initial_delay(delay).fixed_rate().histograms(false).inline();
    let mut callback = callback();
    builder.start(move || callback(0)).expect("a thread")
}

fn start_inline(engine: &Engine) {
    let timer = started(engine, MINUTE);
    drop(timer.cancel());
}

fn start_after(engine: &Engine) {
    let call = engine.after(MINUTE, || ()).expect("a thread");
    assert!(call.cancel(), "in time");
}

fn tokio_pairs<F: Future<Output = ()>>(count: u64, live: u64, pair: fn() -> F) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let mut others = Vec::new();
        for delay in other_delays(live) {
            others.push(spawned(tokio::time::sleep(delay)).await);
        }
        for _ in 0..count / 10 {
            pair().await;
        }
        let (cpu, begun) = (cpu_nanos(), Instant::now());
        for _ in 0..count {
            pair().await;
        }
        pair_figures(count, begun.elapsed(), cpu_nanos() - cpu)
    })
}

/// A task that has been polled.
async fn spawned(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let task = tokio::spawn(task);
    tokio::task::yield_now().await;
    task
}

async fn poll_sleep_once() {
    let mut sleep = pin!(tokio::time::sleep(MINUTE));
    std::future::poll_fn(|cx| {
        black_box(sleep.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

async fn spawn_and_abort() {
    let task = spawned(tokio::time::sleep(MINUTE)).await;
    task.abort();
    black_box(task.await.is_err());
}

fn wheel_pairs(count: u64, live: u64) -> Figures {
    let wheel = std::sync::Mutex::new(Wheel::new(now()));
    let insert = |delay: Duration| {
        let callback = callback();
        wheel.lock().unwrap().insert(now() + nanos(delay), nanos(MINUTE), callback)
    };
    other_delays(live).for_each(|delay| _ = insert(delay));
    time_pairs(count, || {
        let id = insert(MINUTE);
        let callback = wheel.lock().unwrap().remove(id);
        black_box(callback);
    })
}

fn megabytes(before: f64) -> f64 {
    (rss_bytes() - before) / 1e6
}

fn everbeat_memory(count: usize) -> Figures {
    let engine = Engine::default();
    let mut timers = Vec::with_capacity(count);
    let before = rss_bytes();
    let mut figures = vec![("MB before", before / 1e6)];
    for (started_name, dropped_name) in [("+ started", "+ dropped"), ("+ again", "+ dropped again")] {
        timers.extend(other_delays(count as u64).map(|delay| started(&engine, delay)));
        figures.push((started_name, megabytes(before)));
        if started_name == "+ started" {
            timers.iter().for_each(|timer| drop(timer.cancel()));
            figures.push(("+ cancelled", megabytes(before)));
        }
        timers.clear();
        thread::sleep(Duration::from_millis(500));
        figures.push((dropped_name, megabytes(before)));
    }
    figures
}

fn tokio_memory(count: usize) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let mut tasks = Vec::with_capacity(count);
        let before = rss_bytes();
        let mut figures = vec![("MB before", before / 1e6)];
        for (started_name, dropped_name) in [("+ started", "+ dropped"), ("+ again", "+ dropped again")] {
            for delay in other_delays(count as u64) {
                tasks.push(spawned(tick_after(delay)).await);
            }
            figures.push((started_name, megabytes(before)));
            tasks.iter().for_each(JoinHandle::abort);
            tokio::time::sleep(Duration::from_millis(500)).await;
            if started_name == "+ started" {
                figures.push(("+ cancelled", megabytes(before)));
            }
            tasks.clear();
            tokio::time::sleep(Duration::from_millis(500)).await;
            figures.push((dropped_name, megabytes(before)));
        }
        figures
    })
}

async fn tick_after(delay: Duration) {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + delay, MINUTE);
    let mut callback = callback();
    loop {
        interval.tick().await;
        callback(0);
    }
}

/// Times each call.
fn time_trips(count: u64, mut trip: impl FnMut()) -> Figures {
    (0..count / 10).for_each(|_| trip());
    let cpu = cpu_nanos();
    let mut micros: Vec<f64> = (0..count)
        .map(|_| {
            let begun = Instant::now();
            trip();
            nanos(begun.elapsed()) as f64 / 1e3
        })
        .collect();
    let cpu = (cpu_nanos() - cpu) / 1e3 / count as f64;
    micros.sort_by(f64::total_cmp);
    let at = |fraction: f64| micros[(count as f64 * fraction) as usize];
    vec![("p50 µs", at(0.5)), ("p99 µs", at(0.99)), ("µs CPU", cpu)]
}

fn everbeat_trips(count: u64, inline: bool) -> Figures {
    let builder = on_threads::every(60 * MINUTE).histograms(false);
    let timer = if inline { builder.inline() } else { builder }.start(|| 1).expect("a thread");
    time_trips(count, || {
        let value = timer.trigger().block(MINUTE).expect("a value");
        assert_eq!(*value, 1);
    })
}

/// To another thread and back.
fn channel_trips(count: u64) -> Figures {
    let (ask, asked) = mpsc::channel::<()>();
    let (answer, answered) = mpsc::channel();
    thread::spawn(move || asked.iter().try_for_each(|()| answer.send(1)));
    time_trips(count, || {
        ask.send(()).expect("a thread that listens");
        assert_eq!(answered.recv(), Ok(1));
    })
}
