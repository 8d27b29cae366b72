//! The timers of the soak: of every shape, some of which fail, panic, block or end by themselves.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use everbeat::thread::{Engine, Precision};
use everbeat::{AnyTimer, Builder, Error, Feed, Group, Missed, OnError, Tick, Timer, offload, thread};

use crate::random::Random;
use crate::watch::{TALLY, Token, Watch, count};

/// What most timers deliver.
pub(crate) struct Sample {
    pub(crate) run: u64,
    _token: Token,
}

impl everbeat::Value for Sample {}

impl Sample {
    fn of(tick: Tick) -> Self {
        Self { run: tick.run, _token: Token::new() }
    }
}

/// Where timers live.
#[derive(Clone)]
pub(crate) enum Soil {
    /// In tasks of their own.
    Tokio,
    /// In the one task of this group.
    Shared(Group),
    Engine(Engine),
}

impl Soil {
    /// Whether runs may wait with tokio.
    fn is_in_a_runtime(&self) -> bool {
        !matches!(self, Self::Engine(_))
    }

    pub(crate) fn every(&self, period: Duration) -> Builder {
        match self {
            Self::Tokio => Timer::every(period),
            Self::Shared(group) => group.every(period),
            Self::Engine(engine) => engine.every(period),
        }
    }
}

/// What a panic on purpose says.
pub(crate) const ON_PURPOSE: &str = "on purpose";

/// A timer that is watched.
pub(crate) struct Plant {
    pub(crate) timer: Kind,
    pub(crate) watch: Arc<Watch>,
    pub(crate) feeds: Vec<(Feed<Sample>, u64)>,
}

pub(crate) enum Kind {
    Samples(Timer<Sample>),
    /// Those lie in the queue of their engine.
    Units(Timer<()>),
}

impl Kind {
    pub(crate) fn any(&self) -> AnyTimer {
        match self {
            Self::Samples(timer) => timer.into(),
            Self::Units(timer) => timer.into(),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        match self {
            Self::Samples(timer) => timer.is_running(),
            Self::Units(timer) => timer.is_running(),
        }
    }
}

/// Most timers are slow, as in most programs.
const PERIODS_MS: [u64; 12] = [2, 10, 50, 100, 250, 500, 1_000, 1_000, 1_000, 2_000, 3_000, 5_000];

pub(crate) fn period(random: &mut Random) -> Duration {
    let period = Duration::from_millis(random.pick(&PERIODS_MS));
    if random.one_in(2) { period } else { period + random.micros(1_000) }
}

impl Plant {
    /// A timer that was not started.
    pub(crate) fn sow(soil: &Soil, random: &mut Random) -> Result<Self, Error> {
        let plant = Self::of(soil, random)?;
        if let Soil::Shared(group) = soil {
            group.remove(plant.timer.any()); // it would hold another handle
        }
        Ok(plant)
    }

    fn of(soil: &Soil, random: &mut Random) -> Result<Self, Error> {
        let restless = random.one_in(40);
        let period = if restless { Duration::ZERO } else { period(random) };
        let has_grid = !restless && !random.one_in(4);
        let mut builder = soil.every(period).initial_delay(random.micros(2_000_000));
        if has_grid {
            builder = builder.fixed_rate();
        }
        if restless {
            builder = builder.max_runs(1 + random.below(500)); // as fast as possible, but not for long
        }
        if !matches!(soil, Soil::Tokio) && random.one_in(3) {
            if matches!(soil, Soil::Engine(_)) && random.one_in(2) {
                builder = builder.inline();
            }
            let watch = Arc::new(Watch::new(has_grid.then_some(period)));
            let watched = watch.clone();
            let timer = builder.build(move |tick: Tick| drop(watched.enter(tick)))?;
            return Ok(Self { timer: Kind::Units(timer), watch, feeds: Vec::new() });
        }
        let (builder, stays) = configured(builder, soil, random);
        let watch = Arc::new(Watch::new((has_grid && stays).then_some(period)));
        let timer = build(builder, soil, &watch, random)?;
        Ok(Self { timer: Kind::Samples(timer), watch, feeds: Vec::new() })
    }

    /// Starts it, if it has ended or was never started.
    pub(crate) fn start(&self) -> Result<(), Error> {
        self.watch.begin();
        self.timer.any().start()
    }
}

/// Policies, limits and callbacks. Also returns whether slots stay where they are on the grid.
fn configured(mut builder: Builder, soil: &Soil, random: &mut Random) -> (Builder, bool) {
    let mut stays = true;
    match random.below(8) {
        0 => builder = builder.missed(Missed::Burst { max: 3 }),
        1 => {
            builder = builder.missed(Missed::Delay);
            stays = false;
        }
        2 => {
            builder = builder.jitter(0.2).jitter_seed(random.next());
            stays = false;
        }
        _ => {}
    }
    builder = match random.below(4) {
        0 => builder.on_error(OnError::backoff(Duration::from_millis(5), Duration::from_millis(50))),
        1 => builder.on_error(OnError::Stop),
        _ => builder.on_error(OnError::Continue),
    };
    if random.one_in(20) {
        builder = builder.max_runs(1 + random.below(50));
    }
    if random.one_in(10) {
        builder = builder.run_timeout(Duration::from_millis(20));
    }
    if random.one_in(10) {
        builder = builder.histograms(true);
    }
    if matches!(soil, Soil::Tokio) && random.one_in(20) {
        builder = builder.precision(random.pick(&[Precision::Coarse, Precision::Fine, Precision::Spin]));
    }
    let span = random.micros(5_000_000);
    match random.below(40) {
        0 => builder = builder.run_for(span),
        1 => builder = builder.until(Instant::now() + span),
        2 => {
            let in_a_runtime = soil.is_in_a_runtime();
            builder = builder.stop_when(async move { pause(span, in_a_runtime).await });
        }
        _ => {}
    }
    (builder, stays)
}

/// Waits, wherever that is.
async fn pause(span: Duration, in_a_runtime: bool) {
    if in_a_runtime {
        tokio::time::sleep(span).await;
    } else if let Ok(shot) = thread::after(span, || ()) {
        shot.wait().await.ok();
    }
}

fn build(
    builder: Builder,
    soil: &Soil,
    watch: &Arc<Watch>,
    random: &mut Random,
) -> Result<Timer<Sample>, Error> {
    let token = Token::new();
    let builder = builder.on_end(move |_| {
        let _held = &token;
        TALLY.ends.fetch_add(1, Ordering::Relaxed);
    });
    let watch = watch.clone();
    let (nap, seed) = (random.micros(5_000), random.next());
    match random.below(12) {
        0 | 1 => builder.build(move |tick: Tick| {
            let run = watch.enter(tick); // here, since a run that is given up may never be polled
            async move {
                let _run = run;
                tokio::task::yield_now().await;
                Sample::of(tick)
            }
        }),
        2 => {
            let in_a_runtime = soil.is_in_a_runtime();
            builder.build(move |tick: Tick| {
                let run = watch.enter(tick);
                async move {
                    let _run = run;
                    pause(nap, in_a_runtime).await;
                    Sample::of(tick)
                }
            })
        }
        3 => builder.build(move |tick: Tick| {
            let _run = watch.enter(tick);
            if Random::new(seed ^ tick.run).one_in(5) { Err("failed") } else { Ok(Sample::of(tick)) }
        }),
        4 => builder.build(move |tick: Tick| {
            let _run = watch.enter(tick);
            assert!(!Random::new(seed ^ tick.run).one_in(5), "{ON_PURPOSE}");
            Sample::of(tick)
        }),
        5 => builder.build(offload(move |tick: Tick| {
            let _run = watch.enter(tick);
            std::thread::sleep(nap);
            Sample::of(tick)
        })),
        6 => builder.build(move |tick: Tick| {
            let _run = watch.enter(tick);
            std::thread::sleep(nap / 10);
            Sample::of(tick)
        }),
        _ => builder.build(move |tick: Tick| {
            let _run = watch.enter(tick);
            Sample::of(tick)
        }),
    }
    .inspect(|_| count(&TALLY.controls))
}
