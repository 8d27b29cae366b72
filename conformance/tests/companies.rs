//! Plays random companies: timers with a group, a scope and an engine in common, and calls that are made once.

use std::cell::Cell;

use everbeat_conformance::{
    BUSINESS, Company, HEAD, MEMBERS, Place, Unpredictable, check_company, company, foresee, play_company,
};
use proptest::array::uniform;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

#[path = "../../crates/everbeat-core/src/tests/seeded.rs"]
mod seeded;

use seeded::{number, seeded};

/// How much happens at most.
const MOST_BUSINESS: usize = 40;

type Bytes = (Vec<[u8; HEAD + 1]>, Vec<[u8; BUSINESS]>, bool);

fn bytes() -> impl Strategy<Value = Bytes> {
    (vec(uniform(any::<u8>()), MEMBERS), vec(uniform(any::<u8>()), 0..MOST_BUSINESS), any::<bool>())
}

fn made_of((members, business, light): &Bytes) -> Company {
    company(members, business, *light)
}

fn play(place: Place) {
    let config = seeded();
    let RngSeed::Fixed(seed) = config.rng_seed else { unreachable!("that is what it is for") };
    let cases = u32::try_from(number("PROPTEST_CASES").unwrap_or(300)).unwrap_or(u32::MAX);
    let config = Config { cases, max_global_rejects: u32::MAX, max_shrink_iters: 20_000, ..config };
    let (runs, open) = (Cell::new(0), Cell::new(0));
    let result = TestRunner::new(config).run(&bytes(), |bytes| {
        let company = made_of(&bytes);
        let foreseen = foresee(&company, place);
        if let Err(Unpredictable::TooLong) = foreseen {
            return Err(TestCaseError::reject("it is too long"));
        }
        let seen = play_company(&company, place);
        runs.set(runs.get() + seen.members.iter().flatten().map(|trace| trace.runs.len()).sum::<usize>());
        open.set(open.get() + usize::from(foreseen.is_err()));
        let differences = check_company(&company, foreseen.as_ref().ok(), &seen);
        if differences.is_empty() { Ok(()) } else { Err(TestCaseError::fail(differences.join("\n  "))) }
    });
    let (runs, open) = (runs.get(), open.get());
    println!("{place:?}: {cases} companies, {open} without a prediction, {runs} runs; seed {seed}");
    if let Err(TestError::Fail(differences, bytes)) = result {
        let company = made_of(&bytes);
        panic!("{place:?}, PROPTEST_RNG_SEED={seed}: {differences}\n{company}");
    }
    result.unwrap();
}

#[test]
fn companies_on_tokio_do_what_the_model_says() {
    play(Place::Task);
}

#[test]
fn companies_on_threads_do_what_the_model_says() {
    play(Place::Engine);
}

#[test]
fn companies_in_a_shared_task_do_what_the_model_says() {
    play(Place::SharedTask);
}
