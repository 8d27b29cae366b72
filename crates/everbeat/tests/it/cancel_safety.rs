//! D, L6: dropping a wait at any point loses nothing and wakes nobody falsely.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use everbeat::testing::TestEngine;
use everbeat::thread::OneShot;
use everbeat::{Error, Group, OnError, Shutdown, StopReason, Tick, Timer};

use crate::support::{LIMIT, SECOND, every, ms, settle};

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

/// How a wait of any kind is begun.
type Begin = fn(&Timer<u64>, &Group, &OneShot<u64>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// All that can be waited for, and whether it is a command that takes effect at once.
const WAITS: [(&str, bool, Begin); 16] = [
    ("join", false, |timer, _, _| forget(timer.join())),
    ("trigger", false, |timer, _, _| forget(timer.trigger())),
    ("wait_hits", false, |timer, _, _| forget(timer.wait_hits(2))),
    ("wait_more", false, |timer, _, _| forget(timer.wait_more(2))),
    ("wait", false, |timer, _, _| forget(timer.wait())),
    ("wait_at_most", false, |timer, _, _| {
        let timer = timer.clone();
        forget(async move { timer.wait_at_most(SECOND).await })
    }),
    ("join, at most", false, |timer, _, _| forget(timer.join().timeout(SECOND))),
    ("wait_hits, at most", false, |timer, _, _| forget(timer.wait_hits(2).timeout(SECOND))),
    ("cancel", true, |timer, _, _| forget(timer.cancel())),
    ("cancel, at most", true, |timer, _, _| forget(timer.cancel().timeout(SECOND))),
    ("shutdown", true, |timer, _, _| forget(timer.shutdown(SECOND))),
    ("the group's cancel", true, |_, group, _| forget(group.cancel())),
    ("the group's shutdown", true, |_, group, _| forget(group.shutdown(SECOND))),
    ("the group's wait", false, |_, group, _| forget(group.wait())),
    ("a call's wait", false, |_, _, call| forget(call.wait())),
    ("a call's fire_now", false, |_, _, call| forget(call.fire_now())),
];

fn forget<F: Future + Send + 'static>(future: F) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move { drop(future.await) })
}

/// Dropped unpolled, after one poll, or when its answer is there: it wakes nobody afterwards, and others who wait for
/// the same are told as ever. A command has been given all the same.
#[tokio::test(start_paused = true)]
async fn l6_any_wait_can_be_dropped_at_any_point() -> Result<(), Error> {
    for (name, commands, begin) in WAITS {
        for polls in 0..3 {
            let timer = every(10).initial_delay(ms(10)).start(|tick: Tick| tick.run)?;
            let group = Group::new();
            group.add(timer.clone())?;
            let clock = TestEngine::new();
            let call = clock.engine().after(ms(10), || 7_u64)?;
            let counter = Arc::new(Counter::default());
            let mut wait = begin(&timer, &group, &call);
            let twin = begin(&timer, &group, &call);
            if polls > 0 {
                let _ = counter.poll(&mut wait);
            }
            if polls > 1 {
                tokio::time::sleep(ms(25)).await;
                clock.advance(ms(10));
            }
            drop(wait);
            let woken = counter.woken();
            assert!(polls > 1 || woken == 0, "{name}: woken before anything happened");
            tokio::time::sleep(ms(45)).await;
            clock.advance(ms(10));
            assert_eq!(timer.is_running(), !commands, "{name}, dropped after {polls} polls");
            timer.cancel().await;
            twin.await;
            assert_eq!(counter.woken(), woken, "{name}: a dropped wait was woken, after {polls} polls");
            assert_eq!(*call.wait().block(LIMIT)?, 7);
        }
    }
    Ok(())
}

/// Awaits so many times, a turn of the runtime each, and says how far it came.
async fn in_steps(steps: usize, reached: Arc<AtomicUsize>) {
    for step in 0..steps {
        reached.store(step + 1, Ordering::SeqCst);
        tokio::time::sleep(ms(2)).await;
    }
}

/// A run is ended at each of its awaits, in each of the ways there are: nothing of it goes on afterwards, and whoever
/// waits is told.
#[tokio::test(start_paused = true)]
async fn l6_r4_a_run_is_given_up_at_any_of_its_awaits() -> Result<(), Error> {
    const STEPS: usize = 6;
    for at in 1..=STEPS {
        for way in ["cancel", "limit", "grace"] {
            let (reached, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
            let (progress, held) = (reached.clone(), dropped.clone());
            let span = ms(2 * at as u64 - 1); // between two steps
            let builder = every(1000).on_error(OnError::Continue);
            let builder = if way == "limit" { builder.run_timeout(span) } else { builder };
            let timer = builder.start(move || {
                let (progress, held) = (progress.clone(), held.clone());
                async move {
                    in_steps(STEPS, progress).await;
                    drop(held);
                }
            })?;
            let join = timer.join();
            match way {
                "cancel" => {
                    tokio::time::sleep(span).await;
                    assert_eq!(timer.cancel().await, StopReason::Cancelled);
                }
                "grace" => {
                    settle().await;
                    assert_eq!(timer.shutdown(span).await, Shutdown::Cancelled);
                }
                _ => {}
            }
            let answer = join.await;
            assert!(
                matches!(answer, Err(Error::Failed { .. } | Error::Stopped { .. })),
                "{way} {at}: {answer:?}"
            );
            assert_eq!(reached.load(Ordering::SeqCst), at, "{way}");
            assert_eq!(Arc::strong_count(&dropped), 2, "{way} {at}: the run is gone, its target is not");
            assert_eq!((timer.hits(), timer.is_running()), (0, way == "limit"));
            tokio::time::sleep(ms(50)).await;
            assert_eq!(reached.load(Ordering::SeqCst), at, "{way}: it went on");
        }
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
