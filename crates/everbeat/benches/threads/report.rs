//! Runs each case in a process of its own, several times, and prints medians.

use std::process::{Command, Stdio};
use std::time::Instant;

/// What a case has measured: a name with its unit, and the value.
pub(crate) type Figures = Vec<(&'static str, f64)>;

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
    /// Whether cargo asks for benches; when it runs tests it does not.
    wanted: bool,
    /// The one case that this process is for.
    child: Option<String>,
    filters: Vec<String>,
}

impl Options {
    pub(crate) fn from_args() -> Self {
        let mut options =
            Self { quick: false, repeat: 0, list: false, wanted: false, child: None, filters: Vec::new() };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match &*arg {
                "--quick" => options.quick = true,
                "--list" => options.list = true,
                "--bench" => options.wanted = true,
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
    if !options.wanted {
        return println!("nothing to test; see `cargo bench`");
    }
    for group in groups {
        let cases: Vec<_> = group.cases.iter().filter(|case| options.picks(&group.name_of(case))).collect();
        if options.list {
            cases.iter().for_each(|case| println!("{}", group.name_of(case)));
        } else if !cases.is_empty() {
            compare(options, group, &cases);
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
fn compare(options: &Options, group: &Group, cases: &[&Case]) {
    let begun = Instant::now();
    let mut rows: Vec<Row> = cases.iter().map(|case| Row::new(case.subject)).collect();
    for _ in 0..options.repeat {
        for (case, row) in cases.iter().zip(&mut rows) {
            row.add(&run_child(options.quick, &group.name_of(case)));
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let size = if options.quick { ", a tenth of the size" } else { "" };
    println!("\n## {} ({} x{size}, {took:.0} s)\n", group.name, options.repeat);
    print_table(&rows);
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

struct Row {
    subject: &'static str,
    columns: Vec<(String, Vec<f64>)>,
}

impl Row {
    fn new(subject: &'static str) -> Self {
        Self { subject, columns: Vec::new() }
    }

    fn add(&mut self, figures: &[(String, f64)]) {
        for (name, value) in figures {
            match self.columns.iter_mut().find(|(known, _)| known == name) {
                Some((_, values)) => values.push(*value),
                None => self.columns.push((name.clone(), vec![*value])),
            }
        }
    }

    fn cell(&self, column: &str) -> String {
        let values = self.columns.iter().find(|(name, _)| name == column);
        values.map_or_else(|| "-".to_owned(), |(_, values)| summary(values))
    }
}

fn summary(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = number(f64::midpoint(sorted[middle], sorted[(sorted.len() - 1) / 2]));
    match &*sorted {
        [_] => median,
        [least, .., greatest] => format!("{median} ({}–{})", number(*least), number(*greatest)),
        [] => unreachable!("a column begins with a value"),
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn print_table(rows: &[Row]) {
    let mut header = vec!["".to_owned()];
    for (name, _) in rows.iter().flat_map(|row| &row.columns) {
        if !header.contains(name) {
            header.push(name.clone());
        }
    }
    let mut lines = vec![header.clone()];
    for row in rows {
        let mut line = vec![row.subject.to_owned()];
        line.extend(header[1..].iter().map(|column| row.cell(column)));
        lines.push(line);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let rule = widths.iter().map(|&width| "-".repeat(width)).collect();
    lines.insert(1, rule);
    for line in lines {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("| {} |", cells.join(" | "));
    }
}
