//! The hand-off between threads, in every order that there is: `make loom`.
//!
//! Each test is a model of a few threads that the checker plays again and again, each time in another order
//! of the steps that they share. A thread that waits for ever fails the model, as a failed assertion does.
//! Where there are too many orders, those with more than a few preemptions are left out.

use std::any::Any;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant as StdInstant};

use everbeat_core::{Key, StopReason};

use self::puppet::Puppet;
use super::Precision;
use super::engine::{Bell, Core};
use super::handle::Engine;
use super::host::Host;
use super::roster::{Rest, Task};
use super::time::Time;
use crate::beat::Progress;
use crate::block;
use crate::error::Error;
use crate::handle::Timer;
use crate::sync::thread::{self, Thread};
use crate::sync::{self, Mutex, check};

mod attendance;
mod commands;
mod feeds;
mod owners;
mod panics;
mod puppet;
mod threads;

/// So long that no limit is of this length.
const PERIOD: Duration = Duration::from_secs(48 * 3600);
/// The most preemptions in an order.
const BOUND: Option<usize> = Some(3);
/// For three threads that wait for each other.
const LOW_BOUND: Option<usize> = Some(2);
const YIELD: Progress = Progress::Yield { restless: false };

/// The thread that hosts an engine: the one that makes this.
struct Loop(Thread);

/// An engine that lives on this thread.
fn hosted() -> Engine {
    Engine::hosted(Loop::here())
}

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
        let next = engine.turn();
        if over() {
            return;
        }
        if next.is_none_or(|next| next > sync::now()) {
            thread::park_timeout(Duration::MAX);
        }
    }
}

/// Takes turns while another thread does this, and until it has.
fn host_during(engine: &Engine, act: impl FnOnce() + Send + 'static) {
    let (done, here) = (Shared::new(false), thread::current());
    let other = thread::spawn({
        let done = done.clone();
        move || {
            act();
            done.change(|done| *done = true);
            here.unpark();
        }
    });
    host_until(engine, || done.get());
    other.join();
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

/// A lean timer with its own lock, due at once and then never more, since time stands still.
fn build(engine: &Engine, runs: &Shared<Runs>) -> Timer<u64> {
    let runs = runs.clone();
    engine.every(PERIOD).fixed_rate().inline().build(move || runs.run()).unwrap()
}

fn start(engine: &Engine, runs: &Shared<Runs>) -> Timer<u64> {
    let timer = build(engine, runs);
    timer.start().unwrap();
    timer
}

/// As [`start`], one that delivers nothing, and so lies in the queue of its engine.
fn place(engine: &Engine, runs: &Shared<Runs>) -> Timer<()> {
    let runs = runs.clone();
    engine.every(PERIOD).fixed_rate().inline().start(move || _ = runs.run()).unwrap()
}

/// What is delivered is counted, and the other way round.
fn assert_consistent<V: Send + Sync + 'static>(timer: &Timer<V>, runs: u64) {
    assert_eq!(timer.hits(), runs);
    let latest = timer.latest().map(|latest| (latest as Arc<dyn Any + Send + Sync>).downcast::<u64>());
    assert_eq!(latest.is_some(), runs > 0);
    assert!(latest.and_then(Result::ok).is_none_or(|latest| *latest == runs));
}

/// A stop while the timer has its turn on a thread of its own. `stop` returns once it has ended.
fn stop_against_turn<V: Send + Sync + 'static>(
    start: fn(&Engine, &Shared<Runs>) -> Timer<V>,
    reason: StopReason,
    stop: impl Fn(&Timer<V>) -> StopReason + Clone + Send + Sync + 'static,
) {
    check(BOUND, move || {
        let runs = Shared::new(Runs::default());
        let engine = hosted();
        let timer = start(&engine, &runs);
        host_during(&engine, {
            let (runs, stop) = (runs.clone(), stop.clone());
            move || {
                assert_eq!(stop(&timer), reason);
                let begun = runs.end();
                assert_consistent(&timer, begun);
            }
        });
        assert_eq!(timers(&engine), 0);
        drop(engine);
        assert_eq!(Arc::strong_count(&runs.0), 1, "the target is gone");
    });
}

fn cancel<V: Send + Sync + 'static>(timer: &Timer<V>) -> StopReason {
    block::forever(timer.cancel())
}

fn ask_to_stop<V: Send + Sync + 'static>(timer: &Timer<V>) -> StopReason {
    timer.request_stop();
    block::forever(timer.request_end())
}

#[test]
fn cancel_against_a_turn() {
    stop_against_turn(start, StopReason::Cancelled, cancel);
}

#[test]
fn cancel_in_the_queue_against_a_turn() {
    stop_against_turn(place, StopReason::Cancelled, cancel);
}

#[test]
fn request_stop_against_a_turn() {
    stop_against_turn(start, StopReason::Drained, ask_to_stop);
}

#[test]
fn request_stop_in_the_queue_against_a_turn() {
    stop_against_turn(place, StopReason::Drained, ask_to_stop);
}

/// The thread that asks for something has the last handle.
fn drop_against_turn<V: Send + Sync + 'static>(
    start: fn(&Engine, &Shared<Runs>) -> Timer<V>,
    ask: fn(&Timer<V>),
) {
    check(BOUND, move || {
        let runs = Shared::new(Runs::default());
        let engine = Engine::hosted(Loop::here());
        let timer = start(&engine, &runs);
        let dropper = thread::spawn(move || {
            ask(&timer);
            drop(timer);
        });
        host_until(&engine, || timers(&engine) == 0);
        runs.end();
        engine.turn();
        dropper.join();
        drop(engine);
        assert_eq!(Arc::strong_count(&runs.0), 1, "the target is gone");
    });
}

#[test]
fn drop_of_the_last_handle_against_a_turn() {
    drop_against_turn(start, |_| ());
}

#[test]
fn drop_of_the_last_handle_in_the_queue_against_a_turn() {
    drop_against_turn(place, |_| ());
}

/// It becomes a whole one before, after or during its turn.
#[test]
fn promotion_and_drop_against_a_turn() {
    drop_against_turn(place, |timer| drop(timer.whole()));
}

/// Two handles, of which one makes it a whole timer.
#[test]
fn promotion_against_drop_and_a_turn() {
    check(LOW_BOUND, || {
        let runs = Shared::new(Runs::default());
        let engine = Engine::hosted(Loop::here());
        let timer = place(&engine, &runs);
        let other = timer.clone();
        let threads = [thread::spawn(move || drop(timer)), thread::spawn(move || drop(other.whole()))];
        host_until(&engine, || timers(&engine) == 0);
        runs.end();
        threads.into_iter().for_each(thread::JoinHandle::join);
        drop(engine);
        assert_eq!(Arc::strong_count(&runs.0), 1, "the target is gone");
    });
}

fn stop_and_start_against_turn<V: Send + Sync + 'static>(start: fn(&Engine, &Shared<Runs>) -> Timer<V>) {
    check(BOUND, move || {
        let runs = Shared::new(Runs::default());
        let engine = hosted();
        let timer = start(&engine, &runs);
        host_during(&engine, {
            let (runs, timer) = (runs.clone(), timer.clone());
            move || {
                block::forever(timer.cancel());
                let before = runs.get().begun;
                timer.start().unwrap();
                block::forever(timer.wait_hits(before + 1)).unwrap();
            }
        });
        assert_eq!(timers(&engine), 1);
        assert_consistent(&timer, runs.get().begun);
    });
}

#[test]
fn stop_and_start_against_a_turn() {
    stop_and_start_against_turn(start);
}

#[test]
fn stop_and_start_in_the_queue_against_a_turn() {
    stop_and_start_against_turn(place);
}

/// The keeper takes both at once. A stop may find the second before its run, in it, or after it.
#[test]
fn stops_against_a_batch() {
    check(BOUND, || {
        let all_runs = [(), ()].map(|()| Shared::new(Runs::default()));
        let engine = Engine::builder().precision(Precision::Fine).workers(0).build();
        let timers = [0, 1].map(|n| place(&engine, &all_runs[n]));
        for (timer, runs) in timers.iter().zip(&all_runs).rev() {
            assert_eq!(cancel(timer), StopReason::Cancelled);
            assert_consistent(timer, runs.end());
        }
        assert_eq!(engine.close(Duration::MAX), 0);
        sync::let_time_pass();
    });
}

/// As [`place`], on a worker.
#[test]
fn cancel_in_the_queue_against_a_turn_on_a_worker() {
    check(LOW_BOUND, || {
        let runs = Shared::new(Runs::default());
        let engine = Engine::builder().precision(Precision::Fine).workers(1).build();
        let timer = engine.every(PERIOD).fixed_rate();
        let target = runs.clone();
        let timer = timer.start(move || _ = target.run()).unwrap();
        assert_eq!(cancel(&timer), StopReason::Cancelled);
        assert_consistent(&timer, runs.end());
        assert_eq!(engine.close(Duration::MAX), 0);
        sync::let_time_pass();
    });
}

/// It becomes a whole one while it is in line, with a worker before its turn, in it, or after it.
#[test]
fn promotion_against_a_turn_on_a_worker() {
    check(LOW_BOUND, || {
        let runs = Shared::new(Runs::default());
        let engine = Engine::builder().precision(Precision::Fine).workers(1).build();
        let target = runs.clone();
        let timer = engine.every(PERIOD).fixed_rate().start(move || _ = target.run()).unwrap();
        block::forever(timer.wait_hits(1)).unwrap();
        assert_eq!(cancel(&timer), StopReason::Cancelled);
        assert_consistent(&timer, runs.end());
        assert_eq!(engine.close(Duration::MAX), 0);
        sync::let_time_pass();
    });
}

/// Both become whole ones before, after or during their turns.
#[test]
fn promotion_against_a_batch() {
    check(LOW_BOUND, || {
        let all_runs = [(), ()].map(|()| Shared::new(Runs::default()));
        let engine = Engine::builder().precision(Precision::Fine).workers(0).build();
        let timers = [0, 1].map(|n| place(&engine, &all_runs[n]));
        for timer in timers.iter().rev() {
            block::forever(timer.wait_hits(1)).unwrap();
        }
        for (timer, runs) in timers.iter().zip(&all_runs) {
            assert_consistent(timer, runs.get().begun);
            assert_eq!(cancel(timer), StopReason::Cancelled);
            runs.end();
        }
        assert_eq!(engine.close(Duration::MAX), 0);
        sync::let_time_pass();
    });
}

/// The run that a trigger waits for began after it.
#[test]
fn trigger_against_a_turn() {
    check(BOUND, || {
        let asked = Shared::new(false);
        let engine = hosted();
        let was_asked = asked.clone();
        let timer = engine.every(PERIOD).fixed_rate().inline().start(move || was_asked.get()).unwrap();
        host_during(&engine, {
            let timer = timer.clone();
            move || {
                asked.change(|asked| *asked = true);
                assert!(*block::forever(timer.trigger()).unwrap());
            }
        });
        assert!((1..=2).contains(&timer.hits()));
        assert_eq!(timers(&engine), 1);
    });
}

#[test]
fn start_against_cancel() {
    check(BOUND, || {
        let (runs, answer) = (Shared::new(Runs::default()), Shared::new(None));
        let (engine, here) = (hosted(), thread::current());
        let timer = build(&engine, &runs);
        let stopper = thread::spawn({
            let (timer, answer) = (timer.clone(), answer.clone());
            move || {
                let reason = block::forever(timer.cancel());
                answer.change(|answer| *answer = Some(reason));
                here.unpark();
            }
        });
        timer.start().unwrap();
        host_until(&engine, || answer.get().is_some());
        stopper.join();
        // `Drained` is the answer of one that was not started yet.
        let stopped = answer.get() == Some(StopReason::Cancelled);
        assert_eq!(timer.is_running(), !stopped);
        assert_eq!(timers(&engine), usize::from(!stopped));
        engine.turn();
        assert_consistent(&timer, runs.get().begun);
    });
}

#[test]
fn two_starts_at_once() {
    check(None, || {
        let runs = Shared::new(Runs::default());
        let engine = Engine::hosted(Loop::here());
        let timer = build(&engine, &runs);
        let other = thread::spawn({
            let timer = timer.clone();
            move || timer.start()
        });
        let started = [timer.start(), other.join()];
        assert_eq!(started.iter().filter(|started| started.is_ok()).count(), 1);
        assert!(started.iter().any(|started| matches!(started, Err(Error::AlreadyRunning { .. }))));
        engine.turn();
        assert_eq!((timers(&engine), runs.get().begun), (1, 1));
    });
}

#[test]
fn close_against_a_start() {
    check(None, || {
        let runs = Shared::new(Runs::default());
        let engine = Engine::hosted(Loop::here());
        let timer = build(&engine, &runs);
        let starter = thread::spawn({
            let timer = timer.clone();
            move || timer.start()
        });
        assert_eq!(engine.close(Duration::MAX), 0);
        let started = starter.join();
        assert_eq!(timers(&engine), 0);
        assert!(!timer.is_running());
        match started {
            Ok(()) => assert_eq!(block::forever(timer.wait()).unwrap(), StopReason::Abandoned),
            Err(error) => assert!(matches!(error, Error::EngineClosed { .. }), "{error}"),
        }
        assert!(matches!(timer.start(), Err(Error::EngineClosed { .. })));
        engine.turn();
        assert_eq!(runs.end(), 0);
    });
}

fn close_against_turn<V: Send + Sync + 'static>(start: fn(&Engine, &Shared<Runs>) -> Timer<V>) {
    check(BOUND, move || {
        let runs = Shared::new(Runs::default());
        let engine = Engine::hosted(Loop::here());
        let timer = start(&engine, &runs);
        let host = thread::spawn({
            let engine = engine.clone();
            move || _ = engine.turn()
        });
        assert_eq!(engine.close(Duration::MAX), 0);
        let begun = runs.end();
        assert_consistent(&timer, begun);
        assert_eq!(block::forever(timer.wait()).unwrap(), StopReason::Abandoned);
        host.join();
        assert_eq!(timers(&engine), 0);
    });
}

#[test]
fn close_against_a_turn() {
    close_against_turn(start);
}

#[test]
fn close_against_a_turn_in_the_queue() {
    close_against_turn(place);
}
