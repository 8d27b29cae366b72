//! What the environment says.

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use tracing::Level;
use tracing_subscriber::filter::Targets;

pub(crate) const HELP: &str = "\
everbeat-service serves the machine's own figures from a cache that timers keep fresh.
Environment variables set it up:

  EVERBEAT_ADDR              where to listen; port 0 is any free port (127.0.0.1:8090)
  EVERBEAT_PERIOD_MS         time between two refreshes (1000)
  EVERBEAT_GRACE_MS          time for runs in flight to finish at the end (5000)
  EVERBEAT_REFRESH_TAKES_MS  to see what a slow source does: a refresh awaits this long first (0)
  EVERBEAT_DISKS_TAKE_MS     the same for the disks, whose thread is blocked this long (0)
  RUST_LOG                   what is logged, for example everbeat=debug (info)";

/// Periods that make sense here, in milliseconds.
pub(crate) const PERIODS: RangeInclusive<u64> = 10..=3_600_000;

/// The service starts when its first readings are there, so a slow one has to end in reasonable time.
const SLOWEST: RangeInclusive<u64> = 0..=20_000;

pub(crate) struct Settings {
    pub(crate) addr: SocketAddr,
    pub(crate) period: Duration,
    pub(crate) grace: Duration,
    pub(crate) refresh_takes: Duration,
    pub(crate) disks_take: Duration,
    pub(crate) log: Targets,
}

impl Settings {
    pub(crate) fn from_env() -> Result<Self, Refused> {
        Ok(Self {
            addr: addr("EVERBEAT_ADDR")?,
            period: millis("EVERBEAT_PERIOD_MS", 1_000, PERIODS)?,
            grace: millis("EVERBEAT_GRACE_MS", 5_000, 0..=600_000)?,
            refresh_takes: millis("EVERBEAT_REFRESH_TAKES_MS", 0, SLOWEST)?,
            disks_take: millis("EVERBEAT_DISKS_TAKE_MS", 0, SLOWEST)?,
            log: log("RUST_LOG")?,
        })
    }
}

/// A value that was refused.
pub(crate) struct Refused {
    variable: &'static str,
    value: OsString,
    allowed: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:?}, but must be {}", self.variable, self.value, self.allowed)
    }
}

fn addr(variable: &'static str) -> Result<SocketAddr, Refused> {
    let allowed = || "an IP address and a port, like 127.0.0.1:8090 or [::1]:0".to_owned();
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 8090));
    setting(variable, default, |value| value.parse().ok(), allowed)
}

fn millis(variable: &'static str, default: u64, range: RangeInclusive<u64>) -> Result<Duration, Refused> {
    let allowed = || format!("a number of milliseconds from {} to {}", range.start(), range.end());
    let parse = |value: &str| value.parse().ok().filter(|millis| range.contains(millis));
    setting(variable, default, parse, allowed).map(Duration::from_millis)
}

/// Without a filter of the user: what is worth a line, the warnings of everbeat among it.
fn log(variable: &'static str) -> Result<Targets, Refused> {
    let allowed = || "a level or a list of target=level, like info or warn,everbeat=debug".to_owned();
    let default = Targets::new().with_default(Level::INFO);
    setting(variable, default, |value| value.parse().ok(), allowed)
}

fn setting<T>(
    variable: &'static str,
    default: T,
    parse: impl FnOnce(&str) -> Option<T>,
    allowed: impl FnOnce() -> String,
) -> Result<T, Refused> {
    let Some(value) = std::env::var_os(variable) else { return Ok(default) };
    let parsed = value.to_str().and_then(parse);
    parsed.ok_or_else(|| Refused { variable, value, allowed: allowed() })
}
