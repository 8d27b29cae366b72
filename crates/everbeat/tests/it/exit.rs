//! L10: the exit of the process.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread as std_thread};

use everbeat::thread::{Engine, Precision};

use crate::support::{LIMIT, ms};

/// Set in the process that exits.
const CHILD: &str = "EVERBEAT_TEST_EXITS";

static RUNS: AtomicU64 = AtomicU64::new(0);

/// Exit handlers are called last in, first out: this one, registered before the engines', comes after it.
#[allow(unsafe_code)]
fn watch_what_runs_during_the_exit() {
    // SAFETY: as the C library declares it; the handler does not unwind.
    unsafe extern "C" {
        safe fn atexit(callback: extern "C" fn()) -> std::ffi::c_int;
    }
    extern "C" fn look() {
        std_thread::sleep(ms(5)); // for the run that was in flight
        let before = RUNS.load(Ordering::SeqCst);
        std_thread::sleep(ms(100));
        let after = RUNS.load(Ordering::SeqCst);
        eprintln!("before the exit: {}, during: {}", before > 100, after - before);
    }
    assert_eq!(atexit(look), 0);
}

#[test]
fn l10_no_run_begins_once_the_exit_of_the_process_has() {
    if env::var_os(CHILD).is_some() {
        watch_what_runs_during_the_exit();
        for inline in [true, false] {
            let engine = Engine::builder().precision(Precision::Fine).build();
            let builder = engine.every(ms(1)).fixed_rate();
            let builder = if inline { builder.inline() } else { builder };
            let timer = builder.start(|| RUNS.fetch_add(1, Ordering::SeqCst)).unwrap();
            timer.wait_hits(100).block(LIMIT).unwrap();
            timer.detach();
        }
        std::process::exit(0);
    }
    let this = env::current_exe().unwrap();
    let name = "exit::l10_no_run_begins_once_the_exit_of_the_process_has";
    let child = Command::new(this).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
    let told = String::from_utf8_lossy(&child.stderr);
    assert!(told.contains("before the exit: true, during: 0"), "{child:?}");
}
