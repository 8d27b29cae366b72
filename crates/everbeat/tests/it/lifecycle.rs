//! L: starting, stopping, and being dropped.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use everbeat::thread::PeriodicTask;
use everbeat::{Error, OnError, Scope, Shutdown, StopReason, Tick, Timer, WeakTimer, offload};
use tokio::time::sleep;

use crate::support::{Gate, Journal, LIMIT, SECOND, Stopwatch, eventually, every, ms, much, settle};

#[tokio::test(start_paused = true)]
async fn l1_start_on_a_running_timer_is_an_error() -> Result<(), Error> {
    let timer = every(10).name("one").start(|| ())?;
    assert_eq!(timer.start().unwrap_err().to_string(), "timer `one` is already running");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l2_cancel_returns_when_nothing_of_the_run_is_left() -> Result<(), Error> {
    struct Slow(Journal<&'static str>);
    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.add("run dropped");
        }
    }
    let journal = Journal::new();
    let (ends, runs) = (journal.clone(), journal.clone());
    let timer = every(10).on_end(move |_| ends.add("callback")).start(move || {
        let guard = Slow(runs.clone());
        async move {
            sleep(SECOND).await;
            guard.0.add("finished");
        }
    })?;
    sleep(ms(5)).await;
    let clock = Stopwatch::start();
    assert_eq!(timer.cancel().await, StopReason::Cancelled);
    assert_eq!((clock.millis(), journal.entries()), (0, vec!["run dropped", "callback"]));
    assert_eq!(timer.cancel().await, StopReason::Cancelled);
    assert!(!timer.is_running());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l2_code_after_an_await_does_not_run_once_cancel_was_called() -> Result<(), Error> {
    let (send, receive) = tokio::sync::watch::channel(false);
    let passed = Arc::new(AtomicBool::new(false));
    let flag = passed.clone();
    let timer = every(10).start(move || {
        let (mut receive, flag) = (receive.clone(), flag.clone());
        async move {
            receive.wait_for(|open| *open).await.unwrap();
            flag.store(true, Ordering::SeqCst);
        }
    })?;
    settle().await;
    // The run becomes ready and is cancelled before it is polled: the cancel counts.
    send.send(true).unwrap();
    timer.cancel().await;
    assert!(!passed.load(Ordering::SeqCst));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l3_shutdown_tells_which_of_the_two_it_was() -> Result<(), Error> {
    let run_of = |millis| every(10).start(move || sleep(ms(millis)));
    let (quick, slow) = (run_of(50)?, run_of(5_000)?);
    sleep(ms(5)).await;
    let clock = Stopwatch::start();
    assert_eq!(quick.shutdown(ms(100)).await, Shutdown::Drained);
    assert_eq!((clock.millis(), quick.hits()), (45, 1));
    assert_eq!(slow.shutdown(ms(100)).await, Shutdown::Cancelled);
    assert_eq!((clock.millis(), slow.hits()), (145, 0));
    assert_eq!(slow.wait().await?, StopReason::GraceExpired);
    assert_eq!(every(10).build(|| ())?.shutdown(ms(1)).await, Shutdown::Drained);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l3_a_cancel_overtakes_a_shutdown() -> Result<(), Error> {
    let timer = every(10).start(|| sleep(Duration::MAX))?;
    settle().await;
    let shutdown = timer.shutdown(Duration::MAX);
    assert_eq!(timer.cancel().await, StopReason::Cancelled);
    assert_eq!(shutdown.await, Shutdown::Cancelled);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_no_run_starts_after_a_stop_from_any_thread() -> Result<(), Error> {
    for round in 0..much(300) {
        let stopped = Arc::new(AtomicBool::new(false));
        let late = Arc::new(AtomicUsize::new(0));
        let (flag, count) = (stopped.clone(), late.clone());
        let timer = every(0).start(move || {
            count.fetch_add(usize::from(flag.load(Ordering::SeqCst)), Ordering::SeqCst);
        })?;
        let handle = timer.clone();
        let stopper = std::thread::spawn(move || {
            let limit = Duration::from_secs(30);
            match round % 3 {
                0 => drop(handle.cancel().block(limit).unwrap()),
                1 => drop(handle.shutdown(SECOND).block(limit).unwrap()),
                _ => {
                    handle.request_stop();
                    handle.wait().block(limit).unwrap();
                }
            }
            stopped.store(true, Ordering::SeqCst);
        });
        let triggers = timer.clone();
        let trigger = tokio::spawn(async move { while triggers.trigger().await.is_ok() {} });
        tokio::task::spawn_blocking(|| stopper.join()).await.unwrap().unwrap();
        trigger.await.unwrap();
        assert_eq!(late.load(Ordering::SeqCst), 0);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l5_a_run_may_stop_its_own_timer() -> Result<(), Error> {
    for stop in ["cancel", "shutdown", "request_stop"] {
        let timer = every(10).start(move |tick: Tick| async move {
            let me = everbeat::current().unwrap();
            if tick.run == 3 {
                match stop {
                    "cancel" => drop(me.cancel().await),
                    "shutdown" => drop(me.shutdown(Duration::MAX).await),
                    _ => me.request_stop(),
                }
            }
            tick.run
        })?;
        let reason = timer.wait().await?;
        assert_eq!((timer.hits(), timer.latest().as_deref()), (3, Some(&3)), "{stop} lost the value");
        assert_eq!(reason == StopReason::Cancelled, stop == "cancel");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l5_a_cancelled_run_is_given_up_at_its_next_await() -> Result<(), Error> {
    let timer = every(10).start(|| async {
        everbeat::current().unwrap().cancel().await;
        sleep(ms(1)).await;
        assert!(!everbeat::current().unwrap().is_running(), "the run was given up");
    })?;
    assert_eq!(timer.wait().await?, StopReason::Cancelled);
    assert_eq!((timer.hits(), timer.stats().failures), (0, 0));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l5_waiting_for_a_later_run_from_inside_a_run_is_refused() -> Result<(), Error> {
    let timer = every(10).max_runs(1).start(|| async {
        let me = everbeat::current().unwrap();
        let errors = [
            me.trigger().await.err(),
            me.join().await.err(),
            me.wait_more(1).await.err(),
            me.wait().await.err(),
            me.start().err(),
        ];
        errors.map(|error| error.unwrap().to_string())
    })?;
    timer.wait().await?;
    let errors = timer.latest().unwrap();
    assert!(errors[..4].iter().all(|error| error.contains("from inside its own run")), "{errors:?}");
    assert!(errors[4].contains("already running"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l5_callbacks_may_call_anything() -> Result<(), Error> {
    let timer = every(10)
        .on_error(OnError::Continue)
        .on_failure(|_| {
            let me = everbeat::current().unwrap();
            drop((me.trigger(), me.stats(), me.latest()));
            me.set_period(ms(20));
            me.request_stop();
        })
        .on_end(|_| {
            let me = everbeat::current().unwrap();
            drop((me.cancel(), me.trigger(), me.wait()));
            assert!(me.start().is_err());
        })
        .start(|| Err::<(), _>("as planned"))?;
    assert_eq!(timer.wait().await?, StopReason::Drained);
    assert_eq!(timer.stats().runs, 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l6_a_cancel_goes_on_when_its_caller_is_cancelled() -> Result<(), Error> {
    let timer = every(10).start(|| sleep(SECOND))?;
    settle().await;
    let handle = timer.clone();
    let caller = tokio::spawn(async move { handle.shutdown(ms(500)).await });
    settle().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    assert_eq!(timer.wait().await?, StopReason::GraceExpired);
    Ok(())
}

/// The run is on a thread for blocking work, where nothing can interrupt it.
#[tokio::test]
async fn l6_a_cancel_over_an_offloaded_run_goes_on_when_its_caller_is_cancelled() -> Result<(), Error> {
    let (gate, over, ended) = (Gate::default(), Journal::new(), Journal::new());
    let (passed, done, ends) = (gate.clone(), over.clone(), ended.clone());
    let (in_run, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let timer = every(1).on_end(move |reason| ends.add(reason)).start(offload(move || {
        in_run.send(()).unwrap();
        passed.pass();
        done.add(());
    }))?;
    begun.recv().await.unwrap();
    let handle = timer.clone();
    let caller = tokio::spawn(async move { handle.cancel().await });
    settle().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    settle().await;
    assert!(timer.is_running() && ended.entries().is_empty(), "the run is waited for");
    gate.open();
    assert_eq!(timer.wait().await?, StopReason::Cancelled);
    assert_eq!((over.entries().len(), ended.entries()), (1, vec![StopReason::Cancelled]));
    assert!(begun.try_recv().is_err(), "no run after the stop");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l7_restart() -> Result<(), Error> {
    let timer = every(10).fixed_rate().initial_delay(ms(30)).start(|tick: Tick| tick)?;
    timer.wait_hits(2).await?;
    timer.cancel().await;
    sleep(SECOND).await;
    let clock = Stopwatch::start();
    timer.start()?;
    timer.wait_hits(4).await?;
    assert_eq!(clock.millis(), 40);
    let last = timer.latest().unwrap();
    assert_eq!((last.run, last.slot, last.missed, last.lateness), (4, 1, 0, Duration::ZERO));
    let single = every(10).name("single").stop_when(async {}).start(|| ())?;
    single.wait().await?;
    let error = single.start().unwrap_err();
    assert!(matches!(error, Error::Restart { .. }) && error.to_string().contains("`single`"), "{error}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l7_restart_after_a_failure_forgets_it() -> Result<(), Error> {
    let timer = every(10).start(|tick: Tick| if tick.run == 1 { Err("once") } else { Ok(()) })?;
    assert!(timer.wait().await.is_err());
    timer.start()?;
    timer.wait_hits(1).await?;
    timer.cancel().await;
    assert_eq!(timer.wait().await?, StopReason::Cancelled);
    assert!(matches!(timer.join().await, Err(Error::NotRunning { .. })));
    Ok(())
}

#[test]
fn l7_restart_on_another_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let timer = every(1).build(|| ()).unwrap();
    for round in 1..=3 {
        let runtime = runtime();
        runtime.block_on(async {
            timer.start().unwrap();
            timer.wait_hits(round * 2).await.unwrap();
            assert!(timer.is_running());
        });
        drop(runtime);
        // Its runtime is gone: it has ended, and says so to whoever asks.
        assert!(!timer.is_running());
        assert_eq!(timer.wait().block(SECOND).unwrap(), StopReason::Abandoned);
        assert!(matches!(timer.trigger().block(SECOND), Err(Error::NotRunning { .. })));
    }
}

#[test]
fn r6_the_end_callback_is_called_when_the_runtime_goes_away() {
    let ends = Arc::new(AtomicUsize::new(0));
    let count = ends.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let timer = every(1).on_end(move |reason| {
        assert_eq!(reason, StopReason::Abandoned);
        count.fetch_add(1, Ordering::SeqCst);
    });
    let timer = runtime.block_on(async { timer.start(std::future::pending::<()>) }).unwrap();
    runtime.block_on(settle());
    let waiting = timer.join();
    drop(runtime);
    assert_eq!(ends.load(Ordering::SeqCst), 1);
    assert!(matches!(waiting.block(SECOND), Err(Error::Stopped { reason: StopReason::Abandoned, .. })));
}

#[tokio::test(start_paused = true)]
async fn l8_the_last_handle_stops_the_timer_after_its_run() -> Result<(), Error> {
    let finished = Arc::new(AtomicU64::new(0));
    let make = || {
        let finished = finished.clone();
        every(10).start(move || {
            let finished = finished.clone();
            async move {
                sleep(ms(50)).await;
                finished.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let (timer, clone) = {
        let timer = make()?;
        (timer.clone(), timer)
    };
    let weak = timer.downgrade();
    settle().await;
    drop(timer);
    assert!(weak.upgrade().is_some_and(|timer| timer.is_running()));
    drop(clone);
    assert!(weak.upgrade().is_none());
    sleep(SECOND).await;
    assert_eq!(finished.load(Ordering::SeqCst), 1, "the run in flight was torn, or another one started");
    make()?.detach();
    sleep(ms(601)).await;
    assert_eq!(finished.load(Ordering::SeqCst), 11);
    Ok(())
}

#[tokio::test]
async fn l9_blocking_on_a_thread_that_the_timer_needs_is_refused() -> Result<(), Error> {
    let timer = every(10).name("mine").start(|| sleep(SECOND))?;
    settle().await; // it is in the middle of a run
    let error = timer.cancel().block(SECOND).unwrap_err();
    assert!(matches!(error, Error::ThreadsafeDispatch { .. }), "{error}");
    assert!(error.to_string().contains("`mine`") && error.to_string().contains("another thread"), "{error}");
    assert_eq!(timer.wait().await?, StopReason::Cancelled, "the request itself stands");
    Ok(())
}

/// A worker of tokio keeps the task that it has woken last to itself, and that is the one it waits for.
#[test]
fn l9_a_worker_of_a_runtime_may_wait_for_what_it_has_asked_for() -> Result<(), Error> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_time().build().unwrap();
    let (in_context, hour, scope) = (runtime.enter(), SECOND * 3600, Scope::new());
    let timer = Timer::every(hour).start(|| async { 7 })?;
    let tied = Timer::every(hour).tied_to(&scope).start(move || sleep(hour))?;
    let task = PeriodicTask::of(Timer::every(hour).on_end(|_| ()), || async { 7 })?;
    task.start()?;
    timer.wait_hits(1).block(LIMIT)?;
    eventually("it is in a run", || tied.stats().busy);
    let (done, result) = mpsc::channel();
    runtime.spawn(async move {
        let value = timer.trigger().block(LIMIT).map(|value| *value);
        task.stop();
        let report = scope.close(SECOND);
        done.send((value, task.is_running(), report.left.len(), report.cancelled)).unwrap();
    });
    let result = result.recv_timeout(LIMIT * 2);
    drop(in_context);
    runtime.shutdown_background(); // one of its workers may never come back
    let (value, runs, left, cancelled) = result.expect("it waits for ever");
    assert_eq!((value?, runs, left, cancelled), (7, false, 0, 1));
    Ok(())
}

#[test]
fn l9_blocking_inside_a_run_is_refused_on_every_runtime() {
    for runtime in [
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap(),
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap(),
    ] {
        let me = Arc::new(OnceLock::<WeakTimer<bool>>::new());
        let handle = me.clone();
        let timer = every(10).max_runs(1).build(move || {
            let timer = handle.get().unwrap().upgrade().unwrap();
            matches!(timer.trigger().block(SECOND), Err(Error::ThreadsafeDispatch { .. }))
        });
        let timer = timer.unwrap();
        me.set(timer.downgrade()).unwrap();
        runtime.block_on(async {
            timer.start().unwrap();
            timer.wait().await.unwrap();
        });
        assert_eq!(timer.latest().as_deref(), Some(&true));
    }
}

#[tokio::test]
async fn l9_control_from_threads_without_a_runtime() -> Result<(), Error> {
    let timer = every(1).start(|tick: Tick| tick.run)?;
    let mut feed = timer.subscribe().open()?;
    let handle = timer.clone();
    let thread = std::thread::spawn(move || -> Result<StopReason, Error> {
        let limit = Duration::from_secs(30);
        let value = handle.trigger().block(limit)?;
        handle.wait_more(2).block(limit)?;
        assert!(*handle.join().block(limit)? > *value);
        assert!(feed.next_blocking(limit)?.is_some());
        let late = handle.wait().block(ms(1)).unwrap_err();
        assert!(matches!(late, Error::Timeout { .. }), "{late}");
        handle.cancel().block(limit)
    });
    assert_eq!(tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap()?, StopReason::Cancelled);
    Ok(())
}

#[tokio::test]
async fn l9_spawn_blocking_is_another_thread() -> Result<(), Error> {
    let timer = every(1).start(|| ())?;
    let handle = timer.clone();
    let blocked = tokio::task::spawn_blocking(move || handle.trigger().block(Duration::from_secs(30)));
    assert!(blocked.await.unwrap().is_ok());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn e3_a_timer_that_does_not_run_says_so() -> Result<(), Error> {
    let timer = every(10).name("idle").build(|| ())?;
    assert_eq!(timer.join().await.unwrap_err().to_string(), "timer `idle` is not running");
    assert!(matches!(timer.trigger().await, Err(Error::NotRunning { .. })));
    assert!(matches!(timer.wait().await, Err(Error::NotRunning { .. })));
    assert!(matches!(timer.wait_hits(1).await, Err(Error::NotRunning { .. })));
    assert!(timer.wait_hits(0).await.is_ok());
    timer.start()?;
    timer.cancel().await;
    assert!(matches!(timer.join().await, Err(Error::NotRunning { .. })));
    assert!(matches!(timer.trigger().await, Err(Error::NotRunning { .. })));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l2_whoever_waits_for_a_value_is_told_of_the_end() -> Result<(), Error> {
    let timer = every(10).initial_delay(SECOND).start(|| ())?;
    let (join, hits, trigger) = (timer.join(), timer.wait_hits(5), timer.trigger());
    drop(timer.cancel());
    for error in [join.await.err(), hits.await.err(), trigger.await.err()] {
        assert!(matches!(error, Some(Error::Stopped { reason: StopReason::Cancelled, .. })), "{error:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l7_a_timer_can_be_restarted_the_moment_cancel_returns() -> Result<(), Error> {
    let timer = Timer::every(ms(10)).start(|tick: Tick| tick.run)?;
    for _ in 0..much(1_000) {
        timer.trigger().await?;
        timer.cancel().await;
        timer.start()?;
    }
    assert!(timer.is_running());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l8_a_target_may_hold_a_weak_handle_of_its_own_timer() -> Result<(), Error> {
    let alive = Arc::new(());
    let build = || -> Result<Timer<()>, Error> {
        let (token, handle) = (alive.clone(), Arc::new(OnceLock::<WeakTimer<()>>::new()));
        let inside = handle.clone();
        let timer = every(10).build(move || {
            let _token = &token;
            assert!(inside.get().unwrap().upgrade().unwrap().is_running());
        })?;
        handle.set(timer.downgrade()).unwrap();
        Ok(timer)
    };
    drop(build()?);
    let timer = build()?;
    timer.start()?;
    timer.wait_hits(3).await?;
    timer.cancel().await;
    drop(timer);
    settle().await;
    assert_eq!(Arc::strong_count(&alive), 1, "the timer keeps itself alive");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn l5_a_timer_without_handles_is_still_the_current_one_in_its_callbacks() -> Result<(), Error> {
    let (send, told) = tokio::sync::oneshot::channel();
    let mut send = Some(send);
    let timer = every(10).on_end(move |_| send.take().unwrap().send(everbeat::current().is_some()).unwrap());
    drop(timer.start(|| ())?);
    assert!(told.await.unwrap());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn l5_an_offloaded_run_knows_its_timer() -> Result<(), Error> {
    let timer = every(1).max_runs(1).start(everbeat::offload(|| {
        let me = everbeat::current().unwrap();
        me.request_stop();
        me.name().to_string()
    }))?;
    assert_eq!(timer.wait().await?, StopReason::Drained);
    assert_eq!(*timer.latest().unwrap(), timer.name().to_string());
    Ok(())
}

#[test]
fn l2_the_end_of_a_runtime_is_over_only_after_the_callback() {
    let called = Arc::new(AtomicBool::new(false));
    let (flag, (entered, enter)) = (called.clone(), std::sync::mpsc::channel());
    let (leave, left) = std::sync::mpsc::channel::<()>();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let timer = every(1).on_end(move |_| {
        entered.send(()).unwrap();
        left.recv().unwrap();
        flag.store(true, Ordering::SeqCst);
    });
    let timer = runtime.block_on(async { timer.start(|| ()) }).unwrap();
    let dropper = std::thread::spawn(move || drop(runtime));
    enter.recv().unwrap();
    assert!(timer.is_running() && timer.start().is_err());
    let waiting = timer.wait();
    leave.send(()).unwrap();
    assert_eq!(waiting.block(Duration::from_secs(30)).unwrap(), StopReason::Abandoned);
    assert!(called.load(Ordering::SeqCst));
    dropper.join().unwrap();
}

/// Commands a timer when its thread goes away.
struct LastWords(Option<Timer<()>>);

impl Drop for LastWords {
    fn drop(&mut self) {
        if let Some(timer) = &self.0 {
            drop((timer.trigger(), timer.cancel()));
        }
    }
}

thread_local! {
    static LAST_WORDS: std::cell::RefCell<LastWords> = const { std::cell::RefCell::new(LastWords(None)) };
}

#[tokio::test]
async fn l9_commands_from_a_thread_that_is_torn_down() -> Result<(), Error> {
    for has_been_inside in [false, true] {
        let timer = every(10).start(|| ())?;
        let (handle, runtime) = (timer.clone(), tokio::runtime::Handle::current());
        let thread = std::thread::spawn(move || {
            LAST_WORDS.with_borrow_mut(|words| words.0 = Some(handle));
            if has_been_inside {
                drop(runtime.enter()); // what tokio keeps for this thread goes before the last words
            }
        });
        thread.join().unwrap();
        assert_eq!(timer.wait().await?, StopReason::Cancelled);
    }
    Ok(())
}
