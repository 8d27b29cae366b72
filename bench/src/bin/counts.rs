//! Paths to be counted in instructions: `counts NAME TIMES` does one so often, in virtual time where there is any
//! time in it, and nothing else. `counts.py` runs this under callgrind, twice, so that what is done once falls out.

use std::hint::black_box;
use std::time::Duration;

use everbeat::core::{Instant, Outcome, Output, Queue, Schedule, Timer as Machine};
use everbeat::testing::TestEngine;
use everbeat::{Builder, Group, Tick, Timer, thread};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// How many timers there are where there are many.
const MANY: u64 = 1000;

/// Does something so many times.
type Path = fn(u64);

const PATHS: &[(&str, Path)] = &[
    ("core: tick", machine),
    ("core: queue, next of 10,000", queue),
    ("engine: tick, lean", |times| on_engine(times, |builder| builder.inline())),
    ("engine: tick, with histograms", |times| on_engine(times, |builder| builder.inline().histograms(true))),
    ("engine: start and cancel", start_and_cancel),
    ("engine: trigger", engine_trigger),
    ("tokio: tick, lean", |times| in_paused_time(times, || keep(Timer::every(SECOND).histograms(false)))),
    ("tokio: tick, with histograms", |times| in_paused_time(times, || keep(Timer::every(SECOND)))),
    ("tokio: tick, async target", |times| in_paused_time(times, async_tick)),
    ("tokio: tick in a shared task", |times| {
        let group = Group::new();
        in_paused_time(times, || keep(group.every(SECOND)));
    }),
    ("tokio: tick of an interval (peer)", |times| in_paused_time(times, interval_tick)),
    ("tokio: tick after missed slots, lean", |times| {
        too_late(times, || keep(Timer::every(SECOND).histograms(false)))
    }),
    ("tokio: tick after missed slots, of an interval (peer)", |times| too_late(times, interval_tick)),
    ("tokio: period 0", period_zero),
    ("tokio: yield_now (peer)", yielding),
    ("tokio: trigger", tokio_trigger),
    ("tokio: item to a feed", |times| feeds(times, 1)),
    ("tokio: item to 100 feeds, each", |times| feeds(times / 100, 100)),
    ("tokio: item to an mpsc channel (peer)", |times| channels(times, 1)),
    ("tokio: item to 100 mpsc channels, each (peer)", |times| channels(times / 100, 100)),
];

fn main() {
    let mut args = std::env::args().skip(1);
    match (args.next(), args.next().and_then(|times| times.parse().ok())) {
        (Some(name), Some(times)) => {
            let found = PATHS.iter().find(|(known, _)| *known == name);
            let (_, path) = found.unwrap_or_else(|| panic!("no path is called `{name}`"));
            path(times);
        }
        _ => PATHS.iter().for_each(|(name, _)| println!("{name}")),
    }
}

fn machine(times: u64) {
    let mut machine = Machine::new(Schedule::fixed_rate(SECOND));
    let mut now = Instant::ORIGIN;
    machine.start(now).expect("it does not run");
    for _ in 0..times {
        now = machine.poll_timeout().expect("a tick");
        machine.handle_timeout(now);
        let run = machine.poll_output(now);
        assert!(matches!(run, Some(Output::Run(_))));
        machine.handle_finished(now, Outcome::Success);
    }
}

fn queue(times: u64) {
    let mut queue = Queue::new();
    for number in 0..10_000_u64 {
        // In no particular order.
        queue.insert(Instant::from_nanos(number.wrapping_mul(7_919) % 10_000 * 100_000), number);
    }
    for _ in 0..times {
        let due = queue.next_due().expect("an entry");
        let (key, due, value) = queue.take_due(due).expect("it is due");
        black_box(value);
        queue.set_due(key, due + SECOND);
    }
}

fn on_engine(times: u64, set_up: fn(Builder) -> Builder) {
    let clock = TestEngine::new();
    let spread = SECOND / MANY as u32;
    let timers: Vec<_> = (0..MANY as u32)
        .map(|number| {
            let builder = thread::every(SECOND).fixed_rate().initial_delay(spread * number).on(&clock);
            set_up(builder).start(|| ()).expect("an engine")
        })
        .collect();
    clock.advance(spread * times as u32);
    drop(timers);
}

fn start_and_cancel(times: u64) {
    let clock = TestEngine::new();
    let start =
        || thread::every(HOUR).initial_delay(HOUR).inline().on(&clock).start(|| ()).expect("an engine");
    let others: Vec<_> = (0..MANY).map(|_| start()).collect();
    for _ in 0..times {
        drop(start().cancel());
    }
    drop(others);
}

fn engine_trigger(times: u64) {
    let clock = TestEngine::new();
    let timer = thread::every(HOUR).on(&clock).start(|| ()).expect("an engine");
    for _ in 0..times {
        let run = timer.trigger();
        clock.settle();
        run.block(SECOND).expect("a value");
    }
}

fn paused() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

/// Many timers, and as many ticks of them as were asked for.
fn in_paused_time<K>(times: u64, start: impl Fn() -> K) {
    paused().block_on(async {
        let spread = SECOND / MANY as u32;
        let mut timers = Vec::new();
        for _ in 0..MANY {
            timers.push(start());
            tokio::time::sleep(spread).await;
        }
        tokio::time::sleep(spread * times as u32).await;
        drop(timers);
    });
}

/// The same, all of them too late each time.
fn too_late<K>(times: u64, start: impl Fn() -> K) {
    paused().block_on(async {
        let timers: Vec<_> = (0..MANY).map(|_| start()).collect();
        for _ in 0..times / MANY {
            tokio::time::advance(SECOND * 27 / 10).await;
            // Not all of them have their turn before this task has its next.
            for _ in 0..MANY / 20 {
                tokio::task::yield_now().await;
            }
        }
        drop(timers);
    });
}

fn keep(builder: Builder) -> Timer<()> {
    builder.fixed_rate().start(|| ()).expect("a runtime")
}

fn async_tick() -> Timer<u64> {
    Timer::every(SECOND).fixed_rate().start(|tick: Tick| async move { tick.run }).expect("a runtime")
}

fn interval_tick() {
    tokio::spawn(async {
        let mut interval = interval(SECOND);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            black_box(interval.tick().await);
        }
    });
}

fn period_zero(times: u64) {
    paused().block_on(async {
        let (done, told) = oneshot::channel();
        let mut done = Some(done);
        let target = move |tick: Tick| {
            if tick.run >= times {
                done.take().map(|done| done.send(()));
            }
        };
        let timer = Timer::every(Duration::ZERO).histograms(false).start(target).expect("a runtime");
        told.await.expect("it gets there");
        drop(timer);
    });
}

fn yielding(times: u64) {
    paused().block_on(async {
        let turns = async move {
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
        };
        tokio::spawn(turns).await.expect("no panic");
    });
}

fn tokio_trigger(times: u64) {
    paused().block_on(async {
        let timer = Timer::every(HOUR).histograms(false).start(|| ()).expect("a runtime");
        for _ in 0..times {
            timer.trigger().await.expect("a value");
        }
    });
}

fn feeds(items: u64, consumers: usize) {
    paused().block_on(async {
        let builder = Timer::every(Duration::ZERO).histograms(false).max_runs(items.max(1));
        let timer = builder.build(|tick: Tick| tick.run).expect("a timer");
        let tasks: Vec<_> = (0..consumers)
            .map(|_| {
                let mut feed = timer.subscribe().open().expect("a feed");
                tokio::spawn(async move {
                    while let Some(item) = feed.next().await {
                        black_box(item.expect("no failure"));
                    }
                })
            })
            .collect();
        timer.start().expect("a runtime");
        for task in tasks {
            task.await.expect("no panic");
        }
    });
}

fn channels(items: u64, consumers: usize) {
    paused().block_on(async {
        let mut senders = Vec::new();
        let tasks: Vec<_> = (0..consumers)
            .map(|_| {
                let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
                senders.push(sender);
                tokio::spawn(async move {
                    while let Some(item) = receiver.recv().await {
                        black_box(item);
                    }
                })
            })
            .collect();
        let producer = async move {
            for item in 0..items {
                senders.iter().for_each(|sender| _ = sender.send(item));
                tokio::task::yield_now().await;
            }
        };
        tokio::spawn(producer).await.expect("no panic");
        for task in tasks {
            task.await.expect("no panic");
        }
    });
}
