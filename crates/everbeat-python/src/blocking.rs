//! Waiting for a future of the library on a thread that runs no event loop.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How long a signal, Ctrl-C above all, may have to wait for its handler.
const SLICE: Duration = Duration::from_millis(50);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks this thread until the future is ready, for at most `limit`: `None` after that. The interpreter is
/// free meanwhile.
///
/// # Errors
/// What the handler of a signal has raised.
pub(crate) fn on<F>(py: Python<'_>, mut future: F, limit: Option<Duration>) -> PyResult<Option<F::Output>>
where
    F: Future + Unpin + Send,
    F::Output: Send,
{
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let end = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let waited = py.detach(|| wait_a_slice(&mut future, &waker, end));
        match waited {
            Poll::Ready(output) => return Ok(output),
            Poll::Pending => py.check_signals()?,
        }
    }
}

/// Ready with the output, or with `None` at the end of the time.
fn wait_a_slice<F: Future + Unpin>(
    future: &mut F,
    waker: &Waker,
    end: Option<Instant>,
) -> Poll<Option<F::Output>> {
    let slice = Instant::now() + SLICE;
    loop {
        if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut Context::from_waker(waker)) {
            return Poll::Ready(Some(output));
        }
        let now = Instant::now();
        if end.is_some_and(|end| end <= now) {
            return Poll::Ready(None);
        }
        if slice <= now {
            return Poll::Pending;
        }
        thread::park_timeout(end.map_or(slice, |end| end.min(slice)) - now);
    }
}
