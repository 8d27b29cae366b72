//! What this process holds, as Linux tells.

use std::fs;

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) resident_kib: u64,
    pub(crate) threads: u64,
    pub(crate) descriptors: usize,
}

impl Held {
    /// `None` where nothing is told, so that nothing could be compared.
    pub(crate) fn read() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let number = |field: &str| -> Option<u64> {
            let rest = status.lines().find_map(|line| line.strip_prefix(field))?;
            rest.split_whitespace().next()?.parse().ok()
        };
        let descriptors = fs::read_dir("/proc/self/fd").ok()?.count();
        Some(Self { resident_kib: number("VmRSS:")?, threads: number("Threads:")?, descriptors })
    }

    pub(crate) fn now() -> Self {
        Self::read().expect("it was told at the beginning")
    }
}

/// The resident memory over time.
#[derive(Debug, Default)]
pub(crate) struct Memory(Vec<u64>);

impl Memory {
    pub(crate) fn note(&mut self) {
        self.0.push(Held::now().resident_kib);
    }

    /// Its medians after the warm-up (the third tenth of the time) and at the end (the last tenth), in KiB.
    pub(crate) fn growth(&self) -> (u64, u64) {
        let length = self.0.len();
        (median(&self.0[length / 5..=length * 3 / 10]), median(&self.0[length * 9 / 10..]))
    }
}

fn median(samples: &[u64]) -> u64 {
    let mut samples = samples.to_vec();
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or(0)
}

/// Whether memory has grown by no more than noise: a tenth, and what an allocator keeps for a thread.
pub(crate) fn is_bounded(warm_kib: u64, end_kib: u64) -> bool {
    end_kib <= warm_kib + warm_kib / 10 + 8 * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_from_after_the_warm_up_to_the_end() {
        let memory = Memory((0..100).map(|second| if second < 20 { second } else { 100 + second }).collect());
        assert_eq!(memory.growth(), (125, 195));
    }

    #[test]
    fn a_leak_is_not_taken_for_noise() {
        assert!(is_bounded(100_000, 117_000));
        assert!(!is_bounded(100_000, 119_000));
    }
}
