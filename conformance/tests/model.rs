//! The model is right as far as people have worked things out: it predicts every scenario.

use std::path::Path;

use everbeat_conformance::{Unpredictable, check, load, predict};

#[test]
fn the_model_predicts_what_was_worked_out_by_hand() {
    let stories = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")).unwrap();
    let (mut wrong, mut beyond) = (Vec::new(), Vec::new());
    for story in &stories {
        let scenario = &story.scenario;
        match predict(scenario) {
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
            // Scenarios of billions of slots are for those who divide, and draws are for those who draw.
            Err(Unpredictable::TooLong | Unpredictable::Draws) => beyond.push(&scenario.name),
            Err(order) => wrong.push(format!("{}: {}\n  {order}\n", story.file, scenario.name)),
        }
    }
    println!("{} of {} predicted; beyond the model: {beyond:?}", stories.len() - beyond.len(), stories.len());
    assert!(wrong.is_empty(), "{}\n{} wrong", wrong.join("\n"), wrong.len());
    assert!(beyond.len() < 20, "{beyond:?}");
}
