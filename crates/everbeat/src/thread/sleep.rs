//! How the thread of an engine sleeps.

use std::sync::atomic::Ordering;
use std::time::Duration;

use everbeat_core::Instant;

use super::time::Time;
use crate::guard::tell;
use crate::sync::{AtomicBool, thread};

/// How precisely an engine keeps its times, and what it pays for it.
///
/// | | wakes up | lateness p50 / p99 at 1 kHz | of a core |
/// |---|---|---|---|
/// | `Coarse` | for deadlines at most once a millisecond, for everything that is due; at once for commands | 65 / 109 µs | 1.5 % |
/// | `Fine` | for each deadline | 8 / 52 µs | 1.2 % |
/// | `Spin` | shortly before each deadline | 1.0 / 8.5 µs | 8 % |
///
/// Measured on one idle machine, where the bare system call with the least slack gave 10 / 72 µs. With many
/// timers `Coarse` is up to a millisecond late. A tick is never early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Precision {
    /// Wakes up for deadlines at most once a millisecond and fires everything that is due: the cheapest for
    /// many timers. A single timer is as precise as the machine's ordinary sleep.
    #[default]
    Coarse,
    /// Wakes up for every deadline. On Linux the thread asks the kernel for a slack of one nanosecond, where
    /// 50 µs are usual.
    Fine,
    /// Wakes up shortly before a deadline and spins for the rest, within a budget of a tenth of one core.
    Spin,
}

/// The shortest time from one wake-up of a coarse engine to the next.
const COARSE_GRAIN: Duration = Duration::from_millis(1);

/// The longest single sleep. A wake-up with nothing due is harmless.
const LONGEST_SLEEP: Duration = Duration::from_secs(24 * 3600);

/// A note for a thread that may be asleep.
#[derive(Debug, Default)]
pub(super) struct Note(AtomicBool);

impl Note {
    pub(super) fn leave(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether somebody has left one since this was last asked.
    fn take(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Acquire)
    }
}

/// Sleeps for the thread that owns it.
#[derive(Debug)]
pub(super) struct Sleeper {
    precision: Precision,
    /// Coarse: when the last sleep ended, or was to end if that is earlier, so that late wake-ups do not
    /// add up. Spin: up to when the budget has been earned.
    woke: Instant,
    /// How late sleeps end here, estimated on the high side.
    overshoot_nanos: u64,
    /// How long it may spin.
    budget_nanos: u64,
}

impl Sleeper {
    /// The most that can be saved up for spinning.
    const LARGEST_BUDGET_NANOS: u64 = 1_000_000;
    /// Of the time that passes, this part may be spent spinning: a tenth.
    const BUDGET_DIVISOR: u64 = 10;
    /// For the thread that this is called on.
    pub(super) fn new(precision: Precision) -> Self {
        if precision != Precision::Coarse {
            ask_for_least_slack();
        }
        Self { precision, woke: Instant::ORIGIN, overshoot_nanos: 100_000, budget_nanos: 0 }
    }

    /// Sleeps until `due`, or until the thread is unparked with a note left before.
    pub(super) fn sleep(&mut self, time: &Time, due: Option<Instant>, note: &Note) {
        let due = due.unwrap_or(Instant::NEVER);
        match self.precision {
            Precision::Coarse => {
                let wake = due.max(self.woke + COARSE_GRAIN);
                park_until(time, wake, note);
                self.woke = wake.min(time.now());
            }
            Precision::Fine => _ = park_until(time, due, note),
            Precision::Spin => self.spin_until(time, due, note),
        }
    }

    fn spin_until(&mut self, time: &Time, due: Instant, note: &Note) {
        let asleep = time.now();
        let earned = asleep.nanos_since(self.woke) / Self::BUDGET_DIVISOR;
        self.woke = asleep;
        self.budget_nanos = self.budget_nanos.saturating_add(earned).min(Self::LARGEST_BUDGET_NANOS);
        let margin = self.overshoot_nanos + self.overshoot_nanos / 4;
        let start = due.sub_nanos(margin.min(self.budget_nanos));
        if !park_until(time, start, note) || due.is_never() {
            return; // woken for something else
        }
        let awake = time.now();
        if asleep < start {
            self.learn(awake.nanos_since(start));
        }
        let mut now = awake;
        while now < due && !note.take() {
            std::hint::spin_loop();
            now = time.now();
        }
        self.budget_nanos = self.budget_nanos.saturating_sub(now.nanos_since(awake));
    }

    /// Tracks the 99th percentile: one step up for each sleep that ends later, a 128th of it down for all
    /// others.
    fn learn(&mut self, overshoot_nanos: u64) {
        let known = self.overshoot_nanos;
        self.overshoot_nanos = if overshoot_nanos > known {
            (known + known / 8 + 1000).min(Self::LARGEST_BUDGET_NANOS)
        } else {
            known - known / 1024
        };
    }
}

/// Returns whether it is time; else somebody has left a note.
fn park_until(time: &Time, end: Instant, note: &Note) -> bool {
    loop {
        if note.take() {
            return false;
        }
        let rest = end.saturating_since(time.now());
        if rest.is_zero() {
            return true;
        }
        thread::park_timeout(rest.min(LONGEST_SLEEP));
    }
}

/// Brings the slack of this thread's timers down to the least there is.
fn ask_for_least_slack() {
    #[cfg(all(target_os = "linux", not(miri)))] // which knows no slack
    if let Err(error) = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)) {
        tell!(WARN, %error, "the kernel keeps its timer slack: ticks are up to 50 µs later");
    }
}

#[cfg(all(test, not(everbeat_loom)))]
mod tests {
    use super::*;

    #[test]
    fn s9_what_is_allowed_for_late_wake_ups_follows_how_late_they_are() {
        let mut sleeper = Sleeper::new(Precision::Coarse);
        let mut after = |sleeps: u32, late: u64| {
            (0..sleeps).for_each(|_| sleeper.learn(late));
            sleeper.overshoot_nanos
        };
        let known = after(0, 0);
        assert!(known / 2 < after(100, 0) && after(1, 0) < known, "one early wake-up says little");
        assert!(after(100_000, 0) < 2_000);
        let known = after(200, 50_000);
        assert!((50_000..60_000).contains(&known), "{known}");
        assert!(after(1, known) <= known, "that was allowed for");
        assert!((50_000 - 5_000..60_000).contains(&after(1_000, 50_000)));
        assert_eq!(after(1_000, u64::MAX), Sleeper::LARGEST_BUDGET_NANOS);
    }
}
