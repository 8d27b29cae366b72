//! When a timer is a record, what it takes, and whose turn it is.

use std::time::Duration;

use super::*;
use crate::Timer;
use crate::testing::TestEngine;
use crate::thread::Engine;
#[cfg(feature = "tokio")]
use crate::thread::keeper::Turns;
use crate::thread::runs::Batch;

const HOUR: Duration = Duration::from_secs(3600);

/// With the 24 bytes of its place in the queue that is all, beside what its callback captures.
#[test]
fn a_timer_takes_56_bytes_and_a_handle_16() {
    assert_eq!((size_of::<Record>(), size_of::<Entry>()), (56, 56));
    assert_eq!(size_of::<Timer<()>>(), 16);
}

/// Whether the only timer there is a record.
fn is_record(clock: &TestEngine) -> bool {
    let roster = clock.engine().core().lock();
    let key = roster.queue.keys().next().unwrap();
    matches!(roster.queue.get(key), Some(Entry::Lean(_)))
}

#[test]
fn a_timer_that_was_asked_for_more_becomes_a_record_again() {
    let clock = TestEngine::new();
    let timer = clock.engine().every(HOUR).fixed_rate().start(|| ()).unwrap();
    clock.advance(HOUR * 10);
    assert!(is_record(&clock) && timer.hits() == 11);
    let wait = timer.wait_more(2);
    assert!(!is_record(&clock));
    clock.advance(HOUR * 2);
    wait.block(HOUR).unwrap();
    clock.advance(HOUR * 16);
    assert!(is_record(&clock));
    assert_eq!((timer.hits(), timer.is_running()), (29, true));
    let weak = timer.downgrade();
    clock.advance(HOUR * 16);
    assert!(!is_record(&clock), "somebody knows of the whole one");
    assert!(weak.upgrade().is_some());
}

#[test]
fn hands_are_used_again() {
    let clock = TestEngine::new();
    let core = clock.engine().core();
    let _timer = clock.engine().every(HOUR).fixed_rate().start(|| ()).unwrap();
    for _ in 0..1_000 {
        Batch::of(1, core).end(core);
        clock.advance(HOUR);
    }
    assert!(is_record(&clock), "for want of a hand it has become a whole one");
    assert!(core.lock().hands.all.len() <= 2);
}

#[test]
fn who_is_promoted_at_its_turn_is_the_first_in_line_and_has_waited_once() {
    let engine = Engine::builder().workers(1).build();
    let core = engine.core();
    core.lock().workers.alive = 1; // this thread
    let timers: Vec<_> = (0..3).map(|_| engine.every(HOUR).start(|| ()).unwrap()).collect();
    while engine.stats().queued < 3 {
        std::thread::yield_now();
    }
    let mut batch = Batch::of(1, core);
    for (timer, turns) in timers.iter().zip(1..) {
        assert!(batch.take(&mut core.lock(), Roster::take_pooled_job));
        let wait = timer.wait_hits(1);
        core.take_turns(&mut batch);
        batch.give_back(&mut core.lock());
        assert_eq!(timer.hits(), 0, "its turn was taken away from it");
        assert!(batch.take(&mut core.lock(), Roster::take_pooled_job));
        core.take_turns(&mut batch);
        batch.give_back(&mut core.lock());
        assert!(wait.block(Duration::ZERO).is_ok(), "another had the turn");
        assert_eq!((timer.stats().queued, engine.stats().turns), (1, turns));
    }
    batch.end(core);
}

#[cfg(feature = "tokio")]
#[test]
fn a_task_gives_its_hand_back() {
    let clock = TestEngine::new();
    (0..10).for_each(|_| drop(Turns::of(clock.engine())));
    assert_eq!(clock.engine().core().lock().hands.all.len(), 1);
}

#[test]
fn what_is_started_and_cancelled_leaves_no_record() {
    let clock = TestEngine::new();
    let timer = clock.engine().every(HOUR).initial_delay(HOUR).start(|| ()).unwrap();
    drop(timer.cancel());
    assert!(is_record(&clock), "the handle may be asked, or start it again");
    drop(timer);
    assert!(clock.engine().core().lock().queue.is_empty());
}

#[test]
fn who_left_the_line_is_not_kept_on_its_list() {
    let engine = Engine::builder().workers(1).build();
    let core = engine.core();
    core.lock().workers.alive = 1; // this thread, which takes nobody
    for round in 1..=5 {
        let timers: Vec<_> = (0..500).map(|_| engine.every(HOUR).start(|| ()).unwrap()).collect();
        while engine.stats().queued < round * 500 {
            std::thread::yield_now();
        }
        timers.iter().for_each(Timer::request_stop);
        let roster = core.lock();
        assert!(roster.own.len() + roster.pooled.len() <= 1_000);
    }
    core.lock().workers.alive = 0;
}
