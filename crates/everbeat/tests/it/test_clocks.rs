//! T: testing without sleeping.

use std::time::{Duration, Instant};

use everbeat::testing::{MockClock, TestClock};
use everbeat::{Error, Missed, OnError, StopReason, Tick, Ticks, Timer};

use crate::support::{Journal, SECOND, Stopwatch, every, ms};

#[tokio::test]
async fn t1_time_moves_only_by_hand_and_ticks_fire_in_deadline_order() -> Result<(), Error> {
    let clock = TestClock::new();
    let journal = Journal::new();
    let timers: Result<Vec<_>, Error> = [("a", 30), ("b", 20), ("c", 50)]
        .map(|(name, period)| {
            let log = journal.clone();
            let each = move |tick: Tick| log.add((name, tick.scheduled.elapsed_since_origin()));
            Timer::every(Duration::from_micros(period)).fixed_rate().clock(&clock).start(each)
        })
        .into_iter()
        .collect();
    let timers = timers?;
    clock.settle().await;
    assert_eq!(journal.entries().len(), 3, "the first ticks are due at once, and no others");
    clock.advance(Duration::from_micros(60)).await;
    let expected = [("b", 20), ("a", 30), ("b", 40), ("c", 50), ("a", 60), ("b", 60)];
    let expected: Vec<_> = expected.map(|(name, micros)| (name, Duration::from_micros(micros))).into();
    assert_eq!(journal.entries()[3..], expected);
    assert!(timers.iter().all(|timer| timer.stats().lateness.max() == Duration::ZERO));
    assert_eq!(clock.elapsed(), Duration::from_micros(60));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn t1_advance_to_next_goes_from_deadline_to_deadline() -> Result<(), Error> {
    let clock = TestClock::new();
    let slow = every(3_600_000).clock(&clock).start(|| ())?;
    let quick = every(7).max_runs(3).clock(&clock).start(|| ())?;
    assert_eq!(clock.advance_to_next().await, Some(ms(7)));
    assert_eq!((slow.hits(), quick.hits()), (1, 2));
    assert_eq!(clock.advance_to_next().await, Some(ms(7)));
    assert_eq!((slow.hits(), quick.hits(), quick.is_running()), (1, 3, false));
    assert_eq!(clock.next_due(), Some(ms(3_600_000)));
    assert_eq!(clock.advance_to_next().await, Some(ms(3_600_000 - 14)));
    slow.cancel().await;
    assert_eq!(clock.advance_to_next().await, None, "nothing waits any more");
    Ok(())
}

#[tokio::test]
async fn t1_what_a_tick_wakes_settles_before_the_next() -> Result<(), Error> {
    let clock = TestClock::new();
    let timer = every(10).fixed_rate().clock(&clock).build(|tick: Tick| tick.run)?;
    let mut feed = timer.subscribe().open()?;
    timer.start()?;
    let seen = Journal::new();
    let (log, handle) = (seen.clone(), timer.clone());
    tokio::spawn(async move {
        while let Some(Ok(run)) = feed.next().await {
            log.add((*run, handle.hits()));
        }
    });
    clock.advance(SECOND).await;
    assert_eq!(seen.entries(), (1..=101).map(|run| (run, run)).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn t1_sleeps_of_the_target_take_their_time() -> Result<(), Error> {
    let clock = TestClock::new();
    let timer = every(100).clock(&clock).start(|| tokio::time::sleep(ms(30)))?;
    clock.advance(ms(29)).await;
    assert_eq!((timer.hits(), timer.stats().busy), (0, true));
    clock.advance(ms(2)).await;
    assert_eq!((timer.hits(), timer.stats().busy), (1, false));
    clock.advance(ms(1_000)).await;
    assert_eq!(timer.hits(), 8);
    Ok(())
}

#[tokio::test]
async fn t1_commands_between_the_steps() -> Result<(), Error> {
    let clock = TestClock::new();
    let timer = every(100).fixed_rate().clock(&clock).start(|tick: Tick| tick.run)?;
    clock.settle().await;
    clock.advance(ms(40)).await;
    assert_eq!(*timer.trigger().await?, 2);
    clock.advance(ms(99)).await;
    assert_eq!(timer.hits(), 2);
    clock.advance(ms(1)).await;
    assert_eq!(timer.hits(), 3);
    timer.rearm(ms(5));
    clock.advance(ms(5)).await;
    assert_eq!(timer.hits(), 4);
    timer.cancel().await;
    assert_eq!(clock.next_due(), None);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn t2_paused_time_drives_the_timer() -> Result<(), Error> {
    let timer = every(3_600_000).fixed_rate().start(|| ())?;
    let clock = Stopwatch::start();
    timer.wait_hits(25).await?;
    assert_eq!(clock.millis(), 24 * 3_600_000);
    Ok(())
}

#[tokio::test]
async fn t3_a_mock_clock_ticks_at_once_and_records_the_waits() -> Result<(), Error> {
    let clock = MockClock::new();
    let timer = Timer::every(SECOND * 3600)
        .initial_delay(SECOND * 60)
        .on_error(OnError::backoff(SECOND, SECOND * 10))
        .max_runs(4)
        .clock(&clock)
        .start(|tick: Tick| if tick.run == 2 { Err("once") } else { Ok(()) })?;
    let mut feed = timer.subscribe().open()?;
    timer.wait_hits(3).await?;
    assert_eq!(timer.wait().await?, StopReason::MaxRuns);
    assert_eq!(clock.waits(), [60, 3600, 1, 3600].map(Duration::from_secs));
    assert_eq!(feed.len(), 3);
    assert!(feed.next().await.is_some());
    timer.start()?;
    timer.trigger().await?;
    timer.cancel().await;
    Ok(())
}

#[tokio::test]
async fn t3_a_mocked_timer_that_is_started_again_knows_how_late_it_is() -> Result<(), Error> {
    let start = Instant::now();
    let builder = every(1_000).clock(&MockClock::new()).until(start + ms(2_500));
    let timer = builder.start(|| ())?;
    assert_eq!((timer.wait().await?, timer.hits()), (StopReason::Until, 3));
    timer.start()?;
    assert_eq!((timer.wait().await?, timer.hits()), (StopReason::Until, 3), "that time is over");

    let timer = every(1_000).clock(&MockClock::new()).max_runs(3).start(|| ())?;
    timer.wait().await?;
    timer.start()?;
    timer.wait().await?;
    assert!(timer.last_tick_at().unwrap() >= start + SECOND * 4);
    Ok(())
}

#[tokio::test]
async fn t3_a_mocked_run_ends_only_by_itself() -> Result<(), Error> {
    let timer = every(10).run_timeout(ms(1)).clock(&MockClock::new()).start(|| tokio::time::sleep(ms(5)))?;
    timer.wait_hits(3).await?;
    assert_eq!(timer.stats().failures, 0);
    Ok(())
}

#[tokio::test]
async fn t1_a_timer_of_period_zero_does_not_hold_time_up() -> Result<(), Error> {
    let clock = TestClock::new();
    let restless = every(0).clock(&clock).start(|| ())?;
    let timer = every(1_000).fixed_rate().clock(&clock).start(|| ())?;
    clock.advance(SECOND * 3).await;
    assert_eq!((timer.hits(), clock.elapsed()), (4, SECOND * 3));
    assert!(restless.hits() > 100);
    Ok(())
}

#[tokio::test]
async fn t1_thousands_of_timers_settle() -> Result<(), Error> {
    let clock = TestClock::new();
    let start = |_| {
        every(1_000).clock(&clock).start(|| async {
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
        })
    };
    let timers = (0..5_000).map(start).collect::<Result<Vec<_>, Error>>()?;
    clock.settle().await;
    assert!(timers.iter().all(|timer| timer.hits() == 1));
    Ok(())
}

#[tokio::test]
async fn t1_a_paused_timer_has_no_appointment() -> Result<(), Error> {
    let clock = TestClock::new();
    let timer = every(1_000).clock(&clock).start(|| ())?;
    clock.settle().await;
    timer.pause();
    clock.settle().await;
    assert_eq!((clock.next_due(), clock.advance_to_next().await), (None, None));
    timer.resume();
    assert_eq!(clock.advance_to_next().await, Some(SECOND));
    Ok(())
}

// Paused from the start, tokio's clock stands at a whole millisecond, and its sleeps are exact.
#[tokio::test(start_paused = true)]
async fn t1_a_burst_takes_place_in_its_time() -> Result<(), Error> {
    let clock = TestClock::new();
    let starts = Journal::new();
    let (log, time) = (starts.clone(), clock.clone());
    let burst = every(100).fixed_rate().missed(Missed::Burst { max: 9 }).max_runs(6).clock(&clock);
    let timer = burst.start(move |tick: Tick| {
        log.add(time.elapsed().as_millis());
        tokio::time::sleep(ms(if tick.run == 1 { 350 } else { 0 }))
    })?;
    // From a task of its own: the runtime asks the test itself only once the tasks are through.
    let traveller = clock.clone();
    tokio::spawn(async move { traveller.advance(SECOND).await }).await.unwrap();
    assert_eq!(starts.entries(), [0, 350, 350, 350, 400, 500]);
    assert_eq!(timer.wait().await?, StopReason::MaxRuns);
    Ok(())
}

/// Consumes ticks in a task of its own.
fn consume(mut ticks: Ticks) -> Journal<Duration> {
    let seen = Journal::new();
    let log = seen.clone();
    tokio::spawn(async move {
        while let Some(tick) = ticks.next().await {
            log.add(tick.scheduled.elapsed_since_origin());
        }
    });
    seen
}

#[tokio::test]
async fn t1_ticks_of_period_zero_do_not_hold_time_up() -> Result<(), Error> {
    let clock = TestClock::new();
    let ticks = every(0).clock(&clock).ticks()?;
    let handle = ticks.timer().clone();
    let seen = consume(ticks);
    clock.advance(SECOND * 3).await;
    assert_eq!(clock.elapsed(), SECOND * 3);
    let before = seen.entries().len();
    assert!(before > 10);
    clock.advance(SECOND).await;
    assert!(seen.entries().len() > before, "they go on");
    assert_eq!(seen.entries().last(), Some(&(SECOND * 4)));
    handle.set_period(SECOND);
    clock.settle().await;
    let before = seen.entries().len();
    clock.advance(SECOND * 3).await;
    assert_eq!(seen.entries()[before..], [5, 6, 7].map(Duration::from_secs));
    Ok(())
}

#[tokio::test]
async fn t1_ticks_of_a_paused_schedule_have_no_appointment() -> Result<(), Error> {
    let clock = TestClock::new();
    let ticks = every(1_000).clock(&clock).ticks()?;
    let handle = ticks.timer().clone();
    let seen = consume(ticks);
    clock.settle().await;
    assert_eq!(clock.next_due(), Some(SECOND));
    handle.pause();
    clock.settle().await;
    assert_eq!((clock.next_due(), clock.advance_to_next().await), (None, None));
    handle.resume();
    assert_eq!(clock.advance_to_next().await, Some(SECOND));
    assert_eq!(seen.entries(), [Duration::ZERO, SECOND]);
    handle.cancel().await;
    clock.settle().await;
    assert_eq!(clock.next_due(), None);
    Ok(())
}

#[tokio::test]
async fn t1_restless_timers_of_other_clocks_do_not_hold_time_up() -> Result<(), Error> {
    let (clock, other, mock) = (TestClock::new(), TestClock::new(), MockClock::new());
    let timer = every(1_000).fixed_rate().clock(&clock).start(|| ())?;
    for restless in [every(0), every(0).clock(&other), every(1_000).clock(&mock)] {
        let (restless, before) = (restless.start(|| ())?, timer.hits());
        clock.advance(SECOND * 3).await;
        assert!(restless.hits() > 100);
        assert_eq!(timer.hits() - before.max(1), 3);
        restless.cancel().await;
    }
    let ticks = consume(every(0).ticks()?);
    clock.advance(SECOND * 3).await;
    assert!(ticks.entries().len() > 10);
    assert_eq!((timer.hits(), clock.elapsed()), (13, SECOND * 12));
    assert_eq!(timer.stats().lateness.max(), Duration::ZERO);
    Ok(())
}

#[tokio::test]
async fn t1_tasks_that_move_one_clock_take_turns() -> Result<(), Error> {
    let clock = TestClock::new();
    let timer = every(1_000).fixed_rate().clock(&clock).start(|| ())?;
    let (first, second) = (clock.clone(), clock.clone());
    let first = tokio::spawn(async move {
        first.advance(SECOND * 3).await;
        first.elapsed()
    });
    let second = tokio::spawn(async move {
        (second.advance_to_next().await, second.advance(SECOND * 10).await, second.elapsed())
    });
    assert_eq!(first.await.unwrap(), SECOND * 3);
    assert_eq!(second.await.unwrap(), (Some(SECOND), (), SECOND * 14));
    assert_eq!((timer.hits(), timer.stats().lateness.max()), (15, Duration::ZERO));
    let given_up = clock.advance(SECOND);
    assert!(tokio::time::timeout(Duration::ZERO, given_up).await.is_err());
    clock.advance(SECOND).await;
    assert_eq!(timer.hits(), 16, "whoever gives up leaves the turn to the next");
    Ok(())
}
