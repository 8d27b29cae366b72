//! What needs an engine that everybody shares, without anybody sharing it.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use super::handle::{Engine, EngineBuilder};
use crate::{Outcome, StopReason, Value};

const LONG: Duration = Duration::from_secs(30);

impl EngineBuilder {
    fn build_for_everybody(mut self) -> Engine {
        self.reopens = true;
        self.build()
    }
}

fn ends_after_its_run<V: Value + Outcome<Value = V> + Send + Sync + 'static>(
    workers: usize,
    value: fn() -> V,
) {
    let engine = Engine::builder().workers(workers).build_for_everybody();
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let timer = engine
        .every(Duration::ZERO)
        .start(move || {
            begun.send(()).unwrap();
            let _ = may_go_on.lock().unwrap().recv_timeout(LONG);
            value()
        })
        .unwrap();
    has_begun.recv_timeout(LONG).unwrap();
    assert_eq!(engine.close(Duration::ZERO), 1);
    let other = engine.every(Duration::ZERO).max_runs(3).start(|| 1).unwrap(); // it is open again
    go_on.send(()).unwrap();
    assert_eq!(timer.wait().block(LONG).unwrap(), StopReason::Abandoned);
    assert_eq!(timer.stats().runs, 1);
    assert_eq!(other.wait().block(LONG).unwrap(), StopReason::MaxRuns);
}

#[test]
fn l4_closing_the_engine_of_everybody_ends_what_is_in_the_middle_of_its_run() {
    for workers in [0, 2] {
        ends_after_its_run(workers, || ());
        ends_after_its_run(workers, || 7);
    }
}
