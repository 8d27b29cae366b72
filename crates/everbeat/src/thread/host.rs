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
}

/// Whether the engine keeps a time that is not the machine's, and that only its host can wait for.
pub(crate) fn is_hosted(engine: &Engine) -> bool {
    engine.time().host().is_some()
}
