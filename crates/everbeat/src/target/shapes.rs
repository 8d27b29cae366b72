//! The targets that run where the timer's task is polled.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use everbeat_core::Tick;
use futures_core::Stream;
use pin_project_lite::pin_project;

use super::{Call, Callee, Step, Target};
use crate::outcome::Outcome;

/// A call that may or may not want the tick.
#[doc(hidden)]
pub trait CallOnTick<R>: Send + 'static {
    /// Makes the call.
    fn call(&mut self, tick: Tick) -> R;
}

impl<R, F: FnMut(Tick) -> R + Send + 'static> CallOnTick<R> for F {
    fn call(&mut self, tick: Tick) -> R {
        self(tick)
    }
}

/// A closure without parameters.
#[derive(Debug)]
#[doc(hidden)]
pub struct WithoutTick<F>(pub(super) F);

impl<R, F: FnMut() -> R + Send + 'static> CallOnTick<R> for WithoutTick<F> {
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

impl<F, Fut> AsyncTarget<F, Fut> {
    pub(super) fn new(call: F) -> Self {
        Self { call, run: None }
    }
}

impl<F, Fut> Target for AsyncTarget<F, Fut>
where
    F: CallOnTick<Fut>,
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

impl<F, O> SyncTarget<F, O> {
    pub(super) fn new(call: F) -> Self {
        Self { call, tick: None, returns: PhantomData }
    }
}

impl<F, O> Target for SyncTarget<F, O>
where
    F: CallOnTick<O>,
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

    fn into_call(self) -> Result<Call<O::Value>, Self> {
        let (call, returns) = (self.call, PhantomData);
        Ok(if size_of::<F>() == 0 {
            Box::new(Called { mark: (), call, returns })
        } else {
            Box::new(Called { mark: 0_u8, call, returns })
        })
    }
}

/// A closure as a [`Callee`]. The mark is what can be read of its memory.
struct Called<F, O, M> {
    mark: M,
    call: F,
    returns: PhantomData<fn() -> O>,
}

impl<F, O, M> Callee<O::Value> for Called<F, O, M>
where
    F: CallOnTick<O>,
    O: Outcome + 'static,
    M: Copy + Into<Mark> + Send,
{
    fn call(&mut self, tick: Tick) -> Poll<Step<O::Value>> {
        Poll::Ready(Step::of(self.call.call(tick)))
    }

    fn touch(&self) -> usize {
        self.mark.into().0
    }
}

/// What is read of a mark.
struct Mark(usize);

impl From<()> for Mark {
    fn from((): ()) -> Self {
        Self(0)
    }
}

impl From<u8> for Mark {
    fn from(mark: u8) -> Self {
        Self(mark.into())
    }
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

impl<I> IteratorTarget<fn() -> I, I> {
    pub(super) fn of(items: I) -> Self {
        Self { make: None, items: Some(items) }
    }
}

impl<F, I> IteratorTarget<F, I> {
    pub(super) fn made_by(make: F) -> Self {
        Self { make: Some(make), items: None }
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

impl<S> StreamTarget<fn() -> S, S> {
    pub(super) fn of(items: S) -> Self {
        Self { make: None, items: Some(items) }
    }
}

impl<F, S> StreamTarget<F, S> {
    pub(super) fn made_by(make: F) -> Self {
        Self { make: Some(make), items: None }
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
