//! Reads the scenario files, and refuses those that are not as they should be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::scenario::{Command, Do, Driver, Returns, RunPlan, Scenario, TargetSpec, Topic};
use crate::span::Span;

/// How many clauses there are in each family.
const FAMILIES: [(char, u32); 8] =
    [('S', 12), ('R', 7), ('D', 11), ('L', 12), ('G', 4), ('E', 3), ('T', 3), ('O', 3)];

/// A scenario and the file that it is from.
#[derive(Clone, Debug)]
pub struct Story {
    /// The name of the file.
    pub file: String,
    /// The scenario.
    pub scenario: Scenario,
}

/// All scenarios in a directory, in the order of the files' names.
///
/// # Errors
/// A file cannot be read or parsed, or a scenario in it makes no sense; the message names both.
pub fn load(directory: &Path) -> Result<Vec<Story>, String> {
    let listing =
        std::fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut paths: Vec<_> = listing.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let mut stories = Vec::new();
    for path in paths {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{file}: {error}"))?;
        let topic = parse(&text).map_err(|error| format!("{file}: {error}"))?;
        stories.extend(topic.scenarios.into_iter().map(|scenario| Story { file: file.clone(), scenario }));
    }
    refuse_namesakes(&stories)?;
    Ok(stories)
}

/// The scenarios in the text of one file.
///
/// # Errors
/// It is not of the format, has a field that the format does not know, or a scenario makes no sense.
pub fn parse(text: &str) -> Result<Topic, String> {
    let topic: Topic = serde_json::from_str(text).map_err(|error| error.to_string())?;
    for scenario in &topic.scenarios {
        check_sense(scenario).map_err(|error| format!("`{}`: {error}", scenario.name))?;
    }
    Ok(topic)
}

fn refuse_namesakes(stories: &[Story]) -> Result<(), String> {
    let mut names = BTreeMap::new();
    for Story { file, scenario } in stories {
        if let Some(other) = names.insert(&scenario.name, file) {
            return Err(format!("{file}: there is another `{}` in {other}", scenario.name));
        }
    }
    Ok(())
}

fn check_sense(scenario: &Scenario) -> Result<(), String> {
    if scenario.why.trim().is_empty() || scenario.clauses.is_empty() {
        return Err("it has to name a clause, and say why".into());
    }
    if let Some(clause) = scenario.clauses.iter().find(|clause| !is_clause(clause)) {
        return Err(format!("there is no clause `{clause}`"));
    }
    if scenario.drivers.is_some() != scenario.because.is_some() {
        return Err("`drivers` and `because` go together".into());
    }
    check_order(scenario)?;
    check_answers(scenario)?;
    check_feeds(scenario)?;
    check_runs(scenario)?;
    check_ticks(scenario)?;
    let faced = scenario.is_for(Driver::Tokio) || scenario.is_for(Driver::Thread);
    if faced && !times(scenario).all(Span::is_coarse) {
        return Err("tokio's clock has milliseconds: finer times need `\"drivers\": [\"core\"]`".into());
    }
    Ok(())
}

/// Whether this is the id of a clause.
fn is_clause(id: &str) -> bool {
    let mut letters = id.chars();
    let family = letters.next().and_then(|first| FAMILIES.iter().find(|(letter, _)| *letter == first));
    let number = letters.as_str();
    let plain = !number.starts_with(['0', '+']);
    family.is_some_and(|(_, last)| plain && number.parse().is_ok_and(|number: u32| number <= *last))
}

fn check_order(scenario: &Scenario) -> Result<(), String> {
    // Who is given a turn first after a stall differs from driver to driver: no command may come then.
    let (mut free_from, mut stalled) = (Span::ZERO, false);
    for Command { at, action, .. } in &scenario.commands {
        if *at < free_from || (stalled && *at == free_from) {
            return Err(format!("the command at {at} is out of order, or not after a stall"));
        }
        stalled = matches!(action, Do::Stall(_));
        free_from = match action {
            Do::Stall(span) => at.plus(*span),
            _ => *at,
        };
    }
    if free_from >= scenario.watch {
        return Err(format!("it is not watched long enough to see what happens at {free_from}"));
    }
    Ok(())
}

fn check_answers(scenario: &Scenario) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for command in &scenario.commands {
        if let Some(name) = &command.name {
            if !command.action.has_answer() {
                return Err(format!("`{name}` is the answer of something that has none"));
            }
            if !names.insert(name) {
                return Err(format!("two answers are called `{name}`"));
            }
        }
        if command.timeout.is_some() && !(command.action.can_wait() && command.name.is_some()) {
            return Err(format!("the command at {} has a timeout and nobody who waits", command.at));
        }
    }
    if names.iter().copied().ne(scenario.expect.answers.keys()) {
        return Err("`expect.answers` has to tell of each named command, and of no other".into());
    }
    Ok(())
}

fn check_feeds(scenario: &Scenario) -> Result<(), String> {
    let mut feeds = BTreeSet::new();
    for Command { at, action, .. } in &scenario.commands {
        let known = match action {
            Do::Subscribe(spec) if spec.bounded == Some(0) => true, // refused: it never exists
            Do::Subscribe(spec) => feeds.insert(&spec.feed),
            Do::Next(feed) | Do::Read(feed) | Do::CloseFeed(feed) => feeds.contains(feed),
            Do::DropOldest(spec) => feeds.contains(&spec.feed),
            Do::DropFeed(feed) => feeds.remove(feed),
            _ => true,
        };
        if !known {
            return Err(format!("the command at {at} is about a feed that does not exist, or already does"));
        }
    }
    if feeds.into_iter().ne(scenario.expect.feeds.keys()) {
        return Err("`expect.feeds` has to tell of each feed that is not dropped, and of no other".into());
    }
    Ok(())
}

fn check_runs(scenario: &Scenario) -> Result<(), String> {
    if matches!(scenario.timer.target, TargetSpec::Iterator(_)) && !scenario.is_instant() {
        return Err("taking an item of an iterator takes no time".into());
    }
    let plans = scenario.runs.values().chain([&scenario.other_runs]);
    if scenario.timer.target == TargetSpec::Ticks {
        let fails = |plan: &RunPlan| matches!(plan.returns, Returns::Error | Returns::Panic);
        if !scenario.autostart || plans.clone().any(fails) {
            return Err("ticks come from the beginning on, and their consumers do not fail".into());
        }
    }
    if let Some(action) = plans.flat_map(|plan| &plan.does).find(|action| !action.is_for_runs()) {
        return Err(format!("a run cannot do {action:?}"));
    }
    if scenario.runs.contains_key(&0) {
        return Err("runs count from 1".into());
    }
    Ok(())
}

fn check_ticks(scenario: &Scenario) -> Result<(), String> {
    for spec in &scenario.expect.ticks {
        if spec.at.is_some() == spec.after.is_some() {
            return Err(format!("the tick of slot {} needs either `at` or `after`", spec.slot));
        }
        if spec.at.is_some_and(|at| at >= scenario.watch) {
            return Err(format!("the tick of slot {} comes when nobody watches", spec.slot));
        }
    }
    Ok(())
}

/// All times that a driver has to keep.
fn times(scenario: &Scenario) -> impl Iterator<Item = Span> + '_ {
    let timer = &scenario.timer;
    let limits = [timer.max_lateness, timer.until, timer.run_for, timer.stop_when, timer.run_timeout];
    let plans = scenario.runs.values().chain([&scenario.other_runs]);
    let commands = scenario.commands.iter();
    [timer.period, timer.initial_delay, scenario.watch]
        .into_iter()
        .chain(limits.into_iter().flatten())
        .chain(plans.map(|plan| plan.takes))
        .chain(commands.clone().map(|command| command.at))
        .chain(commands.filter_map(|command| command.timeout.or_else(|| command.action.span())))
}

impl Do {
    /// Whether whoever does it is answered.
    pub(crate) fn has_answer(&self) -> bool {
        self.can_wait() || matches!(self, Self::Start | Self::Subscribe(_) | Self::Read(_) | Self::Look)
    }

    /// Whether the answer may have to be waited for.
    pub(crate) fn can_wait(&self) -> bool {
        let for_the_end = matches!(self, Self::Wait | Self::Cancel | Self::Shutdown(_));
        let for_a_count = matches!(self, Self::WaitHits(_) | Self::WaitMore(_));
        for_the_end || for_a_count || matches!(self, Self::Trigger | Self::Join | Self::Next(_))
    }

    /// Whether a run can do it to its own timer.
    fn is_for_runs(&self) -> bool {
        let stops = matches!(self, Self::Cancel | Self::Shutdown(_));
        let periods = matches!(self, Self::SetPeriod(_) | Self::Rearm(_));
        stops || periods || matches!(self, Self::Trigger | Self::Pause | Self::Resume)
    }

    fn span(&self) -> Option<Span> {
        match self {
            Self::SetPeriod(span) | Self::Rearm(span) | Self::Shutdown(span) | Self::Stall(span) => {
                Some(*span)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scenario with some of its text replaced.
    fn refusal(original: &str, replacement: &str) -> String {
        let text = r#"{
            "about": "One scenario.",
            "scenarios": [{
                "name": "one", "clauses": ["S1"], "why": "It has to.",
                "timer": { "period": "10ms" },
                "commands": [
                    { "at": "5ms", "do": "join", "as": "joined" },
                    { "at": "7ms", "do": "resume" }
                ],
                "watch": "20ms",
                "expect": { "answers": { "joined": null } }
            }]
        }"#;
        parse(text).unwrap();
        assert!(text.contains(original), "{original}");
        parse(&text.replace(original, replacement)).unwrap_err()
    }

    #[test]
    fn unknown_fields_are_refused_everywhere() {
        let places = [r#""about""#, r#""name""#, r#""period""#, r#""at": "5ms""#, r#""answers""#];
        for place in places {
            let error = refusal(place, &format!(r#""colour": "red", {place}"#));
            assert!(error.contains("unknown field `colour`"), "{place}: {error}");
        }
        assert!(refusal(r#""resume""#, r#""resurrect""#).contains("unknown variant `resurrect`"));
    }

    #[test]
    fn only_clauses_that_exist_are_named() {
        for id in ["S0", "S13", "X1", "S", "s1", "S01", "S1.", ""] {
            assert!(refusal("S1", id).contains("there is no clause"), "{id}");
        }
        for id in ["S12", "R7", "D11", "L12", "G4", "E3", "T3", "O3"] {
            assert!(is_clause(id), "{id}");
        }
    }

    #[test]
    fn scenarios_without_sense_are_refused() {
        assert!(refusal("7ms", "3ms").contains("out of order"));
        assert!(refusal(r#""20ms""#, r#""7ms""#).contains("not watched long enough"));
        assert!(refusal(r#""resume""#, r#"{ "stall": "13ms" }"#).contains("not watched long enough"));
        assert!(refusal(r#""resume""#, r#"{ "close_feed": "f" }"#).contains("a feed that does not exist"));
        assert!(refusal(r#""resume""#, r#""resume", "as": "done""#).contains("has none"));
        assert!(refusal(r#""resume""#, r#""look", "timeout": "1ms""#).contains("nobody who waits"));
        assert!(refusal(r#", "as": "joined""#, "").contains("each named command"));
        assert!(refusal("It has to.", " ").contains("say why"));
        assert!(refusal("10ms", "10us").contains("milliseconds"));
        assert!(refusal(r#""watch""#, r#""drivers": ["core"], "watch""#).contains("go together"));
        let tick = r#""expect": { "ticks": [{ "slot": 0, "at": "20ms" }],"#;
        assert!(refusal(r#""expect": {"#, tick).contains("nobody watches"));
        let run = |plan| refusal(r#""watch""#, &format!(r#""runs": {plan}, "watch""#));
        assert!(run(r#"{ "0": {} }"#).contains("count from 1"));
        assert!(run(r#"{ "1": { "does": ["wait"] } }"#).contains("cannot do"));
    }
}
