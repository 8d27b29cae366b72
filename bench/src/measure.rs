//! Clocks, memory, and the one histogram that every callback reports to.

use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What a case has measured: a name with its unit, and the value.
pub(crate) type Figures = Vec<(&'static str, f64)>;

/// Buckets for each power of two: a bucket is at most 6 % wide.
const FINENESS: u32 = 4;
const BUCKETS: usize = ((64 - FINENESS as usize) + 1) << FINENESS;

static LATENESS: [AtomicU64; BUCKETS] = [const { AtomicU64::new(0) }; BUCKETS];

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// The zero of all times here.
pub(crate) fn origin() -> Instant {
    *ORIGIN.get_or_init(Instant::now)
}

/// Nanoseconds since then.
pub(crate) fn now() -> u64 {
    nanos(origin().elapsed())
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

pub(crate) fn sleep_until(nanos: u64) {
    thread::sleep(Duration::from_nanos(nanos.saturating_sub(now())));
}

/// What every timer does, whoever calls it: count in memory of its own, report its lateness.
#[derive(Default)]
pub(crate) struct Counter(u64);

impl Counter {
    pub(crate) fn tick(&mut self, late_nanos: u64) {
        self.0 += 1;
        black_box(&self.0);
        LATENESS[bucket_of(late_nanos)].fetch_add(1, Ordering::Relaxed);
    }
}

fn bucket_of(value: u64) -> usize {
    let exponent = (value | 1).ilog2();
    if exponent < FINENESS {
        return value as usize;
    }
    let shift = exponent - FINENESS;
    let fraction = (value >> shift) & ((1 << FINENESS) - 1);
    ((shift as usize + 1) << FINENESS) + fraction as usize
}

/// The middle of a bucket.
fn value_of(bucket: usize) -> f64 {
    let (row, fraction) = (bucket >> FINENESS, bucket & ((1 << FINENESS) - 1));
    if row == 0 {
        return fraction as f64;
    }
    ((1 << FINENESS) as f64 + fraction as f64 + 0.5) * (1_u64 << (row - 1)) as f64
}

/// Those that begin with a line are for plots.
const QUANTILES: [(&str, f64); 11] = [
    ("p50 µs", 0.5),
    ("p90 µs", 0.9),
    ("p99 µs", 0.99),
    ("p99.9 µs", 0.999),
    ("|p1 µs", 0.01),
    ("|p10 µs", 0.1),
    ("|p25 µs", 0.25),
    ("|p75 µs", 0.75),
    ("|p95 µs", 0.95),
    ("|p98 µs", 0.98),
    ("|p99.5 µs", 0.995),
];

/// What has happened between two points in time.
pub(crate) struct Window {
    pub(crate) wall: Duration,
    cpu_nanos: f64,
    pub(crate) ticks: u64,
    counts: Vec<u64>,
}

impl Window {
    /// Sleeps, while others tick.
    pub(crate) fn measure(length: Duration) -> Self {
        let (counts, cpu, begun) = (counts(), cpu_nanos(), Instant::now());
        thread::sleep(length);
        let (wall, cpu) = (begun.elapsed(), cpu_nanos() - cpu);
        let counts: Vec<_> = self::counts().iter().zip(counts).map(|(end, begin)| end - begin).collect();
        Self { wall, cpu_nanos: cpu, ticks: counts.iter().sum(), counts }
    }

    pub(crate) fn cpu_per_tick(&self) -> f64 {
        self.cpu_nanos / self.ticks.max(1) as f64
    }

    /// In hundredths of a core.
    pub(crate) fn cpu_share(&self) -> f64 {
        100.0 * self.cpu_nanos / nanos(self.wall) as f64
    }

    /// The lateness, in microseconds, that this fraction of the ticks keeps below.
    fn lateness_micros(&self, fraction: f64) -> f64 {
        let rank = (self.ticks as f64 * fraction) as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen > rank
        });
        bucket.map_or(f64::NAN, value_of) / 1e3
    }

    pub(crate) fn lateness(&self) -> Figures {
        // Of fewer ticks one single tick would be the quantile.
        let enough = |fraction: f64| self.ticks as f64 * (1.0 - fraction) >= 2.0;
        let wanted = QUANTILES.iter().filter(|(_, fraction)| enough(*fraction));
        wanted.map(|&(name, fraction)| (name, self.lateness_micros(fraction))).collect()
    }
}

fn counts() -> Vec<u64> {
    LATENESS.iter().map(|count| count.load(Ordering::Relaxed)).collect()
}

/// What all threads of this process have used, in user and in kernel mode.
pub(crate) fn cpu_nanos() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// What is resident of this process.
pub(crate) fn rss_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the resident size");
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024.0
}
