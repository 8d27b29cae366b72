//! What the tests share.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use everbeat::{Builder, Timer};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// How long a test waits in real time for what comes about at once on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

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

/// Looks again and again, on a thread, until it is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "never: {what}");
        std::thread::sleep(ms(1));
    }
}

/// Something that blocks whoever passes until it is opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, std::sync::Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub(crate) fn pass(&self) {
        assert!(self.is_opened(), "nobody opens the gate");
    }

    /// Waits until it is open; false if nobody opens it.
    pub(crate) fn is_opened(&self) -> bool {
        let open = self.0.0.lock().unwrap();
        *self.0.1.wait_timeout_while(open, LIMIT, |open| !*open).unwrap().0
    }
}

/// How much of something to try: `EVERBEAT_STRESS=100` tries a hundred times as much, and `0.01` a hundredth.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // of what a test counts to
pub(crate) fn much(usual: u32) -> u32 {
    let factor = std::env::var("EVERBEAT_STRESS").ok();
    let factor = factor.map_or(1.0, |factor| factor.parse().expect("EVERBEAT_STRESS is a number"));
    (f64::from(usual) * factor).ceil() as u32
}
