//! L12 on tokio: calls that are made once, later, or called off.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};
use std::time::Duration;

use everbeat::testing::TestEngine;
use everbeat::{Error, Group, OnError, OneShot, Scope, StopReason, Timer, after};

use crate::support::{Journal, SECOND, Stopwatch, ms, much, settle};

#[tokio::test(start_paused = true)]
async fn l12_an_async_one_shot_fires_once_at_its_time() -> Result<(), Error> {
    let watch = Stopwatch::start();
    let calls = Journal::new();
    let (log, owned) = (calls.clone(), vec![42]); // moved into the only future
    let shot = after(SECOND * 5, move || async move {
        log.add(watch.millis());
        owned
    })?;
    tokio::time::sleep(ms(4_998)).await;
    assert!(shot.is_pending() && calls.entries().is_empty());
    assert_eq!(*shot.wait().await?, [42]);
    assert!(!shot.is_pending() && !shot.cancel());
    assert_eq!(*shot.wait().await?, [42], "it is kept");
    tokio::time::sleep(SECOND * 3600).await;
    assert_eq!(calls.entries(), [5_000]);
    assert!(shot.name().to_string().contains("one_shots.rs"), "{}", shot.name());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l12_an_async_one_shot_can_be_called_off_until_it_fires() -> Result<(), Error> {
    let called = Journal::new();
    let make = |name| {
        let log = called.clone();
        after(SECOND, move || async move { log.add(name) })
    };
    let (cancelled, dropped, detached) = (make("cancelled")?, make("dropped")?, make("detached")?);
    let waiting = cancelled.wait();
    tokio::time::sleep(ms(998)).await;
    assert!(cancelled.cancel());
    assert!(!cancelled.cancel(), "the second cancel has not won anything");
    assert!(!cancelled.is_pending());
    drop(dropped);
    detached.detach();
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(called.entries(), ["detached"]);
    for error in [waiting.await.unwrap_err(), cancelled.wait().await.unwrap_err()] {
        assert!(matches!(error, Error::Stopped { reason: StopReason::Cancelled, .. }), "{error}");
    }
    assert!(cancelled.fire_now().await.is_err());
    assert_eq!(called.entries().len(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l12_a_call_that_has_begun_is_made_to_its_end() -> Result<(), Error> {
    let done = Journal::new();
    let make = |name| {
        let log = done.clone();
        after(SECOND, move || async move {
            tokio::time::sleep(SECOND).await;
            log.add(name);
            name
        })
    };
    let (shot, dropped) = (make("cancelled")?, make("dropped")?);
    tokio::time::sleep(ms(1_500)).await;
    assert!(!shot.is_pending() && !shot.cancel(), "it is being made");
    drop(dropped);
    assert_eq!(*shot.wait().await?, "cancelled");
    settle().await;
    let mut done = done.entries();
    done.sort_unstable();
    assert_eq!(done, ["cancelled", "dropped"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l12_an_async_one_shot_can_fire_early_and_may_fail() -> Result<(), Error> {
    let watch = Stopwatch::start();
    let calls = Journal::new();
    let log = calls.clone();
    let shot = after(SECOND * 3600, move || async move {
        tokio::time::sleep(ms(10)).await;
        log.add(watch.millis());
        7
    })?;
    let (early, again) = (shot.fire_now(), shot.fire_now());
    tokio::time::sleep(ms(5)).await;
    let during = shot.fire_now();
    assert_eq!((*early.await?, *again.await?, *during.await?), (7, 7, 7));
    assert_eq!(*shot.fire_now().await?, 7, "it was made, and is not made again");
    assert_eq!(calls.entries(), [10]);

    let broken = after(SECOND, || async { Err::<(), _>("no") })?;
    let panics = after(SECOND, || async { assert_eq!(1, 2) })?;
    let (waiting, panicked) = (broken.wait(), panics.wait());
    let errors = [waiting.await, broken.wait().await, panicked.await, panics.fire_now().await];
    for error in errors.map(Result::unwrap_err) {
        assert!(matches!(error, Error::Failed { .. }), "{error}");
    }
    assert!(!broken.cancel() && !panics.cancel());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l12_a_cancel_takes_back_an_async_call_that_was_asked_for() -> Result<(), Error> {
    let shot = after(SECOND, || async { 7 })?;
    let asked = shot.fire_now();
    assert!(shot.cancel());
    assert!(matches!(asked.await, Err(Error::Stopped { .. })));
    Ok(())
}

/// Its time has come, and it has not begun.
#[tokio::test(start_paused = true)]
async fn l12_a_cancel_in_the_very_moment_of_the_call_comes_first() -> Result<(), Error> {
    let (called, at_once) = (Journal::new(), Duration::ZERO);
    for delay in [at_once, SECOND] {
        let log = called.clone();
        let shot = after(delay, move || async move { log.add(delay) })?;
        if delay > at_once {
            settle().await; // it sleeps
        }
        let mut advance = pin!(tokio::time::advance(delay));
        // Moves the time, and lets nobody else have a turn before it is asked a second time.
        assert!(advance.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(shot.cancel());
        advance.await;
        tokio::time::sleep(SECOND).await;
        assert!(matches!(shot.wait().await, Err(Error::Stopped { .. })));
    }
    assert!(called.entries().is_empty());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l12_an_async_one_shot_may_do_anything_to_itself() -> Result<(), Error> {
    let handle = Arc::new(OnceLock::<OneShot<bool>>::new());
    let own = handle.clone();
    let shot = after(SECOND, move || async move {
        let own = own.get().unwrap();
        assert!(!own.is_pending());
        let won = own.cancel();
        assert!(matches!(own.wait().await, Err(Error::InsideRun { .. })));
        assert!(matches!(own.fire_now().await, Err(Error::InsideRun { .. })));
        tokio::time::sleep(ms(10)).await; // the cancel does not give it up
        won
    })?;
    let shot = handle.get_or_init(|| shot);
    assert!(!*shot.wait().await?);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l12_a_builder_gives_an_async_one_shot_what_any_timer_may_have() -> Result<(), Error> {
    let scope = Scope::new();
    let builder = || Timer::every(SECOND).name("upload").run_timeout(SECOND).tied_to(&scope);
    let slow = OneShot::start_async(builder(), SECOND, || tokio::time::sleep(SECOND * 10))?;
    let tied = OneShot::start_async(builder(), SECOND * 60, || async {})?;
    assert!(matches!(slow.wait().await, Err(Error::Failed { .. })));
    assert_eq!(*slow.name(), *"upload");
    scope.cancel();
    assert!(matches!(tied.wait().await, Err(Error::Stopped { .. })));
    assert!(matches!(OneShot::start_async(builder(), SECOND, || async {}), Err(Error::ScopeClosed { .. })));
    Ok(())
}

#[test]
fn l12_of_the_schedule_of_a_builder_a_one_shot_has_what_ends_it() -> Result<(), Error> {
    let engine = TestEngine::new();
    let builder = || everbeat::thread::every(SECOND).on(&engine);
    let late = OneShot::start(builder().max_lateness(ms(1)), SECOND, || 42)?;
    let off = OneShot::start(builder().run_for(ms(1)), SECOND, || 42)?;
    engine.pass(SECOND * 5);
    engine.settle();
    assert!(!late.is_pending() && !off.is_pending());
    assert_eq!(*late.wait().block(SECOND)?, 42);
    let ended = off.wait().block(SECOND);
    assert!(matches!(ended, Err(Error::Stopped { reason: StopReason::Until, .. })), "{ended:?}");
    Ok(())
}

#[test]
fn l12_an_async_one_shot_needs_a_runtime() {
    assert!(matches!(after(SECOND, || async {}), Err(Error::NoRuntime { .. })));
}

/// Both happen at the same time on different threads, in real time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l12_either_the_async_call_is_made_or_the_cancel_has_won() -> Result<(), Error> {
    for _ in 0..much(200) {
        let calls = Arc::new(AtomicU32::new(0));
        let counter = calls.clone();
        let shot = after(ms(1), || async move { counter.fetch_add(1, Ordering::SeqCst) })?;
        tokio::time::sleep(ms(1)).await;
        let won = shot.cancel();
        let answer = shot.wait().await;
        assert_eq!(won, matches!(answer, Err(Error::Stopped { .. })), "{answer:?}");
        assert_eq!(calls.load(Ordering::SeqCst), u32::from(!won));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l12_a_failure_is_told_later_too_whatever_the_policy_for_errors() -> Result<(), Error> {
    let backoff = OnError::backoff(SECOND, SECOND);
    for builder in [Timer::every(SECOND).on_error(OnError::Continue), Timer::every(SECOND).on_error(backoff)]
    {
        let shot = OneShot::start_async(builder, SECOND, || async { Err::<(), _>("no") })?;
        for error in [shot.wait().await.unwrap_err(), shot.wait().await.unwrap_err()] {
            assert!(matches!(error, Error::Failed { .. }), "{error}");
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l12_nobody_starts_a_call_again_that_was_made_or_called_off() -> Result<(), Error> {
    let calls = Journal::new();
    let add = |name| {
        let log = calls.clone();
        move || log.add(name)
    };
    let engine = TestEngine::new();
    let (made, off) =
        (engine.engine().after(SECOND, add("made"))?, engine.engine().after(SECOND, add("off"))?);
    let async_off = after(SECOND, || async {})?;
    assert!(off.cancel() && async_off.cancel());
    settle().await;
    engine.advance(SECOND);
    let group = Group::new();
    for shot in [made.as_timer(), off.as_timer(), async_off.as_timer()] {
        assert!(matches!(shot.start(), Err(Error::Restart { .. })));
        group.add(shot)?;
    }
    assert!(matches!(group.start(), Err(Error::Restart { .. })));
    engine.advance(SECOND * 3);
    assert_eq!(calls.entries(), ["made"]);
    assert!(made.wait().await.is_ok() && !made.as_timer().is_running());
    Ok(())
}
