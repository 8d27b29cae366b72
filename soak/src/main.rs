//! Runs thousands of timers under random control for a set time, on tokio and on threads, and says what was left
//! over. `make soak` runs it beside its counterpart for Python.

mod gardener;
mod plants;
mod process;
mod random;
mod watch;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::process::ExitCode;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{env, panic, thread};

use everbeat::Group;
use everbeat::thread::{Engine, Precision, wait_for};

use crate::gardener::{Doing, Gardener, Place};
use crate::plants::{ON_PURPOSE, Soil};
use crate::process::{Held, Memory, is_bounded};
use crate::watch::{TALLY, Token, complain, complaints};

/// Nothing that anybody does here takes so long, on any machine.
const HANGS: Duration = Duration::from_secs(120);

/// What is over has gone by then: threads linger for a while.
const GONE: Duration = Duration::from_secs(30);

struct Options {
    seconds: u64,
    timers: usize,
    seed: u64,
}

impl Options {
    fn parse() -> Result<Self, String> {
        let seed = RandomState::new().build_hasher().finish() >> 32;
        let mut options = Self { seconds: 600, timers: 4_000, seed };
        let mut arguments = env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().and_then(|value| value.parse::<u64>().ok());
            let value = value.ok_or_else(|| format!("{name} needs a whole number"))?;
            match name.as_str() {
                "--seconds" => options.seconds = value.max(1),
                "--timers" => options.timers = usize::try_from(value.max(8)).unwrap_or(usize::MAX),
                "--seed" => options.seed = value,
                _ => return Err(format!("{name} is none of --seconds, --timers, --seed")),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let Some(before) = Held::read() else {
        eprintln!("the soak compares what /proc tells of this process, and there is none here");
        return ExitCode::from(2);
    };
    keep_quiet_about_panics_on_purpose();
    println!("soak in Rust: {} s, {} timers, seed {}", options.seconds, options.timers, options.seed);
    let (memory, tasks) = grow(&options);
    judge(before, &memory, tasks)
}

fn keep_quiet_about_panics_on_purpose() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let said = panic.payload().downcast_ref::<&str>().copied();
        let said = said.or_else(|| panic.payload().downcast_ref::<String>().map(String::as_str));
        if said != Some(ON_PURPOSE) {
            usual(panic);
        }
    }));
}

/// All of it, to the end of the last timer. Returns the memory over time, and how many tasks are left.
fn grow(options: &Options) -> (Memory, usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    let runtime = runtime.expect("there are threads for a runtime");
    let until = Instant::now() + Duration::from_secs(options.seconds);
    let own = Engine::builder().name("soak").precision(Precision::Fine).workers(4).build();
    let homes = [
        (Place::Task, Soil::Tokio),
        (Place::Task, Soil::Tokio),
        (Place::Task, Soil::Shared(Group::new())),
        (Place::Task, Soil::Engine(Engine::shared(Precision::Coarse))),
        (Place::Thread, Soil::Engine(Engine::shared(Precision::Coarse))),
        (Place::Thread, Soil::Engine(own)),
    ];
    let most = options.timers / homes.len();
    let (mut watched, mut threads) = (Vec::new(), Vec::new());
    for (seed, (place, soil)) in (options.seed..).zip(homes) {
        let (gardener, doing) = Gardener::new(place, soil, seed, most);
        watched.push(doing);
        match place {
            Place::Task => drop(runtime.spawn(gardener.work(until))),
            Place::Thread => {
                threads.push(thread::spawn(move || wait_for(gardener.work(until), Duration::MAX)));
            }
        }
    }
    let memory = look_on(&watched, until);
    for thread in threads {
        if thread.join().is_err() {
            complain("a gardener has panicked".to_owned());
        }
    }
    drop(watched);
    let metrics = runtime.metrics();
    wait_until(|| metrics.num_alive_tasks() == 0);
    let tasks = metrics.num_alive_tasks();
    runtime.shutdown_timeout(GONE);
    (memory, tasks)
}

/// Looks at the memory, and that nobody hangs, until all are done.
fn look_on(watched: &[Doing], until: Instant) -> Memory {
    let mut memory = Memory::default();
    loop {
        thread::sleep(Duration::from_millis(250));
        if Instant::now() < until {
            memory.note();
        }
        let doing: Vec<_> =
            watched.iter().map(|doing| *doing.lock().unwrap_or_else(PoisonError::into_inner)).collect();
        if doing.iter().all(|(what, _)| *what == "is done") {
            return memory;
        }
        for (what, since) in doing {
            if what != "is done" && since.elapsed() > HANGS {
                println!("verdict: somebody who {what} hangs");
                std::process::exit(1);
            }
        }
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    let end = Instant::now() + GONE;
    while !is_so() && Instant::now() < end {
        thread::sleep(Duration::from_millis(20));
    }
}

fn judge(before: Held, memory: &Memory, tasks: usize) -> ExitCode {
    wait_until(|| Held::now().threads <= before.threads && Token::alive() == 0);
    let after = Held::now();
    let (warm, end) = memory.growth();
    let [runs, on_grid, moved, slots, skipped, drifted, lost, starts, ends, controls, values] = [
        &TALLY.runs,
        &TALLY.on_grid,
        &TALLY.moved,
        &TALLY.slots,
        &TALLY.skipped,
        &TALLY.drifted,
        &TALLY.lost,
        &TALLY.starts,
        &TALLY.ends,
        &TALLY.controls,
        &TALLY.feed_values,
    ]
    .map(|counter| counter.load(Ordering::SeqCst));
    let checks = [
        (tasks == 0, format!("tasks left: {tasks}")),
        (
            after.threads <= before.threads,
            format!("threads: {} before, {} after", before.threads, after.threads),
        ),
        (
            after.descriptors <= before.descriptors,
            format!("file descriptors: {} before, {} after", before.descriptors, after.descriptors),
        ),
        (Token::alive() == 0, format!("targets and values left: {}", Token::alive())),
        (is_bounded(warm, end), format!("memory: {warm} KiB after the warm-up, {end} KiB at the end")),
        (drifted == 0 && on_grid > 0, format!("drift: {drifted} of {on_grid} runs on a known grid")),
        (lost == 0, format!("slots: {slots} passed, {skipped} skipped, {lost} unaccounted for")),
        (starts == ends, format!("starts: {starts}, ends called back: {ends}")),
        (complaints().is_empty(), format!("complaints: {}", complaints().len())),
    ];
    println!(
        "runs: {runs}, of which {moved} told where their grid is; controls: {controls}; values fed: {values}"
    );
    for (is_sound, told) in &checks {
        println!("{} {told}", if *is_sound { "  ok  " } else { "WRONG " });
    }
    complaints().iter().take(20).for_each(|complaint| println!("  {complaint}"));
    let is_sound = checks.iter().all(|(is_sound, _)| *is_sound);
    println!("verdict: {}", if is_sound { "sound" } else { "unsound" });
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
