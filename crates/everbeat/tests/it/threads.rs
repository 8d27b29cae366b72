//! L12, S2, L4: one-shot timers and periodic tasks, in the place of chains of one-shot timers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use everbeat::testing::TestEngine;
use everbeat::thread::{self, Engine, PeriodicTask};
use everbeat::{Error, OnError, Scope, StopReason, Tick};

use crate::logs::Log;
use crate::support::{Gate, Journal, LIMIT, SECOND, eventually, ms};

#[test]
fn l12_a_one_shot_fires_once() -> Result<(), Error> {
    let clock = TestEngine::new();
    let calls = Journal::new();
    let log = calls.clone();
    let shot = clock.engine().after(SECOND * 5, move || {
        log.add("fired");
        42
    })?;
    clock.advance(ms(4_999));
    assert!(shot.is_pending() && calls.entries().is_empty());
    clock.advance(ms(1));
    assert_eq!(*shot.wait().block(LIMIT)?, 42);
    assert!(!shot.is_pending() && !shot.cancel());
    clock.advance(SECOND * 3600);
    assert_eq!(calls.entries(), ["fired"]);
    assert_eq!((clock.engine().stats().timers, clock.next_due()), (0, None));
    Ok(())
}

#[test]
fn l12_a_one_shot_can_be_called_off_until_it_fires() -> Result<(), Error> {
    let clock = TestEngine::new();
    let called = Journal::new();
    let make = |name| {
        let log = called.clone();
        clock.engine().after(SECOND, move || log.add(name))
    };
    let (cancelled, dropped, detached) = (make("cancelled")?, make("dropped")?, make("detached")?);
    clock.advance(ms(999));
    assert!(cancelled.cancel());
    assert!(!cancelled.cancel(), "the second cancel has not won anything");
    drop(dropped);
    detached.detach();
    clock.advance(SECOND * 2);
    assert_eq!(called.entries(), ["detached"]);
    let error = cancelled.wait().block(LIMIT).unwrap_err();
    assert!(matches!(error, Error::Stopped { reason: StopReason::Cancelled, .. }), "{error}");
    assert!(cancelled.fire_now().block(LIMIT).is_err());
    assert_eq!(called.entries().len(), 1);
    Ok(())
}

#[test]
fn l12_a_one_shot_can_fire_early_and_may_fail() -> Result<(), Error> {
    let clock = TestEngine::new();
    let shot = clock.engine().after(SECOND * 3600, || 7)?;
    let (early, again) = (shot.fire_now(), shot.fire_now());
    clock.settle();
    assert_eq!((*early.block(LIMIT)?, *again.block(LIMIT)?), (7, 7));
    assert_eq!(*shot.fire_now().block(LIMIT)?, 7, "it was made, and is not made again");
    let broken = clock.engine().after(SECOND, || Err::<(), _>("no"))?;
    let waiting = broken.wait();
    clock.advance(SECOND);
    for error in [waiting.block(LIMIT).unwrap_err(), broken.wait().block(LIMIT).unwrap_err()] {
        assert!(matches!(error, Error::Failed { .. }), "{error}");
    }
    assert!(!broken.cancel());
    Ok(())
}

#[test]
fn l12_a_cancel_takes_back_a_call_that_was_asked_for() -> Result<(), Error> {
    let clock = TestEngine::new();
    let shot = clock.engine().after(SECOND * 3600, || 7)?;
    let asked = shot.fire_now();
    assert!(shot.cancel());
    clock.settle();
    assert!(matches!(asked.block(LIMIT), Err(Error::Stopped { .. })));
    Ok(())
}

#[test]
fn l12_a_one_shot_is_called_off_from_inside_another() -> Result<(), Error> {
    let clock = TestEngine::new();
    let later = clock.engine().after(SECOND * 2, || ())?;
    let first = clock.engine().after(SECOND, move || later.cancel())?;
    clock.advance(SECOND * 3);
    assert!(*first.wait().block(LIMIT)?);
    Ok(())
}

#[test]
fn l12_a_one_shot_on_the_default_engine() -> Result<(), Error> {
    let start = Instant::now();
    let shot = thread::after(ms(20), move || start.elapsed())?;
    let waiting = shot.wait();
    let fired = *shot.wait().block(LIMIT)?;
    assert!(fired >= ms(20), "early: {fired:?}");
    assert_eq!(*waiting.block(LIMIT)?, fired);
    assert!(!shot.cancel());
    assert!(thread::after(LIMIT * 100, || ())?.cancel());
    Ok(())
}

#[test]
fn s2_repetition_needs_no_chain() -> Result<(), Error> {
    let clock = TestEngine::new();
    let starts = Journal::new();
    let (log, time) = (starts.clone(), clock.clone());
    let timer = thread::every(SECOND * 5).on(&clock).start(move |tick: Tick| {
        log.add(time.elapsed().as_secs());
        time.pass(ms(1_000 * (tick.run % 2)));
    })?;
    clock.advance(SECOND * 23);
    assert_eq!(starts.entries(), [0, 6, 11, 17, 22], "five seconds after the end of the run before");
    timer.cancel().block(LIMIT)?;
    clock.advance(SECOND * 100);
    assert_eq!(starts.entries().len(), 5);
    Ok(())
}

/// A task as [`PeriodicTask::new`] makes it, in virtual time.
fn task(
    clock: &TestEngine,
    secs: u64,
    target: impl FnMut(Tick) -> Result<(), &'static str> + Send + 'static,
) -> Result<PeriodicTask<()>, Error> {
    let interval = Duration::from_secs(secs);
    let builder = clock.engine().every(interval).initial_delay(interval).on_error(OnError::Continue);
    PeriodicTask::of(builder.name("task"), target)
}

#[test]
fn s2_a_periodic_task_counts_from_the_end_of_each_call() -> Result<(), Error> {
    let clock = TestEngine::new();
    let starts = Journal::new();
    let (log, time) = (starts.clone(), clock.clone());
    let task = task(&clock, 10, move |_| {
        log.add(time.elapsed().as_secs());
        time.pass(SECOND * 3);
        Ok(())
    })?;
    clock.advance(SECOND * 100);
    assert!(starts.entries().is_empty() && !task.is_running(), "it was not started");
    task.start()?;
    clock.advance(ms(9_999));
    assert!(starts.entries().is_empty(), "the first call comes after an interval");
    clock.advance(SECOND * 30);
    assert_eq!(starts.entries(), [110, 123, 136]);
    Ok(())
}

#[test]
fn r3_a_periodic_task_logs_a_failing_call_and_goes_on() -> Result<(), Error> {
    let (log, _guard) = Log::capture();
    let clock = TestEngine::new();
    let task = task(&clock, 1, |tick| match tick.run {
        1 => Err("as planned"),
        2 => panic!("at the second"),
        _ => Ok(()),
    })?;
    task.start()?;
    clock.advance(SECOND * 4);
    assert_eq!((task.timer().stats().failures, task.timer().hits()), (2, 2));
    let lines = log.lines("run failed");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("timer=task") && lines[0].contains("as planned"), "{lines:?}");
    assert!(lines[1].contains("timer=task") && lines[1].contains("at the second"), "{lines:?}");
    Ok(())
}

#[test]
fn l1_l7_a_periodic_task_starts_once_and_again_after_a_stop() -> Result<(), Error> {
    let clock = TestEngine::new();
    let calls = Arc::new(AtomicU64::new(0));
    let count = calls.clone();
    let task = task(&clock, 10, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    })?;
    task.start()?;
    clock.advance(SECOND * 6);
    task.start()?;
    clock.advance(SECOND * 4);
    assert_eq!(calls.load(Ordering::SeqCst), 1, "the second start changed nothing");
    clock.advance(SECOND * 5);
    task.stop();
    task.stop();
    assert!(!task.is_running());
    clock.advance(SECOND * 100);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    task.start()?;
    clock.advance(SECOND * 10);
    assert_eq!(calls.load(Ordering::SeqCst), 2, "an interval after the restart");
    drop(task);
    clock.advance(SECOND * 100);
    assert_eq!((calls.load(Ordering::SeqCst), clock.engine().stats().timers), (2, 0));
    Ok(())
}

#[test]
fn l4_stop_waits_for_the_call_in_flight() -> Result<(), Error> {
    let (entered, gate, finished) = (Gate::default(), Gate::default(), Gate::default());
    let (inside, wall, done) = (entered.clone(), gate.clone(), finished.clone());
    let task = PeriodicTask::new(ms(1), move || {
        inside.open();
        wall.pass();
        std::thread::sleep(ms(20));
        done.open();
    })?;
    task.start()?;
    entered.pass();
    let error = task.stop_within(ms(5)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(task.is_running(), "its last call is in flight");
    gate.open();
    task.stop();
    assert!(!task.is_running());
    finished.pass();
    let runs = task.timer().stats().runs;
    std::thread::sleep(ms(20));
    assert_eq!(task.timer().stats().runs, runs);
    Ok(())
}

#[test]
fn l4_start_after_a_stop_that_did_not_wait() -> Result<(), Error> {
    let (entered, gate) = (Gate::default(), Gate::default());
    let (inside, wall) = (entered.clone(), gate.clone());
    let task = PeriodicTask::new(ms(1), move || {
        inside.open();
        wall.pass();
    })?;
    task.start()?;
    entered.pass();
    task.timer().request_stop();
    let opener = std::thread::spawn(move || {
        std::thread::sleep(ms(10));
        gate.open();
    });
    task.start()?; // waits for the call in flight, then begins anew
    opener.join().unwrap();
    task.timer().wait_more(2).block(LIMIT)?;
    task.stop();
    Ok(())
}

/// What ends with its session.
struct Session {
    timers: Scope,
    engine: Engine,
    keeps_alive: Arc<AtomicU64>,
}

impl Session {
    fn open(clock: &TestEngine) -> Result<Self, Error> {
        let session =
            Self { timers: Scope::new(), engine: clock.engine().clone(), keeps_alive: Arc::default() };
        let count = session.keeps_alive.clone();
        let builder = session.engine.every(SECOND * 30).tied_to(&session.timers).name("keep-alive");
        let _ = builder.start(move || count.fetch_add(1, Ordering::SeqCst))?; // the scope keeps it
        Ok(session)
    }

    fn remind(&self, after: Duration, log: Journal<&'static str>) -> Result<(), Error> {
        let shot = self.engine.after(after, move || log.add("reminded"))?;
        self.timers.tie(shot.as_timer());
        Ok(())
    }
}

#[test]
fn l10_a_session_owns_its_timers_and_ends_them() -> Result<(), Error> {
    let clock = TestEngine::new();
    let reminders = Journal::new();
    let (closed, dropped) = (Session::open(&clock)?, Session::open(&clock)?);
    for session in [&closed, &dropped] {
        session.remind(SECOND * 100, reminders.clone())?;
        session.remind(SECOND * 1_000, reminders.clone())?;
    }
    clock.advance(SECOND * 110);
    assert_eq!(closed.keeps_alive.load(Ordering::SeqCst), 4);
    assert_eq!(reminders.entries().len(), 2);
    assert_eq!(closed.timers.active().len(), 2);
    let report = closed.timers.close(SECOND);
    assert!(report.left.is_empty() && closed.timers.active().is_empty(), "{report:?}");
    let kept = dropped.keeps_alive.clone();
    drop(dropped);
    clock.advance(SECOND * 10_000);
    assert_eq!(clock.engine().stats().timers, 0);
    assert_eq!((closed.keeps_alive.load(Ordering::SeqCst), kept.load(Ordering::SeqCst)), (4, 4));
    assert_eq!(reminders.entries().len(), 2);
    Ok(())
}

#[test]
fn l8_a_task_that_is_dropped_stops() -> Result<(), Error> {
    let alive = Arc::new(());
    let held = alive.clone();
    let task = PeriodicTask::new(ms(1), move || Arc::strong_count(&held))?;
    task.start()?;
    task.timer().wait_hits(2).block(LIMIT)?;
    drop(task);
    eventually("its target is dropped", || Arc::strong_count(&alive) == 1);
    Ok(())
}
