//! The attribute `#[everbeat::every]`: what it gives a function, and that each of its options arrives.

use std::sync::Arc;
use std::time::Duration;

use everbeat::{Cause, Error, Failure, Group, OnError, StopReason, Tick, Timer, every};
use tokio::time::sleep;

use crate::support::{SECOND, Stopwatch, ms};

/// The value of the first run.
async fn first<V: Send + Sync + 'static>(timer: &Timer<V>) -> Result<Arc<V>, Error> {
    timer.wait_hits(1).await?;
    Ok(timer.latest().expect("it has a hit"))
}

async fn ended<V: Send + Sync + 'static>(timer: &Timer<V>) -> Result<(StopReason, u64), Error> {
    Ok((timer.wait().await?, timer.hits()))
}

/// Rows of a database.
#[every("5s", fixed_rate)]
async fn rows() -> std::io::Result<Vec<u8>> {
    sleep(ms(1)).await;
    Ok(vec![1, 2])
}

#[tokio::test(start_paused = true)]
async fn r2_the_function_stays_a_function() -> Result<(), Box<dyn std::error::Error>> {
    assert_eq!(rows().await?, [1, 2]);
    let timer: Timer<Vec<u8>> = rows::start()?;
    assert_eq!(*first(&timer).await?, [1, 2]);
    assert_eq!(timer.period(), 5 * SECOND);
    Ok(())
}

mod shapes {
    use super::*;

    #[every("1s")]
    pub(super) async fn with_tick(tick: Tick) -> u64 {
        sleep(ms(1)).await;
        tick.run
    }

    #[every("1s")]
    pub(super) fn sync() -> &'static str {
        "sync"
    }

    #[every("1s")]
    pub(super) fn sync_with_tick(Tick { run, cause, .. }: Tick) -> Result<(u64, Cause), String> {
        Ok((run, cause))
    }

    #[every("1s")]
    pub(super) fn nothing() {}

    /// An iterator by itself, but here it is the value.
    #[every("1s")]
    pub(super) fn range() -> everbeat::Plain<std::ops::Range<u8>> {
        everbeat::Plain(1..3)
    }

    #[every("1s")]
    pub(super) fn tick(tick: Tick) -> Tick {
        tick
    }

    #[every("1s")]
    pub(super) fn start() -> u8 {
        7
    }
}

#[tokio::test(start_paused = true)]
async fn r2_shapes_and_their_values() -> Result<(), Error> {
    assert_eq!(*first::<u64>(&shapes::with_tick::start()?).await?, 1);
    assert_eq!(*first::<&str>(&shapes::sync::start()?).await?, "sync");
    assert_eq!(*first::<(u64, Cause)>(&shapes::sync_with_tick::start()?).await?, (1, Cause::Schedule));
    assert_eq!(*first::<()>(&shapes::nothing::start()?).await?, ());
    assert_eq!(*first::<std::ops::Range<u8>>(&shapes::range::start()?).await?, 1..3);
    assert_eq!(first::<Tick>(&shapes::tick::start()?).await?.run, 1);
    assert_eq!(*first::<u8>(&shapes::start::start()?).await?, 7);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r2_in_the_body_of_a_function() -> Result<(), Error> {
    struct Load(u64);
    impl everbeat::Value for Load {}

    #[every("1s", max_runs = 2)]
    fn load(tick: Tick) -> Load {
        Load(tick.run)
    }

    let timer = load::start()?;
    timer.wait().await?;
    assert_eq!(timer.latest().unwrap().0, 2);
    Ok(())
}

mod jobs {
    use super::*;

    #[every("1s")]
    pub(crate) fn shared() {}

    #[every("1s", name = "db_refresh")]
    fn private() {}

    #[every("1s")]
    pub(super) fn r#loop() {}

    pub(super) fn private_name() -> Result<String, Error> {
        Ok(private::timer()?.name().to_string())
    }
}

#[test]
fn o1_the_name_is_the_path_or_the_one_given() -> Result<(), Error> {
    #[every("1s")]
    fn local() {}

    assert_eq!(rows::timer()?.name(), concat!(module_path!(), "::rows"));
    assert_eq!(jobs::shared::timer()?.name(), concat!(module_path!(), "::jobs::shared"));
    assert_eq!(jobs::r#loop::timer()?.name(), concat!(module_path!(), "::jobs::loop"));
    assert_eq!(local::timer()?.name(), concat!(module_path!(), "::local"));
    assert_eq!(jobs::private_name()?, "db_refresh");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l7_a_timer_is_started_later_and_again() -> Result<(), Error> {
    #[every("1s", max_runs = 2)]
    fn count(tick: Tick) -> u64 {
        tick.run
    }

    let timer = count::timer()?;
    assert!(!timer.is_running());
    timer.start()?;
    assert_eq!(ended(&timer).await?, (StopReason::MaxRuns, 2));
    timer.start()?;
    assert_eq!(ended(&timer).await?, (StopReason::MaxRuns, 4));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn g1_each_timer_is_one_of_its_own() -> Result<(), Error> {
    let caches = Group::new();
    caches.add(rows::timer()?)?;
    caches.add(rows::timer()?)?;
    caches.add(shapes::sync::timer()?)?;
    caches.start()?;
    assert_eq!(caches.wait_hits(1).await.all()?.len(), 3);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s11_the_builder_takes_what_only_code_can_give() -> Result<(), Error> {
    let timer = rows::builder().stop_when(sleep(12 * SECOND)).start(rows)?;
    assert_eq!(ended(&timer).await?, (StopReason::Condition, 3));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s1_s2_s3_the_modes() -> Result<(), Error> {
    #[every("100ms", fixed_rate, initial_delay = "50ms", max_runs = 3)]
    async fn rate() {
        sleep(ms(30)).await;
    }

    #[every("100ms", fixed_delay, initial_delay = "50ms", max_runs = 3)]
    async fn delay() {
        sleep(ms(30)).await;
    }

    let clock = Stopwatch::start();
    rate::start()?.wait().await?;
    assert_eq!(clock.millis(), 50 + 2 * 100 + 30);
    let clock = Stopwatch::start();
    delay::start()?.wait().await?;
    assert_eq!(clock.millis(), 50 + 2 * 130 + 30);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s4_missed_slots() -> Result<(), Error> {
    #[every("100ms", fixed_rate, missed = everbeat::Missed::Burst { max: 2 }, max_runs = 4)]
    async fn burst(tick: Tick) -> u64 {
        sleep(if tick.run == 1 { ms(350) } else { Duration::ZERO }).await;
        tick.slot
    }

    let timer = burst::start()?;
    timer.wait().await?;
    assert_eq!(*timer.latest().unwrap(), 4);
    assert_eq!(timer.stats().skipped.missed, 3);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s4_a_tick_that_would_be_too_late_is_skipped() -> Result<(), Error> {
    #[every("1s", fixed_rate, missed = everbeat::Missed::Burst { max: 9 }, max_lateness = "10ms", max_runs = 2)]
    async fn punctual(tick: Tick) -> u64 {
        sleep(if tick.run == 1 { ms(2_500) } else { Duration::ZERO }).await;
        tick.slot
    }

    let timer = punctual::start()?;
    timer.wait().await?;
    assert_eq!(*timer.latest().unwrap(), 3);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s5_jitter_and_its_seed() -> Result<(), Error> {
    #[every("1s", jitter = 0.5, jitter_seed = 42, max_runs = 5)]
    fn jittered(tick: Tick) -> everbeat::core::Instant {
        tick.scheduled
    }

    let mut ends = vec![];
    for _ in 0..2 {
        let timer = jittered::start()?;
        timer.wait().await?;
        ends.push(timer.latest().unwrap().elapsed_since_origin());
    }
    assert_eq!(ends[0], ends[1]);
    assert_ne!(ends[0], 4 * SECOND);
    assert!((2 * SECOND..=6 * SECOND).contains(&ends[0]), "{ends:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s6_as_often_as_possible() -> Result<(), Error> {
    #[every("0s", max_runs = 1_000)]
    fn busy() {}

    let clock = Stopwatch::start();
    assert_eq!(ended(&busy::start()?).await?, (StopReason::MaxRuns, 1_000));
    assert_eq!(clock.millis(), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s8_triggers_may_leave_the_grid_alone() -> Result<(), Error> {
    #[every("1s", fixed_rate, keep_phase)]
    fn steady() {}

    let timer = steady::start()?;
    first(&timer).await?;
    sleep(ms(300)).await;
    let clock = Stopwatch::start();
    timer.trigger().await?;
    timer.wait_more(1).await?;
    assert_eq!(clock.millis(), 700);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s11_it_runs_for_a_time() -> Result<(), Error> {
    #[every("1s", fixed_rate, run_for = "3s 500ms")]
    fn limited() {}

    assert_eq!(ended(&limited::start()?).await?, (StopReason::Until, 4));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r3_a_failure_meets_the_policy() -> Result<(), Error> {
    #[every("1s", max_runs = 3, on_error = OnError::Continue)]
    fn patient() -> Result<u8, &'static str> {
        Err("no luck")
    }

    #[every("1s", on_error = OnError::backoff(ms(10), SECOND), max_runs = 3)]
    fn retrying(tick: Tick) -> Result<u64, String> {
        if tick.run < 3 { Err("not yet".into()) } else { Ok(tick.run) }
    }

    #[every("1s")]
    fn strict() -> Result<u8, std::num::ParseIntError> {
        "x".parse()
    }

    let timer: Timer<u8> = patient::start()?;
    assert_eq!(ended(&timer).await?, (StopReason::MaxRuns, 0));
    assert_eq!(timer.stats().failures, 3);
    let clock = Stopwatch::start();
    assert_eq!(*first(&retrying::start()?).await?, 3);
    assert_eq!(clock.millis(), 10 + 20);
    let Err(Error::Failed { failure, .. }) = strict::start()?.wait().await else { panic!("it did not fail") };
    assert!(failure.downcast_ref::<std::num::ParseIntError>().is_some(), "{failure:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r4_a_run_is_given_up_in_time() -> Result<(), Error> {
    #[every("1s", run_timeout = "3s")]
    async fn endless() {
        std::future::pending::<()>().await;
    }

    let clock = Stopwatch::start();
    let Err(Error::Failed { failure, .. }) = endless::start()?.wait().await else { panic!("it ended") };
    assert!(matches!(failure, Failure::TimedOut(limit) if limit == 3 * SECOND), "{failure:?}");
    assert_eq!(clock.millis(), 3_000);
    Ok(())
}

#[tokio::test]
async fn r7_a_run_that_holds_its_thread_is_counted() -> Result<(), Error> {
    #[every("0s", blocked_after = "1ms", max_runs = 1)]
    fn slow() {
        std::thread::sleep(ms(5));
    }

    let timer = slow::start()?;
    timer.wait().await?;
    assert_eq!(timer.stats().blocked, 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn o3_histograms_can_be_left_out() -> Result<(), Error> {
    #[every("1s", histograms = false, max_runs = 2)]
    fn lean() {}

    let timer = lean::start()?;
    timer.wait().await?;
    assert!(timer.stats().lateness.histogram().is_none());
    Ok(())
}

#[test]
fn e2_what_an_expression_gets_wrong_is_an_error_at_run_time() {
    #[every("1s", on_error = OnError::backoff(2 * SECOND, SECOND))]
    fn impatient() {}

    for result in [impatient::timer(), impatient::start()] {
        assert!(matches!(result, Err(Error::Schedule(error)) if error.field() == "backoff.max"));
    }
}

#[test]
fn e1_a_start_needs_a_runtime() {
    assert!(matches!(rows::start(), Err(Error::NoRuntime { .. })));
}

mod renamed {
    pub(super) mod beat {
        pub(in super::super) use everbeat::{Builder, Error, Outcome, Tick, Timer};
    }
}

#[test]
fn the_crate_may_have_another_name() -> Result<(), Error> {
    #[every("1s", crate = renamed::beat)]
    fn elsewhere(tick: Tick) -> Tick {
        tick
    }

    assert_eq!(elsewhere::timer()?.period(), SECOND);
    Ok(())
}

macro_rules! beats {
    ($($name:ident: $period:literal, $jitter:expr;)*) => {
        $(
            #[every($period, jitter = $jitter)]
            fn $name() {}
        )*
    };
}

#[test]
fn other_macros_may_use_it() -> Result<(), Error> {
    beats! { slow: "2s", 0.5; slower: "3s", 1; }
    assert_eq!(slow::timer()?.period(), 2 * SECOND);
    assert_eq!(slower::timer()?.period(), 3 * SECOND);
    Ok(())
}

#[test]
fn conditions_and_marks_of_the_function_hold_for_the_timer() -> Result<(), Error> {
    #[every("1s")]
    #[cfg(not(test))]
    fn choice() -> NoSuchType {}

    #[every("2s")]
    #[cfg(test)]
    #[inline]
    fn choice() {}

    #[every("1s")]
    #[deprecated]
    fn outdated() {}

    assert_eq!(choice::timer()?.period(), 2 * SECOND);
    #[expect(deprecated)]
    let timer = outdated::timer()?;
    assert_eq!(timer.period(), SECOND);
    Ok(())
}
