//! Plays every scenario on every driver that it is for.

use std::collections::BTreeSet;
use std::path::Path;

use everbeat_conformance::{
    CoreSubject, Driver, FaceSubject, Form, Place, Span, Story, Subject, Unpredictable, check, load, predict,
};

const PLACES: [Place; 3] = [Place::Task, Place::Engine, Place::SharedTask];
const FORMS: [Form; 5] = [Form::Slow, Form::Sync, Form::Lean, Form::LeanUnit, Form::LeanMeasured];

fn subjects() -> Vec<Box<dyn Subject>> {
    let cores = [false, true].map(|restless| Box::new(CoreSubject { restless }) as _);
    let faces =
        PLACES.into_iter().flat_map(|place| FORMS.map(|form| Box::new(FaceSubject { place, form }) as _));
    cores.into_iter().chain(faces).collect()
}

/// What the life of one timer can show: the clauses that some scenario must name.
const COVERED: [(char, &[u32]); 6] = [
    ('S', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ('R', &[1, 2, 3, 4, 5, 6]),
    ('D', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 11]),
    ('L', &[1, 2, 3, 4, 5, 6, 7, 8]),
    ('E', &[1, 2, 3]),
    ('O', &[3]),
];

fn stories() -> Vec<Story> {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")).unwrap_or_else(|error| panic!("{error}"))
}

/// Plays a scenario; returns what went wrong, ready to be printed.
fn play(subject: &dyn Subject, story: &Story) -> Option<String> {
    let Story { file, scenario } = story;
    let trace = subject.play(scenario);
    let mut differences = check(scenario, &trace);
    if subject.play(scenario) != trace {
        differences.push("played again, it went another way".to_owned());
    }
    let (name, clauses) = (&scenario.name, scenario.clauses.join(" "));
    let header = format!("{file}: {name} [{}] ({clauses})\n  {}", subject.name(), scenario.why);
    (!differences.is_empty()).then(|| format!("{header}\n  {}\n", differences.join("\n  ")))
}

#[test]
fn every_driver_plays_every_scenario_as_expected() {
    let mut stories = stories();
    let mut failures = Vec::new();
    for subject in subjects() {
        let (mut played, mut failed) = (0, 0);
        // A scenario that fails is not played by further drivers: they move the same machine.
        stories.retain(|story| {
            if !story.scenario.is_for(subject.driver()) || !subject.can_play(&story.scenario) {
                return true;
            }
            let failure = play(&*subject, story);
            let passed = failure.is_none();
            (played, failed) = (played + 1, failed + usize::from(!passed));
            failures.extend(failure);
            passed
        });
        println!("{}: {played} scenarios, {failed} failed", subject.name());
    }
    let legend = "lines with - were expected, lines with + were seen";
    assert!(failures.is_empty(), "{legend}\n\n{}\n{} failed", failures.join("\n"), failures.len());
}

#[test]
fn the_model_predicts_what_was_worked_out_by_hand() {
    let stories = stories();
    let (mut wrong, mut beyond) = (Vec::new(), Vec::new());
    for story in &stories {
        let scenario = &story.scenario;
        match predict(scenario, Span::NANOSECOND) {
            Ok(trace) => {
                let differences = check(scenario, &trace);
                if !differences.is_empty() {
                    wrong.push(format!(
                        "{}: {}\n  {}\n",
                        story.file,
                        scenario.name,
                        differences.join("\n  ")
                    ));
                }
            }
            // Scenarios of billions of slots are for those who divide.
            Err(Unpredictable::TooLong) => beyond.push(&scenario.name),
            Err(order) => wrong.push(format!("{}: {}\n  {order}\n", story.file, scenario.name)),
        }
    }
    println!("{} of {} predicted; beyond the model: {beyond:?}", stories.len() - beyond.len(), stories.len());
    assert!(wrong.is_empty(), "{}\n{} wrong", wrong.join("\n"), wrong.len());
    assert!(beyond.len() < 20, "{beyond:?}");
}

#[test]
fn there_are_enough_scenarios_for_each_driver() {
    let stories = stories();
    for (driver, least) in [(Driver::Core, 70), (Driver::Tokio, 60), (Driver::Thread, 60)] {
        let count = stories.iter().filter(|story| story.scenario.is_for(driver)).count();
        assert!(count >= least, "{driver:?} has only {count} scenarios");
    }
}

#[test]
fn every_clause_about_one_timer_has_a_scenario() {
    let stories = stories();
    let named: BTreeSet<&str> =
        stories.iter().flat_map(|story| &story.scenario.clauses).map(String::as_str).collect();
    for (family, numbers) in COVERED {
        let ids = numbers.iter().map(|number| format!("{family}{number}"));
        let bare: Vec<_> = ids.filter(|id| !named.contains(id.as_str())).collect();
        assert!(bare.is_empty(), "no scenario names {bare:?}");
    }
}
