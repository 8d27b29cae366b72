//! L4, L12, R1: threads that race timers which fire. `EVERBEAT_STRESS=100` races a hundred times as long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use everbeat::thread::{Engine, PeriodicTask, Precision};
use everbeat::{Error, Missed, OnError, Timer};

use crate::support::{LIMIT, eventually, ms, much};

const PRECISIONS: [Precision; 3] = [Precision::Coarse, Precision::Fine, Precision::Spin];

/// Numbers in no particular order, the same in each test run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

fn spin(micros: u64) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(micros) {
        std::hint::spin_loop();
    }
}

/// Makes one-shots and calls each off at about the time when it fires. Returns how many fired.
fn duel(engine: &Engine, shots: u64, seed: u64) -> Result<u64, Error> {
    let mut dice = Dice(seed);
    let mut fired = 0;
    for _ in 0..shots {
        let called = Arc::new(AtomicBool::new(false));
        let flag = called.clone();
        let delay = Duration::from_micros(dice.throw(60));
        let shot = engine.after(delay, move || flag.store(true, Ordering::SeqCst))?;
        spin(dice.throw(150));
        let won = shot.cancel();
        let answer = shot.wait().block(LIMIT);
        assert_ne!(won, called.load(Ordering::SeqCst), "cancel said {won}");
        assert_eq!(won, answer.is_err(), "cancel said {won}, and the call {answer:?}");
        assert!(!shot.cancel());
        fired += u64::from(!won);
    }
    Ok(fired)
}

#[test]
fn l12_either_the_call_is_made_or_the_cancel_has_won() {
    for workers in [0, 2] {
        let engine = Engine::builder().precision(Precision::Fine).workers(workers).build();
        let shots = u64::from(much(1_000));
        let fired: u64 = thread::scope(|scope| {
            let duels: Vec<_> = (0..4)
                .map(|seed| (seed, engine.clone()))
                .map(|(seed, engine)| scope.spawn(move || duel(&engine, shots, seed)))
                .collect();
            duels.into_iter().map(|duel| duel.join().unwrap().unwrap()).sum()
        });
        eprintln!("with {workers} workers: {fired} of {} calls were made", 4 * shots);
        eventually("the engine has let go of them", || engine.stats().timers == 0);
    }
}

#[test]
fn l12_a_call_that_is_asked_for_when_it_is_due_is_answered() -> Result<(), Error> {
    let engine = Engine::builder().precision(Precision::Fine).build();
    let mut dice = Dice(11);
    for round in 0..much(2_000) {
        let called = AtomicUsize::new(0);
        let called = Arc::new(called);
        let count = called.clone();
        let shot = engine.after(Duration::from_micros(dice.throw(60)), move || {
            count.fetch_add(1, Ordering::SeqCst);
            spin(u64::from(round % 5));
        })?;
        spin(dice.throw(120));
        shot.fire_now().block(LIMIT)?;
        shot.wait().block(LIMIT)?;
        assert_eq!(called.load(Ordering::SeqCst), 1);
    }
    Ok(())
}

#[test]
fn l12_many_threads_cancel_one_call_and_one_wins() -> Result<(), Error> {
    let engine = Engine::builder().precision(Precision::Fine).build();
    let mut dice = Dice(7);
    for _ in 0..much(500) {
        let called = Arc::new(AtomicUsize::new(0));
        let count = called.clone();
        let delay = Duration::from_micros(dice.throw(300));
        let shot = engine.after(delay, move || count.fetch_add(1, Ordering::SeqCst))?;
        let wins: usize = thread::scope(|scope| {
            let cancels: Vec<_> = (0..3).map(|_| scope.spawn(|| usize::from(shot.cancel()))).collect();
            cancels.into_iter().map(|cancel| cancel.join().unwrap()).sum()
        });
        let _ = shot.wait().block(LIMIT);
        assert_eq!(wins + called.load(Ordering::SeqCst), 1);
    }
    Ok(())
}

/// What a target tells of itself.
#[derive(Default)]
struct Witness {
    inside: AtomicUsize,
    runs: AtomicU64,
    overlaps: AtomicUsize,
    stopped: AtomicBool,
    late: AtomicUsize,
}

impl Witness {
    fn run(&self) {
        let others = self.inside.fetch_add(1, Ordering::SeqCst);
        self.overlaps.fetch_add(others, Ordering::SeqCst);
        self.late.fetch_add(usize::from(self.stopped.load(Ordering::SeqCst)), Ordering::SeqCst);
        spin(self.runs.fetch_add(1, Ordering::SeqCst) % 8);
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    /// A stop has returned just now.
    fn check(&self, pause: u64) {
        self.stopped.store(true, Ordering::SeqCst);
        let (inside, runs) = (self.inside.load(Ordering::SeqCst), self.runs.load(Ordering::SeqCst));
        spin(pause);
        let late = self.late.load(Ordering::SeqCst);
        assert_eq!((inside, late), (0, 0), "runs in progress, runs begun, after a stop");
        assert_eq!(self.runs.load(Ordering::SeqCst), runs);
        assert_eq!(self.overlaps.load(Ordering::SeqCst), 0);
    }
}

/// Starts and stops a timer that fires all the time, until `time` is over. Returns how many stops that
/// were.
fn race(precision: Precision, inline: bool, time: Duration) -> Result<u64, Error> {
    let engine = Engine::builder().precision(precision).workers(2).build();
    let witness = Arc::new(Witness::default());
    let target = witness.clone();
    let period = Duration::from_micros(if inline { 0 } else { 15 });
    let builder = engine.every(period).fixed_rate();
    let builder = if inline { builder.inline() } else { builder };
    let task = PeriodicTask::of(builder, move || target.run())?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                drop(task.timer().trigger());
                thread::yield_now();
            }
        });
        let stops = stop_again_and_again(&task, &witness, time);
        over.store(true, Ordering::SeqCst);
        stops
    })
}

fn stop_again_and_again(task: &PeriodicTask<()>, witness: &Witness, time: Duration) -> Result<u64, Error> {
    let mut dice = Dice(1);
    let start = Instant::now();
    for round in 0.. {
        if start.elapsed() >= time {
            return Ok(round);
        }
        witness.stopped.store(false, Ordering::SeqCst);
        task.start()?;
        spin(dice.throw(60));
        match round % 4 {
            0 => drop(task.timer().cancel().block(LIMIT)?),
            1 => drop(task.timer().shutdown(LIMIT).block(LIMIT)?),
            2 => task.stop_within(LIMIT)?,
            _ => task.stop(),
        }
        witness.check(dice.throw(10));
    }
    unreachable!("there is no end of rounds")
}

#[test]
fn l4_no_run_starts_or_goes_on_after_a_stop_on_threads() -> Result<(), Error> {
    let mut stops = 0;
    for precision in PRECISIONS {
        for inline in [false, true] {
            stops += race(precision, inline, ms(much(150).into()))?;
        }
    }
    eprintln!("{stops} stops");
    Ok(())
}

#[test]
fn l4_every_thread_that_stops_a_timer_finds_it_stopped() -> Result<(), Error> {
    let engine = Engine::builder().precision(Precision::Fine).workers(2).build();
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < ms(much(500).into()) {
        let witness = Arc::new(Witness::default());
        let target = witness.clone();
        let builder = engine.every(Duration::from_micros(5)).fixed_rate();
        let builder = if rounds % 2 == 0 { builder } else { builder.inline() };
        let timer = builder.start(move || target.run())?;
        thread::scope(|scope| {
            for stopper in 0..3 {
                let (timer, witness) = (&timer, &witness);
                scope.spawn(move || {
                    match stopper {
                        0 => drop(timer.cancel().block(LIMIT).unwrap()),
                        1 => drop(timer.shutdown(LIMIT).block(LIMIT).unwrap()),
                        _ => {
                            timer.request_stop();
                            timer.wait().block(LIMIT).unwrap();
                        }
                    }
                    witness.check(5);
                });
            }
        });
        rounds += 1;
    }
    eprintln!("{rounds} rounds of three stops");
    Ok(())
}

#[test]
fn l7_a_task_that_is_started_while_it_ends_runs_again() -> Result<(), Error> {
    let engine = Engine::builder().precision(Precision::Fine).workers(2).build();
    let task = PeriodicTask::of(engine.every(Duration::from_micros(5)).fixed_rate(), || spin(2))?;
    let mut dice = Dice(3);
    for round in 0..much(5_000) {
        task.start()?;
        spin(dice.throw(40));
        task.timer().request_stop();
        spin(dice.throw(8));
        task.start()?;
        assert!(task.is_running(), "round {round}: the start came after the stop");
    }
    task.stop();
    Ok(())
}

#[test]
fn r1_triggers_from_many_threads_never_make_runs_overlap() -> Result<(), Error> {
    for inline in [false, true] {
        let engine = Engine::builder().precision(Precision::Fine).workers(3).build();
        let witness = Arc::new(Witness::default());
        let target = witness.clone();
        let builder = engine.every(Duration::from_micros(50)).fixed_rate().missed(Missed::Burst { max: 10 });
        let builder = if inline { builder.inline() } else { builder };
        let timer = builder.start(move || target.run())?;
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| trigger_often(&timer, &witness));
            }
        });
        timer.cancel().block(LIMIT)?;
        witness.check(10);
        assert_eq!(timer.hits(), witness.runs.load(Ordering::SeqCst), "no run was lost or counted twice");
    }
    Ok(())
}

/// Every trigger is answered by a run that began after it.
fn trigger_often(timer: &Timer<()>, witness: &Witness) {
    for _ in 0..much(300) {
        let before = witness.runs.load(Ordering::SeqCst);
        timer.trigger().block(LIMIT).unwrap();
        assert!(witness.runs.load(Ordering::SeqCst) > before);
        drop(timer.trigger());
    }
}

#[test]
fn d2_whoever_waits_while_timers_end_is_answered() -> Result<(), Error> {
    let engine = Engine::builder().precision(Precision::Fine).build();
    for round in 0..much(200) {
        let timer = engine.every(Duration::from_micros(20)).on_error(OnError::Continue).start(|| ())?;
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| while timer.join().block(LIMIT).is_ok() {});
            }
            spin(u64::from(round % 100));
            drop(timer.cancel());
        });
        timer.wait().block(LIMIT)?;
        assert!(matches!(timer.join().block(LIMIT), Err(Error::NotRunning { .. })));
    }
    Ok(())
}
