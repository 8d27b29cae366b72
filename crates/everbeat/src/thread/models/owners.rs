//! Groups and scopes: who starts a member and who stops all of them come at the same time.

use super::*;
use crate::group::Group;
use crate::scope::Scope;

/// Both threads' calls are over: takes the turns that are left.
fn settle(engine: &Engine) {
    while engine.turn().is_some_and(|next| next <= sync::now()) {}
}

/// A thread that calls this while another one stops the group; afterwards nobody runs.
fn group_against_cancel(active: bool, act: fn(&Group, Timer<u64>)) {
    check(BOUND, move || {
        let all_runs = [(), ()].map(|()| Shared::new(Runs::default()));
        let engine = Engine::hosted(Loop::here());
        let [member, other] = [0, 1].map(|n| build(&engine, &all_runs[n]));
        let group = Group::new();
        group.add(member).unwrap();
        if active {
            group.start().unwrap();
        }
        let acting = thread::spawn({
            let group = group.clone();
            move || act(&group, other)
        });
        drop(group.cancel());
        acting.join();
        settle(&engine);
        let running = group.members().iter().filter(|member| member.is_running()).count();
        assert!(running == 0 || group.is_running(), "{running} of {} run", group.len());
        assert!(!active || running == 0, "the stop has the last word");
        drop(group.cancel());
        settle(&engine);
        assert_eq!(timers(&engine), 0);
        all_runs.iter().for_each(|runs| _ = runs.end());
    });
}

#[test]
fn adding_to_a_group_against_a_stop() {
    group_against_cancel(true, |group, timer| group.add(timer).unwrap());
}

#[test]
fn starting_a_group_against_a_stop() {
    group_against_cancel(false, |group, _| _ = group.start());
}

/// One member runs already, so the start fails and is undone, and with it what was added meanwhile.
#[test]
fn a_start_that_fails_against_adding() {
    check(BOUND, || {
        let all_runs = [(), (), ()].map(|()| Shared::new(Runs::default()));
        let engine = Engine::hosted(Loop::here());
        let [first, busy, added] = [0, 1, 2].map(|n| build(&engine, &all_runs[n]));
        busy.start().unwrap();
        let group = Group::new();
        group.add(first.clone()).unwrap();
        group.add(busy.clone()).unwrap();
        let adding = thread::spawn({
            let (group, added) = (group.clone(), added.clone());
            move || group.add(added)
        });
        assert!(matches!(group.start(), Err(Error::AlreadyRunning { .. })));
        // It may have come in time to be a member that the start could not get to.
        adding.join().unwrap();
        settle(&engine);
        assert!(busy.is_running(), "that one was none of the start's business");
        assert!(!first.is_running() && !added.is_running() && !group.is_running());
        assert_eq!(timers(&engine), 1);
    });
}

fn build_tied(engine: &Engine, scope: &Scope, runs: &Shared<Runs>) -> Result<Timer<u64>, Error> {
    let runs = runs.clone();
    engine.every(PERIOD).fixed_rate().inline().tied_to(scope).build(move || runs.run())
}

/// A timer that is started while its scope ends has ended too, and for good.
fn start_against_end_of_scope(end: fn(Scope)) {
    check(BOUND, move || {
        let runs = Shared::new(Runs::default());
        let engine = Engine::hosted(Loop::here());
        let scope = Scope::new();
        let timer = build_tied(&engine, &scope, &runs).unwrap();
        let starter = thread::spawn({
            let timer = timer.clone();
            move || timer.start()
        });
        end(scope);
        let started = starter.join();
        assert!(matches!(started, Ok(()) | Err(Error::ScopeClosed { .. })), "{started:?}");
        settle(&engine);
        assert!(!timer.is_running());
        assert!(matches!(timer.start(), Err(Error::ScopeClosed { .. })));
        assert_eq!(timers(&engine), 0);
        runs.end();
    });
}

#[test]
fn a_start_against_the_cancel_of_its_scope() {
    start_against_end_of_scope(|scope| scope.cancel());
}

#[test]
fn a_start_against_the_drop_of_its_scope() {
    start_against_end_of_scope(drop);
}

/// Whether it came in time to be ended with the others, or was refused: it does not run.
#[test]
fn tying_a_timer_to_a_scope_against_two_ends_of_it() {
    check(LOW_BOUND, || {
        let runs = Shared::new(Runs::default());
        let engine = Engine::hosted(Loop::here());
        let scope = Scope::new();
        let first = build_tied(&engine, &scope, &runs).unwrap();
        first.start().unwrap();
        let threads = [
            thread::spawn({
                let scope = scope.clone();
                move || scope.cancel()
            }),
            thread::spawn({
                let (engine, scope, runs) = (engine.clone(), scope.clone(), runs.clone());
                move || drop(build_tied(&engine, &scope, &runs).map(|timer| timer.start()))
            }),
        ];
        scope.cancel();
        threads.into_iter().for_each(thread::JoinHandle::join);
        settle(&engine);
        assert!(!first.is_running() && scope.is_closed() && scope.active().is_empty());
        assert_eq!((timers(&engine), runs.end()), (0, 0));
    });
}
