//! The memory that many timers take, and what of it they leave when they are gone.

use std::thread;
use std::time::Duration;

use everbeat::thread::Engine;
use tokio::task::JoinHandle;

use crate::by_hand::callback;
use crate::cases::Group;
use crate::churn::{MINUTE, other_delays, spawned, started};
use crate::measure::{Figures, rss_bytes};
use crate::tasks::runtime;

pub(crate) fn groups(quick: bool) -> Vec<Group> {
    let (name, count) = if quick { ("memory/1e5", 100_000) } else { ("memory/1e6", 1_000_000) };
    let group = Group::new(name);
    vec![
        group
            .case("everbeat-inline", move || everbeat_memory(count))
            .case("tokio-spawn", move || tokio_memory(count)),
    ]
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
    runtime(0).block_on(async {
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
