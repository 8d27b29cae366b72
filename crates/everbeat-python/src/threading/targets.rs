//! Jobs as targets of the library: each is nothing but a call, and costs as little as one.

use std::task::Poll;

use everbeat::core::Tick;
use everbeat::{CallTarget, Callee, Step};

use super::job::{Delivery, Ran, SharedJob};

/// A job, and how it is run.
struct Called {
    job: SharedJob,
    run: fn(&SharedJob, Tick) -> Ran,
}

/// Calls it at each run. What it returns is let go of at once: nobody can ask for it.
pub(super) fn called(job: SharedJob) -> CallTarget<Delivery> {
    target(job, |job, tick| match job.call(tick) {
        Ran::Delivered(_) => Ran::Delivered(None),
        ran => ran,
    })
}

/// Calls it once.
pub(super) fn called_once(job: SharedJob) -> CallTarget<Delivery> {
    target(job, |job, tick| match job.call_once(tick) {
        Ran::Exhausted => Ran::Failed("the interpreter is exiting".into()),
        ran => ran,
    })
}

/// Calls it, or takes an item of it.
pub(super) fn called_or_iterated(job: SharedJob) -> CallTarget<Delivery> {
    target(job, SharedJob::call_or_iterate)
}

fn target(job: SharedJob, run: fn(&SharedJob, Tick) -> Ran) -> CallTarget<Delivery> {
    CallTarget::new(Box::new(Called { job, run }))
}

impl Callee<Delivery> for Called {
    fn call(&mut self, tick: Tick) -> Poll<Step<Delivery>> {
        Poll::Ready((self.run)(&self.job, tick).into())
    }

    fn touch(&self) -> usize {
        0 // what a call of Python reads is not known here
    }

    /// What it iterates is closed at its end, which is code of the user's and may take its time: not for whoever stops it.
    fn is_plain(&self) -> bool {
        !self.job.iterates()
    }

    fn has_rest(&self) -> bool {
        true
    }

    fn rest(&mut self) {
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
