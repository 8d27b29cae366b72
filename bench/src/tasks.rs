//! Peers on tokio.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use fastimer::MakeDelayExt;
use fastimer_tokio::MakeTokioDelay;
use futures_util::StreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_util::time::DelayQueue;

use crate::beats::Beat;
use crate::by_hand::next_due;
use crate::contenders::Kept;
use crate::measure::{Counter, nanos, now, origin};

/// Without workers all tasks run on the thread that waits for them.
pub(crate) fn runtime(workers: usize) -> Runtime {
    let mut builder = match workers {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.worker_threads(workers.max(1)).enable_time().build().expect("a runtime")
}

/// Runs a task on a thread that is there for nothing else.
pub(crate) fn on_runtime(workers: usize, task: impl Future<Output = ()> + Send + 'static) {
    thread::spawn(move || runtime(workers).block_on(task));
}

/// Starts something for each of the beats.
pub(crate) fn each<K: Send + 'static>(workers: usize, beats: &'static [Beat], start: fn(Beat) -> K) -> Kept {
    let (started, all_started) = mpsc::channel();
    on_runtime(workers, async move {
        let mut kept = Vec::with_capacity(beats.len());
        for (number, &beat) in beats.iter().enumerate() {
            kept.push(start(beat));
            // The tasks get their first polls on the way.
            if number % 64 == 0 {
                yield_now().await;
            }
        }
        yield_now().await;
        started.send(()).expect("somebody who waits");
        std::future::pending::<()>().await;
        drop(kept);
    });
    all_started.recv().expect("a thread that starts them");
    Box::new(())
}

pub(crate) fn instant(nanos: u64) -> Instant {
    origin() + Duration::from_nanos(nanos)
}

pub(crate) fn interval(beat: Beat) -> JoinHandle<()> {
    tokio::spawn(tick_by_interval(beat))
}

pub(crate) async fn tick_by_interval(beat: Beat) {
    let mut counter = Counter::default();
    let mut interval = interval_at(instant(beat.first).into(), Duration::from_nanos(beat.period));
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let due = interval.tick().await;
        counter.tick(nanos(due.elapsed()));
    }
}

pub(crate) fn fastimer(beat: Beat) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut counter = Counter::default();
        let period = Duration::from_nanos(beat.period);
        let mut interval = MakeTokioDelay::default().interval_at(instant(beat.first), period);
        interval.set_missed_tick_behavior(fastimer::MissedTickBehavior::Skip);
        loop {
            let due = interval.tick().await;
            counter.tick(nanos(due.elapsed()));
        }
    })
}

/// One task for all timers, which it puts back as they come out.
pub(crate) fn delay_queue(beats: &'static [Beat]) -> Kept {
    on_runtime(0, async move {
        let mut queue = DelayQueue::with_capacity(beats.len());
        for &beat in beats {
            queue.insert_at((Counter::default(), beat), instant(beat.first).into());
        }
        while let Some(expired) = queue.next().await {
            let (mut counter, Beat { first: due, period }) = expired.into_inner();
            let now = now();
            counter.tick(now.saturating_sub(due));
            let next = next_due(due, period, now);
            queue.insert_at((counter, Beat { first: next, period }), instant(next).into());
        }
    });
    Box::new(())
}
