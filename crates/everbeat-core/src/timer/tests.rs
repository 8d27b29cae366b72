//! The machine against a virtual clock, a command at a time.

use alloc::vec::Vec;
use core::time::Duration;

use super::*;
use crate::{Jitter, Missed, Ratio, Until};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Instant {
    Instant::from_elapsed(ms(millis))
}

fn rate(millis: u64) -> Schedule {
    Schedule::fixed_rate(ms(millis))
}

fn delay(millis: u64) -> Schedule {
    Schedule::fixed_delay(ms(millis))
}

/// A timer with its clock, driven by hand.
struct Bench {
    timer: Timer,
    now: Instant,
}

impl Bench {
    fn started(schedule: Schedule) -> Self {
        let mut timer = Timer::new(schedule);
        timer.start(at(0)).unwrap();
        Self { timer, now: at(0) }
    }

    /// Moves the clock and polls once; missed batches are passed over.
    fn poll_at(&mut self, millis: u64) -> Option<Output> {
        self.now = at(millis);
        self.timer.handle_timeout(self.now);
        self.poll()
    }

    fn poll(&mut self) -> Option<Output> {
        loop {
            match self.timer.poll_output(self.now) {
                Some(Output::Missed(_)) => {}
                output => return output,
            }
        }
    }

    /// Expects a run to begin at this time.
    fn run_at(&mut self, millis: u64) -> Tick {
        match self.poll_at(millis) {
            Some(Output::Run(tick)) => tick,
            other => panic!("no run at {millis} ms but {other:?}, {:?}", self.timer),
        }
    }

    fn finish_at(&mut self, millis: u64, outcome: Outcome) {
        self.now = at(millis);
        self.timer.handle_finished(self.now, outcome);
    }

    /// A whole run from `start` to `end`.
    fn work(&mut self, start: u64, end: u64) -> Tick {
        let tick = self.run_at(start);
        self.finish_at(end, Outcome::Success);
        tick
    }

    fn timeout(&self) -> Option<Duration> {
        self.timer.poll_timeout().map(Instant::elapsed_since_origin)
    }
}

#[test]
fn s1_the_first_tick_is_due_at_start_or_after_the_initial_delay() {
    assert_eq!(Bench::started(rate(10)).timeout(), Some(ms(0)));
    let mut delayed = Bench::started(delay(10).with_initial_delay(ms(7)));
    assert_eq!(delayed.timeout(), Some(ms(7)));
    assert_eq!(delayed.poll_at(6), None);
    assert_eq!(delayed.run_at(7).scheduled, at(7));
}

#[test]
fn s2_fixed_delay_counts_from_the_end_of_the_run() {
    let mut bench = Bench::started(delay(10));
    bench.work(0, 4);
    assert_eq!(bench.timeout(), Some(ms(14)));
    bench.work(15, 40);
    assert_eq!(bench.timeout(), Some(ms(50)));
    assert_eq!(bench.timer.skipped(), Skipped::default());
}

#[test]
fn s3_fixed_rate_does_not_drift() {
    let mut bench = Bench::started(rate(10));
    for slot in 0..1_000 {
        let tick = bench.work(slot * 10 + slot % 7, slot * 10 + 9);
        assert_eq!((tick.slot, tick.scheduled), (slot, at(slot * 10)));
        assert_eq!(tick.lateness, ms(slot % 7));
    }
}

#[test]
fn s4_slots_missed_in_a_burst_are_counted_once() {
    let mut bench = Bench::started(rate(10).with_missed(Missed::Burst { max: 2 }));
    bench.work(0, 35);
    let ticks: Vec<_> = (0..2).map(|_| bench.work(36, 36)).map(|tick| (tick.slot, tick.missed)).collect();
    assert_eq!(ticks, [(2, 1), (3, 0)]);
    assert_eq!(bench.timeout(), Some(ms(40)));
    assert_eq!(bench.timer.skipped().missed, 3);
    assert_eq!(bench.timer.skipped().overrun, 1);
}

#[test]
fn s4_missed_slots_are_reported_in_one_batch() {
    let mut bench = Bench::started(rate(10));
    bench.work(0, 35);
    let batch = MissedBatch { missed: 3, dropped: 3, late: ms(25) };
    assert_eq!(bench.timer.poll_output(at(35)), Some(Output::Missed(batch)));
    assert_eq!(bench.timer.poll_output(at(35)), None);
    assert_eq!(bench.run_at(40).missed, 3);
}

#[test]
fn s5_jittered_slots_stay_between_the_run_before_and_the_slot_after() {
    for percent in [1, 30, 50, 80, 100] {
        let jitter = Jitter { fraction: Ratio::new(percent, 100).unwrap(), seed: u64::from(percent) };
        let mut bench = Bench::started(rate(1_000).with_jitter(jitter).unwrap());
        bench.timer.poll_output(at(0));
        bench.work(0, 0);
        for slot in 1..5_000 {
            let due = bench.timer.poll_timeout().unwrap();
            assert!(due >= bench.now, "slot {slot} before the run before it");
            assert!(due < at((slot + 1) * 1_000), "slot {slot} in the next slot");
            let offset = due.as_nanos().abs_diff(at(slot * 1_000).as_nanos());
            assert!(offset <= u64::from(percent) * 10_000_000, "slot {slot} is {offset} ns off");
            bench.now = due;
            bench.timer.handle_timeout(due);
            let Some(Output::Run(tick)) = bench.timer.poll_output(due) else { panic!("no run") };
            assert_eq!((tick.slot, tick.missed), (slot, 0));
            bench.timer.handle_finished(due, Outcome::Success);
        }
    }
}

#[test]
fn s6_period_zero_is_always_due_now() {
    for mut bench in [Bench::started(rate(0)), Bench::started(delay(0))] {
        for round in 0..100 {
            let tick = bench.work(round * 3, round * 3 + 2);
            assert_eq!((tick.slot, tick.missed), (round, 0));
            assert_eq!(bench.timeout(), Some(ms(round * 3 + 2)));
        }
    }
}

#[test]
fn s7_a_new_period_holds_from_the_next_wait_on_at_any_age() {
    let mut bench = Bench::started(rate(10));
    for slot in 0..50 {
        bench.work(slot * 10, slot * 10);
    }
    bench.timer.set_period(at(493), ms(20), false);
    assert_eq!(bench.timeout(), Some(ms(500)));
    bench.work(500, 500);
    assert_eq!(bench.timeout(), Some(ms(520)));
}

#[test]
fn s7_rearm_changes_the_wait_in_progress() {
    let mut bench = Bench::started(rate(1_000));
    bench.work(0, 0);
    bench.timer.set_period(at(400), ms(500), true);
    assert_eq!(bench.timeout(), Some(ms(500)));
    bench.timer.set_period(at(455), ms(10), true);
    assert_eq!(bench.timeout(), Some(ms(460)));
    assert_eq!(bench.work(460, 460).slot, 1);
    assert_eq!(bench.timer.skipped(), Skipped::default());
    let mut spaced = Bench::started(delay(1_000));
    spaced.work(0, 5);
    spaced.timer.set_period(at(100), ms(50), true);
    assert_eq!(spaced.timeout(), Some(ms(100)));
}

#[test]
fn s7_the_first_wait_is_not_rearmed() {
    let mut bench = Bench::started(rate(10).with_initial_delay(ms(100)));
    bench.timer.set_period(at(1), ms(30), true);
    assert_eq!(bench.timeout(), Some(ms(100)));
    bench.work(100, 100);
    assert_eq!(bench.timeout(), Some(ms(130)));
}

#[test]
fn s8_a_trigger_anchors_the_grid_at_its_run() {
    let mut bench = Bench::started(rate(10));
    bench.work(0, 0);
    assert_eq!(bench.timer.trigger(at(14)), Ok(2));
    let tick = bench.work(14, 15);
    assert_eq!((tick.cause, tick.slot, tick.scheduled, tick.missed), (Cause::Trigger, 2, at(14), 1));
    assert_eq!(bench.timeout(), Some(ms(24)));
}

#[test]
fn s8_keep_phase_leaves_the_grid_alone() {
    let mut bench = Bench::started(rate(10).with_keep_phase(true));
    bench.work(0, 0);
    bench.timer.trigger(at(4)).unwrap();
    assert_eq!(bench.work(4, 5).cause, Cause::Trigger);
    assert_eq!(bench.timeout(), Some(ms(10)));
    assert_eq!(bench.work(10, 10).slot, 1);
}

#[test]
fn s9_time_does_not_run_backwards() {
    let mut bench = Bench::started(delay(10));
    bench.work(50, 60);
    bench.timer.handle_timeout(at(5));
    assert_eq!(bench.timer.trigger(at(1)), Ok(2));
    assert_eq!(bench.run_at(0).scheduled, at(60));
}

#[test]
fn s9_a_period_past_the_end_of_time_waits_forever() {
    let mut bench = Bench::started(Schedule::fixed_rate(Duration::MAX));
    bench.work(3, 4);
    assert_eq!(bench.timeout(), None);
    assert_eq!(bench.timer.next_due(), Some(Instant::NEVER));
}

#[test]
fn s10_a_pause_skips_what_passes_and_resume_does_not_burst() {
    let mut bench = Bench::started(rate(10).with_missed(Missed::Burst { max: 9 }));
    bench.work(0, 0);
    bench.timer.pause(bench.now);
    assert_eq!((bench.timeout(), bench.poll_at(25)), (None, None));
    bench.timer.resume(at(35));
    assert_eq!(bench.timeout(), Some(ms(40)));
    let skipped = bench.timer.skipped();
    assert_eq!((skipped.paused, skipped.missed), (3, 0));
    assert_eq!(bench.run_at(40).missed, 3);
}

#[test]
fn s10_resume_in_time_loses_nothing_and_triggers_run_while_paused() {
    let mut bench = Bench::started(delay(10));
    bench.work(0, 0);
    bench.timer.pause(bench.now);
    bench.timer.trigger(at(3)).unwrap();
    bench.work(3, 4);
    assert_eq!(bench.timeout(), None);
    bench.timer.resume(at(5));
    assert_eq!(bench.timeout(), Some(ms(14)));
}

#[test]
fn s11_limits_end_the_timer_normally() {
    let mut by_count = Bench::started(rate(10).with_max_runs(1).unwrap());
    by_count.work(0, 0);
    assert_eq!(by_count.poll(), Some(Output::Stopped(StopReason::MaxRuns)));
    let mut by_clock = Bench::started(rate(10).with_until(Until::At(at(10))));
    by_clock.work(0, 0);
    assert_eq!(by_clock.poll_at(10), Some(Output::Stopped(StopReason::Until)));
    let mut paused = Bench::started(rate(10).with_until(Until::AfterStart(ms(15))));
    paused.timer.pause(paused.now);
    assert_eq!(paused.timeout(), Some(ms(15)));
    assert_eq!(paused.poll_at(15), Some(Output::Stopped(StopReason::Until)));
}

#[test]
fn s11_a_run_in_flight_may_finish_after_the_end() {
    let mut bench = Bench::started(rate(10).with_until(Until::At(at(5))));
    bench.run_at(0);
    assert_eq!((bench.timeout(), bench.poll_at(5)), (Some(ms(5)), None));
    assert!(!bench.timer.accepts_triggers());
    bench.finish_at(9, Outcome::Success);
    assert_eq!(bench.poll(), Some(Output::Stopped(StopReason::Until)));
}

#[test]
fn s4_max_lateness_skips_a_tick_that_comes_too_late() {
    let mut bench = Bench::started(rate(10).with_max_lateness(ms(3)));
    bench.work(0, 0);
    assert_eq!(bench.poll_at(27), None);
    assert_eq!((bench.timeout(), bench.timer.skipped().late), (Some(ms(30)), 2));
    assert_eq!(bench.run_at(33).lateness, ms(3));
}

#[test]
fn r3_backoff_retries_off_the_grid_and_a_success_returns_to_it() {
    let backoff = OnError::backoff(ms(15), ms(100)).unwrap();
    let mut bench = Bench::started(rate(10).with_on_error(backoff));
    bench.run_at(0);
    bench.finish_at(1, Outcome::Failure);
    assert_eq!(bench.timeout(), Some(ms(16)));
    let retry = bench.run_at(16);
    assert_eq!((retry.cause, retry.slot, retry.missed), (Cause::Retry, 0, 1));
    bench.finish_at(17, Outcome::Failure);
    assert_eq!(bench.timeout(), Some(ms(47)));
    bench.work(47, 48);
    assert_eq!(bench.timeout(), Some(ms(50)));
    assert_eq!(bench.timer.skipped().backoff, 4);
}

#[test]
fn r3_stop_and_continue() {
    let mut stop = Bench::started(rate(10));
    stop.run_at(0);
    stop.finish_at(0, Outcome::Failure);
    assert_eq!(stop.poll(), Some(Output::Stopped(StopReason::Failed)));
    let mut go_on = Bench::started(rate(10).with_on_error(OnError::Continue));
    go_on.run_at(0);
    go_on.finish_at(0, Outcome::Failure);
    assert_eq!(go_on.timeout(), Some(ms(10)));
}

#[test]
fn r4_a_run_over_its_time_limit_is_given_up_once() {
    let mut bench = Bench::started(rate(100).with_run_timeout(ms(30)).unwrap());
    bench.run_at(0);
    assert_eq!(bench.timeout(), Some(ms(30)));
    assert_eq!(bench.poll_at(30), Some(Output::Abort(AbortCause::TimedOut)));
    assert_eq!((bench.poll(), bench.timeout()), (None, None));
    bench.finish_at(31, Outcome::Failure);
    assert_eq!(bench.timer.stop_reason(), Some(StopReason::Failed));
}

#[test]
fn d5_all_triggers_during_a_run_share_one_follow_up() {
    let mut bench = Bench::started(delay(10));
    bench.run_at(0);
    assert_eq!([1, 2, 3].map(|t| bench.timer.trigger(at(t))), [Ok(2); 3]);
    bench.finish_at(5, Outcome::Success);
    assert_eq!(bench.work(5, 6).run, 2);
    assert_eq!(bench.timeout(), Some(ms(16)));
}

#[test]
fn l1_start_on_a_running_timer_is_refused() {
    let mut bench = Bench::started(rate(10));
    assert_eq!(bench.timer.start(at(1)), Err(AlreadyRunning));
    bench.timer.cancel(at(1));
    assert_eq!(bench.timer.start(at(1)), Err(AlreadyRunning), "the end was not announced yet");
}

#[test]
fn l2_cancel_gives_the_run_up_and_is_idempotent() {
    let mut bench = Bench::started(rate(10));
    bench.run_at(0);
    bench.timer.cancel(at(1));
    bench.timer.cancel(at(2));
    assert_eq!(bench.poll_at(2), Some(Output::Abort(AbortCause::Stopping)));
    assert_eq!(bench.poll(), None);
    bench.finish_at(3, Outcome::Aborted);
    assert_eq!(bench.poll(), Some(Output::Stopped(StopReason::Cancelled)));
    bench.timer.handle_closed();
    bench.timer.cancel(at(4));
    assert_eq!(bench.timer.stop_reason(), Some(StopReason::Cancelled));
}

#[test]
fn l3_shutdown_drains_or_gives_up_at_the_end_of_grace() {
    let mut patient = Bench::started(rate(10));
    patient.run_at(0);
    patient.timer.drain(at(1), StopReason::Drained, ms(5));
    patient.finish_at(5, Outcome::Success);
    assert_eq!(patient.poll(), Some(Output::Stopped(StopReason::Drained)));
    let mut hasty = Bench::started(rate(10));
    hasty.run_at(0);
    hasty.timer.drain(at(1), StopReason::Drained, ms(5));
    assert_eq!((hasty.timeout(), hasty.poll_at(5)), (Some(ms(6)), None));
    assert_eq!(hasty.poll_at(6), Some(Output::Abort(AbortCause::Stopping)));
    hasty.finish_at(6, Outcome::Aborted);
    assert_eq!(hasty.poll(), Some(Output::Stopped(StopReason::GraceExpired)));
}

#[test]
fn l3_a_second_drain_only_shortens_the_grace() {
    let mut bench = Bench::started(rate(10));
    bench.run_at(0);
    bench.timer.drain(at(0), StopReason::Condition, Duration::MAX);
    bench.timer.drain(at(0), StopReason::Drained, ms(4));
    bench.timer.drain(at(0), StopReason::Drained, ms(9));
    assert_eq!(bench.timeout(), Some(ms(4)));
    assert_eq!(bench.timer.stop_reason(), Some(StopReason::Condition));
    bench.timer.drain(at(1), StopReason::Drained, ms(0));
    assert_eq!(bench.poll(), Some(Output::Abort(AbortCause::Stopping)));
}

#[test]
fn l4_no_run_starts_after_a_stop() {
    for stop in [Timer::cancel, |timer: &mut Timer, now| timer.drain(now, StopReason::Drained, ms(1))] {
        let mut due = Bench::started(rate(10));
        due.timer.handle_timeout(at(0));
        stop(&mut due.timer, at(0));
        assert!(matches!(due.poll(), Some(Output::Stopped(_))));
        assert_eq!(due.timer.trigger(at(1)), Err(NotRunning));
        due.timer.handle_closed();
        assert_eq!((due.poll_at(500), due.timeout()), (None, None));
    }
}

#[test]
fn l7_restart_has_a_fresh_schedule_and_counts_go_on() {
    let mut bench = Bench::started(rate(10).with_initial_delay(ms(3)).with_max_runs(2).unwrap());
    bench.work(3, 3);
    bench.work(13, 13);
    assert_eq!(bench.poll(), Some(Output::Stopped(StopReason::MaxRuns)));
    bench.timer.handle_closed();
    bench.timer.start(at(100)).unwrap();
    let tick = bench.work(103, 103);
    assert_eq!((tick.run, tick.slot, tick.missed), (3, 0, 0));
    assert_eq!(bench.timeout(), Some(ms(113)));
}

#[test]
fn the_gate_lies_between_due_and_run() {
    let mut bench = Bench::started(rate(10));
    bench.timer.handle_timeout(at(0));
    bench.timer.handle_timeout(at(4));
    assert!(!bench.timer.is_busy());
    assert_eq!(bench.run_at(4).lateness, ms(4));
    bench.finish_at(5, Outcome::Success);
    bench.timer.handle_timeout(at(10));
    bench.timer.pause(bench.now);
    assert_eq!(bench.poll_at(11), None, "a pause takes a due run back");
}

#[test]
fn l8_an_abandoned_timer_has_ended() {
    let mut bench = Bench::started(rate(10));
    bench.run_at(0);
    bench.timer.abandon();
    assert_eq!(bench.poll(), Some(Output::Stopped(StopReason::Abandoned)));
    bench.timer.handle_closed();
    assert_eq!((bench.timer.is_running(), bench.timer.stop_reason()), (false, Some(StopReason::Abandoned)));
    assert_eq!((bench.poll_at(99), bench.timeout()), (None, None));
}

#[test]
fn s7_leaving_period_zero_starts_a_grid_at_the_last_tick() {
    let mut bench = Bench::started(rate(0).with_missed(Missed::Burst { max: 99 }));
    for round in 0..50 {
        bench.work(round * 10, round * 10);
    }
    bench.timer.set_period(at(495), ms(10), false);
    assert_eq!(bench.work(495, 495).scheduled, at(490));
    assert_eq!(bench.timeout(), Some(ms(500)));
    assert_eq!(bench.timer.skipped(), Skipped::default());
}

#[test]
fn s7_a_shorter_period_during_a_long_run_does_not_burst() {
    let mut bench = Bench::started(rate(100).with_missed(Missed::Burst { max: 999 }));
    bench.run_at(0);
    bench.timer.set_period(at(355), ms(10), false);
    bench.finish_at(362, Outcome::Success);
    // Three slots of the old grid were missed, and one of the new one, at 360: the run went on over it.
    assert_eq!(bench.timer.skipped().missed, 4);
    assert_eq!(bench.work(362, 362).scheduled, at(360));
    assert_eq!(bench.timeout(), Some(ms(370)));
}

#[test]
fn s10_a_trigger_while_paused_counts_what_passed_as_paused() {
    for keep in [false, true] {
        let schedule = rate(10).with_missed(Missed::Burst { max: 9 }).with_keep_phase(keep);
        let mut bench = Bench::started(schedule);
        bench.work(0, 0);
        bench.timer.pause(at(5));
        bench.timer.trigger(at(55)).unwrap();
        bench.work(55, 57);
        bench.timer.resume(at(58));
        assert_eq!(bench.timeout(), Some(ms(if keep { 60 } else { 65 })));
        let skipped = bench.timer.skipped();
        assert_eq!((skipped.paused, skipped.missed), (5, 0));
    }
}

#[test]
fn s10_a_pause_during_a_run_is_no_overrun_and_does_not_burst() {
    let mut bench = Bench::started(rate(10).with_missed(Missed::Burst { max: 99 }));
    bench.run_at(0);
    bench.timer.pause(at(25));
    bench.timer.resume(at(75));
    bench.finish_at(76, Outcome::Success);
    let skipped = bench.timer.skipped();
    assert_eq!((skipped.overrun, skipped.paused, skipped.missed), (2, 5, 2));
    assert_eq!(bench.timeout(), Some(ms(80)));
}

#[test]
fn d5_a_trigger_that_meets_a_due_run_is_not_lost() {
    let mut paused = Bench::started(rate(10));
    paused.timer.handle_timeout(at(0));
    paused.timer.trigger(at(0)).unwrap();
    paused.timer.pause(at(0));
    assert_eq!(paused.run_at(0).run, 1);
    let mut late = Bench::started(rate(10).with_max_lateness(ms(1)));
    late.timer.handle_timeout(at(0));
    late.timer.trigger(at(5)).unwrap();
    assert_eq!(late.run_at(5).lateness, ms(5));
}

#[test]
fn s5_jitter_on_a_grid_reaches_both_sides_and_stays_off_the_slot() {
    let jitter = Jitter { fraction: Ratio::new(1, 4).unwrap(), seed: 5 };
    let mut bench = Bench::started(rate(1_000).with_jitter(jitter).unwrap());
    bench.work(0, 0);
    let mut offsets: Vec<i64> = Vec::new();
    for slot in 1..=4_000 {
        let due = bench.timer.poll_timeout().unwrap();
        offsets
            .push(i64::try_from(due.as_nanos()).unwrap() - i64::try_from(slot * 1_000_000_000_u64).unwrap());
        bench.now = due;
        bench.timer.handle_timeout(due);
        assert!(matches!(bench.poll(), Some(Output::Run(_))));
        bench.timer.handle_finished(due, Outcome::Success);
    }
    // Even over ±250 ms: a quarter of the draws on each side of each half, on the slot hardly any.
    let share = |low: i64, high: i64| {
        offsets.iter().filter(|o| (low * 1_000_000..high * 1_000_000).contains(o)).count()
    };
    for quarter in [share(-250, -125), share(-125, 0), share(0, 125), share(125, 250)] {
        assert!((900..1_100).contains(&quarter), "{quarter} of 4000");
    }
    assert!(offsets.iter().filter(|offset| **offset == 0).count() < 2);
}

#[test]
fn getters_tell_the_state() {
    let mut timer = Timer::new(rate(10));
    assert!(!timer.was_started() && !timer.is_running() && !timer.accepts_triggers());
    assert_eq!((timer.runs(), timer.now(), timer.next_due()), (0, at(0), None));
    timer.start(at(3)).unwrap();
    assert!(timer.was_started() && timer.is_running() && timer.accepts_triggers() && !timer.is_paused());
    assert_eq!((timer.now(), timer.next_due()), (at(3), Some(at(3))));
    timer.pause(at(4));
    timer.pause(at(5));
    assert!(timer.is_paused());
    timer.resume(at(6));
    timer.handle_timeout(at(13));
    assert_eq!(timer.poll_timeout(), Some(at(13)), "a due run is waited for until it is polled");
    assert!(matches!(timer.poll_output(at(13)), Some(Output::Missed(_) | Output::Run(_))));
    timer.drain(at(14), StopReason::Drained, ms(5));
    assert!(!timer.accepts_triggers() && timer.is_running());
    timer.pause(at(14));
    assert!(timer.is_paused());
}

#[test]
fn s10_a_timer_that_does_not_run_cannot_be_paused() {
    let mut timer = Timer::new(rate(10));
    timer.pause(at(0));
    assert!(!timer.is_paused());
    timer.start(at(0)).unwrap();
    assert_eq!(timer.poll_timeout(), Some(at(0)));
}

#[test]
fn s11_end_by_can_only_bring_the_end_forward() {
    let mut bench = Bench::started(rate(10).with_until(Until::At(at(50))));
    bench.timer.end_by(at(70));
    bench.work(0, 0);
    bench.timer.end_by(at(5));
    assert_eq!(bench.timeout(), Some(ms(5)));
    assert_eq!(bench.poll_at(5), Some(Output::Stopped(StopReason::Until)));
}

#[test]
fn s11_a_run_that_ends_after_the_end_ends_the_timer_without_a_timeout_in_between() {
    let mut bench = Bench::started(rate(10).with_until(Until::At(at(5))));
    bench.run_at(0);
    bench.finish_at(7, Outcome::Success);
    assert_eq!(bench.poll(), Some(Output::Stopped(StopReason::Until)));
}

#[test]
fn r2_an_exhausted_target_ends_the_timer() {
    let mut bench = Bench::started(rate(10));
    bench.run_at(0);
    bench.finish_at(1, Outcome::Exhausted);
    assert_eq!(bench.poll(), Some(Output::Stopped(StopReason::Exhausted)));
}

#[test]
fn r4_the_time_limit_holds_while_draining() {
    let mut bench = Bench::started(rate(10).with_run_timeout(ms(20)).unwrap());
    bench.run_at(0);
    bench.timer.drain(at(1), StopReason::Drained, ms(500));
    assert_eq!(bench.timeout(), Some(ms(20)));
    assert_eq!(bench.poll_at(20), Some(Output::Abort(AbortCause::TimedOut)));
    bench.finish_at(21, Outcome::Failure);
    assert_eq!(bench.poll(), Some(Output::Stopped(StopReason::Failed)));
}

#[test]
fn l2_a_failure_of_a_cancelled_run_does_not_change_why_it_ended() {
    let mut bench = Bench::started(rate(10));
    bench.run_at(0);
    bench.timer.cancel(at(1));
    bench.finish_at(2, Outcome::Failure);
    assert_eq!(bench.poll_at(2), Some(Output::Stopped(StopReason::Cancelled)));
}

#[test]
fn r3_an_aborted_run_is_no_failure_and_starts_no_backoff() {
    let backoff = OnError::backoff(ms(15), ms(100)).unwrap();
    let mut bench = Bench::started(rate(10).with_on_error(backoff));
    bench.run_at(0);
    bench.finish_at(1, Outcome::Failure);
    bench.run_at(16);
    bench.finish_at(16, Outcome::Aborted);
    assert_eq!(bench.timeout(), Some(ms(20)), "back on the grid");
}

#[test]
fn s10_a_fixed_delay_wait_that_ends_in_a_pause_is_one_skipped_slot() {
    let mut bench = Bench::started(delay(10));
    bench.work(0, 0);
    bench.timer.pause(at(1));
    bench.timer.resume(at(10));
    assert_eq!(bench.timeout(), Some(ms(10)), "due at this very moment: nothing has passed");
    bench.timer.pause(at(10));
    bench.timer.resume(at(95));
    assert_eq!(bench.timeout(), Some(ms(105)));
    assert_eq!(bench.timer.skipped().paused, 1);
    assert_eq!(bench.work(105, 105).missed, 1);
}

#[test]
fn s7_a_period_set_in_the_wait_for_a_retry_counts_from_the_last_slot() {
    let backoff = OnError::backoff(ms(25), ms(25)).unwrap();
    let mut bench = Bench::started(rate(10).with_on_error(backoff));
    bench.run_at(0);
    bench.finish_at(0, Outcome::Failure);
    bench.timer.set_period(at(12), ms(100), true);
    assert_eq!(bench.timeout(), Some(ms(25)), "a retry is not rearmed");
    bench.work(25, 26);
    assert_eq!(bench.timeout(), Some(ms(110)));
}

#[test]
fn s4_skipped_slots_add_up() {
    let skipped = Skipped { overrun: 1, paused: 2, late: 4, backoff: 8, missed: 100 };
    assert_eq!(skipped.total(), 15);
    assert_eq!(Skipped { overrun: u64::MAX, ..skipped }.total(), u64::MAX);
}

#[test]
fn e1_refusals_have_words() {
    use alloc::string::ToString;
    assert_eq!(AlreadyRunning.to_string(), "the timer is already running");
    assert_eq!(NotRunning.to_string(), "the timer is not running");
    assert_eq!(StopReason::MaxRuns.to_string(), "it made all its runs");
}

#[test]
fn s4_a_burst_runs_what_is_not_too_late_yet() {
    let schedule = rate(10).with_missed(Missed::Burst { max: 9 }).with_max_lateness(ms(12));
    let mut bench = Bench::started(schedule);
    bench.work(0, 35);
    // Slots 1 and 2 are 25 and 15 ms late, which is too much; slot 3 is not.
    let tick = bench.work(35, 35);
    assert_eq!((tick.slot, tick.lateness, tick.missed), (3, ms(5), 2));
    assert_eq!((bench.timeout(), bench.timer.skipped().late), (Some(ms(40)), 2));
}

#[test]
fn l4_commands_on_a_timer_that_has_ended_book_nothing() {
    let mut bench = Bench::started(rate(10));
    bench.work(0, 0);
    bench.timer.pause(at(1));
    bench.timer.cancel(at(2));
    bench.timer.handle_closed();
    assert!(!bench.timer.is_paused());
    bench.timer.resume(at(500));
    bench.timer.pause(at(600));
    bench.timer.set_period(at(700), ms(20), true);
    assert_eq!((bench.poll_at(800), bench.timeout()), (None, None));
    assert_eq!((bench.timer.skipped(), bench.timer.schedule().period()), (Skipped::default(), ms(20)));
    bench.timer.start(at(900)).unwrap();
    bench.work(900, 900);
    assert_eq!(bench.timeout(), Some(ms(920)));
}
