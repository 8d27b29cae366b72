//! The end, in order: no new connections, the timers, the last answers.

use std::io;
use std::time::Duration;

use everbeat::{Error, Group, Shutdown};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long after the grace period a run that was given up may take to be gone.
const GIVING_UP: Duration = Duration::from_secs(1);

/// How long the last answers may take to be written.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The wish of the outside that the service stops.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// A wish made by Ctrl-C or SIGTERM. From this call on neither ends the process by itself.
    pub(crate) fn on_signal() -> io::Result<Self> {
        let signal = signal()?;
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            signal.await;
            let _ = sender.send(true);
        });
        Ok(Self(receiver))
    }

    pub(crate) async fn requested(mut self) {
        // An error means that the task above is gone with the runtime: time to stop as well.
        let _ = self.0.wait_for(|requested| *requested).await;
    }
}

#[cfg(unix)]
fn signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Ctrl-C cannot be waited for here: it ends the process by itself.
            std::future::pending().await
        }
    })
}

/// Ends all timers at once and tells in one line how each of them ended.
pub(crate) async fn end_timers(timers: &Group, grace: Duration) -> String {
    // An offloaded run cannot be given up: its timer ends when the call returns, and that may be never.
    // So there is a limit to the wait as well.
    let answers = timers.shutdown(grace).timeout(grace + GIVING_UP).await;
    let ends = answers.iter().map(|(timer, answer)| format!("{} {}", timer.name(), describe(answer)));
    format!("everbeat-service stopped: {}", ends.collect::<Vec<_>>().join(", "))
}

fn describe(answer: &Result<Shutdown, Error>) -> String {
    match answer {
        Ok(how) => how.to_string(),
        Err(_) => "left behind in a blocking call".to_owned(),
    }
}

/// Lets the server finish what it is writing. Whoever does not read it, or has not sent a whole request
/// by now, is cut off.
pub(crate) async fn end_connections<T>(mut server: JoinHandle<T>) {
    if tokio::time::timeout(LAST_ANSWERS, &mut server).await.is_err() {
        tracing::warn!("cut off connections that did not end by themselves");
        server.abort();
    }
}
