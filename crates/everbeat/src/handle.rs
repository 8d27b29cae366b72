//! The handle of a timer.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use everbeat_core::{StopReason, Timer as Machine};

use crate::any::{Count, Identity, cast};
#[cfg(any(doc, feature = "tokio"))]
use crate::builder::Builder;
use crate::error::Error;
use crate::feed::FeedBuilder;
use crate::name::Name;
use crate::pending::{self, Pending, Shutdown};
use crate::shared::{Ending, Plan, Shared, State};
use crate::stats::Stats;
use crate::thread::{Found, Stopped, placed::Placed};

/// A recurring timer and everything that can be done with it. Made by [`Timer::every`].
///
/// A handle is cheap to clone and can be used from any thread. Commands take effect when they are called,
/// not when what they return is awaited; none of them blocks. Dropping the last handle asks the timer to
/// stop after its current run; [`detach`](Self::detach) lets it live on.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), everbeat::Error> {
/// use everbeat::Timer;
/// use std::time::Duration;
///
/// let mut loaded = 0;
/// let cache = Timer::every(Duration::from_secs(30)).start(move || {
///     loaded += 1;
///     async move { loaded } // fetch something
/// })?;
/// cache.wait_hits(1).await?; // serve nothing before the first success
/// assert_eq!(cache.latest().as_deref(), Some(&1));
/// assert_eq!(*cache.trigger().await?, 2); // a run that started after this call
/// cache.cancel().await;
/// # Ok(())
/// # }
/// ```
///
/// # From inside a run
///
/// A target or a callback may call anything on its own timer (see [`current`](crate::current())). What
/// would wait for its own run answers at once: a stop takes effect when the run returns or next awaits,
/// and waiting for a later run is refused with [`Error::InsideRun`].
#[must_use = "a timer stops when its last handle is dropped; `detach` lets it live on, and if a group or a scope has a handle, \
              this one can be dropped"]
pub struct Timer<V: Send + Sync + 'static> {
    kind: Kind<V>,
}

/// What a handle leads to. A lean timer that has become a whole one may still be asked at its place.
enum Kind<V> {
    Whole(Arc<Shared<V>>),
    Placed(Placed),
}

#[cfg(feature = "tokio")]
impl Timer<()> {
    /// A timer with this period, on tokio. [`thread::every`](crate::thread::every) needs no runtime. It runs at a fixed delay, without jitter or limits, unless the builder
    /// is told otherwise. A period of zero means "as often as possible".
    #[track_caller]
    pub fn every(period: Duration) -> Builder {
        Builder::new(period)
    }
}

/// Control.
impl<V: Send + Sync + 'static> Timer<V> {
    /// Starts a timer that was built and not started, or has ended: on its engine, or on the tokio runtime
    /// that this is called in. A restart has a fresh schedule; run numbers and counts go on.
    ///
    /// # Errors
    /// [`Error::AlreadyRunning`]; [`Error::Restart`] for a timer that was built with stop conditions, or a
    /// call that is made once, and has been started before; [`Error::ScopeClosed`]; [`Error::NoRuntime`] on
    /// tokio, and [`Error::NoThread`] or [`Error::EngineClosed`] on an engine.
    pub fn start(&self) -> Result<(), Error> {
        let timer = self.whole();
        timer.home().start(&timer)
    }

    /// Stops it now: no further run starts, the current one is given up at the await where it is. The
    /// answer comes when nothing of the run is left and the callback for the end has been called.
    /// Idempotent; on a timer that has ended, the answer is why, and `Drained` on one that was never
    /// started.
    ///
    /// The request is made by the call. Dropping the answer does not take it back.
    pub fn cancel(&self) -> Pending<V, StopReason> {
        self.stop(StopReason::Cancelled, Shared::cancel)
    }

    /// Stops it gently: no further run starts, the current one may finish within `grace`, and is given
    /// up after that. The answer tells which of the two it was. An offloaded run cannot be given up: there
    /// the answer comes when it returns, unless you wait for less, `.shutdown(grace).timeout(grace * 2)`.
    pub fn shutdown(&self, grace: Duration) -> Pending<V, Shutdown> {
        self.stop(StopReason::Drained, |timer| timer.shut_down(grace))
    }

    /// What waits for an end that has been asked for.
    pub(crate) fn request_end(&self) -> Pending<V, StopReason> {
        let timer = self.whole();
        pending::for_stop(&timer, timer.queue_end())
    }

    /// Asks it to stop after the current run, however long that takes, without waiting for it.
    pub fn request_stop(&self) {
        self.stop_then(StopReason::Drained, |_| (), |timer| timer.request_stop(StopReason::Drained));
    }

    /// Asks for a run now and waits for its value: that of a run which started at or after this call. If
    /// a run is in flight, one more follows it at once and serves everybody who asked meanwhile.
    ///
    /// Afterwards a fixed-delay timer waits a period from the end of that run; a fixed-rate timer goes on
    /// from that run, unless it was built with [`keep_phase`](Builder::keep_phase). Works while paused.
    ///
    /// # Errors
    /// [`Error::Failed`] if that run fails; [`Error::NotRunning`]; [`Error::Stopped`] if the timer ends
    /// before the run.
    pub fn trigger(&self) -> Pending<V, Result<Arc<V>, Error>> {
        let timer = self.whole();
        pending::for_run(&timer, timer.queue_trigger())
    }

    /// Gives it another period, from the next wait on. A fixed-rate timer counts on from its last
    /// scheduled tick: no gap and no burst, at any age.
    pub fn set_period(&self, period: Duration) {
        self.whole().command(|machine, now| machine.set_period(now, period, false));
    }

    /// Gives it another period, for the wait in progress too: the next tick is due a new period after
    /// the last one. If that has passed, a fixed-delay timer ticks now and a fixed-rate timer at the next
    /// slot of its new grid. The wait before the first tick stays as it is.
    pub fn rearm(&self, period: Duration) {
        self.whole().command(|machine, now| machine.set_period(now, period, true));
    }

    /// Suspends the schedule. Slots that pass are skipped; the current run goes on, and triggers run.
    /// Without effect on a timer that does not run: a start is never paused.
    pub fn pause(&self) {
        self.whole().command(Machine::pause);
    }

    /// Takes the schedule up again at the next slot, without a burst.
    pub fn resume(&self) {
        self.whole().command(Machine::resume);
    }

    /// Lets it live on without a handle, until it ends by itself or its runtime goes away.
    pub fn detach(self) {
        match &self.kind {
            Kind::Whole(timer) => timer.detach(),
            Kind::Placed(place) => place.detach(),
        }
    }

    /// A handle that does not keep the timer going.
    #[must_use]
    pub fn downgrade(&self) -> WeakTimer<V> {
        WeakTimer { shared: Arc::downgrade(&self.whole()), name: self.name().clone() }
    }
}

/// Waiting.
impl<V: Send + Sync + 'static> Timer<V> {
    /// The result of the next run to end. A consumer that is busy in between misses runs; see
    /// [`subscribe`](Self::subscribe) for all of them.
    ///
    /// # Errors
    /// [`Error::Failed`] if that run fails; [`Error::NotRunning`]; [`Error::Stopped`] if the timer ends
    /// first. For a timer that a failure has ended: that failure.
    pub fn join(&self) -> Pending<V, Result<Arc<V>, Error>> {
        let timer = self.whole();
        pending::for_run(&timer, timer.queue_join())
    }

    /// Waits until it has ticked `count` times in all, failures not counted; at once if it has. A timer
    /// that ends with exactly this count satisfies it.
    ///
    /// # Errors
    /// The timer does not run or ends before it gets there: [`Error::Stopped`], [`Error::NotRunning`], or
    /// [`Error::Failed`] if a failure ended it.
    pub fn wait_hits(&self, count: u64) -> Pending<V, Result<(), Error>> {
        let timer = self.whole();
        pending::for_hits(&timer, timer.queue_hits(|_| count))
    }

    /// Waits for this many further ticks, counted from the call.
    ///
    /// # Errors
    /// As [`wait_hits`](Self::wait_hits).
    pub fn wait_more(&self, hits: u64) -> Pending<V, Result<(), Error>> {
        let timer = self.whole();
        pending::for_hits(&timer, timer.queue_hits(|now| Count::More(hits).target(now)))
    }

    /// Waits until the timer has ended and its callback has been called; at once if it has.
    ///
    /// # Errors
    /// [`Error::Failed`] if a failure ended it; [`Error::NotRunning`] if it was never started.
    pub fn wait(&self) -> Pending<V, Result<StopReason, Error>> {
        pending::for_end(&self.whole())
    }

    /// Waits for the end at most this long. That it still runs then is no error: `None`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[cfg(feature = "tokio")]
    pub async fn wait_at_most(&self, limit: Duration) -> Result<Option<StopReason>, Error> {
        still_runs(self.wait().timeout(limit).await)
    }

    /// As [`wait_at_most`](Self::wait_at_most), blocking the thread.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), and [`Error::ThreadsafeDispatch`] as [`Pending::block`].
    pub fn wait_at_most_blocking(&self, limit: Duration) -> Result<Option<StopReason>, Error> {
        still_runs(self.wait().block(limit))
    }

    /// Every tick from now on, in order, in a buffer of its own. See [`Feed`](crate::Feed).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use everbeat::Timer;
    /// # use std::time::Duration;
    /// let counter = Timer::every(Duration::ZERO).start(1..=5)?;
    /// let mut feed = counter.subscribe().bounded(3).open()?;
    /// counter.wait().await?;
    /// assert_eq!(feed.dropped_count(), 2);
    /// while let Some(number) = feed.next().await {
    ///     println!("{}", number?); // 3, 4, 5
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe(&self) -> FeedBuilder<'_, V> {
        FeedBuilder::new(self)
    }
}

/// Figures: none of these waits, from whichever thread.
impl<V: Send + Sync + 'static> Timer<V> {
    /// The newest value; `None` before the first.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<V>> {
        match self.found() {
            Found::Lean(lean, _) => lean.latest,
            Found::Whole(timer) => timer.latest(),
        }
    }

    /// When the newest value was delivered.
    #[must_use]
    pub fn last_tick_at(&self) -> Option<Instant> {
        self.read(|state| state.clock.as_ref()?.to_std(state.last_tick?))
    }

    /// How many values it has delivered, over all starts. During the n-th run this reads n − 1.
    #[must_use]
    pub fn hits(&self) -> u64 {
        match self.found() {
            Found::Lean(lean, _) => lean.hits(),
            Found::Whole(timer) => timer.hits(),
        }
    }

    /// Whether it was started and has not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        match self.found() {
            Found::Lean(lean, _) => lean.is_running(),
            Found::Whole(timer) => timer.is_running(),
        }
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.read(|state| state.machine.is_paused())
    }

    /// The period in force.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.read(|state| state.machine.schedule().period())
    }

    /// What it is called: the name it was given, else the place in the source where it was built.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.plan().name
    }

    /// Everything that is counted and measured.
    #[must_use]
    pub fn stats(&self) -> Stats {
        match self.found() {
            Found::Lean(lean, queued) => Stats::of(self.name(), queued.into(), &lean.whole(self.plan())),
            Found::Whole(timer) => timer.stats(),
        }
    }
}

/// Where it is.
impl<V: Send + Sync + 'static> Timer<V> {
    pub(crate) fn new(shared: Arc<Shared<V>>) -> Self {
        Self { kind: Kind::Whole(shared) }
    }

    /// A handle of a lean timer. `V` is `()`.
    pub(crate) fn placed(place: Placed) -> Self {
        Self { kind: Kind::Placed(place) }
    }

    /// The same handle, if it names a place in the queue of an engine.
    pub(crate) fn into_placed(self) -> Result<Timer<()>, Self> {
        match self.kind {
            Kind::Whole(_) => Err(self),
            Kind::Placed(_) => cast(self),
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        match &self.kind {
            Kind::Whole(timer) => timer.identity(),
            Kind::Placed(place) => place.identity(),
        }
    }

    pub(crate) fn needs_this_thread(&self) -> bool {
        match self.found() {
            Found::Lean(lean, _) if lean.is_in_run() => self.whole().needs_this_thread(),
            Found::Lean(..) => self.plan().home.needs_this_thread(),
            Found::Whole(timer) => timer.needs_this_thread(),
        }
    }

    fn plan(&self) -> &Arc<Plan> {
        match &self.kind {
            Kind::Whole(timer) => timer.plan(),
            Kind::Placed(place) => place.plan(),
        }
    }

    /// The timer with its own lock, which a lean one has from here on.
    pub(crate) fn whole(&self) -> Arc<Shared<V>> {
        match &self.kind {
            Kind::Whole(timer) => timer.clone(),
            Kind::Placed(place) => of_unit(place.promote()),
        }
    }

    fn found(&self) -> Found<V> {
        match &self.kind {
            Kind::Whole(timer) => Found::Whole(timer.clone()),
            Kind::Placed(place) => match place.find() {
                Found::Lean(lean, queued) => Found::Lean(lean.of_unit(), queued),
                Found::Whole(timer) => Found::Whole(of_unit(timer)),
            },
        }
    }

    /// Looks at the state.
    pub(crate) fn read<R>(&self, f: impl FnOnce(&State<V>) -> R) -> R {
        match self.found() {
            Found::Lean(lean, _) => f(&lean.whole(self.plan())),
            Found::Whole(timer) => timer.read(f),
        }
    }

    fn stop<O: From<StopReason>>(
        &self,
        reason: StopReason,
        stop: impl FnOnce(&Shared<V>) -> Ending<V>,
    ) -> Pending<V, O> {
        let past = |reason| Pending::past(O::from(reason));
        self.stop_then(reason, |(reason, _)| past(reason), |timer| pending::for_stop(timer, stop(timer)))
    }

    /// Ends a lean timer that only waits: `past` is told why it has ended, and whether that was now. For all
    /// others `stop` does so.
    fn stop_then<R>(
        &self,
        reason: StopReason,
        past: impl FnOnce((StopReason, bool)) -> R,
        stop: impl FnOnce(&Arc<Shared<V>>) -> R,
    ) -> R {
        match &self.kind {
            Kind::Whole(timer) => stop(timer),
            Kind::Placed(place) => match place.stop(reason) {
                Stopped::Now { .. } => past((reason, true)),
                Stopped::Before(reason) => past((reason, false)),
                Stopped::Whole(timer) => stop(&of_unit(timer)),
            },
        }
    }

    /// Calls off the only run of a timer. Returns whether that came in time: it has not begun, and never will.
    pub(crate) fn call_off(&self) -> bool {
        self.stop_then(StopReason::Cancelled, |(_, in_time)| in_time, |timer| timer.call_off())
    }
}

/// A lean timer delivers `()`: that is what `V` is.
fn of_unit<V: Send + Sync + 'static>(timer: Arc<Shared<()>>) -> Arc<Shared<V>> {
    match cast(timer) {
        Ok(timer) => timer,
        Err(_) => unreachable!("only timers that deliver nothing are placed"),
    }
}

impl<V: Send + Sync + 'static> Clone for Timer<V> {
    fn clone(&self) -> Self {
        let whole = match &self.kind {
            Kind::Whole(timer) => timer.clone(),
            Kind::Placed(place) => match place.another() {
                Ok(place) => return Self::placed(place),
                Err(timer) => of_unit(timer),
            },
        };
        whole.add_handle();
        Self::new(whole)
    }
}

impl<V: Send + Sync + 'static> Drop for Timer<V> {
    fn drop(&mut self) {
        match &self.kind {
            Kind::Whole(timer) => timer.release_handle(),
            Kind::Placed(place) => place.release(),
        }
    }
}

impl<V: Send + Sync + 'static> fmt::Debug for Timer<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Timer");
        debug.field("name", self.name()).field("period", &self.period());
        debug.field("running", &self.is_running()).field("hits", &self.hits()).finish()
    }
}

/// A handle that does not keep its timer going. Made by [`Timer::downgrade`].
///
/// A target may hold one of its own timer; a full handle there would keep the timer going forever.
pub struct WeakTimer<V: Send + Sync + 'static> {
    shared: Weak<Shared<V>>,
    name: Name,
}

impl<V: Send + Sync + 'static> WeakTimer<V> {
    /// A full handle, if there still is one, or if the timer was detached and has not ended.
    #[must_use = "a timer stops when its last handle is dropped"]
    pub fn upgrade(&self) -> Option<Timer<V>> {
        let shared = self.shared.upgrade()?;
        shared.revive_handle().then(|| Timer::new(shared))
    }
}

impl<V: Send + Sync + 'static> Clone for WeakTimer<V> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), name: self.name.clone() }
    }
}

impl<V: Send + Sync + 'static> fmt::Debug for WeakTimer<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakTimer").field("name", &self.name).finish()
    }
}

/// That a timer still runs at the end of an idle wait is no error.
fn still_runs(ended: Result<StopReason, Error>) -> Result<Option<StopReason>, Error> {
    match ended {
        Err(Error::Timeout { .. }) => Ok(None),
        ended => ended.map(Some),
    }
}
