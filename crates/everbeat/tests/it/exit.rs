//! L10: the exit of the process.

use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use std::{env, thread as std_thread};

use everbeat::thread::{Engine, Precision};
use everbeat::{Group, Timer};
use tokio::runtime::Builder;

use crate::support::{LIMIT, ms};
use crate::thread_support::{HOUR, hold_up};

/// Set in the process that exits.
const CHILD: &str = "EVERBEAT_TEST_EXITS";

static RUNS: AtomicU64 = AtomicU64::new(0);

/// Exit handlers are called last in, first out: this one, registered before the engines', comes after it.
#[allow(unsafe_code)]
fn at_exit(handler: extern "C" fn()) {
    // SAFETY: as the C library declares it; the handlers do not unwind.
    unsafe extern "C" {
        safe fn atexit(callback: extern "C" fn()) -> std::ffi::c_int;
    }
    assert_eq!(atexit(handler), 0);
}

/// What the body of this test says in a process of its own, which it leaves by `exit`.
fn told_at_exit(test: &str, body: fn()) -> String {
    if env::var_os(CHILD).is_some() {
        body();
        std::process::exit(0);
    }
    let this = env::current_exe().unwrap();
    let name = format!("exit::{test}");
    let child = Command::new(this).args(["--exact", &name, "--nocapture"]).env(CHILD, "1").output().unwrap();
    String::from_utf8_lossy(&child.stderr).into_owned()
}

#[test]
fn l10_no_run_begins_once_the_exit_of_the_process_has() {
    extern "C" fn look() {
        std_thread::sleep(ms(5)); // for the run that was in flight
        let before = RUNS.load(Ordering::SeqCst);
        std_thread::sleep(ms(100));
        let after = RUNS.load(Ordering::SeqCst);
        eprintln!("before the exit: {}, during: {}", before > 100, after - before);
    }
    let told = told_at_exit("l10_no_run_begins_once_the_exit_of_the_process_has", || {
        at_exit(look);
        for inline in [true, false] {
            let engine = Engine::builder().precision(Precision::Fine).build();
            let builder = engine.every(ms(1)).fixed_rate();
            let builder = if inline { builder.inline() } else { builder };
            let timer = builder.start(|| RUNS.fetch_add(1, Ordering::SeqCst)).unwrap();
            timer.wait_hits(100).block(LIMIT).unwrap();
            timer.detach();
        }
    });
    assert!(told.contains("before the exit: true, during: 0"), "{told}");
}

/// Whoever calls `exit` in the middle of a runtime does not end it. One that is dropped, as at the end of `main`, ends
/// its timers.
#[test]
fn l10_timers_on_a_runtime_go_on_until_it_is_dropped_or_the_process_is_gone() {
    static TASK: AtomicU64 = AtomicU64::new(0);
    static SHARED: AtomicU64 = AtomicU64::new(0);
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    fn grows(runs: &AtomicU64) -> bool {
        let (before, begun) = (runs.load(Ordering::SeqCst), Instant::now());
        while runs.load(Ordering::SeqCst) == before && begun.elapsed() < LIMIT {
            std_thread::sleep(ms(1));
        }
        runs.load(Ordering::SeqCst) > before
    }
    extern "C" fn look() {
        let before = DROPPED.load(Ordering::SeqCst);
        let (task, shared) = (grows(&TASK), grows(&SHARED));
        let dropped = DROPPED.load(Ordering::SeqCst) - before;
        eprintln!("a task: {task}, a shared one: {shared}, after the drop: {dropped}");
    }
    let told =
        told_at_exit("l10_timers_on_a_runtime_go_on_until_it_is_dropped_or_the_process_is_gone", || {
            at_exit(look);
            let runtime = || Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
            let (goes_on, goes) = (runtime(), runtime());
            let group = Group::new();
            let count = |runs: &'static AtomicU64| move || _ = runs.fetch_add(1, Ordering::SeqCst);
            let start = |builder: everbeat::Builder, runs| builder.start(count(runs)).unwrap();
            let timers = goes_on
                .block_on(async { [start(Timer::every(ms(1)), &TASK), start(group.every(ms(1)), &SHARED)] });
            let dropped = goes.block_on(async { start(Timer::every(ms(1)), &DROPPED) });
            for timer in timers.iter().chain([&dropped]) {
                timer.wait_hits(3).block(LIMIT).unwrap();
            }
            drop(goes);
            std::process::exit(0); // with the other runtime as it is
        });
    assert!(told.contains("a task: true, a shared one: true, after the drop: 0"), "{told}");
}

static EXITS: AtomicBool = AtomicBool::new(false);
static FIRST: OnceLock<Timer<()>> = OnceLock::new();

#[test]
fn l9_a_timer_whose_run_ended_during_the_exit_can_be_stopped() {
    extern "C" fn stop() {
        EXITS.store(true, Ordering::SeqCst);
        std_thread::sleep(ms(50)); // for the end of the run
        eprintln!("stopped: {:?}", FIRST.get().map(|timer| timer.cancel().block(ms(500)).is_ok()));
    }
    let told = told_at_exit("l9_a_timer_whose_run_ended_during_the_exit_can_be_stopped", || {
        at_exit(stop);
        let engine = Engine::builder().workers(0).build();
        let (holdup, go) = hold_up(&engine);
        let (in_run, runs) = std::sync::mpsc::channel();
        let first = engine.every(HOUR).inline().start(move || {
            in_run.send(()).unwrap();
            while !EXITS.load(Ordering::SeqCst) {
                std_thread::yield_now();
            }
        });
        assert!(FIRST.set(first.unwrap()).is_ok());
        engine.every(HOUR).inline().start(|| ()).unwrap().detach();
        holdup.detach();
        go.send(()).unwrap();
        runs.recv_timeout(LIMIT).unwrap();
    });
    assert!(told.contains("stopped: Some(true)"), "{told}");
}
