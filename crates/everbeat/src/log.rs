//! What goes to the log, and how often.

use std::time::Duration;

use everbeat_core::{Instant, MissedBatch};

use crate::feed::Line;
use crate::name::Name;

/// At most one line of a kind per timer in this time; the counters miss nothing.
const QUIET: Duration = Duration::from_secs(10);

/// Permits one message, then none for [`QUIET`].
#[derive(Clone, Debug, Default)]
pub(crate) struct RateLimit {
    quiet_until: Option<Instant>,
}

impl RateLimit {
    pub(crate) fn permits(&mut self, now: Instant) -> bool {
        let permitted = self.quiet_until.is_none_or(|until| now >= until);
        if permitted {
            self.quiet_until = Some(now + QUIET);
        }
        permitted
    }
}

/// Missed batches of one timer: one line each, or one for all that came in a quiet time, with the
/// greatest lateness among them.
#[derive(Clone, Debug, Default)]
pub(crate) struct MissedLog {
    limit: RateLimit,
    untold: MissedSlots,
}

/// What a line of the log tells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MissedSlots {
    missed: u64,
    late: Duration,
}

impl MissedLog {
    /// Returns what is to be told now.
    pub(crate) fn note(&mut self, batch: MissedBatch, now: Instant) -> Option<MissedSlots> {
        self.untold.missed = self.untold.missed.saturating_add(batch.missed);
        self.untold.late = self.untold.late.max(batch.late);
        if self.limit.permits(now) { self.take_untold() } else { None }
    }

    /// What the quiet time has kept back, to be told at the end of the timer at the latest.
    pub(crate) fn take_untold(&mut self) -> Option<MissedSlots> {
        self.has_untold().then(|| std::mem::take(&mut self.untold))
    }

    pub(crate) fn has_untold(&self) -> bool {
        self.untold.missed > 0
    }
}

pub(crate) fn slots_missed(timer: &Name, MissedSlots { missed, late }: MissedSlots) {
    tracing::warn!(timer = %timer, missed, ?late, "slots missed");
}

pub(crate) fn feed_losses<V>(timer: &Name, line: &Line<V>) {
    let lost = line.take_untold_losses();
    if lost > 0 {
        tracing::warn!(timer = %timer, feed = line.name(), lost, "a slow consumer lost values");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_one_message_then_quiet() {
        let mut limit = RateLimit::default();
        let permitted: Vec<_> =
            (0..25).filter(|&s| limit.permits(Instant::ORIGIN + Duration::from_secs(s))).collect();
        assert_eq!(permitted, [0, 10, 20]);
    }
}
