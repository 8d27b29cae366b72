//! Where everything that happens on the runtime is written down, with the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use everbeat::Failure;
use everbeat_core::Tick;
use tokio::time::Instant;

use crate::expect::{Cause, Ended, FailureKind, Got, Reason};
use crate::span::Span;
use crate::trace::{Given, Run, RunEnd, Trace};

/// The trace of a play in progress.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) origin: Instant,
    /// From when on the timer counts: the time of its first start, or that of its engine.
    start: OnceLock<Span>,
    /// The number of the latest run.
    run: AtomicU64,
    trace: Mutex<Trace>,
}

impl Log {
    pub(super) fn new(origin: Instant, counts_from_origin: bool, trace: Trace) -> Self {
        let start = OnceLock::new();
        if counts_from_origin {
            start.get_or_init(|| Span::ZERO);
        }
        Self { origin, start, run: AtomicU64::new(0), trace: Mutex::new(trace) }
    }

    pub(super) fn now(&self) -> Span {
        self.origin.elapsed().into()
    }

    /// The timer is started.
    pub(super) fn started(&self) {
        self.start.get_or_init(|| self.now());
    }

    /// The number of the latest run, for targets that are not told.
    pub(super) fn run(&self) -> u64 {
        self.run.load(Ordering::Relaxed)
    }

    /// A run begins that is told nothing: when it was due is taken to be now.
    #[must_use]
    pub(super) fn begin_untold(&self) -> bool {
        let (number, at) = (self.run.fetch_add(1, Ordering::Relaxed) + 1, self.now());
        let (slot, missed, lateness, hits, end) = (0, 0, Span::ZERO, None, None);
        let cause = Cause::Schedule;
        self.trace().begin_run(Run { number, slot, at, scheduled: at, lateness, missed, cause, hits, end })
    }

    /// Returns whether the play may go on.
    #[must_use]
    pub(super) fn begin(&self, tick: &Tick, hits: Option<u64>) -> bool {
        self.run.store(tick.run, Ordering::Relaxed);
        let mut tick = *tick;
        tick.scheduled = tick.scheduled + self.start.get().copied().unwrap_or_default().to_duration();
        self.trace().begin(&tick, self.now(), hits)
    }

    pub(super) fn end(&self, end: RunEnd) {
        self.trace().end(self.now(), end);
    }

    pub(super) fn answer(&self, name: &str, got: Got, hits: Option<u64>) {
        self.trace().answer(name, Given { at: self.now(), got, hits });
    }

    pub(super) fn failure_told(&self) {
        self.trace().failures_told.iter_mut().for_each(|told| *told += 1);
    }

    pub(super) fn ended(&self, reason: Reason) {
        let end = Ended { at: self.now(), reason };
        self.trace().ended.iter_mut().for_each(|ended| ended.push(end));
    }

    /// What has been written so far.
    pub(super) fn seen(&self) -> Trace {
        self.trace().clone()
    }

    fn trace(&self) -> MutexGuard<'_, Trace> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What kind of failure it was.
pub(super) fn kind_of(failure: &Failure) -> FailureKind {
    match failure {
        Failure::Panic(_) => FailureKind::Panic,
        Failure::TimedOut(_) => FailureKind::TimedOut,
        _ => FailureKind::Error,
    }
}
