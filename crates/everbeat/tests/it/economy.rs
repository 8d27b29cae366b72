//! S, D, L, O: the short cuts that timers and engines take are taken, and nothing is lost on the way.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use allocation_counter::measure;
use everbeat::testing::TestEngine;
use everbeat::thread::{self, Engine};
use everbeat::{Error, OnError, StopReason, Tick, Timer, Value};

use crate::support::{Gate, Journal, LIMIT, SECOND, eventually, every, ms, settle};
use crate::thread_support::{HOUR, in_time};

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[test]
fn a_tick_that_nobody_waits_for_allocates_nothing() -> Result<(), Error> {
    let clock = TestEngine::new();
    let builder = || thread::every(ms(10)).on(&clock);
    let _timers = (builder().start(|| ())?, builder().inline().start(|| ())?);
    let _values = (builder().start(|tick: Tick| tick.run)?, builder().inline().start(|tick: Tick| tick.run)?);
    clock.advance(SECOND);
    assert_eq!(measure(|| clock.advance(SECOND * 10)).count_total, 0);

    let runtime = paused();
    let timers = runtime.block_on(async {
        let timers =
            every(10).start(|| ()).and_then(|timer| Ok((timer, every(10).start(|tick: Tick| tick.run)?)));
        tokio::time::sleep(SECOND).await;
        timers
    })?;
    let measured = measure(|| runtime.block_on(async { tokio::time::sleep(SECOND * 10).await }));
    assert!(timers.0.hits() > 1_000 && timers.1.hits() > 1_000);
    assert!(measured.count_total < 10, "{measured:?}");
    Ok(())
}

#[test]
fn values_that_are_all_alike_need_no_place_of_their_own() -> Result<(), Error> {
    let runtime = paused();
    let timers = runtime.block_on(async {
        let timers: Result<Vec<_>, _> = (0..100).map(|_| every(10).start(|| ())).collect();
        tokio::time::sleep(ms(5)).await;
        timers
    })?;
    let measured = measure(|| runtime.block_on(async { tokio::time::sleep(ms(20)).await }));
    assert!(timers.iter().all(|timer| timer.hits() == 3));
    assert!(measured.count_total < 100, "{measured:?}");
    Ok(())
}

#[test]
fn a_timer_with_a_lock_of_its_own_that_waits_is_two_blocks_of_memory() -> Result<(), Error> {
    let clock = TestEngine::new();
    let start = || thread::every(HOUR).on(&clock).start(|tick: Tick| tick.run);
    let _alike = start()?;
    clock.settle();
    let mut timer = None;
    let measured = measure(|| timer = Some(start()));
    assert!(measured.count_current <= 2 && measured.bytes_current < 400, "{measured:?}");
    let timer = timer.unwrap()?;
    let ended = measure(|| timer.request_stop());
    assert!(!timer.is_running());
    assert_eq!(ended.count_total, 0, "it has not run, and nobody waits");
    Ok(())
}

/// As a collector does that looks for what a failure holds, of thousands that are built one after the other.
#[test]
fn a_timer_that_is_asked_whether_it_has_ended_before_it_was_started_stays_lean() -> Result<(), Error> {
    let clock = TestEngine::new();
    let timer = thread::every(HOUR).on(&clock).build(|tick: Tick| tick.run)?;
    let mut asked = None;
    let measured = measure(|| asked = Some(timer.wait().block(Duration::ZERO)));
    assert!(matches!(asked, Some(Err(Error::NotRunning { .. }))), "{asked:?}");
    assert_eq!(measured.bytes_current, 0, "{measured:?}");
    Ok(())
}

/// What went wrong lies beside it from then on, and nothing of it is forgotten.
#[test]
fn a_timer_that_has_missed_failed_or_been_started_again_is_lean_again_with_its_next_value()
-> Result<(), Error> {
    let clock = TestEngine::new();
    let time = clock.clone();
    let timer =
        thread::every(ms(10)).fixed_rate().on_error(OnError::Continue).max_runs(100).on(&clock).start(
            move |tick: Tick| {
                if tick.run == 2 {
                    time.pass(ms(35));
                }
                if tick.run == 3 { Err("the third run fails") } else { Ok(tick.slot) }
            },
        )?;
    clock.advance(ms(5));
    let missed = measure(|| clock.advance(ms(43))); // the second run has missed slots, and is over
    assert!(missed.bytes_current < 350, "{missed:?}");
    let failed = measure(|| clock.advance(ms(10)));
    assert!(
        missed.bytes_current + failed.bytes_current > 500,
        "the run after a failure is to come: {failed:?}"
    );
    let after = measure(|| clock.advance(ms(100)));
    let bytes = missed.bytes_current + failed.bytes_current + after.bytes_current;
    assert!(bytes < 350, "{missed:?}, {failed:?}, {after:?}");
    assert_eq!(measure(|| clock.advance(ms(102))).count_total, 0);

    let stats = timer.stats();
    let numbers = (stats.runs, stats.hits, stats.failures, stats.skipped.overrun, stats.skipped.missed);
    assert_eq!(numbers, (24, 23, 1, 3, 3));
    assert_eq!((timer.hits(), timer.latest().as_deref()), (23, Some(&26)));

    timer.request_stop();
    clock.settle();
    timer.start()?;
    clock.advance(ms(980));
    assert_eq!((timer.hits(), timer.latest().as_deref(), timer.is_running()), (122, Some(&98), true));
    clock.advance(ms(10));
    assert_eq!((timer.is_running(), timer.hits()), (false, 123));
    Ok(())
}

#[test]
fn timers_of_a_few_kinds_share_how_they_were_built() -> Result<(), Error> {
    let clock = TestEngine::new();
    let start = |kind: u32| thread::every(HOUR * kind).initial_delay(HOUR).on(&clock).start(|| ());
    let _alike: Vec<_> = (1..=8).map(start).collect::<Result<_, _>>()?;
    let again = || (1..=8).for_each(|kind| drop(start(kind).unwrap()));
    again();
    let measured = measure(again);
    assert_eq!(measured.count_total, 0, "{measured:?}");

    let runtime = paused();
    let _context = runtime.enter();
    let mut kept = Vec::with_capacity(3);
    let mut build = |millis| measure(|| kept.push(every(millis).build(|| ()).unwrap())).count_total;
    let (_first, other, alike) = (build(10), build(20), build(20));
    assert!(alike < other, "{alike}, and {other} for one of its own kind");
    Ok(())
}

fn ended_when_its_run_did<V: Value + everbeat::Outcome<Value = V> + Send + Sync + 'static>(
    value: fn() -> V,
) -> Result<(), Error> {
    let clock = TestEngine::new();
    let origin = clock.engine().time_of(everbeat::core::Instant::ORIGIN).unwrap();
    let time = clock.clone();
    let timer = thread::every(SECOND).fixed_rate().on(&clock).start(move || {
        time.pass(ms(3));
        value()
    })?;
    for second in 0..20 {
        let last = Some(origin + SECOND * second + ms(3));
        clock.advance(ms(500));
        assert_eq!((timer.last_tick_at(), timer.stats().last_tick), (last, last));
        clock.advance(ms(500));
    }
    Ok(())
}

#[test]
fn d1_the_last_tick_of_a_timer_at_rest_is_when_its_run_had_ended() -> Result<(), Error> {
    ended_when_its_run_did(|| ())?;
    ended_when_its_run_did(|| 7)
}

#[test]
fn o3_histograms_of_a_plain_timer_last() -> Result<(), Error> {
    let clock = TestEngine::new();
    let timer = thread::every(SECOND).histograms(true).on(&clock).start(|| ())?;
    clock.advance(SECOND * 9);
    assert_eq!((timer.stats().duration.count(), timer.stats().lateness.count()), (10, 10));
    Ok(())
}

#[test]
fn o3_turns_and_wake_ups_of_an_engine_are_counted() -> Result<(), Error> {
    let clock = TestEngine::new();
    let timer = thread::every(HOUR).on(&clock).start(|| 1)?;
    clock.settle();
    let before = clock.engine().stats();
    for _ in 0..10 {
        let run = timer.trigger(); // gives it a turn that is not a deadline's
        clock.settle();
        run.block(LIMIT)?;
    }
    let after = clock.engine().stats();
    assert!(after.turns >= before.turns + 10, "{before:?} {after:?}");
    assert!(after.wakeups >= before.wakeups + 10, "{before:?} {after:?}");
    Ok(())
}

#[test]
fn o3_who_finds_a_worker_idle_is_not_queued() -> Result<(), Error> {
    let engine = Engine::builder().workers(1).build();
    let timer = engine.every(HOUR).start(|| 1)?;
    timer.wait_hits(1).block(LIMIT)?;
    for _ in 0..20 {
        eventually("the worker is idle", || engine.stats().idle_workers == 1);
        timer.trigger().block(LIMIT)?;
    }
    assert_eq!(timer.stats().queued, 0);
    drop(timer);
    for _ in 0..20 {
        // By itself a timer would be due again whether or not the worker has come back.
        eventually("the worker is idle", || engine.stats().idle_workers == 1);
        let plain = engine.every(HOUR).start(|| ())?;
        eventually("it has run", || plain.hits() == 1);
        assert_eq!((plain.stats().queued, engine.stats().queued), (0, 0));
    }
    Ok(())
}

#[test]
fn s9_an_engine_that_has_nothing_to_do_sleeps() -> Result<(), Error> {
    let engine = Engine::builder().workers(0).build();
    engine.every(HOUR).start(|| ())?.detach();
    eventually("it has run", || engine.stats().turns == 1);
    std::thread::sleep(ms(20)); // for the round to end
    let before = engine.stats().wakeups;
    std::thread::sleep(ms(50));
    let wakeups = engine.stats().wakeups - before;
    assert!(wakeups < 20, "{wakeups} for nothing");
    Ok(())
}

#[test]
fn r7_only_inline_runs_that_take_long_are_blamed() -> Result<(), Error> {
    let clock = TestEngine::new();
    let start = |inline: bool, takes: Duration| {
        let (time, builder) = (clock.clone(), thread::every(SECOND).on(&clock));
        let builder = if inline { builder.inline() } else { builder };
        builder.start(move || time.pass(takes))
    };
    for (inline, takes, blocked) in [(true, 100, 3), (true, 99, 0), (false, 100, 0), (false, 99, 0)] {
        let timer = start(inline, ms(takes))?;
        clock.settle();
        clock.advance(SECOND);
        clock.advance(SECOND * 2);
        let stats = timer.stats();
        assert_eq!(stats.blocked, if blocked == 0 { 0 } else { stats.runs }, "{inline} {takes}");
        assert!(stats.runs >= 3);
    }
    Ok(())
}

/// Whoever is woken waits behind those who are in line already.
async fn once_around() {
    let mut been = false;
    poll_fn(|cx| {
        if been {
            return Poll::Ready(());
        }
        been = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn r2_a_run_on_an_engine_that_wakes_itself_goes_on() -> Result<(), Error> {
    let clock = TestEngine::new();
    let timer = thread::every(HOUR).on(&clock).start(once_around)?;
    clock.settle();
    assert_eq!(timer.hits(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s6_every_run_of_period_zero_is_followed_by_a_turn_of_the_others() -> Result<(), Error> {
    for builder in [every(0), every(0).fixed_rate()] {
        let busy = builder.start(|| ())?;
        let timer = busy.clone();
        let other = tokio::spawn(async move {
            for turn in 1..500 {
                once_around().await;
                let hits = timer.hits();
                assert!(hits <= turn + 1, "{hits} runs in {turn} turns");
            }
            assert!(timer.hits() > 400, "{}", timer.hits());
        });
        other.await.unwrap();
        busy.cancel().await;
    }
    Ok(())
}

/// The clock of a timer is that of its runtime, whichever runtime asks, or none.
#[test]
fn s9_commands_from_elsewhere_go_by_the_clock_of_the_timer() -> Result<(), Error> {
    let (home, other) = (paused(), paused());
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let ticks = seen.clone();
    let timer = home.block_on(async {
        let timer = every(1_000).fixed_rate().start(move |tick: Tick| ticks.lock().unwrap().push(tick));
        settle().await;
        timer
    })?;
    other.block_on(async {
        tokio::time::sleep(HOUR).await;
        timer.pause();
        timer.resume();
    });
    home.block_on(async { tokio::time::sleep(ms(2_500)).await });
    assert_eq!((timer.hits(), timer.stats().skipped), (3, everbeat::Skipped::default()));
    // Nobody is in a runtime here.
    home.block_on(async { tokio::time::sleep(ms(250)).await });
    drop(timer.trigger());
    home.block_on(settle());
    let last = *seen.lock().unwrap().last().unwrap();
    assert_eq!((last.run, last.lateness), (4, Duration::ZERO));
    Ok(())
}

#[test]
fn l7_a_member_that_has_ended_is_started_on_a_runtime_whose_clock_is_behind() -> Result<(), Error> {
    let group = everbeat::Group::new();
    let timer = paused().block_on(async {
        let timer = group.every(SECOND).fixed_rate().start(|tick: Tick| tick.run)?;
        tokio::time::sleep(HOUR).await;
        timer.cancel().await;
        settle().await; // its task goes before the runtime does
        Ok::<_, Error>(timer)
    })?;
    let before = timer.hits();
    paused().block_on(async {
        timer.start()?;
        tokio::time::sleep(ms(4_500)).await;
        assert_eq!(timer.hits() - before, 5);
        Ok(())
    })
}

#[test]
fn s9_the_time_of_a_plain_timer_does_not_run_backwards_on_another_runtime() -> Result<(), Error> {
    let starts = Journal::new();
    let log = starts.clone();
    let builder = Timer::every(SECOND).fixed_rate().histograms(false);
    let timer = builder.build(move |tick: Tick| log.add(tick.started()))?;
    paused().block_on(async {
        timer.start()?;
        settle().await;
        tokio::time::advance(ms(1_500)).await;
        settle().await;
        timer.cancel().await;
        Ok::<_, Error>(())
    })?;
    paused().block_on(async {
        timer.start()?;
        settle().await;
        Ok::<_, Error>(())
    })?;
    let at = |millis| everbeat::core::Instant::ORIGIN + ms(millis);
    assert_eq!(starts.entries(), [at(0), at(1_500), at(1_500)]);
    Ok(())
}

/// A timer in the queue that was asked for more, and then left to itself.
fn left_to_itself(clock: &TestEngine, alive: &Arc<()>, runs: u64) -> Result<everbeat::WeakTimer<()>, Error> {
    let held = alive.clone();
    let timer = thread::every(SECOND).on(clock).start(move |tick: Tick| {
        assert!(Arc::strong_count(&held) > 1);
        if tick.run == runs {
            everbeat::current().unwrap().request_stop();
        }
    })?;
    let weak = timer.downgrade(); // it is a whole one from here on
    timer.detach();
    Ok(weak)
}

#[test]
fn l8_a_timer_that_was_detached_after_it_left_the_queue_lives_on() -> Result<(), Error> {
    let (clock, alive) = (TestEngine::new(), Arc::new(()));
    let weak = left_to_itself(&clock, &alive, u64::MAX)?;
    clock.advance(SECOND * 3);
    assert_eq!(clock.engine().stats().timers, 1);
    assert_eq!(weak.upgrade().map(|timer| timer.hits()), Some(4));
    Ok(())
}

#[test]
fn l8_a_timer_that_nobody_has_a_handle_of_is_gone_when_it_has_ended() -> Result<(), Error> {
    let (clock, alive) = (TestEngine::new(), Arc::new(()));
    let weak = left_to_itself(&clock, &alive, 3)?;
    clock.advance(SECOND * 9);
    assert_eq!((clock.engine().stats().timers, Arc::strong_count(&alive)), (0, 1));
    assert!(weak.upgrade().is_none());
    Ok(())
}

/// What asks its engine something while it is dropped.
struct Asks(TestEngine, mpsc::Sender<usize>);

impl Drop for Asks {
    fn drop(&mut self) {
        self.1.send(self.0.engine().stats().timers).unwrap();
    }
}

#[test]
fn d11_what_a_detached_timer_holds_is_dropped_without_the_lock_when_its_engine_is_closed() {
    let told = in_time(|| {
        let (clock, (tell, told)) = (TestEngine::new(), mpsc::channel());
        let asks = Asks(clock.clone(), tell);
        thread::every(ms(10)).on(&clock).start(move || _ = &asks).unwrap().detach();
        clock.settle();
        assert_eq!(clock.engine().close(LIMIT), 0);
        told.try_recv()
    });
    assert_eq!(told, Some(Ok(0)), "the engine waits for itself, or the target is still there");
}

/// Starts so many timers, which wait in line for the only worker.
fn crowd<V: Value + everbeat::Outcome<Value = V> + Send + Sync + 'static>(
    engine: &Engine,
    count: u64,
    value: fn() -> V,
) -> Vec<Timer<V>> {
    let queued = engine.stats().queued;
    let timers: Result<_, _> = (0..count).map(|_| engine.every(HOUR).start(value)).collect();
    eventually("they are in line", || engine.stats().queued >= queued + count);
    timers.unwrap()
}

fn stay_in_line<V: Value + everbeat::Outcome<Value = V> + Send + Sync + 'static>(
    value: fn() -> V,
) -> Result<(), Error> {
    let engine = Engine::builder().workers(1).build();
    let (entered, gate) = (Gate::default(), Gate::default());
    let (inside, wall) = (entered.clone(), gate.clone());
    let _busy = engine.every(HOUR).start(move || {
        inside.open();
        wall.pass();
    })?;
    entered.pass();
    let (first, gone) = (crowd(&engine, 2, value), crowd(&engine, 300, value));
    let last = crowd(&engine, 2, value);
    for timer in gone {
        assert_eq!(timer.cancel().block(LIMIT)?, StopReason::Cancelled);
    }
    gate.open();
    for timer in first.iter().chain(&last) {
        timer.wait_hits(1).block(LIMIT)?;
        assert_eq!(timer.stats().queued, 1);
    }
    Ok(())
}

#[test]
fn l4_those_who_wait_for_a_worker_keep_their_turns_when_many_others_are_cancelled() -> Result<(), Error> {
    stay_in_line(|| ())?;
    stay_in_line(|| 7)
}

/// Its thread would stay for an appointment that nobody has any more.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn l10_a_wait_for_a_tick_that_was_given_up_does_not_keep_the_engine_going() -> Result<(), Error> {
    let engine = Engine::builder().name("bells").workers(0).build();
    let named = || crate::engines::threads_named("everbeat bells");
    let mut ticks = engine.every(ms(2)).max_runs(3).ticks()?;
    while ticks.next().await.is_some() {}
    eventually("its thread has ended", || named() == 0);
    let mut ticks = engine.every(HOUR).ticks()?;
    assert!(ticks.next().await.is_some());
    {
        let mut next = std::pin::pin!(ticks.next());
        for _ in 0..3 {
            assert!(poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending())).await);
            eventually("its thread is there", || named() == 1);
        }
    }
    drop(ticks);
    eventually("its thread has ended", || named() == 0);
    Ok(())
}
