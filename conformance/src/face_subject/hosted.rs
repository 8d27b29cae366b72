//! An engine in a task of the stage.

use std::sync::Arc;
use std::time::Instant;

use everbeat::thread::{Engine, Host};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::sleep_until;

/// The stage, as the host of an engine.
struct Stage(Arc<Notify>);

impl Host for Stage {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn alert(&self) {
        self.0.notify_one();
    }

    /// There is only one.
    fn needs_this_thread(&self) -> bool {
        true
    }
}

/// An engine, and a task that gives it a turn whenever it needs one.
pub(super) fn spawn() -> Engine {
    let alerts = Arc::new(Notify::new());
    let engine = Engine::hosted(Stage(alerts.clone()));
    let hosted = engine.clone();
    tokio::spawn(async move {
        loop {
            let next = hosted.turn();
            // Whoever was woken has a turn before the next one of the engine.
            yield_now().await;
            match next {
                Some(next) => {
                    let alarm = sleep_until(next.into());
                    tokio::select! { () = alarm => {}, () = alerts.notified() => {} }
                }
                None => alerts.notified().await,
            }
        }
    });
    engine
}
