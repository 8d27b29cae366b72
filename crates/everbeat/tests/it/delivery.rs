//! D: who gets which value, and when.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use everbeat::{Error, Failure, OnError, Scope, StopReason, Tick, Timer, WeakTimer};
use tokio::time::sleep;

use crate::support::{Gate, Journal, LIMIT, SECOND, Stopwatch, every, ms, much, settle};

#[tokio::test(start_paused = true)]
async fn d1_the_count_is_raised_after_the_run_and_before_anybody_is_woken() -> Result<(), Error> {
    let seen = Journal::new();
    let log = seen.clone();
    let timer = every(10).build(move |tick: Tick| {
        log.add((tick.run, everbeat::current().unwrap().stats().hits));
        tick.run
    })?;
    timer.start()?;
    for count in 1..=5 {
        timer.wait_hits(count).await?;
        assert_eq!((timer.hits(), timer.latest().as_deref()), (count, Some(&count)));
    }
    assert_eq!(seen.entries(), (1..=5).map(|run| (run, run - 1)).collect::<Vec<_>>());
    assert!(timer.last_tick_at().is_some());
    Ok(())
}

/// Reads the count in the very moment in which it is woken.
struct ReadsHits(Timer<u64>, Journal<(u64, Option<u64>)>);

impl Wake for ReadsHits {
    fn wake(self: Arc<Self>) {
        self.1.add((self.0.hits(), self.0.latest().map(|run| *run)));
    }
}

#[tokio::test(start_paused = true)]
async fn d1_whoever_is_woken_finds_the_new_count_at_once() -> Result<(), Error> {
    for callbacks in [false, true] {
        let seen = Journal::new();
        let builder = every(10).initial_delay(ms(10));
        let builder = if callbacks { builder.on_end(|_| ()) } else { builder };
        let timer = builder.start(|tick: Tick| tick.run)?;
        let feed = timer.subscribe().open()?;
        let (mut join, mut trigger) = (timer.join(), timer.trigger());
        let (mut hits, mut second) = (timer.wait_hits(1), timer.wait_hits(2));
        let waker = Waker::from(Arc::new(ReadsHits(timer.clone(), seen.clone())));
        let mut cx = Context::from_waker(&waker);
        assert!(feed.poll_value(&mut cx).is_pending());
        assert!(Pin::new(&mut join).poll(&mut cx).is_pending());
        assert!(Pin::new(&mut trigger).poll(&mut cx).is_pending());
        assert!(Pin::new(&mut hits).poll(&mut cx).is_pending());
        assert!(Pin::new(&mut second).poll(&mut cx).is_pending());
        settle().await;
        assert_eq!(seen.entries(), [(1, Some(1)); 4]);
        sleep(ms(15)).await;
        assert_eq!(seen.entries()[4..], [(2, Some(2))]);
        timer.cancel().await;
    }
    Ok(())
}

#[test]
fn d1_figures_are_read_on_another_thread_during_a_run() {
    let (in_run, begun) = std::sync::mpsc::channel();
    let gate = Gate::default();
    let engine = everbeat::thread::Engine::builder().build();
    let own = gate.clone();
    let timer = engine.every(ms(1)).start(move |tick: Tick| {
        if tick.run == 3 {
            in_run.send(()).unwrap();
            own.pass();
        }
        tick.run
    });
    let timer = timer.unwrap();
    begun.recv_timeout(LIMIT).unwrap();
    let stats = timer.stats();
    assert_eq!((stats.runs, stats.hits, stats.busy, stats.running), (3, 2, true, true));
    assert_eq!((timer.hits(), timer.latest().as_deref()), (2, Some(&2)));
    gate.open();
    timer.wait_hits(3).block(LIMIT).unwrap();
    timer.cancel().block(LIMIT).unwrap();
}

#[tokio::test(start_paused = true)]
async fn d2_join_is_the_next_tick_for_everybody_who_waits() -> Result<(), Error> {
    let timer = every(100).initial_delay(ms(100)).start(|tick: Tick| tick.run)?;
    let (first, second) = (timer.join(), timer.join());
    assert_eq!((*first.await?, *second.await?), (1, 1));
    assert_eq!(*timer.join().await?, 2);
    sleep(ms(350)).await;
    assert_eq!(*timer.join().await?, 6, "a busy consumer misses ticks");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d2_join_during_a_run_is_that_run() -> Result<(), Error> {
    let timer = every(100).start(|tick: Tick| async move {
        sleep(ms(50)).await;
        tick.run
    })?;
    sleep(ms(10)).await;
    assert_eq!(*timer.join().await?, 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d3_a_timer_that_ends_at_exactly_n_satisfies_the_wait() -> Result<(), Error> {
    let timer = every(10).max_runs(3).build(|| ())?;
    timer.start()?;
    let waits: Vec<_> = (1..=4).map(|n| timer.wait_hits(n)).collect();
    let more = timer.wait_more(3);
    timer.wait().await?;
    let results: Vec<_> = {
        let mut results = Vec::new();
        for wait in waits {
            results.push(wait.await.is_ok());
        }
        results
    };
    assert_eq!(results, [true, true, true, false]);
    assert!(more.await.is_ok());
    assert!(timer.wait_hits(3).await.is_ok(), "and afterwards, at once");
    assert!(matches!(timer.wait_hits(4).await, Err(Error::Stopped { reason: StopReason::MaxRuns, .. })));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d3_ticks_between_two_polls_are_counted() -> Result<(), Error> {
    let timer = every(20).start(|| ())?;
    let wait = timer.wait_hits(25);
    sleep(SECOND).await;
    wait.await?;
    assert!(timer.hits() >= 25);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d3_timeouts() -> Result<(), Error> {
    let timer = every(100).name("slow").start(|| ())?;
    let error = timer.wait_hits(100).timeout(ms(250)).await.unwrap_err();
    assert_eq!(error.to_string(), "timer `slow` did not get there within 250ms");
    assert_eq!(timer.wait_at_most(ms(50)).await?, None, "that it still runs is no error");
    timer.cancel().await;
    assert_eq!(timer.wait_at_most(ms(50)).await?, Some(StopReason::Cancelled));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d4_iterating_over_a_timer_ends_with_it_and_raises_its_failure() -> Result<(), Error> {
    for fails in [false, true] {
        let timer = every(10).max_runs(5).build(move |tick: Tick| match tick.run {
            5 if fails => Err("broke"),
            run => Ok(run),
        })?;
        // A bound of one: the newest value, whatever a busy consumer has missed.
        let mut newest = timer.subscribe().bounded(1).open()?;
        timer.start()?;
        let mut seen = Vec::new();
        while let Some(item) = tokio_stream::StreamExt::next(&mut newest).await {
            seen.push(item.map(|run| *run).map_err(|failure| failure.to_string()));
            sleep(ms(15)).await;
        }
        let last = if fails { Err("broke".to_owned()) } else { Ok(5) };
        assert_eq!(seen.last(), Some(&last), "{seen:?}");
        assert!(seen.len() < 6 && timer.wait().await.is_err() == fails);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d5_trigger_returns_a_run_that_started_after_the_call() -> Result<(), Error> {
    let timer = every(1_000).start(|tick: Tick| async move {
        sleep(ms(50)).await;
        tick.run
    })?;
    sleep(ms(20)).await; // run 1 is in flight, and may have read its data already
    let clock = Stopwatch::start();
    let triggers: Vec<_> = (0..10).map(|_| timer.trigger()).collect();
    for trigger in triggers {
        assert_eq!(*trigger.await?, 2);
    }
    assert_eq!(clock.millis(), 30 + 50);
    timer.wait_more(1).await?;
    assert_eq!(clock.millis(), 30 + 50 + 1_000 + 50, "exactly one run followed");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d5_a_trigger_takes_effect_even_if_nobody_waits() -> Result<(), Error> {
    let timer = every(1_000).start(|tick: Tick| tick.cause)?;
    timer.wait_hits(1).await?;
    drop(timer.trigger());
    settle().await;
    assert_eq!((timer.hits(), *timer.latest().unwrap()), (2, everbeat::Cause::Trigger));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d5_a_failing_run_fails_its_triggers_only() -> Result<(), Error> {
    let timer = every(1_000).on_error(OnError::Continue).start(|tick: Tick| match tick.run {
        2 => Err("no"),
        run => Ok(run),
    })?;
    timer.wait_hits(1).await?;
    let (failed, count) = (timer.trigger(), timer.wait_more(1));
    let error = failed.await.unwrap_err();
    assert!(matches!(&error, Error::Failed { failure: Failure::Error(_), .. }), "{error}");
    assert_eq!(*timer.trigger().await?, 3);
    count.await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d5_a_trigger_during_a_run_that_fails_gets_the_value_of_the_next() -> Result<(), Error> {
    let timer = every(1_000).on_error(OnError::Continue).start(|tick: Tick| async move {
        sleep(ms(10)).await;
        if tick.run == 1 { Err("no") } else { Ok(tick.run) }
    })?;
    sleep(ms(5)).await;
    let (joined, triggered) = (timer.join(), timer.trigger());
    assert!(matches!(joined.await, Err(Error::Failed { .. })));
    assert_eq!(*triggered.await?, 2);
    Ok(())
}

/// What a consumer asks for in the middle of the callback for the end.
type Question = Box<dyn FnOnce(&mut Context<'_>) -> [bool; 4] + Send>;

/// A consumer is not kept waiting by what the callback for the end has to do.
#[tokio::test(start_paused = true)]
async fn d4_a_feed_has_ended_and_waits_are_answered_before_the_end_callback() -> Result<(), Error> {
    let question: Arc<Mutex<Option<Question>>> = Arc::default();
    let (asked, told) = (question.clone(), Journal::new());
    let log = told.clone();
    let timer = every(10).max_runs(1).on_end(move |_| {
        let question = asked.lock().unwrap().take().unwrap();
        log.add(question(&mut Context::from_waker(Waker::noop())));
    });
    let timer = timer.start(|| sleep(ms(10)))?;
    sleep(ms(5)).await;
    let (feed, mut run, mut hits) = (timer.subscribe().open()?, timer.trigger(), timer.wait_hits(2));
    *question.lock().unwrap() = Some(Box::new(move |cx| {
        [
            matches!(feed.poll_value(cx), Poll::Ready(Some(Ok(_)))),
            matches!(feed.poll_value(cx), Poll::Ready(None)),
            matches!(Pin::new(&mut run).poll(cx), Poll::Ready(Err(Error::Stopped { .. }))),
            matches!(Pin::new(&mut hits).poll(cx), Poll::Ready(Err(Error::Stopped { .. }))),
        ]
    }));
    timer.wait().await?;
    assert_eq!(told.entries(), [[true; 4]]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d6_feeds_have_every_tick_in_order_for_each_consumer() -> Result<(), Box<dyn std::error::Error>> {
    let timer = every(10).max_runs(20).build(|tick: Tick| tick.run)?;
    let (mut fast, mut slow) = (timer.subscribe().open()?, timer.subscribe().name("slow").open()?);
    timer.start()?;
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(run) = slow.next().await {
            seen.push(*run.unwrap());
            sleep(ms(70)).await;
        }
        seen
    });
    let mut seen = Vec::new();
    while let Some(run) = fast.next().await {
        seen.push(*run?);
    }
    assert_eq!(seen, (1..=20).collect::<Vec<_>>());
    assert_eq!(reader.await?, seen);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d6_bounded_feeds_drop_by_policy_and_count() -> Result<(), Box<dyn std::error::Error>> {
    let timer = every(10).max_runs(10).build(|tick: Tick| tick.run)?;
    let mut oldest = timer.subscribe().bounded(3).open()?;
    let mut newest = timer.subscribe().bounded(3).drop_newest().open()?;
    timer.start()?;
    timer.wait().await?;
    for (feed, expected) in [(&mut oldest, [8, 9, 10]), (&mut newest, [1, 2, 3])] {
        assert_eq!((feed.len(), feed.dropped_count()), (3, 7));
        for run in expected {
            assert_eq!(*feed.next().await.unwrap()?, run);
        }
        assert!(feed.next().await.is_none());
    }
    assert!(timer.subscribe().bounded(0).open().is_err());
    Ok(())
}

/// Without figures of its own a timer is stored in a few bytes, its feeds beside it.
#[tokio::test(start_paused = true)]
async fn d6_feeds_of_a_timer_without_histograms() -> Result<(), Box<dyn std::error::Error>> {
    let timer = every(10).histograms(false).build(|tick: Tick| tick.run)?;
    let (every_tick, newest) = (timer.subscribe().open()?, timer.subscribe().bounded(1).open()?);
    timer.start()?;
    sleep(ms(35)).await;
    assert_eq!((timer.hits(), timer.stats().feeds), (4, 2));
    assert_eq!((every_tick.len(), newest.len(), newest.dropped_count()), (4, 1, 3));
    every_tick.close();
    assert_eq!(timer.stats().feeds, 1);
    let late = timer.subscribe().open()?;
    sleep(ms(10)).await;
    assert_eq!((every_tick.len(), newest.dropped_count(), late.len()), (4, 4, 1));
    timer.cancel().await;
    for (mut feed, values) in [(every_tick, vec![1, 2, 3, 4]), (newest, vec![5]), (late, vec![5])] {
        for value in values {
            assert_eq!(feed.next().await.transpose()?.as_deref(), Some(&value));
        }
        assert!(feed.next().await.is_none());
    }
    assert_eq!(timer.stats().feeds, 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d7_shedding_keeps_the_failure_and_the_end() -> Result<(), Error> {
    let timer = every(10).build(|tick: Tick| if tick.run < 6 { Ok(tick.run) } else { Err("broke") })?;
    let mut feed = timer.subscribe().open()?;
    timer.start()?;
    assert!(timer.wait().await.is_err());
    assert_eq!(feed.len(), 5);
    feed.drop_oldest(100);
    assert_eq!((feed.len(), feed.is_empty(), feed.dropped_count()), (0, true, 5));
    assert_eq!(feed.next().await.unwrap().unwrap_err().to_string(), "broke");
    assert!(feed.next().await.is_none());
    assert!(feed.try_next().is_none());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d8_a_closed_or_dropped_feed_unregisters_itself() -> Result<(), Error> {
    let timer = every(10).start(|| vec![0_u8; 10])?;
    timer.wait_hits(1).await?;
    let mut feed = timer.subscribe().open()?;
    let dropped = timer.subscribe().open()?;
    drop(dropped);
    timer.wait_more(2).await?;
    let held = timer.latest().unwrap();
    // Here, the timer itself, and the one feed that is left.
    assert_eq!(Arc::strong_count(&held), 3);
    let closer = feed.closer();
    std::thread::spawn(move || [closer.close(), closer.close()]).join().unwrap();
    timer.wait_more(2).await?;
    assert_eq!(Arc::strong_count(&timer.latest().unwrap()), 2);
    assert_eq!(feed.len(), 2);
    assert!(feed.next().await.is_some() && feed.next().await.is_some() && feed.next().await.is_none());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d8_feeds_that_come_and_go_leave_nothing_with_their_timer() -> Result<(), Error> {
    let timer = every(3_600_000).start(|| ())?;
    timer.wait_hits(1).await?;
    drop(timer.subscribe().open()?);
    let left = allocation_counter::measure(|| {
        (0..much(1_000)).for_each(|_| drop(timer.subscribe().open()));
    });
    assert!(left.count_current.abs() < 10, "{left:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d8_closing_wakes_the_consumer() -> Result<(), Error> {
    let timer = every(3_600_000).start(|| ())?;
    timer.wait_hits(1).await?;
    let mut feed = timer.subscribe().open()?;
    let closer = feed.closer();
    let reader = tokio::spawn(async move { feed.next().await.is_none() });
    settle().await;
    closer.close();
    assert!(reader.await.unwrap());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d9_the_failure_that_ended_the_timer_is_told_to_whoever_asks_later() -> Result<(), Error> {
    let timer = every(10).name("broken").start(|| Err::<(), _>("no disk"))?;
    assert_eq!(timer.wait().await.unwrap_err().to_string(), "a run of timer `broken` failed: no disk");
    let fails = |error: Error| matches!(error, Error::Failed { .. });
    assert!(fails(timer.join().await.unwrap_err()));
    assert!(fails(timer.trigger().await.unwrap_err()));
    assert!(fails(timer.wait_hits(1).await.unwrap_err()));
    assert!(fails(timer.wait().await.unwrap_err()));
    assert_eq!(timer.cancel().await, StopReason::Failed);
    let mut late = timer.subscribe().open()?;
    assert_eq!(late.next().await.unwrap().unwrap_err().to_string(), "no disk");
    assert!(late.next().await.is_none());
    Ok(())
}

/// A waker that calls into the timer when it is woken.
struct Caller(Timer<u64>);

impl Wake for Caller {
    fn wake(self: Arc<Self>) {
        let _ = (self.0.stats(), self.0.latest(), self.0.hits());
        let mut again = self.0.join();
        let _ = std::pin::Pin::new(&mut again).poll(&mut Context::from_waker(Waker::noop()));
        self.0.set_period(ms(11));
    }
}

#[tokio::test(start_paused = true)]
async fn d11_no_waker_runs_under_a_lock() -> Result<(), Error> {
    let timer = every(10).start(|tick: Tick| tick.run)?;
    let mut feed = timer.subscribe().open()?;
    let waker = Waker::from(Arc::new(Caller(timer.clone())));
    let mut cx = Context::from_waker(&waker);
    let mut join = std::pin::pin!(timer.join());
    assert!(join.as_mut().poll(&mut cx).is_pending());
    {
        let mut next = std::pin::pin!(feed.next());
        assert!(next.as_mut().poll(&mut cx).is_pending());
        timer.wait_hits(3).await?;
        assert!(matches!(next.poll(&mut cx), Poll::Ready(Some(Ok(_)))));
    }
    assert!(join.poll(&mut cx).is_ready());
    assert_eq!(timer.period(), ms(11));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d11_a_slow_consumer_does_not_hold_the_timer_up() -> Result<(), Error> {
    let timer = every(10).fixed_rate().start(|| ())?;
    let feed = timer.subscribe().open()?;
    let many = u64::from(much(1_000));
    timer.wait_hits(many).await?;
    assert_eq!((feed.len() as u64, timer.stats().skipped.missed), (many, 0));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn o3_stats_tell_what_happened() -> Result<(), Error> {
    let timer = every(100).fixed_rate().on_error(OnError::Continue).name("figures").start(
        |tick: Tick| async move {
            sleep(ms(if tick.run == 3 { 250 } else { 20 })).await;
            if tick.run == 2 { Err("once") } else { Ok(()) }
        },
    )?;
    sleep(ms(590)).await;
    let stats = timer.stats();
    assert_eq!((stats.runs, stats.hits, stats.failures), (4, 3, 1));
    assert_eq!((stats.skipped.overrun, stats.skipped.missed, stats.skipped.total()), (2, 2, 2));
    assert_eq!((stats.running, stats.busy, stats.paused), (true, false, false));
    assert_eq!((stats.duration.max(), stats.duration.last()), (ms(250), ms(20)));
    assert!(stats.duration.quantile(0.5).unwrap() >= ms(20));
    assert_eq!(stats.lateness.max(), Duration::ZERO);
    let now = tokio::time::Instant::now().into_std();
    assert_eq!(stats.next_due.map(|due| due - now), Some(ms(10)));
    assert_eq!(stats.last_tick.map(|last| now - last), Some(ms(70)));
    assert_eq!(stats.name, "figures");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d4_a_feed_opened_while_the_end_is_announced_ends_too() -> Result<(), Error> {
    let (send, receive) = std::sync::mpsc::channel();
    let handle = Arc::new(std::sync::OnceLock::<WeakTimer<()>>::new());
    let inside = handle.clone();
    let timer = every(10).max_runs(1).on_end(move |_| {
        let timer = inside.get().unwrap().upgrade().unwrap();
        send.send(timer.subscribe().open().unwrap()).unwrap();
    });
    let timer = timer.build(|| ())?;
    handle.set(timer.downgrade()).unwrap();
    timer.start()?;
    timer.wait().await?;
    let mut feed = receive.recv().unwrap();
    assert!(feed.next().await.is_none());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d4_a_feed_of_a_timer_that_will_never_be_started_ends() -> Result<(), Error> {
    let scope = Scope::new();
    let lean = every(10).build(|| 7)?;
    let whole = every(10).on_end(|_| ()).build(|| async { 7 })?;
    let tied = every(10).tied_to(&scope).build(|| 7)?;
    let mut readers = tokio::task::JoinSet::new();
    for timer in [&lean, &whole, &tied] {
        let mut feed = timer.subscribe().open()?;
        readers.spawn(async move { feed.next().await.is_none() });
    }
    settle().await;
    assert!(readers.try_join_next().is_none(), "any of them may be started");
    drop((lean, whole));
    scope.close(SECOND);
    let ended = tokio::time::timeout(LIMIT, readers.join_all()).await;
    assert_eq!(ended.ok(), Some(vec![true; 3]));
    let mut late = tied.subscribe().open()?;
    assert!(late.next_blocking(LIMIT)?.is_none());
    Ok(())
}

/// An error that calls into its timer, or panics, when it is dropped.
#[derive(Debug)]
struct NosyError(Arc<std::sync::OnceLock<WeakTimer<()>>>);

impl std::fmt::Display for NosyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nosy")
    }
}

impl std::error::Error for NosyError {}

impl Drop for NosyError {
    fn drop(&mut self) {
        let timer = self.0.get().and_then(WeakTimer::upgrade);
        assert!(timer.is_none_or(|timer| timer.stats().runs % 2 == 0), "an odd run was dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn d11_r5_errors_are_dropped_without_the_lock_and_may_panic() -> Result<(), Error> {
    let handle = Arc::new(std::sync::OnceLock::new());
    let inside = handle.clone();
    let timer = every(10).on_error(OnError::Continue).max_runs(6);
    let timer = timer.build(move || Err::<(), _>(NosyError(inside.clone())))?;
    handle.set(timer.downgrade()).unwrap();
    timer.start()?;
    assert_eq!(timer.wait().await?, StopReason::MaxRuns);
    assert_eq!(timer.stats().failures, 6);
    Ok(())
}

#[tokio::test]
async fn l9_blocking_for_a_feed_on_the_thread_of_its_timer_is_refused() -> Result<(), Error> {
    let timer = every(1).start(|| ())?;
    let mut feed = timer.subscribe().open()?;
    assert!(matches!(feed.next_blocking(SECOND), Err(Error::ThreadsafeDispatch { .. })));
    timer.wait_hits(1).await?;
    assert!(feed.next_blocking(SECOND)?.is_some(), "a value that is there can be taken");
    assert!(timer.subscribe().drop_newest().open().is_err(), "drop_newest needs a bound");
    Ok(())
}

#[tokio::test]
async fn l9_blocking_for_ticks_on_the_thread_of_their_runtime_is_refused() -> Result<(), Error> {
    let mut ticks = every(3_600_000).max_runs(2).ticks()?;
    assert!(ticks.next_blocking(SECOND)?.is_some(), "a tick that is due can be taken");
    let refused = ticks.next_blocking(SECOND);
    assert!(matches!(refused, Err(Error::ThreadsafeDispatch { .. })), "{refused:?}");
    ticks.timer().rearm(ms(1));
    let elsewhere = tokio::task::spawn_blocking(move || {
        assert!(ticks.next_blocking(LIMIT)?.is_some());
        ticks.next_blocking(LIMIT)
    });
    assert_eq!(elsewhere.await.unwrap()?, None);
    Ok(())
}

#[tokio::test]
async fn s6_ticks_of_period_zero_can_be_waited_for_on_a_thread() -> Result<(), Error> {
    let mut ticks = every(0).max_runs(3).ticks()?;
    let runs = tokio::task::spawn_blocking(move || {
        let mut runs = Vec::new();
        while let Some(tick) = ticks.next_blocking(LIMIT)? {
            runs.push(tick.run);
        }
        Ok::<_, Error>(runs)
    });
    assert_eq!(runs.await.unwrap()?, [1, 2, 3]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d6_what_is_there_can_be_taken_without_waiting() -> Result<(), Error> {
    let timer = every(10).max_runs(3).build(|tick: Tick| tick.run)?;
    let mut feed = timer.subscribe().open()?;
    assert!(feed.try_next().is_none());
    timer.start()?;
    timer.wait().await?;
    for run in 1..=3 {
        assert_eq!(*feed.try_next().unwrap().unwrap(), run);
    }
    assert!(feed.try_next().is_none());
    Ok(())
}
