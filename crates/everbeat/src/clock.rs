//! Where a timer takes its time from.

use std::sync::Arc;
use std::time::Instant as StdInstant;

use everbeat_core::Instant;

#[cfg(feature = "tokio")]
use crate::runtime::clock::RuntimeClock;
use crate::thread::time::Time;

/// The clock of one timer, from its first start on.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// That of a tokio runtime.
    #[cfg(feature = "tokio")]
    Runtime(Arc<RuntimeClock>),
    /// That of an engine, which all its timers share.
    Engine(Arc<Time>),
}

impl Clock {
    /// The time, on a thread that drives the timer.
    pub(crate) fn now(&self) -> Instant {
        match self {
            #[cfg(feature = "tokio")]
            Self::Runtime(clock) => clock.now(),
            Self::Engine(time) => time.now(),
        }
    }

    /// The time, on any thread; `None` where it cannot be read.
    pub(crate) fn now_anywhere(&self) -> Option<Instant> {
        match self {
            #[cfg(feature = "tokio")]
            Self::Runtime(clock) => clock.now_anywhere(),
            Self::Engine(time) => Some(time.now()),
        }
    }

    /// The point in time on the machine's clock; `None` if that cannot represent it.
    pub(crate) fn to_std(&self, instant: Instant) -> Option<StdInstant> {
        if instant.is_never() {
            return None;
        }
        match self {
            #[cfg(feature = "tokio")]
            Self::Runtime(clock) => clock.to_std(instant),
            Self::Engine(time) => time.to_std(instant),
        }
    }

    /// A point in time on the machine's clock, as this clock counts it; its origin if it lies before.
    pub(crate) fn at_std(&self, instant: StdInstant) -> Instant {
        match self {
            #[cfg(feature = "tokio")]
            Self::Runtime(clock) => clock.at_std(instant),
            Self::Engine(time) => time.at_std(instant),
        }
    }

    /// The clock of the tokio runtime, if it is one.
    #[cfg(feature = "tokio")]
    pub(crate) fn runtime(&self) -> Option<&Arc<RuntimeClock>> {
        match self {
            Self::Runtime(clock) => Some(clock),
            Self::Engine(_) => None,
        }
    }

    /// Whether this is the only thread that could drive the timer, as far as is known.
    pub(crate) fn needs_this_thread(&self) -> bool {
        match self {
            #[cfg(feature = "tokio")]
            Self::Runtime(clock) => clock.needs_this_thread(),
            Self::Engine(_) => false,
        }
    }

    /// A timer did something, or makes way for others because its period is zero.
    pub(crate) fn note_activity(&self, restless: bool) {
        match self {
            #[cfg(feature = "tokio")]
            Self::Runtime(clock) => clock.note_activity(restless),
            Self::Engine(_) => _ = restless,
        }
    }
}
