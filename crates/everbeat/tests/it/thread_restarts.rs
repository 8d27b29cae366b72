//! L7: timers on threads that are started again at the worst moment.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread as std_thread;
use std::time::Instant;

use everbeat::testing::TestEngine;
use everbeat::thread::{self, Engine, PeriodicTask};
use everbeat::{Error, StopReason, Timer};

use crate::support::{LIMIT, eventually, ms, much};
use crate::thread_support::{HOUR, hold_up, spin};

/// Starts a timer as soon as it is woken.
struct Starts(Timer<()>, AtomicUsize);

impl Wake for Starts {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(usize::from(self.0.start().is_ok()), Ordering::SeqCst);
    }
}

/// The turn that has ended the timer must not take the new start for its own.
#[test]
fn l7_a_restart_by_whoever_is_told_of_the_end_stands() -> Result<(), Error> {
    let clock = TestEngine::new();
    let timer = thread::every(HOUR).max_runs(1).on(&clock).build(|| ())?;
    timer.start()?;
    let told = Arc::new(Starts(timer.clone(), AtomicUsize::new(0)));
    let waker = Waker::from(told.clone());
    let mut end = std::pin::pin!(timer.wait());
    assert!(end.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    clock.settle();
    clock.settle();
    assert_eq!(told.1.load(Ordering::SeqCst), 1, "it is told of the first end only");
    assert_eq!((timer.hits(), timer.is_running()), (2, false), "it runs and ends a second time");
    assert_eq!(timer.wait().block(LIMIT)?, StopReason::MaxRuns);
    Ok(())
}

fn assert_run(runs: &mpsc::Receiver<()>, task: &PeriodicTask<()>, engine: &Engine, round: u32) {
    let came = runs.recv_timeout(LIMIT);
    let (timer, engine) = (task.timer().stats(), engine.stats());
    assert!(came.is_ok(), "round {round}: no run came: {timer:?}, {engine:?}");
}

#[test]
fn l7_every_start_after_a_stop_runs() -> Result<(), Error> {
    let engine = Engine::builder().workers(2).build();
    let (begun, runs) = mpsc::channel();
    let task = PeriodicTask::of(engine.every(ms(1)), move || begun.send(()).unwrap_or(()))?;
    let (start, mut rounds) = (Instant::now(), 0_u32);
    while start.elapsed() < ms(much(500).into()) {
        task.start()?;
        assert_run(&runs, &task, &engine, rounds);
        task.stop();
        while runs.try_recv().is_ok() {}
        rounds += 1;
    }
    eprintln!("{rounds} rounds");
    Ok(())
}

/// `start` finds the task ending, and has to wait for its end.
#[test]
fn l7_a_task_that_is_started_while_it_ends_runs_at_once() -> Result<(), Error> {
    let (start, mut rounds) = (Instant::now(), 0_u32);
    while start.elapsed() < ms(much(500).into()) {
        let engine = Engine::builder().workers(2).build();
        let (begun, runs) = mpsc::channel();
        let builder = engine.every(HOUR).on_end(|_| ());
        let task = PeriodicTask::of(builder, move || begun.send(()).unwrap_or(()))?;
        task.start()?;
        assert!(runs.recv_timeout(LIMIT).is_ok());
        task.timer().request_stop();
        spin(rounds % 300);
        task.start()?;
        assert_run(&runs, &task, &engine, rounds);
        rounds += 1;
    }
    eprintln!("{rounds} rounds");
    Ok(())
}

/// A turn that was taken from the roster belongs to a start that is over, and must not end the next one.
#[test]
fn l7_a_restart_before_the_turn_of_the_last_start_stands() -> Result<(), Error> {
    let engine = Engine::builder().workers(0).build();
    // Both become due while the only thread of the engine is held, so their turns are taken together.
    let (_holdup, go) = hold_up(&engine);
    let second_timer: Arc<OnceLock<Timer<()>>> = Arc::default();
    let other = second_timer.clone();
    let first = engine.every(HOUR).initial_delay(ms(1)).start(move || {
        let other = other.get().unwrap();
        drop(other.cancel());
        other.start().unwrap();
    })?;
    let second = engine.every(HOUR).initial_delay(ms(1)).start(|| ())?;
    assert!(second_timer.set(second.clone()).is_ok());
    std_thread::sleep(ms(5));
    go.send(()).unwrap();
    first.wait_hits(1).block(LIMIT)?;
    eventually("it runs after its restart", || second.hits() > 0);
    assert!(second.is_running());
    Ok(())
}

/// The turns of both are taken together; what the first has done is known to the second.
#[test]
fn l5_an_inline_run_may_stop_and_start_a_timer_that_ran_just_before() -> Result<(), Error> {
    let engine = Engine::builder().workers(0).build();
    let (_holdup, go) = hold_up(&engine);
    let seen = Arc::new(OnceLock::new());
    let first = engine.every(HOUR).initial_delay(ms(1)).start(|| ())?;
    let (other, told) = (first.clone(), seen.clone());
    let second = engine.every(HOUR).initial_delay(ms(1)).start(move || {
        let before = (other.hits(), other.stats().busy);
        drop(other.cancel());
        let _ = told.set((before, other.is_running(), other.start().is_ok()));
    })?;
    std_thread::sleep(ms(5));
    go.send(()).unwrap();
    second.wait_hits(1).block(LIMIT)?;
    assert_eq!(seen.get(), Some(&((1, false), false, true)));
    assert!(first.is_running());
    Ok(())
}

/// The drop of the last failure runs between the start of the machine and its place with the engine.
#[derive(Debug)]
struct CancelsWhenDropped(Arc<OnceLock<Timer<u8>>>);

impl std::fmt::Display for CancelsWhenDropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for CancelsWhenDropped {}

impl Drop for CancelsWhenDropped {
    fn drop(&mut self) {
        drop(self.0.get().unwrap().cancel());
    }
}

#[test]
fn l2_a_cancel_in_the_middle_of_a_start_is_not_lost() -> Result<(), Error> {
    let clock = TestEngine::new();
    let itself: Arc<OnceLock<Timer<u8>>> = Arc::default();
    let own = itself.clone();
    let timer =
        thread::every(HOUR).on(&clock).start(move || Err::<u8, _>(CancelsWhenDropped(own.clone())))?;
    assert!(itself.set(timer.clone()).is_ok());
    clock.settle();
    assert!(!timer.is_running());
    timer.start()?; // drops the failure, which cancels
    clock.advance(HOUR * 3);
    assert!(!timer.is_running(), "cancelled, and it never ends: {:?}", timer.stats());
    Ok(())
}
