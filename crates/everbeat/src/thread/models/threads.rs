//! An engine's own threads: who wakes them, and whose turns they give.

use super::*;

/// Something for a puppet to do, and what it has seen of it.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    wanted: u32,
    seen: u32,
    has_turn: bool,
}

fn wake_up_call(core: &Arc<Core>, key: Key) -> Waker {
    Waker::from(Arc::new(Bell { core: core.clone(), key }))
}

fn engine_with(workers: usize) -> Arc<Core> {
    Core::new("model", Precision::Coarse, workers, Time::new(Some(Arc::new(Loop::here()))), false, None)
}

/// A task that sees in its turn what is wanted, and tells this thread.
fn sees(wishes: &Shared<Wishes>) -> Task {
    let (wishes, here) = (wishes.clone(), thread::current());
    Arc::new(Puppet(move || {
        wishes.change(|wishes| {
            assert!(!wishes.has_turn, "two turns at once");
            wishes.has_turn = true;
            wishes.seen = wishes.wanted;
        });
        wishes.change(|wishes| wishes.has_turn = false);
        here.unpark();
        Progress::Sleep { until: None, busy: false }
    }))
}

/// After each wake-up there is a turn, and never two at once.
#[test]
fn wake_ups_against_turns() {
    check(BOUND, || {
        let wishes = Shared::new(Wishes::default());
        let core = engine_with(0);
        let key = core.enter(true).unwrap();
        core.give_back(key, sees(&wishes), &YIELD);
        let wakers = [(), ()].map(|()| {
            let (wishes, bell) = (wishes.clone(), wake_up_call(&core, key));
            thread::spawn(move || {
                wishes.change(|wishes| wishes.wanted += 1);
                bell.wake();
            })
        });
        loop {
            let next = core.host_round();
            if wishes.get().seen == 2 {
                break;
            }
            if matches!(next, Rest::Until(None) | Rest::Empty) {
                thread::park_timeout(Duration::MAX);
            }
        }
        wakers.into_iter().for_each(thread::JoinHandle::join);
    });
}

#[test]
fn wake_ups_against_turns_on_workers() {
    check(LOW_BOUND, || {
        let wishes = Shared::new(Wishes::default());
        let core = engine_with(2);
        let key = core.enter(false).unwrap();
        core.give_back(key, sees(&wishes), &YIELD);
        for _ in 0..2 {
            wishes.change(|wishes| wishes.wanted += 1);
            wake_up_call(&core, key).wake();
        }
        while wishes.get().seen < 2 {
            thread::park_timeout(Duration::MAX);
        }
        sync::let_time_pass();
    });
}

/// An engine with a thread of its own, which goes to sleep, is woken, and goes for good.
fn keeper_against(model: impl Fn(&Timer<u64>, &Engine) + Send + Sync + 'static) {
    check(BOUND, move || {
        let runs = Shared::new(Runs::default());
        let engine = Engine::builder().precision(Precision::Fine).workers(0).build();
        let timer = start(&engine, &runs);
        model(&timer, &engine);
        block::forever(timer.cancel());
        assert_consistent(&timer, runs.end());
        assert_eq!(engine.close(Duration::MAX), 0);
        sync::let_time_pass();
    });
}

#[test]
fn keeper_that_goes_to_sleep_against_a_trigger() {
    keeper_against(|timer, _| {
        block::forever(timer.wait_hits(1)).unwrap();
        block::forever(timer.trigger()).unwrap();
    });
}

#[test]
fn keeper_that_goes_to_sleep_against_an_earlier_timer() {
    keeper_against(|_, engine| {
        let runs = Shared::new(Runs::default());
        let timer = start(engine, &runs);
        block::forever(timer.wait_hits(1)).unwrap();
        block::forever(timer.cancel());
    });
}

/// It lingers, or has gone already, when there is a timer again.
#[test]
fn keeper_that_goes_for_good_against_a_start() {
    keeper_against(|timer, _| {
        block::forever(timer.cancel());
        sync::let_time_pass();
        timer.start().unwrap();
        block::forever(timer.wait_hits(1)).unwrap();
    });
}

/// Tasks for workers. Each of them waits in its turn until all have had theirs, if there is a worker for
/// each; this waits for all of them.
fn workers(most: usize, tasks: usize, list: fn(&Arc<Core>, Vec<(Key, Task)>)) {
    let (done, here) = (Shared::new(Vec::new()), thread::current());
    let core = engine_with(most);
    let task = |()| {
        let (done, here) = (done.clone(), here.clone());
        let puppet = Puppet(move || {
            done.change(|done| done.push(thread::current()));
            while most >= tasks && done.get().len() < tasks {
                thread::park_timeout(Duration::MAX);
            }
            done.get().iter().chain([&here]).for_each(Thread::unpark);
            Progress::Ended
        });
        (core.enter(false).unwrap(), Arc::new(puppet) as Task)
    };
    list(&core, std::iter::repeat_n((), tasks).map(task).collect());
    while done.get().len() < tasks {
        thread::park_timeout(Duration::MAX);
    }
    sync::let_time_pass();
}

fn list_at_once(core: &Arc<Core>, tasks: Vec<(Key, Task)>) {
    core.change(|roster| {
        for (key, task) in tasks {
            assert!(roster.give_back(key, task, &YIELD).is_none());
        }
    });
}

/// Meanwhile the workers that are idle have waited for long enough.
fn list_one_by_one(core: &Arc<Core>, tasks: Vec<(Key, Task)>) {
    for (key, task) in tasks {
        core.give_back(key, task, &YIELD);
        sync::let_time_pass();
    }
}

#[test]
fn one_worker_takes_what_is_listed() {
    check(BOUND, || workers(1, 2, list_at_once));
}

#[test]
fn one_worker_that_goes_takes_what_is_listed() {
    check(BOUND, || workers(1, 2, list_one_by_one));
}

#[test]
fn two_workers_take_what_is_listed() {
    check(LOW_BOUND, || workers(2, 2, list_at_once));
}

#[test]
fn two_workers_that_go_take_what_is_listed() {
    check(LOW_BOUND, || workers(2, 2, list_one_by_one));
}
