//! Timers whatever they deliver.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use everbeat_core::{Instant, Key, StopReason, Timer as Machine};

use crate::beat::Progress;
use crate::error::Error;
use crate::handle::Timer;
use crate::name::Name;
use crate::pending::{self, Shutdown};
use crate::shared::{Shared, TurnOf};
use crate::stats::Stats;

/// The same thing, if it is of the other type.
pub(crate) fn cast<A: 'static, B: 'static>(thing: A) -> Result<B, A> {
    let mut thing = Some(thing);
    let cast = (&mut thing as &mut dyn Any).downcast_mut::<Option<B>>().and_then(Option::take);
    cast.ok_or_else(|| thing.expect("nobody has taken it"))
}

/// A value of any type, shared. `value.downcast::<Rows>()` gives it its type back.
pub type AnyValue = Arc<dyn Any + Send + Sync>;

/// A future in a box.
pub type BoxFuture<O> = Pin<Box<dyn Future<Output = O> + Send>>;

/// A timer whatever it delivers: what a [`Group`](crate::Group) holds, and what
/// [`current`](crate::current()) returns. A handle like [`Timer`], only that it does not know the type of
/// the values.
pub struct AnyTimer(Kind);

/// What a handle leads to.
enum Kind {
    Whole(Arc<dyn Control>),
    /// A lean timer that has a place in the queue of its engine, or had one before it became a whole one.
    Placed(Timer<()>),
}

/// What tells timers apart, as long as there is a handle: the address of one, or the place with its engine that
/// it has, or had before it became a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    At(usize),
    Placed(usize, Key),
}

impl AnyTimer {
    /// A handle for whoever is inside a run of the timer: it is alive, handles or not.
    pub(crate) fn inside(control: Arc<dyn Control>) -> Self {
        control.add_handle();
        Self(Kind::Whole(control))
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &Name {
        match &self.0 {
            Kind::Whole(timer) => timer.name(),
            Kind::Placed(timer) => timer.name(),
        }
    }

    /// As [`Timer::start`].
    ///
    /// # Errors
    /// As there.
    pub fn start(&self) -> Result<(), Error> {
        self.whole().start()
    }

    /// As [`Timer::cancel`].
    #[must_use = "the request is made already, but this is what waits for its answer"]
    pub fn cancel(&self) -> BoxFuture<StopReason> {
        match &self.0 {
            Kind::Whole(timer) => timer.clone().cancel(),
            Kind::Placed(timer) => Box::pin(timer.cancel()),
        }
    }

    /// As [`Timer::shutdown`].
    #[must_use = "the request is made already, but this is what waits for its answer"]
    pub fn shutdown(&self, grace: Duration) -> BoxFuture<Shutdown> {
        match &self.0 {
            Kind::Whole(timer) => timer.clone().shutdown(grace),
            Kind::Placed(timer) => Box::pin(timer.shutdown(grace)),
        }
    }

    /// As [`Timer::request_stop`].
    pub fn request_stop(&self) {
        match &self.0 {
            Kind::Whole(timer) => timer.stop_gently(),
            Kind::Placed(timer) => timer.request_stop(),
        }
    }

    /// As [`Timer::trigger`].
    #[must_use = "the request is made already, but this is what waits for its answer"]
    pub fn trigger(&self) -> BoxFuture<Result<AnyValue, Error>> {
        self.whole().trigger()
    }

    /// As [`Timer::join`].
    #[must_use = "this is what waits"]
    pub fn join(&self) -> BoxFuture<Result<AnyValue, Error>> {
        self.whole().join()
    }

    /// As [`Timer::wait_hits`].
    #[must_use = "this is what waits"]
    pub fn wait_hits(&self, count: u64) -> BoxFuture<Result<(), Error>> {
        self.whole().wait_hits(Count::Total(count))
    }

    /// As [`Timer::wait_more`].
    #[must_use = "this is what waits"]
    pub fn wait_more(&self, hits: u64) -> BoxFuture<Result<(), Error>> {
        self.whole().wait_hits(Count::More(hits))
    }

    /// As [`Timer::wait`].
    #[must_use = "this is what waits"]
    pub fn wait(&self) -> BoxFuture<Result<StopReason, Error>> {
        self.whole().wait()
    }

    /// As [`Timer::set_period`].
    pub fn set_period(&self, period: Duration) {
        self.whole().set_period(period, false);
    }

    /// As [`Timer::rearm`].
    pub fn rearm(&self, period: Duration) {
        self.whole().set_period(period, true);
    }

    /// As [`Timer::pause`].
    pub fn pause(&self) {
        self.whole().pause();
    }

    /// As [`Timer::resume`].
    pub fn resume(&self) {
        self.whole().resume();
    }

    /// As [`Timer::is_running`].
    #[must_use]
    pub fn is_running(&self) -> bool {
        match &self.0 {
            Kind::Whole(timer) => timer.is_running(),
            Kind::Placed(timer) => timer.is_running(),
        }
    }

    /// As [`Timer::latest`].
    #[must_use]
    pub fn latest(&self) -> Option<AnyValue> {
        match &self.0 {
            Kind::Whole(timer) => timer.latest(),
            Kind::Placed(timer) => timer.latest().map(|value| value as AnyValue),
        }
    }

    /// As [`Timer::stats`].
    #[must_use]
    pub fn stats(&self) -> Stats {
        match &self.0 {
            Kind::Whole(timer) => timer.stats(),
            Kind::Placed(timer) => timer.stats(),
        }
    }

    pub(crate) fn needs_this_thread(&self) -> bool {
        match &self.0 {
            Kind::Whole(timer) => timer.needs_this_thread(),
            Kind::Placed(timer) => timer.needs_this_thread(),
        }
    }

    /// How many handles there are, this one included.
    pub(crate) fn handles(&self) -> usize {
        match &self.0 {
            Kind::Whole(timer) => timer.handles(),
            Kind::Placed(timer) => timer.whole().handles(),
        }
    }

    /// Refuses all starts from now on.
    pub(crate) fn retire(&self) {
        self.whole().retire();
    }

    /// Whether both are handles of the same timer.
    #[must_use]
    pub fn same_timer(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }

    pub(crate) fn identity(&self) -> Identity {
        match &self.0 {
            Kind::Whole(timer) => timer.identity(),
            Kind::Placed(timer) => timer.identity(),
        }
    }

    /// The timer with its own lock, which a lean one has from here on.
    fn whole(&self) -> Arc<dyn Control> {
        match &self.0 {
            Kind::Whole(timer) => timer.clone(),
            Kind::Placed(timer) => timer.whole(),
        }
    }
}

impl<V: Send + Sync + 'static> From<Timer<V>> for AnyTimer {
    fn from(timer: Timer<V>) -> Self {
        match timer.into_placed() {
            Ok(timer) => Self(Kind::Placed(timer)),
            Err(timer) => {
                let shared = timer.whole();
                shared.add_handle();
                Self(Kind::Whole(shared))
            }
        }
    }
}

impl<V: Send + Sync + 'static> From<&Timer<V>> for AnyTimer {
    fn from(timer: &Timer<V>) -> Self {
        timer.clone().into()
    }
}

impl From<&AnyTimer> for AnyTimer {
    fn from(timer: &AnyTimer) -> Self {
        timer.clone()
    }
}

impl Clone for AnyTimer {
    fn clone(&self) -> Self {
        match &self.0 {
            Kind::Whole(timer) => {
                timer.add_handle();
                Self(Kind::Whole(timer.clone()))
            }
            Kind::Placed(timer) => timer.clone().into(),
        }
    }
}

impl Drop for AnyTimer {
    fn drop(&mut self) {
        if let Kind::Whole(timer) = &self.0 {
            timer.release_handle();
        }
    }
}

impl fmt::Debug for AnyTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyTimer").field("name", self.name()).field("running", &self.is_running()).finish()
    }
}

/// Which hit count is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Total(u64),
    More(u64),
}

impl Count {
    pub(crate) fn target(self, hits: u64) -> u64 {
        match self {
            Self::Total(total) => total,
            Self::More(more) => hits.saturating_add(more),
        }
    }
}

/// A timer without the type of its values.
pub(crate) trait Control: Send + Sync {
    fn name(&self) -> &Name;
    fn identity(&self) -> Identity;
    fn add_handle(&self);
    fn release_handle(&self);
    fn start(self: Arc<Self>) -> Result<(), Error>;
    fn cancel(self: Arc<Self>) -> BoxFuture<StopReason>;
    fn shutdown(self: Arc<Self>, grace: Duration) -> BoxFuture<Shutdown>;
    fn stop_gently(&self);
    fn trigger(self: Arc<Self>) -> BoxFuture<Result<AnyValue, Error>>;
    fn join(self: Arc<Self>) -> BoxFuture<Result<AnyValue, Error>>;
    fn wait_hits(self: Arc<Self>, count: Count) -> BoxFuture<Result<(), Error>>;
    fn wait(self: Arc<Self>) -> BoxFuture<Result<StopReason, Error>>;
    fn set_period(&self, period: Duration, rearm: bool);
    fn pause(&self);
    fn resume(&self);
    fn is_running(&self) -> bool;
    fn latest(&self) -> Option<AnyValue>;
    fn stats(&self) -> Stats;
    fn needs_this_thread(&self) -> bool;
    fn handles(&self) -> usize;
    fn retire(&self);

    // What an engine does with it, or its task.

    /// A turn of a lean timer; `None` if it takes a full turn. `now` is moved on to the end of the run.
    fn lean_turn(&self, turn: &TurnOf<'_>, now: &mut Option<Instant>) -> Option<Progress>;
    fn full_turn(self: Arc<Self>, key: Key, driver: Option<&Waker>) -> Progress;
    fn abandon_at(self: Arc<Self>, key: Key);
    fn count_queued(&self);
    fn ends_quietly(&self, key: Key) -> bool;
}

impl<V: Send + Sync + 'static> Control for Shared<V> {
    fn name(&self) -> &Name {
        self.name()
    }

    fn identity(&self) -> Identity {
        self.identity()
    }

    fn add_handle(&self) {
        self.add_handle();
    }

    fn release_handle(&self) {
        self.release_handle();
    }

    fn start(self: Arc<Self>) -> Result<(), Error> {
        self.home().start(&self)
    }

    fn cancel(self: Arc<Self>) -> BoxFuture<StopReason> {
        Box::pin(pending::for_stop(&self, Shared::cancel(&self)))
    }

    fn shutdown(self: Arc<Self>, grace: Duration) -> BoxFuture<Shutdown> {
        Box::pin(pending::for_stop(&self, self.shut_down(grace)))
    }

    fn stop_gently(&self) {
        self.request_stop(StopReason::Drained);
    }

    fn trigger(self: Arc<Self>) -> BoxFuture<Result<AnyValue, Error>> {
        let run = pending::for_run(&self, self.queue_trigger());
        Box::pin(async move { run.await.map(|value| value as AnyValue) })
    }

    fn join(self: Arc<Self>) -> BoxFuture<Result<AnyValue, Error>> {
        let run = pending::for_run(&self, self.queue_join());
        Box::pin(async move { run.await.map(|value| value as AnyValue) })
    }

    fn wait_hits(self: Arc<Self>, count: Count) -> BoxFuture<Result<(), Error>> {
        let place = self.queue_hits(|hits| count.target(hits));
        Box::pin(pending::for_hits(&self, place))
    }

    fn wait(self: Arc<Self>) -> BoxFuture<Result<StopReason, Error>> {
        Box::pin(pending::for_end(&self))
    }

    fn set_period(&self, period: Duration, rearm: bool) {
        self.command(|machine, now| machine.set_period(now, period, rearm));
    }

    fn pause(&self) {
        self.command(Machine::pause);
    }

    fn resume(&self) {
        self.command(Machine::resume);
    }

    fn is_running(&self) -> bool {
        Shared::is_running(self)
    }

    fn latest(&self) -> Option<AnyValue> {
        self.latest().map(|value| value as AnyValue)
    }

    fn stats(&self) -> Stats {
        self.stats()
    }

    fn needs_this_thread(&self) -> bool {
        self.needs_this_thread()
    }

    fn retire(&self) {
        self.retire();
    }

    fn handles(&self) -> usize {
        self.handles()
    }

    fn lean_turn(&self, turn: &TurnOf<'_>, now: &mut Option<Instant>) -> Option<Progress> {
        self.lean_turn(turn, now)
    }

    fn full_turn(self: Arc<Self>, key: Key, driver: Option<&Waker>) -> Progress {
        Self::full_turn(&self, key, driver)
    }

    fn abandon_at(self: Arc<Self>, key: Key) {
        Self::abandon_at(&self, key);
    }

    fn count_queued(&self) {
        self.count_queued();
    }

    fn ends_quietly(&self, key: Key) -> bool {
        self.ends_quietly(key)
    }
}
