//! Values that reach several consumers, each a task. The producer makes one after the other and gives way in
//! between, as a timer of period 0 does, so that what is measured is delivery and no wake-up from sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use everbeat::Timer;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::yield_now;

use crate::cases::Group;
use crate::measure::{Figures, cpu_nanos};
use crate::tasks::runtime;

static ITEMS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn groups(quick: bool) -> Vec<Group> {
    let length = Duration::from_millis(if quick { 300 } else { 2000 });
    [1, 10, 100, 1000].map(|consumers| compare(consumers, length)).into()
}

fn compare(consumers: usize, length: Duration) -> Group {
    Group::new(format!("delivery/{consumers}"))
        .case("everbeat-feeds", move || measure(length, || feeds(consumers)))
        .case("tokio-mpsc", move || measure(length, || channels(consumers)))
        .case("tokio-broadcast", move || measure(length, || broadcasts(consumers)))
        .case("tokio-watch", move || measure(length, || watches(consumers)))
}

/// Starts what delivers, and lets it run on a runtime with one thread.
fn measure<K>(length: Duration, start: impl FnOnce() -> K) -> Figures {
    runtime(0).block_on(async {
        let kept = start();
        run_for(length / 10).await;
        let (items, cpu) = (items(), cpu_nanos());
        run_for(length).await;
        let (items, cpu) = (self::items() - items, cpu_nanos() - cpu);
        drop(kept);
        vec![("ns CPU/item", cpu / items as f64), ("items", items as f64)]
    })
}

/// Looks at the clock now and then, since with tasks that are always ready an alarm may ring late.
async fn run_for(length: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < length {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn items() -> u64 {
    ITEMS.load(Ordering::Relaxed)
}

fn consume(value: &u64) {
    std::hint::black_box(*value);
    ITEMS.fetch_add(1, Ordering::Relaxed);
}

fn feeds(consumers: usize) -> Timer<u64> {
    let mut count = 0;
    let target = move || {
        count += 1;
        count
    };
    let timer = Timer::every(Duration::ZERO).histograms(false).start(target).expect("a runtime");
    for _ in 0..consumers {
        let mut feed = timer.subscribe().open().expect("a feed");
        tokio::spawn(async move {
            while let Some(value) = feed.next().await {
                consume(&value.expect("a timer that does not fail"));
            }
        });
    }
    timer
}

/// Values are shared, as those of feeds are.
fn produce(mut send: impl FnMut(Arc<u64>) + Send + 'static) {
    tokio::spawn(async move {
        for count in 0.. {
            send(Arc::new(count));
            yield_now().await;
        }
    });
}

fn channels(consumers: usize) {
    let mut senders = Vec::new();
    for _ in 0..consumers {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Arc<u64>>();
        senders.push(sender);
        tokio::spawn(async move {
            while let Some(value) = receiver.recv().await {
                consume(&value);
            }
        });
    }
    produce(move |value| senders.iter().for_each(|sender| sender.send(value.clone()).expect("a consumer")));
}

fn broadcasts(consumers: usize) {
    let (sender, _) = broadcast::channel::<Arc<u64>>(1024);
    for _ in 0..consumers {
        let mut receiver = sender.subscribe();
        tokio::spawn(async move {
            loop {
                match receiver.recv().await {
                    Ok(value) => consume(&value),
                    Err(broadcast::error::RecvError::Closed) => return,
                    Err(lag) => panic!("{lag}"),
                }
            }
        });
    }
    produce(move |value| _ = sender.send(value));
}

/// Consumers see only the last value, which may be fewer than there were.
fn watches(consumers: usize) {
    let (sender, _) = watch::channel(Arc::new(0));
    for _ in 0..consumers {
        let mut receiver = sender.subscribe();
        tokio::spawn(async move {
            while receiver.changed().await.is_ok() {
                let value = receiver.borrow_and_update().clone();
                consume(&value);
            }
        });
    }
    produce(move |value| _ = sender.send(value));
}
