//! Who can carry many timers.

use std::any::Any;

use everbeat::thread::Precision;

use crate::beats::{Beat, MILLI};
use crate::{by_hand, others, ours, tasks};

/// What keeps the timers alive. They stop when the process ends, which is what stops them here.
pub(crate) type Kept = Box<dyn Any>;

pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// Starts a timer for each beat. Each tick is reported to a `Counter` with its lateness.
    pub(crate) start: fn(&'static [Beat]) -> Kept,
    /// How many timers it can sensibly carry.
    most: u64,
}

const ANY: u64 = u64::MAX;

#[rustfmt::skip]
const ALL: &[Contender] = &[
    Contender { name: "everbeat-inline", start: |beats| ours::on_engine(beats, true, Precision::Coarse), most: ANY },
    Contender { name: "everbeat-inline-fine", start: |beats| ours::on_engine(beats, true, Precision::Fine), most: ANY },
    Contender { name: "everbeat-pooled", start: |beats| ours::on_engine(beats, false, Precision::Coarse), most: ANY },
    Contender { name: "everbeat-tokio", start: |beats| tasks::each(0, beats, ours::on_tokio), most: ANY },
    Contender { name: "everbeat-tokio-histograms", start: |beats| tasks::each(0, beats, ours::on_tokio_with_histograms), most: ANY },
    Contender { name: "everbeat-group", start: |beats| tasks::each(0, beats, ours::in_group), most: ANY },
    Contender { name: "everbeat-tokio-2-workers", start: |beats| tasks::each(2, beats, ours::on_tokio), most: ANY },
    Contender { name: "tokio-interval", start: |beats| tasks::each(0, beats, tasks::interval), most: ANY },
    Contender { name: "tokio-interval-2-workers", start: |beats| tasks::each(2, beats, tasks::interval), most: ANY },
    Contender { name: "tokio-delay-queue", start: tasks::delay_queue, most: ANY },
    Contender { name: "fastimer-tokio", start: |beats| tasks::each(0, beats, tasks::fastimer), most: ANY },
    Contender { name: "async-io", start: others::async_io, most: ANY },
    Contender { name: "futures-timer", start: others::futures_timer, most: ANY },
    Contender { name: "heap-exact", start: |beats| by_hand::on_heap(beats, 0), most: ANY },
    Contender { name: "heap-batched", start: |beats| by_hand::on_heap(beats, MILLI), most: ANY },
    Contender { name: "thread-each", start: by_hand::on_threads, most: 1000 },
    Contender { name: "floor-wheel", start: by_hand::on_wheel, most: ANY },
    Contender { name: "floor-sorted-array", start: by_hand::on_sorted_array, most: ANY },
];

pub(crate) fn for_count(count: u64) -> impl Iterator<Item = &'static Contender> {
    ALL.iter().filter(move |contender| count <= contender.most)
}
