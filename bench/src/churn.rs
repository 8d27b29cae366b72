//! Timers that come and go.

use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use everbeat::Timer;
use everbeat::thread::Engine;
use tokio::task::JoinHandle;
use tokio_util::time::DelayQueue;

use crate::beats::SECOND;
use crate::by_hand::callback;
use crate::cases::Group;
use crate::measure::{Figures, cpu_nanos, nanos, now};
use crate::tasks::runtime;
use crate::wheel::Wheel;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn groups(quick: bool) -> Vec<Group> {
    let pairs = if quick { 20_000 } else { 200_000 };
    vec![compare("start+cancel/alone", pairs, 0), compare("start+cancel/1e5-live", pairs, 100_000)]
}

fn compare(name: &str, pairs: u64, live: u64) -> Group {
    Group::new(name)
        .case("everbeat-inline", move || everbeat_pairs(pairs, live, start_inline))
        .case("everbeat-after", move || everbeat_pairs(pairs, live, start_after))
        .case("everbeat-tokio", move || tokio_pairs(pairs, live, start_on_tokio))
        .case("tokio-sleep", move || tokio_pairs(pairs, live, poll_sleep_once))
        .case("tokio-spawn-abort", move || tokio_pairs(pairs, live, spawn_and_abort))
        .case("tokio-delay-queue", move || delay_queue_pairs(pairs, live))
        .case("async-io", move || future_pairs(pairs, live, async_io::Timer::after))
        .case("futures-timer", move || future_pairs(pairs, live, futures_timer::Delay::new))
        .case("floor-wheel", move || wheel_pairs(pairs, live))
}

/// Delays of 30 s to 90 s, in no order: what is started for a minute comes into their midst.
pub(crate) fn other_delays(count: u64) -> impl Iterator<Item = Duration> {
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

pub(crate) fn started(engine: &Engine, delay: Duration) -> Timer<()> {
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
    runtime(0).block_on(async {
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
pub(crate) async fn spawned(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
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

async fn start_on_tokio() {
    let builder = Timer::every(MINUTE).initial_delay(MINUTE).fixed_rate().histograms(false);
    let mut callback = callback();
    let timer = builder.start(move || callback(0)).expect("a runtime");
    tokio::task::yield_now().await;
    black_box(timer.cancel().await);
}

async fn spawn_and_abort() {
    let task = spawned(tokio::time::sleep(MINUTE)).await;
    task.abort();
    black_box(task.await.is_err());
}

fn delay_queue_pairs(count: u64, live: u64) -> Figures {
    runtime(0).block_on(async {
        let mut queue = DelayQueue::new();
        other_delays(live).for_each(|delay| _ = queue.insert((), delay));
        time_pairs(count, || {
            let key = queue.insert((), MINUTE);
            queue.remove(&key);
        })
    })
}

/// Futures that are polled once, and dropped.
fn future_pairs<F: Future>(count: u64, live: u64, start: fn(Duration) -> F) -> Figures {
    let poll = |future: Pin<&mut F>| future.poll(&mut Context::from_waker(Waker::noop())).is_pending();
    let mut others: Vec<_> = other_delays(live).map(|delay| Box::pin(start(delay))).collect();
    others.iter_mut().for_each(|other| assert!(poll(other.as_mut())));
    time_pairs(count, || assert!(poll(pin!(start(MINUTE)))))
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
