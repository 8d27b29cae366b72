//! The clock of an engine.

use std::fmt;
use std::sync::Arc;
use std::time::Instant as StdInstant;

use everbeat_core::Instant;

use super::host::Host;
use crate::sync;

/// The time since an engine was made, on the machine's clock or on its host's.
pub(crate) struct Time {
    origin: StdInstant,
    host: Option<Arc<dyn Host>>,
}

impl Time {
    /// A clock that begins now.
    pub(super) fn new(host: Option<Arc<dyn Host>>) -> Self {
        let origin = host.as_ref().map_or_else(sync::now, |host| host.now());
        Self { origin, host }
    }

    pub(crate) fn now(&self) -> Instant {
        let now = self.host.as_ref().map_or_else(sync::now, |host| host.now());
        self.at_std(now)
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
