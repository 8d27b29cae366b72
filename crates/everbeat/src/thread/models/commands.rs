//! What handles ask for while the timer has its turn: other periods, pauses, ends of every kind.

use super::*;
use crate::pending::Shutdown;

/// Commands on another thread while the timer has its turn; then one more run, and the end. What was asked for holds,
/// and everything that ran was counted.
fn commands_against_turn<V: Send + Sync + 'static>(
    start: fn(&Engine, &Shared<Runs>) -> Timer<V>,
    bound: Option<usize>,
    command: fn(&Timer<V>),
    holds: fn(&Timer<V>) -> bool,
) {
    check(bound, move || {
        let runs = Shared::new(Runs::default());
        let engine = hosted();
        let timer = start(&engine, &runs);
        host_during(&engine, {
            let timer = timer.clone();
            move || {
                command(&timer);
            }
        });
        while engine.turn().is_some_and(|next| next <= sync::now()) {}
        assert!(holds(&timer), "{:?}", timer.stats());
        drop(timer.cancel());
        while timers(&engine) > 0 {
            engine.turn();
        }
        assert_consistent(&timer, runs.end());
    });
}

const OTHER_PERIOD: Duration = Duration::from_secs(72 * 3600);

fn change_period<V: Send + Sync + 'static>(timer: &Timer<V>) {
    timer.set_period(PERIOD / 2);
    timer.rearm(OTHER_PERIOD);
}

/// The first run is due at once whatever the period, and the next one by the last that was asked for.
fn has_the_other_period<V: Send + Sync + 'static>(timer: &Timer<V>) -> bool {
    let stats = timer.stats();
    let due = stats.next_due.is_some_and(|due| due > sync::now() + PERIOD);
    (stats.period, stats.runs, due) == (OTHER_PERIOD, 1, true)
}

#[test]
fn other_periods_against_a_turn() {
    commands_against_turn(start, BOUND, change_period, has_the_other_period);
}

#[test]
fn other_periods_in_the_queue_against_a_turn() {
    commands_against_turn(place, BOUND, change_period, has_the_other_period);
}

/// The run that it waits for began after `resume`, or is that which was due before `pause`.
fn pause_and_resume<V: Send + Sync + 'static>(timer: &Timer<V>) {
    timer.pause();
    assert!(timer.is_paused());
    timer.resume();
}

fn goes_on<V: Send + Sync + 'static>(timer: &Timer<V>) -> bool {
    let stats = timer.stats();
    !stats.paused && stats.running && stats.next_due.is_some()
}

#[test]
fn pause_and_resume_against_a_turn() {
    commands_against_turn(start, BOUND, pause_and_resume, goes_on);
}

#[test]
fn pause_and_resume_in_the_queue_against_a_turn() {
    commands_against_turn(place, BOUND, pause_and_resume, goes_on);
}

/// Without any grace a shutdown is a drain, or gives up the run that it finds. A sync one goes on to its end all the
/// same, and the answer comes after it.
fn shutdown_against_run<V: Send + Sync + 'static>(start: fn(&Engine, &Shared<Runs>) -> Timer<V>) {
    check(BOUND, move || {
        let runs = Shared::new(Runs::default());
        let engine = hosted();
        let timer = start(&engine, &runs);
        host_during(&engine, {
            let runs = runs.clone();
            move || {
                let how = block::forever(timer.shutdown(Duration::ZERO));
                let begun = runs.end();
                let reason = block::forever(timer.wait()).unwrap();
                match how {
                    Shutdown::Drained => assert_eq!(reason, StopReason::Drained),
                    Shutdown::Cancelled => assert_eq!((reason, begun), (StopReason::GraceExpired, 1)),
                    Shutdown::Failed => unreachable!("no run fails"),
                }
                assert_consistent(&timer, begun);
            }
        });
        assert_eq!(timers(&engine), 0);
        drop(engine);
        assert_eq!(Arc::strong_count(&runs.0), 1, "the target is gone");
    });
}

#[test]
fn shutdown_without_grace_against_a_run() {
    shutdown_against_run(start);
}

#[test]
fn shutdown_without_grace_against_a_run_in_the_queue() {
    shutdown_against_run(place);
}

/// Two threads stop it, each in its way. Both are told the same end, and that after it.
fn two_stops_against_turn<V: Send + Sync + 'static>(start: fn(&Engine, &Shared<Runs>) -> Timer<V>) {
    check(LOW_BOUND, move || {
        let (runs, told) = (Shared::new(Runs::default()), Shared::new(Vec::new()));
        let (engine, here) = (hosted(), thread::current());
        let timer = start(&engine, &runs);
        let stoppers = [cancel::<V>, ask_to_stop::<V>].map(|stop| {
            let (timer, runs, told, here) = (timer.clone(), runs.clone(), told.clone(), here.clone());
            thread::spawn(move || {
                let reason = stop(&timer);
                runs.end();
                told.change(|told| told.push(reason));
                here.unpark();
            })
        });
        host_until(&engine, || told.get().len() == 2);
        stoppers.into_iter().for_each(thread::JoinHandle::join);
        let told = told.get();
        assert_eq!(told[0], told[1]);
        assert!(matches!(told[0], StopReason::Cancelled | StopReason::Drained));
        assert_eq!(timers(&engine), 0);
        assert_consistent(&timer, runs.end());
    });
}

#[test]
fn two_stops_at_once() {
    two_stops_against_turn(start);
}

#[test]
fn two_stops_at_once_in_the_queue() {
    two_stops_against_turn(place);
}

/// Exactly one of them wins: it was called off, or it is made.
fn call_off_against_turn<V: crate::Outcome<Value = V> + Send + Sync + 'static>(delivers: fn(u64) -> V) {
    check(BOUND, move || {
        let (runs, answer) = (Shared::new(Runs::default()), Shared::new(None));
        let (engine, here) = (hosted(), thread::current());
        let target = runs.clone();
        let call = engine.after(Duration::ZERO, move || delivers(target.run())).unwrap();
        let caller = thread::spawn({
            let answer = answer.clone();
            move || {
                let in_time = call.cancel();
                assert!(!call.cancel(), "only one call of it comes in time");
                answer.change(|answer| *answer = Some(in_time));
                here.unpark();
                in_time.then_some(()).ok_or(call)
            }
        });
        host_until(&engine, || answer.get().is_some() && timers(&engine) == 0);
        let called_off = caller.join();
        assert_eq!(runs.end(), u64::from(called_off.is_err()));
        if let Err(call) = called_off {
            assert!(block::forever(call.wait()).is_ok());
        }
    });
}

#[test]
fn call_off_against_the_call() {
    call_off_against_turn(|run| run);
}

#[test]
fn call_off_against_the_call_in_the_queue() {
    call_off_against_turn(|_| ());
}

/// One handle is given up for good, the other one is dropped: the timer goes on, whatever comes first.
fn detach_against_drop<V: Send + Sync + 'static>(start: fn(&Engine, &Shared<Runs>) -> Timer<V>) {
    check(LOW_BOUND, move || {
        let runs = Shared::new(Runs::default());
        let engine = Engine::hosted(Loop::here());
        let timer = start(&engine, &runs);
        let other = timer.clone();
        let threads = [thread::spawn(move || timer.detach()), thread::spawn(move || drop(other))];
        engine.turn();
        threads.into_iter().for_each(thread::JoinHandle::join);
        while engine.turn().is_some_and(|next| next <= sync::now()) {}
        assert_eq!((timers(&engine), runs.get().begun), (1, 1));
        assert_eq!(engine.close(Duration::MAX), 0);
        runs.end();
        drop(engine);
        assert_eq!(Arc::strong_count(&runs.0), 1, "the target is gone");
    });
}

#[test]
fn detach_against_the_drop_of_the_other_handle() {
    detach_against_drop(start);
}

#[test]
fn detach_against_the_drop_of_the_other_handle_in_the_queue() {
    detach_against_drop(place);
}

/// Whoever asks for a run of a timer whose engine is closed is told, and never left waiting.
fn close_against_trigger<V: Send + Sync + 'static>(start: fn(&Engine, &Shared<Runs>) -> Timer<V>) {
    check(LOW_BOUND, move || {
        let runs = Shared::new(Runs::default());
        let engine = Engine::hosted(Loop::here());
        let timer = start(&engine, &runs);
        let asker = thread::spawn({
            let timer = timer.clone();
            move || block::forever(timer.trigger()).map(|_| ())
        });
        engine.turn();
        assert_eq!(engine.close(Duration::MAX), 0);
        let begun = runs.end();
        let answer = asker.join();
        let told = matches!(
            answer,
            Ok(()) | Err(Error::NotRunning { .. } | Error::Stopped { reason: StopReason::Abandoned, .. })
        );
        assert!(told, "{answer:?}");
        assert_consistent(&timer, begun);
        assert_eq!(timers(&engine), 0);
    });
}

#[test]
fn close_against_a_trigger() {
    close_against_trigger(start);
}

#[test]
fn close_against_a_trigger_in_the_queue() {
    close_against_trigger(place);
}

/// L2: the callback for the end is over before whoever stops the timer is told.
#[test]
fn the_callback_for_the_end_against_the_return_of_cancel() {
    check(BOUND, || {
        let (runs, called_back) = (Shared::new(Runs::default()), Shared::new(0));
        let engine = hosted();
        let (target, end) = (runs.clone(), called_back.clone());
        let builder =
            engine.every(PERIOD).fixed_rate().inline().on_end(move |_| end.change(|calls| *calls += 1));
        let timer = builder.start(move || target.run()).unwrap();
        host_during(&engine, {
            let (runs, called_back) = (runs.clone(), called_back.clone());
            move || {
                assert_eq!(cancel(&timer), StopReason::Cancelled);
                runs.end();
                assert_eq!(called_back.get(), 1, "the callback is over");
            }
        });
        assert_eq!((timers(&engine), called_back.get()), (0, 1));
    });
}
