//! Which value becomes which target.

use std::future::Future;

use everbeat_core::Tick;
use futures_core::Stream;

#[cfg(feature = "tokio")]
use super::Offload;
#[cfg(feature = "tokio")]
use super::offload::OffloadTarget;
use super::shapes::{AsyncTarget, IteratorTarget, StreamTarget, SyncTarget, WithoutTick};
use super::{
    IntoTarget, IteratorFactoryShape, IteratorShape, Shape, StreamFactoryShape, StreamShape, Target,
    TargetShape,
};
use crate::outcome::Outcome;

impl<F, Fut> IntoTarget<Shape<false, true>> for F
where
    F: FnMut(Tick) -> Fut + Send + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Outcome<Value: Send + Sync + 'static>,
{
    type Target = AsyncTarget<F, Fut>;

    fn into_target(self) -> Self::Target {
        AsyncTarget::new(self)
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
        AsyncTarget::new(WithoutTick(self))
    }
}

impl<F, O> IntoTarget<Shape<true, true>> for F
where
    F: FnMut(Tick) -> O + Send + 'static,
    O: Outcome<Value: Send + Sync + 'static> + 'static,
{
    type Target = SyncTarget<F, O>;

    fn into_target(self) -> Self::Target {
        SyncTarget::new(self)
    }
}

impl<F, O> IntoTarget<Shape<true, false>> for F
where
    F: FnMut() -> O + Send + 'static,
    O: Outcome<Value: Send + Sync + 'static> + 'static,
{
    type Target = SyncTarget<WithoutTick<F>, O>;

    fn into_target(self) -> Self::Target {
        SyncTarget::new(WithoutTick(self))
    }
}

#[cfg(feature = "tokio")]
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

#[cfg(feature = "tokio")]
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
        IteratorTarget::of(self)
    }
}

impl<F, I> IntoTarget<IteratorFactoryShape> for F
where
    F: FnMut() -> I + Send + 'static,
    I: Iterator<Item: Outcome<Value: Send + Sync + 'static>> + Send + 'static,
{
    type Target = IteratorTarget<F, I>;

    fn into_target(self) -> Self::Target {
        IteratorTarget::made_by(self)
    }
}

impl<S> IntoTarget<StreamShape> for S
where
    S: Stream<Item: Outcome<Value: Send + Sync + 'static>> + Send + 'static,
{
    type Target = StreamTarget<fn() -> S, S>;

    fn into_target(self) -> Self::Target {
        StreamTarget::of(self)
    }
}

impl<F, S> IntoTarget<StreamFactoryShape> for F
where
    F: FnMut() -> S + Send + 'static,
    S: Stream<Item: Outcome<Value: Send + Sync + 'static>> + Send + 'static,
{
    type Target = StreamTarget<F, S>;

    fn into_target(self) -> Self::Target {
        StreamTarget::made_by(self)
    }
}

impl<X: Target> IntoTarget<TargetShape> for X {
    type Target = X;

    fn into_target(self) -> X {
        self
    }
}
