//! Members of a group that share one task.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use everbeat::{Builder, Error, Group, Missed, OnError, StopReason, Tick, Timer, offload};
use tokio::runtime::{Builder as RuntimeBuilder, Handle, Runtime};
use tokio::time::sleep;

use crate::support::{Gate, Journal, LIMIT, SECOND, Stopwatch, every, ms, much, settle};

const BURST: Missed = Missed::Burst { max: 3 };

fn runtime() -> Runtime {
    RuntimeBuilder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

fn each(group: &Group, millis: u64) -> Builder {
    group.every(ms(millis))
}

#[tokio::test(start_paused = true)]
async fn g4_members_made_by_a_group_share_one_task() -> Result<(), Error> {
    let group = Group::named("many");
    for _ in 0..500 {
        drop(each(&group, 10).start(|| ())?);
        drop(each(&group, 10).start(|| async { sleep(ms(1)).await })?);
        drop(each(&group, 10).build(|tick: Tick| tick.run)?);
    }
    assert_eq!(group.len(), 1500);
    assert!(!group.is_running(), "a third was only built");
    assert_eq!(tasks(), 1);
    group.cancel().await;
    settle().await;
    assert_eq!(tasks(), 0, "it goes with the last of them");
    drop(each(&group, 10).start(|| ())?);
    settle().await;
    assert_eq!(tasks(), 1, "and comes again");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn g2_a_member_built_in_a_group_that_is_active_is_started() -> Result<(), Error> {
    let group = Group::new();
    let first = each(&group, 10).build(|| ())?;
    group.start()?;
    let second = each(&group, 10).build(|| ())?;
    assert!(first.is_running() && second.is_running());
    group.wait_hits(2).await.all()?;
    assert!(group.is_running());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s3_members_of_a_shared_task_keep_their_grids() -> Result<(), Error> {
    let group = Group::new();
    let clock = Stopwatch::start();
    let seen = Journal::new();
    for period in [7, 10, 25] {
        let seen = seen.clone();
        drop(each(&group, period).fixed_rate().initial_delay(ms(period)).start(move |tick: Tick| {
            assert_eq!(tick.lateness, Duration::ZERO);
            seen.add((clock.millis(), period));
        })?);
    }
    sleep(ms(51)).await;
    let mut expected: Vec<_> = [7, 10, 25]
        .iter()
        .flat_map(|period| (1..=50 / period).map(move |slot| (u128::from(slot * period), *period)))
        .collect();
    let mut seen = seen.entries();
    expected.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, expected);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r1_long_runs_of_members_do_not_hold_each_other_up() -> Result<(), Error> {
    let group = Group::new();
    let slow = each(&group, 10).start(|| sleep(ms(1000)))?;
    let quick = each(&group, 10).fixed_rate().start(|| ())?;
    sleep(ms(995)).await;
    assert_eq!((slow.hits(), quick.hits()), (0, 100));
    sleep(ms(10)).await;
    assert_eq!(slow.hits(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r5_failures_and_panics_stay_with_their_member() -> Result<(), Error> {
    let group = Group::new();
    let failing = each(&group, 10).start(|| Err::<(), _>("broken"))?;
    let panicking = each(&group, 10).on_error(OnError::Continue).start(|| -> () { panic!("oh") })?;
    let fine = each(&group, 10).start(|| 1)?;
    fine.wait_hits(5).await?;
    assert!(!failing.is_running());
    assert!(panicking.is_running() && panicking.stats().failures >= 4);
    assert_eq!(tasks(), 1);
    Ok(())
}

#[tokio::test]
async fn r7_members_of_a_shared_task_can_be_offloaded() -> Result<(), Error> {
    let group = Group::new();
    let here = std::thread::current().id();
    let away = each(&group, 1).start(offload(move || {
        assert_ne!(std::thread::current().id(), here);
        std::thread::sleep(ms(1));
    }))?;
    away.wait_hits(3).timeout(LIMIT).await?;
    group.cancel().await;
    Ok(())
}

#[test]
fn l2_members_end_with_their_runtime_and_start_on_another() -> Result<(), Error> {
    let group = Group::new();
    let ends = Journal::new();
    let told = ends.clone();
    let timer = {
        let runtime = runtime();
        runtime.block_on(async {
            let timer = each(&group, 10)
                .fixed_rate()
                .on_end(move |reason| told.add(reason))
                .start(|tick: Tick| tick.run)?;
            drop(each(&group, 10).start(|| ())?);
            timer.wait_hits(1000).await?;
            Ok::<_, Error>(timer)
        })?
    };
    assert_eq!(ends.entries(), [StopReason::Abandoned]);
    assert!(!timer.is_running());
    assert!(matches!(timer.start(), Err(Error::NoRuntime { .. })));
    // The clock of the next runtime is ten seconds behind.
    runtime().block_on(async {
        let clock = Stopwatch::start();
        timer.start()?;
        timer.wait_more(5).await?;
        assert_eq!((timer.hits(), clock.millis()), (1005, 40));
        assert_eq!(timer.cancel().await, StopReason::Cancelled);
        Ok(())
    })
}

#[test]
fn e1_a_shared_task_needs_a_runtime_with_a_time_driver() -> Result<(), Error> {
    let group = Group::new();
    let timer = each(&group, 10).name("lonely").build(|| 1)?;
    let refused = |result: Result<(), Error>| {
        assert!(matches!(&result, Err(Error::NoRuntime { name }) if *name == *"lonely"), "{result:?}");
    };
    refused(timer.start());
    refused(each(&group, 10).name("lonely").start(|| ()).map(drop));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    RuntimeBuilder::new_current_thread().build().unwrap().block_on(async { refused(timer.start()) });
    std::panic::set_hook(hook);
    assert_eq!(group.len(), 1, "who could not be started is no member");
    runtime().block_on(async {
        timer.start()?;
        timer.wait_hits(2).await
    })
}

#[test]
fn l5_blocking_on_the_thread_of_a_shared_task_is_refused() -> Result<(), Error> {
    let group = Group::new();
    runtime().block_on(async {
        let timer = each(&group, 10).start(|| 1)?;
        assert!(matches!(timer.join().block(LIMIT), Err(Error::ThreadsafeDispatch { .. })));
        let answers = group.wait_more(1).block(LIMIT).into_vec();
        assert!(matches!(answers[0].1, Err(Error::ThreadsafeDispatch { .. })));
        Ok(())
    })
}

#[tokio::test(start_paused = true)]
async fn g4_a_member_is_known_however_it_is_asked_for() -> Result<(), Error> {
    let group = Group::new();
    let timer = each(&group, 10).name("one").start(|| ())?;
    let before = timer.clone();
    timer.trigger().await?; // it has a lock of its own from here on
    let after = timer.clone();
    for handle in [&timer, &before, &after] {
        assert!(group.contains(handle));
        group.add(handle)?;
    }
    assert_eq!(group.len(), 1);
    assert!(group.get("one").unwrap().same_timer(&(&before).into()));
    let other = every(10).start(|| ())?;
    assert!(!group.contains(&other));
    group.add(&other)?;
    assert_eq!(group.len(), 2);
    assert!(group.remove(&after) && !group.contains(&before) && !group.remove(&before));
    assert_eq!(group.len(), 1);
    group.add(&before)?;
    assert_eq!(group.len(), 2);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l8_members_outlive_their_group_as_long_as_they_have_handles() -> Result<(), Error> {
    let group = Group::new();
    let kept = each(&group, 10).start(|| ())?;
    let runs = Arc::new(AtomicU64::new(0));
    let counted = runs.clone();
    drop(each(&group, 10).start(move || _ = counted.fetch_add(1, Relaxed))?);
    sleep(ms(25)).await;
    drop(group);
    sleep(ms(100)).await;
    assert_eq!(runs.load(Relaxed), 3, "only the group had a handle");
    assert!(kept.is_running() && kept.hits() >= 12);
    drop(kept);
    settle().await;
    assert_eq!(tasks(), 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s6_a_member_of_period_zero_leaves_others_their_turn() -> Result<(), Error> {
    let group = Group::new();
    let busy = each(&group, 0).start(|| ())?;
    let task = tokio::spawn(async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    });
    task.await.unwrap();
    assert!(busy.hits() >= 50);
    busy.cancel().await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s4_a_stall_of_a_shared_task_is_one_late_tick_a_member() -> Result<(), Error> {
    let group = Group::new();
    let seen = Journal::new();
    for policy in [Missed::Skip, Missed::Delay, BURST] {
        let seen = seen.clone();
        let target = move |tick: Tick| seen.add((policy, tick.slot, tick.missed));
        drop(each(&group, 10).fixed_rate().missed(policy).start(target)?);
    }
    settle().await;
    tokio::time::advance(ms(999_995)).await;
    settle().await;
    let of = |policy| seen.entries().into_iter().filter(|(of, ..)| *of == policy).count();
    assert_eq!((of(Missed::Skip), of(Missed::Delay)), (2, 2));
    assert!(of(BURST) <= 5);
    Ok(())
}

/// Several threads start and stop timers of a runtime with several threads; none runs once it was stopped.
fn start_and_stop_from_many_threads(every: fn(&Group, Duration) -> Builder) -> Result<(), Error> {
    let runtime = RuntimeBuilder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let group = Group::new();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (group, handle) = (group.clone(), runtime.handle().clone());
            std::thread::spawn(move || {
                let _context = handle.enter();
                for round in 0..much(200) {
                    let stopped = Arc::new(AtomicU64::new(0));
                    let seen = stopped.clone();
                    let target = move || assert_eq!(seen.load(Relaxed), 0, "a run after the stop");
                    let timer = every(&group, Duration::from_micros(50)).start(target)?;
                    if round % 2 == 0 {
                        while timer.hits() == 0 {
                            std::thread::yield_now();
                        }
                    }
                    handle.block_on(timer.cancel());
                    stopped.store(1, Relaxed);
                    assert_eq!((timer.stats().failures, timer.is_running()), (0, false));
                    group.remove(&timer);
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    threads.into_iter().try_for_each(|thread| thread.join().unwrap())?;
    assert!(group.is_empty());
    Ok(())
}

#[test]
fn l4_members_are_started_and_stopped_from_many_threads() -> Result<(), Error> {
    start_and_stop_from_many_threads(|group, period| group.every(period))
}

#[test]
fn l4_lean_timers_in_tasks_are_started_and_stopped_from_many_threads() -> Result<(), Error> {
    start_and_stop_from_many_threads(|_, period| Timer::every(period).histograms(false))
}

#[tokio::test(start_paused = true)]
async fn d6_feeds_of_members_of_a_shared_task() -> Result<(), Error> {
    let group = Group::new();
    let timer: Timer<u64> = group.every(SECOND).max_runs(5).build(|tick: Tick| tick.run)?;
    let mut feed = timer.subscribe().open()?;
    timer.start()?;
    let mut seen = Vec::new();
    while let Some(value) = feed.next().await {
        seen.push(*value.unwrap());
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    Ok(())
}

#[test]
fn d10_ticks_of_a_group_survive_its_runtime() -> Result<(), Error> {
    let group = Group::new();
    let runtime = runtime();
    let mut ticks = runtime.block_on(async {
        let mut ticks = group.every(SECOND).initial_delay(SECOND).ticks()?;
        assert!(tokio::time::timeout(ms(1), ticks.next()).await.is_err());
        Ok::<_, Error>(ticks)
    })?;
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(runtime);
        done.send(()).unwrap();
    });
    ended.recv_timeout(LIMIT).expect("the runtime goes away");
    self::runtime().block_on(async { assert!(ticks.next().await.is_some()) });
    Ok(())
}

#[test]
fn l5_blocking_for_ticks_on_the_thread_of_a_shared_task_is_refused() -> Result<(), Error> {
    let group = Group::new();
    runtime().block_on(async {
        drop(each(&group, 10).start(|| ())?);
        let mut ticks = group.every(SECOND).initial_delay(SECOND).ticks()?;
        let refused = ticks.next_blocking(ms(1));
        assert!(matches!(refused, Err(Error::ThreadsafeDispatch { .. })), "{refused:?}");
        Ok(())
    })
}

#[test]
fn l7_a_member_that_lost_its_runtime_can_be_started_while_others_are_told() -> Result<(), Error> {
    let group = Group::new();
    let (first, told) = (runtime(), Gate::default());
    let timer = first.block_on(async {
        let timer = each(&group, 10).start(|| 1)?;
        let told = told.clone();
        drop(each(&group, 10).on_end(move |_| told.pass()).start(|| 1)?);
        settle().await;
        Ok::<_, Error>(timer)
    })?;
    std::thread::scope(|scope| {
        let end = timer.wait();
        scope.spawn(move || drop(first));
        let result = (|| {
            assert_eq!(end.block(LIMIT)?, StopReason::Abandoned);
            let next = RuntimeBuilder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
            let context = next.enter();
            timer.start()?;
            timer.wait_more(2).block(LIMIT)?;
            told.open();
            timer.wait_more(2).block(LIMIT)?;
            drop(context);
            Ok(())
        })();
        told.open();
        result
    })
}

#[test]
fn s11_a_member_that_ends_while_it_is_being_started_is_not_started_again() -> Result<(), Error> {
    let runtime = RuntimeBuilder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let _context = runtime.enter();
    let group = Group::new();
    drop(each(&group, 0).build(|| ())?);
    group.start()?;
    for round in 0..much(2000) {
        let runs = Arc::new(AtomicU64::new(0));
        let counted = runs.clone();
        let timer = each(&group, 0).max_runs(1).start(move || counted.fetch_add(1, Relaxed))?;
        assert_eq!(timer.wait().block(LIMIT)?, StopReason::MaxRuns);
        group.remove(&timer);
        assert_eq!(runs.load(Relaxed), 1, "round {round}");
    }
    Ok(())
}

#[test]
fn e1_ticks_of_a_group_need_a_runtime() {
    let refused = Group::new().every(SECOND).ticks();
    assert!(matches!(refused, Err(Error::NoRuntime { .. })), "{refused:?}");
}

#[test]
fn l9_a_timer_can_be_started_on_a_thread_that_is_being_torn_down() -> Result<(), Error> {
    struct Last(Handle, Arc<AtomicU64>);
    impl Drop for Last {
        fn drop(&mut self) {
            let _context = self.0.enter();
            every(10).start(|| 1).unwrap().detach();
            self.1.store(1, Relaxed);
        }
    }
    thread_local!(static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) });
    let runtime = runtime();
    let (handle, started) = (runtime.handle().clone(), Arc::new(AtomicU64::new(0)));
    let told = started.clone();
    std::thread::spawn(move || {
        let _context = handle.enter(); // what tokio knows of the thread goes last
        LAST.set(Some(Last(handle.clone(), told)));
        every(10).start(|| 1).unwrap().detach(); // what the clocks know goes first
    })
    .join()
    .unwrap();
    assert_eq!(started.load(Relaxed), 1);
    Ok(())
}

#[test]
fn l7_a_member_that_lost_its_runtime_is_started_at_once_on_another() -> Result<(), Error> {
    let next = RuntimeBuilder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let _context = next.enter();
    for _ in 0..much(100) {
        let group = Group::new();
        let first = RuntimeBuilder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        let timer = first.block_on(async { each(&group, 1).start(|| 1) })?;
        let end = timer.wait();
        std::thread::scope(|scope| {
            scope.spawn(move || drop(first));
            assert_eq!(end.block(LIMIT)?, StopReason::Abandoned);
            timer.start()?;
            timer.wait_more(2).block(LIMIT)
        })?;
    }
    Ok(())
}

/// What `ask` says on a thread that knows of no runtime.
fn elsewhere<T: Send>(ask: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(ask).join().unwrap())
}

#[tokio::test(start_paused = true)]
async fn l7_a_member_is_started_on_any_thread_while_others_run() -> Result<(), Error> {
    let group = Group::new();
    let first = each(&group, 10).start(|| ())?;
    let second = each(&group, 10).build(|| ())?;
    elsewhere(|| second.start())?;
    second.wait_hits(2).await?;
    assert!(first.is_running() && tasks() == 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn s7_a_thread_outside_asks_by_the_time_of_the_runtime() -> Result<(), Error> {
    let group = Group::new();
    let clock = Stopwatch::start();
    let timer = each(&group, 60_000).fixed_rate().start(|| ())?;
    timer.wait_hits(1).await?;
    sleep(ms(30_000)).await;
    elsewhere(|| timer.rearm(ms(7_000)));
    timer.wait_hits(2).await?;
    assert_eq!(clock.millis(), 35_000, "the next slot of the new grid");
    Ok(())
}
