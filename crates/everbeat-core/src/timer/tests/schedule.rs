//! S: when runs are due, and what becomes of those that cannot take place.

use super::*;

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
fn s9_jitter_brings_nothing_back_from_past_the_end_of_time() {
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    let endless = [Schedule::fixed_rate(Duration::MAX), Schedule::fixed_delay(Duration::MAX)];
    // Slot 6 would be due after six centuries, which is more than there are.
    let schedules = endless.into_iter().chain([Schedule::fixed_rate(century)]);
    for (seed, schedule) in (0..50).flat_map(|seed| schedules.clone().map(move |schedule| (seed, schedule))) {
        let mut timer = Timer::new(schedule.with_jitter(Jitter { fraction: Ratio::ONE, seed }).unwrap());
        timer.start(at(0)).unwrap();
        let mut runs = 0;
        while let Some(due) = timer.poll_timeout() {
            timer.handle_timeout(due);
            assert!(matches!(timer.poll_output(due), Some(Output::Run(_))), "{timer:?}");
            timer.handle_finished(due, Outcome::Success);
            runs += 1;
            assert!(runs <= 6, "{timer:?}");
        }
        assert_eq!(runs, if timer.schedule().period() == century { 6 } else { 1 });
    }
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
fn s10_pausing_a_timer_that_is_about_to_end_invents_no_slots() {
    let mut bench = Bench::started(rate(10));
    bench.work(0, 0);
    bench.run_at(10);
    bench.timer.drain(at(10), StopReason::Drained, ms(99));
    bench.timer.set_period(at(10), ms(1), false);
    bench.timer.pause(at(10));
    bench.timer.resume(at(10));
    let skipped = bench.timer.skipped();
    assert_eq!((skipped.total(), skipped.missed), (0, 0));
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
    let tick = bench.run_at(33);
    assert_eq!((tick.lateness, tick.scheduled, tick.started()), (ms(3), at(30), at(33)));
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
fn s5_s7_a_trigger_misses_no_slot_whose_drawn_time_is_still_to_come() {
    let jitter = Jitter { fraction: Ratio::new(1, 2).unwrap(), seed: 66 };
    let mut bench = Bench::started(rate(20).with_jitter(jitter).unwrap());
    bench.work(0, 0);
    let due = bench.timer.next_due().unwrap();
    bench.timer.set_period(at(16), ms(4), false);
    assert_eq!(bench.timer.next_due(), Some(due));
    assert!(due > at(24), "{due:?} is of no use here");
    bench.timer.trigger(at(24)).unwrap();
    let tick = bench.run_at(24);
    assert_eq!((tick.slot, tick.missed, tick.cause), (1, 0, Cause::Trigger));
    assert_eq!(bench.timer.skipped(), Skipped::default());
}

#[test]
fn s5_s10_the_slot_that_a_trigger_has_taken_does_not_pass_in_a_pause() {
    let jitter = Jitter { fraction: Ratio::new(1, 2).unwrap(), seed: 66 };
    let commands: [fn(&mut Timer); 2] =
        [|timer| timer.resume(at(24)), |timer| timer.set_period(at(24), ms(4), false)];
    for (command, keep_phase) in commands.into_iter().flat_map(|command| [(command, false), (command, true)])
    {
        let schedule = rate(20).with_jitter(jitter).unwrap().with_keep_phase(keep_phase);
        let mut bench = Bench::started(schedule);
        bench.work(0, 0);
        bench.timer.set_period(at(16), ms(2), false);
        bench.timer.pause(at(16));
        bench.timer.trigger(at(24)).unwrap();
        command(&mut bench.timer);
        let tick = bench.run_at(24);
        // One that keeps the phase takes none, and what it has not taken has passed.
        let paused = if keep_phase { 2 } else { 0 };
        assert_eq!((tick.slot, tick.missed, tick.cause), (1 + paused, paused, Cause::Trigger));
        assert_eq!(bench.timer.skipped(), Skipped { paused, ..Skipped::default() });
    }
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
fn s7_a_shorter_period_for_a_slot_that_is_late_invents_no_slots() {
    for missed in [Missed::Skip, Missed::Delay, Missed::Burst { max: 999 }] {
        let mut bench = Bench::started(rate(100).with_missed(missed));
        bench.work(0, 0);
        bench.timer.set_period(at(355), ms(1), false);
        let tick = bench.work(355, 355);
        assert_eq!((tick.slot, tick.scheduled, tick.missed), (1, at(100), 0));
        assert_eq!(bench.timeout(), Some(ms(356)));
        assert_eq!(bench.timer.skipped(), Skipped::default());
    }
}

#[test]
fn s7_s10_a_period_set_during_a_pause_counts_what_passed_as_paused() {
    // Slots 1 to 3 have passed when the period changes; slot 4 is at 40 ms, or with `rearm` where the
    // new period puts it after slot 3.
    let cases = [
        // period, rearm, resumed at, paused in all, next due
        (100, false, 36, 3, 40),
        (100, true, 36, 3, 130),
        (4, false, 36, 3, 40),
        (4, true, 36, 3, 38),
        (4, false, 47, 5, 48),
        (4, true, 47, 6, 50),
    ];
    for (period, rearm, resumed, paused, next) in cases {
        let mut bench = Bench::started(rate(10).with_missed(Missed::Burst { max: 9 }));
        bench.work(0, 0);
        bench.timer.pause(at(5));
        bench.timer.set_period(at(35), ms(period), rearm);
        assert_eq!((bench.timeout(), bench.timer.skipped().paused), (None, 3));
        bench.timer.resume(at(resumed));
        assert_eq!(bench.timeout(), Some(ms(next)), "{period} ms, rearm {rearm}, resumed at {resumed}");
        let tick = bench.work(next, next);
        assert_eq!((tick.slot, tick.missed), (paused + 1, paused));
        assert_eq!(bench.timeout(), Some(ms(next + period)));
        assert_eq!(bench.timer.skipped(), Skipped { paused, ..Skipped::default() });
    }
}

#[test]
fn s7_s10_a_period_set_in_a_pause_during_a_run_counts_what_passed_as_paused() {
    for rearm in [false, true] {
        let mut bench = Bench::started(rate(10).with_missed(Missed::Burst { max: 9 }));
        bench.run_at(0);
        bench.timer.pause(at(15));
        bench.timer.set_period(at(35), ms(100), rearm);
        bench.timer.resume(at(36));
        bench.finish_at(37, Outcome::Success);
        let skipped = bench.timer.skipped();
        assert_eq!((skipped.overrun, skipped.paused, skipped.missed), (1, 2, 1));
        assert_eq!(bench.timeout(), Some(ms(130)));
    }
}

#[test]
fn r3_a_failure_that_changes_nothing_is_no_retry_whatever_went_wrong_before() {
    let mut bench = Bench::started(rate(10).with_on_error(OnError::Continue));
    bench.work(0, 25);
    bench.run_at(30);
    bench.finish_at(31, Outcome::Failure);
    assert_eq!(bench.timeout(), Some(ms(40)));
    let tick = bench.run_at(40);
    assert_eq!((tick.cause, tick.slot), (Cause::Schedule, 4));
}

#[test]
fn s8_without_a_grid_a_trigger_takes_the_next_slot_whether_it_keeps_the_phase_or_not() {
    for keep in [false, true] {
        let mut bench = Bench::started(delay(10).with_keep_phase(keep));
        bench.work(0, 0);
        bench.timer.trigger(at(4)).unwrap();
        let tick = bench.work(4, 5);
        assert_eq!((tick.slot, tick.cause, bench.timeout()), (1, Cause::Trigger, Some(ms(15))));
        assert_eq!(bench.work(15, 15).slot, 2);
    }
}

#[test]
fn s10_what_nobody_came_to_run_before_a_pause_is_due_to_the_pause() {
    let mut bench = Bench::started(rate(10));
    bench.work(0, 0);
    bench.timer.pause(at(35));
    assert_eq!(bench.timer.skipped(), Skipped::default());
    bench.timer.resume(at(36));
    assert_eq!((bench.timer.skipped().paused, bench.timer.skipped().total()), (3, 3));
    assert_eq!(bench.timeout(), Some(ms(40)));
}

#[test]
fn s10_a_trigger_after_the_end_of_a_fixed_delay_wait_loses_its_slot_to_the_pause_only() {
    // Paused, when the trigger comes, how many slots were lost to the pause.
    for (paused, asked, lost) in [(true, 9, 0), (true, 10, 0), (true, 11, 1), (true, 99, 1), (false, 99, 0)] {
        let mut bench = Bench::started(delay(10));
        bench.work(0, 0);
        if paused {
            bench.timer.pause(at(1));
        }
        bench.timer.trigger(at(asked)).unwrap();
        let tick = bench.work(asked, asked);
        assert_eq!((tick.slot, tick.missed), (1 + lost, lost), "paused {paused}, at {asked} ms");
        assert_eq!(bench.timer.skipped(), Skipped { paused: lost, ..Skipped::default() });
    }
}

/// What the slots of a burst wait for has not run yet: the period counts from the last slot before them.
#[test]
fn s7_a_period_rearmed_before_a_burst_counts_from_the_last_slot() {
    let mut bench = Bench::started(rate(100).with_missed(Missed::Burst { max: 99 }));
    bench.run_at(0);
    bench.timer.set_period(at(355), ms(10), false);
    bench.finish_at(372, Outcome::Success);
    assert_eq!(bench.timeout(), Some(ms(360)));
    bench.timer.set_period(at(372), ms(100), true);
    assert_eq!(bench.timeout(), Some(ms(400)));
}

#[test]
fn s10_what_passed_in_the_wait_for_a_retry_before_a_pause_is_not_due_to_the_pause() {
    let backoff = OnError::backoff(ms(50), ms(50)).unwrap();
    let mut bench = Bench::started(rate(10).with_on_error(backoff));
    bench.run_at(0);
    bench.finish_at(0, Outcome::Failure);
    bench.timer.pause(at(25));
    bench.timer.resume(at(45));
    let skipped = bench.timer.skipped();
    assert_eq!((skipped.backoff, skipped.paused, skipped.total()), (2, 2, 4));
}

/// A timer of 100 ms with jitter, whose period was changed at 50 ms and whose slot 1 has run since; and when that was
/// drawn to come.
fn changed_while_it_waits_for_a_draw(seed: u64, period: Duration) -> (Bench, Duration) {
    let jitter = Jitter { fraction: Ratio::new(1, 4).unwrap(), seed };
    let mut bench = Bench::started(rate(100).with_jitter(jitter).unwrap());
    bench.work(0, 0);
    let due = bench.timeout().unwrap();
    assert!((ms(75)..=ms(125)).contains(&due), "seed {seed}");
    bench.timer.set_period(at(50), period, false);
    bench.now = Instant::from_elapsed(due);
    bench.timer.handle_timeout(bench.now);
    assert!(matches!(bench.poll(), Some(Output::Run(_))));
    bench.timer.handle_finished(bench.now, Outcome::Success);
    (bench, due)
}

#[test]
fn s6_s7_what_follows_without_a_distance_comes_when_the_slot_was_drawn_to() {
    for seed in 0..12 {
        let (bench, due) = changed_while_it_waits_for_a_draw(seed, ms(0));
        assert_eq!(bench.timeout(), Some(due), "seed {seed}");
    }
}

#[test]
fn s5_s7_another_period_counts_from_where_the_slot_was_before_its_jitter() {
    for seed in 0..12 {
        let (bench, _) = changed_while_it_waits_for_a_draw(seed, ms(120));
        assert_eq!(bench.timer.grid().time_of(2), at(220), "seed {seed}");
        assert!((ms(190)..=ms(250)).contains(&bench.timeout().unwrap()), "seed {seed}");
    }
}

/// Where slots have no distance the next one is now, whatever holds it up; from there another period counts.
#[test]
fn s6_s7_a_period_after_none_counts_from_now() {
    // A pause.
    let mut paused = Bench::started(rate(0));
    paused.work(0, 0);
    paused.timer.pause(at(3));
    paused.timer.set_period(at(7), ms(10), false);
    paused.timer.resume(at(7));
    assert_eq!([paused.work(7, 7).scheduled, paused.work(17, 17).scheduled], [at(7), at(17)]);
    // A trigger that has not been taken up.
    let mut triggered = Bench::started(rate(0).with_keep_phase(true));
    triggered.work(0, 0);
    triggered.timer.trigger(at(3)).unwrap();
    triggered.timer.set_period(at(7), ms(10), false);
    assert_eq!(triggered.work(7, 7).cause, Cause::Trigger);
    assert_eq!(triggered.work(7, 7).cause, Cause::Schedule);
    assert_eq!(triggered.timeout(), Some(ms(17)));
}

#[test]
fn s7_d5_a_trigger_that_has_not_been_taken_up_stands_when_the_wait_is_set_anew() {
    let mut bench = Bench::started(rate(10));
    bench.work(0, 0);
    bench.timer.trigger(at(3)).unwrap();
    bench.timer.set_period(at(4), ms(20), true);
    assert_eq!(bench.work(4, 4).cause, Cause::Trigger);
}
