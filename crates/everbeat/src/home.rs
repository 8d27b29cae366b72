//! What gives a timer its time and its turns.

use std::sync::Arc;
#[cfg(feature = "tokio")]
use std::sync::LazyLock;

use everbeat_core::{Instant, Key};

use crate::any::Identity;
use crate::clock::Clock;
use crate::error::Error;
use crate::guard::drop_quietly;
#[cfg(feature = "tokio")]
use crate::runtime::{
    clock::{RuntimeClock, Source},
    driver::spawn,
};
use crate::shared::{Plans, Shared};
use crate::thread::Engine;

/// Where a timer lives.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    /// In a task of its own, on the tokio runtime in which it is started.
    #[cfg(feature = "tokio")]
    Runtime {
        /// Whose time counts.
        source: Source,
        /// An engine that ends its waits more precisely than the runtime would.
        alarm: Option<Engine>,
    },
    /// With an engine: on the thread that keeps its time, or on one of its workers.
    Engine {
        /// The engine.
        engine: Engine,
        /// Whether its runs stay on the thread that keeps the time.
        inline: bool,
    },
}

impl Home {
    /// The clock for a start; `None` where there is no runtime. It goes on from `before`, the clock of the
    /// last start, and `seen`, the latest time on it.
    pub(crate) fn clock(&self, before: Option<&Clock>, seen: Instant) -> Option<Clock> {
        match self {
            #[cfg(feature = "tokio")]
            Self::Runtime { source, .. } => {
                let before = before.and_then(Clock::runtime);
                let clock = RuntimeClock::current(source.clone(), before, seen)?;
                Some(Clock::Runtime(clock))
            }
            Self::Engine { engine, .. } => {
                let _ = (before, seen); // an engine has one clock for all
                Some(Clock::Engine(engine.time().clone()))
            }
        }
    }

    /// The engine, if it lives with one.
    pub(crate) fn engine(&self) -> Option<&Engine> {
        match self {
            #[cfg(feature = "tokio")]
            Self::Runtime { .. } => None,
            Self::Engine { engine, .. } => Some(engine),
        }
    }

    /// The identity of a timer that has, or had, a place of its own in the queue of the engine.
    pub(crate) fn identity_of(&self, key: Key) -> Identity {
        let engine = self.engine().map_or(0, Engine::address);
        Identity::Placed(engine, key)
    }

    /// Whether a timer can do with a few bytes there while nothing special happens.
    pub(crate) fn has_lean_timers(&self) -> bool {
        match self {
            #[cfg(feature = "tokio")]
            Self::Runtime { source, alarm } => source.is_runtime() && alarm.is_none(),
            Self::Engine { .. } => true,
        }
    }

    /// Where plans are remembered for timers that live here.
    pub(crate) fn plans(&self) -> &Plans {
        match self {
            #[cfg(feature = "tokio")]
            Self::Runtime { .. } => {
                static PLANS: LazyLock<Plans> = LazyLock::new(Plans::default);
                &PLANS
            }
            Self::Engine { engine, .. } => engine.plans(),
        }
    }

    pub(crate) fn is_engine(&self) -> bool {
        self.engine().is_some()
    }

    /// Starts a timer that lives here.
    pub(crate) fn start<V: Send + Sync + 'static>(&self, shared: &Arc<Shared<V>>) -> Result<(), Error> {
        // A start forgets the failure before it. That is dropped only when the timer has somebody to give it turns: it
        // is the user's, and its drop may wait for the timer.
        let before = shared.failure();
        let started = match self {
            #[cfg(feature = "tokio")]
            Self::Runtime { alarm, .. } => spawn(shared, alarm.clone()),
            Self::Engine { engine, inline } => {
                engine.take_on(shared.clone(), *inline, |key| shared.start_at(key))
            }
        };
        drop_quietly(before);
        started
    }

    /// Whether its runs stay on the thread that keeps the time.
    pub(crate) fn is_inline(&self) -> bool {
        matches!(self, Self::Engine { inline: true, .. })
    }

    /// Whether a long run holds others up.
    pub(crate) fn shares_its_thread(&self) -> bool {
        match self {
            #[cfg(feature = "tokio")]
            Self::Runtime { .. } => true,
            Self::Engine { inline, .. } => *inline,
        }
    }

    /// Whether this thread keeps the time there, and must not be blocked.
    pub(crate) fn needs_this_thread(&self) -> bool {
        self.engine().is_some_and(Engine::needs_this_thread)
    }
}

/// The same engine, in the same way, or a runtime without anything special: which one is known only at the
/// start.
impl PartialEq for Home {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Engine { engine, inline }, Self::Engine { engine: other, inline: also }) => {
                engine.is_same(other) && inline == also
            }
            #[cfg(feature = "tokio")]
            (Self::Runtime { .. }, Self::Runtime { .. }) => self.has_lean_timers() && other.has_lean_timers(),
            #[cfg(feature = "tokio")]
            _ => false,
        }
    }
}
