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
    fn call(&mut self, tick: Tick) -> Poll<Step<Delivery>> {
        Poll::Ready(self.0.call(tick).into())
    }

    fn touch(&self) -> usize {
        0 // what a call of Python reads is not known here
    }

    fn has_rest(&self) -> bool {
        true
    }

    fn rest(&mut self) {
        self.0.rest();
    }
}

/// The same, for a call that is made once.
pub(super) struct Once(SharedJob);

impl Once {
    pub(super) fn target(job: SharedJob) -> CallTarget<Delivery> {
        CallTarget::new(Box::new(Self(job)))
    }
}

impl Callee<Delivery> for Once {
    fn call(&mut self, tick: Tick) -> Poll<Step<Delivery>> {
        Poll::Ready(match self.0.call_once(tick) {
            Ran::Exhausted => Step::Failed("the interpreter is exiting".into()),
            ran => ran.into(),
        })
    }

    fn touch(&self) -> usize {
        0
    }

    fn has_rest(&self) -> bool {
        true
    }

    fn rest(&mut self) {
        self.0.rest();
    }
}

/// A target that is called, or iterated.
pub(super) struct Items {
    job: SharedJob,
    /// Of a run that has not begun.
    tick: Option<Tick>,
}

impl Items {
    pub(super) fn new(job: SharedJob) -> Self {
        Self { job, tick: None }
    }
}

impl Target for Items {
    type Value = Delivery;

    fn begin(mut self: Pin<&mut Self>, tick: Tick) {
        self.tick = Some(tick);
    }

    fn poll_run(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Step<Delivery>> {
        let Some(tick) = self.tick.take() else { return Poll::Ready(Step::Exhausted) };
        Poll::Ready(self.job.call_or_iterate(tick).into())
    }

    fn poll_abort(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn rest(self: Pin<&mut Self>) {
        self.job.rest();
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
