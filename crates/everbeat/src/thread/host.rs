//! Engines that live in a loop of somebody else's.

use std::time::Instant;

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
