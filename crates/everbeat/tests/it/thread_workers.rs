//! R7: the workers of an engine, the thread that keeps its time, and what they do for each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread as std_thread;
use std::time::Duration;

use everbeat::thread::{self, Engine, PeriodicTask, Precision};
use everbeat::{Error, Value};

use crate::support::{Gate, LIMIT, eventually, ms};
use crate::thread_support::{HOUR, alone, in_time};
#[cfg(target_os = "linux")]
use crate::thread_support::{LITTLE_MEMORY, no_more_threads};

#[test]
fn r7_one_timer_needs_one_worker() -> Result<(), Error> {
    let engine = Engine::builder().workers(32).build();
    let timer = engine.every(ms(5)).start(|| ())?;
    timer.wait_hits(20).block(LIMIT)?;
    assert_eq!(engine.stats().workers, 1, "{:?}", engine.stats());
    Ok(())
}

/// The worker that gives a timer back is free for its next turn.
#[test]
fn o3_a_timer_alone_with_its_worker_is_never_queued() -> Result<(), Error> {
    let engine = Engine::builder().workers(1).build();
    let timer = engine.every(Duration::ZERO).max_runs(100).start(|| ())?;
    timer.wait().block(LIMIT)?;
    assert_eq!((timer.stats().queued, engine.stats().queued), (0, 0), "{:?}", engine.stats());
    Ok(())
}

/// A run stops a task whose end takes a turn on the very thread that the run is on, the only one.
#[test]
fn l5_a_run_on_the_only_thread_for_runs_may_stop_another_task() {
    for workers in [0, 1] {
        let stopped = in_time(move || -> Result<(), Error> {
            let engine = Engine::builder().workers(workers).build();
            let ended = Arc::new(AtomicBool::new(false));
            let end = ended.clone();
            let builder = engine.every(HOUR).initial_delay(HOUR);
            let builder = builder.on_end(move |_| end.store(true, Ordering::SeqCst));
            let task = PeriodicTask::of(builder, || ())?;
            task.start()?;
            let watchdog = engine.every(HOUR).start(move || task.stop())?;
            watchdog.wait_hits(1).block(LIMIT)?;
            eventually("the task has ended", || ended.load(Ordering::SeqCst));
            Ok(())
        });
        assert!(matches!(stopped, Some(Ok(()))), "with {workers} workers it waits for itself: {stopped:?}");
    }
}

/// A value that takes long to drop.
struct Heavy;

impl Value for Heavy {}

impl Drop for Heavy {
    fn drop(&mut self) {
        std_thread::sleep(ms(300));
    }
}

/// What happens between two runs is not the fault of the second.
#[test]
fn r7_a_run_is_not_blamed_for_what_was_before_it() -> Result<(), Error> {
    let engine = Engine::builder().workers(0).build();
    let builder = || engine.every(ms(50)).blocked_after(ms(250));
    let heavy = builder().max_runs(2).start(|| Heavy)?;
    let quick = builder().max_runs(2).start(|| ())?;
    // Nobody waits for them: the engine may take the short way through their turns.
    eventually("both have run", || heavy.hits() + quick.hits() >= 2);
    // Their second runs become due while the only thread is held, so they are one after the other.
    let gate = Gate::default();
    let wall = gate.clone();
    let _hold = engine.every(HOUR).start(move || wall.pass())?;
    std_thread::sleep(ms(100));
    gate.open();
    eventually("both have run again", || !heavy.is_running() && !quick.is_running());
    assert_eq!((quick.hits(), quick.stats().blocked), (2, 0), "its runs return at once");
    Ok(())
}

/// Threads run out while the only worker is busy: whoever is in line waits for that one.
#[cfg(target_os = "linux")]
#[test]
fn r7_a_worker_that_cannot_be_had_is_not_needed() {
    let name = "r7_a_worker_that_cannot_be_had_is_not_needed";
    alone(module_path!(), name, LITTLE_MEMORY, || {
        let engine = Engine::builder().workers(8).build();
        let (entered, gate) = (Gate::default(), Gate::default());
        let (inside, wall) = (entered.clone(), gate.clone());
        let busy = engine.every(HOUR).start(move || {
            inside.open();
            wall.pass();
        });
        entered.pass();
        assert_eq!(engine.stats().workers, 1);
        let room = no_more_threads();
        let late = engine.every(HOUR).start(|| ()).unwrap();
        std_thread::sleep(ms(200)); // it is asked for in vain, some times
        assert_eq!((late.hits(), engine.stats().workers), (0, 1));
        drop(room);
        gate.open();
        late.wait_hits(1).block(LIMIT).unwrap();
        drop(busy);
    });
}

/// Alone, since others use the default engines too.
#[test]
fn l10_a_default_engine_that_was_closed_takes_new_timers() {
    alone(module_path!(), "l10_a_default_engine_that_was_closed_takes_new_timers", "", || {
        let start = || thread::every(HOUR).precision(Precision::Spin).start(|| ());
        let before = start().unwrap();
        before.wait_hits(1).block(LIMIT).unwrap();
        assert_eq!(Engine::shared(Precision::Spin).close(LIMIT), 0);
        assert!(!before.is_running());
        start().unwrap().wait_hits(1).block(LIMIT).unwrap();
    });
}

#[test]
fn e2_a_name_that_no_thread_can_have_is_no_panic() -> Result<(), Error> {
    let engine = Engine::builder().name("a\0b").build();
    engine.every(HOUR).start(|| ())?.wait_hits(1).block(LIMIT)
}

#[test]
fn r7_a_place_that_was_lent_is_taken_back() -> Result<(), Error> {
    let engine = Engine::builder().workers(1).build();
    let other = engine.every(HOUR).start(|| 1)?;
    let lender = engine.every(HOUR).start(move || other.trigger().block(LIMIT).map(|one| *one))?;
    for _ in 0..5 {
        assert_eq!(*lender.trigger().block(LIMIT)?, 1);
    }
    eventually("who took its place has gone", || engine.stats().workers <= 1);
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let crowded = || {
        let (inside, most) = (inside.clone(), most.clone());
        engine.every(HOUR).start(move || {
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std_thread::sleep(ms(5));
            inside.fetch_sub(1, Ordering::SeqCst);
        })
    };
    let timers = (0..4).map(|_| crowded()).collect::<Result<Vec<_>, _>>()?;
    timers.iter().try_for_each(|timer| timer.wait_hits(1).block(LIMIT))?;
    assert_eq!(most.load(Ordering::SeqCst), 1);
    Ok(())
}
