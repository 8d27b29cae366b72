//! R and E: failures, panics, limits, and what is refused.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use everbeat::{Error, Failure, Missed, OnError, Plain, StopReason, Tick, Timer, offload};
use tokio::time::sleep;

use crate::support::{Journal, SECOND, Stopwatch, every, ms, settle};

#[tokio::test(start_paused = true)]
async fn r1_runs_of_one_timer_never_overlap() -> Result<(), Error> {
    let active = Arc::new(AtomicUsize::new(0));
    let timer = every(1).fixed_rate().missed(Missed::Burst { max: 5 }).max_runs(200).start(move || {
        let active = active.clone();
        async move {
            assert_eq!(active.fetch_add(1, Ordering::SeqCst), 0);
            sleep(ms(3)).await;
            active.fetch_sub(1, Ordering::SeqCst);
        }
    })?;
    for _ in 0..50 {
        drop(timer.trigger());
        sleep(ms(2)).await;
    }
    assert_eq!(timer.wait().await?, StopReason::MaxRuns);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r3_policies() -> Result<(), Error> {
    let stop = every(10).start(|| Err::<(), _>("stop"))?;
    assert!(stop.wait().await.is_err());
    assert_eq!(stop.stats().runs, 1);
    let go_on = every(10).on_error(OnError::Continue).max_runs(5).start(|| Err::<(), _>("go on"))?;
    assert_eq!(go_on.wait().await?, StopReason::MaxRuns);
    assert_eq!((go_on.stats().failures, go_on.hits()), (5, 0));
    let starts = Journal::new();
    let (log, clock) = (starts.clone(), Stopwatch::start());
    let backoff =
        every(50).on_error(OnError::backoff(ms(100), ms(300))).max_runs(6).start(move |tick: Tick| {
            log.add(clock.millis());
            if tick.run < 5 { Err("not yet") } else { Ok(()) }
        })?;
    backoff.wait().await?;
    assert_eq!(starts.entries(), [0, 100, 300, 600, 900, 950]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r4_a_run_over_its_limit_is_given_up_and_counts_as_failure() -> Result<(), Error> {
    struct Guard(Arc<AtomicUsize>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = dropped.clone();
    let timer = every(1_000).run_timeout(ms(30)).on_error(OnError::Continue).start(move |tick: Tick| {
        let guard = Guard(count.clone());
        async move {
            sleep(ms(if tick.run == 1 { 3_600_000 } else { 10 })).await;
            drop(guard);
        }
    })?;
    let clock = Stopwatch::start();
    let error = timer.join().await.unwrap_err();
    assert!(matches!(error, Error::Failed { failure: Failure::TimedOut(limit), .. } if limit == ms(30)));
    assert_eq!((clock.millis(), dropped.load(Ordering::SeqCst)), (30, 1));
    timer.wait_hits(1).await?;
    assert_eq!((timer.stats().failures, timer.hits()), (1, 1));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r4_a_run_that_was_ready_in_time_keeps_its_value_on_a_busy_runtime() -> Result<(), Error> {
    let timer = every(1_000).run_timeout(ms(30)).start(|| async {
        sleep(ms(10)).await;
        7
    })?;
    let join = timer.join();
    settle().await;
    tokio::time::advance(ms(100)).await; // nobody was polled meanwhile
    assert_eq!(*join.await?, 7);
    Ok(())
}

#[tokio::test]
async fn r4_a_sync_run_over_its_limit_counts_as_failure_when_it_returns() -> Result<(), Error> {
    let timer = every(1_000).run_timeout(ms(5)).start(|| std::thread::sleep(ms(20)))?;
    let error = timer.wait().await.unwrap_err();
    assert!(matches!(error, Error::Failed { failure: Failure::TimedOut(_), .. }), "{error}");
    Ok(())
}

/// A value whose drop panics.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("the drop of a value");
    }
}

#[tokio::test(start_paused = true)]
async fn r5_panics_stay_where_they_are() -> Result<(), Error> {
    let neighbour = every(10).start(|| ())?;
    let sync = every(10).on_error(OnError::Continue).start(|tick: Tick| {
        assert!(tick.run % 2 == 0, "odd run {}", tick.run);
    })?;
    let poll = every(10).on_error(OnError::Continue).start(|tick: Tick| async move {
        sleep(ms(1)).await;
        assert!(tick.run % 2 == 0, "odd run");
    })?;
    let drops = every(10).start(|| Plain(Grenade))?;
    let callbacks = every(10)
        .on_error(OnError::Continue)
        .on_failure(|_| panic!("in the callback"))
        .on_end(|_| panic!("in the callback"))
        .start(|| Err::<(), _>("as planned"))?;
    let error = sync.join().await.unwrap_err();
    assert!(matches!(&error, Error::Failed { failure: Failure::Panic(text), .. } if &**text == "odd run 1"));
    for timer in [&neighbour, &sync, &poll] {
        timer.wait_hits(5).await?;
    }
    drops.wait_hits(5).await?;
    sleep(ms(100)).await;
    assert!(callbacks.stats().failures >= 10);
    assert_eq!(callbacks.cancel().await, StopReason::Cancelled);
    drops.cancel().await;
    drop(drops); // the last value goes off with its timer
    assert!(neighbour.is_running());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r6_callbacks_are_told_of_every_failure_and_of_the_end_once_a_start() -> Result<(), Error> {
    let journal = Journal::new();
    let (failures, ends) = (journal.clone(), journal.clone());
    let timer = every(10)
        .on_error(OnError::Continue)
        .max_runs(3)
        .on_failure(move |failure| failures.add(failure.to_string()))
        .on_end(move |reason| ends.add(format!("{reason:?}")))
        .start(|tick: Tick| if tick.run % 2 == 1 { Err(format!("run {}", tick.run)) } else { Ok(()) })?;
    timer.wait().await?;
    assert_eq!(journal.entries(), ["run 1", "run 3", "MaxRuns"]);
    timer.cancel().await;
    timer.cancel().await;
    assert_eq!(journal.entries().len(), 3);
    timer.start()?;
    timer.cancel().await;
    assert_eq!(journal.entries().last().unwrap(), "Cancelled");
    Ok(())
}

#[tokio::test]
async fn r7_a_run_that_blocks_its_thread_is_counted() -> Result<(), Error> {
    let timer = every(1).blocked_after(ms(5)).max_runs(2).start(|| std::thread::sleep(ms(20)))?;
    timer.wait().await?;
    assert_eq!(timer.stats().blocked, 2);
    let patient = every(1).blocked_after(Duration::MAX).max_runs(2).start(|| ())?;
    patient.wait().await?;
    assert_eq!(patient.stats().blocked, 0);
    Ok(())
}

#[tokio::test]
async fn r7_an_offloaded_run_leaves_the_runtime_free_and_is_waited_for() -> Result<(), Error> {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let finished = Arc::new(AtomicUsize::new(0));
    let (count, begun) = (finished.clone(), Arc::new(AtomicUsize::new(0)));
    let begins = begun.clone();
    let timer = every(1).start(offload(move || {
        begins.fetch_add(1, Ordering::SeqCst);
        gate.lock().unwrap().recv().unwrap();
        count.fetch_add(1, Ordering::SeqCst);
    }))?;
    while begun.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let cancel = timer.cancel();
    settle().await;
    assert_eq!(finished.load(Ordering::SeqCst), 0);
    go.send(()).unwrap();
    assert_eq!(cancel.await, StopReason::Cancelled);
    assert_eq!(finished.load(Ordering::SeqCst), 1, "nothing of the run was left when cancel returned");
    timer.start()?;
    go.send(()).unwrap();
    timer.wait_hits(1).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r7_a_panic_on_the_worker_is_a_failure() -> Result<(), Error> {
    let timer = every(10).on_error(OnError::Continue).start(offload(|tick: Tick| {
        assert!(tick.run > 2, "too early");
    }))?;
    timer.wait_hits(2).await?;
    assert_eq!(timer.stats().failures, 2);
    Ok(())
}

#[test]
fn e2_bad_configuration_is_refused_by_field_value_and_range() {
    let message = |builder: everbeat::Builder| builder.build(|| ()).unwrap_err().to_string();
    let second = || Timer::every(SECOND);
    let range = "a fraction of the period from 0 to 1";
    assert_eq!(message(second().jitter(1.5)), format!("jitter must be {range}, got 1.5"));
    assert_eq!(message(second().jitter(f64::NAN)), format!("jitter must be {range}, got NaN"));
    assert_eq!(message(second().jitter(-0.1)), format!("jitter must be {range}, got -0.1"));
    assert_eq!(message(second().max_runs(0)), "max_runs must be at least 1, got 0");
    assert_eq!(message(second().run_timeout(Duration::ZERO)), "run_timeout must be longer than zero, got 0s");
    let backoff = OnError::backoff(SECOND, ms(1));
    assert_eq!(message(second().on_error(backoff)), "backoff.max must be at least backoff.first, got 1ms");
    let first = second().max_runs(0).jitter(9.0);
    assert_eq!(message(first), "max_runs must be at least 1, got 0", "the first mistake is told");
}

#[test]
fn e2_jitter_is_any_float_from_zero_to_one() {
    let refused = |fraction: f64| Timer::every(SECOND).jitter(fraction).build(|| ()).is_err();
    let above_one = 1.0 + f64::EPSILON;
    for fraction in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, above_one, -1e-300] {
        assert!(refused(fraction), "{fraction} was taken");
    }
    for fraction in [0.0, -0.0, f64::MIN_POSITIVE, 1e-10, 0.3, 1.0 - f64::EPSILON, 1.0] {
        assert!(!refused(fraction), "{fraction} was refused");
    }
}

#[test]
fn e1_outside_of_a_runtime_there_is_a_named_error() {
    let timer = every(10).name("lost").build(|| ()).unwrap();
    let error = timer.start().unwrap_err();
    assert!(matches!(error, Error::NoRuntime { .. }));
    assert!(error.to_string().starts_with("timer `lost` needs a tokio runtime"));
    assert!(matches!(every(10).ticks(), Err(Error::NoRuntime { .. })));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let without_time = runtime.block_on(async { timer.start() });
    assert!(matches!(without_time, Err(Error::NoRuntime { .. })));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        timer.start().unwrap();
        timer.wait_hits(1).await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn o1_names_are_given_or_tell_the_place() -> Result<(), Error> {
    let named = every(10).name("db").build(|| ())?;
    let unnamed = Timer::every(SECOND).build(|| ())?;
    assert_eq!((named.name().as_given(), unnamed.name().as_given()), (Some("db"), None));
    assert!(unnamed.name().to_string().contains("failures.rs:"), "{}", unnamed.name());
    assert!(format!("{named:?}").contains("db"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn e1_an_error_tells_its_reason_once() -> Result<(), Error> {
    let timer = every(10).name("x").start(|| Err::<(), _>("boom"))?;
    let error = timer.wait().await.unwrap_err();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    assert_eq!(text, "a run of timer `x` failed: boom");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r5_a_feed_of_values_whose_drops_panic() -> Result<(), Error> {
    let timer = every(10).max_runs(4).build(|| Plain(Grenade))?;
    let (shed, dropped) = (timer.subscribe().open()?, timer.subscribe().open()?);
    timer.start()?;
    timer.wait().await?;
    drop((timer, dropped));
    shed.drop_oldest(3);
    assert_eq!(shed.len(), 1);
    drop(shed);
    Ok(())
}

/// An error that counts its drop, and panics in it.
#[derive(Debug)]
struct Bomb(Arc<AtomicUsize>);

impl std::fmt::Display for Bomb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ticking")
    }
}

impl std::error::Error for Bomb {}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("the drop of an error");
    }
}

#[tokio::test(start_paused = true)]
async fn r5_a_failure_whose_drop_panics_takes_nobody_along() -> Result<(), Error> {
    let dropped = Arc::new(AtomicUsize::new(0));
    let (with_feed, without) = (dropped.clone(), dropped.clone());
    let timer = every(10).start(move || Err::<(), _>(Bomb(without.clone())))?;
    assert!(timer.wait().await.is_err());
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    drop(timer);
    assert_eq!(dropped.load(Ordering::SeqCst), 1, "it goes off with its timer");
    let timer = every(10).build(move || Err::<(), _>(Bomb(with_feed.clone())))?;
    let feed = timer.subscribe().open()?;
    timer.start()?;
    assert!(timer.wait().await.is_err());
    drop(timer);
    assert_eq!((feed.len(), dropped.load(Ordering::SeqCst)), (0, 1), "the feed holds nothing but it");
    drop(feed);
    assert_eq!(dropped.load(Ordering::SeqCst), 2, "it goes off with its feed");
    Ok(())
}

/// An error that cannot be printed.
#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("no words")
    }
}

impl std::error::Error for Unspeakable {}

#[tokio::test(start_paused = true)]
async fn r5_an_error_that_cannot_be_printed() -> Result<(), Error> {
    let _guard = tracing::subscriber::set_default(tracing_subscriber::fmt().with_test_writer().finish());
    let told = Journal::new();
    let log = told.clone();
    let timer = every(10).on_error(OnError::Continue).max_runs(2).on_failure(move |_| log.add(()));
    let timer = timer.start(|| Err::<(), _>(Unspeakable))?;
    assert_eq!(timer.wait().await?, StopReason::MaxRuns);
    assert_eq!(told.entries().len(), 2);
    Ok(())
}

/// Panics, and is in the memory of whoever holds it until it is dropped.
struct Panics(Arc<AtomicUsize>);

impl Future for Panics {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        panic!("as planned")
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn r5_nothing_is_left_of_a_run_that_has_panicked() -> Result<(), Error> {
    let dropped = Arc::new(AtomicUsize::new(0));
    let (count, seen, log) = (dropped.clone(), dropped.clone(), Journal::new());
    let told = log.clone();
    let builder = every(10).on_error(OnError::Continue);
    let builder = builder.on_failure(move |_| told.add(seen.load(Ordering::SeqCst)));
    let timer = builder.start(move || Panics(count.clone()))?;
    sleep(ms(25)).await;
    assert_eq!((timer.stats().failures, dropped.load(Ordering::SeqCst)), (3, 3));
    assert_eq!(log.entries(), [1, 2, 3]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn o1_what_can_be_printed_says_whose_it_is() -> Result<(), Error> {
    let printed = |thing: &dyn std::fmt::Debug, words: &[&str]| {
        let text = format!("{thing:?}");
        assert!(words.iter().all(|word| text.contains(word)), "{text} without {words:?}");
    };
    let builder = every(10).name("clerk");
    printed(&builder, &["Builder", "clerk"]);
    let timer = builder.build(|tick: Tick| tick.run)?;
    printed(&timer.subscribe().bounded(3), &["FeedBuilder", "3"]);
    let feed = timer.subscribe().name("sink").open()?;
    printed(&feed, &["Feed", "clerk", "sink"]);
    printed(&feed.closer(), &["FeedCloser", "sink"]);
    timer.start()?;
    printed(&everbeat::AnyTimer::from(&timer), &["AnyTimer", "clerk", "running: true"]);
    printed(&timer.downgrade(), &["WeakTimer", "clerk"]);
    let mut answer = timer.join();
    printed(&answer, &["Pending", "clerk", "over: false"]);
    (&mut answer).await?;
    printed(&answer, &["Pending", "over: true"]);
    printed(&every(10).name("pacer").ticks()?, &["Ticks", "pacer"]);
    let call = everbeat::OneShot::start(every(10).name("courier"), SECOND, || ())?;
    printed(&call, &["OneShot", "courier", "pending: true"]);
    let engine = everbeat::thread::Engine::builder().name("tower");
    printed(&engine, &["EngineBuilder", "tower", "Coarse"]);
    let engine = engine.build();
    printed(&engine, &["Engine", "tower", "Coarse"]);
    assert_eq!(engine.name(), "tower");
    printed(&everbeat::testing::TestEngine::new(), &["TestEngine", "elapsed"]);
    let task = everbeat::thread::PeriodicTask::new(SECOND, || ())?;
    printed(&task, &["PeriodicTask", "Timer"]);
    let group = everbeat::Group::named("staff");
    group.add(&timer)?;
    printed(&group.wait_hits(1), &["Together", "members: 1"]);
    let ends = [everbeat::Shutdown::Drained, everbeat::Shutdown::Cancelled, everbeat::Shutdown::Failed];
    assert_eq!(ends.map(|end| end.to_string()), ["drained", "cancelled", "failed"]);
    Ok(())
}

/// An error with another below it.
#[derive(Debug)]
struct Upper(std::io::Error);

impl std::fmt::Display for Upper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("above")
    }
}

impl std::error::Error for Upper {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn e1_an_error_says_what_is_below_it_and_says_nothing_twice() -> Result<(), Error> {
    use std::error::Error as _;
    let timer = every(10).start(|| Err::<(), _>(Upper(std::io::Error::other("below"))))?;
    let failed = timer.wait_hits(1).await.unwrap_err();
    assert!(failed.to_string().contains("above") && !failed.to_string().contains("below"), "{failed}");
    assert_eq!(failed.source().map(ToString::to_string).as_deref(), Some("below"));
    let Error::Failed { failure, .. } = &failed else { panic!("{failed}") };
    assert_eq!(failure.source().map(ToString::to_string).as_deref(), Some("below"));
    Ok(())
}

#[test]
fn o1_a_name_is_compared_as_text_or_place() -> Result<(), Error> {
    let of = |name| Ok::<_, Error>(every(10).name(name).build(|| ())?.name().clone());
    let (clerk, same, other) = (of("clerk")?, of("clerk")?, of("other")?);
    assert!(clerk == same && clerk != other);
    assert!(clerk == "clerk" && clerk == *"clerk" && clerk != "other" && clerk != *"other");
    let place = every(10).build(|| ())?.name().clone();
    assert!(place == *place.to_string() && place != "clerk" && place != clerk);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s10_a_timer_is_paused_and_resumed_under_any_handle() -> Result<(), Error> {
    let timer = every(10).start(|| 1)?;
    let any = everbeat::AnyTimer::from(&timer);
    let mut feed = timer.subscribe().open()?;
    assert!(!timer.is_paused() && feed.is_empty());
    timer.wait_hits(1).await?;
    assert!(!feed.is_empty());
    any.pause();
    assert!(timer.is_paused());
    any.resume();
    assert!(!timer.is_paused());
    timer.wait_hits(3).await?;
    assert_eq!(feed.len(), 3);
    assert!(feed.try_next().is_some());
    Ok(())
}
