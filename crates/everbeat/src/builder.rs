//! How a timer is made.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::future::IntoFuture;
use std::hash::{BuildHasher, Hasher};
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everbeat_core::{Jitter, Missed, Mode, OnError, Ratio, Schedule, ScheduleError, StopReason, Until};

use crate::any::cast;
use crate::beat::{Attachments, Beat};
use crate::error::{Error, Failure};
use crate::group::Group;
use crate::handle::Timer;
use crate::home::Home;
use crate::name::Name;
#[cfg(feature = "tokio")]
use crate::runtime::clock::Source;
use crate::scope::Scope;
use crate::shared::{Plan, Shared, Work};
use crate::target::{Call, IntoTarget, Target};
use crate::thread::placed::Placed;
use crate::thread::{Engine, Precision};
use crate::ticks::Ticks;

/// How long a run may hold its thread before it is reported.
const BLOCKED_AFTER: Duration = Duration::from_millis(100);

/// Describes a timer; made by [`Timer::every`], brought to life by [`start`](Self::start).
///
/// A bad value is remembered and refused by `start`, `build` or `ticks`, with the field, the value and
/// what is allowed.
#[must_use = "a timer begins with `start`"]
pub struct Builder {
    schedule: Result<Schedule, ScheduleError>,
    seed: Option<u64>,
    jitter: Ratio,
    until: Option<Instant>,
    attachments: Attachments,
    name: Name,
    place: Place,
    inline: bool,
    single_use: bool,
    precision: Option<Precision>,
    figures: Option<bool>,
    scope: Option<Scope>,
    group: Option<Group>,
}

/// Where the timer is to live.
#[derive(Clone, Debug)]
enum Place {
    #[cfg(feature = "tokio")]
    Runtime(Source),
    DefaultEngine,
    Engine(Engine),
}

/// Schedule.
impl Builder {
    #[track_caller]
    #[inline]
    pub(crate) fn new(period: Duration) -> Self {
        Self {
            schedule: Ok(Schedule::fixed_delay(period)),
            seed: None,
            jitter: Ratio::ZERO,
            until: None,
            attachments: Attachments { run_timeout: None, blocked_after: BLOCKED_AFTER, extras: None },
            name: Name::built_at(Location::caller()),
            place: Place::default(),
            inline: false,
            single_use: false,
            precision: None,
            figures: None,
            scope: None,
            group: None,
        }
    }

    /// Slot k is due at the first tick + k × period, exactly, however long the runs take.
    #[inline]
    pub fn fixed_rate(self) -> Self {
        self.change(|schedule| schedule.with_mode(Mode::FixedRate))
    }

    /// The next run is due one period after the end of the last. The default.
    #[inline]
    pub fn fixed_delay(self) -> Self {
        self.change(|schedule| schedule.with_mode(Mode::FixedDelay))
    }

    /// The first tick is due this long after the start. Default: at once.
    #[inline]
    pub fn initial_delay(self, delay: Duration) -> Self {
        self.change(|schedule| schedule.with_initial_delay(delay))
    }

    /// Spreads ticks evenly over up to this fraction of the period, from 0 to 1, to both sides of their
    /// nominal time. The grid of a fixed-rate timer stays where it is. Above a half the windows of
    /// neighbouring slots overlap; a tick is then spread over what the run before has left of its window,
    /// so ticks come late more often than early.
    pub fn jitter(mut self, fraction: f64) -> Self {
        match ratio("jitter", fraction, 1.0, "a fraction of the period from 0 to 1") {
            Ok(ratio) => self.jitter = ratio,
            Err(error) => self.refuse(error),
        }
        self
    }

    /// Makes the jitter repeatable. Default: a random seed for each timer.
    pub fn jitter_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// What becomes of slots that pass during a long run or a stall. Default: [`Missed::Skip`].
    #[inline]
    pub fn missed(self, policy: Missed) -> Self {
        self.change(|schedule| schedule.with_missed(policy))
    }

    /// Skips a tick that cannot start within this time of its due time: after a suspend, say. Default:
    /// it runs late. tokio's timers are up to a millisecond late even on an idle machine: a bound below
    /// some milliseconds skips ticks for no other reason.
    #[inline]
    pub fn max_lateness(self, lateness: Duration) -> Self {
        self.change(|schedule| schedule.with_max_lateness(lateness))
    }

    /// Triggered runs leave the grid of a fixed-rate timer alone. Default: the grid goes on from them.
    #[inline]
    pub fn keep_phase(self) -> Self {
        self.change(|schedule| schedule.with_keep_phase(true))
    }

    /// Ends normally after this many runs (at least 1), failed ones included, counted from each start.
    #[inline]
    pub fn max_runs(self, runs: u64) -> Self {
        self.try_change(|schedule| schedule.with_max_runs(runs))
    }

    /// Ends normally at this point in time: from then on no run starts; a current one may finish.
    pub fn until(mut self, end: impl Into<Instant>) -> Self {
        self.until = Some(end.into());
        self
    }

    /// Ends normally this long after each start, as [`until`](Self::until).
    pub fn run_for(self, span: Duration) -> Self {
        self.change(|schedule| schedule.with_until(Until::AfterStart(span)))
    }

    /// Ends normally, after the current run, once this future is ready: `token.cancelled_owned()`, a
    /// signal, a oneshot receiver. May be given several times. Such a timer cannot be restarted.
    pub fn stop_when<F>(mut self, condition: F) -> Self
    where
        F: IntoFuture,
        F::IntoFuture: Send + 'static,
    {
        let condition = condition.into_future();
        self.attachments.extras().stop_when.push(Box::pin(async move {
            condition.await;
        }));
        self
    }
}

/// Runs.
impl Builder {
    /// Gives up a run that takes longer than this (more than zero) and counts it as failed. A sync run
    /// cannot be interrupted: it counts as failed when it returns.
    pub fn run_timeout(mut self, limit: Duration) -> Self {
        self.attachments.run_timeout = Some(limit);
        self.try_change(|schedule| schedule.with_run_timeout(limit))
    }

    /// What a failing run does to the timer. Default: [`OnError::Stop`].
    ///
    /// Takes the policy, or the result of one that has to be checked:
    /// `.on_error(OnError::backoff(first, max))`.
    pub fn on_error(mut self, policy: impl IntoPolicy) -> Self {
        match policy.into_policy() {
            Ok(policy) => return self.change(|schedule| schedule.with_on_error(policy)),
            Err(error) => self.refuse(error),
        }
        self
    }

    /// Called on every failure, before anybody else is told of it. A callback that panics is logged and
    /// changes nothing.
    pub fn on_failure(mut self, callback: impl FnMut(&Failure) + Send + 'static) -> Self {
        self.attachments.extras().on_failure = Some(Box::new(callback));
        self
    }

    /// Called exactly once per start, when the timer has ended, for whichever reason; before whoever
    /// waits for the end is told. The end is over only when this returns, so a restart is still refused
    /// here: for one, await [`Timer::wait`] in a task and start again.
    pub fn on_end(mut self, callback: impl FnMut(StopReason) + Send + 'static) -> Self {
        self.attachments.extras().on_end = Some(Box::new(callback));
        self
    }

    /// Reports a run that holds its thread for this long without awaiting. Default: 100 ms.
    pub fn blocked_after(mut self, threshold: Duration) -> Self {
        self.attachments.blocked_after = threshold;
        self
    }

    /// What it is called, in `Debug`, logs, spans and errors. Default: the place in the source where it
    /// was built.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Name::given(name);
        self
    }

    /// Whether the lateness and the duration of its runs are recorded, with histograms. Default: yes on tokio; no
    /// on an engine, which records the lateness of all its timers together.
    #[inline]
    pub fn histograms(mut self, keep: bool) -> Self {
        self.figures = Some(keep);
        self
    }

    /// Ties it to a scope, which ends it when it is closed or dropped.
    pub fn tied_to(mut self, scope: &Scope) -> Self {
        self.scope = Some(scope.clone());
        self
    }

    /// Uses a clock for tests.
    #[cfg(feature = "testing")]
    pub fn clock(mut self, clock: impl Into<crate::testing::Clock>) -> Self {
        self.place = Place::Runtime(clock.into().0);
        self
    }
}

/// Where it lives.
impl Builder {
    /// Lives on this engine; see [`thread`](crate::thread).
    #[inline]
    pub fn on(mut self, engine: impl Into<Engine>) -> Self {
        self.place = Place::Engine(engine.into().for_timers());
        self
    }

    /// Becomes a member of this group.
    #[cfg(feature = "tokio")]
    pub(crate) fn member_of(mut self, group: &Group) -> Self {
        self.group = Some(group.clone());
        self
    }

    /// Can be started only once.
    #[inline]
    pub(crate) fn single_use(mut self) -> Self {
        self.single_use = true;
        self
    }

    /// Lives on the default engine.
    #[inline]
    pub(crate) fn on_threads(mut self) -> Self {
        self.place = Place::DefaultEngine;
        self
    }

    /// Makes its runs on the thread that keeps the time: the cheapest way for a target that returns at
    /// once. One that does not holds all other timers of the engine up, and is reported by name after
    /// [`blocked_after`](Self::blocked_after). On tokio sync targets are run like that anyway.
    #[inline]
    pub fn inline(mut self) -> Self {
        self.inline = true;
        self
    }

    /// How precisely it is woken. Without effect on a timer with an engine of your own, which has its
    /// precision already.
    ///
    /// - For a timer made by [`thread::every`](crate::thread::every) it chooses among the default engines;
    ///   [`Precision::Coarse`] if it is not given.
    /// - A timer on tokio lives where it always does, but such an engine ends its waits, in real time: tokio's
    ///   own sleep has a grain of a millisecond. Not by default, since it costs a thread, and since paused
    ///   time means nothing to it. With a clock for tests it has no effect.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = Some(precision);
        self
    }

    fn take_home(&mut self) -> Home {
        let inline = self.inline;
        let on = |engine| Home::Engine { engine, inline };
        match std::mem::take(&mut self.place) {
            #[cfg(feature = "tokio")]
            Place::Runtime(source) => Home::Runtime { source, alarm: self.precision.map(Engine::shared) },
            Place::DefaultEngine => on(Engine::shared(self.precision.unwrap_or_default())),
            Place::Engine(engine) => on(engine),
        }
    }
}

impl Default for Place {
    fn default() -> Self {
        #[cfg(feature = "tokio")]
        return Self::Runtime(Source::default());
        #[cfg(not(feature = "tokio"))]
        return Self::DefaultEngine;
    }
}

/// Bringing it to life.
impl Builder {
    /// Starts the timer: on its engine, or on the tokio runtime that this is called in. See [`IntoTarget`]
    /// for what can be a target, and [`Outcome`](crate::Outcome) for what it may return. A closure that uses its
    /// parameter names its type, `|tick: Tick|`; one that captures what its future needs clones it, or
    /// moves it behind an `Arc`, since each run has a future of its own.
    ///
    /// Keep the handle: the timer stops when the last one is dropped. [`Timer::detach`] lets it live on.
    ///
    /// ```
    /// # use everbeat::{Error, OnError, Tick, Timer};
    /// # use std::time::Duration;
    /// # async fn refresh() -> std::io::Result<u64> { Ok(1) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let every = |secs| Timer::every(Duration::from_secs(secs));
    /// let cache = every(5).fixed_rate().on_error(OnError::Continue).start(refresh)?;
    /// let beat = every(1).start(|tick: Tick| println!("beat {}", tick.run))?;
    /// let steps = every(0).start(["one", "two", "three"].into_iter())?;
    /// steps.wait().await?;
    /// assert_eq!(steps.latest().as_deref(), Some(&"three"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Schedule`] for a bad value in the builder; as [`Timer::start`] for what is missing, such as
    /// [`Error::NoRuntime`] outside of a tokio runtime with its time driver enabled.
    pub fn start<M, X: IntoTarget<M>>(self, target: X) -> Result<Timer<Value<M, X>>, Error> {
        let (scope, group) = (self.scope.clone(), self.group.clone());
        let timer = match self.make(target)? {
            // A scope asks of a timer what only a whole one can do.
            Made::Lean(lean) if scope.is_none() => lean.start()?,
            made => {
                let timer = made.into_timer(scope.as_ref());
                if let Err(error) = timer.start() {
                    if let Some(scope) = scope {
                        scope.untie(&timer);
                    }
                    return Err(error);
                }
                timer
            }
        };
        if let Some(group) = group {
            group.add_started(&timer);
        }
        Ok(timer)
    }

    /// The timer, to be started later by [`Timer::start`]. Needs no runtime yet.
    ///
    /// # Errors
    /// [`Error::Schedule`] for a bad value in the builder.
    pub fn build<M, X: IntoTarget<M>>(self, target: X) -> Result<Timer<Value<M, X>>, Error> {
        let (scope, group) = (self.scope.clone(), self.group.clone());
        let timer = self.make(target)?.into_timer(scope.as_ref());
        if let Some(group) = group {
            if let Err(error) = group.add(&timer) {
                if let Some(scope) = scope {
                    scope.untie(&timer);
                }
                return Err(error);
            }
        }
        Ok(timer)
    }

    fn make<M, X: IntoTarget<M>>(mut self, target: X) -> Result<Made<Value<M, X>>, Error> {
        let single_use = self.single_use || self.attachments.has_conditions();
        let schedule = self.checked_schedule()?;
        let home = self.take_home();
        let target = target.into_target();
        let target = if self.can_be_lean(&home, &schedule) { target.into_call() } else { Err(target) };
        Ok(match target {
            Ok(call) => {
                let delay = schedule.initial_delay();
                Made::Lean(LeanParts { plan: self.plan_alike(&home, &schedule), call, delay })
            }
            Err(target) => {
                let plan = Arc::new(self.plan(home, schedule, single_use));
                Made::Whole(Shared::new(plan, Work::Beat(Box::pin(Beat::new(target, self.attachments)))))
            }
        })
    }

    /// The schedule without a target: a stream of ticks, started now. What a loop around
    /// `tokio::time::Interval` should be; see [`Ticks`].
    ///
    /// The time limit of runs and the callbacks of the builder have no meaning for it; stop conditions
    /// are refused.
    ///
    /// # Errors
    /// As [`start`](Self::start), [`Error::EngineClosed`] and [`Error::ScopeClosed`] included.
    pub fn ticks(mut self) -> Result<Ticks, Error> {
        if self.attachments.has_conditions() {
            return Err(ScheduleError::new("stop_when", "a future", "absent for ticks: stop asking").into());
        }
        let (schedule, home) = (self.checked_schedule()?, self.take_home());
        let plan = self.plan(home, schedule, true);
        Ticks::start(Shared::new(Arc::new(plan), Work::Nothing), self.scope.as_ref())
    }

    fn plan(&self, home: Home, schedule: Schedule, single_use: bool) -> Plan {
        Plan {
            name: self.name.clone(),
            schedule: Arc::new(schedule),
            figures: self.keeps_figures(&home),
            until: self.until,
            can_be_lean: false,
            single_use,
            blocked_after: self.attachments.blocked_after,
            home,
        }
    }

    fn keeps_figures(&self, home: &Home) -> bool {
        self.figures.unwrap_or(!home.is_engine())
    }

    /// Whether nothing about it is special, and so it can be stored as a lean timer.
    fn can_be_lean(&self, home: &Home, schedule: &Schedule) -> bool {
        self.attachments.extras.is_none() && Plan::is_plain(home, self.until, schedule)
    }

    /// The plan of a timer that was lately built alike, or a new one. The delay before the first tick is
    /// not a part of it.
    fn plan_alike(&self, home: &Home, schedule: &Schedule) -> Arc<Plan> {
        let alike = |plan: &Plan| {
            plan.schedule.is_alike(schedule)
                && plan.name == self.name
                && plan.single_use == self.single_use
                && plan.blocked_after == self.attachments.blocked_after
                && plan.figures == self.keeps_figures(home)
                && plan.home == *home
        };
        home.plans().known(alike).unwrap_or_else(|| {
            let schedule = schedule.clone().with_initial_delay(Duration::ZERO);
            let plan =
                Arc::new(Plan { can_be_lean: true, ..self.plan(home.clone(), schedule, self.single_use) });
            home.plans().remember(&plan);
            plan
        })
    }

    /// The schedule with its jitter. Without any the seed means nothing, and timers that are alike shall be
    /// equal.
    fn checked_schedule(&self) -> Result<Schedule, Error> {
        let schedule = self.schedule.clone()?;
        if self.jitter == Ratio::ZERO {
            return Ok(schedule);
        }
        let seed = self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Ok(schedule.with_jitter(Jitter { fraction: self.jitter, seed })?)
    }

    #[inline]
    fn change(mut self, f: impl FnOnce(Schedule) -> Schedule) -> Self {
        self.schedule = self.schedule.map(f);
        self
    }

    #[inline]
    fn try_change(mut self, f: impl FnOnce(Schedule) -> Result<Schedule, ScheduleError>) -> Self {
        self.schedule = self.schedule.and_then(f);
        self
    }

    /// The first bad value counts.
    fn refuse(&mut self, error: ScheduleError) {
        if self.schedule.is_ok() {
            self.schedule = Err(error);
        }
    }
}

/// A timer that was made and not started.
enum Made<V> {
    Lean(LeanParts<V>),
    Whole(Arc<Shared<V>>),
}

/// What a lean timer is made of.
struct LeanParts<V> {
    plan: Arc<Plan>,
    call: Call<V>,
    delay: Duration,
}

impl<V: Send + Sync + 'static> Made<V> {
    /// A timer with its own lock.
    fn into_timer(self, scope: Option<&Scope>) -> Timer<V> {
        let timer = match self {
            Self::Lean(lean) => lean.into_timer(),
            Self::Whole(shared) => Timer::new(shared),
        };
        if let Some(scope) = scope {
            scope.tie(&timer);
        }
        timer
    }
}

impl<V: Send + Sync + 'static> LeanParts<V> {
    fn into_timer(self) -> Timer<V> {
        Timer::new(Shared::new(self.plan, Work::Lean(self.call, self.delay)))
    }

    /// Starts it. One that delivers nothing lies in the queue of its engine.
    fn start(self) -> Result<Timer<V>, Error> {
        let Self { plan, call, delay } = self;
        let delay_nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        // There nobody is told of the end, and no figures are kept.
        let due = if call.has_rest() || plan.figures { None } else { Placed::first_due(&plan, delay_nanos) };
        let call = match (cast(call), due) {
            (Ok(call), Some(due)) => {
                return Placed::start(plan, call, delay_nanos, due).map(Timer::placed);
            }
            (Ok(call), None) => match cast::<Call<()>, Call<V>>(call) {
                Ok(call) => call,
                Err(_) => unreachable!("it was one"),
            },
            (Err(call), _) => call,
        };
        let timer = Self { plan, call, delay }.into_timer();
        timer.start()?;
        Ok(timer)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("name", &self.name).field("schedule", &self.schedule).finish()
    }
}

/// What the timer of a target delivers.
pub type Value<M, X> = <<X as IntoTarget<M>>::Target as Target>::Value;

/// An error policy, or the result of one that has to be checked.
pub trait IntoPolicy {
    /// The policy.
    ///
    /// # Errors
    /// It was refused.
    fn into_policy(self) -> Result<OnError, ScheduleError>;
}

impl IntoPolicy for OnError {
    fn into_policy(self) -> Result<OnError, ScheduleError> {
        Ok(self)
    }
}

impl IntoPolicy for Result<OnError, ScheduleError> {
    fn into_policy(self) -> Self {
        self
    }
}

/// A float from 0 to `max` in the core's fixed point.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn ratio(field: &'static str, value: f64, max: f64, allowed: &'static str) -> Result<Ratio, ScheduleError> {
    if !(0.0..=max).contains(&value) {
        return Err(ScheduleError::new(field, value, allowed));
    }
    // In range, so the cast neither saturates nor loses a sign.
    Ok(Ratio::from_bits((value * Ratio::ONE.to_bits() as f64).round() as u64))
}
