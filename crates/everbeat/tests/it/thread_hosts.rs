//! L9, L12: engines without a thread of their own, and moments that only their hosts can choose.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread as std_thread;
use std::time::{Duration, Instant};

use everbeat::testing::TestEngine;
use everbeat::thread::{self, Engine, Host, PeriodicTask, Precision};
use everbeat::{Error, Group, Shutdown, Tick};

use crate::support::{Gate, LIMIT, ms, much};
use crate::thread_support::{HOUR, in_time, spin};

type Hook = Mutex<Option<Box<dyn FnOnce() + Send>>>;

fn call(hook: &Hook) {
    let hook = hook.lock().unwrap().take();
    if let Some(hook) = hook {
        hook();
    }
}

/// A loop whose clock is moved by hand, and that does what it is told when the engine asks it something.
struct Loop {
    origin: Instant,
    passed_millis: AtomicU64,
    on_now: Hook,
    on_alert: Hook,
    alerted: (Mutex<bool>, Condvar),
}

#[derive(Clone)]
struct Handle(Arc<Loop>);

impl Handle {
    fn new() -> Self {
        Self(Arc::new(Loop {
            origin: Instant::now(),
            passed_millis: AtomicU64::new(0),
            on_now: Mutex::default(),
            on_alert: Mutex::default(),
            alerted: Default::default(),
        }))
    }

    /// At the next look at the clock, once.
    fn on_now(&self, f: impl FnOnce() + Send + 'static) {
        *self.0.on_now.lock().unwrap() = Some(Box::new(f));
    }

    /// The look at the clock after so many others panics.
    fn panic_after(&self, looks: u32) {
        let host = self.clone();
        self.on_now(move || match looks {
            0 => panic!("there is no time"),
            looks => host.panic_after(looks - 1),
        });
    }

    fn pass(&self, millis: u64) {
        self.0.passed_millis.fetch_add(millis, SeqCst);
    }

    /// Waits until it is alerted.
    fn sleep(&self) {
        let (flag, bell) = &self.0.alerted;
        *bell.wait_while(flag.lock().unwrap(), |alerted| !*alerted).unwrap() = false;
    }
}

impl Host for Handle {
    fn now(&self) -> Instant {
        call(&self.0.on_now);
        self.0.origin + ms(self.0.passed_millis.load(SeqCst))
    }

    fn alert(&self) {
        call(&self.0.on_alert);
        *self.0.alerted.0.lock().unwrap() = true;
        self.0.alerted.1.notify_one();
    }
}

#[test]
fn r5_a_host_that_panics_loses_no_timer() -> Result<(), Error> {
    let host = Handle::new();
    let engine = Engine::hosted(host.clone());
    for looks in 0..4 {
        let timer = engine.every(ms(10)).fixed_rate().start(|| ())?;
        host.panic_after(looks);
        engine.turn();
        *host.0.on_now.lock().unwrap() = None;
        host.pass(1_000);
        let before = timer.hits();
        engine.turn();
        engine.turn();
        assert!(timer.hits() > before, "after {looks} looks; {:?}", engine.stats());
    }
    Ok(())
}

/// The engine runs empty while another thread starts a timer, which is due at once.
#[test]
fn l9_a_hosted_engine_misses_no_alert() -> Result<(), Error> {
    let host = Handle::new();
    let engine = Engine::hosted(host.clone());
    let over = AtomicBool::new(false);
    let is_over = || over.load(SeqCst);
    std_thread::scope(|threads| {
        threads.spawn(|| {
            while !is_over() {
                if engine.turn().is_none() && !is_over() {
                    host.sleep(); // without a limit: nothing but an alert ends it
                }
            }
        });
        threads.spawn(|| {
            while !is_over() {
                let _ = engine.stats(); // takes the lock
            }
        });
        let race = || -> Result<(), Error> {
            let (start, mut rounds) = (Instant::now(), 0_u32);
            while start.elapsed() < ms(much(500).into()) {
                let ran = Gate::default();
                let run = ran.clone();
                let timer = engine.every(HOUR).start(move || run.open())?;
                assert!(ran.is_opened(), "round {rounds}: the host was never alerted");
                drop(timer);
                spin(rounds % 500 * 10);
                rounds += 1;
            }
            eprintln!("{rounds} rounds");
            Ok(())
        };
        let raced = std::panic::catch_unwind(std::panic::AssertUnwindSafe(race));
        over.store(true, SeqCst);
        host.alert();
        raced.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The call is made between the two looks of `fire_now`.
#[test]
fn l12_fire_now_gives_the_result_of_a_call_that_is_made_meanwhile() -> Result<(), Error> {
    let host = Handle::new();
    let engine = Engine::hosted(host.clone());
    let shot = engine.after(ms(10), || 7)?;
    engine.turn();
    host.pass(20);
    let (turning, turned) = (engine.clone(), Gate::default());
    let done = turned.clone();
    host.on_now(move || {
        let turn = std_thread::spawn(move || _ = turning.turn());
        turn.join().unwrap();
        done.open();
    });
    let result = shot.fire_now();
    turned.pass();
    assert_eq!(*result.block(LIMIT)?, 7);
    Ok(())
}

/// The same without a host: the call begins on a worker while somebody asks for it.
#[test]
fn l12_whoever_asks_for_a_call_that_begins_has_its_result() -> Result<(), Error> {
    let engine = Engine::builder().precision(Precision::Fine).workers(2).build();
    for early in [true, false] {
        let (start, mut rounds) = (Instant::now(), 0_u32);
        while start.elapsed() < ms(much(300).into()) {
            let shot = engine.after(Duration::ZERO, || 7)?;
            spin(rounds % 400 * 10);
            let result = if early { shot.fire_now() } else { shot.wait() };
            assert_eq!(*result.block(LIMIT)?, 7, "round {rounds}");
            rounds += 1;
        }
        eprintln!("{rounds} rounds");
    }
    Ok(())
}

/// Somebody starts the task again as soon as it has ended.
#[test]
fn l4_a_stop_does_not_wait_for_the_end_of_a_later_start() {
    let stopped = in_time(|| -> Result<(), Error> {
        let host = Handle::new();
        let engine = Engine::hosted(host.clone());
        let task = Arc::new(PeriodicTask::of(engine.every(HOUR).initial_delay(HOUR), || ())?);
        task.start()?;
        engine.turn();
        let again = task.clone();
        let other_thread = move || std_thread::spawn(move || again.start().unwrap()).join().unwrap();
        *host.0.on_alert.lock().unwrap() = Some(Box::new(other_thread));
        task.stop();
        Ok(())
    });
    assert!(matches!(stopped, Some(Ok(()))), "nothing was in flight, and stop never returns: {stopped:?}");
}

/// A limit is of real time, also on a clock that stands still: for another thread than the one that moves it.
#[test]
fn d10_a_limit_for_the_next_tick_holds_on_a_test_engine() {
    let clock = TestEngine::new();
    let ticks = thread::every(HOUR).initial_delay(ms(50)).on(&clock).ticks();
    let next = in_time(|| ticks?.next_blocking(ms(20)));
    let next: Result<Option<Tick>, Error> = next.expect("20 ms at most");
    assert!(matches!(next, Err(Error::Timeout { .. })), "{next:?}");
}

fn is_refused<T>(result: Result<T, Error>) -> bool {
    result.is_err_and(|error| matches!(error, Error::ThreadsafeDispatch { .. }))
}

/// Nothing else would move it: an hour that is waited there would be spent.
#[test]
fn l9_blocking_on_the_thread_that_moves_the_time_is_refused_at_once() {
    let refused = in_time(|| {
        let (clock, group) = (TestEngine::new(), Group::new());
        let timer = thread::every(HOUR).on(&clock).start(|| 7)?;
        let mut feed = timer.subscribe().open()?;
        let mut ticks = thread::every(HOUR).initial_delay(HOUR).on(&clock).ticks()?;
        group.add(&timer)?;
        assert!(is_refused(feed.may_block()));
        assert!(is_refused(timer.join().block(HOUR)));
        assert!(is_refused(timer.trigger().block(HOUR)));
        assert!(is_refused(timer.wait_hits(1).block(HOUR)));
        assert!(is_refused(timer.wait_more(1).block(HOUR)));
        assert!(is_refused(timer.wait().block(HOUR)));
        assert!(is_refused(feed.next_blocking(HOUR)));
        assert!(is_refused(ticks.next_blocking(HOUR)));
        let answers = group.wait_hits(1).block(HOUR).into_vec();
        Ok::<_, Error>(answers.into_iter().all(|(_, answer)| is_refused(answer)))
    });
    assert!(matches!(refused, Some(Ok(true))), "{refused:?}");
}

#[test]
fn l9_an_answer_that_is_there_is_had_on_the_thread_that_moves_the_time() -> Result<(), Error> {
    let clock = TestEngine::new();
    let timer = thread::every(HOUR).on(&clock).start(|| 7)?;
    let (mut feed, run, hits, more) =
        (timer.subscribe().open()?, timer.join(), timer.wait_hits(1), timer.wait_more(2));
    let mut ticks = thread::every(HOUR).on(&clock).ticks()?;
    clock.settle();
    assert_eq!(*run.block(HOUR)?, 7);
    hits.block(HOUR)?;
    assert!(is_refused(more.block(HOUR)));
    feed.may_block()?;
    assert_eq!(feed.next_blocking(HOUR)?.as_deref(), Some(&7));
    assert_eq!(ticks.next_blocking(HOUR)?.map(|tick| tick.slot), Some(0));
    let fresh = timer.trigger();
    clock.settle();
    assert_eq!(*fresh.block(HOUR)?, 7);
    let end = timer.shutdown(HOUR);
    clock.settle();
    assert_eq!(end.block(HOUR)?, Shutdown::Drained);
    timer.wait().block(HOUR)?;
    assert_eq!(feed.next_blocking(HOUR)?.as_deref(), Some(&7));
    assert_eq!(feed.next_blocking(HOUR)?, None);

    let mut restless = thread::every(Duration::ZERO).on(&clock).ticks()?;
    let slots = (0..5).map(|_| Ok(restless.next_blocking(HOUR)?.map(|tick| tick.slot)));
    assert_eq!(slots.collect::<Result<Vec<_>, Error>>()?, (0..5).map(Some).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn l9_other_threads_may_wait_for_the_time_that_one_moves() -> Result<(), Error> {
    let clock = TestEngine::new();
    let timer = thread::every(HOUR).on(&clock).start(|| ())?;
    let waits = timer.clone();
    let waiting = std_thread::spawn(move || waits.wait_hits(3).block(LIMIT));
    while !waiting.is_finished() {
        clock.advance_to_next();
    }
    waiting.join().unwrap()?;

    let (moves, waits) = (clock.clone(), timer.clone());
    let moved = std_thread::spawn(move || {
        moves.settle();
        waits.join().block(HOUR)
    });
    assert!(is_refused(moved.join().unwrap()));
    let here = timer.join().block(ms(5));
    assert!(
        matches!(here, Err(Error::Timeout { .. })),
        "it is that thread that moves the time now: {here:?}"
    );
    Ok(())
}

/// Nobody can drive it any more.
#[test]
fn l8_a_test_engine_that_is_gone_lets_go_of_its_timers() -> Result<(), Error> {
    let held = Arc::new(());
    let (weak, clock) = (Arc::downgrade(&held), TestEngine::new());
    thread::every(HOUR).on(&clock).start(move || drop(held.clone()))?.detach();
    clock.settle();
    drop(clock);
    assert!(weak.upgrade().is_none());
    Ok(())
}

/// Such members deliver nothing, and are places in the queue of their engine.
#[test]
fn l9_members_without_values_are_waited_for_where_that_can_be() -> Result<(), Error> {
    let engine = Engine::builder().workers(1).build();
    let group = Group::new();
    for _ in 0..2 {
        group.add(engine.every(ms(1)).start(|| ())?)?;
    }
    group.wait_hits(2).block(LIMIT).all()?;
    let refused = in_time(|| {
        let (clock, group) = (TestEngine::new(), Group::new());
        group.add(clock.engine().every(HOUR).start(|| ())?)?;
        let answers = group.wait_hits(1).block(HOUR).into_vec();
        Ok::<_, Error>(answers.into_iter().all(|(_, answer)| is_refused(answer)))
    });
    assert!(matches!(refused, Some(Ok(true))), "{refused:?}");
    Ok(())
}
