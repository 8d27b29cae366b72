//! What a driver carries for a timer.
//!
//! [`Beat`] holds the target and knows how to make progress; [`Duty`] is a timer that a driver has taken
//! on, from its start to its end. Between two starts the beat is parked with the timer's shared state.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use everbeat_core::{AbortCause, Instant, StopReason, Tick};
use pin_project_lite::pin_project;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span};

use crate::any::BoxFuture;
use crate::clock::Clock;
use crate::current::{Current, Scope};
use crate::error::Failure;
use crate::guard::{call_back, drop_all_quietly, drop_quietly, guarded, heard, tell};
use crate::name::Name;
use crate::shared::{Action, RunEnd, Shared};
use crate::target::{Call, Step, Target};

/// The timer that a driver works for.
pub(crate) struct Host<'a, V> {
    pub(crate) shared: &'a Shared<V>,
    pub(crate) clock: &'a Clock,
    /// The same timer, to be made the current one while its own code runs.
    pub(crate) me: &'a mut Option<Current>,
}

/// What a driver does with a timer.
pub(crate) trait Drive<V>: Send {
    /// Does everything that can be done now.
    fn poll(self: Pin<&mut Self>, host: &mut Host<'_, V>, cx: &mut Context<'_>) -> Turn;

    /// Whether there are callbacks for its end, or stop conditions to be polled.
    fn has_extras(&self) -> bool;

    /// Whether nobody has to be called at the end, and little is to be let go of.
    fn ends_easily(&self) -> bool;

    /// The plain call that is left of it, if there is nothing else to remember.
    fn into_call(self: Pin<Box<Self>>) -> Result<Call<V>, BoxDrive<V>>;

    /// The timer has ended for this reason: calls back, and lets go of what a restart makes anew.
    fn end(self: Pin<&mut Self>, host: &mut Host<'_, V>, reason: StopReason);
}

pub(crate) enum Turn {
    /// Nothing to do before this.
    Sleep { until: Option<Instant>, busy: bool },
    /// More to do, after others had their turn.
    Yield,
    /// The timer has ended.
    Ended(StopReason),
}

/// What a driver learns from a turn that it gave to a timer.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Nothing to do before this, unless it is woken. `busy` tells that a run is in flight.
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    Sleep { until: Option<Instant>, busy: bool },
    /// More to do, after others had their turn. `restless`: there always will be, since the period is zero.
    Yield { restless: bool },
    /// The timer has ended, and everybody was told.
    Ended,
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
        // That a run was made elsewhere, in the turn to which the next poll belongs.
        has_run: bool,
        attachments: Attachments,
        span: Option<Box<Span>>,
    }
}

/// What was made of a turn before the beat took it over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Elsewhere {
    Nothing,
    /// A run that goes on.
    Begun(Tick),
    /// A run that is over.
    Made,
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
        Self { target, run: None, has_run: false, attachments, span: None }
    }

    /// The same, when a run has begun elsewhere.
    pub(crate) fn after(self, elsewhere: Elsewhere) -> Self {
        match elsewhere {
            Elsewhere::Nothing => self,
            Elsewhere::Begun(tick) => {
                let run = InFlight { tick, begun: true, giving_up: None, last_chance: false };
                Self { run: Some(run), ..self }
            }
            Elsewhere::Made => Self { has_run: true, ..self },
        }
    }
}

impl<X: Target> Drive<X::Value> for Beat<X> {
    fn poll(mut self: Pin<&mut Self>, host: &mut Host<'_, X::Value>, cx: &mut Context<'_>) -> Turn {
        self.as_mut().poll_conditions(host, cx);
        let mut now = host.clock.now();
        // One run a poll: whoever was woken by it, and everybody else, has a turn before the next.
        let mut may_run = !std::mem::take(self.as_mut().project().has_run);
        let mut polled = false;
        loop {
            match host.shared.next_action(now, cx.waker(), may_run) {
                Action::Run(tick) => self.as_mut().take_up(tick),
                Action::Abort(cause) => self.as_mut().give_up(cause),
                Action::Stopped(reason) => return self.close(host, cx, reason),
                Action::Yield => return Turn::Yield,
                Action::Wait { until, busy } if polled || !busy => return Turn::Sleep { until, busy },
                Action::Wait { .. } => {}
            }
            polled = true;
            if let Poll::Ready(end) = self.as_mut().poll_run(host, cx, &mut now) {
                self.as_mut().finish(host, now, end);
                may_run = false;
            }
        }
    }

    fn has_extras(&self) -> bool {
        self.attachments.extras.is_some()
    }

    fn ends_easily(&self) -> bool {
        !self.has_extras() && self.target.rests_easily()
    }

    fn into_call(mut self: Pin<Box<Self>>) -> Result<Call<X::Value>, BoxDrive<X::Value>> {
        let plain = self.run.is_none()
            && !self.has_extras()
            && self.attachments.run_timeout.is_none()
            && self.span.is_none();
        let call = if plain { self.as_mut().project().target.take_call() } else { None };
        call.ok_or(self as BoxDrive<X::Value>)
    }

    fn end(self: Pin<&mut Self>, host: &mut Host<'_, X::Value>, reason: StopReason) {
        let this = self.project();
        let name = host.shared.name();
        *this.run = None;
        let _scope = Scope::enter(host.me);
        if let Err(failure) = guarded(|| this.target.rest()) {
            tell!(ERROR, timer = %name, "letting go of the target {failure}");
        }
        tell!(DEBUG, timer = %name, ?reason, "timer ended");
        let Some(extras) = &mut this.attachments.extras else { return };
        drop_all_quietly(std::mem::take(&mut extras.stop_when));
        if let Some(on_end) = &mut extras.on_end {
            call_back(name, "on_end", || on_end(reason));
        }
    }
}

impl<X: Target> Beat<X> {
    /// Drains the timer once one of its stop conditions has come true.
    fn poll_conditions(self: Pin<&mut Self>, host: &mut Host<'_, X::Value>, cx: &mut Context<'_>) {
        let Some(extras) = &mut self.project().attachments.extras else { return };
        let conditions = &mut extras.stop_when;
        let met = conditions.iter_mut().any(|condition| match guarded(|| condition.as_mut().poll(cx)) {
            Ok(poll) => poll.is_ready(),
            Err(failure) => {
                tell!(ERROR, timer = %host.shared.name(), "a stop condition {failure}");
                true
            }
        });
        if met {
            {
                let _scope = Scope::enter(host.me);
                drop_all_quietly(std::mem::take(conditions));
            }
            host.shared.request_stop(StopReason::Condition);
        }
    }

    fn take_up(self: Pin<&mut Self>, tick: Tick) {
        *self.project().run = Some(InFlight { tick, begun: false, giving_up: None, last_chance: false });
    }

    fn give_up(self: Pin<&mut Self>, cause: AbortCause) {
        let this = self.project();
        if let Some(run) = this.run {
            run.giving_up = Some(cause);
            run.last_chance = cause == AbortCause::TimedOut || this.target.has_ended();
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
            let entered = span.as_ref().and_then(|span| guarded(|| span.enter()).ok());
            let step = guarded(|| {
                if !run.begun {
                    target.as_mut().begin(run.tick);
                }
                target.poll_run(cx)
            });
            drop_quietly(entered);
            step
        };
        let before = std::mem::replace(now, host.clock.now());
        self.as_mut().report_blocked(host, now.saturating_since(before));
        let end = match step {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(step)) => self.judge(host, run, before, *now, step),
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
        host: &mut Host<'_, X::Value>,
        run: InFlight,
        before: Instant,
        now: Instant,
        step: Step<X::Value>,
    ) -> RunEnd<X::Value> {
        if let Some(limit) = self.project().attachments.run_timeout {
            let deadline = run.tick.started() + limit;
            if before < deadline && now >= deadline {
                let _scope = Scope::enter(host.me);
                drop_quietly(step);
                return RunEnd::Failed(Failure::TimedOut(limit));
            }
        }
        step.into()
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
            Err(failure) => tell!(ERROR, timer = %host.shared.name(), "a run that was given up {failure}"),
        }
        Poll::Ready(match (cause, this.attachments.run_timeout) {
            (AbortCause::TimedOut, Some(limit)) => RunEnd::Failed(Failure::TimedOut(limit)),
            _ => RunEnd::Aborted,
        })
    }

    /// Has the target do what it must before its end, which comes after that.
    fn close(
        self: Pin<&mut Self>,
        host: &mut Host<'_, X::Value>,
        cx: &mut Context<'_>,
        reason: StopReason,
    ) -> Turn {
        let target = self.project().target;
        let closed = {
            let _scope = Scope::enter(host.me);
            guarded(|| target.poll_close(cx))
        };
        match closed {
            Ok(Poll::Pending) => return Turn::Sleep { until: None, busy: true },
            Ok(Poll::Ready(())) => {}
            Err(failure) => tell!(ERROR, timer = %host.shared.name(), "closing the target {failure}"),
        }
        Turn::Ended(reason)
    }

    /// Drops what a panic left of a run.
    fn drop_run(self: Pin<&mut Self>, host: &mut Host<'_, X::Value>, cx: &mut Context<'_>) {
        let target = self.project().target;
        let _scope = Scope::enter(host.me);
        if let Err(failure) = guarded(|| target.poll_abort(cx)) {
            tell!(ERROR, timer = %host.shared.name(), "dropping a panicked run {failure}");
        }
    }

    fn report_blocked(self: Pin<&mut Self>, host: &Host<'_, X::Value>, took: Duration) {
        if took >= self.project().attachments.blocked_after && host.shared.home().shares_its_thread() {
            report_blocked(host.shared, took);
        }
    }

    fn finish(self: Pin<&mut Self>, host: &mut Host<'_, X::Value>, now: Instant, end: RunEnd<X::Value>) {
        let this = self.project();
        let Some(run) = this.run.take() else { return };
        if let RunEnd::Failed(failure) = &end {
            let name = host.shared.name();
            log_failure(name, &run.tick, failure);
            let extras = this.attachments.extras.as_mut();
            if let Some(on_failure) = extras.and_then(|extras| extras.on_failure.as_mut()) {
                let _scope = Scope::enter(host.me);
                call_back(name, "on_failure", || on_failure(failure));
            }
        }
        host.shared.finish(host.me, now, &run.tick, end);
    }
}

/// A run held its thread for too long.
pub(crate) fn report_blocked<V: Send + Sync + 'static>(shared: &Shared<V>, took: Duration) {
    shared.count_blocked();
    tell!(WARN, timer = %shared.name(), ?took, "a run blocked its thread");
}

pub(crate) fn log_failure(name: &Name, tick: &Tick, failure: &Failure) {
    // The events have a name of their own so that a subscriber can tell them from others: the Python package
    // reports failures in its own way. The words of the failure are the user's too.
    let told = guarded(
        || tracing::error!(name: "run failed", timer = %name, run = tick.run, %failure, "run failed"),
    );
    if told.is_err() {
        heard(|| {
            tracing::error!(name: "run failed", timer = %name, run = tick.run, "run failed, and so did printing why");
        });
    }
}

/// Whether somebody may be interested in the spans of runs.
pub(crate) fn spans_are_wanted() -> bool {
    // Mostly nobody is interested in anything, which can be told without asking.
    Level::INFO <= LevelFilter::current() && guarded(|| tracing::span_enabled!(Level::INFO)).unwrap_or(false)
}

/// The span of a timer's runs; `None` if nobody is interested.
fn new_span(name: &Name) -> Option<Box<Span>> {
    let span = guarded(|| tracing::info_span!("timer", %name)).ok()?;
    (!span.is_disabled()).then(|| Box::new(span))
}

/// A timer that a driver has taken on.
///
/// If it goes away before the timer has ended, the timer ends as abandoned.
pub(crate) struct Duty<V: Send + Sync + 'static> {
    shared: Arc<Shared<V>>,
    me: Option<Current>,
    clock: Clock,
    beat: Option<BoxDrive<V>>,
}

impl<V: Send + Sync + 'static> Duty<V> {
    /// Takes a timer up, for as long as until [`Duty::pause`].
    pub(crate) fn resume(shared: &Arc<Shared<V>>, clock: Clock, beat: BoxDrive<V>) -> Self {
        let me = Current::Whole(shared.clone());
        Self { shared: shared.clone(), me: Some(me), clock, beat: Some(beat) }
    }

    /// Lays the timer down; `None` if it has ended.
    pub(crate) fn pause(mut self) -> Option<BoxDrive<V>> {
        self.beat.take()
    }

    /// Does everything that can be done now. After [`Progress::Ended`] nothing is left to do.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Progress {
        let Some(beat) = &mut self.beat else { return Progress::Ended };
        let mut host = Host { shared: &self.shared, clock: &self.clock, me: &mut self.me };
        let turn = beat.as_mut().poll(&mut host, cx);
        let restless = matches!(turn, Turn::Yield) && self.shared.has_period_zero();
        self.clock.note_activity(restless);
        match turn {
            Turn::Sleep { until, busy } => Progress::Sleep { until, busy },
            Turn::Yield => Progress::Yield { restless },
            Turn::Ended(reason) => {
                self.shared.announce_end(reason);
                self.end_and_park(reason);
                Progress::Ended
            }
        }
    }

    /// Announces the end, then leaves the beat where the next start finds it.
    fn end_and_park(&mut self, reason: StopReason) {
        let Some(mut beat) = self.beat.take() else { return };
        let mut host = Host { shared: &self.shared, clock: &self.clock, me: &mut self.me };
        beat.as_mut().end(&mut host, reason);
        self.shared.close(Some(beat));
    }
}

impl<V: Send + Sync + 'static> Drop for Duty<V> {
    fn drop(&mut self) {
        // One that went to its end has left its beat behind, and the timer may be running again.
        if self.beat.is_none() {
            return;
        }
        if let Some(reason) = self.shared.abandon() {
            self.end_and_park(reason);
        }
    }
}
