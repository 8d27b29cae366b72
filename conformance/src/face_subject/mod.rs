//! The faces of the library, on a stage with one thread whose time is paused: it jumps to the next
//! deadline whenever there is nothing left to do.

mod company;
mod hosted;
mod log;
mod stage;
mod target;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use everbeat::{Builder, Error, Group, IntoTarget, TargetValue, Tick, Timer};
use serde::Serialize;
use tokio::runtime::{self, Runtime};
use tokio::time::{Instant, sleep_until};

use crate::Subject;
use crate::core_subject::config;
use crate::scenario::{Driver, Mode, Scenario, TargetSpec, TimerSpec};
use crate::trace::Trace;
pub use company::play_company;
use log::Log;
use stage::Stage;
use target::{Delivered, Iterated, Made, Recorded, Script, Streamed};

/// Where the timer lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a task of its own.
    Task,
    /// On an engine that lives in a task on the same stage, and takes its time from there.
    Engine,
    /// In a task that it would share with the other timers of its group.
    SharedTask,
}

/// What the timer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Form {
    /// Runs take their time, and callbacks are told of failures and ends.
    Slow,
    /// The same with sync callables. Such runs take no time.
    Sync,
    /// A plain sync closure and nothing else: the timer is stored in a few bytes whenever it can be.
    Lean,
    /// The same, delivering nothing: on an engine it lies in the queue.
    LeanUnit,
    /// As `Lean`, with histograms.
    LeanMeasured,
    /// A schedule without a target, and a task that consumes its ticks.
    Ticks,
}

impl Form {
    fn is_lean(self) -> bool {
        !matches!(self, Self::Slow | Self::Sync | Self::Ticks)
    }
}

/// A face of the library: a timer of this form at this place.
#[derive(Clone, Copy, Debug)]
pub struct FaceSubject {
    /// Where it lives.
    pub place: Place,
    /// What it is made of.
    pub form: Form,
}

impl Subject for FaceSubject {
    fn name(&self) -> String {
        let place = match self.place {
            Place::Task => "tokio",
            Place::Engine => "threads",
            Place::SharedTask => "tokio, shared task",
        };
        let form = match self.form {
            Form::Slow => "",
            Form::Sync => ", sync target",
            Form::Lean => ", lean",
            Form::LeanUnit => ", lean without values",
            Form::LeanMeasured => ", lean with histograms",
            Form::Ticks => ", ticks",
        };
        format!("{place}{form}")
    }

    fn driver(&self) -> Driver {
        if self.place == Place::Task { Driver::Tokio } else { Driver::Thread }
    }

    fn can_play(&self, scenario: &Scenario) -> bool {
        let is_for_sync = scenario.timer.target == TargetSpec::Call && scenario.is_instant();
        match self.form {
            Form::Ticks => scenario.timer.target == TargetSpec::Ticks && scenario.gives_stops_time(),
            _ if scenario.timer.target == TargetSpec::Ticks => false,
            Form::Slow => true,
            Form::Sync => is_for_sync,
            _ => is_for_sync && scenario.timer.is_plain() && scenario.gives_stops_time(),
        }
    }

    fn play(&self, scenario: &Scenario) -> Trace {
        in_paused_time(async {
            match self.place {
                Place::Task => self.play_with(scenario, Timer::every, None).await,
                Place::Engine => {
                    let engine = hosted::spawn();
                    self.play_with(scenario, |period| engine.every(period), None).await
                }
                Place::SharedTask => {
                    let group = Group::new();
                    self.play_with(scenario, |period| group.every(period), Some(&group)).await
                }
            }
        })
    }
}

impl FaceSubject {
    async fn play_with(
        self,
        scenario: &Scenario,
        every: impl Fn(Duration) -> Builder,
        group: Option<&Group>,
    ) -> Trace {
        let trace = if self.form == Form::Ticks {
            Trace { valueless: true, in_other_hands: true, ..Trace::default() }
        } else if self.form.is_lean() {
            Trace { valueless: self.form == Form::LeanUnit, ..Trace::default() }
        } else {
            Trace { ended: Some(Vec::new()), failures_told: Some(0), ..Trace::default() }
        };
        let log = Arc::new(Log::new(Instant::now(), self.place != Place::Task, trace));
        let script = Script { scenario: Arc::new(scenario.clone()), log: log.clone() };
        let builder = configure(every(scenario.timer.period.to_duration()), &scenario.timer, &log);
        // Only a timer that is started as it is built goes straight into the queue of its engine.
        let at_once = scenario.autostart;
        match self.form {
            Form::Slow => perform(&script, build(&script, listen(builder, &log), false), group).await,
            Form::Sync => perform(&script, build_sync(&script, listen(builder, &log), false), group).await,
            Form::Lean => {
                perform(&script, lean::<u64>(&script, builder.histograms(false), at_once), group).await
            }
            Form::LeanUnit => {
                perform(&script, lean::<()>(&script, builder.histograms(false), at_once), group).await
            }
            Form::LeanMeasured => {
                perform(&script, lean::<u64>(&script, builder.histograms(true), at_once), group).await
            }
            Form::Ticks => perform(&script, tick(&script, builder), group).await,
        }
    }
}

fn in_paused_time(play: impl Future<Output = Trace>) -> Trace {
    paused_runtime().block_on(play)
}

fn paused_runtime() -> Runtime {
    let mut builder = runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("a runtime without IO")
}

async fn perform<V: Delivered>(
    script: &Script,
    timer: Result<Timer<V>, Error>,
    group: Option<&Group>,
) -> Trace {
    match timer {
        Ok(timer) => {
            // A group keeps its members going; here the stage has the only handle.
            group.map(|group| group.remove(&timer));
            Stage::new(&script.log, timer).play(&script.scenario).await
        }
        Err(Error::Schedule(error)) => Trace { refused: Some(error.field().to_owned()), ..Trace::default() },
        Err(error) => Trace { faults: vec![error.to_string()], ..Trace::default() },
    }
}

fn build(script: &Script, builder: Builder, at_once: bool) -> Result<Timer<u64>, Error> {
    let own = script.clone();
    match script.scenario.timer.target {
        TargetSpec::Call | TargetSpec::Ticks => {
            let call = move |tick: Tick| own.clone().call_slowly(tick.run);
            make(script, builder, Recorded::new(call, script), at_once)
        }
        TargetSpec::Iterator(count) => {
            make(script, builder, Recorded::new(move || Iterated(own.items(count)), script), at_once)
        }
        TargetSpec::Stream(count) => {
            make(script, builder, Recorded::new(move || Streamed(own.items(count)), script), at_once)
        }
    }
}

fn build_sync(script: &Script, builder: Builder, at_once: bool) -> Result<Timer<u64>, Error> {
    let own = script.clone();
    make(script, builder, Recorded::new(move |tick: Tick| own.call(tick.run), script), at_once)
}

fn lean<V: Made>(script: &Script, builder: Builder, at_once: bool) -> Result<Timer<V>, Error> {
    let own = script.clone();
    make(script, builder, move |tick: Tick| own.call_recorded(tick).map(V::of), at_once)
}

/// Makes a timer, and starts it if it is to be started at once.
fn make<M, X: IntoTarget<M>>(
    script: &Script,
    builder: Builder,
    target: X,
    at_once: bool,
) -> Result<Timer<TargetValue<M, X>>, Error> {
    if !at_once {
        return builder.build(target);
    }
    script.log.started();
    builder.start(target)
}

/// The handle of a schedule whose ticks are consumed elsewhere.
fn tick(script: &Script, builder: Builder) -> Result<Timer<Tick>, Error> {
    let ticks = builder.ticks()?;
    script.log.started();
    let timer = ticks.timer().clone();
    tokio::spawn(target::consume(script.clone(), ticks));
    Ok(timer)
}

fn listen(builder: Builder, log: &Arc<Log>) -> Builder {
    let (failures, ends) = (log.clone(), log.clone());
    builder.on_failure(move |_| failures.failure_told()).on_end(move |reason| ends.ended(reason.into()))
}

fn configure(builder: Builder, spec: &TimerSpec, log: &Log) -> Builder {
    let origin = log.origin;
    let mut builder = builder
        .initial_delay(spec.initial_delay.to_duration())
        .missed(config::missed(spec.missed))
        .on_error(config::on_error(spec.on_error));
    if spec.mode == Mode::FixedRate {
        builder = builder.fixed_rate();
    }
    if let Some(jitter) = spec.jitter {
        let fraction = f64::from(jitter.fraction.numerator) / f64::from(jitter.fraction.denominator);
        builder = builder.jitter(fraction).jitter_seed(jitter.seed);
    }
    if spec.keep_phase {
        builder = builder.keep_phase();
    }
    if let Some(lateness) = spec.max_lateness {
        builder = builder.max_lateness(lateness.to_duration());
    }
    if let Some(runs) = spec.max_runs {
        builder = builder.max_runs(runs);
    }
    if let Some(end) = spec.until {
        builder = builder.until(origin + end.to_duration());
    }
    if let Some(span) = spec.run_for {
        builder = builder.run_for(span.to_duration());
    }
    if let Some(limit) = spec.run_timeout {
        builder = builder.run_timeout(limit.to_duration());
    }
    if let Some(time) = spec.stop_when {
        builder = builder.stop_when(sleep_until(origin + time.to_duration()));
    }
    builder
}
