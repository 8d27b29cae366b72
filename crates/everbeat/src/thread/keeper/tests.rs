//! Many turns at once.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::Tick;
use crate::testing::TestEngine;
use crate::thread::keeper::Turns;

const HOUR: Duration = Duration::from_secs(3600);

/// A consumer that takes its time when it is woken.
struct SlowToWake(TestEngine);

impl Wake for SlowToWake {
    fn wake(self: Arc<Self>) {
        self.0.pass(HOUR / 2);
    }
}

/// Both come up in one turn of the task, which reads the clock once from one run to the next.
#[test]
fn a_run_is_not_blamed_for_the_consumers_of_the_one_before() {
    let clock = TestEngine::new();
    let mut turns = Turns::of(clock.engine());
    let builder = || clock.engine().every(HOUR).histograms(false).inline();
    let first = builder().build(|tick: Tick| tick.run).unwrap();
    let mut feed = first.subscribe().open().unwrap();
    first.start().unwrap();
    let late = Arc::new(Mutex::new(None));
    let second = builder().start({
        let late = late.clone();
        move |tick: Tick| *late.lock().unwrap() = Some(tick.lateness)
    });
    turns.take();
    let waker = Waker::from(Arc::new(SlowToWake(clock.clone())));
    let mut cx = Context::from_waker(&waker);
    assert!(pin!(feed.next()).poll(&mut cx).is_ready());
    assert!(pin!(feed.next()).poll(&mut cx).is_pending());
    clock.pass(HOUR);
    turns.take();
    assert_eq!(*late.lock().unwrap(), Some(HOUR / 2));
    assert_eq!((first.stats().blocked, second.unwrap().stats().blocked), (0, 0));
}
