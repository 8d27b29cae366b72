//! What the tests share.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use everbeat::{Builder, Timer};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn every(millis: u64) -> Builder {
    Timer::every(ms(millis))
}

/// The time since a moment, for asserting when things happened.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(tokio::time::Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    pub(crate) fn millis(self) -> u128 {
        self.0.elapsed().as_millis()
    }
}

/// A list that a target writes and a test reads.
#[derive(Clone, Debug)]
pub(crate) struct Journal<T>(Arc<Mutex<Vec<T>>>);

impl<T: Clone> Journal<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn add(&self, entry: T) {
        self.0.lock().unwrap().push(entry);
    }

    pub(crate) fn entries(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }
}

/// Lets everything run that can.
pub(crate) async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}
