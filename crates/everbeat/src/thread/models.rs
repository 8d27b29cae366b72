//! The hand-off between threads, in every order that there is: `make loom`.
//!
//! Each test is a model of a few threads that the checker plays again and again, each time in another order
//! of the steps that they share. A thread that waits for ever fails the model, as a failed assertion does.
//! Some models are bounded to orders with at most so many preemptions; more than that never
//! found anything more.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant as StdInstant};

use everbeat_core::{Key, StopReason};

use self::puppet::Puppet;
use super::Precision;
use super::engine::{Bell, Core};
use super::handle::Engine;
use super::host::Host;
use super::time::Time;
use crate::beat::Progress;
use crate::block;
use crate::error::Error;
use crate::handle::Timer;
use crate::sync::thread::{self, Thread};
use crate::sync::{self, Mutex, check};

mod puppet;

const SECOND: Duration = Duration::from_secs(1);
const YIELD: Progress = Progress::Yield { restless: false };

/// The thread that hosts an engine: the one that makes this.
struct Loop(Thread);

impl Host for Loop {
    fn now(&self) -> StdInstant {
        sync::now()
    }

    fn alert(&self) {
        self.0.unpark();
    }
}

impl Loop {
    fn here() -> Self {
        Self(thread::current())
    }
}

/// Takes turns until this is so. Whoever makes it so unparks this thread.
fn host_until(engine: &Engine, over: impl Fn() -> bool) {
    loop {
        engine.turn();
        if over() {
            return;
        }
        thread::park_timeout(Duration::MAX);
    }
}

fn timers(engine: &Engine) -> usize {
    engine.stats().timers
}

/// What is told from one thread to another.
#[derive(Clone)]
struct Shared<T>(Arc<Mutex<T>>);

impl<T: Clone> Shared<T> {
    fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    fn change<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }

    fn get(&self) -> T {
        self.change(|value| value.clone())
    }
}

/// What a target does, and whether it may.
#[derive(Clone, Copy, Debug, Default)]
struct Runs {
    begun: u64,
    running: bool,
    /// No run is to be in flight any more.
    over: bool,
}

impl Shared<Runs> {
    fn run(&self) -> u64 {
        let run = self.change(|runs| {
            assert!(!runs.running, "two runs at once");
            assert!(!runs.over, "a run after the end");
            runs.running = true;
            runs.begun += 1;
            runs.begun
        });
        self.change(|runs| runs.running = false);
        run
    }

    /// From here on there is no run.
    fn end(&self) -> u64 {
        self.change(|runs| {
            assert!(!runs.running, "the end came before that of the run in flight");
            runs.over = true;
            runs.begun
        })
    }
}

/// A lean timer, due at once and then never more, since time stands still.
fn build(engine: &Engine, runs: &Shared<Runs>) -> Timer<u64> {
    let runs = runs.clone();
    engine.every(SECOND).fixed_rate().inline().build(move || runs.run()).unwrap()
}

fn start(engine: &Engine, runs: &Shared<Runs>) -> Timer<u64> {
    let timer = build(engine, runs);
    timer.start().unwrap();
    timer
}

/// What is delivered is counted, and the other way round.
fn assert_consistent(timer: &Timer<u64>, runs: u64) {
    assert_eq!(timer.hits(), runs);
    assert_eq!(timer.latest().map_or(0, |latest| *latest), runs);
}

/// A stop while the timer has its turn on a thread of its own. `stop` returns once it has ended.
fn stop_against_turn(reason: StopReason, stop: impl Fn(&Timer<u64>) -> StopReason + Clone + Send + Sync + 'static) {
    check(Some(3), move || {
        let (runs, done) = (Shared::new(Runs::default()), Shared::new(false));
        let host = Loop::here();
        let here = host.0.clone();
        let engine = Engine::hosted(host);
        let timer = start(&engine, &runs);
        let stopper = thread::spawn({
            let (runs, done, stop) = (runs.clone(), done.clone(), stop.clone());
            move || {
                assert_eq!(stop(&timer), reason);
                let begun = runs.end();
                assert_consistent(&timer, begun);
                done.change(|done| *done = true);
                here.unpark();
            }
        });
        host_until(&engine, || done.get());
        stopper.join();
        assert_eq!(timers(&engine), 0);
        drop(engine);
        assert_eq!(Arc::strong_count(&runs.0), 1, "the target is gone");
    });
}

#[test]
fn cancel_against_a_turn() {
    stop_against_turn(StopReason::Cancelled, |timer| block::forever(timer.cancel()));
}

#[test]
fn request_stop_against_a_turn() {
    stop_against_turn(StopReason::Drained, |timer| {
        timer.request_stop();
        block::forever(timer.request_end())
    });
}
