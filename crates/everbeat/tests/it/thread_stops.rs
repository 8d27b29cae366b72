//! L3, L5, L8, L9: timers on threads that are controlled from inside and from outside.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everbeat::testing::TestEngine;
use everbeat::thread::{self, Engine, PeriodicTask, Precision};
use everbeat::{Builder, Error, Group, OnError, Shutdown, StopReason, Tick, Timer, WeakTimer};

use crate::support::{Gate, Journal, LIMIT, SECOND, eventually, ms};

/// A place where a target finds its own timer.
type Own<V> = Arc<Mutex<Option<WeakTimer<V>>>>;

fn own<V: Send + Sync + 'static>(place: &Own<V>) -> Timer<V> {
    eventually("the timer is known to its target", || place.lock().unwrap().is_some());
    place.lock().unwrap().as_ref().unwrap().upgrade().unwrap()
}

/// Timers whose runs are pooled and inline, each on an engine of its own.
fn both() -> [Builder; 2] {
    let engine = || Engine::builder().precision(Precision::Fine).build();
    [engine().every(ms(1)), engine().every(ms(1)).inline()]
}

#[test]
fn l5_a_run_on_a_thread_may_call_anything_on_its_own_timer() -> Result<(), Error> {
    for builder in both() {
        let place: Own<String> = Own::default();
        let me = place.clone();
        let timer = builder.start(move |tick: Tick| {
            let me = own(&me);
            let waits = [me.trigger().block(LIMIT).map(drop), me.join().block(LIMIT).map(drop)];
            let refused = |wait: &Result<(), Error>| matches!(wait, Err(Error::InsideRun { .. }));
            let mut told = format!("{} ", waits.iter().all(refused));
            told += &format!("{} ", refused(&me.wait_more(2).block(LIMIT)));
            told += &format!("{} ", refused(&me.wait().block(LIMIT).map(drop)));
            told += &format!("{:?} ", me.wait_at_most_blocking(ms(1)).is_err());
            told += &format!("{:?} ", matches!(me.start(), Err(Error::AlreadyRunning { .. })));
            me.set_period(ms(2));
            me.rearm(ms(3));
            me.pause();
            me.resume();
            let stats = me.stats();
            told + &format!("{} {} {}", stats.busy, stats.running, stats.runs == tick.run)
        })?;
        *place.lock().unwrap() = Some(timer.downgrade());
        let told = timer.join().block(LIMIT)?;
        assert_eq!(*told, "true true true true true true true true");
        timer.wait_more(2).block(LIMIT)?;
        timer.cancel().block(LIMIT)?;
        assert_eq!(timer.period(), ms(3));
    }
    Ok(())
}

#[test]
fn l5_a_run_on_a_thread_may_stop_its_own_timer() -> Result<(), Error> {
    let stop = |how: &str, me: &Timer<u64>| match how {
        "cancel" => format!("{:?}", me.cancel().block(LIMIT).unwrap()),
        "shutdown" => format!("{:?}", me.shutdown(LIMIT).block(LIMIT).unwrap()),
        _ => format!("{:?}", me.request_stop()),
    };
    for (how, answer, reason) in [
        ("cancel", "Cancelled", StopReason::Cancelled),
        ("shutdown", "Drained", StopReason::Drained),
        ("request_stop", "()", StopReason::Drained),
    ] {
        for builder in both() {
            let place: Own<u64> = Own::default();
            let answers = Journal::new();
            let (me, log) = (place.clone(), answers.clone());
            let timer = builder.start(move |tick: Tick| {
                let me = own(&me);
                if tick.run >= 3 {
                    log.add(stop(how, &me));
                    drop(me.trigger());
                }
                tick.run
            })?;
            *place.lock().unwrap() = Some(timer.downgrade());
            assert_eq!(timer.wait().block(LIMIT)?, reason);
            assert_eq!((answers.entries(), timer.stats().runs), (vec![answer.to_owned()], 3));
            assert_eq!(timer.cancel().block(LIMIT)?, reason);
        }
    }
    Ok(())
}

#[test]
fn l5_the_callbacks_of_a_timer_on_threads_may_call_anything() -> Result<(), Error> {
    for builder in both() {
        let place: Own<()> = Own::default();
        let told = Journal::new();
        let (failing, ending) = (place.clone(), place.clone());
        let (failures, ends) = (told.clone(), told.clone());
        let timer = builder
            .on_error(OnError::Continue)
            .on_failure(move |_| {
                let me = own(&failing);
                let refused = matches!(me.join().block(LIMIT), Err(Error::InsideRun { .. }));
                failures.add(format!("failure {refused} {:?}", me.shutdown(LIMIT).block(LIMIT).unwrap()));
            })
            .on_end(move |reason| {
                let me = own(&ending);
                let refused = matches!(me.start(), Err(Error::AlreadyRunning { .. }));
                ends.add(format!("end {refused} {reason:?} {:?}", me.cancel().block(LIMIT).unwrap()));
            })
            .start(|| Err::<(), _>("as planned"))?;
        *place.lock().unwrap() = Some(timer.downgrade());
        assert_eq!(timer.wait().block(LIMIT)?, StopReason::Drained);
        assert_eq!(told.entries(), ["failure true Drained", "end true Drained Drained"]);
    }
    Ok(())
}

#[test]
fn l5_a_periodic_task_may_stop_and_start_itself() -> Result<(), Error> {
    for builder in both() {
        let place: Arc<Mutex<Option<Arc<PeriodicTask<()>>>>> = Arc::default();
        let told = Journal::new();
        let (me, log) = (place.clone(), told.clone());
        let task = Arc::new(PeriodicTask::of(builder, move |_: Tick| {
            let me = me.lock().unwrap().clone().unwrap();
            log.add(me.start().is_ok());
            me.stop();
            log.add(matches!(me.start(), Err(Error::InsideRun { .. })));
            log.add(me.stop_within(LIMIT).is_ok());
        })?);
        *place.lock().unwrap() = Some(task.clone());
        task.start()?;
        task.timer().wait().block(LIMIT)?;
        assert_eq!((told.entries(), task.timer().stats().runs), (vec![true; 3], 1));
        task.start()?;
        task.timer().wait().block(LIMIT)?;
        assert_eq!(told.entries(), vec![true; 6]);
        *place.lock().unwrap() = None;
    }
    Ok(())
}

/// What a stop waits for may need the thread that the stop is called on.
#[test]
fn l5_an_inline_run_may_stop_and_start_another_task_of_its_engine() -> Result<(), Error> {
    let engine = Engine::builder().precision(Precision::Fine).build();
    let ended = Gate::default();
    let end = ended.clone();
    let builder = engine.every(ms(1)).inline().on_end(move |_| end.open());
    let task = Arc::new(PeriodicTask::of(builder, || ())?);
    task.start()?;
    task.timer().wait_hits(2).block(LIMIT)?;
    let other = task.clone();
    let stopper = engine.every(ms(1)).inline().max_runs(1).start(move || {
        other.stop();
        let runs = other.timer().stats().runs;
        let refused = other.start();
        let within = other.stop_within(LIMIT);
        (other.timer().stats().runs == runs, format!("{refused:?} {within:?}"))
    })?;
    stopper.wait().block(LIMIT)?;
    let (none_began, answers) = stopper.latest().unwrap().as_ref().clone();
    assert!(none_began);
    assert_eq!(answers.matches("ThreadsafeDispatch").count(), 2, "{answers}");
    ended.pass();
    task.stop();
    task.start()?;
    task.timer().wait_more(1).block(LIMIT)?;
    task.stop();
    Ok(())
}

#[test]
fn l8_the_last_handle_may_go_inside_the_run() -> Result<(), Error> {
    for builder in both() {
        let (ended, runs) = (Gate::default(), Journal::new());
        let place: Arc<Mutex<Option<Timer<()>>>> = Arc::default();
        let (end, log, only) = (ended.clone(), runs.clone(), place.clone());
        let builder = builder.on_end(move |reason| {
            assert_eq!(reason, StopReason::Dropped);
            end.open();
        });
        let timer = builder.start(move |tick: Tick| {
            eventually("the handle is here", || only.lock().unwrap().is_some());
            log.add(tick.run);
            drop(only.lock().unwrap().take());
        })?;
        let weak = timer.downgrade();
        *place.lock().unwrap() = Some(timer);
        ended.pass();
        assert!(weak.upgrade().is_none());
        assert_eq!(runs.entries(), [1]);
    }
    Ok(())
}

#[test]
fn l9_blocking_on_the_thread_that_keeps_the_time_is_refused() -> Result<(), Error> {
    let engine = Engine::builder().precision(Precision::Fine).build();
    let other = engine.every(ms(1)).name("other").start(|| ())?;
    let handle = other.clone();
    let inline = engine.every(ms(1)).inline().start(move || {
        matches!(handle.wait_more(1_000_000).block(LIMIT), Err(Error::ThreadsafeDispatch { .. }))
    })?;
    assert!(*inline.join().block(LIMIT)?);
    // A worker may wait for others as long as there are more workers.
    let pooled = engine.every(ms(1)).start(move || other.wait_more(1).block(LIMIT).is_ok())?;
    assert!(*pooled.join().block(LIMIT)?);
    Ok(())
}

#[test]
fn l3_shutdown_on_threads_tells_which_of_the_two_it_was() -> Result<(), Error> {
    let clock = TestEngine::new();
    let pending = || std::future::pending::<()>();
    let slow = clock.engine().every(SECOND).start(pending)?;
    let quick = clock.engine().every(SECOND).start(|| ())?;
    clock.advance(ms(1_500));
    let (given_up, drained) = (slow.shutdown(SECOND * 3), quick.shutdown(SECOND));
    clock.advance(ms(2_999));
    assert!(slow.is_running() && !quick.is_running());
    clock.advance(ms(1));
    assert_eq!(given_up.block(LIMIT)?, Shutdown::Cancelled);
    assert_eq!(drained.block(LIMIT)?, Shutdown::Drained);
    assert_eq!(slow.wait().block(LIMIT)?, StopReason::GraceExpired);
    Ok(())
}

#[test]
fn l3_a_sync_run_that_takes_longer_than_its_grace_is_not_drained() -> Result<(), Error> {
    let clock = TestEngine::new();
    for (grace, fails, how) in
        [(1, false, Shutdown::Cancelled), (2, false, Shutdown::Drained), (1, true, Shutdown::Failed)]
    {
        let hand = clock.clone();
        let timer = thread::every(SECOND).on(&clock).start(move || {
            drop(everbeat::current().expect("it runs").shutdown(SECOND * grace));
            hand.pass(SECOND * 2);
            if fails { Err("too late") } else { Ok(()) }
        })?;
        clock.settle();
        assert_eq!(timer.shutdown(SECOND).block(LIMIT)?, how, "{grace} {fails}");
        assert_eq!(timer.stats().failures, u64::from(fails));
    }
    Ok(())
}

#[test]
fn l2_a_cancel_on_threads_gives_an_async_run_up_at_its_await() -> Result<(), Error> {
    let clock = TestEngine::new();
    let dropped = Arc::new(());
    let held = dropped.clone();
    let timer = clock.engine().every(SECOND).start(move || {
        let held = held.clone();
        async move {
            std::future::pending::<()>().await;
            drop(held);
        }
    })?;
    clock.settle();
    assert_eq!(Arc::strong_count(&dropped), 3);
    let cancel = timer.cancel();
    clock.settle();
    assert_eq!(cancel.block(LIMIT)?, StopReason::Cancelled);
    assert_eq!((Arc::strong_count(&dropped), timer.hits()), (2, 0));
    Ok(())
}

#[test]
fn l3_a_run_that_does_not_return_is_named_and_nothing_hangs() -> Result<(), Error> {
    let (entered, gate) = (Gate::default(), Gate::default());
    let (inside, wall) = (entered.clone(), gate.clone());
    let neighbour = thread::every(ms(1)).start(|| ())?;
    let hung = thread::every(ms(1)).name("hung").start(move || {
        inside.open();
        wall.pass();
    })?;
    entered.pass();
    for error in [
        hung.shutdown(ms(5)).block(ms(20)).unwrap_err(),
        hung.cancel().block(ms(5)).unwrap_err(),
        hung.wait().block(ms(5)).unwrap_err(),
    ] {
        assert!(matches!(&error, Error::Timeout { name, .. } if *name == "hung"), "{error}");
    }
    assert_eq!(hung.wait_at_most_blocking(ms(5))?, None);
    neighbour.wait_more(3).block(LIMIT)?;
    gate.open();
    assert_eq!(hung.wait().block(LIMIT)?, StopReason::Cancelled);
    assert_eq!(hung.stats().runs, 1);
    Ok(())
}

#[tokio::test]
async fn g1_a_group_of_timers_on_tokio_and_on_threads() -> Result<(), Error> {
    let group = Group::named("both");
    let failed = Arc::new(AtomicBool::new(false));
    group.add(Timer::every(ms(1)).name("tokio").build(|| async { 1_u8 })?)?;
    group.add(thread::every(ms(1)).name("thread").build(|| "two")?)?;
    group.add(thread::every(ms(1)).name("inline").inline().build(|| 3_u64)?)?;
    group.start()?;
    assert!(group.is_running() && !failed.load(Ordering::SeqCst));
    group.wait_hits(3).await.all()?;
    let values = group.trigger().await.all()?;
    let names: Vec<_> = values.iter().map(|(timer, _)| timer.name().to_string()).collect();
    assert_eq!(names, ["tokio", "thread", "inline"]);
    assert_eq!(values[0].1.downcast_ref(), Some(&1_u8));
    assert_eq!(values[1].1.downcast_ref(), Some(&"two"));
    assert_eq!(values[2].1.downcast_ref(), Some(&3_u64));
    let late = thread::every(ms(1)).build(|| ())?;
    group.add(&late)?;
    assert!(late.is_running());
    let report = group.shutdown(LIMIT).await.into_vec();
    assert_eq!(report.iter().map(|(_, how)| *how).collect::<Vec<_>>(), [Shutdown::Drained; 4]);
    let runs = late.stats().runs;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(!group.is_running() && late.stats().runs == runs);
    Ok(())
}

#[test]
fn g1_a_group_on_threads_needs_no_runtime() -> Result<(), Error> {
    let group = Group::new();
    for _ in 0..3 {
        group.add(thread::every(ms(1)).build(|tick: Tick| tick.run)?)?;
    }
    group.start()?;
    group.wait_hits(3).block(LIMIT).all()?;
    assert_eq!(group.trigger().block(LIMIT).all()?.len(), 3);
    group.cancel().block(LIMIT).all()?;
    assert!(group.members().iter().all(|member| !member.is_running()));
    Ok(())
}
