//! The faces of the library, on a stage with one thread whose time is paused: it jumps to the next
//! deadline whenever there is nothing left to do.

mod hosted;
mod log;
mod stage;
mod target;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use everbeat::{Builder, Error, Group, Timer};
use tokio::runtime;
use tokio::time::{Instant, sleep_until};

use crate::Subject;
use crate::core_subject::config;
use crate::scenario::{Driver, Mode, Scenario, TargetSpec, TimerSpec};
use crate::trace::Trace;
use log::Log;
use stage::Stage;
use target::{Iterated, Recorded, Script, Streamed};

/// The tokio face under paused time.
#[derive(Clone, Copy, Debug)]
pub struct TokioSubject {
    /// Whether callables are sync. Such runs take no time.
    pub sync: bool,
}

impl Subject for TokioSubject {
    fn name(&self) -> &'static str {
        if self.sync { "tokio, sync target" } else { "tokio" }
    }

    fn driver(&self) -> Driver {
        Driver::Tokio
    }

    fn can_play(&self, scenario: &Scenario) -> bool {
        !self.sync || is_for_sync(scenario)
    }

    fn play(&self, scenario: &Scenario) -> Trace {
        in_paused_time(play(scenario, self.sync, false, Timer::every, |_| ()))
    }
}

/// The thread face: an engine that lives in a task on the same stage, and takes its time from there.
#[derive(Clone, Copy, Debug)]
pub struct ThreadSubject {
    /// Whether callables are sync. Such runs take no time.
    pub sync: bool,
}

impl Subject for ThreadSubject {
    fn name(&self) -> &'static str {
        if self.sync { "threads, sync target" } else { "threads" }
    }

    fn driver(&self) -> Driver {
        Driver::Thread
    }

    fn can_play(&self, scenario: &Scenario) -> bool {
        !self.sync || is_for_sync(scenario)
    }

    fn play(&self, scenario: &Scenario) -> Trace {
        in_paused_time(async {
            let engine = hosted::spawn();
            play(scenario, self.sync, true, |period| engine.every(period), |_| ()).await
        })
    }
}

/// The tokio face, with the timer in a task that it would share with the other timers of its group.
#[derive(Clone, Copy, Debug)]
pub struct SharedTaskSubject {
    /// Whether callables are sync. Such runs take no time.
    pub sync: bool,
}

impl Subject for SharedTaskSubject {
    fn name(&self) -> &'static str {
        if self.sync { "tokio, shared task, sync target" } else { "tokio, shared task" }
    }

    fn driver(&self) -> Driver {
        Driver::Thread
    }

    fn can_play(&self, scenario: &Scenario) -> bool {
        !self.sync || is_for_sync(scenario)
    }

    fn play(&self, scenario: &Scenario) -> Trace {
        in_paused_time(async {
            let group = Group::new();
            // A group keeps its members going; here the stage has the only handle.
            let leave = |timer: &Timer<u64>| _ = group.remove(timer);
            play(scenario, self.sync, true, |period| group.every(period), leave).await
        })
    }
}

fn is_for_sync(scenario: &Scenario) -> bool {
    scenario.timer.target == TargetSpec::Call && scenario.is_instant()
}

fn in_paused_time(play: impl Future<Output = Trace>) -> Trace {
    let mut builder = runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime without IO");
    runtime.block_on(play)
}

async fn play(
    scenario: &Scenario,
    sync: bool,
    on_engine: bool,
    every: impl Fn(Duration) -> Builder,
    built: impl Fn(&Timer<u64>),
) -> Trace {
    let log = Arc::new(Log::new(Instant::now(), on_engine));
    let script = Script { scenario: Arc::new(scenario.clone()), log: log.clone() };
    match build(&script, sync, every) {
        Ok(timer) => {
            built(&timer);
            Stage::new(&log, timer).play(scenario).await
        }
        Err(Error::Schedule(error)) => Trace { refused: Some(error.field().to_owned()), ..Trace::default() },
        Err(error) => Trace { faults: vec![error.to_string()], ..Trace::default() },
    }
}

fn build(script: &Script, sync: bool, every: impl Fn(Duration) -> Builder) -> Result<Timer<u64>, Error> {
    let spec = &script.scenario.timer;
    let builder = configure(every(spec.period.to_duration()), spec, &script.log);
    let own = script.clone();
    match script.scenario.timer.target {
        TargetSpec::Call if sync => {
            builder.build(Recorded::new(move |tick: everbeat::Tick| own.call(tick.run), script))
        }
        TargetSpec::Call => builder
            .build(Recorded::new(move |tick: everbeat::Tick| own.clone().call_slowly(tick.run), script)),
        TargetSpec::Iterator(count) => {
            builder.build(Recorded::new(move || Iterated(own.items(count)), script))
        }
        TargetSpec::Stream(count) => builder.build(Recorded::new(move || Streamed(own.items(count)), script)),
    }
}

fn configure(builder: Builder, spec: &TimerSpec, log: &Arc<Log>) -> Builder {
    let (failures, ends, origin) = (log.clone(), log.clone(), log.origin);
    let mut builder = builder
        .initial_delay(spec.initial_delay.to_duration())
        .missed(config::missed(spec.missed))
        .on_error(config::on_error(spec.on_error))
        .on_failure(move |_| failures.failure_told())
        .on_end(move |reason| ends.ended(reason.into()));
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
