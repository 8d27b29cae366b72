//! S: when ticks happen. The conformance scenarios cover the rest; here is what only shows on a runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everbeat::{Cause, Error, Missed, StopReason, Tick, Timer};
use tokio::time::sleep;

use crate::support::{Journal, SECOND, Stopwatch, every, ms, much, settle};

#[tokio::test(start_paused = true)]
async fn s2_s3_fixed_delay_drifts_by_the_run_and_fixed_rate_does_not() -> Result<(), Error> {
    let clock = Stopwatch::start();
    for (rate, expected) in [(false, [0, 130, 260, 390]), (true, [0, 100, 200, 300])] {
        let (starts, begin) = (Journal::new(), clock.millis());
        let log = starts.clone();
        let builder = every(100).max_runs(4);
        let timer = if rate { builder.fixed_rate() } else { builder.fixed_delay() }.start(move || {
            log.add(clock.millis() - begin);
            sleep(ms(30))
        })?;
        timer.wait().await?;
        assert_eq!(starts.entries(), expected);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s3_no_drift_over_thousands_of_slots() -> Result<(), Error> {
    let slots = much(20_000);
    let timer = every(7).fixed_rate().max_runs(slots.into()).start(|tick: Tick| tick)?;
    timer.wait().await?;
    let last = timer.latest().unwrap();
    assert_eq!((last.slot, last.lateness), (u64::from(slots) - 1, Duration::ZERO));
    assert_eq!(last.scheduled.elapsed_since_origin(), ms(7) * (slots - 1));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s4_a_long_stall_is_one_late_tick_and_one_division() -> Result<(), Error> {
    let timer = Timer::every(Duration::from_micros(1)).fixed_rate().start(|tick: Tick| tick)?;
    timer.wait_hits(1).await?;
    tokio::time::advance(Duration::from_secs(1_000)).await;
    timer.wait_more(1).await?;
    assert!(timer.stats().skipped.missed >= 999_000_000, "{:?}", timer.stats().skipped);
    assert!(timer.hits() < 1_000);
    timer.cancel().await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s4_policies_after_an_overrun() -> Result<(), Error> {
    let starts_after_a_run_of_350 = async |missed: Missed| -> Result<Vec<u128>, Error> {
        let clock = Stopwatch::start();
        let log = Journal::new();
        let starts = log.clone();
        let timer = every(100).fixed_rate().missed(missed).max_runs(5).start(move |tick: Tick| {
            log.add(clock.millis());
            sleep(ms(if tick.run == 1 { 350 } else { 0 }))
        })?;
        timer.wait().await?;
        Ok(starts.entries())
    };
    assert_eq!(starts_after_a_run_of_350(Missed::Skip).await?, [0, 400, 500, 600, 700]);
    assert_eq!(starts_after_a_run_of_350(Missed::Delay).await?, [0, 450, 550, 650, 750]);
    assert_eq!(starts_after_a_run_of_350(Missed::Burst { max: 2 }).await?, [0, 350, 350, 400, 500]);
    Ok(())
}

#[tokio::test]
async fn s6_period_zero_leaves_others_their_turn() -> Result<(), Error> {
    let few_bytes = || every(0).histograms(false);
    for builder in [every(0), every(0).fixed_rate(), few_bytes(), few_bytes().fixed_rate()] {
        let busy = builder.start(|| ())?;
        let mut polled = 0;
        while busy.hits() < 1_000 {
            tokio::task::yield_now().await;
            polled += 1;
            assert!(polled < 100_000, "the timer does not get on");
        }
        assert!(polled > 10, "the timer did not yield");
        busy.cancel().await;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s7_a_new_period_at_any_age() -> Result<(), Error> {
    for age in [1, 50, 1_000] {
        let timer = every(10).fixed_rate().start(|tick: Tick| tick)?;
        timer.wait_hits(age).await?;
        timer.set_period(ms(20));
        let clock = Stopwatch::start();
        timer.wait_more(3).await?;
        assert_eq!(clock.millis(), 10 + 20 + 20, "at the age of {age}");
        assert_eq!((timer.period(), timer.stats().skipped.missed), (ms(20), 0));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s7_rearm_wakes_a_sleeping_driver() -> Result<(), Error> {
    let timer = every(3_600_000).start(|| ())?;
    timer.wait_hits(1).await?;
    let clock = Stopwatch::start();
    timer.rearm(ms(10));
    timer.wait_more(1).await?;
    assert_eq!(clock.millis(), 10);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s8_trigger_moves_the_grid_unless_it_keeps_the_phase() -> Result<(), Error> {
    for (keep, expected) in [(false, 140), (true, 100)] {
        let clock = Stopwatch::start();
        let builder = every(100).fixed_rate();
        let timer = if keep { builder.keep_phase() } else { builder }.start(|tick: Tick| tick)?;
        timer.wait_hits(1).await?;
        sleep(ms(40)).await;
        assert_eq!(timer.trigger().await?.cause, Cause::Trigger);
        timer.wait_more(1).await?;
        assert_eq!(clock.millis(), expected);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s10_pause_and_resume() -> Result<(), Error> {
    let timer = every(100).fixed_rate().start(|tick: Tick| tick)?;
    timer.wait_hits(1).await?;
    timer.pause();
    sleep(ms(1_050)).await;
    assert_eq!((timer.hits(), timer.is_paused(), timer.stats().next_due), (1, true, None));
    timer.resume();
    timer.wait_more(1).await?;
    assert_eq!((timer.hits(), timer.latest().unwrap().slot), (2, 11));
    assert_eq!(timer.stats().skipped.paused, 10);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s11_limits_end_the_timer_normally() -> Result<(), Error> {
    let by_count = every(10).max_runs(3).start(|| ())?;
    assert_eq!((by_count.wait().await?, by_count.hits()), (StopReason::MaxRuns, 3));
    let by_span = every(10).run_for(ms(35)).start(|| ())?;
    assert_eq!((by_span.wait().await?, by_span.hits()), (StopReason::Until, 4));
    let end = tokio::time::Instant::now() + ms(15);
    let by_clock = every(10).until(end).start(|| ())?;
    assert_eq!((by_clock.wait().await?, by_clock.hits()), (StopReason::Until, 2));
    let past = every(10).until(end).start(|| ())?;
    assert_eq!((past.wait().await?, past.hits()), (StopReason::Until, 0));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s11_stop_when_ends_it_after_the_current_run() -> Result<(), Error> {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let finished = Arc::new(AtomicU64::new(0));
    let count = finished.clone();
    let timer = every(10).stop_when(stopped).start(move || {
        let count = count.clone();
        async move {
            sleep(ms(50)).await;
            count.fetch_add(1, Ordering::Relaxed);
        }
    })?;
    sleep(ms(20)).await;
    stop.send(()).unwrap();
    assert_eq!(timer.wait().await?, StopReason::Condition);
    assert_eq!((finished.load(Ordering::Relaxed), timer.hits()), (1, 1));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s12_every_run_is_told_about_itself() -> Result<(), Error> {
    let ticks = Journal::new();
    let log = ticks.clone();
    let timer = every(100).fixed_rate().initial_delay(ms(5)).max_runs(3).start(move |tick: Tick| {
        log.add((tick.run, tick.slot, tick.scheduled.elapsed_since_origin(), tick.missed, tick.cause));
        sleep(ms(if tick.run == 1 { 210 } else { 0 }))
    })?;
    timer.wait().await?;
    let told = [(1, 0, ms(5), 0), (2, 3, ms(305), 2), (3, 4, ms(405), 0)];
    assert_eq!(ticks.entries(), told.map(|(run, slot, at, missed)| (run, slot, at, missed, Cause::Schedule)));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s9_periods_of_centuries_do_not_overflow() -> Result<(), Error> {
    let century = SECOND * 3600 * 24 * 36_525;
    let timer = Timer::every(century).fixed_rate().start(|tick: Tick| tick)?;
    timer.wait_hits(3).await?;
    assert_eq!(timer.latest().unwrap().scheduled.elapsed_since_origin(), 2 * century);
    let never = Timer::every(Duration::MAX).start(|| ())?;
    never.wait_hits(1).await?;
    settle().await;
    assert_eq!((never.hits(), never.stats().next_due), (1, None));
    assert!(never.trigger().await.is_ok());
    Ok(())
}

/// What a runtime can plan for in one piece (2³⁶ ms, two years) is no border.
#[tokio::test(start_paused = true)]
async fn s9_uptimes_of_years_and_centuries_are_exact() -> Result<(), Error> {
    let two_years = ms(1 << 36);
    for period in [two_years - ms(1), two_years, two_years + ms(1)] {
        let timer = Timer::every(period).fixed_rate().start(|tick: Tick| tick)?;
        timer.wait_hits(1).await?;
        let first = timer.latest().unwrap().scheduled; // the timers of a runtime share a clock
        timer.wait_hits(3).await?;
        let tick = timer.latest().unwrap();
        assert_eq!((tick.scheduled.saturating_since(first), tick.lateness), (2 * period, Duration::ZERO));
    }
    Ok(())
}

/// That is 2⁶³ ns.
#[tokio::test(start_paused = true)]
async fn s9_the_middle_of_the_clock_is_no_border() -> Result<(), Error> {
    let just_before = ms((1 << 63) / 1_000_000 - 2);
    let timer = Timer::every(ms(1)).fixed_rate().initial_delay(just_before).start(|tick: Tick| tick)?;
    timer.wait_hits(6).await?;
    let tick = timer.latest().unwrap();
    assert_eq!((tick.scheduled.elapsed_since_origin(), tick.lateness), (just_before + ms(5), Duration::ZERO));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s9_after_the_last_slot_before_the_end_of_time_comes_none() -> Result<(), Error> {
    let last_millis = u64::MAX / 1_000_000;
    let timer = every(3).fixed_rate().initial_delay(ms(last_millis - 9)).start(|tick: Tick| tick)?;
    timer.wait_hits(4).await?;
    settle().await;
    assert_eq!(timer.latest().unwrap().scheduled.elapsed_since_origin(), ms(last_millis));
    assert_eq!((timer.stats().next_due, timer.stats().skipped.missed), (None, 0));
    assert_eq!((timer.hits(), timer.is_running()), (4, true));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d10_ticks_are_a_schedule_for_a_loop_of_ones_own() -> Result<(), Error> {
    let mut ticks = every(100).fixed_rate().ticks()?;
    let clock = Stopwatch::start();
    let mut seen = Vec::new();
    while let Some(tick) = ticks.next().await {
        seen.push((clock.millis(), tick.slot, tick.missed));
        match tick.run {
            2 => sleep(ms(250)).await,
            3 => ticks.timer().set_period(ms(10)),
            5 => drop(ticks.timer().trigger()),
            6 => drop(ticks.timer().cancel()),
            _ => {}
        }
    }
    assert_eq!(seen, [(0, 0, 0), (100, 1, 0), (400, 4, 2), (410, 5, 0), (420, 6, 0), (420, 7, 0)]);
    assert_eq!(ticks.next().await, None, "it stays ended");
    assert_eq!(ticks.timer().wait().await?, StopReason::Cancelled);
    assert!(matches!(ticks.timer().start(), Err(Error::Restart { .. })));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d10_a_fixed_delay_counts_from_the_next_request() -> Result<(), Error> {
    let mut ticks = every(100).max_runs(3).ticks()?;
    let clock = Stopwatch::start();
    let mut seen = Vec::new();
    while ticks.next().await.is_some() {
        seen.push(clock.millis());
        sleep(ms(30)).await;
    }
    assert_eq!(seen, [0, 130, 260]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d10_dropped_ticks_release_whoever_waits_for_them() -> Result<(), Error> {
    let mut ticks = every(100).ticks()?;
    ticks.next().await;
    let timer = ticks.timer().clone();
    let waiting = tokio::spawn(timer.wait_hits(10));
    settle().await;
    drop(ticks);
    assert!(matches!(waiting.await.unwrap(), Err(Error::Stopped { reason: StopReason::Abandoned, .. })));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d10_a_stopped_schedule_answers_at_once() -> Result<(), Error> {
    let idle = every(10).ticks()?;
    assert_eq!(idle.timer().cancel().await, StopReason::Cancelled);
    let mut busy = every(10).ticks()?;
    busy.next().await;
    assert_eq!(busy.timer().shutdown(Duration::MAX).await, everbeat::Shutdown::Drained);
    assert_eq!(busy.next().await, None);
    Ok(())
}

#[test]
fn d10_a_tick_that_is_due_takes_no_time() -> Result<(), Error> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let _context = runtime.enter();
    let mut ticks = every(0).ticks()?;
    for run in 1..=3 {
        assert_eq!(ticks.next_blocking(Duration::ZERO)?.unwrap().run, run);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d10_a_trigger_from_elsewhere_reaches_a_waiting_consumer() -> Result<(), Error> {
    let mut ticks = every(3_600_000).fixed_rate().ticks()?;
    assert_eq!(ticks.next().await.unwrap().run, 1);
    let timer = ticks.timer().clone();
    let clock = Stopwatch::start();
    let elsewhere = tokio::spawn(async move {
        sleep(ms(10)).await;
        drop(timer.trigger());
        sleep(ms(10)).await;
        timer.rearm(ms(30));
    });
    let tick = ticks.next().await.unwrap();
    assert_eq!((tick.cause, clock.millis()), (Cause::Trigger, 10));
    assert_eq!((ticks.next().await.unwrap().run, clock.millis()), (3, 40));
    elsewhere.await.unwrap();
    Ok(())
}
