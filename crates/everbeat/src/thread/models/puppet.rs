//! A task without a timer.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use everbeat_core::{Instant, Key, StopReason};

use crate::any::{AnyValue, BoxFuture, Control, Count, Identity};
use crate::beat::Progress;
use crate::error::Error;
use crate::name::Name;
use crate::pending::Shutdown;
use crate::shared::TurnOf;
use crate::stats::Stats;

/// A task that does this when it has its turn.
pub(super) struct Puppet<F>(pub(super) F);

impl<F: Fn() -> Progress + Send + Sync> Control for Puppet<F> {
    fn lean_turn(&self, _turn: &TurnOf<'_>, _now: &mut Option<Instant>) -> Option<Progress> {
        Some((self.0)())
    }

    fn ends_quietly(&self, _key: Key) -> bool {
        false
    }

    fn handles(&self) -> usize {
        1
    }

    fn count_queued(&self) {}

    fn is_running(&self) -> bool {
        true
    }

    fn abandon_at(self: Arc<Self>, _key: Key) {}

    fn full_turn(self: Arc<Self>, _key: Key, _driver: Option<&Waker>) -> Progress {
        unreachable!("an engine does nothing else with it")
    }

    fn name(&self) -> &Name {
        unreachable!()
    }

    fn identity(&self) -> Identity {
        unreachable!()
    }

    fn add_handle(&self) {
        unreachable!()
    }

    fn release_handle(&self) {
        unreachable!()
    }

    fn start(self: Arc<Self>) -> Result<(), Error> {
        unreachable!()
    }

    fn cancel(self: Arc<Self>) -> BoxFuture<StopReason> {
        unreachable!()
    }

    fn shutdown(self: Arc<Self>, _grace: Duration) -> BoxFuture<Shutdown> {
        unreachable!()
    }

    fn stop_gently(&self) {
        unreachable!()
    }

    fn trigger(self: Arc<Self>) -> BoxFuture<Result<AnyValue, Error>> {
        unreachable!()
    }

    fn join(self: Arc<Self>) -> BoxFuture<Result<AnyValue, Error>> {
        unreachable!()
    }

    fn wait_hits(self: Arc<Self>, _count: Count) -> BoxFuture<Result<(), Error>> {
        unreachable!()
    }

    fn wait(self: Arc<Self>) -> BoxFuture<Result<StopReason, Error>> {
        unreachable!()
    }

    fn set_period(&self, _period: Duration, _rearm: bool) {
        unreachable!()
    }

    fn pause(&self) {
        unreachable!()
    }

    fn resume(&self) {
        unreachable!()
    }

    fn latest(&self) -> Option<AnyValue> {
        unreachable!()
    }

    fn stats(&self) -> Stats {
        unreachable!()
    }

    fn needs_this_thread(&self) -> bool {
        unreachable!()
    }

    fn retire(&self) {
        unreachable!()
    }
}
