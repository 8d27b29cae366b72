//! Peers that bring their own thread for time, a task each, on an executor with one thread.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_executor::Executor;
use async_io::Timer;
use futures_timer::Delay;
use futures_util::StreamExt;

use crate::beats::Beat;
use crate::by_hand::next_due;
use crate::contenders::Kept;
use crate::measure::{Counter, nanos, now};
use crate::tasks::instant;

pub(crate) fn async_io(beats: &'static [Beat]) -> Kept {
    execute(beats, tick_by_timer)
}

pub(crate) fn futures_timer(beats: &'static [Beat]) -> Kept {
    execute(beats, tick_by_delays)
}

fn execute<F: Future<Output = ()> + Send + 'static>(beats: &[Beat], task: fn(Beat) -> F) -> Kept {
    let executor = Arc::new(Executor::new());
    for &beat in beats {
        executor.spawn(task(beat)).detach();
    }
    thread::spawn(move || async_io::block_on(executor.run(std::future::pending::<()>())));
    Box::new(())
}

async fn tick_by_timer(beat: Beat) {
    let mut counter = Counter::default();
    let mut timer = Timer::interval_at(instant(beat.first), Duration::from_nanos(beat.period));
    while let Some(due) = timer.next().await {
        counter.tick(nanos(due.elapsed()));
    }
}

async fn tick_by_delays(beat: Beat) {
    let mut counter = Counter::default();
    let mut due = beat.first;
    let mut delay = Delay::new(until(due));
    loop {
        (&mut delay).await;
        let now = now();
        counter.tick(now.saturating_sub(due));
        due = next_due(due, beat.period, now);
        delay.reset(until(due));
    }
}

fn until(due: u64) -> Duration {
    instant(due).saturating_duration_since(std::time::Instant::now())
}
