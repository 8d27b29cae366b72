//! What there is to know about the machine.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use everbeat::Tick;
use serde::{Serialize, Serializer};
use sysinfo::{Disks, Networks, System};

use crate::view::whole_millis;

/// What one run has read, and when.
#[derive(Serialize)]
pub(crate) struct Reading<T> {
    pub(crate) run: u64,
    #[serde(rename = "taken_unix_ms", serialize_with = "unix_ms")]
    taken_at: SystemTime,
    #[serde(rename = "age_ms", serialize_with = "age_ms")]
    taken: Instant,
    figures: T,
}

/// A run that returns one has succeeded.
impl<T> everbeat::Value for Reading<T> {}

impl<T> Reading<T> {
    #[allow(clippy::disallowed_methods)] // for people to read: no timer goes by it
    pub(crate) fn new(tick: &Tick, figures: T) -> Self {
        Self { run: tick.run, taken_at: SystemTime::now(), taken: Instant::now(), figures }
    }
}

#[derive(Serialize)]
pub(crate) struct Figures {
    cpu: Cpu,
    memory: Memory,
    /// By the name of the interface.
    networks: BTreeMap<String, Traffic>,
}

#[derive(Serialize)]
struct Cpu {
    percent: f32,
    percent_by_core: Vec<f32>,
    /// Over 1, 5 and 15 minutes, where the system knows such a thing.
    load: Option<[f64; 3]>,
}

#[derive(Serialize)]
struct Memory {
    total_bytes: u64,
    available_bytes: u64,
    swap_total_bytes: u64,
    swap_free_bytes: u64,
}

/// Since the machine was started.
#[derive(Serialize)]
struct Traffic {
    received_bytes: u64,
    sent_bytes: u64,
}

#[derive(Serialize)]
pub(crate) struct Disk {
    mounted_at: String,
    file_system: String,
    total_bytes: u64,
    available_bytes: u64,
}

/// Where [`Figures`] come from.
pub(crate) struct Machine {
    system: System,
    networks: Networks,
}

impl Machine {
    /// CPU usage is a difference, so its first value is of use [`sysinfo::MINIMUM_CPU_UPDATE_INTERVAL`]
    /// after this. Readings closer to each other than that have the same one.
    pub(crate) fn new() -> Result<Self, sysinfo::Error> {
        let mut system = System::new()?;
        system.refresh_cpu_usage();
        Ok(Self { system, networks: Networks::new()? })
    }

    pub(crate) fn read(&mut self) -> Figures {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.networks.refresh(true);
        Figures { cpu: cpu(&self.system), memory: memory(&self.system), networks: traffic(&self.networks) }
    }
}

pub(crate) fn read_disks(disks: &mut Disks) -> Vec<Disk> {
    disks.refresh(true);
    let disk = |disk: &sysinfo::Disk| Disk {
        mounted_at: disk.mount_point().display().to_string(),
        file_system: disk.file_system().display().to_string(),
        total_bytes: disk.total_space(),
        available_bytes: disk.available_space(),
    };
    disks.iter().map(disk).collect()
}

fn cpu(system: &System) -> Cpu {
    Cpu {
        percent: system.global_cpu_usage(),
        percent_by_core: system.cpus().iter().map(sysinfo::Cpu::usage).collect(),
        load: System::load_average().ok().map(|load| [load.one, load.five, load.fifteen]),
    }
}

fn memory(system: &System) -> Memory {
    Memory {
        total_bytes: system.total_memory(),
        available_bytes: system.available_memory(),
        swap_total_bytes: system.total_swap(),
        swap_free_bytes: system.free_swap(),
    }
}

fn traffic(networks: &Networks) -> BTreeMap<String, Traffic> {
    let traffic = |(name, data): (&std::ffi::OsString, &sysinfo::NetworkData)| {
        let (received_bytes, sent_bytes) = (data.total_received(), data.total_transmitted());
        (name.display().to_string(), Traffic { received_bytes, sent_bytes })
    };
    networks.into_iter().map(traffic).collect()
}

fn unix_ms<S: Serializer>(taken_at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since_epoch = taken_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(whole_millis(since_epoch))
}

/// At the time of the answer, by a clock that nobody sets.
fn age_ms<S: Serializer>(taken: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(whole_millis(taken.elapsed()))
}
