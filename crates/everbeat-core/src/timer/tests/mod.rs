//! The machine against a virtual clock, a command at a time.

mod lifecycle;
mod naive;
mod rest;
mod schedule;

use alloc::vec::Vec;
use core::time::Duration;

use super::*;
use crate::{Jitter, Missed, Mode, Ratio, Until};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Instant {
    Instant::from_elapsed(ms(millis))
}

fn rate(millis: u64) -> Schedule {
    Schedule::fixed_rate(ms(millis))
}

fn delay(millis: u64) -> Schedule {
    Schedule::fixed_delay(ms(millis))
}

/// A timer with its clock, driven by hand.
struct Bench {
    timer: Timer,
    now: Instant,
}

impl Bench {
    fn started(schedule: Schedule) -> Self {
        let mut timer = Timer::new(schedule);
        timer.start(at(0)).unwrap();
        Self { timer, now: at(0) }
    }

    /// Moves the clock and polls once; missed batches are passed over.
    fn poll_at(&mut self, millis: u64) -> Option<Output> {
        self.now = at(millis);
        self.timer.handle_timeout(self.now);
        self.poll()
    }

    fn poll(&mut self) -> Option<Output> {
        loop {
            match self.timer.poll_output(self.now) {
                Some(Output::Missed(_)) => {}
                output => return output,
            }
        }
    }

    /// Expects a run to begin at this time.
    fn run_at(&mut self, millis: u64) -> Tick {
        match self.poll_at(millis) {
            Some(Output::Run(tick)) => tick,
            other => panic!("no run at {millis} ms but {other:?}, {:?}", self.timer),
        }
    }

    fn finish_at(&mut self, millis: u64, outcome: Outcome) {
        self.now = at(millis);
        self.timer.handle_finished(self.now, outcome);
    }

    /// A whole run from `start` to `end`.
    fn work(&mut self, start: u64, end: u64) -> Tick {
        let tick = self.run_at(start);
        self.finish_at(end, Outcome::Success);
        tick
    }

    fn timeout(&self) -> Option<Duration> {
        self.timer.poll_timeout().map(Instant::elapsed_since_origin)
    }
}
