//! Loads: how many timers, of which periods, and when each of them ticks first.

use std::time::Duration;

use crate::measure::{nanos, now};

pub(crate) const MILLI: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1000 * MILLI;

/// When a timer ticks: nanoseconds since the origin of this process.
#[derive(Clone, Copy)]
pub(crate) struct Beat {
    pub(crate) first: u64,
    pub(crate) period: u64,
}

#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) count: u64,
    /// Periods, each with its share of the timers in hundredths.
    pub(crate) periods: &'static [(u64, u64)],
    pub(crate) order: Order,
    pub(crate) length: Duration,
}

/// In which order the timers are made, compared with that of their first ticks.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    Sorted,
    Random,
}

impl Load {
    /// Phases are spread over the period, and nothing ticks before the last timer is made.
    pub(crate) fn beats(&self) -> Vec<Beat> {
        let begin = now() + 200 * MILLI + self.count * 3000;
        let mut beats = Vec::with_capacity(self.count as usize);
        for &(period, share) in self.periods {
            let count = self.share_of(share);
            beats.extend((0..count).map(|k| Beat { first: begin + period * k / count, period }));
        }
        match self.order {
            Order::Random => shuffle(&mut beats),
            Order::Sorted => beats.sort_by_key(|beat| beat.first),
        }
        beats
    }

    pub(crate) fn longest_period(&self) -> u64 {
        self.periods.iter().map(|&(period, _)| period).max().unwrap_or(0)
    }

    pub(crate) fn ticks_in(&self, wall: Duration) -> f64 {
        let rate = |&(period, share): &(u64, u64)| self.share_of(share) as f64 / period as f64;
        self.periods.iter().map(rate).sum::<f64>() * nanos(wall) as f64
    }

    fn share_of(&self, hundredths: u64) -> u64 {
        self.count * hundredths / 100
    }
}

/// The same order each time.
fn shuffle(beats: &mut [Beat]) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..beats.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        beats.swap(last, (random % (last as u64 + 1)) as usize);
    }
}
