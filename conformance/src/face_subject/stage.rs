//! Gives a timer the commands of a scenario, and listens to the answers.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use everbeat::{Answer, Error, Failure, Feed, FeedCloser, Pending, Shutdown, Timer};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep_until, timeout};

use super::log::{Log, kind_of};
use super::target::Delivered;
use crate::expect::{Counters, FeedState, FeedThen, Got, Look, Reason, ShutdownKind};
use crate::scenario::{Command, Do, DropPolicy, FeedSpec, Scenario};
use crate::span::Span;
use crate::trace::Trace;

pub(super) struct Stage<V: Delivered> {
    log: Arc<Log>,
    /// The only handle, until it is dropped.
    pub(super) timer: Option<Timer<V>>,
    /// Those who wait for an answer, by its name.
    waiting: BTreeMap<String, JoinHandle<()>>,
    feeds: BTreeMap<String, OpenFeed<V>>,
}

struct OpenFeed<V: Delivered> {
    feed: Arc<Feed<V>>,
    /// Held by whoever of its consumers is next.
    line: Arc<Mutex<()>>,
    closer: FeedCloser<V>,
}

impl<V: Delivered> Stage<V> {
    pub(super) fn new(log: &Arc<Log>, timer: Timer<V>) -> Self {
        Self { log: log.clone(), timer: Some(timer), waiting: BTreeMap::new(), feeds: BTreeMap::new() }
    }

    /// Plays to the end and returns what was seen.
    pub(super) async fn play(mut self, scenario: &Scenario) -> Trace {
        if scenario.autostart && !self.timer.as_ref().is_some_and(Timer::is_running) {
            self.start();
        }
        for command in &scenario.commands {
            self.sleep_until(command.at).await;
            self.give(command).await;
        }
        self.sleep_until(scenario.watch).await;
        self.leave()
    }

    /// The commands of one time are given in one go; nobody else has a turn in between.
    async fn sleep_until(&self, time: Span) {
        if time > self.log.now() {
            sleep_until(self.log.origin + time.to_duration()).await;
        }
    }

    async fn give(&mut self, command: &Command) {
        match &command.action {
            Do::Stall(span) => advance(span.to_duration()).await,
            _ => self.give_now(command),
        }
    }

    pub(super) fn give_now(&mut self, command: &Command) {
        match &command.action {
            Do::Forget(name) => {
                if let Some(waiting) = self.waiting.remove(name) {
                    waiting.abort();
                }
            }
            Do::Detach => self.timer.iter().cloned().for_each(Timer::detach),
            Do::DropHandle => self.timer = None,
            Do::Subscribe(_) | Do::Next(_) | Do::Read(_) => self.give_to_feed(command),
            Do::DropOldest(spec) => {
                self.feeds[&spec.feed].feed.drop_oldest(spec.count);
            }
            Do::CloseFeed(feed) => self.feeds[feed].closer.close(),
            Do::DropFeed(feed) => drop(self.feeds.remove(feed)),
            _ => self.give_to_timer(command),
        }
    }

    fn give_to_timer(&mut self, command: &Command) {
        let Some(timer) = self.timer.clone() else { return };
        let limit = command.timeout;
        match &command.action {
            Do::Start => {
                let got = self.start();
                self.answer_now(command, got);
            }
            Do::Look => self.answer_now(command, Got::Look(self.look(&timer))),
            Do::Pause => timer.pause(),
            Do::Resume => timer.resume(),
            Do::SetPeriod(period) => timer.set_period(period.to_duration()),
            Do::Rearm(period) => timer.rearm(period.to_duration()),
            Do::Trigger => {
                self.listen(command, answer(timer.trigger(), limit, |value| Got::Value(value.seen())));
            }
            Do::Join => self.listen(command, answer(timer.join(), limit, |value| Got::Value(value.seen()))),
            Do::WaitHits(count) => self.listen(command, answer(timer.wait_hits(*count), limit, |()| Got::Ok)),
            Do::WaitMore(count) => self.listen(command, answer(timer.wait_more(*count), limit, |()| Got::Ok)),
            Do::Cancel => {
                self.listen(command, answer(timer.cancel(), limit, |reason| Got::Ended(reason.into())));
            }
            Do::Shutdown(grace) => {
                self.listen(command, answer(timer.shutdown(grace.to_duration()), limit, shutdown));
            }
            Do::Wait => match limit {
                None => self.listen(command, answer(timer.wait(), None, |reason| Got::Ended(reason.into()))),
                Some(limit) => self.listen(command, wait_at_most(timer, limit.to_duration())),
            },
            _ => {}
        }
    }

    fn start(&self) -> Got {
        self.log.started();
        got(self.timer.as_ref().map_or(Ok(()), Timer::start), |()| Got::Ok)
    }

    fn give_to_feed(&mut self, command: &Command) {
        match &command.action {
            Do::Subscribe(spec) => {
                let got = got(self.subscribe(spec), |()| Got::Ok);
                self.answer_now(command, got);
            }
            Do::Next(name) => {
                let OpenFeed { feed, line, .. } = &self.feeds[name];
                self.listen(command, next_item(feed.clone(), line.clone(), command.timeout));
            }
            Do::Read(name) => {
                let items = take_all(&self.feeds[name].feed);
                self.answer_now(command, Got::Items(items));
            }
            _ => {}
        }
    }

    fn subscribe(&mut self, spec: &FeedSpec) -> Result<(), Error> {
        let Some(timer) = &self.timer else { return Ok(()) };
        let mut builder = timer.subscribe().name(&spec.feed);
        if let Some(capacity) = spec.bounded {
            builder = builder.bounded(capacity);
        }
        if spec.drop == DropPolicy::Newest {
            builder = builder.drop_newest();
        }
        let feed = builder.open()?;
        let closer = feed.closer();
        self.feeds.insert(spec.feed.clone(), OpenFeed { feed: Arc::new(feed), line: Arc::default(), closer });
        Ok(())
    }

    fn answer_now(&self, command: &Command, got: Got) {
        if let Some(name) = &command.name {
            self.log.answer(name, got, self.timer.as_ref().map(Timer::hits));
        }
    }

    /// Waits for the answer in a task of its own, if it is not there at once. Without a name it is not
    /// waited for.
    pub(super) fn listen(&mut self, command: &Command, answer: impl Future<Output = Got> + Send + 'static) {
        let Some(name) = command.name.clone() else { return };
        let mut answer = Box::pin(answer);
        if let Poll::Ready(got) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return self.answer_now(command, got);
        }
        let (log, timer) = (self.log.clone(), self.timer.as_ref().map(Timer::downgrade));
        let waiting = tokio::spawn({
            let name = name.clone();
            async move {
                let got = answer.await;
                let hits = timer.and_then(|timer| timer.upgrade()).map(|timer| timer.hits());
                log.answer(&name, got, hits);
            }
        });
        self.waiting.insert(name, waiting);
    }

    fn look(&self, timer: &Timer<V>) -> Look {
        let stats = timer.stats();
        let origin = self.log.origin.into_std();
        let next_due = stats.next_due.map(|due| due.saturating_duration_since(origin).into());
        Look {
            running: Some(stats.running),
            busy: Some(stats.busy),
            paused: Some(stats.paused),
            hits: Some(stats.hits),
            latest: Some(timer.latest().map(|value| value.seen())),
            next_due: Some(next_due),
        }
    }

    /// What there is to be seen at the end. Nobody else has a turn before all is written down.
    pub(super) fn leave(&self) -> Trace {
        let mut trace = self.log.seen();
        trace.counters = self.timer.as_ref().map(counters);
        trace.feeds = self.feeds.iter().map(|(name, open)| (name.clone(), leave_feed(&open.feed))).collect();
        trace
    }
}

fn counters<V: Delivered>(timer: &Timer<V>) -> Counters {
    let stats = timer.stats();
    let skipped = stats.skipped;
    Counters { hits: stats.hits, failures: stats.failures, skipped: skipped.into(), missed: skipped.missed }
}

/// Waits for an answer, at most as long as its command allows.
async fn answer<V: Delivered, O>(
    pending: Pending<V, O>,
    limit: Option<Span>,
    mean: fn(O::Value) -> Got,
) -> Got
where
    O: Answer,
{
    let answer = match limit {
        Some(limit) => pending.timeout(limit.to_duration()).await,
        None => pending.await.into_result(),
    };
    got(answer, mean)
}

async fn wait_at_most<V: Delivered>(timer: Timer<V>, limit: Duration) -> Got {
    let ended = timer.wait_at_most(limit).await;
    got(ended, |reason| reason.map_or(Got::StillRunning, |reason| Got::Ended(reason.into())))
}

/// Whoever stands in line waits, too.
async fn next_item<V: Delivered>(feed: Arc<Feed<V>>, line: Arc<Mutex<()>>, limit: Option<Span>) -> Got {
    let item = async {
        let _first = line.lock().await;
        poll_fn(|cx| feed.poll_value(cx)).await
    };
    let item = match limit {
        None => item.await,
        Some(limit) => match timeout(limit.to_duration(), item).await {
            Ok(item) => item,
            Err(_) => return Got::Timeout,
        },
    };
    match item {
        Some(Ok(value)) => Got::Value(value.seen()),
        Some(Err(failure)) => Got::Failed(kind_of(&failure)),
        None => Got::FeedEnd,
    }
}

fn take_all<V: Delivered>(feed: &Feed<V>) -> Vec<u64> {
    let values = (0..feed.len()).map(|_| poll_now(feed));
    values.filter_map(|item| Some(item??.ok()?.seen())).collect()
}

fn leave_feed<V: Delivered>(feed: &Feed<V>) -> FeedState {
    let (holds, dropped) = (take_all(feed), feed.dropped_count());
    let then = match poll_now(feed) {
        Some(None) => FeedThen::End,
        Some(Some(Err(failure))) => FeedThen::Failed(kind_of(&failure)),
        Some(Some(Ok(_))) | None => FeedThen::Open,
    };
    FeedState { holds, dropped, then }
}

/// The next item, if it is there.
fn poll_now<V: Delivered>(feed: &Feed<V>) -> Option<Option<Result<Arc<V>, Failure>>> {
    match feed.poll_value(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(item) => Some(item),
        Poll::Pending => None,
    }
}

pub(super) fn shutdown(how: Shutdown) -> Got {
    Got::Shutdown(match how {
        Shutdown::Drained => ShutdownKind::Drained,
        Shutdown::Cancelled => ShutdownKind::Cancelled,
        Shutdown::Failed => ShutdownKind::Failed,
    })
}

pub(super) fn got<T>(answer: Result<T, Error>, mean: impl FnOnce(T) -> Got) -> Got {
    match answer {
        Ok(value) => mean(value),
        Err(Error::AlreadyRunning { .. }) => Got::AlreadyRunning,
        Err(Error::NotRunning { .. }) => Got::NotRunning,
        Err(Error::Restart { .. }) => Got::Restart,
        Err(Error::Stopped { reason, .. }) => Got::Stopped(Reason::from(reason)),
        Err(Error::Failed { failure, .. }) => Got::Failed(kind_of(&failure)),
        Err(Error::EngineClosed { .. } | Error::ScopeClosed { .. }) => Got::Closed,
        Err(Error::Timeout { .. }) => Got::Timeout,
        Err(Error::Schedule(error)) => Got::Refused(error.field().to_owned()),
        Err(error) => Got::Unexpected(error.to_string()),
    }
}
