//! Timers that start and stop together.
//!
//! # Locks
//!
//! The group's lock guards the list of members and the set of their identities. No member is started, asked or
//! dropped under it: each request works on a copy of the list.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
#[cfg(feature = "tokio")]
use std::sync::OnceLock;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use everbeat_core::StopReason;

use crate::any::{AnyTimer, AnyValue, BoxFuture, Identity};
use crate::block;
#[cfg(feature = "tokio")]
use crate::builder::Builder;
use crate::error::Error;
use crate::name::Name;
use crate::pending::Shutdown;
#[cfg(feature = "tokio")]
use crate::runtime::task::engine_in_a_task;
use crate::sync::{Mutex, MutexGuard};
#[cfg(feature = "tokio")]
use crate::thread::Engine;

/// Timers that are started, stopped and waited for together. Cheap to clone; all clones are one group.
///
/// Requests go to all members at once and the answers come in the order of the members. When the last
/// clone is dropped, its handles of the members are dropped with it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), everbeat::Error> {
/// use everbeat::{Group, Timer};
/// use std::time::Duration;
///
/// let caches = Group::named("caches");
/// caches.add(Timer::every(Duration::from_secs(5)).name("rates").build(|| async { 1.1 })?)?;
/// caches.add(Timer::every(Duration::from_secs(60)).name("users").build(|| async { vec!["you"] })?)?;
/// caches.start()?;
/// caches.wait_hits(1).await.all()?; // every cache is warm
/// for (timer, value) in caches.trigger().await.all()? {
///     println!("{}: {}", timer.name(), value.is::<f64>());
/// }
/// caches.shutdown(Duration::from_secs(5)).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Group {
    inner: Arc<Mutex<Inner>>,
    name: Option<Arc<str>>,
    /// Whose timers share a task.
    #[cfg(feature = "tokio")]
    engine: Arc<OnceLock<Engine>>,
}

#[derive(Default)]
struct Inner {
    members: Vec<AnyTimer>,
    /// Which timers they are, so that nobody has to look through all of them.
    identities: HashSet<Identity>,
    active: bool,
    /// How often the group was stopped: whoever starts members notices a stop in between.
    stops: u64,
    /// Starts of the whole group that are under way.
    starting: usize,
    /// Who was added and started while one of them was.
    brought_in: Vec<AnyTimer>,
}

impl Group {
    /// An empty group.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty group with a name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// The name, if it was given one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// A timer that becomes a member when it is built or started, and that lives with all others made like this
    /// in one task with one sleep: the cheapest way to have many timers on tokio. The task is on the runtime in
    /// which the first of them was started, and stays as long as one of them runs.
    ///
    /// They have their turns one after the other, at most some dozens before other tasks have theirs. Sync
    /// targets run there, and async ones are polled there, so one that blocks holds all of them up, and is
    /// reported by name; [`offload`](crate::offload) moves it to a thread for blocking work. Where timers shall run at the same
    /// time, [`add`](Self::add) members with tasks of their own. As on other engines, histograms are off by
    /// default. With a [`clock`](Builder::clock) for tests a member has a task of its own.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), everbeat::Error> {
    /// use everbeat::Group;
    /// use std::time::Duration;
    ///
    /// let sensors = Group::named("sensors");
    /// for id in 0..1000 {
    ///     let sensor = sensors.every(Duration::from_secs(1)).fixed_rate();
    ///     drop(sensor.start(move || println!("sample {id}"))?); // the group has a handle too
    /// }
    /// sensors.wait_hits(3).await.all()?;
    /// sensors.cancel().await;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tokio")]
    #[track_caller]
    pub fn every(&self, period: Duration) -> Builder {
        let name = self.name().unwrap_or("group");
        let engine = self.engine.get_or_init(|| engine_in_a_task(name));
        Builder::new(period).on(engine).member_of(self)
    }

    /// Adds a timer. A group that was started starts it too, unless it runs already. A timer that is a
    /// member already is not added again.
    ///
    /// # Errors
    /// The start of the timer failed; it was not added.
    pub fn add(&self, timer: impl Into<AnyTimer>) -> Result<(), Error> {
        let timer = timer.into();
        let Some((active, stops)) = self.take_in(&timer) else { return Ok(()) };
        if !active || timer.is_running() {
            return Ok(());
        }
        timer.start().inspect_err(|_| _ = self.remove(&timer))?;
        let stopped = {
            let mut inner = self.lock();
            if inner.starting > 0 {
                inner.brought_in.push(timer.clone());
            }
            inner.stops != stops
        };
        if stopped {
            drop(timer.cancel());
        }
        Ok(())
    }

    /// Adds a timer that whoever made it has started: it may have ended since, and is not started again.
    pub(crate) fn add_started(&self, timer: impl Into<AnyTimer>) {
        self.take_in(&timer.into());
    }

    /// Makes it a member. Returns whether the group is active, and its stops; `None` if it was one already.
    fn take_in(&self, timer: &AnyTimer) -> Option<(bool, u64)> {
        let member = timer.clone();
        let mut inner = self.lock();
        if !inner.identities.insert(timer.identity()) {
            drop(inner); // before the handle is
            return None;
        }
        inner.members.push(member);
        Some((inner.active, inner.stops))
    }

    /// Takes a timer out and returns whether it was a member. It goes on as it is.
    pub fn remove(&self, timer: impl Into<AnyTimer>) -> bool {
        let timer = timer.into();
        let mut inner = self.lock();
        let place = inner.members.iter().position(|member| member.same_timer(&timer));
        let removed = place.map(|place| inner.members.remove(place));
        if let Some(removed) = &removed {
            inner.identities.remove(&removed.identity());
        }
        drop(inner);
        removed.is_some()
    }

    /// Starts all members, in order. If one of them cannot be started, those that this call has started
    /// are cancelled again, and with them those that were added and started meanwhile.
    ///
    /// # Errors
    /// That of the member that could not be started. [`Error::AlreadyRunning`] if one runs already.
    pub fn start(&self) -> Result<(), Error> {
        let (members, was_active, stops) = {
            let mut inner = self.lock();
            // From here on whoever is added is started by `add`.
            let was_active = std::mem::replace(&mut inner.active, true);
            inner.starting += 1;
            (inner.members.clone(), was_active, inner.stops)
        };
        let mut started = 0;
        let result = members.iter().try_for_each(|member| member.start().map(|()| started += 1));
        let undone = self.end_start(&members[..started], result.is_err(), (was_active, stops));
        undone.iter().for_each(|member| drop(member.cancel()));
        result
    }

    /// Cancels all members at once; see [`Timer::cancel`](crate::Timer::cancel).
    pub fn cancel(&self) -> Together<StopReason> {
        self.note_stop();
        self.ask(AnyTimer::cancel)
    }

    /// Shuts all members down at once; see [`Timer::shutdown`](crate::Timer::shutdown). The grace period
    /// is the same for all. An offloaded run cannot be given up and may outlast it; where that matters,
    /// wait with [`Together::timeout`].
    pub fn shutdown(&self, grace: Duration) -> Together<Shutdown> {
        self.note_stop();
        self.ask(|member| member.shutdown(grace))
    }

    /// Triggers all members and waits for all values.
    pub fn trigger(&self) -> Together<Result<AnyValue, Error>> {
        self.ask(AnyTimer::trigger)
    }

    /// Waits until every member has ticked `count` times in all.
    pub fn wait_hits(&self, count: u64) -> Together<Result<(), Error>> {
        self.ask(|member| member.wait_hits(count))
    }

    /// Waits for this many further ticks of every member.
    pub fn wait_more(&self, hits: u64) -> Together<Result<(), Error>> {
        self.ask(|member| member.wait_more(hits))
    }

    /// Waits until every member has ended.
    pub fn wait(&self) -> Together<Result<StopReason, Error>> {
        self.ask(AnyTimer::wait)
    }

    /// Whether the group was started and every member runs; of one without members, whether it was started.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let members = self.members();
        let active = self.lock().active;
        active && members.iter().all(AnyTimer::is_running)
    }

    /// The members, in order.
    #[must_use]
    pub fn members(&self) -> Vec<AnyTimer> {
        self.lock().members.clone()
    }

    /// The first member that was given this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<AnyTimer> {
        self.members().into_iter().find(|member| member.name().as_given() == Some(name))
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().members.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this timer is a member.
    #[must_use]
    pub fn contains(&self, timer: impl Into<AnyTimer>) -> bool {
        let timer = timer.into();
        // The handle goes after the lock.
        self.lock().identities.contains(&timer.identity())
    }

    fn ask<O: Unpin>(&self, question: impl Fn(&AnyTimer) -> BoxFuture<O>) -> Together<O> {
        let members = self.members().into_iter();
        let seats = members.map(|timer| Seat { answer: Answer::Pending(question(&timer)), timer });
        Together { seats: seats.collect(), answered: 0 }
    }

    /// A start is over, before which the group was active or not, and had been stopped so often. Returns who is to be
    /// cancelled again: if it has failed, or somebody has stopped the group meanwhile, who has the last word.
    fn end_start(
        &self,
        started: &[AnyTimer],
        failed: bool,
        (was_active, stops): (bool, u64),
    ) -> Vec<AnyTimer> {
        let mut inner = self.lock();
        inner.starting -= 1;
        let stopped = inner.stops != stops;
        // Whoever has started it anew since then takes those that run for its own, and takes them back if it fails.
        let restarted = stopped && inner.active;
        if restarted && inner.starting > 0 {
            inner.brought_in.extend_from_slice(started);
        }
        let brings_down = failed && !stopped && !was_active;
        if brings_down {
            inner.active = false;
            // Who is being added at this moment is stopped like by a stop.
            inner.stops += 1;
        }
        let over = inner.starting == 0 || brings_down;
        let brought_in = if over { std::mem::take(&mut inner.brought_in) } else { Vec::new() };
        drop(inner); // before any handle is
        let own = if (stopped || failed) && !restarted { started } else { &[] };
        own.iter().chain(brought_in.iter().filter(|_| brings_down)).cloned().collect()
    }

    fn note_stop(&self) {
        let mut inner = self.lock();
        inner.active = false;
        inner.stops += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IntoIterator for &Group {
    type Item = AnyTimer;
    type IntoIter = std::vec::IntoIter<AnyTimer>;

    fn into_iter(self) -> Self::IntoIter {
        self.members().into_iter()
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name).field("members", &self.members()).finish()
    }
}

/// A request to all members of a [`Group`]. It was made when this was created; awaiting it gives the
/// [`Answers`].
#[must_use = "the request is made already, but this is what waits for the answers"]
pub struct Together<O> {
    seats: Vec<Seat<O>>,
    /// So many have answered from the first one on.
    answered: usize,
}

struct Seat<O> {
    timer: AnyTimer,
    answer: Answer<O>,
}

enum Answer<O> {
    Pending(BoxFuture<O>),
    Here(O),
    Taken,
}

impl<O> Seat<O> {
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if let Answer::Pending(answer) = &mut self.answer {
            let Poll::Ready(answer) = answer.as_mut().poll(cx) else { return false };
            self.answer = Answer::Here(answer);
        }
        true
    }

    fn take(&mut self) -> Option<(AnyTimer, O)> {
        match std::mem::replace(&mut self.answer, Answer::Taken) {
            Answer::Here(answer) => Some((self.timer.clone(), answer)),
            Answer::Pending(_) | Answer::Taken => None,
        }
    }
}

impl<O: Unpin> Future for Together<O> {
    type Output = Answers<O>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answers<O>> {
        std::task::ready!(self.poll_seats(cx));
        Poll::Ready(Answers(self.seats.iter_mut().filter_map(Seat::take).collect()))
    }
}

impl<O> Together<O> {
    /// Waits for one member after the other. What they answer meanwhile is kept for them, and whoever waits for a
    /// million of them is not woken by each, to look at all the others again.
    fn poll_seats(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(seat) = self.seats.get_mut(self.answered) {
            if !seat.poll(cx) {
                return Poll::Pending;
            }
            self.answered += 1;
        }
        Poll::Ready(())
    }

    /// Collects the answers that are there, whether or not others are missing.
    fn look_at_all(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for seat in &mut self.seats[self.answered..] {
            seat.poll(&mut cx);
        }
    }
}

impl<O: Unpin> Together<O> {
    /// Waits for the whole group at most this long. A member that has not answered by then is in the
    /// answers with [`Error::Timeout`]; what was asked of it stands.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its time driver enabled.
    #[cfg(feature = "tokio")]
    pub async fn timeout(mut self, limit: Duration) -> Answers<Result<O::Value, Error>>
    where
        O: crate::pending::Answer,
    {
        // Whether it went well shows in the seats.
        let _ = tokio::time::timeout(limit, std::future::poll_fn(|cx| self.poll_seats(cx))).await;
        self.answers(|name| Error::Timeout { name, after: limit })
    }

    /// Blocks the thread until all have answered, at most this long: for threads that run no async code.
    /// As [`timeout`](Self::timeout); on a thread that a member needs, whoever has not answered yet is in
    /// the answers with [`Error::ThreadsafeDispatch`].
    pub fn block(mut self, timeout: Duration) -> Answers<Result<O::Value, Error>>
    where
        O: crate::pending::Answer,
    {
        let ready = self.poll_seats(&mut Context::from_waker(Waker::noop())).is_ready();
        if !ready && self.seats.iter().any(|seat| seat.timer.needs_this_thread()) {
            return self.answers(|name| Error::ThreadsafeDispatch { name, advice: block::ADVICE });
        }
        // Whether it went well shows in the seats.
        let _ = block::on(std::future::poll_fn(|cx| self.poll_seats(cx)), timeout);
        self.answers(|name| Error::Timeout { name, after: timeout })
    }

    /// The answers that are here, and an error for each that is not.
    fn answers(mut self, missing: impl Fn(Name) -> Error) -> Answers<Result<O::Value, Error>>
    where
        O: crate::pending::Answer,
    {
        self.look_at_all();
        let answers = self.seats.iter_mut().map(|seat| {
            let answer = match std::mem::replace(&mut seat.answer, Answer::Taken) {
                Answer::Here(answer) => answer.into_result(),
                Answer::Pending(_) | Answer::Taken => Err(missing(seat.timer.name().clone())),
            };
            (seat.timer.clone(), answer)
        });
        Answers(answers.collect())
    }
}

impl<O> fmt::Debug for Together<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together").field("members", &self.seats.len()).finish()
    }
}

/// What each member of a group answered, in the order of the members.
#[derive(Debug)]
pub struct Answers<O>(Vec<(AnyTimer, O)>);

impl<O> Answers<O> {
    /// The answers with the timers that gave them.
    #[must_use]
    pub fn into_vec(self) -> Vec<(AnyTimer, O)> {
        self.0
    }

    /// The answers with the timers that gave them.
    pub fn iter(&self) -> impl Iterator<Item = (&AnyTimer, &O)> {
        self.0.iter().map(|(timer, answer)| (timer, answer))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Answers<Result<T, Error>> {
    /// All values, or the first failure.
    ///
    /// # Errors
    /// That of the first member that failed.
    pub fn all(self) -> Result<Vec<(AnyTimer, T)>, Error> {
        self.0.into_iter().map(|(timer, answer)| answer.map(|value| (timer, value))).collect()
    }
}

impl<O> IntoIterator for Answers<O> {
    type Item = (AnyTimer, O);
    type IntoIter = std::vec::IntoIter<(AnyTimer, O)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
