//! Engines that live in a loop of somebody else's.

use std::time::Instant;

use super::handle::Engine;

/// The loop in which an engine lives that has no thread of its own; see [`Engine::hosted`].
///
/// [`Engine::hosted`]: super::Engine::hosted
pub trait Host: Send + Sync + 'static {
    /// The time. Asked on any thread; it must not run backwards, but may stand still and may jump.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Something is to be done earlier than the last [`turn`](super::Engine::turn) said: take another
    /// turn soon. Called on any thread, holding no lock; it should only leave a note and wake the loop.
    fn alert(&self);

    /// A timer is about to be started: see to it that the loop takes turns. `false` if there is no loop to do
    /// so, which refuses the start with [`Error::NoRuntime`](crate::Error::NoRuntime). Called on the thread that
    /// starts it, holding no lock.
    fn attend(&self) -> bool {
        true
    }

    /// Whether this thread has to come back to the loop before the engine can have its next turn, so that
    /// nobody may block here for one of its timers. What happens during a turn needs no such answer.
    fn needs_this_thread(&self) -> bool {
        false
    }
}

/// Whether the engine keeps a time that is not the machine's, and that only its host can wait for.
pub(crate) fn is_hosted(engine: &Engine) -> bool {
    engine.time().host().is_some()
}
