//! Ends that meet starts, and ends of whole engines.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use everbeat::Error;
use everbeat::thread::{Engine, Precision};

use crate::support::{Gate, LIMIT, factor, ms};

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

#[test]
fn l4_a_stop_that_meets_a_start_ends_the_timer() -> Result<(), Error> {
    let engine = Engine::builder().precision(Precision::Fine).build();
    let start = Instant::now();
    while start.elapsed() < ms(500) * factor() {
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
        while start.elapsed() < ms(500) * factor() {
            while timer.start().is_err() && !canceller.is_finished() {}
        }
        over.store(true, Ordering::SeqCst);
        canceller.join().unwrap()
    })
}
