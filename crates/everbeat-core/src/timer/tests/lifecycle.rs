//! R, D, L: runs, failures, triggers, starts and stops.

use super::*;

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
fn l3_a_run_that_nobody_could_give_up_in_time_is_over_its_grace() {
    let ends = [
        (6, Outcome::Success, StopReason::Drained),
        (7, Outcome::Success, StopReason::GraceExpired),
        (7, Outcome::Failure, StopReason::Failed),
    ];
    for (end, outcome, reason) in ends {
        let mut bench = Bench::started(rate(10));
        bench.run_at(0);
        bench.timer.drain(at(1), StopReason::Drained, ms(5));
        bench.finish_at(end, outcome);
        assert_eq!(bench.poll(), Some(Output::Stopped(reason)));
    }
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
fn l7_what_was_skipped_before_a_restart_stays_counted_and_is_not_told_again() {
    let mut bench = Bench::started(rate(10));
    bench.work(0, 35);
    bench.timer.cancel(at(36));
    bench.timer.handle_closed();
    let skipped = bench.timer.skipped();
    assert_eq!((skipped.overrun, skipped.missed), (3, 3));
    bench.timer.start(at(100)).unwrap();
    assert_eq!(bench.work(100, 115).missed, 0);
    assert_eq!(bench.timer.skipped(), Skipped { overrun: 4, missed: 4, ..Skipped::default() });
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
fn r2_an_exhausted_target_ends_the_timer() {
    let mut bench = Bench::started(rate(10));
    bench.run_at(0);
    bench.finish_at(1, Outcome::Exhausted);
    assert_eq!(bench.poll(), Some(Output::Stopped(StopReason::Exhausted)));
}

/// Commands of one moment are one after the other, and what time brings at that moment comes after all of them.
#[test]
fn l5_of_several_shutdowns_at_the_moment_of_the_time_limit_the_least_patient_counts() {
    for patient in 0..3 {
        let mut bench = Bench::started(rate(100).with_run_timeout(ms(40)).unwrap());
        bench.run_at(0);
        for _ in 0..patient {
            bench.timer.drain(at(40), StopReason::Drained, ms(1_000));
        }
        bench.timer.drain(at(40), StopReason::Drained, ms(0));
        assert_eq!(bench.poll_at(40), Some(Output::Abort(AbortCause::Stopping)), "after {patient}");
        bench.finish_at(40, Outcome::Aborted);
        assert_eq!(bench.poll(), Some(Output::Stopped(StopReason::GraceExpired)));
    }
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
fn e1_refusals_have_words() {
    use alloc::string::ToString;
    assert_eq!(AlreadyRunning.to_string(), "the timer is already running");
    assert_eq!(NotRunning.to_string(), "the timer is not running");
    assert_eq!(StopReason::MaxRuns.to_string(), "it made all its runs");
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

/// A shutdown without any grace gives the run up in the same moment, and whoever drives the timer learns of it later.
#[test]
fn l3_a_cancel_right_after_a_shutdown_without_grace_is_what_ends_it() {
    for (told, reason) in [(false, StopReason::Cancelled), (true, StopReason::GraceExpired)] {
        let mut bench = Bench::started(rate(10));
        bench.run_at(0);
        bench.timer.drain(at(1), StopReason::Drained, ms(0));
        if told {
            assert_eq!(bench.poll(), Some(Output::Abort(AbortCause::Stopping)));
        }
        bench.timer.cancel(at(1));
        assert_eq!(bench.timer.stop_reason(), Some(reason));
    }
}

#[test]
fn d1_runs_are_counted_over_all_starts() {
    let mut bench = Bench::started(rate(10));
    assert_eq!(bench.timer.runs(), 0);
    bench.run_at(0);
    assert_eq!(bench.timer.runs(), 1);
    bench.finish_at(0, Outcome::Success);
    bench.timer.cancel(at(1));
    assert_eq!(bench.poll(), Some(Output::Stopped(StopReason::Cancelled)));
    bench.timer.handle_closed();
    bench.timer.start(at(20)).unwrap();
    bench.run_at(20);
    assert_eq!(bench.timer.runs(), 2);
}
