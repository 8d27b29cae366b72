//! Waiting for a timer: one future for all that can be waited for.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use everbeat_core::StopReason;

use crate::block;
use crate::error::Error;
use crate::name::Name;
use crate::shared::{Ending, Shared};
use crate::waiters::{Place, Reply};

/// Something that a timer was asked for. The request was made when this was created, and stands even if
/// this is dropped; awaiting it only waits for the answer.
///
/// # Cancel safety
/// Cancel safe. Dropping it gives up the place in the line, disturbs no other waiter, and loses nothing
/// that the timer delivers elsewhere.
#[must_use = "the request is made already, but this is what waits for its answer"]
pub struct Pending<V: Send + Sync + 'static, O> {
    state: Progress<V, O>,
}

enum Progress<V: Send + Sync + 'static, O> {
    Waiting(Seat<V>, Meaning<V, O>),
    Answered(O),
    Over,
}

/// A place in the line of a timer, which is given back.
struct Seat<V: Send + Sync + 'static> {
    timer: Arc<Shared<V>>,
    place: Option<Place>,
}

/// How a reply is put to whoever asked.
struct Meaning<V, O> {
    reply: fn(&Name, Reply<V>) -> O,
    /// What a run is told that would wait for its own timer. `None`: it may wait.
    inside: fn(&Shared<V>) -> O,
}

impl<V, O> Clone for Meaning<V, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V, O> Copy for Meaning<V, O> {}

/// The answer to a wait, told apart from an error of the wait itself.
pub trait Answer {
    /// What was waited for.
    type Value;

    /// The value, or why there is none.
    ///
    /// # Errors
    /// The wait failed.
    fn into_result(self) -> Result<Self::Value, Error>;
}

impl<T> Answer for Result<T, Error> {
    type Value = T;

    fn into_result(self) -> Self {
        self
    }
}

impl Answer for StopReason {
    type Value = Self;

    fn into_result(self) -> Result<Self, Error> {
        Ok(self)
    }
}

impl Answer for Shutdown {
    type Value = Self;

    fn into_result(self) -> Result<Self, Error> {
        Ok(self)
    }
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shutdown {
    /// The last run ended within the grace period, or there was none.
    Drained,
    /// The last run was given up, at the end of the grace period or by a cancel; or it took longer than the grace
    /// period, and could not be interrupted.
    Cancelled,
    /// A failure has ended the timer: that of the last run, or one before the shutdown.
    Failed,
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drained => "drained",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        })
    }
}

impl From<StopReason> for Shutdown {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Cancelled | StopReason::GraceExpired | StopReason::Abandoned => Self::Cancelled,
            StopReason::Failed => Self::Failed,
            _ => Self::Drained,
        }
    }
}

impl<V: Send + Sync + 'static, O: Answer> Pending<V, O> {
    /// The answer that is there.
    fn answer(self) -> O {
        match self.state {
            Progress::Answered(answer) => answer,
            _ => panic!("a wait that is over is not polled again"),
        }
    }

    /// The timer, if it is still to answer.
    fn name(&self) -> Option<Name> {
        let Progress::Waiting(Seat { timer, .. }, _) = &self.state else { return None };
        Some(timer.name().clone())
    }

    /// The answer on a thread that must not wait for it: what there is, or that it is refused. `None`: this one may wait.
    #[doc(hidden)]
    pub fn answer_without_waiting(&mut self) -> Option<Result<O::Value, Error>> {
        let refused = self.may_block().err()?;
        Some(self.answer_at_hand().map_or(Err(refused), Answer::into_result))
    }

    /// The answer, if it has come since the request was made.
    fn answer_at_hand(&mut self) -> Option<O> {
        let Progress::Waiting(Seat { timer, .. }, _) = &self.state else { return None };
        if timer.is_inside() {
            return None; // whose answer would be another one
        }
        match Pin::new(self).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    /// Whether waiting for it here would never end. On an engine a run of the timer itself is answered at
    /// once.
    fn needs_this_thread(&self) -> bool {
        let Progress::Waiting(Seat { timer, .. }, _) = &self.state else { return false };
        !(timer.is_inside() && timer.home().is_engine()) && timer.needs_this_thread()
    }

    /// Waits at most this long.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the time is over; the request itself stands. Else as the wait itself.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its time driver enabled.
    #[cfg(feature = "tokio")]
    pub async fn timeout(self, limit: Duration) -> Result<O::Value, Error> {
        let Some(name) = self.name() else { return self.answer().into_result() };
        match tokio::time::timeout(limit, self).await {
            Ok(answer) => answer.into_result(),
            Err(_) => Err(Error::Timeout { name, after: limit }),
        }
    }

    /// Blocks the thread until the answer is there, at most this long. For threads that run no async
    /// code: a signal handler's thread, a sync request handler, `spawn_blocking`, and every thread of a
    /// program without a runtime.
    ///
    /// # Errors
    /// [`Error::ThreadsafeDispatch`] on a thread that the timer needs, unless the answer is there: that of its
    /// single-threaded runtime, the one that keeps the time of its engine or moves it by hand, or on tokio one on
    /// which a run of the timer is calling. On an engine a run that asks its own timer is answered at once, as if it
    /// awaited; a worker that waits for another timer lends its place to one more worker meanwhile.
    /// [`Error::Timeout`] when the time is over; the request itself stands. Else as the wait itself.
    ///
    /// On the only worker of a multi-threaded runtime that the timer lives on nobody can answer: there, call it in
    /// tokio's `block_in_place`.
    pub fn block(mut self, timeout: Duration) -> Result<O::Value, Error> {
        if let Some(answer) = self.answer_without_waiting() {
            return answer;
        }
        let Some(name) = self.name() else { return self.answer().into_result() };
        match block::on(self, timeout) {
            Some(answer) => answer.into_result(),
            None => Err(Error::Timeout { name, after: timeout }),
        }
    }

    /// Whether this thread may wait for the answer: for who waits in parts, with
    /// [`thread::wait_for`](crate::thread::wait_for).
    ///
    /// # Errors
    /// [`Error::ThreadsafeDispatch`] as [`block`](Self::block), also if the answer is there.
    pub fn may_block(&self) -> Result<(), Error> {
        match self.name() {
            Some(name) if self.needs_this_thread() => {
                Err(Error::ThreadsafeDispatch { name, advice: block::ADVICE })
            }
            _ => Ok(()),
        }
    }
}

impl<V: Send + Sync + 'static, O> Pending<V, O> {
    /// The answer, if it was there when the request was made.
    ///
    /// # Errors
    /// It has to be waited for.
    pub fn into_answer(self) -> Result<O, Self> {
        match self.state {
            Progress::Answered(answer) => Ok(answer),
            state => Err(Self { state }),
        }
    }
}

// Nothing in it is pinned: the answer is only moved.
impl<V: Send + Sync + 'static, O> Unpin for Pending<V, O> {}

impl<V: Send + Sync + 'static, O> Future for Pending<V, O> {
    type Output = O;

    /// # Panics
    /// When polled again after it was ready.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<O> {
        let this = self.get_mut();
        let Progress::Waiting(seat, meaning) = &mut this.state else {
            match mem::replace(&mut this.state, Progress::Over) {
                Progress::Answered(answer) => return Poll::Ready(answer),
                _ => panic!("a wait that is over is not polled again"),
            }
        };
        let place = seat.place.expect("a place is held as long as it is waited there");
        let polled = seat.timer.poll_reply(place, cx);
        if polled.is_pending() && seat.timer.is_inside() {
            return Poll::Ready((meaning.inside)(&seat.timer));
        }
        let reply = ready!(polled);
        seat.place = None;
        let answer = (meaning.reply)(seat.timer.name(), reply);
        this.state = Progress::Over;
        Poll::Ready(answer)
    }
}

impl<V: Send + Sync + 'static> Drop for Seat<V> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.timer.forget(place);
        }
    }
}

impl<V: Send + Sync + 'static, O> fmt::Debug for Pending<V, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Pending");
        if let Progress::Waiting(Seat { timer, .. }, _) = &self.state {
            debug.field("timer", timer.name());
        }
        debug.field("over", &!matches!(self.state, Progress::Waiting(..))).finish()
    }
}

/// The result of a run.
pub(crate) fn for_run<V>(
    shared: &Arc<Shared<V>>,
    place: Result<Place, Error>,
) -> Pending<V, Result<Arc<V>, Error>>
where
    V: Send + Sync + 'static,
{
    Pending::seated(shared, place, run_meaning())
}

fn run_meaning<V: Send + Sync + 'static>() -> Meaning<V, Result<Arc<V>, Error>> {
    let reply = |name: &Name, reply| match reply {
        Reply::Value(value) => Ok(value),
        other => Err(without_value(name, other)),
    };
    Meaning { reply, inside: inside_run }
}

/// The result of the only run that there ever is, in the past or to come.
pub(crate) fn for_only_run<V>(shared: &Arc<Shared<V>>) -> Pending<V, Result<Arc<V>, Error>>
where
    V: Send + Sync + 'static,
{
    let made = shared.read(|state| state.latest.clone());
    match made {
        // A run that was made between the two looks has ended the timer, and its value is found then.
        None => match shared.queue_join() {
            Err(Error::NotRunning { .. }) => {
                let (latest, reason) =
                    shared.read(|state| (state.latest.clone(), state.machine.stop_reason()));
                let name = shared.name().clone();
                let reason = reason.unwrap_or(StopReason::Cancelled);
                let answer = latest.ok_or(Error::Stopped { name, reason });
                Pending::past(answer)
            }
            place => for_run(shared, place),
        },
        Some(value) => Pending::past(Ok(value)),
    }
}

/// A hit count.
pub(crate) fn for_hits<V>(
    shared: &Arc<Shared<V>>,
    place: Result<Option<Place>, Error>,
) -> Pending<V, Result<(), Error>>
where
    V: Send + Sync + 'static,
{
    let reply = |name: &Name, reply| match reply {
        Reply::Reached => Ok(()),
        other => Err(without_value(name, other)),
    };
    let meaning = Meaning { reply, inside: inside_run };
    match place {
        Ok(None) => Pending::past(Ok(())),
        Ok(Some(place)) => Pending::seated(shared, Ok(place), meaning),
        Err(error) => Pending::seated(shared, Err(error), meaning),
    }
}

/// The end of the timer, as news.
pub(crate) fn for_end<V>(shared: &Arc<Shared<V>>) -> Pending<V, Result<StopReason, Error>>
where
    V: Send + Sync + 'static,
{
    let reply = |name: &Name, reply| match reply {
        Reply::Ended(reason) => Ok(reason),
        other => Err(without_value(name, other)),
    };
    let never_started = |name: &Name| Err(Error::NotRunning { name: name.clone() });
    Pending::ending(shared, shared.queue_end(), Meaning { reply, inside: inside_run }, never_started)
}

/// The end of the timer, as the consequence of a command.
pub(crate) fn for_stop<V, O>(shared: &Arc<Shared<V>>, ending: Ending<V>) -> Pending<V, O>
where
    V: Send + Sync + 'static,
    O: From<StopReason>,
{
    let reply = |_: &Name, reply| match reply {
        Reply::Ended(reason) => O::from(reason),
        _ => O::from(StopReason::Failed),
    };
    let inside = |shared: &Shared<V>| {
        O::from(shared.read(|state| state.machine.stop_reason()).unwrap_or(StopReason::Cancelled))
    };
    Pending::ending(shared, ending, Meaning { reply, inside }, |_| O::from(StopReason::Drained))
}

impl<V: Send + Sync + 'static, O> Pending<V, O> {
    /// One that is answered already.
    pub(crate) fn past(answer: O) -> Self {
        Self { state: Progress::Answered(answer) }
    }

    fn waiting(shared: &Arc<Shared<V>>, place: Place, meaning: Meaning<V, O>) -> Self {
        let seat = Seat { timer: shared.clone(), place: Some(place) };
        Self { state: Progress::Waiting(seat, meaning) }
    }

    /// Waits for the end; an end in the past is the answer at once.
    fn ending(
        shared: &Arc<Shared<V>>,
        ending: Ending<V>,
        meaning: Meaning<V, O>,
        never_started: fn(&Name) -> O,
    ) -> Self {
        match ending {
            Ending::Awaited(place) => Self::waiting(shared, place, meaning),
            Ending::Past(reply) => Self::past((meaning.reply)(shared.name(), reply)),
            Ending::NeverStarted => Self::past(never_started(shared.name())),
        }
    }
}

impl<V: Send + Sync + 'static, T> Pending<V, Result<T, Error>> {
    fn seated(
        shared: &Arc<Shared<V>>,
        place: Result<Place, Error>,
        meaning: Meaning<V, Result<T, Error>>,
    ) -> Self {
        match place {
            Ok(place) => Self::waiting(shared, place, meaning),
            Err(error) => Self::past(Err(error)),
        }
    }
}

fn inside_run<V: Send + Sync + 'static, T>(shared: &Shared<V>) -> Result<T, Error> {
    Err(Error::InsideRun { name: shared.name().clone() })
}

/// A reply that is not what was waited for.
fn without_value<V>(name: &Name, reply: Reply<V>) -> Error {
    let name = name.clone();
    match reply {
        Reply::Failed(failure) => Error::Failed { name, failure },
        Reply::Ended(reason) => Error::Stopped { name, reason },
        // Who waits for one thing is not told of another.
        Reply::Value(_) | Reply::Reached => Error::NotRunning { name },
    }
}
