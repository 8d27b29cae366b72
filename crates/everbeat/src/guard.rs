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
        tracing::error!(timer = %timer, callback, "callback {failure}");
    }
}

/// Drops things of the user's one by one, so that a panic of one does not meet that of another.
pub(crate) fn drop_all_quietly<T>(values: impl IntoIterator<Item = T>) {
    values.into_iter().for_each(drop_quietly);
}

/// Drops something of the user's; a panic is logged and goes no further.
pub(crate) fn drop_quietly<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        tracing::error!("the drop of a value panicked: {}", panic_message(&*payload));
        // A payload whose own drop panics: there is nothing left to do with it but to leak it.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            #[allow(clippy::mem_forget)]
            std::mem::forget(payload);
        }
    }
}
