//! Jobs as targets of the library.

use std::pin::Pin;
use std::task::{Context, Poll};

use everbeat::core::Tick;
use everbeat::{CallTarget, Callee, Step, Target};

use super::job::{Delivery, Ran, SharedJob};

/// A target that is nothing but a call, and costs as little as one.
pub(super) struct Plain(SharedJob);

impl Plain {
    pub(super) fn target(job: SharedJob) -> CallTarget<Delivery> {
        CallTarget::new(Box::new(Self(job)))
    }
}

impl Callee<Delivery> for Plain {
    fn call(&mut self, _: Tick) -> Poll<Step<Delivery>> {
        Poll::Ready(self.0.call().into())
    }

    fn touch(&self) -> usize {
        0 // what a call of Python reads is not known here
    }
}

/// A target that is called, or iterated.
pub(super) struct Items(pub(super) SharedJob);

impl Target for Items {
    type Value = Delivery;

    fn begin(self: Pin<&mut Self>, _: Tick) {}

    fn poll_run(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Step<Delivery>> {
        Poll::Ready(self.0.call_or_iterate().into())
    }

    fn poll_abort(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn rest(self: Pin<&mut Self>) {
        self.0.rest();
    }
}

impl From<Ran> for Step<Delivery> {
    fn from(ran: Ran) -> Self {
        match ran {
            Ran::Delivered(value) => Self::Value(value),
            Ran::Failed(error) => Self::Failed(error),
            Ran::Exhausted => Self::Exhausted,
        }
    }
}
