//! Targets that do what a scenario plans for each run, and write down what becomes of them.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use everbeat::{AnyTimer, IntoTarget, Step, Target, Ticks};
use everbeat_core::Tick;
use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::log::Log;
use crate::expect::FailureKind;
use crate::scenario::{Do, Returns, RunPlan, Scenario};
use crate::span::Span;
use crate::trace::RunEnd;

/// What a run delivers.
pub(super) trait Delivered: Send + Sync + 'static {
    fn seen(&self) -> u64;
}

impl Delivered for u64 {
    fn seen(&self) -> u64 {
        *self
    }
}

impl Delivered for () {
    fn seen(&self) -> u64 {
        0
    }
}

impl Delivered for Tick {
    fn seen(&self) -> u64 {
        0
    }
}

/// What a run makes of its number.
pub(super) trait Made: Delivered {
    fn of(value: u64) -> Self;
}

impl Made for u64 {
    fn of(value: u64) -> Self {
        value
    }
}

impl Made for () {
    fn of(_: u64) -> Self {}
}

/// What the runs of a scenario do.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) scenario: Arc<Scenario>,
    pub(super) log: Arc<Log>,
}

/// The error of a run that is to fail.
#[derive(Debug)]
pub(super) struct Planned;

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("planned")
    }
}

impl std::error::Error for Planned {}

impl Script {
    pub(super) fn plan(&self, run: u64) -> &RunPlan {
        self.scenario.plan(run)
    }

    /// A run begins, and does to its own timer what is planned.
    fn begin(&self, tick: &Tick, me: Option<&AnyTimer>) {
        if !self.log.begin(tick, me.map(|me| me.stats().hits)) {
            me.cloned().or_else(everbeat::current).map(|me| me.cancel());
        }
        if let Some(me) = me {
            self.plan(tick.run).does.iter().for_each(|action| act(me, action));
        }
    }

    /// A run that takes no time and is written down. It asks who its timer is only if it has to: that makes a lean
    /// timer a whole one.
    pub(super) fn call_recorded(&self, tick: Tick) -> Result<u64, Planned> {
        let asks = !self.plan(tick.run).does.is_empty();
        let me = asks.then(|| everbeat::current().expect("a run has a current timer"));
        self.begin(&tick, me.as_ref());
        self.record(tick.run)
    }

    /// The call that is made once, and is told nothing.
    pub(super) fn call_once(&self) -> Result<u64, Planned> {
        let _ = self.log.begin_untold();
        self.record(self.log.run())
    }

    /// Writes down how a run ends that takes no time.
    fn record(&self, run: u64) -> Result<u64, Planned> {
        let result = catch_unwind(AssertUnwindSafe(|| self.call(run)));
        self.log.end(match &result {
            Ok(Ok(value)) => RunEnd::Value(*value),
            Ok(Err(Planned)) => RunEnd::Failed(FailureKind::Error),
            Err(_) => RunEnd::Failed(FailureKind::Panic),
        });
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// A run that takes no time.
    pub(super) fn call(&self, run: u64) -> Result<u64, Planned> {
        match self.plan(run).returns {
            Returns::Number => Ok(run),
            Returns::Value(value) => Ok(value),
            Returns::Error => Err(Planned),
            // Goes past the panic hook: a planned panic prints nothing.
            Returns::Panic => resume_unwind(Box::new("planned")),
        }
    }

    /// A run that takes its time.
    pub(super) async fn call_slowly(self, run: u64) -> Result<u64, Planned> {
        let takes = self.plan(run).takes;
        if takes > Span::ZERO {
            nap(takes).await;
        }
        self.call(run)
    }

    pub(super) fn items(&self, count: u64) -> Items {
        Items { script: self.clone(), left: count, nap: None }
    }
}

/// An iterator and a stream: each item is what its run is to return.
pub(super) struct Items {
    script: Script,
    left: u64,
    /// The wait for an item, and the run that began it: another run begins another.
    nap: Option<(u64, Pin<Box<Sleep>>)>,
}

impl Items {
    fn take(&mut self) -> Result<u64, Planned> {
        self.left -= 1;
        self.script.call(self.script.log.run())
    }
}

/// The items, as an iterator.
pub(super) struct Iterated(pub(super) Items);

impl Iterator for Iterated {
    type Item = Result<u64, Planned>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.0.left > 0).then(|| self.0.take())
    }
}

/// The items, as a stream.
pub(super) struct Streamed(pub(super) Items);

impl Stream for Streamed {
    type Item = Result<u64, Planned>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let items = &mut self.get_mut().0;
        if items.left == 0 {
            return Poll::Ready(None);
        }
        let run = items.script.log.run();
        let takes = items.script.plan(run).takes;
        if takes > Span::ZERO {
            let begun = items.nap.take_if(|(begun_by, _)| *begun_by == run);
            let (_, nap) = items.nap.insert(begun.unwrap_or_else(|| (run, Box::pin(nap(takes)))));
            ready!(nap.as_mut().poll(cx));
            items.nap = None;
        }
        Poll::Ready(Some(items.take()))
    }
}

/// Sleeps however long it takes: a plain `sleep` of tokio's ends after thirty years at the latest.
fn nap(takes: Span) -> Sleep {
    let end = Instant::now().checked_add(takes.to_duration());
    end.map_or_else(|| sleep(takes.to_duration()), sleep_until)
}

/// A target whose runs are written down, and that does to its own timer what is planned.
pub(super) struct Recorded<X> {
    inner: Pin<Box<X>>,
    script: Script,
}

impl<X: Target<Value = u64>> Recorded<X> {
    pub(super) fn new<M>(target: impl IntoTarget<M, Target = X>, script: &Script) -> Self {
        Self { inner: Box::pin(target.into_target()), script: script.clone() }
    }
}

impl<X: Target<Value = u64>> Target for Recorded<X> {
    type Value = u64;

    fn begin(mut self: Pin<&mut Self>, tick: Tick) {
        let me = everbeat::current().expect("a run has a current timer, as long as somebody holds it");
        self.script.begin(&tick, Some(&me));
        self.inner.as_mut().begin(tick);
    }

    fn poll_run(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Step<u64>> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.inner.as_mut().poll_run(cx)));
        let end = match &polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Step::Value(value))) => RunEnd::Value(*value),
            Ok(Poll::Ready(Step::Failed(_))) => RunEnd::Failed(FailureKind::Error),
            Ok(Poll::Ready(Step::Exhausted)) => RunEnd::Exhausted,
            Err(_) => RunEnd::Failed(FailureKind::Panic),
        };
        self.script.log.end(end);
        polled.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn poll_abort(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.inner.as_mut().poll_abort(cx));
        self.script.log.end(RunEnd::GivenUp);
        Poll::Ready(())
    }

    /// Whatever is left of a run when nobody gives it turns any more goes here.
    fn rest(mut self: Pin<&mut Self>) {
        self.inner.as_mut().rest();
        self.script.log.end(RunEnd::GivenUp);
    }
}

/// Consumes the ticks of a schedule. A tick is given up when the schedule ends.
pub(super) async fn consume(script: Script, mut ticks: Ticks) {
    while let Some(tick) = ticks.next().await {
        script.begin(&tick, Some(&ticks.timer().into()));
        let takes = script.plan(tick.run).takes;
        let ended = ticks.timer().wait();
        let end = tokio::select! {
            biased;
            _ = ended => RunEnd::GivenUp,
            () = nap(takes), if takes > Span::ZERO => RunEnd::Value(0),
            () = std::future::ready(()), if takes == Span::ZERO => RunEnd::Value(0),
        };
        script.log.end(end);
    }
}

/// What a run does to its own timer. It makes its requests and waits for none of them.
fn act(me: &AnyTimer, action: &Do) {
    match action {
        Do::Trigger => drop(me.trigger()),
        Do::Pause => me.pause(),
        Do::Resume => me.resume(),
        Do::SetPeriod(period) => me.set_period(period.to_duration()),
        Do::Rearm(period) => me.rearm(period.to_duration()),
        Do::Cancel => drop(me.cancel()),
        Do::Shutdown(grace) => drop(me.shutdown(grace.to_duration())),
        _ => {}
    }
}
