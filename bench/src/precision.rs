//! One timer: how late it is, and what that costs.

use std::any::Any;
use std::num::NonZeroU64;
use std::thread;
use std::time::Duration;

use everbeat::Timer;
use everbeat::thread::{Engine, Precision};
use rustix::thread::{ClockId, clock_nanosleep_absolute, set_current_timer_slack};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};

use crate::beats::Beat;
use crate::by_hand::tick_by_sleeping;
use crate::cases::Group;
use crate::measure::{Counter, Figures, Window, nanos, now, origin};
use crate::ours::start_counting;
use crate::tasks::{on_runtime, tick_by_interval};

pub(crate) fn groups(quick: bool) -> Vec<Group> {
    let length = Duration::from_secs(if quick { 1 } else { 3 });
    let rates = [("precision/1kHz", 1), ("precision/100Hz", 10)];
    let rates = if quick { &rates[..1] } else { &rates };
    rates.iter().map(|&(name, millis)| compare(name, Duration::from_millis(millis), length)).collect()
}

fn compare(name: &str, period: Duration, length: Duration) -> Group {
    let engine = |precision, inline| {
        move || {
            let engine = Engine::builder().precision(precision).build();
            let builder = engine.every(period);
            measure(length, || start_counting(if inline { builder.inline() } else { builder }))
        }
    };
    let tokio = |precision: Option<Precision>| move || measure(length, || start_on_tokio(period, precision));
    Group::new(name)
        .case("everbeat-coarse-inline", engine(Precision::Coarse, true))
        .case("everbeat-fine-inline", engine(Precision::Fine, true))
        .case("everbeat-spin-inline", engine(Precision::Spin, true))
        .case("everbeat-fine-pooled", engine(Precision::Fine, false))
        .case("everbeat-tokio", tokio(None))
        .case("everbeat-tokio-fine", tokio(Some(Precision::Fine)))
        .case("everbeat-tokio-spin", tokio(Some(Precision::Spin)))
        .case("tokio-interval", move || measure(length, || on_runtime(0, tick_by_interval(beat(period)))))
        .case("thread-sleep", move || measure(length, || in_thread(move || tick_by_sleeping(beat(period)))))
        .case("limit-nanosleep", move || measure(length, || in_thread(move || nanosleep(period))))
        .case("limit-nanosleep-slack-1ns", move || {
            measure(length, || in_thread(move || with_least_slack(period)))
        })
        .case("limit-timerfd", move || measure(length, || in_thread(move || timerfd(period))))
}

fn beat(period: Duration) -> Beat {
    Beat { first: now(), period: nanos(period) }
}

fn measure<K: Any>(length: Duration, start: impl FnOnce() -> K) -> Figures {
    let _origin = origin();
    let kept = start();
    thread::sleep(Duration::from_millis(500));
    let window = Window::measure(length);
    let mut figures = window.lateness();
    figures.push(("% CPU", window.cpu_share()));
    figures.push(("ns CPU/tick", window.cpu_per_tick()));
    figures.push(("ticks/s", window.ticks as f64 / window.wall.as_secs_f64()));
    drop(kept);
    figures
}

fn start_on_tokio(period: Duration, precision: Option<Precision>) {
    on_runtime(0, async move {
        let builder = Timer::every(period);
        let timer = start_counting(precision.into_iter().fold(builder, everbeat::Builder::precision));
        std::future::pending::<()>().await;
        drop(timer);
    });
}

fn in_thread(run: impl FnOnce() + Send + 'static) {
    thread::spawn(run);
}

fn with_least_slack(period: Duration) {
    set_current_timer_slack(NonZeroU64::new(1)).expect("a slack of 1 ns");
    nanosleep(period);
}

/// The system call itself, to absolute deadlines.
fn nanosleep(period: Duration) {
    let mut counter = Counter::default();
    let mut due = clock_nanos();
    loop {
        due += nanos(period);
        if clock_nanosleep_absolute(ClockId::Monotonic, &timespec(due)).is_ok() {
            counter.tick(clock_nanos() - due);
        }
    }
}

/// A timer of the kernel that is read.
fn timerfd(period: Duration) {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::empty()).expect("a timer");
    let mut counter = Counter::default();
    let mut due = clock_nanos() + nanos(period);
    let times = Itimerspec { it_interval: timespec(nanos(period)), it_value: timespec(due) };
    timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &times).expect("a time to come");
    let mut expired = [0; 8];
    while rustix::io::read(&timer, &mut expired).is_ok() {
        let passed = u64::from_ne_bytes(expired);
        due += (passed - 1) * nanos(period);
        counter.tick(clock_nanos() - due);
        due += nanos(period);
    }
}

fn timespec(nanos: u64) -> Timespec {
    Timespec::try_from(Duration::from_nanos(nanos)).expect("a time to come")
}

fn clock_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
