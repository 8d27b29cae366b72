//! L10: timers end with what they belong to.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use everbeat::testing::TestEngine;
use everbeat::thread::{self, Engine, Precision};
use everbeat::{Error, Group, Scope, StopReason, Tick, Timer};

use crate::support::{Gate, Journal, LIMIT, SECOND, eventually, ms, much};
use crate::thread_support::HOUR;

#[test]
fn l10_closing_ends_every_timer_and_says_how() -> Result<(), Error> {
    let clock = TestEngine::new();
    let scope = Scope::new();
    let ends = Journal::new();
    let mut timers = Vec::new();
    for name in ["a", "b"] {
        let log = ends.clone();
        let builder = clock.engine().every(SECOND).tied_to(&scope).name(name);
        timers.push(builder.on_end(move |reason| log.add((name, reason))).start(|| ())?);
    }
    let ended = clock.engine().every(SECOND).tied_to(&scope).max_runs(1).start(|| ())?;
    clock.advance(SECOND * 3);
    assert_eq!(scope.active().len(), 2);
    let report = std::thread::scope(|threads| {
        let closing = threads.spawn(|| scope.close(LIMIT));
        while !closing.is_finished() {
            clock.settle(); // the callbacks are called where the engine lives
        }
        closing.join().unwrap()
    });
    assert_eq!((report.drained, report.cancelled, report.left.len()), (3, 0, 0));
    assert_eq!(ends.entries(), [("a", StopReason::Drained), ("b", StopReason::Drained)]);
    clock.advance(SECOND * 10);
    assert_eq!((timers[0].hits(), timers[1].hits(), ended.hits()), (4, 4, 1));
    assert!(scope.is_closed() && scope.active().is_empty());
    Ok(())
}

#[test]
fn l10_the_last_clone_takes_the_timers_with_it() -> Result<(), Error> {
    let clock = TestEngine::new();
    let (scope, alive) = (Scope::new(), Arc::new(()));
    let held = alive.clone();
    let timer = clock.engine().every(SECOND).tied_to(&scope).start(move || Arc::strong_count(&held))?;
    timer.detach();
    let clone = scope.clone();
    drop(scope);
    clock.advance(SECOND);
    assert_eq!(clone.active().len(), 1);
    drop(clone);
    clock.settle();
    assert_eq!((clock.engine().stats().timers, Arc::strong_count(&alive)), (0, 1));
    Ok(())
}

#[test]
fn l10_a_run_that_does_not_return_is_reported_and_holds_nobody_up() -> Result<(), Error> {
    let engine = Engine::builder().workers(2).build();
    let scope = Scope::new();
    let (entered, gate) = (Gate::default(), Gate::default());
    let (inside, wall) = (entered.clone(), gate.clone());
    let hung = engine.every(ms(1)).tied_to(&scope).name("hung").start(move || {
        inside.open();
        wall.pass();
    })?;
    for _ in 0..20 {
        drop(engine.every(ms(1)).tied_to(&scope).start(|| ())?);
    }
    entered.pass();
    let error = hung.shutdown(ms(1)).block(ms(20)).unwrap_err();
    assert!(matches!(&error, Error::Timeout { name, .. } if *name == "hung"), "{error}");
    let report = scope.close(ms(10));
    assert_eq!(report.left.iter().map(ToString::to_string).collect::<Vec<_>>(), ["hung"]);
    assert_eq!(report.drained + report.cancelled, 20);
    assert_eq!(scope.close(ms(1)).left.len(), 1, "it is still there");
    gate.open();
    hung.wait().block(LIMIT)?;
    let report = scope.close(LIMIT);
    assert!(report.left.is_empty(), "{report:?}");
    assert_eq!(hung.stats().runs, 1);
    Ok(())
}

#[test]
fn l10_many_runs_that_do_not_return_are_waited_for_together() -> Result<(), Error> {
    let engine = Engine::builder().workers(40).build();
    let scope = Scope::new();
    let gate = Gate::default();
    let inside = Arc::new(AtomicUsize::new(0));
    for _ in 0..40 {
        let (wall, count) = (gate.clone(), inside.clone());
        let timer = engine.every(SECOND).tied_to(&scope).start(move || {
            count.fetch_add(1, Ordering::SeqCst);
            wall.pass();
        });
        drop(timer?);
    }
    eventually("all run", || inside.load(Ordering::SeqCst) == 40);
    let start = Instant::now();
    assert_eq!(scope.close(Duration::ZERO).left.len(), 40);
    let took = start.elapsed();
    gate.open();
    assert!(scope.close(LIMIT).left.is_empty());
    assert!(took < Duration::from_secs(3), "each of them was given its own time: {took:?}");
    Ok(())
}

#[test]
fn l5_a_run_may_close_the_scope_of_its_own_timer() -> Result<(), Error> {
    for inline in [false, true] {
        let scope = Scope::new();
        let engine = Engine::builder().precision(Precision::Fine).build();
        let make = || {
            let builder = engine.every(ms(1)).tied_to(&scope);
            if inline { builder.inline() } else { builder }
        };
        let others: Vec<_> = (0..3).map(|_| make().start(|| ())).collect::<Result<_, _>>()?;
        let with_callback = make().on_end(|_| ()).start(|| ())?;
        for other in &others {
            other.wait_hits(2).block(LIMIT)?;
        }
        let inner = scope.clone();
        let closer = make().start(move || {
            let start = Instant::now();
            let report = inner.close(LIMIT);
            (report.drained, start.elapsed() < LIMIT)
        })?;
        closer.wait().block(LIMIT)?;
        with_callback.wait().block(LIMIT)?;
        let (drained, at_once) = *closer.latest().unwrap();
        assert!(drained >= 4 && at_once, "{drained}");
        for other in &others {
            // The thread of its timers announces their ends when it gets to them.
            assert!(inline || !other.is_running());
            other.wait().block(LIMIT)?;
        }
    }
    Ok(())
}

#[test]
fn l10_timers_of_a_closed_scope_let_go_of_their_targets() -> Result<(), Error> {
    let clock = TestEngine::new();
    let scope = Scope::new();
    let owned = Arc::new(());
    let make = || {
        let owned = (owned.clone(), scope.clone());
        thread::every(HOUR).on(&clock).tied_to(&scope).build(move |tick: Tick| {
            if tick.run == 2 {
                black_box(&owned).1.cancel();
            }
            tick.run
        })
    };
    let (waits, ended, never_started, closes) = (make()?, make()?, make()?, make()?);
    closes.start()?;
    clock.settle();
    waits.start()?;
    ended.start()?;
    clock.settle();
    drop(ended.cancel());
    clock.settle();
    assert_eq!(Arc::strong_count(&owned), 5);
    clock.advance(HOUR);
    assert!(!waits.is_running() && !closes.is_running());
    assert_eq!((waits.hits(), ended.hits(), closes.hits()), (1, 1, 2));
    assert_eq!(Arc::strong_count(&owned), 1);
    for timer in [waits, ended, never_started, closes] {
        assert!(matches!(timer.start(), Err(Error::ScopeClosed { .. })));
    }
    Ok(())
}

#[test]
fn l10_whoever_closes_a_scope_waits_for_its_end() -> Result<(), Error> {
    let engine = Engine::builder().precision(Precision::Fine).build();
    for _ in 0..much(200) {
        let scope = Scope::new();
        let inside = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let count = inside.clone();
            let timer = engine.every(Duration::from_micros(5)).tied_to(&scope).start(move || {
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::yield_now();
                count.fetch_sub(1, Ordering::SeqCst);
            })?;
            drop(timer);
        }
        std::thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    assert!(scope.close(LIMIT).left.is_empty());
                    assert_eq!(inside.load(Ordering::SeqCst), 0);
                    assert!(scope.active().is_empty());
                });
            }
        });
        eventually("the engine has let go of them", || engine.stats().timers == 0);
    }
    Ok(())
}

#[test]
fn l10_a_scope_that_is_closed_while_timers_come_ends_them_all() -> Result<(), Error> {
    let engine = Engine::builder().precision(Precision::Fine).build();
    for round in 0..u64::from(much(100)) {
        let scope = Scope::new();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                while !scope.is_closed() {
                    let timer = engine.every(LIMIT).initial_delay(LIMIT).start(|| ()).unwrap();
                    scope.tie(timer);
                }
            });
            std::thread::sleep(Duration::from_micros(round * 7));
            scope.cancel();
        });
        eventually("all have ended", || engine.stats().timers == 0);
    }
    Ok(())
}

#[test]
fn l10_timers_that_have_ended_are_forgotten() -> Result<(), Error> {
    let clock = TestEngine::new();
    let scope = Scope::new();
    let alive = Arc::new(());
    for round in 0..much(10_000) {
        let held = alive.clone();
        let shot = clock.engine().after(SECOND, move || Arc::strong_count(&held))?;
        scope.tie(shot.as_timer());
        drop(shot);
        let held = alive.clone();
        let once = clock.engine().every(SECOND).max_runs(1).tied_to(&scope);
        let once = once.start(move || Arc::strong_count(&held))?;
        if round % 2 == 0 {
            once.detach();
        }
        clock.advance(SECOND);
    }
    assert!(Arc::strong_count(&alive) < 100, "{}", Arc::strong_count(&alive));
    assert!(format!("{scope:?}").contains("closed: false"));
    Ok(())
}

#[test]
fn l10_a_closed_scope_cancels_what_is_tied_to_it() -> Result<(), Error> {
    let clock = TestEngine::new();
    let scope = Scope::new();
    scope.cancel();
    let timer = clock.engine().every(SECOND).start(|| ())?;
    scope.tie(&timer);
    clock.advance(SECOND * 5);
    assert_eq!((timer.hits(), timer.is_running()), (0, false));
    Ok(())
}

#[tokio::test]
async fn l10_a_scope_ends_timers_of_both_kinds() -> Result<(), Error> {
    let scope = Scope::new();
    let hits = Arc::new(AtomicU64::new(0));
    let count = hits.clone();
    let on_tokio = Timer::every(ms(1)).tied_to(&scope).start(move || {
        count.fetch_add(1, Ordering::SeqCst);
        async { tokio::time::sleep(ms(1)).await }
    })?;
    let on_threads = thread::every(ms(1)).tied_to(&scope).start(|| ())?;
    on_tokio.wait_hits(2).await?;
    on_threads.wait_hits(2).await?;
    let closing = scope.clone();
    let report = tokio::task::spawn_blocking(move || closing.close(LIMIT)).await.unwrap();
    assert_eq!((report.drained, report.left.len()), (2, 0));
    let (before, runs) = (hits.load(Ordering::SeqCst), on_threads.stats().runs);
    tokio::time::sleep(ms(20)).await;
    assert_eq!((hits.load(Ordering::SeqCst), on_threads.stats().runs), (before, runs));
    assert!(!on_tokio.is_running() && !on_threads.is_running());
    Ok(())
}

#[tokio::test]
async fn l10_a_scope_closed_on_the_thread_of_its_timers_does_not_wait() -> Result<(), Error> {
    for grace in [LIMIT, Duration::ZERO] {
        let scope = Scope::new();
        let timer = Timer::every(ms(1)).tied_to(&scope).name("here").start(|| ())?;
        timer.wait_hits(1).await?;
        let report = scope.close(grace);
        // No run is in flight, and none will be: its end is announced as soon as this thread lets it.
        assert_eq!((report.drained, report.left.len()), (1, 0));
        assert_eq!(timer.wait().await?, StopReason::Drained);
    }
    Ok(())
}

#[test]
fn l10_a_closed_scope_lets_no_timer_start() -> Result<(), Error> {
    let clock = TestEngine::new();
    let scope = Scope::new();
    let early = clock.engine().every(SECOND).tied_to(&scope).name("early").build(|| ())?;
    early.start()?;
    clock.advance(SECOND);
    early.cancel().block(LIMIT)?;
    early.start()?; // while the scope is open a timer may be started again
    let built = clock.engine().every(SECOND).tied_to(&scope).build(|| ())?;
    scope.cancel();
    let refused = |started: Result<(), Error>| matches!(started, Err(Error::ScopeClosed { .. }));
    assert!(refused(early.start()) && refused(built.start()));
    assert!(refused(clock.engine().every(SECOND).tied_to(&scope).start(|| ()).map(drop)));
    clock.advance(SECOND * 5);
    assert_eq!((early.hits(), built.hits(), clock.engine().stats().timers), (2, 0, 0));
    assert_eq!(early.start().unwrap_err().to_string(), "timer `early` belongs to a scope that is closed");
    Ok(())
}

#[test]
fn l10_a_timer_that_may_start_again_is_not_forgotten() -> Result<(), Error> {
    let clock = TestEngine::new();
    let scope = Scope::new();
    let timer = clock.engine().every(SECOND).tied_to(&scope).start(|| ())?;
    timer.cancel().block(LIMIT)?;
    for _ in 0..much(200) {
        clock.engine().every(SECOND).tied_to(&scope).max_runs(1).start(|| ())?.detach();
        clock.settle();
    }
    timer.start()?;
    assert_eq!(scope.active().len(), 1, "tied, and running again");
    drop(scope);
    assert!(!timer.is_running(), "it has outlived its scope");
    Ok(())
}

#[test]
fn l10_a_failed_start_leaves_nothing_in_the_scope() {
    let (engine, scope) = (Engine::new(), Scope::new());
    assert_eq!(engine.close(Duration::ZERO), 0);
    for _ in 0..much(500) {
        assert!(engine.every(SECOND).tied_to(&scope).start(|| ()).is_err());
    }
    assert!(format!("{scope:?}").contains("timers: 0"), "{scope:?}");
}

#[test]
fn l10_closing_counts_the_runs_that_were_given_up() -> Result<(), Error> {
    let engine = Engine::builder().workers(1).build();
    let scope = Scope::new();
    let entered = Gate::default();
    let inside = entered.clone();
    let endless = engine.every(SECOND).tied_to(&scope).start(move || {
        inside.open();
        std::future::pending::<()>()
    })?;
    entered.pass();
    let report = scope.close(ms(1));
    assert_eq!((report.drained, report.cancelled, report.left.len()), (0, 1, 0));
    assert_eq!(endless.wait().block(LIMIT)?, StopReason::GraceExpired);
    Ok(())
}

#[test]
fn l10_a_timer_that_is_tied_twice_counts_once() -> Result<(), Error> {
    let clock = TestEngine::new();
    let scope = Scope::new();
    let timer = clock.engine().every(SECOND).tied_to(&scope).build(|| ())?;
    let lean = clock.engine().every(SECOND).start(|| ())?;
    for tied in [&timer, &lean, &timer, &lean] {
        scope.tie(tied);
    }
    timer.start()?;
    assert_eq!(scope.active().len(), 2, "{:?}", scope.active());
    assert_eq!(scope.close(Duration::ZERO).drained, 2);
    assert!(scope.active().is_empty() && !lean.is_running());
    Ok(())
}

#[test]
fn l10_ticks_that_are_tied_to_a_scope_end_with_it() -> Result<(), Error> {
    let (clock, scope) = (TestEngine::new(), Scope::new());
    let tied = || thread::every(SECOND).on(&clock).tied_to(&scope);
    let (mut ticks, dropped) = (tied().ticks()?, tied().ticks()?);
    assert!(ticks.next_blocking(SECOND)?.is_some());
    drop(dropped);
    assert_eq!(scope.active().len(), 1);
    assert!(scope.close(SECOND).left.is_empty());
    assert!(ticks.next_blocking(SECOND)?.is_none());
    assert!(matches!(tied().ticks(), Err(Error::ScopeClosed { .. })));
    Ok(())
}

#[test]
fn l10_timers_that_were_never_started_are_forgotten() -> Result<(), Error> {
    let scope = Scope::new();
    let alive = Arc::new(());
    let make = || {
        let held = alive.clone();
        thread::every(SECOND).tied_to(&scope).build(move || drop(held.clone()))
    };
    let kept = make()?;
    (0..1_000).try_for_each(|_| make().map(drop))?;
    assert!(Arc::strong_count(&alive) < 100, "{}", Arc::strong_count(&alive));
    kept.start()?;
    assert!(scope.close(LIMIT).left.is_empty());
    Ok(())
}

#[test]
fn l10_a_member_that_cannot_be_started_leaves_nothing_in_the_scope() -> Result<(), Error> {
    let (scope, group, alive) = (Scope::new(), Group::new(), Arc::new(()));
    group.start()?;
    let held = alive.clone();
    let refused = group.every(SECOND).tied_to(&scope).build(move || drop(held.clone()));
    assert!(matches!(refused, Err(Error::NoRuntime { .. })) && group.is_empty());
    assert_eq!(Arc::strong_count(&alive), 1);
    Ok(())
}
