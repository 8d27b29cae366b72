//! The exit of the process.
//!
//! The threads of engines are not joined at exit, since a run may take as long as it likes. But once the
//! exit has begun they start no other run: what runs use may be gone by then.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::guard::tell;

static BEGUN: AtomicBool = AtomicBool::new(false);

/// Asks to be told of the exit. Called before the first thread of an engine starts.
pub(super) fn watch() {
    static WATCH: Once = Once::new();
    WATCH.call_once(ask);
}

/// Whether the exit of the process has begun.
#[inline]
pub(super) fn has_begun() -> bool {
    BEGUN.load(Ordering::Acquire)
}

/// Never returns once the exit of the process has begun. For threads of engines, before each run.
#[inline]
pub(super) fn stop_here_at_exit() {
    if has_begun() {
        stop();
    }
}

#[cold]
fn stop() -> ! {
    loop {
        thread::park();
    }
}

#[cfg(all(unix, not(miri)))] // which knows no `atexit`
#[allow(unsafe_code)]
fn ask() {
    // SAFETY: this is the declaration of the C library, which takes a function without parameters. That
    // function only stores to an atomic variable: it neither unwinds nor relies on anything that an exit
    // takes away.
    unsafe extern "C" {
        safe fn atexit(callback: extern "C" fn()) -> std::ffi::c_int;
    }
    extern "C" fn begin() {
        BEGUN.store(true, Ordering::Release);
    }
    if atexit(begin) != 0 {
        tell!(WARN, "the C library takes no more exit handlers: runs may begin during the exit");
    }
}

#[cfg(any(not(unix), miri))]
fn ask() {}
