//! What tests of timers on threads share.

use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use everbeat::Timer;
use everbeat::thread::Engine;

use crate::support::LIMIT;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// Runs `f` on a thread of its own; `None` if it has not returned in time (the thread is left behind).
pub(crate) fn in_time<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> Option<R> {
    let (done, result) = mpsc::channel();
    let _left_behind = thread::spawn(move || done.send(f()).is_ok());
    result.recv_timeout(LIMIT).ok()
}

pub(crate) fn spin(rounds: u32) {
    for _ in 0..rounds {
        std::hint::spin_loop();
    }
}

const ALONE: &str = "EVERBEAT_TEST_ALONE";

/// Runs `f`, the body of a test, in a process of its own, which a shell may limit before. `module` is the
/// `module_path!()` of the test.
pub(crate) fn alone(module: &str, test: &str, limits: &str, f: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return f();
    }
    let (_, module) = module.split_once("::").unwrap();
    let output = Command::new("sh")
        .args(["-c", &format!(r#"{limits} exec "$0" "$1" --exact --nocapture"#)])
        .arg(std::env::current_exe().unwrap())
        .arg(format!("{module}::{test}"))
        .env(ALONE, "1")
        .output()
        .unwrap();
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // A filter that fits no test succeeds too.
    assert!(output.status.success() && told.contains(" 1 passed"), "{}: {told} {errors}", output.status);
}

/// Keeps the thread of an engine busy until the timers that are started meanwhile are due together.
pub(crate) fn hold_up(engine: &Engine) -> (Timer<()>, mpsc::Sender<()>) {
    let (go, gate) = mpsc::channel::<()>();
    let (in_run, runs) = mpsc::channel();
    let holdup = engine.every(HOUR).inline().start(move || {
        in_run.send(()).unwrap();
        _ = gate.recv_timeout(LIMIT);
    });
    runs.recv_timeout(LIMIT).unwrap();
    (holdup.unwrap(), go)
}

/// A limit for [`alone`] that memory reaches soon.
#[cfg(target_os = "linux")]
pub(crate) const LITTLE_MEMORY: &str = "ulimit -c 0; ulimit -v 1500000;";

/// From here on, in a process with [`LITTLE_MEMORY`], there is no room for the stack of another thread, until
/// what is returned is dropped.
#[cfg(target_os = "linux")]
pub(crate) fn no_more_threads() -> Vec<Vec<u8>> {
    let mut hogs: Vec<Vec<u8>> = Vec::new();
    let mut size = 1 << 30;
    while size >= 1 << 18 {
        let mut hog = Vec::new();
        match hog.try_reserve_exact(size) {
            Ok(()) => hogs.push(hog),
            Err(_) => size /= 2,
        }
    }
    assert!(thread::Builder::new().spawn(|| ()).is_err(), "there is room for a thread");
    hogs
}
