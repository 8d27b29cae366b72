//! Histories: scenarios made of bytes, and what the model says that they come to.
//!
//! One byte is one choice, zeros are the plainest choices, and each [`COMMAND`] bytes after the first
//! [`HEAD`] are one command. So whatever makes bytes can make histories, and fewer and smaller bytes are
//! shorter and plainer ones.

use std::collections::BTreeMap;

use crate::Subject;
use crate::always::check_always;
use crate::check::check;
use crate::core_subject::CoreSubject;
use crate::expect::Expect;
use crate::model::{Unpredictable, predict};
use crate::scenario::{
    BackoffSpec, Command, Do, DropPolicy, DropSpec, FeedSpec, Fraction, JitterSpec, MissedSpec, Mode,
    OnErrorSpec, Returns, RunPlan, Scenario, TargetSpec, TimerSpec, Topic,
};
use crate::span::Span;
use crate::trace::Trace;

/// How many bytes describe the timer and its runs.
pub const HEAD: usize = 32;
/// How many bytes describe a command.
pub const COMMAND: usize = 5;

/// What a history has its timer run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// Whatever takes its time.
    Slow,
    /// Sync callables: no run takes time.
    Instant,
    /// The same, and nothing is asked of the timer that it has to be whole for.
    Plain,
    /// Nothing: there is no target, and a consumer has the ticks.
    Ticks,
}

impl Runs {
    fn are_instant(self) -> bool {
        matches!(self, Self::Instant | Self::Plain)
    }
}

/// What kind of histories are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What there is to be run.
    pub runs: Runs,
    /// How many times as long as usual they are watched after their last command.
    pub stretch: u64,
    /// The finest step of the driver's clock.
    pub grain: Span,
}

/// The history that these bytes stand for, with the model's prediction.
///
/// # Errors
/// There is no prediction.
pub fn history(bytes: &[u8], shape: Shape) -> Result<Scenario, Unpredictable> {
    let mut scenario = unpredicted(bytes, shape);
    let trace = predict(&scenario, shape.grain)?;
    // How drivers divide what they report is their own affair.
    scenario.expect = Expect { batches: None, ..trace.expectation(&scenario) };
    Ok(scenario)
}

/// The same without a prediction, for what has none.
#[must_use]
pub fn unpredicted(bytes: &[u8], shape: Shape) -> Scenario {
    Writer::new(bytes, shape).write()
}

/// The timer and the runs that these bytes stand for.
pub(crate) fn timer(bytes: &[u8], shape: Shape) -> Scenario {
    Scenario { commands: Vec::new(), ..unpredicted(bytes, shape) }
}

/// Plays the history that these bytes stand for on the core, woken needlessly or not, and compares what is
/// seen with what the model says. One without a prediction is looked at for what always holds.
///
/// # Errors
/// Where they differ.
pub fn compare_history(bytes: &[u8]) -> Result<(), String> {
    let shape = Shape { runs: Runs::Slow, stretch: 1, grain: Span::NANOSECOND };
    let (scenario, compare): (_, fn(&Scenario, &Trace) -> _) = match history(bytes, shape) {
        Ok(scenario) => (scenario, check),
        Err(Unpredictable::Order(_)) => (unpredicted(bytes, shape), check_always),
        Err(Unpredictable::TooLong) => return Ok(()),
    };
    for restless in [false, true] {
        let differences = compare(&scenario, &CoreSubject { restless }.play(&scenario));
        if !differences.is_empty() {
            return Err(format!("{}\n{}", differences.join("\n"), to_file("One history.", vec![scenario])));
        }
    }
    Ok(())
}

/// Scenarios as the text of a file.
#[must_use]
pub fn to_file(about: &str, scenarios: Vec<Scenario>) -> String {
    let topic = Topic { about: about.to_owned(), scenarios };
    serde_json::to_string_pretty(&topic).unwrap_or_else(|error| error.to_string())
}

/// Choices, one byte each; the first of each when there are no more bytes.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    pub(crate) fn below(&mut self, limit: u8) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte % limit
    }

    pub(crate) fn pick<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[usize::from(self.below(u8::try_from(N).unwrap_or(u8::MAX)))]
    }

    /// One of these, in one case out of four.
    fn rarely<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> Option<T> {
        let choice = usize::from(self.below(u8::MAX)) % (4 * N);
        choices.get(choice.checked_sub(3 * N)?).copied()
    }

    /// True in one case of so many.
    fn once_in(&mut self, cases: u8) -> bool {
        self.below(cases) == cases - 1
    }
}

pub(crate) const fn ms(count: u64) -> Span {
    Span::MILLISECOND.times(count)
}

/// Periods, delays, waits and runs take multiples of four milliseconds. Commands come at even times, so
/// they often meet a tick. What must not meet anything (timeouts, limits of runs, graces) is odd.
const PERIODS: [Span; 10] =
    [ms(8), ms(4), ms(12), ms(20), ms(40), ms(100), ms(16), ms(0), ms(60), Span::NEVER];

const MISSED: [MissedSpec; 6] = [
    MissedSpec::Skip,
    MissedSpec::Delay,
    MissedSpec::Burst(1),
    MissedSpec::Burst(3),
    MissedSpec::Burst(0),
    MissedSpec::Burst(9),
];

const ON_ERROR: [OnErrorSpec; 8] = [
    OnErrorSpec::Continue,
    OnErrorSpec::Continue,
    OnErrorSpec::Continue,
    OnErrorSpec::Stop,
    backoff(4, None, 20),
    backoff(12, Some(3), 1000),
    backoff(16, Some(1), 16),
    backoff(60, None, 200),
];

/// Those that end.
const TARGETS: [TargetSpec; 6] = [
    TargetSpec::Iterator(3),
    TargetSpec::Stream(4),
    TargetSpec::Stream(0),
    TargetSpec::Iterator(12),
    TargetSpec::Iterator(1000),
    TargetSpec::Stream(1000),
];

const fn backoff(first: u64, numerator: Option<u32>, max: u64) -> OnErrorSpec {
    let factor = match numerator {
        Some(numerator) => Some(Fraction { numerator, denominator: 1 }),
        None => None,
    };
    OnErrorSpec::Backoff(BackoffSpec { first: ms(first), factor, max: ms(max) })
}

struct Writer<'a> {
    timer: Bytes<'a>,
    commands: Bytes<'a>,
    shape: Shape,
    now: Span,
    /// The feeds that exist, and the answers of those who wait for their items.
    feeds: BTreeMap<String, Vec<String>>,
    names: Vec<String>,
    started: bool,
    /// Whether nothing may be asked of the timer any more.
    let_go: bool,
    /// Whether somebody may wait for the end with a handle of its own, as long as its patience lasts.
    held: bool,
    /// Whether it may run as often as possible.
    busy: bool,
    /// Whether it may have no period in all time.
    endless: bool,
    script: Vec<Command>,
}

impl<'a> Writer<'a> {
    fn new(bytes: &'a [u8], shape: Shape) -> Self {
        let (timer, commands) = bytes.split_at(bytes.len().min(HEAD));
        Self {
            timer: Bytes(timer),
            commands: Bytes(commands),
            shape,
            now: Span::ZERO,
            feeds: BTreeMap::new(),
            names: Vec::new(),
            started: false,
            let_go: false,
            held: false,
            busy: false,
            endless: false,
            script: Vec::new(),
        }
    }

    fn write(mut self) -> Scenario {
        let mut timer = self.timer();
        let autostart = !self.timer.once_in(8) || self.shape.runs == Runs::Ticks;
        self.started = autostart;
        if !autostart && !self.timer.once_in(4) {
            self.now = ms(2);
            self.started = true;
            self.add(Do::Start, 0, None);
        }
        let tail = self.timer.pick([ms(61), ms(121), ms(241), ms(1001)]).times(self.shape.stretch);
        let mut runs = BTreeMap::new();
        for number in 1..=4 {
            let plan = self.run(&timer, true);
            if plan != RunPlan::default() {
                runs.insert(number, plan);
            }
        }
        let other_runs = self.run(&timer, false);
        let jitter = self.jitter();
        while !self.commands.0.is_empty() {
            let (command, rest) = self.commands.0.split_at(self.commands.0.len().min(COMMAND));
            self.command(&mut Bytes(command));
            self.commands = Bytes(rest);
        }
        // Drivers have the end of time in different places, around which nothing shall be drawn.
        timer.jitter = jitter.filter(|_| !self.endless);
        if self.shape.runs == Runs::Plain {
            timer = TimerSpec {
                jitter: None,
                until: None,
                run_for: None,
                stop_when: None,
                run_timeout: None,
                ..timer
            };
        }
        if self.shape.runs == Runs::Ticks {
            timer = TimerSpec { stop_when: None, run_timeout: None, target: TargetSpec::Ticks, ..timer };
        }
        if timer.jitter.is_some() {
            // Whether a slot that is too late gets another chance in what its window has left is left open.
            timer.max_lateness = None;
        }
        if self.busy && other_runs.takes == Span::ZERO {
            timer.max_runs = timer.max_runs.or(Some(20));
        }
        Scenario {
            name: "a-history".to_owned(),
            clauses: vec!["S12".to_owned()],
            why: "A history that somebody has to give a name, its clauses and a reason.".to_owned(),
            drivers: None,
            because: None,
            timer,
            autostart,
            runs,
            other_runs,
            commands: self.script,
            watch: self.now.plus(tail),
            expect: Expect::default(),
        }
    }

    fn timer(&mut self) -> TimerSpec {
        let from = &mut self.timer;
        let mode = from.pick([Mode::FixedRate, Mode::FixedDelay, Mode::FixedRate]);
        let period = from.pick(PERIODS);
        let initial_delay = from.pick([ms(0), ms(0), ms(4), ms(12), ms(40)]);
        let missed = from.pick(MISSED);
        let keep_phase = from.once_in(3);
        let max_lateness = from.pick([None, None, None, Some(ms(0)), Some(ms(4)), Some(ms(13))]);
        let max_runs = from.rarely([1, 3, 7]);
        let end = from.rarely([ms(24), ms(70), ms(200)]);
        let (until, run_for) = if from.once_in(2) { (end, None) } else { (None, end) };
        let stop_when = from.rarely([ms(0), ms(36), ms(110)]);
        let run_timeout = from.pick([None, None, None, Some(ms(5)), Some(ms(15)), Some(ms(41))]);
        let on_error = from.pick(ON_ERROR);
        let target = from.rarely(TARGETS).filter(|_| !self.shape.runs.are_instant()).unwrap_or_default();
        self.busy |= period == Span::ZERO;
        self.endless |= period == Span::NEVER;
        TimerSpec {
            mode,
            period,
            initial_delay,
            jitter: None,
            missed,
            keep_phase,
            max_lateness,
            max_runs,
            until,
            run_for,
            stop_when,
            run_timeout,
            on_error,
            target,
        }
    }

    fn jitter(&mut self) -> Option<JitterSpec> {
        let denominator = self.timer.rarely([4, 2, 1])?;
        let seed = u64::from(self.timer.below(u8::MAX));
        Some(JitterSpec { fraction: Fraction { numerator: 1, denominator }, seed })
    }

    fn run(&mut self, timer: &TimerSpec, special: bool) -> RunPlan {
        let from = &mut self.timer;
        let takes = from.pick([ms(0), ms(0), ms(4), ms(8), ms(24), ms(48), ms(0), ms(12)]);
        let instant = self.shape.runs.are_instant() || matches!(timer.target, TargetSpec::Iterator(_));
        let takes = if instant { Span::ZERO } else { takes };
        let mut plan = RunPlan { takes, ..RunPlan::default() };
        let returns = if special {
            from.pick([
                Returns::Number,
                Returns::Error,
                Returns::Number,
                Returns::Panic,
                Returns::Value(1000),
            ])
        } else {
            from.pick([Returns::Number, Returns::Number, Returns::Number, Returns::Error])
        };
        if self.shape.runs != Runs::Ticks {
            plan.returns = returns;
        }
        if !special {
            return plan;
        }
        let action = match from.below(80) {
            1 => Do::Trigger,
            2 => Do::Pause,
            3 => Do::Resume,
            4 => Do::Cancel,
            5 => Do::Shutdown(ms(0)),
            6 => Do::Shutdown(ms(21)),
            choice @ 7..=12 => {
                let period = PERIODS[usize::from(choice - 7)];
                if choice % 2 == 0 { Do::SetPeriod(period) } else { Do::Rearm(period) }
            }
            13 => Do::Rearm(ms(0)),
            _ => return plan,
        };
        self.busy |= action == Do::Rearm(ms(0));
        plan.does.push(action);
        plan
    }

    /// Adds a command, and what has to be done before it.
    fn command(&mut self, from: &mut Bytes<'_>) {
        let gap = from.pick([ms(2), ms(0), ms(4), ms(6), ms(8), ms(14), ms(30), ms(50)]);
        let stalled = self.script.last().is_some_and(|last| matches!(last.action, Do::Stall(_)));
        self.now = self.now.plus(if stalled { gap.max(ms(2)) } else { gap });
        let choice = from.below(48);
        let argument = from.below(255);
        let named = from.below(4);
        let patience = from.pick([None, None, None, Some(ms(1)), Some(ms(7)), Some(ms(31))]);
        let action = match choice {
            _ if self.let_go && choice < 28 => Do::Stall(ms(4)),
            0..=13 => control(choice, argument, &mut self.busy),
            14..=23 => request(choice, argument),
            24 | 25 => Do::Look,
            26 | 27 => {
                self.started = true;
                Do::Start
            }
            28 | 29 => Do::Stall(ms(4).times(1 + u64::from(argument % 24))),
            30 if self.let_go => Do::Stall(ms(8)),
            30 if argument % 4 != 0 || self.shape.runs == Runs::Ticks => Do::Resume,
            30 => {
                self.let_go = true;
                if argument % 8 == 0 || self.held { Do::Detach } else { Do::DropHandle }
            }
            31 | 32 if !self.names.is_empty() => {
                Do::Forget(self.names[usize::from(argument) % self.names.len()].clone())
            }
            _ => self.about_feeds(choice, argument),
        };
        self.add(action, named, patience);
    }

    fn about_feeds(&mut self, choice: u8, argument: u8) -> Do {
        let feed = self.feeds.keys().nth(usize::from(argument) % self.feeds.len().max(1)).cloned();
        let Some(feed) = feed.filter(|_| choice != 33 || self.feeds.len() > 3) else {
            return if self.let_go { Do::Stall(ms(4)) } else { self.subscription(argument) };
        };
        match choice {
            34 => Do::Read(feed),
            35 => Do::DropOldest(DropSpec { feed, count: usize::from(argument % 4) }),
            36 => Do::CloseFeed(feed),
            37 => {
                self.forget_consumers(&feed);
                self.feeds.remove(&feed);
                Do::DropFeed(feed)
            }
            _ => {
                self.forget_consumers(&feed);
                Do::Next(feed)
            }
        }
    }

    /// A feed has one consumer at a time, and whoever waits for an item holds the feed.
    fn forget_consumers(&mut self, feed: &str) {
        let waiting = self.feeds.get_mut(feed).map(std::mem::take).unwrap_or_default();
        for name in waiting {
            self.add(Do::Forget(name), 0, None);
            self.now = self.now.plus(ms(2));
        }
    }

    fn subscription(&mut self, argument: u8) -> Do {
        let bounded = [None, Some(1), Some(2), Some(5), Some(0)][usize::from(argument % 5)];
        let drop = match bounded {
            Some(_) if argument >= 128 => DropPolicy::Newest,
            _ => DropPolicy::Oldest,
        };
        let feed = format!("feed-{}", self.script.len());
        if bounded != Some(0) {
            self.feeds.insert(feed.clone(), Vec::new());
        }
        Do::Subscribe(FeedSpec { feed, bounded, drop })
    }

    fn add(&mut self, action: Do, named: u8, patience: Option<Span>) {
        // What a stop of a timer that was never started is answered differs from driver to driver.
        let tellable = self.started || !matches!(action, Do::Cancel | Do::Shutdown(_));
        let listens = action.has_answer() && tellable && named != 3;
        let name =
            (listens || matches!(action, Do::Next(_))).then(|| format!("answer-{}", self.script.len()));
        if let (Some(name), Do::Next(feed)) = (&name, &action) {
            self.feeds.entry(feed.clone()).or_default().push(name.clone());
        }
        // Whoever a closed feed wakes has its turn first, and so has whoever has just begun to wait.
        let disturbs = |command: &Command| match (&command.action, &action) {
            (Do::CloseFeed(_), _) => true,
            // A timer that only waits may end with the command, as ticks do, and others with their next turn.
            (Do::Cancel | Do::Shutdown(_) | Do::DropHandle, _) => {
                matches!(self.shape.runs, Runs::Plain | Runs::Ticks) || !self.started
            }
            (_, Do::Forget(name)) => command.name.as_ref() == Some(name),
            _ => false,
        };
        if self.script.iter().any(|command| command.at == self.now && disturbs(command)) {
            self.now = self.now.plus(ms(2));
        }
        self.names.extend(name.clone());
        let timeout = patience.filter(|_| name.is_some() && action.can_wait());
        self.held |= timeout.is_some() && action == Do::Wait;
        self.endless |= matches!(action, Do::SetPeriod(Span::NEVER) | Do::Rearm(Span::NEVER));
        let at = self.now;
        if let Do::Stall(span) = action {
            self.now = at.plus(span);
        }
        self.script.push(Command { at, action, name, timeout });
    }
}

/// A command that is not answered, or not waited for.
pub(crate) fn control(choice: u8, argument: u8, busy: &mut bool) -> Do {
    let period = PERIODS[usize::from(argument) % PERIODS.len()];
    match choice {
        0..=2 => Do::Trigger,
        3 | 4 => Do::Pause,
        5..=7 => Do::Resume,
        8 if argument % 3 == 0 => Do::Cancel,
        9 if argument % 3 == 0 => {
            Do::Shutdown([ms(0), ms(3), ms(17), ms(1001)][usize::from(argument / 3 % 4)])
        }
        8 | 9 => Do::Resume,
        _ => {
            *busy |= period == Span::ZERO;
            if choice < 12 { Do::SetPeriod(period) } else { Do::Rearm(period) }
        }
    }
}

/// A command whose answer is waited for.
pub(crate) fn request(choice: u8, argument: u8) -> Do {
    let count = u64::from(argument % 9);
    match choice {
        14 | 15 => Do::Trigger,
        16 | 17 => Do::Join,
        18 | 19 => Do::WaitHits(count),
        20 | 21 => Do::WaitMore(count),
        _ => Do::Wait,
    }
}
