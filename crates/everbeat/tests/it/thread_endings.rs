//! Ends that meet starts, and ends of whole engines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use everbeat::thread::{Engine, Precision};
use everbeat::{Error, StopReason};

use crate::support::{Gate, LIMIT, ms, much};
use crate::thread_support::{HOUR, alone, hold_up};

const ABANDONED: StopReason = StopReason::Abandoned;

#[test]
fn l10_a_closed_engine_has_called_back() -> Result<(), Error> {
    let engine = Engine::builder().workers(1).build();
    let (entered, gate) = (Gate::default(), Gate::default());
    let (ending, wall) = (Gate::default(), Gate::default());
    let (a, b, c, d) = (entered.clone(), gate.clone(), ending.clone(), wall.clone());
    let timer = engine.every(ms(1)).on_end(move |_| {
        c.open();
        d.pass();
    });
    let timer = timer.start(move || {
        a.open();
        b.pass();
    })?;
    entered.pass();
    assert_eq!(engine.close(ms(1)), 1);
    gate.open();
    ending.pass();
    assert_eq!((engine.close(ms(5)), timer.is_running()), (1, true), "its callback has not returned");
    wall.open();
    assert_eq!(engine.close(LIMIT), 0);
    assert!(!timer.is_running());
    Ok(())
}

/// The thread has taken many timers together, of every kind, and is in the run of the first.
#[test]
#[cfg_attr(miri, ignore = "it needs a process of its own")]
fn l4_no_run_of_a_batch_begins_after_its_engine_was_closed() {
    let name = "l4_no_run_of_a_batch_begins_after_its_engine_was_closed";
    // Alone, since others use the default engines too.
    alone(module_path!(), name, "", || {
        for engine in [Engine::builder().workers(0).build(), Engine::shared(Precision::Spin)] {
            close_in_the_first_of_a_batch(&engine).unwrap();
        }
    });
}

fn close_in_the_first_of_a_batch(engine: &Engine) -> Result<(), Error> {
    let (holdup, go) = hold_up(engine);
    let (entered, gate) = (Gate::default(), Gate::default());
    let (inside, wall) = (entered.clone(), gate.clone());
    let first = engine.every(HOUR).inline().start(move || {
        inside.open();
        wall.pass();
    })?;
    let late = Arc::new(AtomicUsize::new(0));
    let count = || {
        let late = late.clone();
        move || late.fetch_add(1, Ordering::SeqCst)
    };
    let (lean, ends) = (count(), count());
    let values = engine.every(HOUR).inline().start(count())?;
    let units = engine.every(HOUR).inline().start(move || _ = lean())?;
    let told = engine.every(HOUR).inline().on_end(move |_| _ = ends()).start(|| ())?;
    go.send(()).unwrap();
    entered.pass();
    engine.close(Duration::ZERO);
    gate.open();
    assert_eq!((values.wait().block(LIMIT)?, told.wait().block(LIMIT)?), (ABANDONED, ABANDONED));
    assert_eq!((first.wait().block(LIMIT)?, units.wait().block(LIMIT)?), (ABANDONED, ABANDONED));
    assert_eq!((first.hits(), values.hits(), units.hits(), told.hits()), (1, 0, 0, 0));
    assert_eq!(late.load(Ordering::SeqCst), 1, "that is the callback of an end");
    drop(holdup);
    Ok(())
}

#[test]
fn l4_a_stop_that_meets_a_start_ends_the_timer() -> Result<(), Error> {
    let engine = Engine::builder().precision(Precision::Fine).build();
    let start = Instant::now();
    while start.elapsed() < ms(much(500).into()) {
        let timer = engine.every(LIMIT).initial_delay(LIMIT).build(|| ())?;
        thread::scope(|scope| {
            let canceller = scope.spawn(|| {
                while !timer.is_running() {}
                timer.cancel().block(LIMIT)
            });
            timer.start()?;
            canceller.join().unwrap()
        })?;
    }
    Ok(())
}

#[test]
fn l2_a_cancel_that_meets_a_start_is_answered() -> Result<(), Error> {
    let engine = Engine::builder().precision(Precision::Fine).build();
    let timer = engine.every(LIMIT).initial_delay(LIMIT).build(|| ())?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let canceller = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                timer.cancel().block(LIMIT)?;
            }
            Ok(())
        });
        let start = Instant::now();
        while start.elapsed() < ms(much(500).into()) {
            while timer.start().is_err() && !canceller.is_finished() {}
        }
        over.store(true, Ordering::SeqCst);
        canceller.join().unwrap()
    })
}
