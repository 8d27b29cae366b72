//! Fences around code that is not ours.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use crate::error::{Failure, panic_message};
use crate::name::Name;
use crate::sync::catch_unwind;

/// Runs code of the user's; a panic becomes a failure. Whatever the code held is treated as broken
/// afterwards, so it does not matter in which state the panic left it.
#[inline]
pub(crate) fn guarded<R>(f: impl FnOnce() -> R) -> Result<R, Failure> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => Ok(result),
        Err(payload) => Err(failure_of(payload)),
    }
}

/// Tells those who listen to `tracing`, as its `event!` does with this level. They are the user's too: what panics
/// there is no matter of the timer's.
macro_rules! tell {
    ($level:ident, $($event:tt)+) => {
        if tracing::Level::$level <= tracing::level_filters::LevelFilter::current() {
            $crate::guard::heard(|| tracing::event!(tracing::Level::$level, $($event)+));
        }
    };
}
pub(crate) use tell;

/// Runs code of those who listen. A panic ends here, without a word: it is they who would hear of it.
pub(crate) fn heard(event: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(event)) {
        let_go(payload);
    }
}

/// Drops what a panic was about. If its own drop panics, there is nothing left to do with that but to leak it.
fn let_go(payload: Box<dyn Any + Send>) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        #[allow(clippy::mem_forget)]
        std::mem::forget(payload);
    }
}

#[cold]
fn failure_of(payload: Box<dyn Any + Send>) -> Failure {
    let failure = Failure::from_panic(&*payload);
    // The payload is the user's as well, and its drop may panic in turn.
    drop_quietly(payload);
    failure
}

/// Calls a callback of the user's; a panic is logged and changes nothing else.
pub(crate) fn call_back(timer: &Name, callback: &str, f: impl FnOnce()) {
    if let Err(failure) = guarded(f) {
        tell!(ERROR, timer = %timer, callback, "callback {failure}");
    }
}

/// Drops things of the user's one by one, so that a panic of one does not meet that of another.
pub(crate) fn drop_all_quietly<T>(values: impl IntoIterator<Item = T>) {
    values.into_iter().for_each(drop_quietly);
}

/// Drops something of the user's; a panic is logged and goes no further.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        tell!(ERROR, "the drop of a value panicked: {}", panic_message(&*payload));
        let_go(payload);
    }
}
