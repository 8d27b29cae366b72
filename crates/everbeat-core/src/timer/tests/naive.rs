//! The machine against a plain loop that walks from slot to slot.

use proptest::prelude::*;

use super::*;
use crate::tests::seeded::seeded;

/// What a timer without jitter ought to do, one slot at a time. Times are nanoseconds.
struct Naive {
    schedule: Schedule,
    /// When `slot` is due.
    due: u64,
    /// The first slot that has neither run nor been dropped.
    slot: u64,
    /// Slots below this one were counted as missed.
    counted: u64,
    dropped_since_run: u64,
    skipped: Skipped,
    batch: MissedBatch,
}

impl Naive {
    fn started(schedule: Schedule) -> Self {
        let due = schedule.initial_delay_nanos;
        let (skipped, batch) = (Skipped::default(), MissedBatch::default());
        Self { schedule, due, slot: 0, counted: 0, dropped_since_run: 0, skipped, batch }
    }

    fn period(&self) -> u64 {
        self.schedule.period_nanos
    }

    fn drop_slot(&mut self) {
        self.slot += 1;
        self.due += self.period();
        self.dropped_since_run += 1;
    }

    /// The slots from `slot` on that lie before `limit`, seen at `now`.
    fn passed(&self, limit: u64) -> u64 {
        let (mut passed, mut due) = (0, self.due);
        while self.period() > 0 && due < limit {
            (passed, due) = (passed + 1, due + self.period());
        }
        passed
    }

    /// Counts `passed` slots as missed, those that were not counted before, and drops some of them.
    fn miss(&mut self, now: u64, passed: u64, dropped: u64) {
        let first_new = self.counted.max(self.slot);
        let new = (self.slot + passed).saturating_sub(first_new);
        if new > 0 {
            let late = Duration::from_nanos(now - self.due - (first_new - self.slot) * self.period());
            self.batch.late = self.batch.late.max(late);
            self.batch.missed += new;
            self.batch.dropped += dropped;
            self.skipped.missed += new;
            self.counted = self.slot + passed;
        }
        (0..dropped).for_each(|_| self.drop_slot());
    }

    /// The driver comes at `now`, when the slot is due or later.
    fn begin(&mut self, now: u64) -> Option<Tick> {
        let patience = self.schedule.max_lateness_nanos;
        if now - self.due > patience {
            let dropped = match (self.schedule.mode, self.schedule.missed) {
                (Mode::FixedDelay, _) => 1,
                (Mode::FixedRate, Missed::Burst { .. }) => self.passed(now - patience),
                (Mode::FixedRate, _) => self.passed(now),
            };
            self.miss(now, dropped, dropped);
            self.skipped.late += dropped;
            if self.schedule.mode == Mode::FixedDelay {
                self.due = now + self.period();
            }
            if self.period() == 0 {
                self.due = now;
            }
        }
        if self.due > now {
            return None;
        }
        let (scheduled, slot) = (Instant::from_nanos(self.due), self.slot);
        let lateness = Duration::from_nanos(now - self.due);
        let missed = core::mem::take(&mut self.dropped_since_run);
        self.slot += 1;
        self.due += self.period();
        Some(Tick { run: 0, slot, scheduled, lateness, missed, cause: Cause::Schedule })
    }

    /// The run is over.
    fn finish(&mut self, now: u64) {
        if self.schedule.mode == Mode::FixedDelay || self.period() == 0 {
            self.due = now + self.period();
            return;
        }
        let passed = self.passed(now);
        let dropped = match self.schedule.missed {
            Missed::Burst { max } => passed.saturating_sub(max),
            Missed::Skip | Missed::Delay => passed,
        };
        self.miss(now, passed, dropped);
        self.skipped.overrun += dropped;
        if passed > 0 && self.schedule.missed == Missed::Delay {
            self.due = now + self.period();
        }
    }
}

/// Lets both go through rounds of "so much too late" and "takes so long".
fn check(schedule: &Arc<Schedule>, rounds: &[(u64, u64)]) {
    let mut timer = Timer::new(schedule.clone());
    let mut naive = Naive::started(Schedule::clone(schedule));
    let (mut now, mut runs) = (0, 0);
    timer.start(Instant::ORIGIN).unwrap();
    for &(late, takes) in rounds {
        assert_eq!(timer.poll_timeout(), Some(Instant::from_nanos(naive.due)), "{schedule:?} {rounds:?}");
        now = now.max(naive.due) + late;
        timer.handle_timeout(Instant::from_nanos(now));
        let wanted = naive.begin(now);
        runs += u64::from(wanted.is_some());
        let wanted = wanted.map(|tick| Output::Run(Tick { run: runs, ..tick }));
        assert_eq!(poll(&mut timer, now, &mut naive), wanted, "{schedule:?} {rounds:?}");
        now += takes;
        if wanted.is_some() {
            timer.handle_finished(Instant::from_nanos(now), Outcome::Success);
            naive.finish(now);
            assert_eq!(poll(&mut timer, now, &mut naive), None, "{schedule:?} {rounds:?}");
        }
        assert_eq!(timer.skipped(), naive.skipped, "{schedule:?} {rounds:?}");
    }
}

/// The next output that is no report, and the reports compared.
fn poll(timer: &mut Timer, now: u64, naive: &mut Naive) -> Option<Output> {
    let mut told = MissedBatch::default();
    loop {
        match timer.poll_output(Instant::from_nanos(now)) {
            Some(Output::Missed(batch)) => {
                assert_eq!(told, MissedBatch::default(), "more than one report");
                told = batch;
            }
            output => {
                assert_eq!(told, core::mem::take(&mut naive.batch));
                return output;
            }
        }
    }
}

const POLICIES: [Missed; 6] = [
    Missed::Skip,
    Missed::Delay,
    Missed::Burst { max: 0 },
    Missed::Burst { max: 1 },
    Missed::Burst { max: 2 },
    Missed::Burst { max: u64::MAX },
];

fn of(mode: Mode, period: u64, initial: u64, missed: Missed, patience: Option<u64>) -> Arc<Schedule> {
    let schedule = Schedule::fixed_delay(Duration::from_nanos(period)).with_mode(mode).with_missed(missed);
    let schedule = schedule.with_initial_delay(Duration::from_nanos(initial));
    let patience = patience.map_or(Duration::MAX, Duration::from_nanos);
    Arc::new(schedule.with_max_lateness(patience))
}

/// All ways for two or three rounds to be late and long, up to twice the period and one more.
fn check_all(schedule: &Arc<Schedule>, rounds: u32) {
    let most = 2 * schedule.period_nanos + 2;
    for mut number in 0..most.pow(2 * rounds) {
        let mut digit = || {
            let digit = number % most;
            number /= most;
            digit
        };
        let plan: Vec<_> = (0..rounds).map(|_| (digit(), digit())).collect();
        check(schedule, &plan);
    }
}

#[test]
fn s4_every_small_schedule_does_as_a_plain_loop() {
    for (period, rounds) in [(0, 4), (1, 3), (2, 2), (3, 2)] {
        for patience in [None, Some(0), Some(1), Some(period), Some(2 * period)] {
            for missed in POLICIES {
                check_all(&of(Mode::FixedRate, period, 0, missed, patience), rounds);
            }
            check_all(&of(Mode::FixedDelay, period, 1, Missed::Skip, patience), rounds);
        }
    }
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn s2_s3_s4_any_schedule_does_as_a_plain_loop(
        mode in prop_oneof![3 => Just(Mode::FixedRate), 1 => Just(Mode::FixedDelay)],
        period in 0..40_u64,
        initial in 0..100_u64,
        missed in prop::sample::select(&POLICIES[..]),
        patience in prop::option::of(0..120_u64),
        rounds in prop::collection::vec((0..150_u64, 0..150_u64), 1..40),
    ) {
        check(&of(mode, period, initial, missed, patience), &rounds);
    }
}
