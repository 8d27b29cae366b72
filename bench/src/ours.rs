//! everbeat, on an engine and on tokio.

use std::time::Duration;

use everbeat::thread::{Engine, Precision};
use everbeat::{Builder, Group, Tick, Timer};

use crate::beats::Beat;
use crate::contenders::Kept;
use crate::measure::{Counter, nanos, now};

pub(crate) fn on_engine(beats: &[Beat], inline: bool, precision: Precision) -> Kept {
    let engine = Engine::builder().name("bench").precision(precision).build();
    let mut timers = Vec::with_capacity(beats.len());
    for &beat in beats {
        let builder = engine.every(Duration::from_nanos(beat.period));
        timers.push(start(if inline { builder.inline() } else { builder }, beat));
    }
    Box::new((engine, timers))
}

/// As members of a group, which share a task.
pub(crate) fn in_group(beat: Beat) -> Timer<()> {
    thread_local!(static GROUP: Group = Group::named("bench"));
    start(GROUP.with(|group| group.every(Duration::from_nanos(beat.period))), beat)
}

pub(crate) fn on_tokio(beat: Beat) -> Timer<()> {
    start(Timer::every(Duration::from_nanos(beat.period)), beat)
}

/// As it is without a word: with histograms of its own.
pub(crate) fn on_tokio_with_histograms(beat: Beat) -> Timer<()> {
    let delay = Duration::from_nanos(beat.first.saturating_sub(now()));
    start_counting(Timer::every(Duration::from_nanos(beat.period)).initial_delay(delay))
}

fn start(builder: Builder, beat: Beat) -> Timer<()> {
    let delay = Duration::from_nanos(beat.first.saturating_sub(now()));
    start_counting(builder.initial_delay(delay).histograms(false))
}

pub(crate) fn start_counting(builder: Builder) -> Timer<()> {
    let mut counter = Counter::default();
    let target = move |tick: Tick| counter.tick(nanos(tick.lateness));
    builder.fixed_rate().start(target).expect("a thread or a runtime")
}
