//! Round trips: a run that is asked for, and its value.

use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use everbeat::{Timer, thread as on_threads};
use tokio::sync::oneshot;

use crate::cases::Group;
use crate::churn::MINUTE;
use crate::measure::{Figures, cpu_nanos, nanos};
use crate::tasks::runtime;

pub(crate) fn groups(quick: bool) -> Vec<Group> {
    let trips = if quick { 10_000 } else { 100_000 };
    vec![
        Group::new("round-trip/threads")
            .case("everbeat-inline", move || everbeat_trips(trips, true))
            .case("everbeat-pooled", move || everbeat_trips(trips, false))
            .case("channels", move || channel_trips(trips)),
        Group::new("round-trip/tokio")
            .case("everbeat-tokio", move || tokio_trips(trips))
            .case("tokio-mpsc-oneshot", move || oneshot_trips(trips)),
    ]
}

/// Times each call.
fn time_trips(count: u64, mut trip: impl FnMut()) -> Figures {
    futures_util::FutureExt::now_or_never(time_async_trips(count, async || trip())).expect("no await in it")
}

async fn time_async_trips(count: u64, mut trip: impl AsyncFnMut()) -> Figures {
    for _ in 0..count / 10 {
        trip().await;
    }
    let mut micros = Vec::with_capacity(count as usize);
    let cpu = cpu_nanos();
    for _ in 0..count {
        let begun = Instant::now();
        trip().await;
        micros.push(nanos(begun.elapsed()) as f64 / 1e3);
    }
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

fn tokio_trips(count: u64) -> Figures {
    runtime(0).block_on(async {
        let timer = Timer::every(60 * MINUTE).histograms(false).start(|| 1).expect("a runtime");
        time_async_trips(count, async || assert_eq!(*timer.trigger().await.expect("a value"), 1)).await
    })
}

/// To another task and back.
fn oneshot_trips(count: u64) -> Figures {
    runtime(0).block_on(async {
        let (ask, mut asked) = tokio::sync::mpsc::channel::<oneshot::Sender<i32>>(1);
        tokio::spawn(async move {
            while let Some(answer) = asked.recv().await {
                answer.send(1).expect("somebody who waits");
            }
        });
        let trip = async || {
            let (answer, answered) = oneshot::channel();
            ask.send(answer).await.expect("a task that listens");
            assert_eq!(answered.await, Ok(1));
        };
        time_async_trips(count, trip).await
    })
}
