//! Engines as users see them.

use std::fmt;
use std::io;
#[cfg(feature = "tokio")]
use std::sync::Weak;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant as StdInstant};

use everbeat_core::{Instant, Key, Summary};

#[cfg(feature = "tokio")]
use super::engine::Dismissed;
use super::engine::{Bell, Core, Frame};
use super::host::Host;
use super::roster::Rest;
#[cfg(feature = "tokio")]
use super::roster::Roster;
use super::sleep::Precision;
use super::time::Time;
use crate::any::Control;
use crate::beat::Progress;
use crate::builder::Builder;
use crate::error::Error;
use crate::guard::guarded;
use crate::oneshot::OneShot;
use crate::outcome::Outcome;
use crate::shared::Plans;

/// Keeps the time of any number of timers with one thread, and runs them on a few workers.
///
/// [`thread::every`](super::every) and [`thread::after`](super::after) use a default engine for each
/// [`Precision`]. Make one of your own to give some timers their own thread, workers and figures, or to end
/// them all at once.
///
/// A handle is cheap to clone. The thread starts with the first timer and ends soon after the last, whether
/// or not there are handles; timers keep their engine alive.
///
/// ```
/// use everbeat::thread::{Engine, Precision};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), everbeat::Error> {
/// let engine = Engine::builder().name("sampler").precision(Precision::Fine).workers(1).build();
/// let load = engine.every(Duration::from_millis(1)).fixed_rate().inline().start(|| 0.5)?;
/// load.wait_hits(3).block(Duration::from_secs(10))?;
/// println!("{:?}", engine.stats());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Engine {
    core: Arc<Core>,
    /// What the handles of a hosted engine share, its timers excepted.
    owner: Option<Arc<Owner>>,
}

/// Closes a hosted engine with its last handle: nobody can give it a turn any more.
struct Owner(Arc<Core>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close(Duration::ZERO);
    }
}

/// A reference that does not keep its engine.
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub(crate) struct WeakEngine(Weak<Core>);

#[cfg(feature = "tokio")]
impl WeakEngine {
    pub(crate) fn upgrade(&self) -> Option<Engine> {
        Some(Engine { core: self.0.upgrade()?, owner: None })
    }

    /// Whether this thread is giving the engine a turn.
    pub(crate) fn is_kept_by_this_thread(&self) -> bool {
        super::keeper::is_kept_by_this_thread(self.0.as_ptr())
    }
}

/// The default engines, one for each precision.
static DEFAULTS: [OnceLock<Engine>; 3] = [const { OnceLock::new() }; 3];

impl Engine {
    /// An engine of your own with the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// An engine of your own.
    pub fn builder() -> EngineBuilder {
        let (name, precision, workers) = ("timers".into(), Precision::default(), default_workers());
        EngineBuilder { name, precision, workers, reopens: false, frame: None }
    }

    /// The default engine of this precision. It costs nothing until it has its first timer.
    #[must_use]
    pub fn shared(precision: Precision) -> Self {
        let (place, name) = match precision {
            Precision::Coarse => (0, "coarse"),
            Precision::Fine => (1, "fine"),
            Precision::Spin => (2, "spin"),
        };
        let make = || {
            let builder = Self::builder().name(name).precision(precision);
            EngineBuilder { reopens: true, ..builder }.build()
        };
        DEFAULTS[place].get_or_init(make).clone()
    }

    /// An engine without a thread, for a loop of your own: it does something only when you call
    /// [`turn`](Self::turn), and everything that it does, it does there. With the last handle it is closed,
    /// whatever timers it still has.
    #[must_use]
    pub fn hosted(host: impl Host) -> Self {
        let time = Time::new(Some(Arc::new(host)));
        let core = Core::new("hosted", Precision::Fine, 0, time, false, None);
        core.change(|roster| roster.linger(Instant::NEVER));
        Self { owner: Some(Arc::new(Owner(core.clone()))), core }
    }

    /// An engine that somebody in this crate hosts. It takes new timers after it was closed.
    #[cfg(feature = "tokio")]
    pub(crate) fn hosted_for_good(name: &str, host: Arc<dyn Host>) -> Self {
        let core = Core::new(name, Precision::Coarse, 0, Time::new(Some(host)), true, None);
        core.change(|roster| roster.linger(Instant::NEVER));
        Self { owner: None, core }
    }

    /// The latest time on its clock that anybody has seen.
    #[cfg(feature = "tokio")]
    pub(crate) fn latest_time(&self) -> StdInstant {
        self.core.time.latest()
    }

    /// There is nobody to give it turns: takes all its timers out, to be let go after this. Of whatever comes
    /// later, the host is alerted.
    #[cfg(feature = "tokio")]
    pub(crate) fn dismiss(&self) -> Dismissed {
        self.core.dismiss()
    }

    /// Whether there is nothing to be done at any time, until the host is alerted again.
    #[cfg(feature = "tokio")]
    pub(crate) fn comes_to_rest(&self) -> bool {
        matches!(self.core.change(Roster::rest_hosted), Rest::Empty | Rest::Until(None))
    }

    /// Tells those who were dismissed.
    #[cfg(feature = "tokio")]
    pub(crate) fn let_go(&self, dismissed: Dismissed) {
        self.core.let_go_dismissed(dismissed);
    }

    /// Whether there is somebody to keep its time, or there will be once it has something to do. To be asked
    /// before the time is read for a start.
    pub(crate) fn is_attended(&self) -> bool {
        self.core.attended().is_ok()
    }

    /// Whether it was closed, and takes nobody any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.core.read(|roster| roster.closed)
    }

    /// A reference that does not keep the engine.
    #[cfg(feature = "tokio")]
    pub(crate) fn downgrade(&self) -> WeakEngine {
        WeakEngine(Arc::downgrade(&self.core))
    }

    /// Runs what is due, on this thread, and returns when to call it again; `None`: when the host is
    /// alerted. Calling it earlier or more often is harmless. On an engine with a thread of its own this
    /// does nothing and returns `None`.
    pub fn turn(&self) -> Option<StdInstant> {
        self.core.time.host()?;
        match self.core.host_round() {
            Rest::None => self.core.time.to_std(self.core.time.now()),
            Rest::Until(due) => self.core.time.to_std(due?),
            Rest::Empty => None,
        }
    }

    /// A timer on this engine; see [`thread::every`](super::every).
    #[inline]
    #[track_caller]
    pub fn every(&self, period: Duration) -> Builder {
        Builder::new(period).on(self)
    }

    /// Calls `target` once, after `delay`, on this engine; see [`thread::after`](super::after).
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn after<F, O>(&self, delay: Duration, target: F) -> Result<OneShot<O::Value>, Error>
    where
        F: FnOnce() -> O + Send + 'static,
        O: Outcome<Value: Send + Sync + 'static> + 'static,
    {
        OneShot::start(Builder::new(OneShot::<()>::PERIOD).on(self), delay, target)
    }

    /// Ends all its timers, for the reason [`Abandoned`](crate::StopReason::Abandoned), and refuses new
    /// ones. Runs in flight are not interrupted; they are waited for, at most `timeout`. Returns how many
    /// are left: zero if everything has ended, as after every call without a run in flight. On a thread
    /// of the engine itself it does not wait. A default engine stays open for new timers. [`Ticks`](crate::Ticks) are driven by their consumer, and a
    /// consumer that blocks in [`next_blocking`](crate::Ticks::next_blocking) goes on.
    pub fn close(&self, timeout: Duration) -> usize {
        self.core.close(timeout)
    }

    /// How precisely it keeps its times.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.core.precision
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// The time on its clock, as [`Tick::scheduled`](crate::Tick::scheduled) has it, on the machine's clock. `None`
    /// if that cannot represent it.
    #[must_use]
    pub fn time_of(&self, instant: Instant) -> Option<StdInstant> {
        self.core.time.to_std(instant)
    }

    /// Everything that is counted and measured, for all its timers together.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        self.core.read(|roster| EngineStats {
            timers: roster.timers,
            workers: roster.workers.alive,
            idle_workers: roster.workers.idle,
            turns: roster.figures.turns,
            queued: roster.figures.queued,
            wakeups: roster.figures.wakeups,
            lateness: roster.figures.lateness.clone(),
        })
    }

    /// The same engine, as its own timers hold it.
    pub(crate) fn for_timers(mut self) -> Self {
        self.owner = None;
        self
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn time(&self) -> &Arc<Time> {
        &self.core.time
    }

    pub(crate) fn plans(&self) -> &Plans {
        &self.core.plans
    }

    /// Whether blocking this thread would keep it from getting on.
    pub(crate) fn needs_this_thread(&self) -> bool {
        let by_host = |host: &Arc<dyn Host>| guarded(|| host.needs_this_thread()).unwrap_or(false);
        self.core.is_kept_by_this_thread() || self.core.time.host().is_some_and(by_host)
    }

    /// Takes a timer on: `start` starts it at the place it is given, and tells when its first turn is.
    pub(crate) fn take_on(
        &self,
        task: Arc<dyn Control>,
        inline: bool,
        start: impl FnOnce(Key) -> Result<Progress, Error>,
    ) -> Result<(), Error> {
        let core = &self.core;
        let key = core.enter(inline).map_err(|refusal| refusal.of(task.name()))?;
        let progress = start(key).inspect_err(|_| core.leave(key))?;
        core.give_back(key, task, &progress);
        Ok(())
    }

    /// Gives the place of a timer up.
    pub(crate) fn leave(&self, key: Key) {
        self.core.leave(key);
    }

    /// What wakes the timer at this place.
    pub(crate) fn bell(&self, key: Key) -> Waker {
        Waker::from(Arc::new(Bell { core: self.core.clone(), key }))
    }

    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.core) as usize
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }

    /// Wakes somebody at a time.
    pub(super) fn ring_at(&self, due: Instant, waker: Waker) -> io::Result<Key> {
        Ok(self.core.ring_at(due, waker)?)
    }

    /// Wakes somebody else in place of whom it would wake; hands the waker back if nobody is to be woken.
    pub(super) fn set_bell(&self, key: Key, waker: Waker) -> Result<(), Waker> {
        self.core.change(|roster| roster.set_bell(key, waker)).map(drop)
    }

    /// The earliest deadline.
    #[cfg(feature = "test-engine")]
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.core.next_due()
    }

    /// Gives everybody a turn who has something to do. Returns whether it has come to rest.
    #[cfg(feature = "test-engine")]
    pub(super) fn settle_once(&self) -> bool {
        self.core.settle_once()
    }

    pub(super) fn cancel_bell(&self, key: Key) {
        drop(self.core.change(|roster| roster.cancel_bell(key)));
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl From<&Engine> for Engine {
    fn from(engine: &Engine) -> Self {
        engine.clone()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Engine");
        debug.field("name", &self.name()).field("precision", &self.precision()).finish_non_exhaustive()
    }
}

/// As many workers as the machine runs threads at once, but at least two: one slow run does not hold
/// the others up.
fn default_workers() -> usize {
    thread::available_parallelism().map_or(2, |cores| cores.get().max(2))
}

/// Describes an [`Engine`]; made by [`Engine::builder`].
#[derive(Clone)]
#[must_use = "an engine is made by `build`"]
pub struct EngineBuilder {
    name: Box<str>,
    precision: Precision,
    workers: usize,
    pub(super) reopens: bool,
    frame: Option<Frame>,
}

impl EngineBuilder {
    /// What it is called, in the names of its threads and in logs. Default: `timers`.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// How precisely it keeps its times. Default: [`Precision::Coarse`].
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// How many workers there are at most; they are started as needed. Default: as many as the machine
    /// has cores, but at least two. With none everything is run as if it were
    /// [`inline`](Builder::inline).
    ///
    /// When all are busy, a run that is due waits for one, first come first served. It counts its
    /// lateness, slots that pass meanwhile are missed as in any delay, and it is counted in
    /// [`Stats::queued`](crate::Stats::queued) and [`EngineStats::queued`].
    pub fn workers(mut self, most: usize) -> Self {
        self.workers = most;
        self
    }

    /// Has each thread of the engine live inside a function of yours, which calls what it is given, once: to
    /// hold something for as long as the thread is there, such as its registration with another runtime.
    /// What comes before the call delays the first timers, and nobody waits for what comes after it.
    /// If it panics before the call, or makes none, the thread lives without it.
    ///
    /// ```
    /// use everbeat::thread::Engine;
    ///
    /// let engine = Engine::builder().around_threads(|life| {
    ///     println!("a thread begins");
    ///     life();
    ///     println!("and ends");
    /// });
    /// ```
    pub fn around_threads(
        mut self,
        frame: impl Fn(&mut (dyn FnMut() + Send)) + Send + Sync + 'static,
    ) -> Self {
        self.frame = Some(Arc::new(frame));
        self
    }

    /// Makes the engine. No thread is started yet.
    #[must_use]
    pub fn build(self) -> Engine {
        let Self { name, precision, workers, reopens, frame } = self;
        Engine { core: Core::new(&name, precision, workers, Time::new(None), reopens, frame), owner: None }
    }
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("EngineBuilder");
        debug.field("name", &self.name).field("precision", &self.precision);
        debug.field("workers", &self.workers).finish_non_exhaustive()
    }
}

/// What an engine has done so far. A snapshot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineStats {
    /// Timers that are started and have not ended.
    pub timers: usize,
    /// Workers that exist at the moment.
    pub workers: usize,
    /// Of those, how many wait for work.
    pub idle_workers: usize,
    /// Turns given to timers: a run, or a look at what a command has changed.
    pub turns: u64,
    /// Turns that had to wait because all workers were busy.
    pub queued: u64,
    /// How often the thread that keeps the time woke up.
    pub wakeups: u64,
    /// How late the engine noticed that a timer was due. What a run waits for a worker comes on top.
    pub lateness: Summary,
}
