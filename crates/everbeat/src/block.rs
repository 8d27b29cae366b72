//! Waiting on a thread, with a limit.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::sync::thread::{self, Thread};
use crate::thread::workers::LentPlace;

/// What to do where blocking is refused.
pub(crate) const ADVICE: &str = "await it, or block on another thread";

/// Whether this thread is running a tokio runtime.
pub(crate) fn is_in_runtime() -> bool {
    #[cfg(feature = "tokio")]
    return tokio::runtime::Handle::try_current().is_ok();
    #[cfg(not(feature = "tokio"))]
    return false;
}

/// What this thread has woken may wait for it to come back: a worker of tokio keeps the task that it woke last to
/// itself, where no other worker finds it. One more task takes that place, and the others get what was there.
fn hand_on_what_was_woken() {
    #[cfg(feature = "tokio")]
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        if runtime.runtime_flavor() != tokio::runtime::RuntimeFlavor::CurrentThread {
            drop(runtime.spawn(std::future::ready(())));
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Unparks this thread.
pub(crate) fn waker() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

/// Blocks the thread until the future is ready; `None` after `timeout`.
pub(crate) fn on<F: Future>(future: F, timeout: Duration) -> Option<F::Output> {
    let mut future = pin!(future);
    let waker = waker();
    let mut cx = Context::from_waker(&waker);
    let start = Instant::now();
    let mut lent = None;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        if lent.is_none() {
            hand_on_what_was_woken();
            lent = Some(LentPlace::lend());
        }
        let rest = timeout.checked_sub(start.elapsed()).filter(|rest| !rest.is_zero())?;
        thread::park_timeout(rest);
    }
}

/// Blocks the thread until the future is ready.
pub(crate) fn forever<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Some(output) = on(future.as_mut(), Duration::MAX) {
            return output;
        }
    }
}
