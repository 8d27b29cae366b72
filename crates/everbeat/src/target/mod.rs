//! What a timer runs: the shapes a target may have, and what a driver needs of each.

mod into;
#[cfg(feature = "tokio")]
mod offload;
mod shapes;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use everbeat_core::Tick;

use crate::error::BoxError;
use crate::outcome::Outcome;

/// How one run ended, as its target sees it.
#[derive(Debug)]
pub enum Step<V> {
    /// It delivered a value.
    Value(V),
    /// It failed.
    Failed(BoxError),
    /// There are no more values: the timer ends.
    Exhausted,
}

impl<V> Step<V> {
    fn of<O: Outcome<Value = V>>(outcome: O) -> Self {
        outcome.into_result().map_or_else(Self::Failed, Self::Value)
    }

    fn of_item<O: Outcome<Value = V>>(item: Option<O>) -> Self {
        item.map_or(Self::Exhausted, Self::of)
    }
}

/// Something that a timer can run again and again. You rarely meet this trait: closures, iterators and
/// streams become targets by themselves, see [`IntoTarget`].
///
/// A driver calls [`begin`](Self::begin), then [`poll_run`](Self::poll_run) until it is ready, and once
/// more from the start for the next run. To give a run up it calls [`poll_abort`](Self::poll_abort) until
/// that is ready. Any of them may panic; the run then counts as failed, and the next call is `begin`.
pub trait Target: Send + 'static {
    /// What a run delivers.
    type Value: Send + Sync + 'static;

    /// Prepares a run. A run that is still held is given up.
    fn begin(self: Pin<&mut Self>, tick: Tick);

    /// Makes progress with the run.
    fn poll_run(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Step<Self::Value>>;

    /// Gives the run up; ready when nothing of it is left.
    fn poll_abort(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;

    /// The timer is about to end: makes progress with what has to be done before it [rests](Self::rest). Ready
    /// when there is nothing.
    #[doc(hidden)]
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// The timer has ended: lets go of what its next start makes anew.
    fn rest(self: Pin<&mut Self>);

    /// Whether the run has ended by itself without having been polled. Such a run has nothing left to be
    /// given up: it is polled once more, for its value.
    #[doc(hidden)]
    fn has_ended(self: Pin<&mut Self>) -> bool {
        false
    }

    /// The target as a plain call, if it is nothing else.
    #[doc(hidden)]
    fn into_call(self) -> Result<Call<Self::Value>, Self>
    where
        Self: Sized,
    {
        Err(self)
    }

    /// Whether there is little to do for [`rest`](Self::rest), so that whoever stops the timer can do it.
    #[doc(hidden)]
    fn rests_easily(&self) -> bool {
        true
    }

    /// As [`into_call`](Self::into_call), between two runs.
    #[doc(hidden)]
    fn take_call(self: Pin<&mut Self>) -> Option<Call<Self::Value>> {
        None
    }
}

/// A target whose runs are over when a call returns: always, or most of the time.
#[doc(hidden)]
pub type Call<V> = Box<dyn Callee<V>>;

/// What a [`Call`] calls.
///
/// What a run comes to may show only when it is called. One that goes on is polled like that of any other
/// [`Target`], and its timer is a whole one from there on.
#[doc(hidden)]
pub trait Callee<V>: Send {
    /// Makes the call. `Pending`: the run goes on, by [`poll_run`](Self::poll_run).
    fn call(&mut self, tick: Tick) -> Poll<Step<V>>;

    /// Reads something of it, to bring its memory in. What this returns means nothing.
    fn touch(&self) -> usize;

    /// As [`Target::poll_run`], for a run that has not ended with the call.
    fn poll_run(&mut self, _: &mut Context<'_>) -> Poll<Step<V>> {
        Poll::Ready(Step::Exhausted)
    }

    /// As [`Target::poll_abort`], likewise.
    fn poll_abort(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// As [`Target::has_ended`], likewise.
    fn has_ended(&self) -> bool {
        false
    }

    /// As [`Target::poll_close`], if it is not [plain](Self::is_plain) any more.
    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Whether its runs are expected to end with the call, and nothing is left of the last one.
    fn is_plain(&self) -> bool {
        true
    }

    /// Whether it has to be told of the end of its timer.
    fn has_rest(&self) -> bool {
        false
    }

    /// As [`Target::rest`].
    fn rest(&mut self) {}
}

/// A [`Call`] as a target.
#[doc(hidden)]
pub struct CallTarget<V> {
    call: Option<Call<V>>,
    /// Of a run that has not begun.
    tick: Option<Tick>,
}

impl<V> CallTarget<V> {
    /// A target of this call.
    #[must_use]
    pub fn new(call: Call<V>) -> Self {
        Self { call: Some(call), tick: None }
    }

    fn call(&mut self) -> &mut Call<V> {
        self.call.as_mut().expect("a target whose call was taken is not run")
    }
}

impl<V> fmt::Debug for CallTarget<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallTarget").finish_non_exhaustive()
    }
}

impl<V: Send + Sync + 'static> Target for CallTarget<V> {
    type Value = V;

    fn begin(mut self: Pin<&mut Self>, tick: Tick) {
        self.tick = Some(tick);
    }

    fn poll_run(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Step<V>> {
        if let Some(tick) = self.tick.take() {
            let called = self.call().call(tick);
            if called.is_ready() {
                return called;
            }
        }
        self.call().poll_run(cx)
    }

    fn poll_abort(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.tick.take() {
            Some(_) => Poll::Ready(()),
            None => self.call().poll_abort(cx),
        }
    }

    fn has_ended(mut self: Pin<&mut Self>) -> bool {
        self.tick.is_none() && self.call().has_ended()
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.call().poll_close(cx)
    }

    fn rest(mut self: Pin<&mut Self>) {
        self.tick = None;
        self.call().rest();
    }

    fn into_call(self) -> Result<Call<V>, Self> {
        let Self { call, tick } = self;
        call.ok_or(Self { call: None, tick })
    }

    fn rests_easily(&self) -> bool {
        self.call.as_ref().is_none_or(|call| call.is_plain())
    }

    fn take_call(mut self: Pin<&mut Self>) -> Option<Call<V>> {
        self.call.take_if(|call| call.is_plain())
    }
}

/// Whatever can be turned into a [`Target`]:
///
/// | shape | a run |
/// |---|---|
/// | `\|tick: Tick\| async { … }`, `\|\| async { … }` | awaits the future |
/// | `\|tick: Tick\| …`, `\|\| …` | calls it, on the runtime's thread |
/// | [`offload`]`(\|tick: Tick\| …)` | calls it on a thread for blocking work |
/// | an iterator, or `\|\|` an iterator | takes one item; its end ends the timer |
/// | a stream, or `\|\|` a stream | awaits one item; its end ends the timer |
///
/// Each may return a plain value or a `Result`, see [`Outcome`]. The closures that make an iterator or a
/// stream are called at each start of the timer, so a restart begins with a fresh one; an iterator or a
/// stream given directly goes on where it was.
///
/// A closure that returns a future cannot lend it what it owns: clone a handle for each run, or share
/// state behind an `Arc<Mutex<_>>`, which is never contended since runs do not overlap. A sync closure may
/// simply be `FnMut`.
///
/// The type parameter only keeps the shapes apart; the compiler finds it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something that a timer can run",
    note = "a target is a closure `|tick: everbeat::Tick| ...` or `|| ...`, sync or returning a future, or an \
            iterator or stream or a closure that makes one",
    note = "a run returns a `Result<T, E>`, or a plain value whose type implements `everbeat::Value` \
            (`impl everbeat::Value for MyType {{}}`, or return `everbeat::Plain(value)`)",
    note = "the target, its futures and its values must be `Send` and `'static`; values `Sync` too"
)]
pub trait IntoTarget<Shape> {
    /// The target it becomes.
    type Target: Target;

    /// Makes the target.
    fn into_target(self) -> Self::Target;
}

/// Markers for the shapes in [`IntoTarget`].
#[derive(Debug)]
#[doc(hidden)]
pub struct Shape<const SYNC: bool, const TICK: bool>;
#[derive(Debug)]
#[doc(hidden)]
pub struct IteratorShape;
#[derive(Debug)]
#[doc(hidden)]
pub struct IteratorFactoryShape;
#[derive(Debug)]
#[doc(hidden)]
pub struct StreamShape;
#[derive(Debug)]
#[doc(hidden)]
pub struct StreamFactoryShape;
#[derive(Debug)]
#[doc(hidden)]
pub struct TargetShape;

/// A sync target that runs on a thread for blocking work: see [`offload`].
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub struct Offload<F>(F);

/// Moves a sync target to tokio's threads for blocking work, so that it cannot hold up the runtime.
///
/// Such a run cannot be interrupted: a cancel or a time limit waits until it returns, and discards what
/// it returns. On an [`Engine`](crate::thread::Engine) this changes nothing: its workers are such threads.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), everbeat::Error> {
/// use everbeat::{Tick, Timer, offload};
/// use std::time::Duration;
///
/// let sums = Timer::every(Duration::from_secs(1))
///     .start(offload(|tick: Tick| (0..=tick.run).sum::<u64>()))?;
/// assert_eq!(*sums.join().await?, 1);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "tokio")]
pub fn offload<F>(target: F) -> Offload<F> {
    Offload(target)
}
