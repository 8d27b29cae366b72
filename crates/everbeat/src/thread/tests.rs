//! What needs an engine that everybody shares, without anybody sharing it.

use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
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
    timer.set_period(LONG); // a reason for another turn
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

#[test]
fn l8_turns_that_were_taken_back_leave_the_line_short() {
    let engine = Engine::builder().workers(1).build();
    let ((begun, has_begun), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel::<()>());
    let busy = engine.every(LONG).start(move || {
        begun.send(()).unwrap();
        let _ = may_go_on.recv_timeout(LONG);
    });
    has_begun.recv_timeout(LONG).unwrap();
    for round in 1..=50 {
        let timers: Vec<_> = (0..100).map(|_| engine.every(LONG).start(|| ()).unwrap()).collect();
        while engine.stats().queued < round * 100 {
            thread::yield_now();
        }
        drop(timers);
        let line = engine.core().lock().pooled.len();
        assert!(line < 300, "{line} turns are in line");
    }
    go_on.send(()).unwrap();
    drop(busy);
}
