//! What a timer costs and gives back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use allocation_counter::measure;
use everbeat::{Error, Group, Tick, Timer, offload};

use crate::support::{every, ms, settle};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Allocations of a thousand ticks, after a warm-up.
fn allocations_of_ticks<V: Send + Sync + 'static>(timer: impl FnOnce() -> Result<Timer<V>, Error>) -> u64 {
    let runtime = runtime();
    let timer = runtime.block_on(async {
        let timer = timer().unwrap();
        timer.wait_hits(100).await.unwrap();
        timer
    });
    let before = timer.hits();
    // The wait itself allocates its place; ticks are what is counted.
    let wait = timer.wait_more(1_000);
    let measured = measure(|| runtime.block_on(async { wait.await.unwrap() }));
    assert!(timer.hits() - before >= 1_000);
    measured.count_total
}

/// What waiting for the thousand ticks costs: a waker handed out at the end, and what the runtime does.
const FEW: u64 = 10;

#[test]
fn a_tick_of_a_sync_target_without_subscribers_allocates_nothing() {
    assert!(allocations_of_ticks(|| every(1).start(|| ())) <= FEW);
    assert!(allocations_of_ticks(|| every(1).fixed_rate().jitter(0.5).start(|tick: Tick| tick)) <= FEW);
    assert!(allocations_of_ticks(|| every(0).start(|tick: Tick| tick.run)) <= FEW);
}

#[test]
fn a_tick_of_an_async_target_allocates_nothing_of_ours() {
    assert!(allocations_of_ticks(|| every(1).start(|| async { 1 })) <= FEW);
    assert!(allocations_of_ticks(|| every(1).start(tokio::task::yield_now)) <= FEW);
}

#[test]
fn a_tick_of_a_member_of_a_shared_task_allocates_nothing() {
    let group = Group::new();
    let each = |millis| group.every(ms(millis));
    assert!(allocations_of_ticks(|| each(1).start(|| ())) <= FEW);
    assert!(allocations_of_ticks(|| each(1).start(|| async { 1 })) <= FEW);
    assert!(allocations_of_ticks(|| each(1).fixed_rate().jitter(0.5).start(|tick: Tick| tick)) <= FEW);
}

#[test]
fn no_tick_spawns_a_task() {
    let runtime = runtime();
    runtime.block_on(async {
        let timer = every(1).start(|| async { tokio::task::yield_now().await }).unwrap();
        timer.wait_hits(1_000).await.unwrap();
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 1);
        let sync = every(1).start(|| ()).unwrap();
        sync.wait_hits(1_000).await.unwrap();
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 2);
    });
}

/// Counts how many of it are alive.
struct Token(Arc<AtomicUsize>);

impl Token {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self(alive.clone())
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn ten_thousand_timers_leave_nothing_behind() {
    let alive = Arc::new(AtomicUsize::new(0));
    let runtime = runtime();
    let live_bytes = measure(|| {
        runtime.block_on(async {
            let timers: Vec<_> = (0..10_000)
                .map(|i| {
                    let token = Token::new(&alive);
                    let builder = every(100 + i % 100).fixed_rate().initial_delay(ms(i % 100));
                    builder.start(move |tick: Tick| tick.run + u64::from(token.0.load(Ordering::SeqCst) == 0))
                })
                .collect::<Result<_, Error>>()
                .unwrap();
            let feeds: Vec<_> =
                timers.iter().step_by(10).map(|timer| timer.subscribe().open().unwrap()).collect();
            for timer in &timers {
                timer.wait_hits(3).await.unwrap();
            }
            assert_eq!(alive.load(Ordering::SeqCst), 10_000);
            assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 10_000);
            let cancels: Vec<_> = timers.iter().map(Timer::cancel).collect();
            for cancel in cancels {
                cancel.await;
            }
            assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
            drop((feeds, timers));
            assert_eq!(alive.load(Ordering::SeqCst), 0);
        });
    })
    .bytes_current;
    // The runtime keeps its own tables; ten thousand timers would be megabytes.
    assert!(live_bytes < 512 * 1024, "{live_bytes} bytes are still held");
}

#[tokio::test(start_paused = true)]
async fn l8_a_timer_dropped_in_any_state_leaves_nothing_behind() -> Result<(), Error> {
    let alive = Arc::new(AtomicUsize::new(0));
    let make = |millis: u64| {
        let token = Token::new(&alive);
        every(10).initial_delay(ms(millis)).build(move || {
            let held = token.0.clone();
            async move {
                tokio::time::sleep(ms(5)).await;
                drop(held);
            }
        })
    };
    drop(make(0)?); // never started
    let waiting = make(1_000)?;
    waiting.start()?;
    settle().await;
    drop(waiting);
    let running = make(0)?;
    running.start()?;
    settle().await;
    drop(running);
    let between = make(0)?;
    between.start()?;
    between.wait_hits(2).await?;
    drop(between);
    let draining = make(0)?;
    draining.start()?;
    settle().await;
    let answer = draining.shutdown(ms(3));
    drop((draining, answer));
    let ended = make(0)?;
    ended.start()?;
    ended.cancel().await;
    drop(ended);
    tokio::time::sleep(ms(100)).await;
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    Ok(())
}

#[tokio::test]
async fn l8_an_offloaded_target_is_dropped_with_its_timer() -> Result<(), Error> {
    let alive = Arc::new(AtomicUsize::new(0));
    let token = Token::new(&alive);
    let timer = every(1).start(offload(move || token.0.load(Ordering::SeqCst)))?;
    timer.wait_hits(2).await?;
    timer.cancel().await;
    drop(timer);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    Ok(())
}
