//! Plays random histories on every driver, and compares what is seen with what the model says.

use std::cell::Cell;
use std::path::Path;

use everbeat_conformance::{
    COMMAND, CoreSubject, Driver, FaceSubject, Form, HEAD, Place, Runs, Scenario, Shape, Span, Subject,
    Trace, Unpredictable, check, check_always, compare_history, compare_queue, history, to_file, unpredicted,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

#[path = "../../crates/everbeat-core/src/tests/seeded.rs"]
mod seeded;

use seeded::{number, seeded};

/// How long histories are.
const MOST_COMMANDS: usize = 16;

/// Bytes of a history: those for the timer, and those for each command.
fn bytes() -> impl Strategy<Value = (Vec<u8>, Vec<[u8; COMMAND]>)> {
    (vec(any::<u8>(), HEAD), vec(any::<[u8; COMMAND]>(), 0..MOST_COMMANDS))
}

/// Plays as many histories on this subject as are wanted.
fn play(subject: &dyn Subject, runs: Runs) {
    let grain = if subject.driver() == Driver::Core { Span::NANOSECOND } else { Span::MILLISECOND };
    let shape = Shape { runs, stretch: number("EVERBEAT_STRETCH").unwrap_or(1), grain };
    let config = seeded();
    let RngSeed::Fixed(seed) = config.rng_seed else { unreachable!("that is what it is for") };
    let cases = u32::try_from(number("PROPTEST_CASES").unwrap_or(300)).unwrap_or(u32::MAX);
    let config = Config { cases, max_global_rejects: u32::MAX, max_shrink_iters: 20_000, ..config };
    let (ticks, most, open) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let result = TestRunner::new(config).run(&bytes(), |(head, commands)| {
        let bytes = [head, commands.concat()].concat();
        let (scenario, compare): (_, fn(&Scenario, &Trace) -> _) = match history(&bytes, shape) {
            Ok(scenario) => (scenario, check),
            Err(Unpredictable::TooLong) => return Err(TestCaseError::reject("it is too long")),
            Err(Unpredictable::Order(_)) => {
                open.set(open.get() + 1);
                (unpredicted(&bytes, shape), check_always)
            }
        };
        let trace = subject.play(&scenario);
        let differences = compare(&scenario, &trace);
        ticks.set(ticks.get() + trace.runs.len());
        most.set(most.get().max(trace.runs.len()));
        if differences.is_empty() { Ok(()) } else { Err(TestCaseError::fail(differences.join("\n  "))) }
    });
    let name = subject.name();
    let (ticks, most, open) = (ticks.get(), most.get(), open.get());
    println!(
        "{name}: {cases} histories, {open} without a prediction, {ticks} ticks, at most {most} in one; seed {seed}"
    );
    if let Err(TestError::Fail(differences, (head, commands))) = result {
        let bytes = [head, commands.concat()].concat();
        let scenario = history(&bytes, shape).unwrap_or_else(|_| unpredicted(&bytes, shape));
        let text = to_file("Found by a random history.", vec![scenario]);
        let file = format!("{}.json", name.replace([' ', ','], "-"));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
        std::fs::write(&path, &text).unwrap();
        panic!("{name}, PROPTEST_RNG_SEED={seed}: {differences}\nwritten to {}", path.display());
    }
    result.unwrap();
}

#[test]
fn the_core_does_what_the_model_says() {
    play(&CoreSubject { restless: false }, Runs::Slow);
}

#[test]
fn the_core_does_what_the_model_says_when_woken_needlessly() {
    play(&CoreSubject { restless: true }, Runs::Slow);
}

macro_rules! faces {
    ($($name:ident: $place:ident $form:ident;)*) => {
        $(
            #[test]
            fn $name() {
                let (place, form) = (Place::$place, Form::$form);
                let runs = match form {
                    Form::Slow => Runs::Slow,
                    Form::Sync => Runs::Instant,
                    Form::Lean | Form::LeanUnit | Form::LeanMeasured => Runs::Plain,
                    Form::Ticks => Runs::Ticks,
                };
                play(&FaceSubject { place, form }, runs);
            }
        )*
    };
}

faces! {
    tokio_does_what_the_model_says: Task Slow;
    tokio_with_sync_targets_do_what_the_model_says: Task Sync;
    tokio_without_a_target_does_what_the_model_says: Task Ticks;
    tokio_with_lean_timers_do_what_the_model_says: Task Lean;
    tokio_with_lean_timers_without_values_do_what_the_model_says: Task LeanUnit;
    tokio_with_lean_timers_with_histograms_do_what_the_model_says: Task LeanMeasured;
    threads_do_what_the_model_says: Engine Slow;
    threads_with_sync_targets_do_what_the_model_says: Engine Sync;
    threads_without_a_target_do_what_the_model_says: Engine Ticks;
    threads_with_lean_timers_do_what_the_model_says: Engine Lean;
    threads_with_lean_timers_without_values_do_what_the_model_says: Engine LeanUnit;
    threads_with_lean_timers_with_histograms_do_what_the_model_says: Engine LeanMeasured;
    a_shared_task_does_what_the_model_says: SharedTask Slow;
    a_shared_task_with_sync_targets_do_what_the_model_says: SharedTask Sync;
    a_shared_task_without_a_target_does_what_the_model_says: SharedTask Ticks;
    a_shared_task_with_lean_timers_do_what_the_model_says: SharedTask Lean;
    a_shared_task_with_lean_timers_without_values_do_what_the_model_says: SharedTask LeanUnit;
    a_shared_task_with_lean_timers_with_histograms_do_what_the_model_says: SharedTask LeanMeasured;
}

#[test]
fn the_corpus_of_the_fuzzer_holds() {
    replay("history", compare_history);
    replay("queue", compare_queue);
}

fn replay(target: &str, compare: fn(&[u8]) -> Result<(), String>) {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let files: Vec<_> = std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 20, "only {} files in {}", files.len(), place.display());
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        compare(&bytes).unwrap_or_else(|difference| panic!("{}: {difference}", file.display()));
    }
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn the_queue_does_what_a_map_would(bytes in vec(any::<u8>(), 0..400)) {
        compare_queue(&bytes).map_err(TestCaseError::fail)?;
    }
}
