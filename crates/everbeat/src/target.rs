//! What a timer runs: the shapes a target may have, and what a driver needs of each.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tokio::task::JoinHandle;

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

    /// The timer has ended: lets go of what its next start makes anew.
    fn rest(self: Pin<&mut Self>);
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
#[derive(Debug)]
pub struct Offload<F>(F);

/// Moves a sync target to tokio's threads for blocking work, so that it cannot hold up the runtime.
///
/// Such a run cannot be interrupted: a cancel or a time limit waits until it returns, and discards what
/// it returns.
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
pub fn offload<F>(target: F) -> Offload<F> {
    Offload(target)
}

impl<F, Fut> IntoTarget<Shape<false, true>> for F
where
    F: FnMut(Tick) -> Fut + Send + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Outcome<Value: Send + Sync + 'static>,
{
    type Target = AsyncTarget<F, Fut>;

    fn into_target(self) -> Self::Target {
        AsyncTarget { call: self, run: None }
    }
}

impl<F, Fut> IntoTarget<Shape<false, false>> for F
where
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Outcome<Value: Send + Sync + 'static>,
{
    type Target = AsyncTarget<WithoutTick<F>, Fut>;

    fn into_target(self) -> Self::Target {
        AsyncTarget { call: WithoutTick(self), run: None }
    }
}

impl<F, O> IntoTarget<Shape<true, true>> for F
where
    F: FnMut(Tick) -> O + Send + 'static,
    O: Outcome<Value: Send + Sync + 'static> + 'static,
{
    type Target = SyncTarget<F, O>;

    fn into_target(self) -> Self::Target {
        SyncTarget { call: self, tick: None, returns: PhantomData }
    }
}

impl<F, O> IntoTarget<Shape<true, false>> for F
where
    F: FnMut() -> O + Send + 'static,
    O: Outcome<Value: Send + Sync + 'static> + 'static,
{
    type Target = SyncTarget<WithoutTick<F>, O>;

    fn into_target(self) -> Self::Target {
        SyncTarget { call: WithoutTick(self), tick: None, returns: PhantomData }
    }
}

impl<F, O> IntoTarget<Shape<true, true>> for Offload<F>
where
    F: FnMut(Tick) -> O + Send + 'static,
    O: Outcome<Value: Send + Sync + 'static> + Send + 'static,
{
    type Target = OffloadTarget<F, O>;

    fn into_target(self) -> Self::Target {
        OffloadTarget::new(self.0)
    }
}

impl<F, O> IntoTarget<Shape<true, false>> for Offload<F>
where
    F: FnMut() -> O + Send + 'static,
    O: Outcome<Value: Send + Sync + 'static> + Send + 'static,
{
    type Target = OffloadTarget<WithoutTick<F>, O>;

    fn into_target(self) -> Self::Target {
        OffloadTarget::new(WithoutTick(self.0))
    }
}

impl<I> IntoTarget<IteratorShape> for I
where
    I: Iterator<Item: Outcome<Value: Send + Sync + 'static>> + Send + 'static,
{
    type Target = IteratorTarget<fn() -> I, I>;

    fn into_target(self) -> Self::Target {
        IteratorTarget { make: None, items: Some(self) }
    }
}

impl<F, I> IntoTarget<IteratorFactoryShape> for F
where
    F: FnMut() -> I + Send + 'static,
    I: Iterator<Item: Outcome<Value: Send + Sync + 'static>> + Send + 'static,
{
    type Target = IteratorTarget<F, I>;

    fn into_target(self) -> Self::Target {
        IteratorTarget { make: Some(self), items: None }
    }
}

impl<S> IntoTarget<StreamShape> for S
where
    S: Stream<Item: Outcome<Value: Send + Sync + 'static>> + Send + 'static,
{
    type Target = StreamTarget<fn() -> S, S>;

    fn into_target(self) -> Self::Target {
        StreamTarget { make: None, items: Some(self) }
    }
}

impl<F, S> IntoTarget<StreamFactoryShape> for F
where
    F: FnMut() -> S + Send + 'static,
    S: Stream<Item: Outcome<Value: Send + Sync + 'static>> + Send + 'static,
{
    type Target = StreamTarget<F, S>;

    fn into_target(self) -> Self::Target {
        StreamTarget { make: Some(self), items: None }
    }
}

impl<X: Target> IntoTarget<TargetShape> for X {
    type Target = X;

    fn into_target(self) -> X {
        self
    }
}

/// A call that may or may not want the tick.
#[doc(hidden)]
pub trait Call<R>: Send + 'static {
    /// Makes the call.
    fn call(&mut self, tick: Tick) -> R;
}

impl<R, F: FnMut(Tick) -> R + Send + 'static> Call<R> for F {
    fn call(&mut self, tick: Tick) -> R {
        self(tick)
    }
}

/// A closure without parameters.
#[derive(Debug)]
#[doc(hidden)]
pub struct WithoutTick<F>(F);

impl<R, F: FnMut() -> R + Send + 'static> Call<R> for WithoutTick<F> {
    fn call(&mut self, _: Tick) -> R {
        (self.0)()
    }
}

pin_project! {
    /// A closure that returns a future. The future lives inside, so a run allocates nothing.
    #[derive(Debug)]
    #[doc(hidden)]
    pub struct AsyncTarget<F, Fut> {
        call: F,
        #[pin]
        run: Option<Fut>,
    }
}

impl<F, Fut> Target for AsyncTarget<F, Fut>
where
    F: Call<Fut>,
    Fut: Future + Send + 'static,
    Fut::Output: Outcome<Value: Send + Sync + 'static>,
{
    type Value = <Fut::Output as Outcome>::Value;

    fn begin(self: Pin<&mut Self>, tick: Tick) {
        let mut this = self.project();
        this.run.set(None);
        let run = this.call.call(tick);
        this.run.set(Some(run));
    }

    fn poll_run(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Step<Self::Value>> {
        let mut this = self.project();
        let run = this.run.as_mut().as_pin_mut().expect("begin comes before poll_run");
        let output = ready!(run.poll(cx));
        this.run.set(None);
        Poll::Ready(Step::of(output))
    }

    fn poll_abort(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        self.project().run.set(None);
        Poll::Ready(())
    }

    fn rest(self: Pin<&mut Self>) {
        self.project().run.set(None);
    }
}

pin_project! {
    /// A closure that is called in place.
    #[derive(Debug)]
    #[doc(hidden)]
    pub struct SyncTarget<F, O> {
        call: F,
        tick: Option<Tick>,
        returns: PhantomData<fn() -> O>,
    }
}

impl<F, O> Target for SyncTarget<F, O>
where
    F: Call<O>,
    O: Outcome<Value: Send + Sync + 'static> + 'static,
{
    type Value = O::Value;

    fn begin(self: Pin<&mut Self>, tick: Tick) {
        *self.project().tick = Some(tick);
    }

    fn poll_run(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Step<Self::Value>> {
        let this = self.project();
        let tick = this.tick.take().expect("begin comes before poll_run");
        Poll::Ready(Step::of(this.call.call(tick)))
    }

    fn poll_abort(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        *self.project().tick = None;
        Poll::Ready(())
    }

    fn rest(self: Pin<&mut Self>) {}
}

pin_project! {
    /// An iterator: a run takes one item.
    #[derive(Debug)]
    #[doc(hidden)]
    pub struct IteratorTarget<F, I> {
        make: Option<F>,
        items: Option<I>,
    }
}

impl<F, I> Target for IteratorTarget<F, I>
where
    F: FnMut() -> I + Send + 'static,
    I: Iterator<Item: Outcome<Value: Send + Sync + 'static>> + Send + 'static,
{
    type Value = <I::Item as Outcome>::Value;

    fn begin(self: Pin<&mut Self>, _: Tick) {
        let this = self.project();
        if let (None, Some(make)) = (&this.items, this.make) {
            *this.items = Some(make());
        }
    }

    fn poll_run(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Step<Self::Value>> {
        Poll::Ready(Step::of_item(self.project().items.as_mut().and_then(Iterator::next)))
    }

    fn poll_abort(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn rest(self: Pin<&mut Self>) {
        let this = self.project();
        if this.make.is_some() {
            *this.items = None;
        }
    }
}

pin_project! {
    /// A stream: a run awaits one item.
    #[derive(Debug)]
    #[doc(hidden)]
    pub struct StreamTarget<F, S> {
        make: Option<F>,
        #[pin]
        items: Option<S>,
    }
}

impl<F, S> Target for StreamTarget<F, S>
where
    F: FnMut() -> S + Send + 'static,
    S: Stream<Item: Outcome<Value: Send + Sync + 'static>> + Send + 'static,
{
    type Value = <S::Item as Outcome>::Value;

    fn begin(self: Pin<&mut Self>, _: Tick) {
        let mut this = self.project();
        if let (None, Some(make)) = (this.items.as_ref().as_pin_ref(), this.make) {
            let items = make();
            this.items.set(Some(items));
        }
    }

    fn poll_run(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Step<Self::Value>> {
        match self.project().items.as_pin_mut() {
            Some(items) => items.poll_next(cx).map(Step::of_item),
            None => Poll::Ready(Step::Exhausted),
        }
    }

    /// Waiting for an item is given up by not asking again; the item is there for the next run.
    fn poll_abort(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn rest(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.make.is_some() {
            this.items.set(None);
        }
    }
}

pin_project! {
    /// A sync call on a thread for blocking work.
    ///
    /// The closure travels to the thread and back. While it is away no other run can begin, even if the
    /// run that took it was given up: the next one waits for it first.
    #[derive(Debug)]
    #[doc(hidden)]
    pub struct OffloadTarget<F, O> {
        home: Arc<Mutex<Option<F>>>,
        tick: Option<Tick>,
        job: Option<JoinHandle<O>>,
    }
}

impl<F, O> OffloadTarget<F, O> {
    fn new(call: F) -> Self {
        Self { home: Arc::new(Mutex::new(Some(call))), tick: None, job: None }
    }
}

impl<F, O> Target for OffloadTarget<F, O>
where
    F: Call<O>,
    O: Outcome<Value: Send + Sync + 'static> + Send + 'static,
{
    type Value = O::Value;

    fn begin(self: Pin<&mut Self>, tick: Tick) {
        *self.project().tick = Some(tick);
    }

    fn poll_run(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Step<Self::Value>> {
        let this = self.project();
        if this.tick.is_some() {
            // What is still out was given up: wait until it is back, and let its result go.
            ready!(poll_job(this.job, cx));
            let tick = this.tick.take().expect("checked above");
            let Some(loan) = Loan::take(this.home) else {
                return Poll::Ready(Step::Failed("the closure did not come back from its thread".into()));
            };
            *this.job = Some(tokio::task::spawn_blocking(move || loan.call(tick)));
        }
        match ready!(poll_job(this.job, cx)) {
            Some(Ok(output)) => Poll::Ready(Step::of(output)),
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(Err(error)) => Poll::Ready(Step::Failed(error.into())),
            None => Poll::Ready(Step::Failed("the run was given up".into())),
        }
    }

    fn poll_abort(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        *this.tick = None;
        if let Some(job) = this.job {
            job.abort(); // takes it out of the queue if it has not begun
        }
        poll_job(this.job, cx).map(drop)
    }

    fn rest(self: Pin<&mut Self>) {}
}

fn poll_job<O>(
    job: &mut Option<JoinHandle<O>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<O, tokio::task::JoinError>>> {
    let Some(handle) = job else { return Poll::Ready(None) };
    let result = ready!(Pin::new(handle).poll(cx));
    *job = None;
    Poll::Ready(Some(result))
}

/// A closure on its way: it goes home however the journey ends.
struct Loan<F> {
    call: Option<F>,
    home: Arc<Mutex<Option<F>>>,
}

impl<F> Loan<F> {
    fn take(home: &Arc<Mutex<Option<F>>>) -> Option<Self> {
        let call = home.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Self { call: Some(call), home: home.clone() })
    }

    fn call<O>(mut self, tick: Tick) -> O
    where
        F: Call<O>,
    {
        self.call.as_mut().expect("a loan holds its closure until it is dropped").call(tick)
    }
}

impl<F> Drop for Loan<F> {
    fn drop(&mut self) {
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = self.call.take();
    }
}
