//! D, L6: dropping a wait at any point loses nothing and wakes nobody falsely.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use everbeat::{Error, Tick};

use crate::support::{every, ms, settle};

/// Counts how often it is woken.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Counter {
    fn poll<F: Future + Unpin>(self: &Arc<Self>, future: &mut F) -> Poll<F::Output> {
        let waker = Waker::from(self.clone());
        Pin::new(future).poll(&mut Context::from_waker(&waker))
    }

    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn l6_waits_wake_once_and_only_for_what_they_wait() -> Result<(), Error> {
    let timer = every(10).start(|tick: Tick| tick.run)?;
    let counters: Vec<_> = (0..4).map(|_| Arc::new(Counter::default())).collect();
    let (mut hits, mut join, mut trigger, mut end) =
        (timer.wait_hits(3), timer.join(), timer.trigger(), timer.wait());
    assert!(counters[0].poll(&mut hits).is_pending());
    assert!(counters[1].poll(&mut join).is_pending());
    assert!(counters[2].poll(&mut trigger).is_pending());
    assert!(counters[3].poll(&mut end).is_pending());
    settle().await;
    assert_eq!([0, 1, 2, 3].map(|i| counters[i].woken()), [0, 1, 1, 0]);
    timer.wait_hits(5).await?;
    assert_eq!([0, 1, 2, 3].map(|i| counters[i].woken()), [1, 1, 1, 0]);
    assert!(counters[0].poll(&mut hits).is_ready());
    assert!(matches!(counters[1].poll(&mut join), Poll::Ready(Ok(run)) if *run == 1));
    assert!(matches!(counters[2].poll(&mut trigger), Poll::Ready(Ok(run)) if *run == 1));
    timer.cancel().await;
    assert_eq!(counters[3].woken(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l6_dropped_waits_disturb_nobody() -> Result<(), Error> {
    // Every wait is dropped unpolled, after one poll, or when its answer is there; a twin is kept.
    for polls in 0..3 {
        let timer = every(10).initial_delay(ms(10)).start(|tick: Tick| tick.run)?;
        let counter = Arc::new(Counter::default());
        let (mut join, mut trigger, mut hits, mut end) =
            (timer.join(), timer.trigger(), timer.wait_hits(2), timer.wait());
        let twins = (timer.join(), timer.trigger(), timer.wait_hits(2), timer.wait());
        if polls > 0 {
            let _ = counter.poll(&mut join);
            let _ = counter.poll(&mut trigger);
            let _ = counter.poll(&mut hits);
            let _ = counter.poll(&mut end);
        }
        if polls > 1 {
            timer.wait_hits(2).await?;
            timer.cancel().await;
        }
        drop((join, trigger, hits, end));
        let woken = counter.woken();
        assert_eq!(woken, if polls > 1 { 4 } else { 0 });
        assert_eq!((*twins.0.await?, *twins.1.await?), (1, 1));
        twins.2.await?;
        timer.cancel().await;
        twins.3.await?;
        assert_eq!(counter.woken(), woken, "a dropped wait was woken");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d6_a_dropped_next_loses_no_value() -> Result<(), Error> {
    let timer = every(10).max_runs(50).build(|tick: Tick| tick.run)?;
    let mut feed = timer.subscribe().open()?;
    timer.start()?;
    let mut seen = Vec::new();
    loop {
        // Give up most of the waits, at different points.
        let limit = ms([1, 3, 10, 11, 17][seen.len() % 5]);
        match tokio::time::timeout(limit, feed.next()).await {
            Err(_) => {}
            Ok(Some(run)) => seen.push(*run.unwrap()),
            Ok(None) => break,
        }
    }
    assert_eq!(seen, (1..=50).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d10_a_dropped_next_loses_no_tick() -> Result<(), Error> {
    let mut ticks = every(10).fixed_rate().max_runs(20).ticks()?;
    let mut slots = Vec::new();
    loop {
        match tokio::time::timeout(ms(3), ticks.next()).await {
            Err(_) => {}
            Ok(Some(tick)) => slots.push(tick.slot),
            Ok(None) => break,
        }
    }
    assert_eq!(slots, (0..20).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l6_waits_move_between_tasks() -> Result<(), Error> {
    let timer = every(10).start(|tick: Tick| tick.run)?;
    let (first, second) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    let mut hits = timer.wait_hits(2);
    assert!(first.poll(&mut hits).is_pending());
    assert!(second.poll(&mut hits).is_pending());
    timer.wait_hits(3).await?;
    assert_eq!((first.woken(), second.woken()), (0, 1), "the last task to poll is the one to wake");
    Ok(())
}
