//! Runs each case in a process of its own, several times, and prints medians.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::measure::Figures;
use crate::results::Results;
use crate::table::{self, Row};

/// One subject under one load.
pub(crate) struct Case {
    subject: &'static str,
    run: Box<dyn Fn() -> Figures>,
}

/// Cases that are compared with each other.
pub(crate) struct Group {
    name: String,
    cases: Vec<Case>,
}

impl Group {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), cases: Vec::new() }
    }

    pub(crate) fn case(mut self, subject: &'static str, run: impl Fn() -> Figures + 'static) -> Self {
        self.cases.push(Case { subject, run: Box::new(run) });
        self
    }

    fn name_of(&self, case: &Case) -> String {
        format!("{}/{}", self.name, case.subject)
    }
}

pub(crate) struct Options {
    pub(crate) quick: bool,
    repeat: usize,
    list: bool,
    /// The one case that this process is for.
    child: Option<String>,
    filters: Vec<String>,
}

impl Options {
    pub(crate) fn from_args() -> Self {
        let mut options = Self { quick: false, repeat: 0, list: false, child: None, filters: Vec::new() };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match &*arg {
                "--quick" => options.quick = true,
                "--list" => options.list = true,
                "--repeat" => options.repeat = args.next().and_then(|n| n.parse().ok()).expect("--repeat N"),
                "--case" => options.child = args.next(),
                _ => options.filters.push(arg),
            }
        }
        if options.repeat == 0 {
            options.repeat = if options.quick { 1 } else { 3 };
        }
        options
    }

    fn picks(&self, name: &str) -> bool {
        self.filters.iter().all(|word| name.contains(word))
    }
}

pub(crate) fn run(options: &Options, groups: &[Group]) {
    if let Some(wanted) = &options.child {
        return run_here(groups, wanted);
    }
    let mut results = Results::default();
    for group in groups {
        let cases: Vec<_> = group.cases.iter().filter(|case| options.picks(&group.name_of(case))).collect();
        if options.list {
            cases.iter().for_each(|case| println!("{}", group.name_of(case)));
        } else if !cases.is_empty() {
            compare(options, group, &cases, &mut results);
        }
    }
}

fn run_here(groups: &[Group], wanted: &str) {
    let all = groups.iter().flat_map(|group| group.cases.iter().map(move |case| (group.name_of(case), case)));
    let (_, case) = all.into_iter().find(|(name, _)| name == wanted).expect("the name of a case");
    for (name, value) in (case.run)() {
        println!("{name}={value}");
    }
    // Taking a million timers down is not measured here.
    std::process::exit(0);
}

/// The cases take turns, so that what disturbs the machine disturbs them all.
fn compare(options: &Options, group: &Group, cases: &[&Case], results: &mut Results) {
    let begun = Instant::now();
    let mut rows: Vec<Row> = cases.iter().map(|case| Row::new(case.subject)).collect();
    for _ in 0..options.repeat {
        for (case, row) in cases.iter().zip(&mut rows) {
            let figures = run_child(options.quick, &group.name_of(case));
            results.add(&group.name, case.subject, &figures);
            row.add(&figures);
        }
    }
    let took = begun.elapsed().as_secs_f64();
    println!("\n## {} ({} x, {took:.0} s)\n", group.name, options.repeat);
    table::print(&rows);
}

fn run_child(quick: bool, name: &str) -> Vec<(String, f64)> {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.args(["--case", name]).args(quick.then_some("--quick")).stderr(Stdio::inherit());
    let output = command.output().expect("a process");
    assert!(output.status.success(), "{name}: {}", output.status);
    let text = String::from_utf8(output.stdout).expect("plain text");
    text.lines().filter_map(|line| line.split_once('=')).map(parse_figure).collect()
}

fn parse_figure((name, value): (&str, &str)) -> (String, f64) {
    (name.to_owned(), value.parse().expect("a number"))
}
