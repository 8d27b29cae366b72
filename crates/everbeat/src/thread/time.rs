//! The clock of an engine.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "tokio")]
use std::time::Duration;
use std::time::Instant as StdInstant;

use everbeat_core::Instant;

use super::host::Host;
use crate::guard::{guarded, tell};
use crate::sync::now;

/// The time since an engine was made, on the machine's clock or on its host's.
pub(crate) struct Time {
    origin: StdInstant,
    host: Option<Arc<dyn Host>>,
    /// The latest time that the host has told.
    told_nanos: AtomicU64,
}

impl Time {
    /// A clock that begins now.
    pub(super) fn new(host: Option<Arc<dyn Host>>) -> Self {
        let origin = host.as_ref().map_or_else(now, |host| host.now());
        Self { origin, host, told_nanos: AtomicU64::new(0) }
    }

    pub(crate) fn now(&self) -> Instant {
        match &self.host {
            None => self.at_std(now()),
            Some(host) => self.told_by(&**host),
        }
    }

    /// The time of a host. One that fails to tell it has it stand still.
    fn told_by(&self, host: &dyn Host) -> Instant {
        match guarded(|| host.now()) {
            Ok(now) => {
                let now = self.at_std(now);
                // Not in one step, which would cost more than reading a clock: who loses the race against
                // another thread has told next to the same time.
                if self.told_nanos.load(Ordering::Relaxed) < now.as_nanos() {
                    self.told_nanos.store(now.as_nanos(), Ordering::Release);
                }
                now
            }
            Err(failure) => {
                tell!(ERROR, "the clock of an engine's host {failure}");
                Instant::from_nanos(self.told_nanos.load(Ordering::Acquire))
            }
        }
    }

    /// The latest time that its host has told.
    #[cfg(feature = "tokio")]
    pub(super) fn latest(&self) -> StdInstant {
        let told = Duration::from_nanos(self.told_nanos.load(Ordering::Acquire));
        self.origin.checked_add(told).unwrap_or(self.origin)
    }

    pub(crate) fn to_std(&self, instant: Instant) -> Option<StdInstant> {
        self.origin.checked_add(instant.elapsed_since_origin())
    }

    pub(crate) fn at_std(&self, instant: StdInstant) -> Instant {
        Instant::from_elapsed(instant.saturating_duration_since(self.origin))
    }

    pub(super) fn host(&self) -> Option<&Arc<dyn Host>> {
        self.host.as_ref()
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Time").field("origin", &self.origin).field("hosted", &self.host.is_some()).finish()
    }
}
