//! Timers in a few bytes: where the short cuts begin and end.

use super::*;
use crate::Past;

const NOTHING: &Past = &Past::NOTHING;

fn at_rest(schedule: &Schedule) -> Rested {
    let due = at(3).add_nanos(schedule.initial_delay_nanos);
    Rested::start(schedule, due).unwrap()
}

/// Schedules that take the whole machine.
fn others() -> [Schedule; 4] {
    let jitter = Jitter { fraction: Ratio::from_bits(1), seed: 0 };
    [
        rate(10).with_jitter(jitter).unwrap(),
        rate(10).with_run_timeout(ms(1)).unwrap(),
        rate(10).with_until(Until::At(at(9))),
        rate(10).with_until(Until::AfterStart(ms(9))),
    ]
}

#[test]
fn a_start_at_rest_is_that_of_the_machine() {
    for schedule in
        [rate(10), delay(10), rate(10).with_initial_delay(ms(7)), Schedule::fixed_rate(Duration::MAX)]
    {
        let mut timer = Timer::new(schedule.clone());
        assert_eq!(timer.rest(), None);
        timer.start(at(3)).unwrap();
        let rested = at_rest(&schedule);
        assert_eq!(timer.rest(), Some((rested, Past::NOTHING)));
        assert_eq!((Some(rested.due()), rested.runs()), (timer.next_due(), 0));
        assert_eq!(rested, Rested::new(rested.due(), 0, 0));
    }
    assert_eq!(Rested::start(&rate(10), Instant::NEVER), None);
    for schedule in others() {
        assert!(!schedule.can_rest() && Rested::start(&schedule, at(3)).is_none(), "{schedule:?}");
        let mut timer = Timer::new(schedule);
        timer.start(at(3)).unwrap();
        assert_eq!(timer.rest(), None);
    }
}

#[test]
fn a_run_begins_at_rest_when_it_is_due_and_not_too_late() {
    let schedule = rate(10).with_max_lateness(ms(4));
    let rested = at_rest(&schedule);
    for (now, begins) in [(0, false), (2, false), (3, true), (7, true), (8, false), (99, false)] {
        let mut begun = rested;
        let tick = begun.begin(&schedule, &mut NOTHING.clone(), at(now));
        assert_eq!(tick.is_some(), begins, "at {now} ms");
        let waits = Rested::new(at(3), 0, 0);
        assert_eq!(begun, if begins { waits.begun() } else { waits });
        assert_eq!((begun.runs(), begun.is_in_run()), (begins.into(), begins));
        assert!(waits.begun().begun().is_in_run());
        if let Some(tick) = tick {
            let Tick { run, slot, missed, cause, .. } = tick;
            assert_eq!((run, slot, missed, cause), (1, 0, 0, Cause::Schedule));
            assert_eq!((tick.scheduled, tick.lateness), (at(3), ms(now - 3)));
        }
    }
    let plain = rate(10);
    assert!(Rested::new(at(3), 0, 0).begin(&plain, &mut NOTHING.clone(), Instant::NEVER).is_none());
    assert!(
        Rested::new(at(3), u32::MAX - 1, 0).begin(&plain, &mut NOTHING.clone(), at(3)).is_none(),
        "there is no room for more"
    );
    let mut last = Rested::new(at(3), u32::MAX - 2, 0);
    assert!(last.begin(&plain, &mut NOTHING.clone(), at(3)).is_some() && last.finish(&plain, NOTHING, at(4)));
    let mut timer = Timer::from_rest(Arc::new(plain), last, NOTHING);
    assert_eq!(timer.rest().map(|(rested, _)| rested.runs()), Some(u32::MAX - 1));
    timer.handle_timeout(at(13));
    assert!(matches!(timer.poll_output(at(13)), Some(Output::Run(Tick { run: 0xFFFF_FFFF, .. }))));
    timer.handle_finished(at(13), Outcome::Success);
    assert_eq!((timer.next_due(), timer.rest()), (Some(at(23)), None));
}

#[test]
fn a_run_ends_at_rest_if_the_next_one_is_still_to_come() {
    // On a grid the next slot may not be at this very moment.
    for (schedule, now, next) in [
        (rate(10), 12, Some(13)),
        (rate(10), 13, None),
        (rate(10), 5, Some(13)),
        (rate(10), 14, None),
        (delay(10), 14, Some(24)),
        (rate(0), 3, Some(3)),
        (rate(0), 14, Some(14)),
        (delay(0), 14, Some(14)),
        // More than two seconds after it was due takes more than the few bytes.
        (rate(10_000), 2_151, None),
        (rate(0), 2_151, None),
        (rate(10_000), 2_150, Some(10_003)),
        (delay(0), 5_000, Some(5_000)),
        (rate(10).with_max_runs(1).unwrap(), 4, None),
        (rate(10).with_max_runs(2).unwrap(), 4, Some(13)),
        (Schedule::fixed_rate(Duration::MAX), 4, None),
        (Schedule::fixed_delay(Duration::MAX), 4, None),
    ] {
        let mut rested = at_rest(&schedule);
        rested.begin(&schedule, &mut NOTHING.clone(), at(3)).unwrap();
        assert_eq!(rested.finish(&schedule, NOTHING, at(now)), next.is_some(), "{schedule:?} at {now} ms");
        assert_eq!((rested.due(), rested.runs()), (at(next.unwrap_or(3)), 1));
        assert_eq!(rested.is_in_run(), next.is_none());
        if next.is_some() {
            assert_eq!(rested.last_end(&schedule), at(now));
        }
    }
}

/// The machine knows when the last run was due, but not when it ended: that can be told.
#[test]
fn the_end_of_the_last_run_is_remembered_for_two_seconds() {
    for (schedule, due) in [(rate(10_000), 10_000), (rate(0), 5), (delay(10), 15), (delay(0), 5)] {
        let mut bench = Bench::started(schedule.clone());
        bench.work(0, 5);
        let (rested, past) = bench.timer.rest().unwrap();
        assert_eq!(rested.due(), at(due));
        let told = rested.with_last_end(&schedule, at(5)).unwrap();
        assert_eq!(told.last_end(&schedule), at(5), "{schedule:?}");
        let machine = Timer::from_rest(Arc::new(schedule), told, &past);
        assert_eq!(machine.rest().map(|(rested, _)| rested.due()), Some(at(due)));
    }
    for (end, rests) in [(4, false), (5, true), (6, false)] {
        let told = Rested::new(at(5), 1, 0).with_last_end(&rate(0), at(end));
        assert_eq!(told.is_some(), rests, "it waits from the end");
    }
    let mut timer = Timer::new(rate(0).with_initial_delay(ms(9_000)));
    timer.start(at(0)).unwrap();
    assert_eq!(timer.rest(), Some((Rested::new(at(9_000), 0, 0), Past::NOTHING)));
    let rested = Rested::new(at(10_000), 1, 0);
    assert!(rested.with_last_end(&rate(10_000), at(2_148)).is_none());
    assert!(rested.with_last_end(&rate(10_000), at(2_147)).is_some());
    // A last value that is older than the last run's due time, as after a failure, or after a pause.
    let rested = Rested::new(at(30), 3, 0);
    for schedule in [rate(10), delay(10)] {
        assert!(rested.with_last_end(&schedule, at(20)).is_some());
        assert!(rested.with_last_end(&schedule, at(19)).is_none());
        assert_eq!(rested.with_last_end(&schedule, at(21)).is_some(), schedule.is_grid());
    }
}

/// What it has missed, and runs that were no slots of this start, are told apart from what it comes down to.
#[test]
fn a_timer_rests_again_with_its_past_beside_it() {
    type Story = fn(&mut Bench);
    let overrun: Story = |bench| {
        bench.work(0, 35);
        let due = bench.timer.next_due().unwrap().as_nanos() / 1_000_000;
        assert_eq!(bench.work(due, due + 1).missed, 3);
    };
    let too_late: Story = |bench| {
        bench.work(0, 0);
        assert_eq!(bench.poll_at(27), None);
        assert_eq!(bench.work(30, 31).missed, 2);
    };
    let retried: Story = |bench| {
        bench.run_at(0);
        bench.finish_at(1, Outcome::Failure);
        assert_eq!(bench.timer.rest(), None);
        bench.work(2, 3);
    };
    let triggered: Story = |bench| {
        bench.work(0, 0);
        bench.timer.trigger(at(4)).unwrap();
        bench.work(4, 4);
    };
    let restarted: Story = |bench| {
        bench.work(0, 0);
        bench.timer.cancel(at(5));
        bench.timer.handle_closed();
        bench.timer.start(at(7)).unwrap();
        assert_eq!(bench.timer.rest(), None, "it waits for a first run again");
        bench.work(7, 7);
    };
    let backoff = rate(10).with_on_error(OnError::backoff(ms(1), ms(1)).unwrap());
    let two_runs = rate(10).with_max_runs(2).unwrap();
    let skipped = |overrun, late| Skipped { overrun, late, missed: overrun + late, ..Skipped::default() };
    for (schedule, story, next_slot, skipped) in [
        (rate(10), overrun, 5, skipped(3, 0)),
        (rate(10).with_missed(Missed::Delay), overrun, 5, skipped(3, 0)),
        (rate(10).with_max_lateness(ms(5)), too_late, 4, skipped(0, 2)),
        (backoff, retried, 1, skipped(0, 0)),
        (rate(10).with_keep_phase(true), triggered, 1, skipped(0, 0)),
        (rate(10), triggered, 2, skipped(0, 0)),
        (two_runs, restarted, 1, skipped(0, 0)),
    ] {
        let mut bench = Bench::started(schedule.clone());
        story(&mut bench);
        let (mut rested, mut past) = bench.timer.rest().expect("it waits, and nothing is still to be told");
        let runs = bench.timer.runs();
        assert_eq!((past.skipped(), bench.timer.skipped()), (skipped, skipped), "{schedule:?}");
        let mut machine = Timer::from_rest(Arc::new(schedule.clone()), rested, &past);
        assert_eq!((machine.rest(), machine.skipped()), (Some((rested, past)), skipped));
        let due = rested.due();
        machine.handle_timeout(due);
        let Some(Output::Run(tick)) = machine.poll_output(due) else { panic!("{schedule:?}") };
        assert_eq!((tick.run, tick.slot, tick.missed), (runs + 1, next_slot, 0));
        assert_eq!(rested.begin(&schedule, &mut past, due), Some(tick));
        // Runs of an earlier start do not count for the limit of this one.
        assert_eq!(rested.finish(&schedule, &past, due), schedule.max_runs == u64::MAX);
        machine.handle_finished(due, Outcome::Success);
        assert_eq!(machine.stop_reason().is_none(), schedule.max_runs == u64::MAX);
    }
}

/// What comes out is what the machine would be that was one all the time.
#[test]
fn s4_a_run_after_which_slots_were_missed_ends_at_rest() {
    let (ten, long) = (rate(10), rate(10_000));
    for (schedule, end, missed_and_next) in [
        (ten.clone(), 9, None),
        // A slot at the end of the run has not passed, and is for the machine.
        (ten.clone(), 10, None),
        (ten.clone(), 11, Some((1, 20))),
        (ten.clone(), 20, None),
        (ten.clone(), 39, Some((3, 40))),
        (ten.clone().with_missed(Missed::Delay), 15, Some((1, 25))),
        (ten.clone().with_missed(Missed::Burst { max: 1 }), 15, None),
        (ten.clone().with_missed(Missed::Burst { max: 0 }), 15, Some((1, 20))),
        (ten.clone().with_max_runs(1).unwrap(), 15, None),
        (ten.with_max_runs(2).unwrap(), 15, Some((1, 20))),
        (delay(10), 15, None),
        // There is room for two seconds since the slot before.
        (long.clone(), 12_147, Some((1, 20_000))),
        (long, 12_148, None),
    ] {
        let mut rested = Rested::start(&schedule, at(0)).unwrap();
        let mut past = Past::NOTHING;
        rested.begin(&schedule, &mut past, at(0)).unwrap();
        let before = (rested, past);
        let batch = rested.finish_late(&Arc::new(schedule.clone()), &mut past, at(end));
        let seen = batch.map(|batch| (batch.missed, rested.due()));
        let expected = missed_and_next.map(|(missed, next)| (missed, at(next)));
        assert_eq!(seen, expected, "{schedule:?} at {end} ms");
        if batch.is_none() {
            assert_eq!((rested, past), before);
            continue;
        }
        let mut bench = Bench::started(schedule.clone());
        bench.work(0, end);
        assert_eq!(bench.poll(), None);
        let (machines, behind) = bench.timer.rest().unwrap();
        assert_eq!(machines.with_last_end(&schedule, at(end)), Some(rested));
        assert_eq!((behind, rested.last_end(&schedule)), (past, at(end)));
    }
}

/// What was dropped is told by the next run, and by none after that.
#[test]
fn s12_a_timer_at_rest_remembers_what_it_has_dropped_since_its_last_run() {
    let schedule = rate(10);
    let mut bench = Bench::started(schedule.clone());
    bench.work(0, 35);
    assert_eq!(bench.poll(), None);
    let (mut rested, mut past) = bench.timer.rest().unwrap();
    let mut machine = Timer::from_rest(Arc::new(schedule.clone()), rested, &past);
    assert_eq!(machine.rest(), Some((rested, past)));
    for (due, missed) in [(40, 3), (50, 0)] {
        machine.handle_timeout(at(due));
        let Some(Output::Run(tick)) = machine.poll_output(at(due)) else { panic!("no run at {due} ms") };
        assert_eq!(tick.missed, missed);
        assert_eq!(rested.begin(&schedule, &mut past, at(due)), Some(tick));
        assert!(rested.finish(&schedule, &past, at(due)));
        machine.handle_finished(at(due), Outcome::Success);
        assert_eq!(machine.rest(), Some((rested, past)));
    }
}

/// The slots that a burst still has to run were counted already.
#[test]
fn a_timer_in_the_middle_of_a_burst_does_not_rest() {
    let mut bench = Bench::started(rate(10).with_missed(Missed::Burst { max: 9 }));
    bench.work(0, 35);
    for (start, end, rests) in [(35, 35, false), (35, 35, false), (35, 35, true), (40, 40, true)] {
        bench.work(start, end);
        assert_eq!(bench.timer.rest().is_some(), rests, "at {start} ms");
    }
    assert_eq!(bench.timer.skipped().missed, 3);
}

/// What a timer at rest could not remember keeps it from going to rest.
#[test]
fn a_timer_with_more_to_remember_does_not_rest() {
    let cases: [fn(&mut Bench); 6] = [
        |bench| bench.timer.pause(at(1)),
        |bench| bench.timer.end_by(at(99)),
        |bench| assert_eq!(bench.timer.trigger(at(1)), Ok(2)),
        |bench| _ = bench.work(10, 35), // a batch is still to be told
        |bench| bench.timer.set_period(at(1), ms(7), false),
        |bench| {
            bench.timer.cancel(at(1));
            bench.timer.handle_closed();
            bench.timer.start(at(2)).unwrap();
        },
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let mut bench = Bench::started(rate(10));
        bench.work(0, 0);
        assert_eq!(bench.timer.rest(), Some((Rested::new(at(10), 1, 0), Past::NOTHING)));
        case(&mut bench);
        assert_eq!(bench.timer.rest(), None, "case {number}");
    }
}

/// Its time does not run backwards from there.
#[test]
fn s9_a_machine_that_was_at_rest_knows_what_time_it_has_seen() {
    let machine = |rested| Timer::from_rest(Arc::new(delay(10)), rested, NOTHING);
    let waits = Rested::new(at(15), 1, 0);
    assert_eq!(machine(waits).now(), at(5), "when the wait began");
    let mut runs = machine(waits.begun());
    assert_eq!(runs.now(), at(15));
    runs.handle_finished(at(12), Outcome::Success);
    assert_eq!(runs.next_due(), Some(at(25)));
}
