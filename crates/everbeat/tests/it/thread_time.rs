//! S, D10: the time of timers on threads: jumps, ends of time, ticks without a target.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use everbeat::testing::TestEngine;
use everbeat::thread::{self as threads, Engine, Precision};
use everbeat::{Cause, Error, Missed, OnError, StopReason, Tick};

use crate::support::{Journal, LIMIT, SECOND, ms};

const HOUR: Duration = Duration::from_secs(3_600);
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

#[test]
fn s4_a_jump_of_hours_is_one_late_tick_a_timer() -> Result<(), Error> {
    let clock = TestEngine::new();
    let fixed_rate = clock.engine().every(SECOND).fixed_rate().start(|tick: Tick| tick)?;
    let fixed_delay = clock.engine().every(SECOND).start(|tick: Tick| tick)?;
    let inline = clock.engine().every(SECOND).fixed_rate().inline().start(|tick: Tick| tick)?;
    clock.advance(ms(2_500));
    clock.pass(HOUR * 3);
    assert_eq!((fixed_rate.hits(), fixed_delay.hits(), inline.hits()), (3, 3, 3));
    clock.settle();
    for timer in [&fixed_rate, &fixed_delay, &inline] {
        assert_eq!((timer.hits(), timer.latest().unwrap().lateness), (4, HOUR * 3 - ms(500)));
    }
    clock.advance(ms(500));
    assert_eq!((fixed_rate.hits(), inline.hits(), fixed_delay.hits()), (5, 5, 4));
    let next = fixed_rate.latest().unwrap();
    assert_eq!((next.lateness, next.missed), (Duration::ZERO, 3 * 3_600 - 1));
    assert_eq!(fixed_rate.stats().skipped.missed, 3 * 3_600 - 1);
    Ok(())
}

#[test]
fn s4_a_jump_is_skipped_if_that_is_too_late() -> Result<(), Error> {
    let clock = TestEngine::new();
    let timer = clock.engine().every(SECOND).fixed_rate().max_lateness(ms(100)).start(|tick: Tick| tick)?;
    clock.advance(ms(2_500));
    clock.pass(HOUR);
    clock.settle();
    assert_eq!(timer.hits(), 3, "nothing runs an hour late");
    clock.advance(ms(500));
    assert_eq!((timer.hits(), timer.latest().unwrap().lateness), (4, Duration::ZERO));
    Ok(())
}

#[test]
fn s4_a_jump_is_caught_up_with_a_bounded_burst() -> Result<(), Error> {
    let clock = TestEngine::new();
    let burst = Missed::Burst { max: 5 };
    let timer = clock.engine().every(SECOND).fixed_rate().missed(burst).start(|tick: Tick| tick)?;
    clock.advance(ms(2_500));
    clock.pass(HOUR);
    clock.settle();
    let hits = timer.hits();
    assert!((3 + 5..=3 + 6).contains(&hits), "{hits}");
    clock.advance(ms(500));
    assert_eq!((timer.hits(), timer.latest().unwrap().lateness), (hits + 1, Duration::ZERO));
    Ok(())
}

#[test]
fn s9_one_shots_of_a_jump_fire_in_the_order_of_their_deadlines() -> Result<(), Error> {
    let clock = TestEngine::new();
    let order = Journal::new();
    for secs in [30, 10, 20, 10, 40] {
        let log = order.clone();
        clock.engine().after(Duration::from_secs(secs), move || log.add(secs))?.detach();
    }
    clock.pass(SECOND * 35);
    clock.settle();
    assert_eq!(order.entries(), [10, 10, 20, 30]);
    Ok(())
}

#[test]
fn s6_period_zero_on_threads_leaves_others_their_turn() -> Result<(), Error> {
    let clock = TestEngine::new();
    let restless = [clock.engine().every(Duration::ZERO), clock.engine().every(Duration::ZERO).fixed_rate()];
    let restless: Vec<_> =
        restless.into_iter().map(|builder| builder.start(|| ())).collect::<Result<_, _>>()?;
    let other = clock.engine().every(SECOND).fixed_rate().start(|| ())?;
    clock.advance(SECOND * 10);
    assert_eq!((other.hits(), clock.elapsed()), (11, SECOND * 10));
    for timer in &restless {
        assert!(timer.hits() >= 10, "{}", timer.hits());
        let cancel = timer.cancel();
        clock.settle();
        cancel.block(LIMIT)?;
    }
    for workers in [0, 1] {
        let engine = Engine::builder().precision(Precision::Fine).workers(workers).build();
        let restless = engine.every(Duration::ZERO).start(|| ())?;
        let other = engine.every(ms(1)).start(|| ())?;
        other.wait_hits(10).block(LIMIT)?;
        restless.wait_more(100).block(LIMIT)?;
        restless.cancel().block(LIMIT)?;
    }
    Ok(())
}

#[test]
fn s9_deadlines_in_centuries_are_kept_or_never_come() -> Result<(), Error> {
    let clock = TestEngine::new();
    let rare = clock.engine().every(CENTURY * 2).fixed_rate().start(|tick: Tick| tick.slot)?;
    let never = clock.engine().every(Duration::MAX).fixed_rate().start(|| ())?;
    let shot = clock.engine().after(Duration::MAX, || ())?;
    clock.advance(CENTURY * 2 - SECOND);
    assert_eq!(rare.hits(), 1);
    clock.advance(SECOND);
    assert_eq!((rare.hits(), rare.latest().as_deref()), (2, Some(&1)));
    clock.advance(Duration::MAX);
    clock.advance(Duration::MAX);
    assert_eq!((never.hits(), shot.is_pending()), (1, true));
    assert!(shot.cancel());
    assert_eq!(clock.advance_to_next(), None);
    let real = threads::every(CENTURY * 5).start(|| ())?;
    real.wait_hits(1).block(LIMIT)?;
    assert!(threads::after(Duration::MAX, || ())?.cancel());
    real.cancel().block(LIMIT)?;
    Ok(())
}

#[test]
fn s7_s10_commands_reach_a_timer_that_sleeps_on_an_engine() -> Result<(), Error> {
    for precision in [Precision::Coarse, Precision::Fine, Precision::Spin] {
        let timer = threads::every(LIMIT * 10).precision(precision).start(|tick: Tick| tick.cause)?;
        timer.wait_hits(1).block(LIMIT)?;
        assert_eq!(*timer.trigger().block(LIMIT)?, Cause::Trigger);
        timer.pause();
        assert_eq!(*timer.trigger().block(LIMIT)?, Cause::Trigger);
        let more = timer.wait_more(3);
        timer.resume();
        timer.rearm(ms(1));
        more.block(LIMIT)?;
        timer.cancel().block(LIMIT)?;
    }
    Ok(())
}

#[test]
fn r3_a_backoff_on_threads_retries_and_returns_to_the_grid() -> Result<(), Error> {
    let clock = TestEngine::new();
    let starts = Journal::new();
    let (log, time) = (starts.clone(), clock.clone());
    let policy = OnError::backoff(ms(100), ms(300));
    let timer = clock.engine().every(SECOND).fixed_rate().on_error(policy).start(move |tick: Tick| {
        log.add(time.elapsed().as_millis());
        if tick.run < 4 { Err("not yet") } else { Ok(()) }
    })?;
    clock.advance(ms(2_500));
    assert_eq!(starts.entries(), [0, 100, 300, 600, 1_000, 2_000]);
    assert_eq!(timer.stats().failures, 3);
    Ok(())
}

#[test]
fn d10_ticks_on_threads_follow_the_schedule() -> Result<(), Error> {
    let start = Instant::now();
    let mut ticks = threads::every(ms(3)).fixed_rate().max_runs(4).ticks()?;
    let mut slots = Vec::new();
    while let Some(tick) = ticks.next_blocking(LIMIT)? {
        slots.push(tick.slot);
        assert!(start.elapsed() >= ms(3 * tick.slot), "early");
    }
    assert!(slots.len() == 4 && slots.is_sorted(), "{slots:?}");
    assert_eq!(ticks.next_blocking(LIMIT)?, None);
    assert_eq!(ticks.timer().wait().block(LIMIT)?, StopReason::MaxRuns);
    Ok(())
}

#[test]
fn d10_ticks_on_threads_can_be_waited_for_with_a_limit() -> Result<(), Error> {
    let mut ticks = threads::every(LIMIT * 10).name("slow").ticks()?;
    assert!(ticks.next_blocking(LIMIT)?.is_some());
    let error = ticks.next_blocking(ms(5)).unwrap_err();
    assert!(matches!(&error, Error::Timeout { name, .. } if *name == "slow"), "{error}");
    drop(ticks.timer().trigger());
    assert_eq!(ticks.next_blocking(LIMIT)?.unwrap().cause, Cause::Trigger);
    assert!(matches!(ticks.next_blocking(Duration::ZERO), Err(Error::Timeout { .. })));
    Ok(())
}

#[test]
fn d10_commands_wake_a_thread_that_waits_for_its_next_tick() -> Result<(), Error> {
    let mut ticks = threads::every(LIMIT * 10).ticks()?;
    ticks.next_blocking(LIMIT)?;
    let handle = ticks.timer().clone();
    type Command = fn(&everbeat::Timer<Tick>);
    let commands: [(Command, Option<Cause>); 4] = [
        (|timer| drop(timer.trigger()), Some(Cause::Trigger)),
        (|timer| timer.rearm(ms(1)), Some(Cause::Schedule)),
        (
            |timer| {
                timer.pause();
                timer.rearm(LIMIT * 10);
                drop(timer.trigger());
                timer.resume();
            },
            Some(Cause::Trigger),
        ),
        (|timer| drop(timer.cancel()), None),
    ];
    for (command, expected) in commands {
        let timer = handle.clone();
        let controller = thread::spawn(move || {
            thread::sleep(ms(5));
            command(&timer);
        });
        let mut tick = ticks.next_blocking(LIMIT)?;
        if expected == Some(Cause::Trigger) {
            while tick.is_some_and(|tick| tick.cause == Cause::Schedule) {
                tick = ticks.next_blocking(LIMIT)?;
            }
        }
        controller.join().unwrap();
        assert_eq!(tick.map(|tick| tick.cause), expected);
    }
    assert_eq!(handle.wait().block(LIMIT)?, StopReason::Cancelled);
    Ok(())
}

#[test]
fn d10_ticks_of_a_hosted_engine_wait_for_its_host() -> Result<(), Error> {
    let clock = TestEngine::new();
    let mut ticks = clock.engine().every(HOUR).fixed_rate().max_runs(3).ticks()?;
    let over = Arc::new(AtomicBool::new(false));
    let done = over.clone();
    let consumer = thread::spawn(move || {
        let mut slots = Vec::new();
        while let Some(tick) = ticks.next_blocking(LIMIT)? {
            slots.push(tick.slot);
        }
        done.store(true, Ordering::SeqCst);
        Ok::<_, Error>(slots)
    });
    while !over.load(Ordering::SeqCst) && !consumer.is_finished() {
        clock.advance_to_next();
        thread::yield_now();
    }
    assert_eq!(consumer.join().unwrap()?, [0, 1, 2]);
    let mut alone = clock.engine().every(HOUR).ticks()?;
    assert!(alone.next_blocking(LIMIT)?.is_some());
    let next = alone.next_blocking(LIMIT);
    assert!(
        matches!(next, Err(Error::ThreadsafeDispatch { .. })),
        "it is this thread that moves the time: {next:?}"
    );
    Ok(())
}

#[tokio::test]
async fn d10_async_ticks_on_an_engine() -> Result<(), Error> {
    let engine = Engine::builder().precision(Precision::Fine).build();
    let mut ticks = engine.every(ms(2)).fixed_rate().max_runs(5).ticks()?;
    let mut count = 0;
    while ticks.next().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 5);
    let mut ended = engine.every(LIMIT * 10).ticks()?;
    assert!(ended.next().await.is_some());
    let handle = ended.timer().clone();
    let next = tokio::spawn(async move { ended.next().await.is_none() });
    tokio::time::sleep(ms(5)).await;
    drop(handle.cancel());
    assert!(next.await.unwrap());
    let mut late = engine.every(ms(5)).ticks()?;
    engine.close(LIMIT);
    while late.next().await.is_some() {}
    assert_eq!(late.timer().wait().await?, StopReason::Abandoned);
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn d10_whoever_waits_for_ticks_on_a_thread_needs_no_other() -> Result<(), Error> {
    let engine = Engine::builder().name("own").build();
    let mut ticks = engine.every(ms(1)).ticks()?;
    for _ in 0..5 {
        assert!(ticks.next_blocking(LIMIT)?.is_some());
    }
    assert_eq!(crate::engines::threads_named("everbeat own"), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d10_ticks_are_a_stream() -> Result<(), Error> {
    let ticks = everbeat::Timer::every(SECOND).fixed_rate().max_runs(3).ticks()?;
    let slots = tokio_stream::StreamExt::map(ticks, |tick| tick.slot);
    assert_eq!(tokio_stream::StreamExt::collect::<Vec<_>>(slots).await, [0, 1, 2]);
    Ok(())
}
