//! Figures of bounded size: a summary of durations, and a histogram of them on request.

use alloc::boxed::Box;
use core::fmt;
use core::time::Duration;

/// How often, how long, how long at most; with a histogram if one was asked for.
///
/// ```
/// use core::time::Duration;
/// use everbeat_core::Summary;
///
/// let mut lateness = Summary::with_histogram();
/// for micros in [20, 30, 900] {
///     lateness.record(Duration::from_micros(micros));
/// }
/// assert_eq!(lateness.max(), Duration::from_micros(900));
/// assert!(lateness.quantile(0.5).unwrap() >= Duration::from_micros(30));
/// ```
#[derive(Clone, Default)]
pub struct Summary {
    count: u64,
    total_nanos: u64,
    last_nanos: u64,
    max_nanos: u64,
    histogram: Option<Box<Histogram>>,
}

impl Summary {
    /// A summary that keeps a histogram too, for [`Summary::quantile`].
    #[must_use]
    pub fn with_histogram() -> Self {
        Self { histogram: Some(Box::default()), ..Self::default() }
    }

    /// Adds one duration.
    pub fn record(&mut self, duration: Duration) {
        let nanos = crate::time::saturating_nanos(duration);
        self.count += 1;
        self.total_nanos = self.total_nanos.saturating_add(nanos);
        self.last_nanos = nanos;
        self.max_nanos = self.max_nanos.max(nanos);
        if let Some(histogram) = &mut self.histogram {
            histogram.record(nanos);
        }
    }

    /// How many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The newest one; zero before the first.
    #[must_use]
    pub fn last(&self) -> Duration {
        Duration::from_nanos(self.last_nanos)
    }

    /// The longest one.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }

    /// The arithmetic mean; zero before the first.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.total_nanos.checked_div(self.count).unwrap_or(0))
    }

    /// The histogram, if one is kept.
    #[must_use]
    pub fn histogram(&self) -> Option<&Histogram> {
        self.histogram.as_deref()
    }

    /// The duration that a share `q` (0 to 1) of the recorded ones do not exceed: the upper edge of its
    /// bucket, so at most half above the true value, and never above [`Summary::max`]. `None` without
    /// a histogram or before the first record.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let edge = self.histogram.as_deref()?.quantile(q)?;
        Some(edge.min(self.max()))
    }
}

const BUCKETS: usize = 60;
/// Everything shorter than 2¹⁰ ns (about a microsecond) shares the first bucket.
const FIRST_OCTAVE: u32 = 10;

/// Counts of durations in sixty buckets, two to the octave, from 1 µs to 9 minutes and beyond.
///
/// Its size is fixed (240 bytes). A bucket that is full halves all of them, which keeps the shape.
#[derive(Clone)]
pub struct Histogram {
    counts: [u32; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl Histogram {
    fn record(&mut self, nanos: u64) {
        let bucket = bucket_of(nanos);
        if self.counts[bucket] == u32::MAX {
            self.counts.iter_mut().for_each(|count| *count /= 2);
        }
        self.counts[bucket] += 1;
    }

    /// Every bucket that is not empty: the upper edge (exclusive) and the count, shortest first.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u32)> + '_ {
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(bucket, &count)| (upper_edge(bucket), count))
    }

    fn quantile(&self, q: f64) -> Option<Duration> {
        let total: u64 = self.counts.iter().map(|&count| u64::from(count)).sum();
        let rank = rank_of(q, total);
        let mut seen = 0;
        self.buckets().find_map(|(edge, count)| {
            seen += u64::from(count);
            (seen >= rank).then_some(edge)
        })
    }
}

impl fmt::Debug for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Summary");
        debug.field("count", &self.count).field("last", &self.last());
        debug.field("mean", &self.mean()).field("max", &self.max());
        for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
            if let Some(quantile) = self.quantile(q) {
                debug.field(name, &quantile);
            }
        }
        debug.finish()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.buckets()).finish()
    }
}

/// The rank, from 1, of the quantile `q` among `total` values.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
#[expect(clippy::float_arithmetic, reason = "it is asked for with a float, by whoever reads a report")]
fn rank_of(q: f64, total: u64) -> u64 {
    // A report, not a decision: a float is good enough, and `as` saturates.
    let rank = q.clamp(0.0, 1.0) * total as f64;
    let floor = rank as u64;
    (if rank > floor as f64 { floor + 1 } else { floor }).clamp(1, total.max(1))
}

fn bucket_of(nanos: u64) -> usize {
    let Some(octave) = nanos.checked_ilog2().and_then(|log| log.checked_sub(FIRST_OCTAVE)) else {
        return 0;
    };
    let upper_half = (nanos >> (octave + FIRST_OCTAVE - 1)) & 1;
    let bucket = 1 + 2 * octave as usize + usize::from(upper_half == 1);
    bucket.min(BUCKETS - 1)
}

fn upper_edge(bucket: usize) -> Duration {
    if bucket == BUCKETS - 1 {
        return Duration::MAX;
    }
    let octave = bucket.div_ceil(2);
    let base = 1_u64 << (octave + FIRST_OCTAVE as usize);
    // An odd bucket is the lower half of its octave and ends three quarters of the way up.
    Duration::from_nanos(if bucket % 2 == 1 { base / 4 * 3 } else { base })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o3_every_duration_lies_below_the_edge_of_its_bucket_and_not_below_the_one_before() {
        for shift in 0..40 {
            for nanos in [1_u64 << shift, (1 << shift) + (1 << shift) / 2, (2 << shift) - 1] {
                let bucket = bucket_of(nanos);
                let duration = Duration::from_nanos(nanos);
                assert!(duration < upper_edge(bucket), "{nanos} in {bucket}");
                assert!(bucket == 0 || duration >= upper_edge(bucket - 1), "{nanos} in {bucket}");
            }
        }
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn o3_quantiles_bound_the_true_value_from_above() {
        let mut summary = Summary::with_histogram();
        (1..=1_000).for_each(|micros| summary.record(Duration::from_micros(micros)));
        for (q, true_micros) in [(0.0, 1), (0.5, 500), (0.99, 990), (1.0, 1_000)] {
            let quantile = summary.quantile(q).unwrap();
            let truth = Duration::from_micros(true_micros);
            assert!(quantile >= truth && quantile <= truth * 2, "{q}: {quantile:?}");
        }
        assert_eq!(summary.quantile(1.0), Some(summary.max()));
    }

    #[test]
    fn o3_a_summary_without_histogram_has_figures_but_no_quantiles() {
        let mut summary = Summary::default();
        assert_eq!((summary.mean(), summary.quantile(0.5)), (Duration::ZERO, None));
        summary.record(Duration::from_secs(1));
        summary.record(Duration::from_secs(3));
        assert_eq!((summary.count(), summary.mean()), (2, Duration::from_secs(2)));
        assert_eq!((summary.last(), summary.max()), (Duration::from_secs(3), Duration::from_secs(3)));
        assert_eq!(summary.quantile(0.5), None);
        assert_eq!(Summary::with_histogram().quantile(0.5), None);
    }

    #[test]
    fn o3_a_summary_prints_what_matters() {
        let mut summary = Summary::with_histogram();
        summary.record(Duration::from_micros(3));
        let text = alloc::format!("{summary:?}");
        assert_eq!(text, "Summary { count: 1, last: 3µs, mean: 3µs, max: 3µs, p50: 3µs, p99: 3µs }");
        assert_eq!(alloc::format!("{:?}", summary.histogram().unwrap()), "{3.072µs: 1}");
    }

    #[test]
    fn o3_a_full_bucket_halves_all_and_keeps_the_shape() {
        let mut histogram = Histogram::default();
        histogram.counts[0] = u32::MAX;
        histogram.counts[5] = 1_000;
        histogram.record(0);
        assert_eq!((histogram.counts[0], histogram.counts[5]), (u32::MAX / 2 + 1, 500));
    }

    #[test]
    fn o3_the_buckets_are_halves_of_octaves_from_a_microsecond_on() {
        let edge = |bucket| upper_edge(bucket).as_nanos();
        assert_eq!([0, 1, 2, 3, 4].map(edge), [1024, 1536, 2048, 3072, 4096]);
        assert_eq!(edge(BUCKETS - 2), 1 << 39, "some nine minutes");
        assert_eq!(upper_edge(BUCKETS - 1), Duration::MAX);
        for bucket in 0..BUCKETS - 1 {
            let edge = u64::try_from(edge(bucket)).unwrap();
            assert_eq!((bucket_of(edge - 1), bucket_of(edge)), (bucket, bucket + 1));
        }
    }

    #[test]
    fn o3_ranks_are_rounded_up_and_start_at_one() {
        let cases = [(0.0, 1), (0.001, 1), (0.1, 1), (0.11, 2), (0.5, 5), (0.91, 10), (1.0, 10)];
        for (q, rank) in cases.into_iter().chain([(-3.0, 1), (7.0, 10)]) {
            assert_eq!(rank_of(q, 10), rank, "{q}");
        }
        assert_eq!((rank_of(0.5, 0), rank_of(1.0, 0)), (1, 1));
    }

    #[test]
    fn o3_a_quantile_is_the_first_edge_that_enough_values_lie_below() {
        let mut summary = Summary::with_histogram();
        let micros = |nanos| Duration::from_nanos(nanos);
        [500, 1_100, 1_200, 9_000].into_iter().for_each(|nanos| summary.record(micros(nanos)));
        assert_eq!(summary.quantile(0.25), Some(micros(1024)));
        assert_eq!(summary.quantile(0.26), Some(micros(1536)));
        assert_eq!(summary.quantile(0.75), Some(micros(1536)));
        assert_eq!(summary.quantile(0.76), Some(micros(9_000)));
        let buckets: alloc::vec::Vec<_> = summary.histogram().unwrap().buckets().collect();
        assert_eq!(buckets, [(micros(1024), 1), (micros(1536), 2), (micros(12_288), 1)]);
    }

    #[test]
    fn s9_sums_of_durations_saturate() {
        let mut summary = Summary::default();
        summary.record(Duration::MAX);
        summary.record(Duration::MAX);
        assert_eq!(summary.max(), Duration::from_nanos(u64::MAX));
        assert_eq!(summary.mean(), Duration::from_nanos(u64::MAX / 2));
    }
}
