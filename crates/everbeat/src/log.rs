//! What goes to the log, and how often.
//!
//! # Locks
//!
//! The lock of [`Budget`] guards a few numbers. No event is recorded under it: whoever listens runs code of their own.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant as StdInstant};

use everbeat_core::{Instant, MissedBatch};

use crate::feed::Line;
use crate::guard::{guarded, tell};
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
    static BUDGET: Mutex<Budget> = Mutex::new(Budget::FULL);
    let wanted = guarded(|| tracing::event_enabled!(tracing::Level::WARN));
    if !wanted.unwrap_or(false) {
        return;
    }
    let left_out = BUDGET.lock().unwrap_or_else(PoisonError::into_inner).spend(StdInstant::now());
    let Ok(left_out) = left_out else { return };
    if left_out > 0 {
        tell!(WARN, left_out, "slots missed by many timers at once: not all of them were told of");
    }
    tell!(WARN, timer = %timer, missed, ?late, "slots missed");
}

/// How many lines all timers together may write: some at once, and one a millisecond from then on. A process that
/// was stopped for a while would else write one for each of a million timers, and that would hold them up again.
#[derive(Debug)]
struct Budget {
    lines: u32,
    since: Option<StdInstant>,
    /// Lines that were not written since the last one that was.
    left_out: u64,
}

impl Budget {
    const MOST: u32 = 1000;
    const FULL: Self = Self { lines: Self::MOST, since: None, left_out: 0 };

    /// How many lines have been left out before this one, which may be written; or else this one is left out too.
    fn spend(&mut self, now: StdInstant) -> Result<u64, ()> {
        let since = *self.since.get_or_insert(now);
        let earned = u32::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u32::MAX);
        if earned > 0 {
            self.lines = self.lines.saturating_add(earned).min(Self::MOST);
            self.since = Some(now);
        }
        if self.lines == 0 {
            self.left_out += 1;
            return Err(());
        }
        self.lines -= 1;
        Ok(std::mem::take(&mut self.left_out))
    }
}

pub(crate) fn feed_losses<V>(timer: &Name, line: &Line<V>) {
    let lost = line.take_untold_losses();
    if lost > 0 {
        tell!(WARN, timer = %timer, feed = line.name(), lost, "a slow consumer lost values");
    }
}

#[cfg(all(test, not(everbeat_loom)))]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Text(Arc<Mutex<Vec<u8>>>);

    impl Text {
        /// The lines since the last call.
        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    impl io::Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn s4_a_stall_of_many_timers_does_not_flood_the_log_and_says_so() {
        let name = Name::given("one of many");
        let miss = || slots_missed(&name, MissedSlots { missed: 3, late: Duration::from_secs(1) });
        miss(); // to nobody, which takes nothing from what may be written
        let text = Text::default();
        let writer = text.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let (mut told, mut asked) = (0, 0);
            let told_later = loop {
                miss();
                asked += 1;
                match text.lines().as_slice() {
                    [] => {}
                    [line] => {
                        assert!(line.contains("one of many") && line.contains("missed=3"), "{line}");
                        told += 1;
                    }
                    lines => break lines.to_vec(),
                }
            };
            assert!(told >= 1000, "{told}");
            let left_out = format!("left_out={}", asked - told - 1);
            assert!(told_later.len() == 2 && told_later[0].contains(&left_out), "{told_later:?}");
        });
    }

    #[test]
    fn s4_one_message_then_quiet() {
        let mut limit = RateLimit::default();
        let permitted: Vec<_> =
            (0..25).filter(|&s| limit.permits(Instant::ORIGIN + Duration::from_secs(s))).collect();
        assert_eq!(permitted, [0, 10, 20]);
    }

    #[test]
    fn s4_many_lines_at_once_then_one_a_millisecond_and_none_is_forgotten() {
        let (mut budget, start) = (Budget::FULL, StdInstant::now());
        let mut spend = |micros: u64| budget.spend(start + Duration::from_micros(micros));
        assert_eq!((0..1000).map(|_| spend(0)).collect::<Vec<_>>(), [Ok(0); 1000]);
        assert_eq!([spend(0), spend(0), spend(1_900), spend(1_900)], [Err(()), Err(()), Ok(2), Err(())]);
        assert_eq!([spend(3_900), spend(3_900), spend(3_900)], [Ok(1), Ok(0), Err(())]);
        // Looking often does not make the next one come later.
        assert_eq!([4_300, 4_700, 5_100].map(&mut spend), [Err(()), Err(()), Ok(3)]);
        // What was not spent is not hoarded.
        assert_eq!((0..1002).filter(|_| spend(60_000_000).is_ok()).count(), 1000);
        assert_eq!([spend(60_001_900), spend(0)], [Ok(2), Err(())]);
    }
}
