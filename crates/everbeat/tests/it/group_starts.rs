//! G2: what comes up in the middle of the start of a group.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use everbeat::thread::{Engine, Host};
use everbeat::{Error, Group, Timer};

use crate::support::Gate;
use crate::thread_support::HOUR;

/// A host that stands still, and does something when somebody starts a timer.
struct Hooked(Mutex<Option<Box<dyn FnOnce() + Send>>>, AtomicBool, Instant);

impl Host for Hooked {
    fn now(&self) -> Instant {
        self.2
    }

    fn alert(&self) {}

    fn attend(&self) -> bool {
        let hook = self.0.lock().unwrap().take();
        hook.into_iter().for_each(|hook| hook());
        self.1.load(SeqCst)
    }
}

/// Engines, which end their timers when they are gone.
#[derive(Default)]
struct Stage(Vec<Engine>);

impl Stage {
    /// A timer during whose start this is done, and which can be started if `can_start`.
    fn timer(&mut self, can_start: bool, hook: impl FnOnce() + Send + 'static) -> Timer<u64> {
        let host = Hooked(Mutex::new(Some(Box::new(hook))), AtomicBool::new(can_start), Instant::now());
        let engine = Engine::hosted(host);
        let timer = engine.every(HOUR).build(|| 1);
        self.0.push(engine);
        timer.unwrap()
    }

    fn plain(&mut self) -> Timer<u64> {
        self.timer(true, || ())
    }

    /// A group, the start of whose only member does this with the group.
    fn group_with(&mut self, can_start: bool, hook: impl FnOnce(&Group) + Send + 'static) -> Group {
        let group = Group::new();
        let same = group.clone();
        group.add(self.timer(can_start, move || hook(&same))).unwrap();
        group
    }
}

#[test]
fn g2_who_is_added_in_the_middle_of_a_start_stays_whatever_comes_later() -> Result<(), Error> {
    let mut stage = Stage::default();
    let late = stage.plain();
    let added = late.clone();
    let group = stage.group_with(true, move |group| group.add(&added).unwrap());
    group.start()?;
    assert!(late.is_running() && group.is_running());
    // Another start, which fails, has not brought it in.
    drop(group.cancel());
    assert!(group.remove(&late));
    late.start()?;
    group.add(stage.timer(false, || ()))?;
    assert!(matches!(group.start(), Err(Error::NoRuntime { .. })));
    assert!(late.is_running() && !group.is_running());
    Ok(())
}

#[test]
fn g2_a_start_that_fails_takes_back_whom_it_has_brought_in() -> Result<(), Error> {
    let mut stage = Stage::default();
    let late = stage.plain();
    let added = late.clone();
    let group = stage.group_with(false, move |group| {
        group.add(&added).unwrap();
        assert!(added.is_running());
    });
    assert!(matches!(group.start(), Err(Error::NoRuntime { .. })));
    assert!(!late.is_running() && group.contains(&late));
    let later = stage.plain();
    group.add(&later)?;
    assert!(!later.is_running(), "the group was not started");
    Ok(())
}

#[test]
fn g2_a_stop_in_the_middle_of_a_start_has_the_last_word() -> Result<(), Error> {
    let mut stage = Stage::default();
    let group = stage.group_with(true, |group| drop(group.cancel()));
    let second = stage.plain();
    group.add(&second)?;
    group.start()?;
    assert!(!second.is_running() && !group.members()[0].is_running());
    Ok(())
}

#[test]
fn g2_a_stop_and_a_start_in_the_middle_of_a_start_have_the_last_word() -> Result<(), Error> {
    for may_go_on in [true, false] {
        let (mut stage, group) = (Stage::default(), Group::new());
        let (first, last, same) = (stage.plain(), stage.plain(), group.clone());
        group.add(&first)?;
        group.add(stage.timer(true, move || {
            drop(same.cancel());
            // It is being started: the other start would meet it.
            assert!(same.remove(&same.members()[1]));
            same.start().unwrap();
        }))?;
        if !may_go_on {
            group.add(&last)?;
        }
        assert_eq!(group.start().is_ok(), may_go_on);
        assert!(first.is_running() && group.is_running());
        assert_eq!(last.is_running(), !may_go_on);
    }
    Ok(())
}

#[test]
fn g2_a_start_anew_that_fails_takes_back_those_of_the_start_before() -> Result<(), Error> {
    let (mut stage, group) = (Stage::default(), Group::new());
    let (entered, gate) = (Gate::default(), Gate::default());
    let (inside, wall) = (entered.clone(), gate.clone());
    let (same, thread) = (group.clone(), Arc::new(Mutex::new(None)));
    let anew = thread.clone();
    // In its start the group is stopped, and another thread is in the middle of starting it anew when it has ended.
    let hooked = stage.timer(true, move || {
        drop(same.cancel());
        assert!(same.remove(&same.members()[0]));
        *anew.lock().unwrap() = Some(thread::spawn(move || same.start()));
        entered.pass();
    });
    group.add(&hooked)?;
    group.add(stage.timer(false, move || {
        inside.open();
        wall.pass();
    }))?;
    let refused = group.start();
    assert!(refused.is_err(), "{refused:?}");
    gate.open();
    let anew = thread.lock().unwrap().take().unwrap();
    assert!(anew.join().unwrap().is_err());
    assert!(!hooked.is_running() && !group.members()[0].is_running());
    Ok(())
}

#[test]
fn g2_a_stop_in_the_middle_of_an_addition_has_the_last_word() -> Result<(), Error> {
    let mut stage = Stage::default();
    let group = Group::new();
    group.add(stage.plain())?;
    group.start()?;
    let stopping = group.clone();
    let late = stage.timer(true, move || drop(stopping.cancel()));
    group.add(&late)?;
    assert!(!late.is_running());
    Ok(())
}

#[test]
fn g2_who_is_being_added_when_a_start_fails_is_stopped_too() -> Result<(), Error> {
    let mut stage = Stage::default();
    let (entered, gate) = (Gate::default(), Gate::default());
    let (inside, wall) = (entered.clone(), gate.clone());
    let late = stage.timer(true, move || {
        inside.open();
        wall.pass();
    });
    let (added, adding) = (late.clone(), Arc::new(Mutex::new(None)));
    let thread = adding.clone();
    let group = stage.group_with(false, move |group| {
        let group = group.clone();
        *thread.lock().unwrap() = Some(thread::spawn(move || group.add(&added)));
        entered.pass();
    });
    assert!(group.start().is_err());
    gate.open();
    let adding = adding.lock().unwrap().take().unwrap();
    adding.join().unwrap()?;
    assert!(!late.is_running());
    Ok(())
}
