//! Engines: their threads, their end, and loops of one's own that host them.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use everbeat::testing::TestEngine;
use everbeat::thread::{self as threads, Engine, Host, PeriodicTask, Precision};
use everbeat::{AnyTimer, Error, Group, StopReason, Timer};

use crate::support::{Gate, Journal, LIMIT, SECOND, eventually, ms};

/// How many threads of this process have this name.
#[cfg(target_os = "linux")]
pub(crate) fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|comm| comm.trim_end() == name).count()
}

#[cfg(target_os = "linux")]
#[test]
fn l10_the_threads_of_an_engine_end_with_its_timers_and_come_back() -> Result<(), Error> {
    let engine = Engine::builder().name("come").workers(2).build();
    let named = || threads_named("everbeat come");
    assert_eq!(named(), 0, "an engine without timers has no threads");
    for _ in 0..3 {
        let timer = engine.every(ms(1)).start(|| ())?;
        timer.wait_hits(timer.hits() + 2).block(LIMIT)?;
        assert!((2..=3).contains(&named()), "{}", named());
        timer.cancel().block(LIMIT)?;
        eventually("its threads have ended", || named() == 0);
        assert_eq!((engine.stats().workers, engine.stats().timers), (0, 0));
    }
    let shot = engine.after(LIMIT, || ())?;
    eventually("who only waits has one thread", || named() == 1);
    drop((shot, engine));
    eventually("its threads have ended without a handle too", || named() == 0);
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn l10_an_engine_without_workers_has_one_thread() -> Result<(), Error> {
    let engine = Engine::builder().name("alone").workers(0).build();
    let timers: Vec<_> = (0..10).map(|_| engine.every(ms(1)).start(|| ())).collect::<Result<_, _>>()?;
    for timer in &timers {
        timer.wait_hits(3).block(LIMIT)?;
    }
    assert_eq!((threads_named("everbeat alone"), engine.stats().workers), (1, 0));
    drop(timers);
    eventually("its thread has ended", || threads_named("everbeat alone") == 0);
    Ok(())
}

#[test]
fn l10_timers_come_and_go_while_threads_end() -> Result<(), Error> {
    let engine = Engine::builder().precision(Precision::Fine).build();
    // About as long as the threads linger without timers.
    for pause in [95, 99, 100, 101, 105, 110] {
        thread::sleep(ms(pause));
        let shots: Vec<_> = (0..20).map(|_| engine.after(ms(1), || ())).collect::<Result<_, _>>()?;
        for shot in &shots {
            shot.wait().block(LIMIT)?;
        }
    }
    Ok(())
}

#[test]
fn l10_a_closed_engine_has_ended_its_timers_and_refuses_new_ones() -> Result<(), Error> {
    let engine = Engine::builder().workers(2).build();
    let ends = Journal::new();
    let log = ends.clone();
    let waiting =
        engine.every(LIMIT).initial_delay(LIMIT).on_end(move |reason| log.add(reason)).start(|| ())?;
    let shot = engine.after(LIMIT, || ())?;
    let task = PeriodicTask::of(engine.every(ms(1)), || ())?;
    task.start()?;
    task.timer().wait_hits(2).block(LIMIT)?;
    let wait = waiting.join();
    assert_eq!(engine.close(LIMIT), 0);
    assert_eq!(ends.entries(), [StopReason::Abandoned]);
    assert!(matches!(wait.block(LIMIT), Err(Error::Stopped { reason: StopReason::Abandoned, .. })));
    assert_eq!(task.timer().wait().block(LIMIT)?, StopReason::Abandoned);
    let runs = task.timer().stats().runs;
    assert!(!shot.cancel() && !shot.is_pending());
    for error in [
        engine.every(ms(1)).name("late").start(|| ()).unwrap_err(),
        engine.after(ms(1), || ()).unwrap_err(),
        waiting.start().unwrap_err(),
        task.start().unwrap_err(),
        engine.every(ms(1)).ticks().unwrap_err(),
    ] {
        assert!(matches!(error, Error::EngineClosed { .. }), "{error}");
    }
    assert_eq!(
        engine.every(ms(1)).name("late").start(|| ()).unwrap_err().to_string(),
        "timer `late` belongs to an engine that is closed"
    );
    task.stop();
    thread::sleep(ms(10));
    assert_eq!((task.timer().stats().runs, engine.close(LIMIT)), (runs, 0));
    Ok(())
}

#[test]
fn l10_closing_an_engine_waits_for_the_runs_in_flight() -> Result<(), Error> {
    for inline in [false, true] {
        let engine = Engine::builder().workers(1).build();
        let (entered, gate) = (Gate::default(), Gate::default());
        let (inside, wall) = (entered.clone(), gate.clone());
        let builder = engine.every(ms(1));
        let builder = if inline { builder.inline() } else { builder };
        let timer = builder.start(move || {
            inside.open();
            wall.pass();
        })?;
        entered.pass();
        assert_eq!(engine.close(ms(5)), 1);
        assert!(matches!(engine.every(ms(1)).start(|| ()), Err(Error::EngineClosed { .. })));
        gate.open();
        assert_eq!(engine.close(LIMIT), 0);
        assert_eq!(timer.wait().block(LIMIT)?, StopReason::Abandoned);
        assert_eq!((timer.stats().runs, timer.hits()), (1, 1), "its value was delivered");
    }
    Ok(())
}

#[test]
fn l5_a_run_may_close_its_own_engine() -> Result<(), Error> {
    for inline in [false, true] {
        let engine = Engine::builder().workers(1).build();
        let other = engine.every(ms(1)).start(|| ())?;
        let closing = engine.clone();
        let builder = engine.every(ms(5));
        let builder = if inline { builder.inline() } else { builder };
        let timer = builder.start(move || {
            let start = Instant::now();
            (closing.close(LIMIT), start.elapsed() < LIMIT)
        })?;
        assert_eq!(timer.wait().block(LIMIT)?, StopReason::Abandoned);
        assert_eq!(other.wait().block(LIMIT)?, StopReason::Abandoned);
        assert_eq!((engine.close(LIMIT), timer.stats().runs), (0, 1));
        let (left, at_once) = *timer.latest().unwrap();
        assert!(left >= 1 && at_once, "{left}: it does not wait for itself");
    }
    Ok(())
}

#[test]
fn l4_no_run_starts_after_an_engine_was_closed() -> Result<(), Error> {
    for round in 0..200 {
        let engine = Engine::builder().precision(Precision::Fine).workers(2).build();
        let (closed, late) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let make = |inline: bool| {
            let (closed, late) = (closed.clone(), late.clone());
            let builder = engine.every(Duration::from_micros(10));
            let builder = if inline { builder.inline() } else { builder };
            builder
                .start(move || late.fetch_add(usize::from(closed.load(Ordering::SeqCst)), Ordering::SeqCst))
        };
        let timers = [make(false)?, make(true)?, make(false)?];
        thread::sleep(Duration::from_micros(round));
        assert_eq!(engine.close(LIMIT), 0);
        closed.store(true, Ordering::SeqCst);
        for timer in &timers {
            assert!(timer.trigger().block(LIMIT).is_err());
            assert_eq!(timer.wait().block(LIMIT)?, StopReason::Abandoned);
        }
        assert_eq!(late.load(Ordering::SeqCst), 0);
    }
    Ok(())
}

/// A loop of one's own that hosts an engine.
#[derive(Clone, Default)]
struct Loop(Arc<(Mutex<bool>, Condvar)>);

impl Host for Loop {
    fn alert(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

impl Loop {
    /// Sleeps until then, or until it is alerted.
    fn sleep(&self, until: Option<Instant>) {
        let rest = until.map_or(LIMIT, |until| until.saturating_duration_since(Instant::now()));
        let alerted = self.0.0.lock().unwrap();
        let (mut alerted, _) = self.0.1.wait_timeout_while(alerted, rest, |alerted| !*alerted).unwrap();
        *alerted = false;
    }
}

#[test]
fn l9_an_engine_lives_in_a_loop_of_ones_own() -> Result<(), Error> {
    let host = Loop::default();
    let engine = Engine::hosted(host.clone());
    let here = thread::current().id();
    let timer = engine.every(ms(1)).fixed_rate().start(move || thread::current().id() == here)?;
    let over = Arc::new(AtomicBool::new(false));
    let (handle, done, other) = (timer.clone(), over.clone(), engine.clone());
    let controller = thread::spawn(move || {
        handle.wait_hits(3).block(LIMIT)?;
        assert!(*handle.trigger().block(LIMIT)?, "runs stay on the thread of the loop");
        other.after(ms(1), || ())?.wait().block(LIMIT)?; // from another thread: the loop is alerted
        handle.rearm(LIMIT);
        assert!(*handle.trigger().block(LIMIT)?);
        handle.shutdown(LIMIT).block(LIMIT)?;
        done.store(true, Ordering::SeqCst);
        other.after(ms(1), || ())?.detach();
        Ok::<_, Error>(())
    });
    while !over.load(Ordering::SeqCst) && !controller.is_finished() {
        let next = engine.turn();
        host.sleep(next);
    }
    controller.join().unwrap()?;
    assert!(engine.turn().is_some() || engine.stats().timers == 0);
    assert_eq!(Engine::shared(Precision::Fine).turn(), None);
    Ok(())
}

#[test]
fn d1_the_default_engines_differ_in_precision() -> Result<(), Error> {
    for precision in [Precision::Coarse, Precision::Fine, Precision::Spin] {
        let engine = Engine::shared(precision);
        assert_eq!((engine.precision(), Engine::shared(precision).name()), (precision, engine.name()));
        let (turns, start) = (engine.stats().turns, Instant::now());
        let timer = threads::every(ms(1))
            .precision(precision)
            .fixed_rate()
            .inline()
            .histograms(true)
            .start(move || start.elapsed())?;
        timer.wait_hits(5).block(LIMIT)?;
        assert!(*timer.latest().unwrap() >= ms(4), "early");
        assert!(engine.stats().turns >= turns + 5 && engine.stats().timers >= 1);
        timer.cancel().block(LIMIT)?;
        assert_eq!(timer.stats().lateness.count(), timer.stats().runs);
    }
    Ok(())
}

#[tokio::test]
async fn l2_a_timer_on_tokio_with_a_precision_ticks_and_is_cancelled() -> Result<(), Error> {
    for precision in [Precision::Fine, Precision::Spin] {
        let timer = Timer::every(Duration::from_micros(300)).fixed_rate().precision(precision);
        let timer = timer.start(|| async { tokio::task::yield_now().await })?;
        timer.wait_hits(20).await?;
        timer.rearm(LIMIT);
        assert!(timer.trigger().timeout(LIMIT).await.is_ok());
        timer.rearm(ms(1));
        timer.wait_more(2).timeout(LIMIT).await?;
        assert_eq!(timer.cancel().await, StopReason::Cancelled);
        let runs = timer.stats().runs;
        tokio::time::sleep(ms(5)).await;
        assert_eq!(timer.stats().runs, runs);
    }
    Ok(())
}

/// Counts how many of it are alive.
struct Token(Arc<AtomicUsize>);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn token(alive: &Arc<AtomicUsize>) -> Token {
    alive.fetch_add(1, Ordering::SeqCst);
    Token(alive.clone())
}

#[test]
fn l8_a_hundred_thousand_timers_leave_nothing_behind() -> Result<(), Error> {
    let engine = Engine::builder().workers(2).build();
    let alive = Arc::new(AtomicUsize::new(0));
    let mut cancelled = 0;
    for batch in 0..10_u64 {
        let timers: Vec<_> = (0..10_000_u64)
            .map(|i| {
                let held = token(&alive);
                let builder = engine.every(SECOND).initial_delay(ms(i % 100)).histograms(false);
                let builder = if i % 2 == 0 { builder } else { builder.inline() };
                builder.start(move || held.0.load(Ordering::Relaxed))
            })
            .collect::<Result<_, _>>()?;
        match batch % 3 {
            0 => {}
            1 => cancelled += timers.iter().filter(|timer| timer.cancel().block(LIMIT).is_ok()).count(),
            _ => timers.iter().for_each(Timer::request_stop),
        }
        drop(timers);
        eventually("the batch is gone", || engine.stats().timers == 0 && alive.load(Ordering::SeqCst) == 0);
    }
    assert_eq!(cancelled, 30_000);
    Ok(())
}

#[test]
fn l8_timers_that_are_cancelled_give_their_memory_back() -> Result<(), Error> {
    let clock = TestEngine::new();
    let churn = |count: u64| {
        for i in 0..count {
            let builder = clock.engine().every(SECOND).initial_delay(ms(i % 1_000)).histograms(false);
            let timer = builder.start(|| ()).unwrap();
            clock.settle();
            drop(timer.cancel());
            clock.settle();
        }
    };
    churn(1_000);
    let left = allocation_counter::measure(|| churn(20_000)).bytes_current;
    assert!(left < 64 * 1024, "{left} bytes are still held");
    assert_eq!(clock.engine().stats().timers, 0);
    Ok(())
}

struct Rung(AtomicUsize);

impl Wake for Rung {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// With its last handle a hosted engine is closed, and nobody would ever wake the consumer.
#[test]
fn d10_ticks_that_are_waited_for_end_with_their_engine() -> Result<(), Error> {
    let clock = TestEngine::new();
    let own = Engine::new();
    let tests = threads::every(SECOND).on(&clock).initial_delay(SECOND).ticks()?;
    let owned = own.every(SECOND * 3600).initial_delay(SECOND * 3600).ticks()?;
    let ends: [Box<dyn FnOnce()>; 2] =
        [Box::new(move || drop(clock)), Box::new(move || assert_eq!(own.close(LIMIT), 0))];
    for (mut ticks, end) in [tests, owned].into_iter().zip(ends) {
        let rung = Arc::new(Rung(AtomicUsize::new(0)));
        let waker = Waker::from(rung.clone());
        let mut next = pin!(ticks.next());
        assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        end();
        assert_eq!(rung.0.load(Ordering::SeqCst), 1);
        assert!(matches!(next.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(None)));
    }
    Ok(())
}

#[test]
fn g4_timers_at_the_same_place_of_two_engines_are_two() -> Result<(), Error> {
    let clocks = [TestEngine::new(), TestEngine::new()];
    let start = |clock: &TestEngine| clock.engine().every(SECOND).start(|| ());
    let (first, second) = (start(&clocks[0])?, start(&clocks[1])?);
    let group = Group::new();
    group.add(&first)?;
    assert!(group.contains(&first) && !group.contains(&second));
    group.add(&second)?;
    assert_eq!(group.len(), 2);
    assert!(!AnyTimer::from(&first).same_timer(&AnyTimer::from(&second)));
    Ok(())
}

#[test]
fn t1_an_engine_moved_by_hand_tells_its_next_deadline() -> Result<(), Error> {
    let clock = TestEngine::new();
    assert_eq!(clock.next_due(), None);
    let [_late, early] =
        [ms(700), ms(300)].map(|delay| clock.engine().every(SECOND).initial_delay(delay).start(|| ()));
    assert_eq!(clock.next_due(), Some(ms(300)));
    clock.advance(ms(200));
    assert_eq!(clock.next_due(), Some(ms(300)), "it is counted from the beginning");
    drop(early);
    assert_eq!(clock.advance_to_next(), Some(ms(500)));
    Ok(())
}

#[test]
fn r7_timers_of_one_line_of_code_run_where_each_was_built_for() -> Result<(), Error> {
    let engine = Engine::builder().workers(1).build();
    let (told, runs) = mpsc::channel();
    for inline in [true, false, true, false] {
        let builder = engine.every(LIMIT * 10);
        let builder = if inline { builder.inline() } else { builder };
        let told = told.clone();
        let timer = builder.start(move || told.send(thread::current().id()).unwrap())?;
        timer.wait_hits(1).block(LIMIT)?;
        timer.detach();
    }
    let threads: Vec<_> = runs.try_iter().collect();
    assert_eq!(threads.len(), 4);
    assert!(threads[0] == threads[2] && threads[1] == threads[3] && threads[0] != threads[1]);
    Ok(())
}
