//! Whoever waits for something, and feeds.

use std::collections::BTreeMap;

use crate::expect::{FailureKind, FeedState, FeedThen, Got, Reason, ShutdownKind};
use crate::scenario::{DropPolicy, FeedSpec};
use crate::span::Span;
use crate::trace::Given;

/// What somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// The result of this run, or of a later one.
    Run(u64),
    Hits(u64),
    End,
    Cancelled,
    ShutDown,
    Item(String),
}

struct Waiter {
    name: String,
    want: Want,
    deadline: Option<Span>,
}

struct Feed {
    bound: usize,
    drop: DropPolicy,
    state: FeedState,
}

#[derive(Default)]
pub(super) struct Desk {
    pub(super) now: Span,
    pub(super) hits: u64,
    pub(super) failures: u64,
    pub(super) latest: Option<u64>,
    pub(super) answers: BTreeMap<String, Given>,
    waiters: Vec<Waiter>,
    feeds: BTreeMap<String, Feed>,
    /// Whether whoever is answered now reads a hit count that is left to the driver.
    uncounted: bool,
    /// That somebody was answered at the end of its patience: whether in time is left to the driver.
    pub(super) photo_finish: bool,
}

impl Desk {
    pub(super) fn answer(&mut self, name: &str, got: Got) {
        let given = Given { at: self.now, got, hits: Some(self.hits).filter(|_| !self.uncounted) };
        self.answers.insert(name.to_owned(), given);
    }

    pub(super) fn wait(&mut self, name: &str, want: Want, timeout: Option<Span>) {
        let deadline = timeout.map(|timeout| self.now.plus(timeout));
        self.waiters.push(Waiter { name: name.to_owned(), want, deadline });
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.waiters.retain(|waiter| waiter.name != name);
    }

    pub(super) fn deliver(&mut self, run: u64, value: u64) {
        self.hits += 1;
        self.latest = Some(value);
        let hits = self.hits;
        self.settle(|want| match want {
            Want::Run(number) => (*number <= run).then_some(Got::Value(value)),
            Want::Hits(count) => (*count <= hits).then_some(Got::Ok),
            _ => None,
        });
        self.feeds.values_mut().for_each(|feed| feed.push(value));
        self.serve();
    }

    pub(super) fn fail(&mut self, run: u64, kind: FailureKind) {
        self.failures += 1;
        self.settle(|want| matches!(want, Want::Run(number) if *number <= run).then_some(Got::Failed(kind)));
    }

    /// Nobody will fill them any more.
    pub(super) fn end_feeds(&mut self, failure: Option<FailureKind>) {
        self.feeds.values_mut().for_each(|feed| feed.end(failure));
        self.serve();
    }

    pub(super) fn end(&mut self, reason: Reason, failure: Option<FailureKind>) {
        self.end_feeds(failure);
        self.settle(|want| at_the_end(want, reason, failure));
    }

    pub(super) fn next_deadline(&self) -> Option<Span> {
        self.waiters.iter().filter_map(|waiter| waiter.deadline).min()
    }

    /// Sends those away whose patience is over. Says whether there were any.
    pub(super) fn expire(&mut self) -> bool {
        let now = self.now;
        let is_over = |waiter: &Waiter| waiter.deadline.is_some_and(|deadline| deadline <= now);
        let (over, patient) = std::mem::take(&mut self.waiters).into_iter().partition(is_over);
        self.waiters = patient;
        let over: Vec<Waiter> = over;
        for waiter in &over {
            let got = if waiter.want == Want::End { Got::StillRunning } else { Got::Timeout };
            self.answer(&waiter.name, got);
        }
        !over.is_empty()
    }

    pub(super) fn subscribe(&mut self, spec: &FeedSpec, ended: Option<Option<FailureKind>>) -> Got {
        if spec.bounded == Some(0) {
            return Got::Refused("capacity".to_owned());
        }
        let bound = spec.bounded.unwrap_or(usize::MAX);
        let mut feed = Feed { bound, drop: spec.drop, state: FeedState::default() };
        if let Some(failure) = ended {
            feed.end(failure);
        }
        self.feeds.insert(spec.feed.clone(), feed);
        Got::Ok
    }

    pub(super) fn read(&mut self, feed: &str) -> Got {
        Got::Items(
            self.feeds.get_mut(feed).map(|feed| std::mem::take(&mut feed.state.holds)).unwrap_or_default(),
        )
    }

    pub(super) fn drop_oldest(&mut self, feed: &str, count: usize) {
        if let Some(feed) = self.feeds.get_mut(feed) {
            let count = count.min(feed.state.holds.len());
            feed.state.holds.drain(..count);
            feed.state.dropped += count as u64;
        }
    }

    pub(super) fn close(&mut self, feed: &str) {
        self.feeds.get_mut(feed).into_iter().for_each(|feed| feed.end(None));
        // A tick at this very time may come before whoever is woken looks at the count.
        self.uncounted = true;
        self.serve();
        self.uncounted = false;
    }

    pub(super) fn drop_feed(&mut self, feed: &str) {
        self.feeds.remove(feed);
    }

    /// The feeds as they are left.
    pub(super) fn feeds(&self) -> BTreeMap<String, FeedState> {
        self.feeds.iter().map(|(name, feed)| (name.clone(), feed.state.clone())).collect()
    }

    /// Hands out what feeds have for those who wait for it.
    pub(super) fn serve(&mut self) {
        let feeds = &mut self.feeds;
        let served: Vec<_> = self
            .waiters
            .iter()
            .map(|waiter| match &waiter.want {
                Want::Item(feed) => feeds.get_mut(feed).and_then(Feed::next),
                _ => None,
            })
            .collect();
        self.give(served);
    }

    fn settle(&mut self, reply: impl Fn(&Want) -> Option<Got>) {
        let replies = self.waiters.iter().map(|waiter| reply(&waiter.want)).collect();
        self.give(replies);
    }

    /// Answers each waiter for whom there is something.
    fn give(&mut self, replies: Vec<Option<Got>>) {
        for (waiter, got) in std::mem::take(&mut self.waiters).into_iter().zip(replies) {
            let Some(got) = got else {
                self.waiters.push(waiter);
                continue;
            };
            self.photo_finish |= waiter.deadline.is_some_and(|deadline| deadline <= self.now);
            self.answer(&waiter.name, got);
        }
    }
}

impl Feed {
    fn push(&mut self, value: u64) {
        let FeedState { holds, dropped, then } = &mut self.state;
        if *then != FeedThen::Open {
            return;
        }
        holds.push(value);
        if holds.len() > self.bound {
            *dropped += 1;
            let loser = if self.drop == DropPolicy::Oldest { 0 } else { self.bound };
            holds.remove(loser);
        }
    }

    fn end(&mut self, failure: Option<FailureKind>) {
        if self.state.then == FeedThen::Open {
            self.state.then = failure.map_or(FeedThen::End, FeedThen::Failed);
        }
    }

    fn next(&mut self) -> Option<Got> {
        let FeedState { holds, then, .. } = &mut self.state;
        if !holds.is_empty() {
            return Some(Got::Value(holds.remove(0)));
        }
        match *then {
            FeedThen::Open => None,
            FeedThen::End => Some(Got::FeedEnd),
            FeedThen::Failed(kind) => {
                *then = FeedThen::End;
                Some(Got::Failed(kind))
            }
        }
    }
}

/// What the end of a timer is to somebody who waits for something.
pub(super) fn at_the_end(want: &Want, reason: Reason, failure: Option<FailureKind>) -> Option<Got> {
    let failed = failure.map(Got::Failed);
    match want {
        Want::Item(_) => None,
        Want::Run(_) | Want::Hits(_) => Some(failed.unwrap_or(Got::Stopped(reason))),
        Want::End => Some(failed.unwrap_or(Got::Ended(reason))),
        Want::Cancelled => Some(Got::Ended(reason)),
        Want::ShutDown => Some(Got::Shutdown(match reason {
            Reason::Cancelled | Reason::GraceExpired | Reason::Abandoned => ShutdownKind::Cancelled,
            Reason::Failed => ShutdownKind::Failed,
            _ => ShutdownKind::Drained,
        })),
    }
}
