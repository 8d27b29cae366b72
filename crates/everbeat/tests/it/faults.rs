//! What users see when something around a timer fails: threads that cannot be had, runtimes that go away or are not
//! driven, processes that are stopped, clocks that jump, and listeners that panic.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread as std_thread;
use std::time::{Duration, Instant};

use everbeat::testing::TestEngine;
use everbeat::thread::{Engine, Host, Precision};
use everbeat::{Error, Group, OnError, Plain, StopReason, Tick, Timer, offload};
use tokio::runtime::{Builder, Runtime};

use crate::logs::leave_nothing_unheard;
use crate::support::{Gate, Journal, LIMIT, SECOND, eventually, every, ms, settle};
use crate::thread_support::HOUR;
#[cfg(target_os = "linux")]
use crate::thread_support::{LITTLE_MEMORY, alone, no_more_threads};

fn here() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn elsewhere() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn l1_an_engine_without_a_thread_refuses_to_start_and_starts_later() {
    alone(
        module_path!(),
        "l1_an_engine_without_a_thread_refuses_to_start_and_starts_later",
        LITTLE_MEMORY,
        || {
            let engine = Engine::builder().build();
            let built = engine.every(HOUR).name("built").build(|| 1).unwrap();
            let room = no_more_threads();
            for error in [
                built.start().unwrap_err(),
                engine.every(HOUR).name("built").start(|| ()).unwrap_err(),
                engine.every(HOUR).name("built").inline().start(|| ()).unwrap_err(),
            ] {
                assert!(matches!(error, Error::NoThread { .. }), "{error}");
                assert!(error.to_string().contains("built"), "{error}");
            }
            assert!(matches!(engine.after(HOUR, || ()), Err(Error::NoThread { .. })));
            assert_eq!((engine.stats().timers, built.is_running()), (0, false));
            drop(room);
            built.start().unwrap();
            built.wait_hits(1).block(LIMIT).unwrap();
        },
    );
}

#[cfg(target_os = "linux")]
#[test]
fn r7_without_any_worker_the_thread_that_keeps_the_time_makes_the_runs() {
    let name = "r7_without_any_worker_the_thread_that_keeps_the_time_makes_the_runs";
    alone(module_path!(), name, LITTLE_MEMORY, || {
        let engine = Engine::builder().workers(4).build();
        let this_thread = || Plain(std_thread::current().id());
        let keeper = engine.every(HOUR).inline().start(this_thread).unwrap();
        keeper.wait_hits(1).block(LIMIT).unwrap();
        let room = no_more_threads();
        let timer = engine.every(ms(5)).start(this_thread).unwrap();
        timer.wait_hits(3).block(LIMIT).unwrap();
        assert_eq!(timer.latest(), keeper.latest());
        // The same if it sleeps when it turns out that there is no worker.
        timer.cancel().block(LIMIT).unwrap();
        let asleep = engine.every(HOUR).initial_delay(HOUR).start(this_thread).unwrap();
        std_thread::sleep(ms(20));
        assert_eq!(asleep.trigger().block(LIMIT).ok(), keeper.latest());
        timer.start().unwrap();
        drop(room);
        eventually("a worker makes the runs", || timer.latest() != keeper.latest());
    });
}

#[cfg(target_os = "linux")]
#[test]
fn s9_a_precise_timer_on_tokio_does_without_the_engine_that_cannot_be_had() {
    let name = "s9_a_precise_timer_on_tokio_does_without_the_engine_that_cannot_be_had";
    alone(module_path!(), name, LITTLE_MEMORY, || {
        let runtime = here();
        let _room = no_more_threads();
        runtime.block_on(async {
            let timer = every(5).fixed_rate().precision(Precision::Fine).start(|| ()).unwrap();
            timer.wait_hits(5).await.unwrap();
            timer.cancel().await;
        });
    });
}

/// tokio panics where it cannot start the thread that a blocking call needs. The closure comes back.
#[cfg(target_os = "linux")]
#[test]
fn r7_an_offloaded_run_without_a_thread_fails_and_the_next_one_is_made() {
    let name = "r7_an_offloaded_run_without_a_thread_fails_and_the_next_one_is_made";
    alone(module_path!(), name, LITTLE_MEMORY, || {
        let runtime = here();
        let room = no_more_threads();
        runtime.block_on(async {
            let failures = Journal::new();
            let log = failures.clone();
            let builder = every(5).on_error(OnError::Continue);
            let builder = builder.on_failure(move |failure| log.add(failure.to_string()));
            let mut calls = 0;
            let timer = builder.start(offload(move || {
                calls += 1_u64;
                calls
            }));
            let timer = timer.unwrap();
            assert!(matches!(timer.join().await, Err(Error::Failed { .. })));
            drop(room);
            timer.wait_hits(2).await.unwrap();
            assert_eq!(timer.latest().as_deref(), Some(&2), "no call was lost or made twice");
            assert!(failures.entries()[0].contains("thread"), "{:?}", failures.entries());
            timer.cancel().await;
        });
    });
}

/// What the runtime of a timer is in the middle of when it goes away.
enum Middle {
    Waiting,
    Running,
    /// On a thread for what blocks, which the runtime does not wait for.
    Offloaded,
}

#[test]
fn l8_who_waits_elsewhere_is_told_when_a_runtime_goes_away() {
    for middle in [Middle::Waiting, Middle::Running, Middle::Offloaded] {
        let (runtime, entered, gate, ends) = (elsewhere(), Gate::default(), Gate::default(), Journal::new());
        let (inside, wall, log) = (entered.clone(), gate.clone(), ends.clone());
        let builder = Timer::every(HOUR).on_end(move |reason| log.add(reason));
        let timer = {
            let _context = runtime.enter();
            match middle {
                Middle::Waiting => builder.start(move || inside.open()),
                Middle::Running => builder.start(move || {
                    inside.open();
                    std::future::pending::<()>()
                }),
                Middle::Offloaded => builder.start(offload(move || {
                    inside.open();
                    wall.pass();
                })),
            }
        };
        let timer = timer.unwrap();
        entered.pass();
        if matches!(middle, Middle::Waiting) {
            timer.wait_hits(1).block(LIMIT).unwrap();
        }
        let (join, trigger, end) = (timer.join(), timer.trigger(), timer.wait());
        let waiting = std_thread::spawn(move || (join.block(LIMIT), trigger.block(LIMIT), end.block(LIMIT)));
        if matches!(middle, Middle::Waiting) {
            // A trigger has a run made, which may still be before the end of the runtime.
            runtime.block_on(settle());
        }
        runtime.shutdown_background();
        let (_, _, end) = waiting.join().unwrap();
        assert_eq!(end.unwrap(), StopReason::Abandoned);
        assert_eq!((timer.is_running(), ends.entries()), (false, vec![StopReason::Abandoned]));
        assert!(matches!(
            timer.trigger().block(LIMIT),
            Err(Error::Stopped { .. } | Error::NotRunning { .. })
        ));
        assert_eq!(timer.cancel().block(LIMIT).unwrap(), StopReason::Abandoned);
        gate.open();
    }
}

#[test]
fn l8_a_wait_for_a_value_is_told_when_a_runtime_goes_away() {
    let runtime = elsewhere();
    let timer = {
        let _context = runtime.enter();
        Timer::every(HOUR).initial_delay(HOUR).start(|| ()).unwrap()
    };
    let join = timer.join();
    let waiting = std_thread::spawn(move || join.block(LIMIT));
    drop(runtime);
    let answer = waiting.join().unwrap();
    assert!(matches!(answer, Err(Error::Stopped { reason: StopReason::Abandoned, .. })), "{answer:?}");
}

/// Nobody but the consumer drives them, and tokio panics in whoever sleeps on when the runtime is gone.
#[test]
fn l8_ticks_end_when_their_runtime_goes_away() {
    let ticks_of = |runtime: &Runtime| {
        let _context = runtime.enter();
        let mut ticks = Timer::every(HOUR).ticks().unwrap();
        assert_eq!(ticks.next_blocking(LIMIT).unwrap().unwrap().run, 1);
        ticks
    };
    let runtime = elsewhere();
    let (mut waited_for, mut asked_later) = (ticks_of(&runtime), ticks_of(&runtime));
    let end = waited_for.timer().wait();
    let waiting = std_thread::spawn(move || waited_for.next_blocking(HOUR));
    drop(runtime);
    assert_eq!(waiting.join().unwrap().unwrap(), None);
    assert_eq!(end.block(LIMIT).unwrap(), StopReason::Abandoned);
    assert_eq!(here().block_on(asked_later.next()), None);
    assert_eq!(asked_later.timer().cancel().block(LIMIT).unwrap(), StopReason::Abandoned);
}

/// A timer is a task of the runtime: a `LocalSet` has no say in it.
#[test]
fn l8_a_timer_outlives_the_local_set_it_was_started_in() {
    let runtime = here();
    let local = tokio::task::LocalSet::new();
    let timer = local.block_on(&runtime, async {
        let timer = every(1).start(|| ()).unwrap();
        timer.wait_hits(3).await.unwrap();
        timer
    });
    drop(local);
    runtime.block_on(async {
        timer.wait_more(3).await.unwrap();
        assert_eq!(timer.cancel().await, StopReason::Cancelled);
    });
}

#[test]
fn l9_a_runtime_that_nobody_drives_answers_late() {
    let runtime = here();
    let timer = {
        let _context = runtime.enter();
        every(10).fixed_rate().start(|tick: Tick| tick).unwrap()
    };
    assert!(matches!(timer.trigger().block(ms(50)), Err(Error::Timeout { .. })));
    assert_eq!((timer.hits(), timer.is_running()), (0, true));
    // It is driven again: one late run.
    runtime.block_on(async { timer.wait_hits(2).await.unwrap() });
    assert!(timer.stats().skipped.missed >= 2, "{:?}", timer.stats());
    assert!(matches!(timer.cancel().block(ms(50)), Err(Error::Timeout { .. })));
    let hits = timer.hits();
    assert_eq!(runtime.block_on(timer.wait()).unwrap(), StopReason::Cancelled, "what was asked stands");
    assert_eq!(timer.hits(), hits);
}

type Log = Arc<Mutex<Vec<Tick>>>;

fn logger() -> (Log, impl FnMut(Tick) + Send + 'static) {
    let log = Log::default();
    let inner = log.clone();
    (log, move |tick| inner.lock().unwrap().push(tick))
}

/// In some second of this log nothing ran, there was one tick after it, and none was made up for.
fn assert_one_late_tick(log: &Log) {
    let ticks = log.lock().unwrap().clone();
    let pairs = || ticks.iter().zip(ticks.iter().skip(1));
    let longest = pairs().map(|(before, after)| after.started().saturating_since(before.started())).max();
    assert!(longest >= Some(Duration::from_secs(1)), "there was no stall: {ticks:?}");
    for (before, after) in pairs() {
        assert_eq!(after.slot, before.slot + 1 + after.missed);
        assert!(
            after.scheduled >= before.started(),
            "a slot of the past ran afterwards: {before:?}, {after:?}"
        );
    }
}

#[test]
fn s4_a_runtime_that_is_starved_makes_one_late_run_a_timer() {
    let runtime = here();
    let (logs, timers): (Vec<_>, Vec<_>) = runtime.block_on(async {
        let start = |_| {
            let (log, target) = logger();
            (log, every(20).fixed_rate().start(target).unwrap())
        };
        (0..10).map(start).unzip()
    });
    runtime.block_on(async {
        timers[9].wait_hits(3).await.unwrap();
        std_thread::sleep(ms(1_200)); // on the only thread of the runtime
        for timer in &timers {
            timer.wait_more(3).await.unwrap();
        }
    });
    logs.iter().for_each(assert_one_late_tick);
}

/// `SIGSTOP`, and `SIGCONT` a while later, from a process of its own.
#[cfg(target_os = "linux")]
#[test]
fn s4_a_process_that_is_stopped_for_a_while_makes_one_late_run_a_timer() {
    let name = "s4_a_process_that_is_stopped_for_a_while_makes_one_late_run_a_timer";
    alone(module_path!(), name, "", || {
        let runtime = elsewhere();
        let engine = Engine::builder().build();
        let mut logs = Vec::new();
        let mut timers = Vec::new();
        let _context = runtime.enter();
        for builder in [
            every(20),
            engine.every(ms(20)),
            engine.every(ms(20)).inline(),
            every(20).precision(Precision::Fine),
        ] {
            let (log, target) = logger();
            timers.push(builder.fixed_rate().start(target).unwrap());
            logs.push(log);
        }
        timers.iter().for_each(|timer| timer.wait_hits(3).block(LIMIT).unwrap());
        let stop = "kill -STOP $PPID && sleep 1.5; kill -CONT $PPID";
        let stopped = std::process::Command::new("sh").args(["-c", stop]).status().unwrap();
        assert!(stopped.success());
        timers.iter().for_each(|timer| timer.wait_more(3).block(LIMIT).unwrap());
        logs.iter().for_each(assert_one_late_tick);
    });
}

/// A clock that says what it was told to.
#[derive(Clone)]
struct Whim(Instant, Arc<AtomicU64>);

impl Host for Whim {
    fn now(&self) -> Instant {
        self.0 + Duration::from_millis(self.1.load(Ordering::SeqCst))
    }

    fn alert(&self) {}
}

#[test]
fn s9_a_clock_that_jumps_makes_no_burst_and_one_that_goes_back_stands_still() {
    let millis = Arc::new(AtomicU64::new(1_000));
    let engine = Engine::hosted(Whim(Instant::now(), millis.clone()));
    let (log, target) = logger();
    let (lean, sink) = logger();
    let _plain = engine.every(ms(10)).fixed_rate().start(target).unwrap();
    let whole = engine.every(ms(10)).fixed_rate().on_end(|_| ()).start(sink).unwrap();
    let at = |moment: u64| {
        millis.store(moment, Ordering::SeqCst);
        engine.turn();
        (log.lock().unwrap().len(), lean.lock().unwrap().len())
    };
    assert_eq!(at(1_000), (1, 1));
    assert_eq!(at(1_010), (2, 2));
    assert_eq!(at(61_015), (3, 3), "a minute forward is one late run");
    assert_eq!(at(1_500), (3, 3), "a minute back is no run");
    assert_eq!(at(0), (3, 3));
    assert_eq!(at(61_019), (3, 3));
    assert_eq!(at(61_020), (4, 4), "where it was is where it goes on");
    for log in [&log, &lean] {
        let ticks = log.lock().unwrap();
        let slots: Vec<_> = ticks.iter().map(|tick| (tick.slot, tick.missed)).collect();
        assert_eq!(slots[..2], [(0, 0), (1, 0)]);
        assert_eq!(slots.last(), Some(&(6_002, 5_999)), "{slots:?}");
    }
    assert_eq!(whole.stats().skipped.total(), 5_999);
}

#[test]
fn r5_what_surrounds_the_threads_of_an_engine_may_fail() -> Result<(), Error> {
    type Life<'a> = &'a mut (dyn FnMut() + Send);
    let before: fn(Life<'_>) = |_| panic!("before its life");
    let after: fn(Life<'_>) = |life| {
        life();
        panic!("after its life");
    };
    let forgotten: fn(Life<'_>) = |_| ();
    let twice: fn(Life<'_>) = |life| {
        life();
        life();
    };
    for frame in [before, after, forgotten, twice] {
        for workers in [0, 1] {
            let engine = Engine::builder().workers(workers).around_threads(frame).build();
            let timer = engine.every(ms(1)).start(|| ())?;
            timer.wait_hits(3).block(LIMIT)?;
            timer.cancel().block(LIMIT)?;
            eventually("its threads have gone", || engine.stats().workers == 0);
            timer.start()?;
            timer.wait_more(3).block(LIMIT)?;
        }
    }
    Ok(())
}

/// Panics at what it is told, once it has been armed, at each call of this kind.
struct Touchy(Arc<AtomicUsize>);

impl Touchy {
    const CALLS: usize = 6;

    fn is_told(&self, call: usize) {
        assert_ne!(self.0.load(Ordering::SeqCst), call, "told too much");
    }
}

impl tracing::Subscriber for Touchy {
    /// What panics in here leaves a lock of tracing's poisoned, for all others too.
    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> tracing::subscriber::Interest {
        tracing::subscriber::Interest::sometimes()
    }
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        self.is_told(1);
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        self.is_told(2);
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.is_told(3);
    }
    fn enter(&self, _: &tracing::span::Id) {
        self.is_told(4);
    }
    fn exit(&self, _: &tracing::span::Id) {
        self.is_told(5);
    }
    fn try_close(&self, _: tracing::span::Id) -> bool {
        self.is_told(6);
        true
    }
}

#[test]
fn r5_who_listens_to_the_log_may_panic() -> Result<(), Error> {
    leave_nothing_unheard();
    for call in 1..=Touchy::CALLS {
        let (clock, armed) = (TestEngine::new(), Arc::new(AtomicUsize::new(0)));
        let _guard = tracing::subscriber::set_default(Touchy(armed.clone()));
        let every = || clock.engine().every(SECOND).fixed_rate().on_error(OnError::Continue);
        let plain = every().start(|| ())?;
        let fails = every().on_failure(|_| panic!("in on_failure")).start(|| Err::<(), _>("as planned"))?;
        let ends = every().max_runs(3).on_end(|_| panic!("in on_end")).start(|| 1)?;
        let fed = every().start(|| 1)?;
        let feed = fed.subscribe().bounded(1).open()?;
        clock.settle();
        armed.store(call, Ordering::SeqCst);
        clock.pass(5 * SECOND); // slots are missed
        clock.settle();
        for _ in 0..3 {
            clock.advance(SECOND);
        }
        assert_eq!((plain.hits(), fails.stats().failures, ends.hits(), feed.len()), (6, 6, 3, 1), "{call}");
        assert_eq!(plain.stats().skipped.total(), 3);
        assert!(!ends.is_running());
        drop((plain.cancel(), fails.cancel(), ends, fed, feed));
        clock.settle();
        assert!(!plain.is_running() && !fails.is_running());
        assert_eq!(clock.next_due(), None);
        armed.store(0, Ordering::SeqCst);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r5_who_listens_to_the_log_of_a_runtime_may_panic() -> Result<(), Error> {
    leave_nothing_unheard();
    for call in 1..=Touchy::CALLS {
        let armed = Arc::new(AtomicUsize::new(0));
        let _guard = tracing::subscriber::set_default(Touchy(armed.clone()));
        let group = Group::new();
        let plain = every(10).start(|| async {})?;
        let fails = every(10).on_error(OnError::Continue).start(|| Err::<(), _>("as planned"))?;
        let member = group.every(ms(10)).max_runs(3).start(|| 1)?;
        plain.wait_hits(1).await?;
        armed.store(call, Ordering::SeqCst);
        tokio::time::sleep(ms(95)).await;
        assert_eq!((plain.hits(), fails.stats().failures, member.hits()), (10, 10, 3), "{call}");
        assert_eq!(member.wait().await?, StopReason::MaxRuns);
        assert_eq!(plain.cancel().await, StopReason::Cancelled);
        assert_eq!(fails.cancel().await, StopReason::Cancelled);
        armed.store(0, Ordering::SeqCst);
    }
    Ok(())
}
