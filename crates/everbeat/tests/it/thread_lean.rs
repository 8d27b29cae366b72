//! S, R, L, O: timers that take the short way through their turns do what all others do.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use everbeat::testing::TestEngine;
use everbeat::thread;
use everbeat::{Builder, Missed, OnError, Tick, Timer};
use tokio::runtime::Runtime;

use crate::logs::leave_nothing_unheard;
use crate::support::{LIMIT, SECOND, ms, much, settle};
use crate::thread_support::{HOUR, hold_up, in_time};

/// Numbers in no particular order, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// Where a timer lives, with a time that moves by hand.
trait Stage {
    fn new() -> Self;
    fn every(&self, period: Duration) -> Builder;
    /// For runs that take a while.
    fn passer(&self) -> Box<dyn Fn(Duration) + Send>;
    fn advance(&self, span: Duration);
    fn settle(&self);
    /// Lets those take note of a command who need a turn for that.
    fn catch_up(&self) {}
    fn now(&self) -> Instant;
    fn next_due(&self) -> Option<Duration>;
    /// Does something where timers can be started.
    fn inside<R>(&self, f: impl FnOnce() -> R) -> R;
}

impl Stage for TestEngine {
    fn new() -> Self {
        Self::new()
    }

    fn every(&self, period: Duration) -> Builder {
        thread::every(period).on(self)
    }

    fn passer(&self) -> Box<dyn Fn(Duration) + Send> {
        let clock = self.clone();
        Box::new(move |span| clock.pass(span))
    }

    fn advance(&self, span: Duration) {
        self.advance(span);
    }

    fn settle(&self) {
        self.settle();
    }

    fn now(&self) -> Instant {
        self.engine().time_of(everbeat::core::Instant::ORIGIN).unwrap() + self.elapsed()
    }

    fn next_due(&self) -> Option<Duration> {
        self.next_due()
    }

    fn inside<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }
}

/// A runtime in paused time, where timers have tasks of their own.
struct PausedTime(Runtime);

impl PausedTime {
    fn pass(span: Duration) {
        // It has passed once this was polled.
        let mut advance = pin!(tokio::time::advance(span));
        let _ = advance.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
}

impl Stage for PausedTime {
    fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Self(builder.enable_time().start_paused(true).build().unwrap())
    }

    fn every(&self, period: Duration) -> Builder {
        Timer::every(period)
    }

    fn passer(&self) -> Box<dyn Fn(Duration) + Send> {
        Box::new(Self::pass)
    }

    fn advance(&self, span: Duration) {
        self.0.block_on(async {
            tokio::time::sleep(span).await;
            settle().await;
        });
    }

    fn settle(&self) {
        self.0.block_on(settle());
    }

    fn catch_up(&self) {
        self.settle();
    }

    fn now(&self) -> Instant {
        self.inside(|| tokio::time::Instant::now().into_std())
    }

    fn next_due(&self) -> Option<Duration> {
        None // the runtime does not tell
    }

    fn inside<R>(&self, f: impl FnOnce() -> R) -> R {
        self.0.block_on(async { f() })
    }
}

/// One timer on a clock of its own; `whole` ones are never lean.
struct Side<S, V: Send + Sync + 'static> {
    clock: S,
    origin: Instant,
    timer: Timer<V>,
    ticks: Arc<Mutex<Vec<String>>>,
    pending: Vec<everbeat::Pending<V, Result<Arc<V>, everbeat::Error>>>,
    feeds: Vec<everbeat::Feed<V>>,
}

/// How a timer is stored, while nothing special happens to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lean,
    /// The same, with figures.
    Measured,
    /// Runs have a limit, so it is never lean.
    Whole,
}

impl<S: Stage, V: std::fmt::Debug + Send + Sync + 'static> Side<S, V> {
    fn new(kind: Kind, seed: u64, deliver: fn(u64) -> V) -> Self {
        let clock = S::new();
        let origin = clock.now();
        let mut random = Random(seed | 1);
        let mut builder = clock.every(ms(10)).histograms(kind != Kind::Lean).name("timer");
        if kind == Kind::Whole {
            builder = builder.run_timeout(HOUR);
        }
        if random.below(2) == 0 {
            builder = builder.fixed_rate();
        }
        if random.below(2) == 0 {
            builder = builder.initial_delay(ms(random.below(30)));
        }
        builder = match random.below(4) {
            0 => builder.missed(Missed::Burst { max: 3 }),
            1 => builder.missed(Missed::Delay),
            _ => builder,
        };
        if random.below(3) == 0 {
            builder = builder.max_lateness(ms(random.below(20)));
        }
        if random.below(3) == 0 {
            builder = builder.max_runs(1 + random.below(20));
        }
        if random.below(2) == 0 {
            builder = builder.on_error(OnError::Continue);
        }
        let ticks: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, pass) = (ticks.clone(), clock.passer());
        let target = move |tick: Tick| {
            log.lock().unwrap().push(format!("{tick:?}"));
            let me = || everbeat::current().unwrap();
            match random.below(24) {
                0 => return Err("failed".to_owned()),
                1 => std::panic::resume_unwind(Box::new("panicked")), // tells no hook
                2 => pass(ms(random.below(40))),
                3 => me().pause(),
                4 => me().set_period(ms(1 + random.below(30))),
                5 => me().rearm(ms(1 + random.below(30))),
                6 => drop(me().trigger()),
                7 => me().request_stop(),
                8 => drop(me().cancel()),
                9 => drop(me().join()),
                10 => pass(Duration::from_nanos(random.below(9_999_999))),
                _ => {}
            }
            Ok(deliver(tick.run))
        };
        let timer = clock.inside(|| builder.start(target)).unwrap();
        Self { clock, origin, timer, ticks, pending: Vec::new(), feeds: Vec::new() }
    }

    fn step(&mut self, random: &mut Random) -> String {
        let (clock, timer) = (&self.clock, &self.timer);
        let span = ms(random.below(40)) + Duration::from_nanos(random.below(3));
        let choice = random.below(26);
        match choice {
            0 => clock.inside(|| clock.passer()(span)),
            1 => timer.pause(),
            2 => timer.resume(),
            3 => timer.set_period(span + ms(1)),
            4 => timer.rearm(span + ms(1)),
            5 => timer.set_period(ms(10)),
            6 => self.pending.push(timer.trigger()),
            7 => self.pending.push(timer.join()),
            8 => self.pending.clear(),
            9 if random.below(4) == 0 => drop(timer.cancel()),
            10 if random.below(4) == 0 => drop(timer.shutdown(span)),
            11 if random.below(4) == 0 => timer.request_stop(),
            12 => self.feeds.push(timer.subscribe().open().unwrap()),
            13 => self.feeds.clear(),
            14 | 15 => _ = clock.inside(|| timer.start()),
            16 => timer.rearm(ms(10)),
            17 => clock.settle(),
            _ => clock.advance(span),
        }
        clock.catch_up();
        format!("{choice} {span:?}")
    }

    fn state(&self) -> String {
        let stats = self.timer.stats();
        let since = |at: Option<Instant>| at.map(|at| at - self.origin);
        let end = if stats.running { None } else { Some(format!("{:?}", self.timer.wait().block(LIMIT))) };
        format!(
            "{:?} {:?} {} {} {} r{} h{} f{} {:?} last {:?} next {:?} latest {:?} end {end:?} now {:?} due {:?} log {:?}",
            stats.name,
            stats.period,
            stats.running,
            stats.busy,
            stats.paused,
            stats.runs,
            stats.hits,
            stats.failures,
            stats.skipped,
            since(stats.last_tick),
            since(stats.next_due),
            self.timer.latest(),
            self.clock.now() - self.origin,
            self.clock.next_due(),
            self.ticks.lock().unwrap().last(),
        )
    }
}

impl<S: Stage, V: std::fmt::Debug + Send + Sync + 'static> Side<S, V> {
    fn figures(&self) -> String {
        let stats = self.timer.stats();
        format!("{:?} {:?}", stats.lateness, stats.duration)
    }
}

fn do_the_same<S: Stage, V: std::fmt::Debug + Send + Sync + 'static>(deliver: fn(u64) -> V) {
    for seed in 1..=u64::from(much(60)) {
        let seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let kinds = [Kind::Lean, Kind::Measured, Kind::Whole];
        let [mut lean, mut measured, mut whole] = kinds.map(|kind| Side::<S, V>::new(kind, seed, deliver));
        let mut history = Vec::new();
        for step in 0..60_u64 {
            let mut random = Random((seed ^ (step + 1).wrapping_mul(0xD134_2543_DE82_EF95)) | 1);
            (0..4).for_each(|_| _ = random.below(2));
            let again = random.0;
            history.push(lean.step(&mut random));
            measured.step(&mut Random(again));
            whole.step(&mut Random(again));
            assert_eq!(lean.state(), whole.state(), "seed {seed}: {history:?}");
            assert_eq!(measured.state(), whole.state(), "seed {seed}: {history:?}");
            assert_eq!(measured.figures(), whole.figures(), "seed {seed}: {history:?}");
        }
    }
}

#[test]
fn s_r_l_lean_and_whole_timers_do_the_same() {
    do_the_same::<TestEngine, _>(|run| run);
}

#[test]
fn s_r_l_lean_and_whole_timers_in_tasks_do_the_same() {
    do_the_same::<PausedTime, _>(|run| run);
    do_the_same::<PausedTime, _>(|_| ());
}

/// Those that deliver nothing lie in the queue of their engine.
#[test]
fn s_r_l_timers_in_the_queue_and_whole_ones_do_the_same() {
    do_the_same::<TestEngine, _>(|_| ());
}

#[test]
fn o3_figures_outlast_whoever_waits_for_a_value() {
    let clock = TestEngine::new();
    let timer = thread::every(HOUR).fixed_rate().on(&clock).start(|| ()).unwrap();
    clock.settle();
    let run = timer.trigger(); // a whole timer as long as somebody waits
    clock.settle();
    let measured = timer.stats().duration.count();
    drop(run);
    clock.advance(HOUR);
    let count = timer.stats().duration.count();
    assert!(count >= measured, "{measured} runs were measured, and then {count}");
}

/// A subscriber that looks at a timer whenever it is asked whether it is interested.
struct Curious {
    timer: Arc<OnceLock<Timer<()>>>,
    spans: Arc<AtomicU64>,
    spans_only: bool,
}

impl tracing::Subscriber for Curious {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        if let Some(timer) = self.timer.get() {
            let _ = timer.hits();
        }
        self.spans_only && metadata.is_span()
    }
    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> tracing::subscriber::Interest {
        tracing::subscriber::Interest::sometimes()
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(self.spans.fetch_add(1, SeqCst) + 1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn d11_no_subscriber_is_asked_under_a_lock() {
    let hits = in_time(|| {
        let slot: Arc<OnceLock<Timer<()>>> = Arc::default();
        let curious = Curious { timer: slot.clone(), spans: Arc::default(), spans_only: false };
        leave_nothing_unheard();
        tracing::subscriber::with_default(curious, || {
            let clock = TestEngine::new();
            let timer = thread::every(HOUR).on(&clock).start(|| ()).unwrap();
            assert!(slot.set(timer.clone()).is_ok());
            clock.settle();
            timer.hits()
        })
    });
    assert_eq!(hits, Some(1), "the subscriber waits for the lock of the timer that asks it");
}

#[test]
fn o2_runs_of_plain_timers_have_spans_like_all_others() {
    let spans = Arc::new(AtomicU64::new(0));
    let curious = Curious { timer: Arc::default(), spans: spans.clone(), spans_only: true };
    leave_nothing_unheard();
    tracing::subscriber::with_default(curious, || {
        let clock = TestEngine::new();
        let full = thread::every(HOUR).on(&clock).on_end(|_| ()).start(|| ()).unwrap();
        clock.settle();
        assert_eq!((full.hits(), spans.load(SeqCst)), (1, 1));
        let lean = thread::every(HOUR).on(&clock).start(|| ()).unwrap();
        clock.settle();
        assert_eq!((lean.hits(), spans.load(SeqCst)), (1, 2));
    });
}

/// A million of them may be started for nothing.
#[test]
fn a_timer_that_is_started_and_cancelled_in_time_allocates_nothing() {
    let clock = TestEngine::new();
    let start = || thread::every(HOUR).initial_delay(HOUR).inline().on(&clock).start(|| ()).unwrap();
    let cancel = |timer: Timer<()>| {
        assert_eq!(timer.cancel().block(LIMIT).unwrap(), everbeat::StopReason::Cancelled);
    };
    let _alike = start(); // they share how they were built
    cancel(start());
    assert_eq!(allocation_counter::measure(|| cancel(start())).count_total, 0);
}

#[test]
fn l10_closing_an_engine_makes_no_whole_timers_of_those_that_wait() {
    let clock = TestEngine::new();
    let alive = Arc::new(());
    let start = || {
        let alive = alive.clone();
        clock.engine().every(HOUR).start(move || _ = Arc::strong_count(&alive)).unwrap()
    };
    let timers: Vec<_> = (0..much(1000)).map(|_| start()).collect();
    (0..much(1000)).for_each(|_| start().detach());
    clock.settle();
    let allocated = allocation_counter::measure(|| assert_eq!(clock.engine().close(LIMIT), 0)).count_total;
    assert!(allocated < 100, "{allocated} allocations");
    assert_eq!(Arc::strong_count(&alive), 1 + timers.len(), "those without a handle are gone");
    for timer in &timers {
        assert_eq!(timer.wait().block(LIMIT).unwrap(), everbeat::StopReason::Abandoned);
        assert_eq!((timer.hits(), timer.is_running()), (1, false));
    }
    drop(timers);
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn every_handle_of_a_timer_in_the_queue_counts() {
    let clock = TestEngine::new();
    let start = || thread::every(HOUR).fixed_rate().on(&clock).start(|| ()).unwrap();
    let (timer, detached) = (start(), start());
    let clone = timer.clone();
    drop(timer);
    detached.detach();
    clock.settle();
    assert_eq!((clone.hits(), clock.engine().stats().timers), (1, 2));
    let run = clone.trigger(); // a whole timer from here on
    let (third, weak) = (clone.clone(), clone.downgrade());
    drop(clone);
    clock.settle();
    assert_eq!(run.block(LIMIT).map(|value| *value).unwrap(), ());
    assert!(third.is_running() && weak.upgrade().is_some());
    drop(third);
    clock.settle();
    assert!(weak.upgrade().is_none());
    assert_eq!(clock.engine().stats().timers, 1);
}

#[test]
fn l8_a_timer_in_the_queue_that_was_detached_has_handles_like_any_other() -> Result<(), everbeat::Error> {
    let clock = TestEngine::new();
    let timer = thread::every(ms(10)).on(&clock).start(|| ())?;
    let other = timer.clone();
    timer.detach();
    let (second, third) = (other.clone(), other.clone());
    drop((other, second));
    clock.advance(ms(25));
    assert_eq!((third.hits(), third.is_running()), (3, true));
    drop(third);
    clock.settle();
    assert_eq!(clock.engine().stats().timers, 1, "it needs no handle");
    Ok(())
}

#[test]
fn d1_figures_of_a_timer_in_the_queue_that_has_ended_outlast_all_handles_but_one()
-> Result<(), everbeat::Error> {
    let clock = TestEngine::new();
    let timer = thread::every(ms(10)).on(&clock).start(|| ())?;
    clock.advance(ms(25));
    let others = [timer.clone(), timer.clone()];
    timer.request_stop();
    clock.settle();
    drop(others);
    assert_eq!((timer.hits(), timer.is_running(), clock.engine().stats().timers), (3, false, 0));
    Ok(())
}

/// A value that asks its engine something while it is dropped.
struct Asks(TestEngine, Arc<AtomicU64>);

impl Drop for Asks {
    fn drop(&mut self) {
        self.1.fetch_add(1 + self.0.engine().stats().timers as u64, SeqCst);
    }
}

#[test]
fn d11_what_a_timer_in_the_queue_holds_is_dropped_without_the_lock_of_its_engine() {
    let dropped = in_time(|| {
        let (clock, dropped) = (TestEngine::new(), Arc::new(AtomicU64::new(0)));
        let asks = Asks(clock.clone(), dropped.clone());
        let timer = thread::every(ms(10)).on(&clock).start(move || _ = &asks).unwrap();
        drop(timer);
        clock.settle();
        dropped.load(SeqCst)
    });
    assert_eq!(dropped, Some(1));
}

#[test]
fn l5_a_run_of_a_timer_in_the_queue_is_told_its_own_timer_from_another() -> Result<(), everbeat::Error> {
    let clock = TestEngine::new();
    let timers: Arc<OnceLock<(Timer<()>, Timer<u8>)>> = Arc::default();
    let (known, answers) = (timers.clone(), Arc::new(Mutex::new(Vec::new())));
    let log = answers.clone();
    let timer = thread::every(ms(10)).on(&clock).start(move || {
        let Some((me, other)) = known.get() else { return };
        let (mine, others) = (me.wait_hits(99).block(LIMIT), other.wait_hits(99).block(LIMIT));
        let named = matches!(mine, Err(everbeat::Error::InsideRun { .. }));
        let refused = matches!(others, Err(everbeat::Error::ThreadsafeDispatch { .. }));
        log.lock().unwrap().push((named, refused));
    })?;
    let other = thread::every(HOUR).on(&clock).start(|| 7)?;
    drop(other.subscribe().open()?);
    assert!(timers.set((timer.clone(), other)).is_ok());
    clock.advance(ms(25));
    assert_eq!(*answers.lock().unwrap(), [(true, true); 3]);
    timer.request_stop();
    clock.settle();
    Ok(())
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("boom");
    }
}

#[test]
fn r5_the_drop_of_what_a_timer_in_the_queue_holds_may_panic() -> Result<(), everbeat::Error> {
    let clock = TestEngine::new();
    let start = |bomb: Bomb| thread::every(ms(10)).on(&clock).start(move || _ = &bomb);
    let (dropped, closed) = (start(Bomb)?, start(Bomb)?);
    drop(dropped);
    assert_eq!(clock.engine().stats().timers, 1);
    clock.engine().close(LIMIT);
    assert!(!closed.is_running());
    drop(closed);
    Ok(())
}

#[test]
fn l4_no_run_starts_after_a_stop_by_a_run_that_followed_at_once() {
    let engine = thread::Engine::builder().workers(0).build();
    let (_holdup, go) = hold_up(&engine);
    let (slot, stopped, late): (Arc<OnceLock<Timer<()>>>, Arc<AtomicU64>, Arc<AtomicU64>) =
        Default::default();
    let (done, end) = std::sync::mpsc::channel();
    let first = engine.every(HOUR).inline().start({
        let (slot, stopped) = (slot.clone(), stopped.clone());
        move |tick: Tick| {
            if tick.run == 1 {
                drop(everbeat::current().unwrap().trigger());
            } else {
                drop(slot.get().unwrap().cancel());
                stopped.store(1, SeqCst);
                done.send(()).unwrap();
            }
        }
    });
    let _first = first.unwrap();
    let second = engine.every(HOUR).inline().start({
        let late = late.clone();
        move || _ = late.fetch_add(stopped.load(SeqCst), SeqCst)
    });
    slot.set(second.unwrap()).unwrap();
    go.send(()).unwrap();
    end.recv_timeout(LIMIT).unwrap();
    slot.get().unwrap().cancel().block(LIMIT).unwrap();
    assert_eq!(late.load(SeqCst), 0, "runs that began after the stop had returned");
}

/// Takes its time when it is woken: longer than a run that does nothing does on the slowest machine.
struct SlowToWake;

const SLOW: Duration = ms(1_500);

impl Wake for SlowToWake {
    fn wake(self: Arc<Self>) {
        std::thread::sleep(SLOW);
    }
}

#[test]
fn o3_a_run_is_not_blamed_for_what_another_timer_did_before_it() {
    let engine = thread::Engine::builder().workers(0).build();
    let (_holdup, go) = hold_up(&engine);
    let ((begun, has_begun), (finish, may_finish)) = (mpsc::channel(), mpsc::channel::<()>());
    let first = engine.every(HOUR).inline().start(move || {
        begun.send(()).unwrap();
        let _ = may_finish.recv_timeout(LIMIT);
    });
    let (done, end) = mpsc::channel();
    let second = engine.every(HOUR).inline().blocked_after(ms(1_000)).start(move |tick: Tick| {
        done.send(tick.lateness).unwrap();
        1_u64 // has a lock of its own
    });
    go.send(()).unwrap();
    has_begun.recv_timeout(LIMIT).unwrap();
    let mut wait = pin!(first.as_ref().unwrap().wait_hits(1));
    let slow = Waker::from(Arc::new(SlowToWake));
    assert!(wait.as_mut().poll(&mut Context::from_waker(&slow)).is_pending());
    finish.send(()).unwrap();
    let lateness = end.recv_timeout(LIMIT).unwrap();
    let second = second.unwrap();
    second.cancel().block(LIMIT).unwrap();
    assert_eq!(second.stats().blocked, 0);
    assert!(lateness >= SLOW, "{lateness:?}");
}

#[test]
fn o3_a_timer_that_was_started_again_after_a_failure_remembers_it() {
    let engine = TestEngine::new();
    let mut refusals = Some("refused").into_iter();
    let timer = thread::every(SECOND).on(&engine).inline();
    let timer = timer.start(move || refusals.next().map_or(Ok(()), Err)).unwrap();
    engine.settle();
    assert!(!timer.is_running());
    timer.start().unwrap();
    engine.settle();
    engine.advance(SECOND);
    let stats = timer.stats();
    assert_eq!((stats.hits, stats.failures), (2, 1), "{stats:?}");
}

#[test]
fn d6_a_feed_of_a_timer_without_values_outlasts_many_runs() {
    let engine = TestEngine::new();
    let timer = thread::every(SECOND).fixed_rate().on(&engine).inline().start(|| ()).unwrap();
    let mut feed = timer.subscribe().open().unwrap();
    timer.detach();
    engine.settle();
    engine.advance(SECOND * 1_000);
    let seen = std::iter::from_fn(|| feed.try_next()).filter(Result::is_ok).count();
    assert_eq!(seen, 1_001);
}
