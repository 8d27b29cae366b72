//! An HTTP service whose cache of the machine's own figures is refreshed by everbeat timers.
//!
//! - [`cache`] has the timers: what runs, how often, and what its failures mean.
//! - [`routes`] is what the outside sees of them.
//! - [`shutdown`] ends them, in order and in time.
//! - [`figures`], [`settings`] and [`view`] are what any service has: data, configuration, JSON.

mod cache;
mod figures;
mod routes;
mod settings;
mod shutdown;
mod view;

use std::error::Error;
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cache::Cache;
use crate::settings::Settings;
use crate::shutdown::Stop;

/// How long the first figures may take, before the service gives up.
const FIRST_FIGURES: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if let Some(argument) = std::env::args_os().nth(1) {
        return explain(&argument);
    }
    let settings = match Settings::from_env() {
        Ok(settings) => settings,
        Err(refused) => return fail(2, &refused),
    };
    log_to_stderr(settings.log.clone());
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &error),
    };
    let ended = runtime.block_on(run(settings));
    // A disk that hangs holds its thread for as long as it likes. The process does not wait for it.
    runtime.shutdown_background();
    ended.map_or_else(|error| fail(1, &*error), |()| ExitCode::SUCCESS)
}

/// The life of the service, from the first reading to the last answer.
async fn run(settings: Settings) -> Result<(), Box<dyn Error>> {
    let stop = Stop::on_signal()?;
    let cache = Cache::start(&settings)?;
    say("everbeat-service reads the first figures, then listens");
    let listener = tokio::select! {
        listener = listen_once_warm(&cache, settings.addr) => listener?,
        () = stop.clone().requested() => {
            say(&shutdown::end_timers(&cache.timers, settings.grace).await);
            return Ok(());
        }
    };
    say(&greeting(listener.local_addr()?, settings.grace));
    let server = axum::serve(listener, routes::router(cache.clone()));
    let server = server.with_graceful_shutdown(stop.clone().requested()); // stops accepting
    let server = tokio::spawn(server.into_future());
    stop.requested().await;
    tracing::info!(grace = ?settings.grace, "stopping");
    // The end of a timer answers everybody who waits for a run of it and ends its event streams. So
    // connections are over soon after it.
    let ended = shutdown::end_timers(&cache.timers, settings.grace).await;
    shutdown::end_connections(server).await;
    say(&ended);
    Ok(())
}

/// There is no port to connect to before there is something to answer.
async fn listen_once_warm(cache: &Cache, addr: SocketAddr) -> Result<TcpListener, Box<dyn Error>> {
    cache.timers.wait_hits(1).timeout(FIRST_FIGURES).await.all()?;
    let listener = TcpListener::bind(addr).await;
    listener.map_err(|error| {
        format!("cannot listen on {addr}: {error}. EVERBEAT_ADDR chooses another address.").into()
    })
}

fn greeting(addr: SocketAddr, grace: Duration) -> String {
    format!(
        "everbeat-service listens on http://{addr}

Try, in another terminal:
  curl http://{addr}/                      the figures in the cache
  curl -X POST http://{addr}/refresh       figures of runs that start now
  curl -N http://{addr}/events             every refresh as it happens
  curl http://{addr}/timers                what the timers have done so far
  curl -X POST http://{addr}/timers/machine/pause
  curl -X POST http://{addr}/timers/machine/resume
  curl -X POST 'http://{addr}/timers/machine/period?ms=100'

Ctrl-C stops it: runs in flight have {grace:?} to finish. --help lists the settings."
    )
}

fn log_to_stderr(filter: Targets) {
    let to_stderr = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let to_stderr = to_stderr.with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(to_stderr.with_filter(filter)).init();
}

fn explain(argument: &OsStr) -> ExitCode {
    if argument != "-h" && argument != "--help" {
        return fail(2, &format!("takes no arguments, got {argument:?}; --help lists the settings"));
    }
    say(settings::HELP);
    ExitCode::SUCCESS
}

fn fail(code: u8, why: &(impl std::fmt::Display + ?Sized)) -> ExitCode {
    eprintln!("everbeat-service: {why}");
    ExitCode::from(code)
}

/// Prints a line at once. A reader that has gone away is no reason to stop.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
