//! Runs that panic, against those who wait for them or stop them.

use super::*;
use crate::OnError;
use crate::error::Failure;
use crate::sync::panic_on_purpose;

/// The first run panics, all others do not.
fn target(runs: &Shared<Runs>) -> impl FnMut() -> u64 + Send + 'static {
    let runs = runs.clone();
    move || {
        let run = runs.run();
        if run == 1 {
            panic_on_purpose();
        }
        run
    }
}

/// A timer that the first run panics, in each way to store one.
fn panicking(engine: &Engine, runs: &Shared<Runs>, on_error: OnError) -> Timer<u64> {
    engine.every(PERIOD).fixed_rate().inline().on_error(on_error).start(target(runs)).unwrap()
}

fn panicking_in_queue(engine: &Engine, runs: &Shared<Runs>, on_error: OnError) -> Timer<()> {
    let mut target = target(runs);
    engine.every(PERIOD).fixed_rate().inline().on_error(on_error).start(move || _ = target()).unwrap()
}

fn against_turn<V: Send + Sync + 'static>(
    start: fn(&Engine, &Shared<Runs>, OnError) -> Timer<V>,
    on_error: OnError,
    act: fn(&Timer<V>),
) {
    check(LOW_BOUND, move || {
        let runs = Shared::new(Runs::default());
        let engine = hosted();
        let timer = start(&engine, &runs, on_error);
        host_during(&engine, {
            let runs = runs.clone();
            move || {
                act(&timer);
                let begun = runs.end();
                assert_eq!((timer.stats().failures, timer.hits()), (begun.min(1), begun.saturating_sub(1)));
            }
        });
        assert_eq!(timers(&engine), 0);
        drop(engine);
        assert_eq!(Arc::strong_count(&runs.0), 1, "the target is gone");
    });
}

fn stop<V: Send + Sync + 'static>(timer: &Timer<V>) {
    let reason = cancel(timer);
    assert!(matches!(reason, StopReason::Cancelled | StopReason::Failed), "{reason:?}");
}

#[test]
fn cancel_against_a_panic_that_ends_the_timer() {
    against_turn(panicking, OnError::Stop, stop);
}

#[test]
fn cancel_in_the_queue_against_a_panic_that_ends_the_timer() {
    against_turn(panicking_in_queue, OnError::Stop, stop);
}

#[test]
fn cancel_against_a_panic_that_changes_nothing() {
    against_turn(panicking, OnError::Continue, stop);
}

#[test]
fn cancel_in_the_queue_against_a_panic_that_changes_nothing() {
    against_turn(panicking_in_queue, OnError::Continue, stop);
}

/// Whoever asks is told of the failure, whether it came before the question or after it.
fn wait_for_the_failure<V: Send + Sync + 'static>(timer: &Timer<V>) {
    for error in [block::forever(timer.wait_hits(1)).unwrap_err(), block::forever(timer.wait()).unwrap_err()]
    {
        assert!(matches!(error, Error::Failed { failure: Failure::Panic(_), .. }), "{error}");
    }
}

#[test]
fn waits_against_a_panic_that_ends_the_timer() {
    against_turn(panicking, OnError::Stop, wait_for_the_failure);
}

#[test]
fn waits_in_the_queue_against_a_panic_that_ends_the_timer() {
    against_turn(panicking_in_queue, OnError::Stop, wait_for_the_failure);
}

/// It may be the run that panics, or the next.
fn trigger_and_stop<V: Send + Sync + 'static>(timer: &Timer<V>) {
    match block::forever(timer.trigger()) {
        Ok(_) => assert_eq!(timer.hits(), 1),
        Err(error) => assert!(matches!(error, Error::Failed { .. }), "{error}"),
    }
    stop(timer);
}

#[test]
fn a_trigger_against_a_panic_that_changes_nothing() {
    against_turn(panicking, OnError::Continue, trigger_and_stop);
}

#[test]
fn a_trigger_in_the_queue_against_a_panic_that_changes_nothing() {
    against_turn(panicking_in_queue, OnError::Continue, trigger_and_stop);
}
