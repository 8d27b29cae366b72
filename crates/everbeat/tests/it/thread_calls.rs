//! R, L: targets whose runs are over when a call returns, unless they turn out to go on.

use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use everbeat::testing::TestEngine;
use everbeat::{CallTarget, Callee, Error, Step, StopReason, Tick, Timer, WeakTimer, thread};

use crate::support::ms;

/// What has been done with a target, and what it is to do.
#[derive(Default)]
struct Script {
    seen: Mutex<Vec<String>>,
    /// The run that has gone on, and who waits for it.
    open: Mutex<Option<(u64, Option<Waker>)>>,
    timer: OnceLock<WeakTimer<u64>>,
}

impl Script {
    fn see(&self, what: &str) {
        self.seen.lock().unwrap().push(what.to_owned());
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// Lets the run that has gone on deliver.
    fn finish(&self) {
        let (_, waker) = self.open.lock().unwrap().take().expect("a run goes on");
        waker.expect("somebody waits for it").wake();
    }
}

/// Odd runs end at once, even ones go on.
struct Wavering(Arc<Script>, u64);

impl Callee<u64> for Wavering {
    fn call(&mut self, tick: Tick) -> Poll<Step<u64>> {
        self.0.see("call");
        if tick.run % 2 == 1 {
            return Poll::Ready(Step::Value(tick.run));
        }
        *self.0.open.lock().unwrap() = Some((tick.run, None));
        self.1 = tick.run;
        Poll::Pending
    }

    fn touch(&self) -> usize {
        0
    }

    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<Step<u64>> {
        match &mut *self.0.open.lock().unwrap() {
            Some((_, waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(Step::Value(std::mem::take(&mut self.1))),
        }
    }

    fn poll_abort(&mut self, _: &mut Context<'_>) -> Poll<()> {
        self.0.see("abort");
        (*self.0.open.lock().unwrap(), self.1) = (None, 0);
        Poll::Ready(())
    }

    fn is_plain(&self) -> bool {
        self.1 == 0
    }

    fn has_rest(&self) -> bool {
        true
    }

    fn rest(&mut self) {
        self.0.see("rest");
        let timer = self.0.timer.get().and_then(WeakTimer::upgrade);
        if let Some(Err(error)) = timer.map(|timer| timer.start()) {
            assert!(matches!(error, Error::AlreadyRunning { .. }), "{error}");
            self.0.see("not started");
        }
    }
}

fn wavering(clock: &TestEngine) -> (Timer<u64>, Arc<Script>) {
    let script = Arc::new(Script::default());
    let target = CallTarget::new(Box::new(Wavering(script.clone(), 0)));
    (thread::every(ms(10)).on(clock).build(target).unwrap(), script)
}

fn latest(timer: &Timer<u64>) -> Option<u64> {
    timer.latest().map(|value| *value)
}

#[test]
fn r2_a_run_may_turn_out_to_go_on_when_it_is_called() {
    let clock = TestEngine::new();
    let (timer, script) = wavering(&clock);
    timer.start().unwrap();
    clock.settle();
    assert_eq!((timer.hits(), latest(&timer)), (1, Some(1)));
    clock.advance(ms(10));
    clock.advance(ms(100)); // the second run goes on all this time
    assert_eq!((timer.hits(), timer.stats().runs), (1, 2));
    script.finish();
    clock.settle();
    assert_eq!((timer.hits(), latest(&timer)), (2, Some(2)));
    clock.advance(ms(10));
    assert_eq!((timer.hits(), latest(&timer)), (3, Some(3)));
    assert_eq!(script.seen(), ["call"; 3]);
}

#[test]
fn l2_a_run_that_goes_on_is_given_up() {
    let clock = TestEngine::new();
    let (timer, script) = wavering(&clock);
    timer.start().unwrap();
    clock.advance(ms(10));
    let ended = timer.cancel();
    clock.settle();
    assert_eq!(ended.block(Duration::ZERO).unwrap(), StopReason::Cancelled);
    assert_eq!(script.seen(), ["call", "call", "abort", "rest"]);
}

#[test]
fn l7_a_target_lets_go_before_its_timer_is_started_again() {
    let clock = TestEngine::new();
    let (timer, script) = wavering(&clock);
    assert!(script.timer.set(timer.downgrade()).is_ok());
    for _ in 0..2 {
        timer.start().unwrap();
        clock.settle();
        // Odd or even, it waits for its next run then.
        if script.open.lock().unwrap().is_some() {
            script.finish();
            clock.settle();
        }
        assert_eq!(timer.cancel().block(Duration::ZERO).unwrap(), StopReason::Cancelled);
        assert_eq!(script.seen(), ["call", "rest", "not started"]);
        assert!(!timer.is_running());
    }
    assert_eq!((timer.hits(), latest(&timer)), (2, Some(2)));
}

/// One that delivers nothing, and would lie in the queue of its engine if it were a closure.
struct Silent(Arc<Mutex<u32>>);

impl Callee<()> for Silent {
    fn call(&mut self, _: Tick) -> Poll<Step<()>> {
        Poll::Ready(Step::Value(()))
    }

    fn touch(&self) -> usize {
        0
    }

    fn has_rest(&self) -> bool {
        true
    }

    fn rest(&mut self) {
        *self.0.lock().unwrap() += 1;
        panic!("on purpose");
    }
}

#[test]
fn r5_a_target_that_panics_as_it_lets_go_is_there_for_the_next_start() {
    let clock = TestEngine::new();
    let rests = Arc::new(Mutex::new(0));
    let timer =
        thread::every(ms(10)).on(&clock).start(CallTarget::new(Box::new(Silent(rests.clone())))).unwrap();
    clock.advance(ms(25));
    assert_eq!(timer.hits(), 3);
    assert_eq!(timer.cancel().block(Duration::ZERO).unwrap(), StopReason::Cancelled);
    timer.start().unwrap();
    clock.advance(ms(25));
    assert_eq!((timer.hits(), *rests.lock().unwrap()), (6, 1));
    drop(timer);
    clock.settle();
    assert_eq!(*rests.lock().unwrap(), 2);
}
