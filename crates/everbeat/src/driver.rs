//! The tokio driver: one task a timer, with one sleep that is set anew for every wait.
//!
//! [`Beat`] holds the target and knows how to make progress; [`BeatTask`] is the future that tokio runs,
//! with the sleep. Between two starts of the timer the beat is parked with the timer's shared state.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::ThreadId;
use std::time::Duration;

use everbeat_core::{AbortCause, Instant, StopReason, Tick};
use pin_project_lite::pin_project;
use tracing::Span;

use crate::any::{BoxFuture, Control};
use crate::clock::{Alarm, Clock};
use crate::current::Scope;
use crate::error::{Error, Failure};
use crate::guard::{call_back, drop_all_quietly, drop_quietly, guarded};
use crate::log::MissedLog;
use crate::name::Name;
use crate::shared::{Action, RunEnd, Shared};
use crate::target::{Step, Target};

/// The timer that a driver works for.
pub(crate) struct Host<'a, V> {
    pub(crate) shared: &'a Shared<V>,
    pub(crate) clock: &'a Clock,
    /// The same timer, to be made the current one while its own code runs.
    pub(crate) me: &'a mut Option<Arc<dyn Control>>,
}

/// What a task does with a timer.
pub(crate) trait Drive<V>: Send {
    /// Does everything that can be done now.
    fn poll(self: Pin<&mut Self>, host: &mut Host<'_, V>, cx: &mut Context<'_>) -> Progress;

    /// The timer has ended for this reason: calls back, and lets go of what a restart makes anew.
    fn end(self: Pin<&mut Self>, host: &mut Host<'_, V>, reason: StopReason);
}

pub(crate) enum Progress {
    /// Nothing to do before this.
    Sleep { until: Option<Instant>, busy: bool },
    /// More to do, after others had their turn.
    Yield,
    /// The timer has ended.
    Ended(StopReason),
}

/// A driver between two starts, or in its task.
pub(crate) type BoxDrive<V> = Pin<Box<dyn Drive<V>>>;

pub(crate) type FailureCallback = dyn FnMut(&Failure) + Send;
pub(crate) type EndCallback = dyn FnMut(StopReason) + Send;

/// What the user attached to a timer besides its target.
pub(crate) struct Attachments {
    pub(crate) run_timeout: Option<Duration>,
    pub(crate) blocked_after: Duration,
    /// Most timers have none of these.
    pub(crate) extras: Option<Box<Extras>>,
}

#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) on_failure: Option<Box<FailureCallback>>,
    pub(crate) on_end: Option<Box<EndCallback>>,
    pub(crate) stop_when: Vec<BoxFuture<()>>,
}

impl Attachments {
    pub(crate) fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    pub(crate) fn has_conditions(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| !extras.stop_when.is_empty())
    }
}

pin_project! {
    /// A target with everything that belongs to its runs.
    pub(crate) struct Beat<X> {
        #[pin]
        target: X,
        run: Option<InFlight>,
        attachments: Attachments,
        missed_log: MissedLog,
        span: Option<Box<Span>>,
    }
}

/// The run in flight.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    tick: Tick,
    begun: bool,
    giving_up: Option<AbortCause>,
    /// A run that is over its time limit is asked once more before it is given up: it may have been
    /// ready long ago, on a runtime that was too busy to notice.
    last_chance: bool,
}

impl<X: Target> Beat<X> {
    pub(crate) fn new(target: X, attachments: Attachments) -> Self {
        Self { target, run: None, attachments, missed_log: MissedLog::default(), span: None }
    }
}

impl<X: Target> Drive<X::Value> for Beat<X> {
    fn poll(mut self: Pin<&mut Self>, host: &mut Host<'_, X::Value>, cx: &mut Context<'_>) -> Progress {
        self.as_mut().poll_conditions(host, cx);
        let mut now = host.clock.now();
        // One run a poll: whoever was woken by it, and everybody else, has a turn before the next.
        let mut may_run = true;
        let mut polled = false;
        loop {
            match host.shared.next_action(now, cx.waker(), may_run) {
                Action::Run(tick) => self.as_mut().take_up(tick),
                Action::Abort(cause) => self.as_mut().give_up(cause),
                Action::Missed(batch) => {
                    self.as_mut().project().missed_log.report(host.shared.name(), batch, now);
                    continue;
                }
                Action::Stopped(reason) => return Progress::Ended(reason),
                Action::Yield => return Progress::Yield,
                Action::Wait { until, busy } if polled || !busy => return Progress::Sleep { until, busy },
                Action::Wait { .. } => {}
            }
            polled = true;
            if let Poll::Ready(end) = self.as_mut().poll_run(host, cx, &mut now) {
                self.as_mut().finish(host, now, end);
                may_run = false;
            }
        }
    }

    fn end(self: Pin<&mut Self>, host: &mut Host<'_, X::Value>, reason: StopReason) {
        let this = self.project();
        let name = host.shared.name();
        *this.run = None;
        if let Err(failure) = guarded(|| this.target.rest()) {
            tracing::error!(timer = %name, "letting go of the target {failure}");
        }
        this.missed_log.tell(name);
        tracing::debug!(timer = %name, ?reason, "timer ended");
        let Some(extras) = &mut this.attachments.extras else { return };
        drop_all_quietly(std::mem::take(&mut extras.stop_when));
        if let Some(on_end) = &mut extras.on_end {
            let _scope = Scope::enter(host.me);
            call_back(name, "on_end", || on_end(reason));
        }
    }
}

impl<X: Target> Beat<X> {
    /// Drains the timer once one of its stop conditions has come true.
    fn poll_conditions(self: Pin<&mut Self>, host: &Host<'_, X::Value>, cx: &mut Context<'_>) {
        let Some(extras) = &mut self.project().attachments.extras else { return };
        let conditions = &mut extras.stop_when;
        let met = conditions.iter_mut().any(|condition| match guarded(|| condition.as_mut().poll(cx)) {
            Ok(poll) => poll.is_ready(),
            Err(failure) => {
                tracing::error!(timer = %host.shared.name(), "a stop condition {failure}");
                true
            }
        });
        if met {
            drop_all_quietly(std::mem::take(conditions));
            host.shared.request_stop(StopReason::Condition);
        }
    }

    fn take_up(self: Pin<&mut Self>, tick: Tick) {
        *self.project().run = Some(InFlight { tick, begun: false, giving_up: None, last_chance: false });
    }

    fn give_up(self: Pin<&mut Self>, cause: AbortCause) {
        if let Some(run) = self.project().run {
            run.giving_up = Some(cause);
            run.last_chance = cause == AbortCause::TimedOut;
        }
    }

    /// Makes progress with the run, or with giving it up. Moves `now` on by what that took.
    fn poll_run(
        mut self: Pin<&mut Self>,
        host: &mut Host<'_, X::Value>,
        cx: &mut Context<'_>,
        now: &mut Instant,
    ) -> Poll<RunEnd<X::Value>> {
        let Some(run) = *self.as_mut().project().run else { return Poll::Pending };
        if run.giving_up.is_none() || run.last_chance {
            if let Poll::Ready(end) = self.as_mut().poll_target(host, cx, now, run) {
                return Poll::Ready(end);
            }
        }
        match run.giving_up {
            None => Poll::Pending,
            Some(cause) => self.poll_abort(host, cx, now, cause),
        }
    }

    fn poll_target(
        mut self: Pin<&mut Self>,
        host: &mut Host<'_, X::Value>,
        cx: &mut Context<'_>,
        now: &mut Instant,
        run: InFlight,
    ) -> Poll<RunEnd<X::Value>> {
        let this = self.as_mut().project();
        if let Some(run) = this.run {
            (run.begun, run.last_chance) = (true, false);
        }
        let (span, mut target) = (this.span, this.target);
        let step = {
            let _scope = Scope::enter(host.me);
            if span.is_none() {
                *span = new_span(host.shared.name());
            }
            let _entered = span.as_ref().map(|span| span.enter());
            guarded(|| {
                if !run.begun {
                    target.as_mut().begin(run.tick);
                }
                target.poll_run(cx)
            })
        };
        let before = std::mem::replace(now, host.clock.now());
        self.as_mut().report_blocked(host, now.saturating_since(before));
        let end = match step {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(step)) => self.judge(run, before, *now, step),
            Err(failure) => {
                self.drop_run(host, cx);
                RunEnd::Failed(failure)
            }
        };
        Poll::Ready(end)
    }

    /// What a step means. One that ran past the time limit while it was being polled (a sync target, say)
    /// could not be interrupted, but is over its limit all the same.
    fn judge(
        self: Pin<&mut Self>,
        run: InFlight,
        before: Instant,
        now: Instant,
        step: Step<X::Value>,
    ) -> RunEnd<X::Value> {
        if let Some(limit) = self.project().attachments.run_timeout {
            let deadline = run.tick.started() + limit;
            if before < deadline && now >= deadline {
                drop_quietly(step);
                return RunEnd::Failed(Failure::TimedOut(limit));
            }
        }
        match step {
            Step::Value(value) => RunEnd::Delivered(value),
            Step::Failed(error) => RunEnd::Failed(Failure::from_error(error)),
            Step::Exhausted => RunEnd::Exhausted,
        }
    }

    fn poll_abort(
        self: Pin<&mut Self>,
        host: &mut Host<'_, X::Value>,
        cx: &mut Context<'_>,
        now: &mut Instant,
        cause: AbortCause,
    ) -> Poll<RunEnd<X::Value>> {
        let this = self.project();
        let given_up = {
            let _scope = Scope::enter(host.me);
            guarded(|| this.target.poll_abort(cx))
        };
        *now = host.clock.now();
        match given_up {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(failure) => tracing::error!(timer = %host.shared.name(), "a run that was given up {failure}"),
        }
        Poll::Ready(match (cause, this.attachments.run_timeout) {
            (AbortCause::TimedOut, Some(limit)) => RunEnd::Failed(Failure::TimedOut(limit)),
            _ => RunEnd::Aborted,
        })
    }

    /// Drops what a panic left of a run.
    fn drop_run(self: Pin<&mut Self>, host: &mut Host<'_, X::Value>, cx: &mut Context<'_>) {
        let target = self.project().target;
        let _scope = Scope::enter(host.me);
        if let Err(failure) = guarded(|| target.poll_abort(cx)) {
            tracing::error!(timer = %host.shared.name(), "dropping a panicked run {failure}");
        }
    }

    fn report_blocked(self: Pin<&mut Self>, host: &Host<'_, X::Value>, took: Duration) {
        if took >= self.project().attachments.blocked_after {
            host.shared.count_blocked();
            tracing::warn!(timer = %host.shared.name(), ?took, "a run blocked its thread");
        }
    }

    fn finish(self: Pin<&mut Self>, host: &mut Host<'_, X::Value>, now: Instant, end: RunEnd<X::Value>) {
        let this = self.project();
        let Some(run) = this.run.take() else { return };
        if let RunEnd::Failed(failure) = &end {
            let name = host.shared.name();
            // The words of the failure are the user's too.
            let told = guarded(|| tracing::error!(timer = %name, run = run.tick.run, %failure, "run failed"));
            if told.is_err() {
                tracing::error!(timer = %name, run = run.tick.run, "run failed, and so did printing why");
            }
            let extras = this.attachments.extras.as_mut();
            if let Some(on_failure) = extras.and_then(|extras| extras.on_failure.as_mut()) {
                let _scope = Scope::enter(host.me);
                call_back(name, "on_failure", || on_failure(failure));
            }
        }
        host.shared.finish(now, &run.tick, end);
    }
}

/// The span of a timer's runs; `None` if nobody is interested.
fn new_span(name: &Name) -> Option<Box<Span>> {
    let span = tracing::info_span!("timer", %name);
    (!span.is_disabled()).then(|| Box::new(span))
}

pin_project! {
    /// The future that tokio runs for a timer.
    pub(crate) struct BeatTask<V>
    where
        V: Send,
        V: Sync,
        V: 'static,
    {
        shared: Arc<Shared<V>>,
        me: Option<Arc<dyn Control>>,
        clock: Arc<Clock>,
        beat: Option<BoxDrive<V>>,
        thread: Option<ThreadId>,
        #[pin]
        alarm: Alarm,
    }

    impl<V> PinnedDrop for BeatTask<V>
    where
        V: Send,
        V: Sync,
        V: 'static,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // A task that went to its end has left its beat behind, and the timer may be running again.
            let Some(beat) = this.beat.take() else { return };
            // Still here: the runtime let go of the task before the timer had ended.
            if let Some(reason) = this.shared.abandon() {
                end_and_park(this.shared, this.clock, this.me, beat, reason);
            }
        }
    }
}

/// Starts a timer on the runtime that this is called in.
pub(crate) fn spawn<V: Send + Sync + 'static>(shared: &Arc<Shared<V>>) -> Result<(), Error> {
    let alarm = Alarm::new().ok_or_else(|| Error::NoRuntime { name: shared.name().clone() })?;
    let (beat, clock) = shared.launch()?;
    let runtime = clock.runtime().clone();
    let me: Arc<dyn Control> = shared.clone();
    let (me, beat) = (Some(me), Some(beat));
    let task = BeatTask { shared: shared.clone(), me, clock, beat, thread: None, alarm };
    #[cfg(all(tokio_unstable, feature = "task-names"))]
    {
        let name = format!("timer:{}", shared.name());
        if tokio::task::Builder::new().name(&name).spawn_on(task, &runtime).is_err() {
            tracing::error!(timer = %shared.name(), "tokio did not take the task");
        }
    }
    #[cfg(not(all(tokio_unstable, feature = "task-names")))]
    drop(runtime.spawn(task));
    Ok(())
}

impl<V: Send + Sync + 'static> Future for BeatTask<V> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let thread = std::thread::current().id();
        if this.thread.replace(thread) != Some(thread) {
            this.shared.driven_by_this_thread();
        }
        loop {
            let Some(beat) = this.beat else { return Poll::Ready(()) };
            let mut host = Host { shared: this.shared, clock: this.clock, me: this.me };
            let progress = beat.as_mut().poll(&mut host, cx);
            let restless = matches!(progress, Progress::Yield);
            this.clock.note_activity(|| restless && this.shared.has_period_zero());
            match progress {
                Progress::Sleep { until: None, .. } => {
                    this.alarm.as_mut().clear();
                    return Poll::Pending;
                }
                Progress::Sleep { until: Some(until), busy } => {
                    // The clock decides what is due, not the alarm: after it rang, look again.
                    ready!(this.alarm.as_mut().poll_until(this.clock, until, busy, cx));
                }
                Progress::Yield => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Progress::Ended(reason) => {
                    this.shared.announce_end(reason);
                    if let Some(beat) = this.beat.take() {
                        end_and_park(this.shared, this.clock, this.me, beat, reason);
                    }
                    return Poll::Ready(());
                }
            }
        }
    }
}

/// Announces the end, then leaves the beat where the next start finds it.
fn end_and_park<V: Send + Sync + 'static>(
    shared: &Arc<Shared<V>>,
    clock: &Clock,
    me: &mut Option<Arc<dyn Control>>,
    mut beat: BoxDrive<V>,
    reason: StopReason,
) {
    beat.as_mut().end(&mut Host { shared, clock, me }, reason);
    shared.close(Some(beat));
}
