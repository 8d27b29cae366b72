//! All figures as lines of JSON, for whoever draws them.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results");
const LOCK: &str = include_str!("../Cargo.lock");
const PEERS: &[&str] = &["tokio", "tokio-util", "fastimer", "async-io", "futures-timer"];

/// A file for this run, begun with the first figures.
#[derive(Default)]
pub(crate) struct Results(Option<File>);

impl Results {
    pub(crate) fn add(&mut self, group: &str, subject: &str, figures: &[(String, f64)]) {
        let finite = figures.iter().filter(|(_, value)| value.is_finite());
        let figures: Vec<_> = finite.map(|(name, value)| format!("{name:?}:{value}")).collect();
        let figures = figures.join(",");
        let line = format!(r#"{{"group":"{group}","subject":"{subject}","figures":{{{figures}}}}}"#);
        let file = self.0.get_or_insert_with(begin);
        writeln!(file, "{line}").expect("room for results");
    }
}

/// The first line tells where and with what all the others were measured.
fn begin() -> File {
    // A name for a file, and no time that anything waits for.
    #[allow(clippy::disallowed_methods)]
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    fs::create_dir_all(DIRECTORY).expect("a place for results");
    let mut file = File::create(format!("{DIRECTORY}/rust-{seconds}.jsonl")).expect("a file for results");
    let mut line = format!(r#"{{"began":{seconds}"#);
    let facts = [
        ("cpu", line_of("/proc/cpuinfo", "model name")),
        ("cores", std::thread::available_parallelism().map_or(0, usize::from).to_string()),
        ("load", fs::read_to_string("/proc/loadavg").unwrap_or_default()),
        ("kernel", told_by("uname", &["-sr"])),
        ("commit", told_by("git", &["describe", "--always", "--dirty"])),
        ("compiler", told_by("rustc", &["--version"])),
        ("versions", PEERS.iter().map(|peer| version(peer)).collect::<Vec<_>>().join(", ")),
    ];
    for (name, fact) in facts {
        write!(line, r#","{name}":{:?}"#, fact.trim()).expect("a string takes everything");
    }
    writeln!(file, "{line}}}").expect("room for results");
    file
}

fn line_of(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(": ")).map_or_else(String::new, |(_, value)| value.to_owned())
}

fn told_by(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn version(package: &str) -> String {
    let after =
        LOCK.split_once(&format!("name = \"{package}\"\nversion = \"")).map_or("", |(_, after)| after);
    format!("{package} {}", after.split('"').next().unwrap_or_default())
}
