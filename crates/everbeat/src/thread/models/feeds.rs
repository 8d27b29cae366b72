//! Feeds and waits against turns: nobody misses a value, the end, or the wake-up for either.

use super::*;
use crate::feed::Feed;

fn next(feed: &mut Feed<u64>) -> Option<u64> {
    block::forever(feed.next()).map(|item| *item.expect("no run fails"))
}

/// What a consumer sees that subscribes, asks for one run more, and reads until the feed ends.
fn read_to_the_end(timer: &Timer<u64>, end: fn(&Timer<u64>)) {
    let before = timer.hits();
    let mut feed = timer.subscribe().open().unwrap();
    let after = timer.hits();
    block::forever(timer.trigger()).unwrap();
    end(timer);
    let values: Vec<_> = std::iter::from_fn(|| next(&mut feed)).collect();
    let first = *values.first().expect("the run that was triggered came after the subscription");
    assert!((before + 1..=after + 1).contains(&first), "{before} to {after} hits, then {values:?}");
    assert!(values.iter().copied().eq(first..=timer.hits()), "{values:?} of {}", timer.hits());
}

fn consumer_against_turns(end: fn(&Timer<u64>)) {
    check(LOW_BOUND, move || {
        let runs = Shared::new(Runs::default());
        let engine = hosted();
        let timer = start(&engine, &runs);
        host_during(&engine, move || {
            read_to_the_end(&timer, end);
        });
        assert_eq!(timers(&engine), 0);
    });
}

#[test]
fn a_feed_that_ends_with_a_cancel_against_turns() {
    consumer_against_turns(|timer| _ = cancel(timer));
}

#[test]
fn a_feed_that_ends_with_a_drain_against_turns() {
    consumer_against_turns(Timer::request_stop);
}

/// The consumer waits, the timer delivers, and somebody else closes the feed.
#[test]
fn closing_a_feed_against_its_consumer_and_a_turn() {
    check(LOW_BOUND, || {
        let runs = Shared::new(Runs::default());
        let engine = hosted();
        let timer = start(&engine, &runs);
        let mut feed = timer.subscribe().open().unwrap();
        let closer = feed.closer();
        let closing = thread::spawn(move || closer.close());
        host_during(&engine, move || {
            let values: Vec<_> = std::iter::from_fn(|| next(&mut feed)).collect();
            assert!(values.is_empty() || values == [1], "{values:?}");
        });
        closing.join();
        engine.turn();
        assert_consistent(&timer, 1);
    });
}

/// What is in a feed goes with it, in whatever moment that is.
#[test]
fn dropping_a_feed_against_a_turn() {
    check(BOUND, || {
        let engine = hosted();
        let value = Arc::new(());
        let target = value.clone();
        let timer = engine.every(PERIOD).fixed_rate().inline().start(move || target.clone()).unwrap();
        let feed = timer.subscribe().bounded(1).open().unwrap();
        let dropper = thread::spawn(move || drop(feed));
        engine.turn();
        dropper.join();
        assert_eq!(timer.hits(), 1);
        assert_eq!(Arc::strong_count(&value), 3, "this, that of the target, and the latest");
    });
}

/// Who waits for a value, a count and the end is answered, though the timer ends in between.
#[test]
fn waits_of_all_kinds_against_a_turn_and_a_cancel() {
    check(LOW_BOUND, || {
        let runs = Shared::new(Runs::default());
        let engine = hosted();
        let timer = start(&engine, &runs);
        let canceller = thread::spawn({
            let timer = timer.clone();
            move || _ = cancel(&timer)
        });
        host_during(&engine, move || {
            let (hit, join) = (timer.wait_hits(1), timer.join());
            let (hit, joined) = (block::forever(hit), block::forever(join));
            // The count and the value come together; a run that came before either was asked for is
            // seen by the one and not by the other.
            assert!(hit.is_ok() || joined.is_err(), "{hit:?} {joined:?}");
            assert_eq!(block::forever(timer.wait()).unwrap(), StopReason::Cancelled);
        });
        canceller.join();
        assert_eq!(timers(&engine), 0);
    });
}

/// One wait is given up while it is answered; the other is not disturbed.
#[test]
fn dropping_a_wait_against_a_turn() {
    check(BOUND, || {
        let runs = Shared::new(Runs::default());
        let engine = hosted();
        let timer = start(&engine, &runs);
        let (given_up, kept) = (timer.wait_hits(1), timer.wait_hits(1));
        host_during(&engine, move || {
            drop(given_up);
            block::forever(kept).unwrap();
        });
        assert_consistent(&timer, 1);
    });
}
