//! What the outside sees of the timers.

// axum takes async handlers, whether they have something to await or not.
#![allow(clippy::unused_async)]

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use everbeat::{AnyTimer, Feed};
use futures_core::Stream;
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::figures::{Disk, Figures, Reading};
use crate::settings::PERIODS;
use crate::view::{Pretty, TimerView};

/// How many ticks a slow reader of `/events` may be behind. Then it loses the oldest, which shows in the
/// ids of the events, and everbeat logs it.
const EVENTS_HELD: usize = 64;

pub(crate) fn router(cache: Cache) -> Router {
    Router::new()
        .route("/", get(cached))
        .route("/refresh", post(refresh))
        .route("/events", get(events))
        .route("/timers", get(timers))
        .route("/timers/{name}/pause", post(pause))
        .route("/timers/{name}/resume", post(resume))
        .route("/timers/{name}/period", post(period))
        .with_state(cache)
}

/// Never waits, however long a refresh takes.
async fn cached(State(cache): State<Cache>) -> Result<Response, Refusal> {
    let latest = (cache.machine.latest(), cache.disks.latest());
    let (Some(machine), Some(disks)) = latest else {
        return Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, "no figures yet".to_owned()));
    };
    Ok(snapshot(&machine, &disks))
}

/// Figures of runs that start after the request. However many ask during a run, one more serves them all.
async fn refresh(State(cache): State<Cache>) -> Result<Response, Refusal> {
    // These calls ask for the runs, the awaits only wait for them: both are under way at the same time.
    let (machine, disks) = (cache.machine.trigger(), cache.disks.trigger());
    Ok(snapshot(&*machine.await?, &*disks.await?))
}

async fn events(State(cache): State<Cache>) -> Result<impl IntoResponse, Refusal> {
    let feed = cache.machine.subscribe().bounded(EVENTS_HELD).name("/events").open()?;
    tracing::info!("event stream opened");
    Ok(Sse::new(Events { feed }).keep_alive(KeepAlive::default()))
}

async fn timers(State(cache): State<Cache>) -> Pretty<Vec<TimerView>> {
    Pretty(cache.timers.members().iter().map(|timer| TimerView::of(&timer.stats())).collect())
}

async fn pause(State(cache): State<Cache>, Path(name): Path<String>) -> Result<Pretty<TimerView>, Refusal> {
    command(&cache, &name, AnyTimer::pause)
}

async fn resume(State(cache): State<Cache>, Path(name): Path<String>) -> Result<Pretty<TimerView>, Refusal> {
    command(&cache, &name, AnyTimer::resume)
}

#[derive(Deserialize)]
struct Period {
    ms: u64,
}

/// For the wait in progress, too: whoever goes from an hour to a second does not wait for the hour.
async fn period(
    State(cache): State<Cache>,
    Path(name): Path<String>,
    Query(Period { ms }): Query<Period>,
) -> Result<Pretty<TimerView>, Refusal> {
    if !PERIODS.contains(&ms) {
        let why = format!("ms is {ms}, but must be from {} to {}", PERIODS.start(), PERIODS.end());
        return Err(Refusal(StatusCode::BAD_REQUEST, why));
    }
    command(&cache, &name, |timer| timer.rearm(Duration::from_millis(ms)))
}

fn command(cache: &Cache, name: &str, give: impl FnOnce(&AnyTimer)) -> Result<Pretty<TimerView>, Refusal> {
    let Some(timer) = cache.timers.get(name) else {
        return Err(Refusal(StatusCode::NOT_FOUND, format!("no timer {name:?}; /timers lists them")));
    };
    give(&timer);
    Ok(Pretty(TimerView::of(&timer.stats())))
}

fn snapshot(machine: &Reading<Figures>, disks: &Reading<Vec<Disk>>) -> Response {
    #[derive(Serialize)]
    struct Snapshot<'a> {
        machine: &'a Reading<Figures>,
        disks: &'a Reading<Vec<Disk>>,
    }
    Pretty(Snapshot { machine, disks }).into_response()
}

/// One event a tick, until the timer ends. When the client goes away axum drops this, and with it the
/// feed, which is all that there is to unregister.
struct Events {
    feed: Feed<Reading<Figures>>,
}

impl Stream for Events {
    type Item = Result<Event, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.feed).poll_next(cx).map(|item| {
            Some(match item? {
                Ok(reading) => Event::default().id(reading.run.to_string()).json_data(&*reading),
                Err(failure) => Ok(Event::default().event("failed").data(failure.to_string())),
            })
        })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        tracing::info!(lost = self.feed.dropped_count(), "event stream closed");
    }
}

/// Why there is no answer.
struct Refusal(StatusCode, String);

impl From<everbeat::Error> for Refusal {
    fn from(error: everbeat::Error) -> Self {
        use everbeat::Error::{NotRunning, Stopped};
        let status = match error {
            NotRunning { .. } | Stopped { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: String,
        }
        (self.0, Pretty(Body { error: self.1 })).into_response()
    }
}
