//! One timer: how late it is, and what that costs.

use std::any::Any;
use std::num::NonZeroU64;
use std::thread;
use std::time::Duration;

use everbeat::thread::{Engine, Precision};
use everbeat::{Builder, Tick, Timer};
use rustix::thread::{ClockId, clock_nanosleep_absolute, set_current_timer_slack};
use rustix::time::{Timespec, clock_gettime};

use crate::measure::{Counter, Window, nanos, now, origin, sleep_until};
use crate::peers::Beat;
use crate::report::{Figures, Group};
use crate::scale::tick_by_interval;

pub(crate) fn groups(quick: bool) -> Vec<Group> {
    let length = Duration::from_secs(if quick { 1 } else { 3 });
    vec![
        compare("precision/1kHz", Duration::from_millis(1), length),
        compare("precision/100Hz", Duration::from_millis(10), length),
    ]
}

fn compare(name: &str, period: Duration, length: Duration) -> Group {
    let engine = |precision, inline| {
        move || {
            let engine = Engine::builder().precision(precision).build();
            let builder = engine.every(period);
            measure(length, || start(if inline { builder.inline() } else { builder }))
        }
    };
    let tokio = |precision: Option<Precision>| move || measure(length, || start_on_tokio(period, precision));
    Group::new(name)
        .case("nanosleep-slack-1ns", move || measure(length, || start_raw(period, true)))
        .case("nanosleep", move || measure(length, || start_raw(period, false)))
        .case("thread-sleep", move || measure(length, || start_sleeping(period)))
        .case("tokio-interval", move || measure(length, || start_interval(period)))
        .case("everbeat-coarse-inline", engine(Precision::Coarse, true))
        .case("everbeat-fine-inline", engine(Precision::Fine, true))
        .case("everbeat-spin-inline", engine(Precision::Spin, true))
        .case("everbeat-fine-pooled", engine(Precision::Fine, false))
        .case("everbeat-tokio", tokio(None))
        .case("everbeat-tokio-fine", tokio(Some(Precision::Fine)))
        .case("everbeat-tokio-spin", tokio(Some(Precision::Spin)))
}

fn measure<K: Any>(length: Duration, start: impl FnOnce() -> K) -> Figures {
    let _origin = origin();
    let kept = start();
    thread::sleep(Duration::from_millis(500));
    let window = Window::measure(length);
    let mut figures = window.lateness();
    figures.push(("p99.9 µs", window.lateness_micros(0.999)));
    figures.push(("% CPU", window.cpu_share()));
    figures.push(("µs CPU/tick", window.cpu_per_tick() / 1e3));
    figures.push(("ticks/s", window.ticks as f64 / window.wall.as_secs_f64()));
    drop(kept);
    figures
}

fn start(builder: Builder) -> Timer<()> {
    let mut counter = Counter::default();
    builder.fixed_rate().start(move |tick: Tick| counter.tick(nanos(tick.lateness))).expect("a thread")
}

fn start_on_tokio(period: Duration, precision: Option<Precision>) {
    on_runtime(async move {
        let builder = Timer::every(period);
        let timer = start(precision.into_iter().fold(builder, Builder::precision));
        std::future::pending::<()>().await;
        drop(timer);
    });
}

fn start_interval(period: Duration) {
    on_runtime(tick_by_interval(Beat { first: now(), period: nanos(period) }));
}

fn on_runtime(task: impl Future<Output = ()> + Send + 'static) {
    thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(task);
    });
}

fn start_raw(period: Duration, least_slack: bool) {
    thread::spawn(move || {
        if least_slack {
            set_current_timer_slack(NonZeroU64::new(1)).expect("a slack of 1 ns");
        }
        let mut counter = Counter::default();
        let mut due = clock_nanos();
        loop {
            due += nanos(period);
            let at = Timespec::try_from(Duration::from_nanos(due)).expect("a time to come");
            if clock_nanosleep_absolute(ClockId::Monotonic, &at).is_ok() {
                counter.tick(clock_nanos() - due);
            }
        }
    });
}

fn clock_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn start_sleeping(period: Duration) {
    thread::spawn(move || {
        let mut counter = Counter::default();
        let mut due = now();
        loop {
            due += nanos(period);
            sleep_until(due);
            counter.tick(now() - due);
        }
    });
}
