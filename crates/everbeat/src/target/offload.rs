//! The target that runs on a thread for blocking work.
//!
//! # Locks
//!
//! The lock of a closure's home, and that of the parcel in which it travels, are held only to take the closure or to put
//! it back; it runs outside.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use everbeat_core::Tick;
use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::shapes::CallOnTick;
use super::{Step, Target};
use crate::current::Inside;
use crate::outcome::Outcome;

pin_project! {
    /// A sync call on a thread for blocking work.
    ///
    /// The closure travels to the thread and back. While it is away no other run can begin, even if the
    /// run that took it was given up: the next one waits for it first.
    #[derive(Debug)]
    #[doc(hidden)]
    pub struct OffloadTarget<F, O> {
        home: Arc<Mutex<Option<F>>>,
        tick: Option<Tick>,
        // Of a run that was recalled before it began there is no outcome.
        job: Option<JoinHandle<Option<O>>>,
    }
}

impl<F, O> OffloadTarget<F, O> {
    pub(super) fn new(call: F) -> Self {
        Self { home: Arc::new(Mutex::new(Some(call))), tick: None, job: None }
    }
}

impl<F, O> Target for OffloadTarget<F, O>
where
    F: CallOnTick<O>,
    O: Outcome<Value: Send + Sync + 'static> + Send + 'static,
{
    type Value = O::Value;

    fn begin(self: Pin<&mut Self>, tick: Tick) {
        *self.project().tick = Some(tick);
    }

    fn poll_run(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Step<Self::Value>> {
        let this = self.project();
        if this.tick.is_some() {
            // What is still out was given up: wait until it is back, and let its result go.
            ready!(poll_job(this.job, cx));
            let tick = this.tick.take().expect("checked above");
            let Some(loan) = Loan::take(this.home) else {
                return Poll::Ready(Step::Failed("the closure did not come back from its thread".into()));
            };
            if Handle::try_current().is_err() {
                // On an engine: its workers are threads for blocking work already.
                return Poll::Ready(Step::of(loan.call(tick)));
            }
            let (run, parcel) = (Inside::current(), Arc::new(Mutex::new(Some(loan))));
            // tokio panics where it has no thread and can get none, and keeps the job in its queue.
            let mut recall = Recall(Some(parcel.clone()));
            *this.job = Some(tokio::task::spawn_blocking(move || {
                let loan = parcel.lock().unwrap_or_else(PoisonError::into_inner).take()?;
                Some(match run {
                    Some(run) => run.scope(|| loan.call(tick)),
                    None => loan.call(tick),
                })
            }));
            recall.0 = None;
        }
        match ready!(poll_job(this.job, cx)) {
            Some(Ok(Some(output))) => Poll::Ready(Step::of(output)),
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(Err(error)) => Poll::Ready(Step::Failed(error.into())),
            Some(Ok(None)) | None => Poll::Ready(Step::Failed("the run was given up".into())),
        }
    }

    fn poll_abort(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        *this.tick = None;
        if let Some(job) = this.job {
            job.abort(); // takes it out of the queue if it has not begun
        }
        poll_job(this.job, cx).map(drop)
    }

    fn rest(self: Pin<&mut Self>) {}
}

fn poll_job<O>(
    job: &mut Option<JoinHandle<O>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<O, tokio::task::JoinError>>> {
    let Some(handle) = job else { return Poll::Ready(None) };
    let result = ready!(Pin::new(handle).poll(cx));
    *job = None;
    Poll::Ready(Some(result))
}

/// Takes a closure back from a job that was not taken, so that it will never be called there.
struct Recall<F>(Option<Arc<Mutex<Option<Loan<F>>>>>);

impl<F> Drop for Recall<F> {
    fn drop(&mut self) {
        let parcel = self.0.take();
        drop(parcel.and_then(|parcel| parcel.lock().unwrap_or_else(PoisonError::into_inner).take()));
    }
}

/// A closure on its way: it goes home however the journey ends.
struct Loan<F> {
    call: Option<F>,
    home: Arc<Mutex<Option<F>>>,
}

impl<F> Loan<F> {
    fn take(home: &Arc<Mutex<Option<F>>>) -> Option<Self> {
        let call = home.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Self { call: Some(call), home: home.clone() })
    }

    fn call<O>(mut self, tick: Tick) -> O
    where
        F: CallOnTick<O>,
    {
        self.call.as_mut().expect("a loan holds its closure until it is dropped").call(tick)
    }
}

impl<F> Drop for Loan<F> {
    fn drop(&mut self) {
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = self.call.take();
    }
}
