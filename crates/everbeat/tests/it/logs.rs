//! O: what the log tells.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use everbeat::testing::TestEngine;
use everbeat::{Error, OnError, Tick, thread};
use tokio::time::sleep;
use tracing::{Dispatch, Level};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{every, ms};

/// Collects what is logged on this thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        Self::capture_from(Level::DEBUG)
    }

    fn capture_from(level: Level) -> (Self, tracing::subscriber::DefaultGuard) {
        leave_nothing_unheard();
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(writer)
            .with_ansi(false)
            .without_time()
            .with_max_level(level)
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        (log, guard)
    }

    pub(crate) fn lines(&self, with: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(with)).map(str::to_owned).collect()
    }
}

/// As long as there is only one subscriber, tracing asks that of the thread on which an event comes up first, and
/// takes its answer for everybody's. So other tests would make events unheard of; with this there are more.
pub(crate) fn leave_nothing_unheard() {
    static OTHERS: OnceLock<[Dispatch; 2]> = OnceLock::new();
    OTHERS.get_or_init(|| [Dispatch::new(Deaf), Dispatch::new(Deaf)]);
}

/// Hears nothing.
struct Deaf;

impl tracing::Subscriber for Deaf {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        false
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn s4_missed_slots_are_logged_once_a_batch_and_not_too_often() -> Result<(), Error> {
    let (log, _guard) = Log::capture();
    let timer = every(100)
        .fixed_rate()
        .name("late")
        .start(|tick: Tick| sleep(ms(if tick.run % 2 == 1 { 350 } else { 0 })))?;
    sleep(ms(450)).await;
    let lines = log.lines("slots missed");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        ["WARN", "timer=late", "missed=3", "late=250ms"].iter().all(|part| lines[0].contains(part)),
        "{lines:?}"
    );
    sleep(ms(9_000)).await;
    assert_eq!(log.lines("slots missed").len(), 1, "quiet for a while");
    sleep(ms(2_000)).await;
    let lines = log.lines("slots missed");
    assert_eq!(lines.len(), 2);
    let told: u64 = lines[1].split("missed=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(told > 30, "what was not told before is told now: {lines:?}");
    assert!(timer.is_running());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d6_losses_of_a_feed_are_logged_with_its_name() -> Result<(), Error> {
    let (log, _guard) = Log::capture();
    let timer = every(10).name("source").start(|| ())?;
    let feed = timer.subscribe().bounded(2).name("slow sink").open()?;
    timer.wait_hits(500).await?;
    let lines = log.lines("lost values");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("timer=source") && lines[0].contains("slow sink"), "{lines:?}");
    assert!(feed.dropped_count() > 490);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn o2_failures_ends_and_spans_carry_the_name() -> Result<(), Error> {
    let (log, _guard) = Log::capture();
    let timer = every(10).name("spanned").on_error(OnError::Continue).max_runs(1).start(|| {
        tracing::info!("inside the run");
        Err::<(), _>("as planned")
    })?;
    timer.wait().await?;
    assert!(log.lines("inside the run")[0].contains("timer{name=spanned}"));
    let failed = &log.lines("run failed")[0];
    assert!(failed.contains("timer=spanned") && failed.contains("as planned"), "{failed}");
    assert!(log.lines("timer ended")[0].contains("MaxRuns"));
    Ok(())
}

#[tokio::test]
async fn r7_a_blocking_run_is_reported_by_name() -> Result<(), Error> {
    let (log, _guard) = Log::capture();
    let timer = every(10).name("hog").blocked_after(ms(1)).max_runs(1).start(|| {
        std::thread::sleep(Duration::from_millis(5));
    })?;
    timer.wait().await?;
    assert!(log.lines("blocked its thread")[0].contains("timer=hog"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s4_what_was_kept_back_is_told_at_the_end() -> Result<(), Error> {
    let (log, _guard) = Log::capture();
    let takes = |tick: Tick| sleep(ms(if tick.run == 2 { 950 } else { 250 }));
    let timer = every(100).fixed_rate().max_runs(3).start(takes)?;
    let feed = timer.subscribe().bounded(1).open()?;
    timer.wait().await?;
    let lines = log.lines("slots missed");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("missed=2 late=150ms"), "{lines:?}");
    assert!(lines[1].contains("missed=9 late=850ms"), "{lines:?}");
    let lost: Vec<_> = log.lines("lost values");
    assert!(lost.len() == 2 && lost.iter().all(|line| line.contains("lost=1")), "{lost:?}");
    assert_eq!((feed.dropped_count(), timer.stats().feeds), (2, 0));
    Ok(())
}

/// Also if it has long been stored in few bytes again.
#[test]
fn s4_what_was_kept_back_is_told_when_a_timer_that_waits_is_stopped() -> Result<(), Error> {
    let (log, _guard) = Log::capture_from(Level::WARN); // nobody wants spans, which take a whole timer
    let clock = TestEngine::new();
    let time = clock.clone();
    let timer = thread::every(ms(10)).fixed_rate().on(&clock).start(move |tick: Tick| {
        time.pass(ms(if tick.run == 1 || tick.run == 3 { 35 } else { 0 }));
    })?;
    clock.advance(ms(500));
    assert_eq!(log.lines("slots missed").len(), 1);
    timer.request_stop();
    clock.settle();
    let lines = log.lines("slots missed");
    assert!(lines.len() == 2 && lines[1].contains("missed=3 late=25ms"), "{lines:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s4_slots_missed_right_before_the_end_of_ticks_are_logged() -> Result<(), Error> {
    for drops in [false, true] {
        let (log, _guard) = Log::capture();
        let mut ticks = every(100).fixed_rate().ticks()?;
        ticks.next().await;
        sleep(ms(350)).await;
        if drops {
            drop(ticks); // ends the late run, and then the schedule
        } else {
            ticks.timer().pause(); // the slots that a pause finds missed are a batch
            ticks.timer().cancel().await;
            assert_eq!(ticks.next().await, None);
        }
        let lines = log.lines("slots missed");
        assert!(lines.len() == 1 && lines[0].contains("missed=3 late=250ms"), "{lines:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn d6_nothing_is_told_of_a_feed_that_has_lost_nothing() -> Result<(), Error> {
    let (log, _guard) = Log::capture();
    let timer = every(10).max_runs(5).build(|| ())?;
    let feed = timer.subscribe().bounded(5).open()?;
    timer.start()?;
    timer.wait().await?;
    assert_eq!((feed.len(), log.lines("lost values")), (5, Vec::new()));
    Ok(())
}
