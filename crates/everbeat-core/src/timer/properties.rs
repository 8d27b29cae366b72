//! The machine under random operations: what must hold whatever happens.

use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::tests::seeded::seeded;
use crate::{Jitter, Missed, Ratio, Until};

#[derive(Clone, Debug)]
enum Operation {
    Wait(u64),
    /// Time passes, and the run that may be in flight ends.
    Finish(u64, Outcome),
    /// Exactly at the next timeout.
    Timeout,
    Start,
    Trigger,
    SetPeriod(u64, bool),
    Pause,
    Resume,
    Drain(u64),
    Cancel,
}

fn operation() -> impl Strategy<Value = Operation> {
    let outcome = prop_oneof![
        6 => Just(Outcome::Success),
        2 => Just(Outcome::Failure),
        1 => Just(Outcome::Aborted),
    ];
    prop_oneof![
        4 => span().prop_map(Operation::Wait),
        8 => (span(), outcome).prop_map(|(span, outcome)| Operation::Finish(span, outcome)),
        8 => Just(Operation::Timeout),
        1 => Just(Operation::Start),
        2 => Just(Operation::Trigger),
        1 => (span(), any::<bool>()).prop_map(|(span, rearm)| Operation::SetPeriod(span, rearm)),
        1 => Just(Operation::Pause),
        2 => Just(Operation::Resume),
        1 => span().prop_map(Operation::Drain),
        1 => Just(Operation::Cancel),
    ]
}

/// Nanoseconds: mostly a few, now and then enough to reach the end of time.
fn span() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..5_u64, 8 => 0..100_u64, 2 => 0..10_000_u64, 1 => Just(u64::MAX), 1 => any::<u64>()]
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let policy = prop_oneof![
        Just(Missed::Skip),
        Just(Missed::Delay),
        (0..4_u64).prop_map(|max| Missed::Burst { max }),
    ];
    let on_error = prop_oneof![
        Just(OnError::Stop),
        Just(OnError::Continue),
        (1..50_u64).prop_map(|first| {
            OnError::backoff(Duration::from_nanos(first), Duration::from_nanos(first * 8)).unwrap()
        }),
    ];
    let jitter = (0..=4_u32, any::<u64>());
    let limits = (prop::option::of(1..30_u64), prop::option::of(1..5_000_u64), prop::option::of(1..80_u64));
    let keep = (any::<bool>(), prop::option::of(0..200_u64));
    (any::<bool>(), span(), span(), policy, on_error, jitter, limits, keep).prop_map(
        |(
            grid,
            period,
            initial,
            missed,
            on_error,
            (quarters, seed),
            (runs, until, limit),
            (keep, lateness),
        )| {
            let mode = if grid { crate::Mode::FixedRate } else { crate::Mode::FixedDelay };
            let jitter = Jitter { fraction: Ratio::new(quarters, 4).unwrap(), seed };
            let mut schedule = Schedule::fixed_delay(Duration::from_nanos(period))
                .with_mode(mode)
                .with_initial_delay(Duration::from_nanos(initial))
                .with_missed(missed)
                .with_on_error(on_error)
                .with_keep_phase(keep)
                .with_jitter(jitter)
                .unwrap();
            if let Some(lateness) = lateness {
                schedule = schedule.with_max_lateness(Duration::from_nanos(lateness));
            }
            if let Some(runs) = runs {
                schedule = schedule.with_max_runs(runs).unwrap();
            }
            if let Some(until) = until {
                schedule = schedule.with_until(Until::AfterStart(Duration::from_nanos(until)));
            }
            if let Some(limit) = limit {
                schedule = schedule.with_run_timeout(Duration::from_nanos(limit)).unwrap();
            }
            schedule
        },
    )
}

/// A timer with everything that is known about it from outside.
struct Observed {
    timer: Timer,
    now: Instant,
    busy: bool,
    runs: u64,
    /// The slot of the last run that took one.
    last_slot: Option<u64>,
    dropped: u64,
    stopped: bool,
}

impl Observed {
    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Wait(span) => {
                self.now = self.now.add_nanos(span);
                self.timer.handle_timeout(self.now);
            }
            Operation::Finish(span, outcome) => {
                self.now = self.now.add_nanos(span);
                self.timer.handle_finished(self.now, outcome);
                self.busy = false;
            }
            Operation::Timeout => {
                self.now = self.timer.poll_timeout().map_or(self.now, |due| due.max(self.now));
                self.timer.handle_timeout(self.now);
            }
            Operation::Start => {
                let was_running = self.timer.is_running();
                assert_eq!(self.timer.start(self.now).is_err(), was_running);
                if !was_running {
                    (self.stopped, self.last_slot, self.dropped) = (false, None, 0);
                }
            }
            Operation::Trigger => {
                let accepted = self.timer.trigger(self.now);
                assert!(accepted.is_err() || accepted == Ok(self.runs.saturating_add(1)));
            }
            Operation::SetPeriod(nanos, rearm) => {
                self.timer.set_period(self.now, Duration::from_nanos(nanos), rearm);
            }
            Operation::Pause => self.timer.pause(self.now),
            Operation::Resume => self.timer.resume(self.now),
            Operation::Drain(grace) => {
                self.timer.drain(self.now, StopReason::Drained, Duration::from_nanos(grace));
                self.stopped |= self.timer.is_running();
            }
            Operation::Cancel => {
                self.timer.cancel(self.now);
                self.stopped |= self.timer.is_running();
            }
        }
        self.drain_outputs();
    }

    fn drain_outputs(&mut self) {
        for _ in 0..10 {
            match self.timer.poll_output(self.now) {
                None => return self.check_rest(),
                Some(Output::Run(tick)) => self.check_run(tick),
                Some(Output::Abort(_)) => assert!(self.busy, "an abort without a run"),
                Some(Output::Missed(batch)) => assert!(batch.missed > 0),
                Some(Output::Stopped(_)) => {
                    assert!(!self.busy, "ended with a run in flight");
                    self.timer.handle_closed();
                    self.stopped = true;
                }
            }
        }
        panic!("output without end: {:?}", self.timer);
    }

    fn check_run(&mut self, tick: Tick) {
        assert!(!self.busy, "R1: a run began during a run");
        assert!(!self.stopped, "L4: a run began after a stop");
        self.runs += 1;
        assert_eq!(tick.run, self.runs);
        assert_eq!(tick.started(), self.now, "S12: {tick:?}");
        self.dropped += tick.missed;
        let takes_slot = match tick.cause {
            Cause::Schedule => true,
            Cause::Trigger => !(self.timer.schedule().is_grid() && self.timer.schedule().keep_phase),
            Cause::Retry => false,
        };
        if takes_slot
            && self.timer.schedule().period_nanos < u64::MAX / 4
            && self.now.as_nanos() < u64::MAX / 4
        {
            // Every slot has run or was dropped: none is lost, none counted twice.
            let expected = self.last_slot.map_or(0, |slot| slot + 1) + self.dropped;
            assert_eq!(tick.slot, expected, "S4: {tick:?} after {:?}", self.last_slot);
        }
        if takes_slot {
            (self.last_slot, self.dropped) = (Some(tick.slot), 0);
        }
        self.busy = true;
    }

    fn check_rest(&self) {
        assert_eq!(self.timer.is_busy(), self.busy);
        let skipped = self.timer.skipped();
        let dropped = skipped.overrun.saturating_add(skipped.late).saturating_add(skipped.backoff);
        // Some of the missed slots ran late, in a burst, or were dropped by a pause.
        assert!(skipped.missed >= dropped || !self.timer.schedule().is_grid(), "S4: {skipped:?}");
        let waits = self.timer.poll_timeout().is_some();
        assert!(!waits || self.timer.is_running(), "a stopped timer waits for something");
        let due = self.timer.next_due().filter(|_| !self.timer.is_paused());
        if let Some(due) = due.filter(|due| !due.is_never()) {
            assert!(
                self.timer.poll_timeout().is_some_and(|timeout| timeout <= due),
                "a due run is not awaited"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..seeded() })]

    #[test]
    fn s_r_l_invariants_hold_under_random_operations(
        schedule in schedule(),
        operations in prop::collection::vec(operation(), 1..120),
    ) {
        let timer = Timer::new(schedule);
        let now = Instant::from_nanos(1_000);
        let mut observed =
            Observed { timer, now, busy: false, runs: 0, last_slot: None, dropped: 0, stopped: false };
        observed.apply(&Operation::Start);
        for operation in &operations {
            observed.apply(operation);
        }
    }

    /// Without commands a fixed-rate timer never leaves its grid.
    #[test]
    fn s3_every_tick_is_on_the_grid(
        period in 1..1_000_u64,
        initial in 0..1_000_u64,
        runs in prop::collection::vec((0..3_000_u64, 0..3_000_u64), 1..60),
        burst in prop::option::of(0..5_u64),
    ) {
        let missed = burst.map_or(Missed::Skip, |max| Missed::Burst { max });
        let schedule = Schedule::fixed_rate(Duration::from_nanos(period))
            .with_initial_delay(Duration::from_nanos(initial))
            .with_missed(missed);
        let mut timer = Timer::new(schedule);
        let mut now = Instant::from_nanos(7);
        timer.start(now).unwrap();
        for (late, takes) in runs {
            now = timer.poll_timeout().unwrap().max(now).add_nanos(late);
            timer.handle_timeout(now);
            let tick = loop {
                match timer.poll_output(now) {
                    Some(Output::Run(tick)) => break tick,
                    Some(Output::Missed(_)) => {}
                    other => panic!("{other:?}"),
                }
            };
            prop_assert_eq!(tick.scheduled.as_nanos(), 7 + initial + tick.slot * period);
            now = now.add_nanos(takes);
            timer.handle_finished(now, Outcome::Success);
        }
    }
}

/// A timer that is put to rest whenever it can be, and takes the short cuts there are.
struct Resting {
    timer: Timer,
    /// What it comes down to, during a run too.
    rested: Option<(Rested, Past)>,
    now: Instant,
}

impl Resting {
    fn apply(&mut self, operation: &Operation) -> Vec<Output> {
        let mut outputs = Vec::new();
        let schedule = self.timer.schedule.clone();
        match *operation {
            Operation::Wait(span) => self.now = self.now.add_nanos(span),
            Operation::Timeout => {
                self.now = self.timer.poll_timeout().map_or(self.now, |due| due.max(self.now));
            }
            Operation::Finish(span, _) => self.now = self.now.add_nanos(span),
            _ => {}
        }
        match (operation, self.rested) {
            (Operation::Wait(_) | Operation::Timeout, Some((mut rested, mut past)))
                if !self.timer.is_busy() =>
            {
                if let Some(tick) = rested.begin(&schedule, &mut past, self.now) {
                    outputs.push(Output::Run(tick));
                    self.timer = Timer::from_rest(schedule, rested, &past);
                    self.rested = Some((rested, past));
                    return outputs;
                }
                self.timer.handle_timeout(self.now);
            }
            (Operation::Finish(_, Outcome::Success), Some((mut rested, mut past)))
                if self.timer.is_busy() =>
            {
                let in_time = rested.finish(&schedule, &past, self.now);
                if !in_time {
                    let missed = rested.finish_late(&schedule, &mut past, self.now);
                    outputs.extend(missed.map(Output::Missed));
                }
                if in_time || !outputs.is_empty() {
                    self.timer = Timer::from_rest(schedule, rested, &past);
                    self.rested = Some((rested, past));
                    return outputs;
                }
                self.timer.handle_finished(self.now, Outcome::Success);
            }
            _ => operate(&mut self.timer, self.now, operation),
        }
        drain(&mut self.timer, self.now, &mut outputs);
        self.rested = self.timer.rest();
        if let Some((rested, past)) = self.rested {
            self.timer = Timer::from_rest(schedule_of(&self.timer), rested, &past);
        }
        outputs
    }
}

fn schedule_of(timer: &Timer) -> Arc<Schedule> {
    timer.schedule.clone()
}

fn operate(timer: &mut Timer, now: Instant, operation: &Operation) {
    match *operation {
        Operation::Wait(_) | Operation::Timeout => timer.handle_timeout(now),
        Operation::Finish(_, outcome) => timer.handle_finished(now, outcome),
        Operation::Start => _ = timer.start(now),
        Operation::Trigger => _ = timer.trigger(now),
        Operation::SetPeriod(nanos, rearm) => timer.set_period(now, Duration::from_nanos(nanos), rearm),
        Operation::Pause => timer.pause(now),
        Operation::Resume => timer.resume(now),
        Operation::Drain(grace) => timer.drain(now, StopReason::Drained, Duration::from_nanos(grace)),
        Operation::Cancel => timer.cancel(now),
    }
}

fn drain(timer: &mut Timer, now: Instant, outputs: &mut Vec<Output>) {
    while let Some(output) = timer.poll_output(now) {
        outputs.push(output);
        if let Output::Stopped(_) = output {
            timer.handle_closed();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..seeded() })]

    #[test]
    fn a_timer_at_rest_does_as_the_machine(
        schedule in schedule(),
        plain in prop::bool::weighted(0.8),
        operations in prop::collection::vec(operation(), 1..80),
    ) {
        let forever = |schedule: Schedule| Schedule {
            jitter: Jitter { fraction: Ratio::ZERO, seed: 0 },
            until: Until::Forever,
            run_timeout_nanos: u64::MAX,
            ..schedule
        };
        let schedule = Arc::new(if plain { forever(schedule) } else { schedule });
        let mut timer = Timer::new(schedule.clone());
        let mut resting = Resting { timer: timer.clone(), rested: None, now: Instant::ORIGIN };
        let start = Operation::Start;
        for operation in [&start].into_iter().chain(&operations) {
            let seen = resting.apply(operation);
            let mut expected = Vec::new();
            operate(&mut timer, resting.now, operation);
            drain(&mut timer, resting.now, &mut expected);
            prop_assert_eq!(&seen, &expected, "after {:?}", operation);
            let other = &resting.timer;
            prop_assert_eq!(other.poll_timeout(), timer.poll_timeout(), "after {:?}", operation);
            prop_assert_eq!(other.next_due(), timer.next_due());
            prop_assert_eq!(other.stop_reason(), timer.stop_reason());
            prop_assert_eq!((other.runs(), other.skipped()), (timer.runs(), timer.skipped()));
        }
    }
}
