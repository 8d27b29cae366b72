//! A wait that an engine ends, for somebody who is not driven by it.

use std::io;
use std::task::{Context, Poll};
#[cfg(feature = "tokio")]
use std::time::Duration;

use everbeat_core::{Instant, Key};

use super::handle::Engine;

/// Wakes whoever polls it. Holds at most one appointment with the engine.
#[derive(Debug)]
pub(crate) struct EngineAlarm {
    engine: Engine,
    appointment: Option<(Key, Instant)>,
}

impl EngineAlarm {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, appointment: None }
    }

    /// Ready `wait` from now.
    ///
    /// # Errors
    /// The engine cannot start its thread, or is closed.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_wait(&mut self, wait: Duration, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.poll_until(self.engine.time().now() + wait, cx)
    }

    /// Ready at `due`, on the clock of the engine.
    ///
    /// # Errors
    /// As [`poll_wait`](Self::poll_wait).
    pub(crate) fn poll_until(&mut self, due: Instant, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.engine.time().now() >= due {
            self.clear();
            return Poll::Ready(Ok(()));
        }
        let fresh = cx.waker().clone(); // outside of all locks: it may run code of the user's
        let fresh = match self.appointment {
            Some((key, kept)) if kept == due => match self.engine.set_bell(key, fresh) {
                Ok(()) => return Poll::Pending,
                Err(fresh) => fresh,
            },
            _ => {
                self.clear();
                fresh
            }
        };
        match self.engine.ring_at(due, fresh) {
            Ok(key) => {
                self.appointment = Some((key, due));
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Nothing is waited for.
    pub(crate) fn clear(&mut self) {
        if let Some((key, _)) = self.appointment.take() {
            self.engine.cancel_bell(key);
        }
    }
}

impl Drop for EngineAlarm {
    fn drop(&mut self) {
        self.clear();
    }
}
