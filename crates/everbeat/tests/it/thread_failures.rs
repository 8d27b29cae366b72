//! R: runs on threads that fail, panic, take long, or come all at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everbeat::testing::TestEngine;
use everbeat::thread::{Engine, Precision};
use everbeat::{AnyTimer, Builder, Error, Failure, IntoTarget, OnError, Plain, StopReason, Tick, Timer};

use crate::logs::Log;
use crate::support::{Gate, Journal, LIMIT, SECOND, eventually, ms};

fn engine(workers: usize) -> Engine {
    Engine::builder().precision(Precision::Fine).workers(workers).build()
}

/// A value or an error whose drop panics.
#[derive(Debug)]
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("the drop of a value");
    }
}

impl std::fmt::Display for Grenade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a grenade")
    }
}

impl std::error::Error for Grenade {}

#[test]
fn r5_panics_on_threads_stay_where_they_are() -> Result<(), Error> {
    for workers in [0, 2] {
        let engine = engine(workers);
        let every = || engine.every(ms(1)).on_error(OnError::Continue);
        let neighbour = every().start(|| ())?;
        let panics = every().start(|tick: Tick| assert!(tick.run % 2 == 0, "run {}", tick.run))?;
        let values = every().start(|| Plain(Grenade))?;
        let errors = every().start(|tick: Tick| if tick.run % 2 == 0 { Ok(()) } else { Err(Grenade) })?;
        let callbacks = every()
            .on_failure(|_| panic!("in on_failure"))
            .on_end(|_| panic!("in on_end"))
            .start(|| Err::<(), _>("as planned"))?;
        let stops = engine.every(ms(1)).start(|| -> () { panic!("{}", "at once") })?;
        for timer in [&neighbour, &panics, &errors] {
            timer.wait_hits(5).block(LIMIT)?;
        }
        values.wait_hits(5).block(LIMIT)?;
        let error = stops.wait().block(LIMIT).unwrap_err();
        assert!(
            matches!(&error, Error::Failed { failure: Failure::Panic(text), .. } if &**text == "at once")
        );
        eventually("failures are counted", || callbacks.stats().failures >= 3);
        assert_eq!(callbacks.cancel().block(LIMIT)?, StopReason::Cancelled);
        values.cancel().block(LIMIT)?;
        drop((values, errors));
        neighbour.wait_more(5).block(LIMIT)?;
        assert!(engine.stats().workers <= workers);
    }
    Ok(())
}

#[test]
fn r6_callbacks_on_threads_are_told_of_every_failure_and_of_each_end() -> Result<(), Error> {
    let clock = TestEngine::new();
    let journal = Journal::new();
    let (failures, ends) = (journal.clone(), journal.clone());
    let timer = clock
        .engine()
        .every(SECOND)
        .on_error(OnError::Continue)
        .max_runs(3)
        .on_failure(move |failure| failures.add(failure.to_string()))
        .on_end(move |reason| ends.add(format!("{reason:?}")))
        .start(|tick: Tick| if tick.run % 2 == 1 { Err(format!("run {}", tick.run)) } else { Ok(()) })?;
    clock.advance(SECOND * 10);
    assert_eq!(journal.entries(), ["run 1", "run 3", "MaxRuns"]);
    drop(timer.cancel());
    clock.settle();
    assert_eq!(journal.entries().len(), 3);
    timer.start()?;
    let cancel = timer.cancel();
    clock.settle();
    assert_eq!(cancel.block(LIMIT)?, StopReason::Cancelled);
    assert_eq!(journal.entries().last().unwrap(), "Cancelled");
    Ok(())
}

#[test]
fn r4_a_run_on_threads_over_its_limit_counts_as_failure() -> Result<(), Error> {
    let clock = TestEngine::new();
    let time = clock.clone();
    let every = || clock.engine().every(SECOND * 10).run_timeout(SECOND).on_error(OnError::Continue);
    let sync = every().start(move |tick: Tick| time.pass(SECOND * u32::from(tick.run == 1) * 2))?;
    let slow = every().start(std::future::pending::<()>)?;
    clock.advance(SECOND * 4);
    assert_eq!((sync.stats().failures, slow.stats().failures), (1, 1));
    clock.advance(SECOND * 20);
    assert_eq!((sync.stats().failures, sync.hits(), slow.stats().failures), (1, 2, 2));
    Ok(())
}

#[test]
fn r7_an_inline_run_that_blocks_its_thread_is_reported_by_name() -> Result<(), Error> {
    let (log, _guard) = Log::capture();
    let clock = TestEngine::new();
    for name in ["hog", "quick"] {
        let time = clock.clone();
        let takes = if name == "hog" { ms(100) } else { ms(99) };
        let timer = clock.engine().every(SECOND).name(name).inline().start(move || time.pass(takes))?;
        clock.advance(SECOND * 3);
        assert_eq!(timer.stats().blocked, if name == "hog" { timer.stats().runs } else { 0 });
    }
    let lines = log.lines("blocked its thread");
    assert!(lines.len() >= 3, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("WARN") && line.contains("timer=hog")), "{lines:?}");
    Ok(())
}

#[test]
fn r7_a_lean_timer_that_delivers_values_and_blocks_is_counted_too() -> Result<(), Error> {
    let clock = TestEngine::new();
    let time = clock.clone();
    let timer = clock.engine().every(SECOND).inline().start(move || {
        time.pass(ms(100));
        7
    })?;
    clock.advance(SECOND * 3);
    assert_eq!((timer.latest().as_deref(), timer.stats().blocked), (Some(&7), timer.stats().runs));
    Ok(())
}

#[test]
fn r7_a_slow_run_on_a_worker_holds_nobody_up() -> Result<(), Error> {
    let engine = engine(2);
    let (entered, gate) = (Gate::default(), Gate::default());
    let (inside, wall) = (entered.clone(), gate.clone());
    let slow = engine.every(ms(1)).start(move || {
        inside.open();
        wall.pass();
    })?;
    entered.pass();
    let pooled = engine.every(ms(1)).start(|| ())?;
    let inline = engine.every(ms(1)).inline().start(|| ())?;
    pooled.wait_hits(10).block(LIMIT)?;
    inline.wait_hits(10).block(LIMIT)?;
    assert_eq!((slow.hits(), slow.stats().blocked), (0, 0));
    gate.open();
    slow.cancel().block(LIMIT)?;
    Ok(())
}

#[test]
fn r7_runs_wait_in_line_for_a_worker_and_none_is_lost() -> Result<(), Error> {
    let engine = engine(2);
    let gate = Gate::default();
    let inside = Arc::new(AtomicUsize::new(0));
    let order = Journal::new();
    let block = || {
        let (wall, count) = (gate.clone(), inside.clone());
        engine.every(LIMIT).max_runs(1).start(move || {
            count.fetch_add(1, Ordering::SeqCst);
            wall.pass();
        })
    };
    let blockers = [block()?, block()?];
    eventually("both workers are busy", || inside.load(Ordering::SeqCst) == 2);
    let line = |id: usize| {
        let log = order.clone();
        engine.every(LIMIT).max_runs(1).start(move || log.add(id))
    };
    let waiting: Vec<_> = (0..50).map(line).collect::<Result<_, _>>()?;
    let inline = engine.every(ms(1)).inline().start(|| ())?;
    eventually("all of them are in line", || engine.stats().queued >= 50);
    inline.wait_hits(3).block(LIMIT)?;
    assert!(order.entries().is_empty(), "the workers are busy");
    assert_eq!((engine.stats().workers, engine.stats().idle_workers), (2, 0));
    gate.open();
    for timer in waiting.iter().chain(&blockers) {
        assert_eq!(timer.wait().block(LIMIT)?, StopReason::MaxRuns);
    }
    let mut ran = order.entries();
    ran.sort_unstable();
    assert_eq!(ran, (0..50).collect::<Vec<_>>());
    for timer in &waiting {
        // Whoever waits may take a turn back that has not begun: then it waits in line once more.
        assert!(timer.stats().queued >= 1 && timer.hits() == 1, "{:?}", timer.stats());
    }
    Ok(())
}

#[test]
fn r7_a_timer_that_waits_for_a_worker_can_be_cancelled() -> Result<(), Error> {
    let engine = engine(1);
    let (entered, gate) = (Gate::default(), Gate::default());
    let (inside, wall) = (entered.clone(), gate.clone());
    let blocker = engine.every(ms(1)).start(move || {
        inside.open();
        wall.pass();
    })?;
    entered.pass();
    let line = |i: u32| engine.every(ms(1)).histograms(i % 2 == 0).start(|| ());
    let waiting: Vec<_> = (0..10).map(line).collect::<Result<_, _>>()?;
    eventually("all of them are in line", || engine.stats().queued >= 10);
    let cancels: Vec<_> = waiting.iter().map(Timer::cancel).collect();
    for cancel in cancels {
        assert_eq!(cancel.block(LIMIT)?, StopReason::Cancelled, "none of them waits for the worker");
    }
    gate.open();
    assert!(waiting.iter().all(|timer| timer.stats().runs == 0));
    blocker.cancel().block(LIMIT)?;
    eventually("nothing is left", || engine.stats().timers == 0);
    Ok(())
}

#[test]
fn r7_as_many_workers_as_are_needed_and_no_more() -> Result<(), Error> {
    let engine = engine(3);
    let most = Arc::new(AtomicUsize::new(0));
    let active = Arc::new(AtomicUsize::new(0));
    let timers: Vec<_> = (0..40)
        .map(|_| {
            let (most, active) = (most.clone(), active.clone());
            engine.every(Duration::from_micros(200)).on_error(OnError::Continue).start(move |tick: Tick| {
                most.fetch_max(active.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                active.fetch_sub(1, Ordering::SeqCst);
                assert!(tick.run % 3 != 0, "as planned");
            })
        })
        .collect::<Result<_, _>>()?;
    for timer in &timers {
        timer.wait_hits(20).block(LIMIT)?;
        assert!(engine.stats().workers <= 3);
    }
    assert!(most.load(Ordering::SeqCst) <= 3);
    Ok(())
}

struct Explosive;

impl std::task::Wake for Explosive {
    fn wake(self: Arc<Self>) {
        panic!("a waker");
    }
}

#[test]
fn d11_a_waker_that_panics_harms_nobody() -> Result<(), Error> {
    let engine = engine(1);
    let timer = engine.every(ms(2)).start(|| ())?;
    let mut ticks = engine.every(ms(2)).ticks()?;
    let waker = std::task::Waker::from(Arc::new(Explosive));
    let mut cx = std::task::Context::from_waker(&waker);
    for _ in 0..5 {
        let mut wait = timer.wait_more(1);
        let _ = std::future::Future::poll(std::pin::Pin::new(&mut wait), &mut cx);
        let mut next = std::pin::pin!(ticks.next());
        let _ = std::future::Future::poll(next.as_mut(), &mut cx);
        timer.wait_more(2).block(LIMIT)?;
    }
    Ok(())
}

/// A value or an error that ends a timer when it is dropped, waits for that, and writes down what came of it.
#[derive(Debug)]
struct Closer {
    timer: Arc<Mutex<Option<AnyTimer>>>,
    answers: Journal<Option<StopReason>>,
}

impl Closer {
    fn new(answers: &Journal<Option<StopReason>>) -> impl Fn() -> Self + Clone + use<> {
        let (timer, answers) = (Arc::default(), answers.clone());
        move || Self { timer: Arc::clone(&timer), answers: answers.clone() }
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        let timer = self.timer.lock().unwrap().clone();
        if let Some(timer) = timer {
            self.answers.add(everbeat::thread::wait_for(timer.cancel(), LIMIT));
        }
    }
}

impl std::fmt::Display for Closer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a closer")
    }
}

impl std::error::Error for Closer {}

/// Starts it with a target that is made of what makes closers, and waits for the end that one of them brings about.
fn end_by_drop<M, X, V>(
    builder: Builder,
    target: impl FnOnce(Box<dyn Fn() -> Closer + Send>) -> X,
) -> Result<Vec<Option<StopReason>>, Error>
where
    X: IntoTarget<M>,
    X::Target: everbeat::Target<Value = V>,
    V: Send + Sync + 'static,
{
    let answers = Journal::new();
    let closer = Closer::new(&answers);
    let timer: Timer<V> = builder.build(target(Box::new(closer.clone())))?;
    let of_none = closer();
    *of_none.timer.lock().unwrap() = Some((&timer).into());
    timer.start()?;
    timer.wait_hits(1000).block(LIMIT).unwrap_err();
    of_none.timer.lock().unwrap().take();
    Ok(answers.entries())
}

#[test]
fn l5_what_a_run_drops_may_end_its_timer_and_wait_for_that() -> Result<(), Error> {
    for workers in [0, 1] {
        let engine = engine(workers);
        let every = || engine.every(ms(1));
        let first = |told: Vec<_>| told[0];
        let value = end_by_drop(every(), |closer| move || Plain(closer()))?;
        assert_eq!(first(value), Some(StopReason::Cancelled), "a value that gives way to the next");
        let measured = end_by_drop(every().histograms(true), |closer| move || Plain(closer()))?;
        assert_eq!(first(measured), Some(StopReason::Cancelled));
        let failure =
            end_by_drop(every().on_error(OnError::Continue), |closer| move || Err::<(), _>(closer()))?;
        assert_eq!(first(failure), Some(StopReason::Cancelled), "a failure that everybody was told of");
        let late = every().run_timeout(ms(1)).on_error(OnError::Continue);
        let late = end_by_drop(late, |closer| {
            move || {
                std::thread::sleep(ms(2));
                Plain(closer())
            }
        })?;
        assert_eq!(first(late), Some(StopReason::Cancelled), "the value of a run that took too long");
    }
    Ok(())
}

#[test]
fn l7_the_failure_that_a_start_forgets_may_wait_for_the_timer() -> Result<(), Error> {
    let engine = engine(1);
    let answers = Journal::new();
    let closer = Closer::new(&answers);
    let of_none = closer();
    let timer =
        engine.every(ms(1)).build(move |tick: Tick| if tick.run == 1 { Err(closer()) } else { Ok(()) })?;
    timer.start()?;
    timer.wait().block(LIMIT).unwrap_err();
    *of_none.timer.lock().unwrap() = Some((&timer).into());
    timer.start()?;
    assert_eq!(answers.entries(), [Some(StopReason::Cancelled)]);
    assert!(!timer.is_running());
    of_none.timer.lock().unwrap().take();
    Ok(())
}

#[test]
fn d11_who_closes_a_feed_does_not_care_for_the_waker_of_its_consumer() -> Result<(), Error> {
    let timer = TestEngine::new().engine().every(SECOND).build(|| ())?;
    let feed = timer.subscribe().open()?;
    let waker = std::task::Waker::from(Arc::new(Explosive));
    assert!(feed.poll_value(&mut std::task::Context::from_waker(&waker)).is_pending());
    feed.closer().close();
    assert_eq!(timer.stats().feeds, 0);
    Ok(())
}
