//! The timers: three kinds of work, three kinds of target.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everbeat::{Group, IntoPolicy, OnError, Tick, Timer, offload};
use sysinfo::{Disks, MINIMUM_CPU_UPDATE_INTERVAL};

use crate::figures::{Disk, Figures, Machine, Reading, read_disks};
use crate::settings::Settings;

const DISKS_EVERY: Duration = Duration::from_secs(30);
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

/// Handles of the timers. Their latest values are the cache.
#[derive(Clone)]
pub(crate) struct Cache {
    pub(crate) machine: Timer<Reading<Figures>>,
    pub(crate) disks: Timer<Reading<Vec<Disk>>>,
    /// Every timer of the service.
    pub(crate) timers: Group,
}

impl Cache {
    pub(crate) fn start(settings: &Settings) -> Result<Self, Box<dyn Error>> {
        let machine = machine(settings)?;
        let disks = disks(settings)?;
        let timers = Group::named("service");
        timers.add(&machine)?;
        timers.add(&disks)?;
        timers.add(heartbeat(machine.clone())?)?;
        timers.start()?;
        Ok(Self { machine, disks, timers })
    }
}

/// CPU, memory and networks, on an exact grid.
///
/// The kernel answers these from memory, in well under a millisecond, so they are read where the run is:
/// on a thread of the runtime. (Should that ever hold the thread for long, everbeat logs "a run blocked
/// its thread".) The wait before that stands for a source that is asked over the network. It is an await,
/// and so a point at which a run can be given up.
fn machine(settings: &Settings) -> Result<Timer<Reading<Figures>>, Box<dyn Error>> {
    let source = Arc::new(Mutex::new(Machine::new()?));
    let takes = settings.refresh_takes;
    let target = move |tick: Tick| {
        let source = source.clone();
        async move {
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            let figures = source.lock().unwrap_or_else(PoisonError::into_inner).read();
            Reading::new(&tick, figures)
        }
    };
    let timer = Timer::every(settings.period)
        .fixed_rate()
        .initial_delay(MINIMUM_CPU_UPDATE_INTERVAL)
        .on_error(on_error())
        .name("machine")
        .build(target)?;
    Ok(timer)
}

/// How full the disks are, less often.
///
/// A file system that comes over the network can keep whoever asks waiting, for as long as its server is
/// away. So this is offloaded to a thread that may block, and which nobody can interrupt.
fn disks(settings: &Settings) -> Result<Timer<Reading<Vec<Disk>>>, Box<dyn Error>> {
    let mut disks = Disks::new()?;
    let take = settings.disks_take;
    let target = offload(move |tick: Tick| {
        std::thread::sleep(take);
        Reading::new(&tick, read_disks(&mut disks))
    });
    Ok(Timer::every(DISKS_EVERY).on_error(on_error()).name("disks").build(target)?)
}

/// A sign of life in the log. It is quick and awaits nothing: a plain closure will do.
fn heartbeat(machine: Timer<Reading<Figures>>) -> Result<Timer<()>, everbeat::Error> {
    Timer::every(HEARTBEAT_EVERY).on_error(OnError::Continue).name("heartbeat").build(move || {
        let stats = machine.stats();
        let (runs, failures, skipped) = (stats.runs, stats.failures, stats.skipped.total());
        tracing::info!(runs, failures, skipped, "heartbeat");
    })
}

/// A failure is no reason to stop refreshing. It is tried again after a second, then after two, and so
/// on; meanwhile the cache answers with the figures it has, and tells their age.
fn on_error() -> impl IntoPolicy {
    OnError::backoff(Duration::from_secs(1), Duration::from_secs(60))
}
