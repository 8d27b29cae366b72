//! What a face adds to the machine: values, counts, whoever waits for them, and feeds. As plain as can be.

use std::collections::BTreeMap;

use everbeat_core::{Buffer, Head, Overflow};

use crate::expect::{FailureKind, FeedState, FeedThen, Got, Reason, ShutdownKind};
use crate::scenario::{DropPolicy, FeedSpec};
use crate::span::Span;
use crate::trace::Given;

/// What somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// The result of the run with this number.
    Run(u64),
    /// This hit count.
    Hits(u64),
    /// The end of the timer, as news.
    End,
    /// The end of the timer, as the consequence of a cancel.
    Cancelled,
    /// The end of the timer, as the consequence of a shutdown.
    ShutDown,
    /// The next item of this feed.
    Item(String),
}

struct Waiter {
    name: String,
    want: Want,
    deadline: Option<Span>,
}

#[derive(Default)]
pub(super) struct Desk {
    pub(super) now: Span,
    pub(super) hits: u64,
    pub(super) failures: u64,
    pub(super) latest: Option<u64>,
    /// The failure that ended the timer.
    pub(super) failure: Option<FailureKind>,
    pub(super) answers: BTreeMap<String, Given>,
    waiters: Vec<Waiter>,
    feeds: BTreeMap<String, Buffer<u64, FailureKind>>,
}

impl Desk {
    pub(super) fn answer(&mut self, name: &str, got: Got) {
        self.answers.insert(name.to_owned(), Given { at: self.now, got, hits: Some(self.hits) });
    }

    pub(super) fn wait(&mut self, name: &str, want: Want, timeout: Option<Span>) {
        let deadline = timeout.map(|timeout| self.now.plus(timeout));
        self.waiters.push(Waiter { name: name.to_owned(), want, deadline });
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.waiters.retain(|waiter| waiter.name != name);
    }

    /// A run delivers its value.
    pub(super) fn deliver(&mut self, run: u64, value: u64) {
        self.hits += 1;
        self.latest = Some(value);
        let hits = self.hits;
        self.settle(|want| match want {
            Want::Run(number) if *number <= run => Some(Got::Value(value)),
            Want::Hits(count) if *count <= hits => Some(Got::Ok),
            _ => None,
        });
        self.feeds.values_mut().for_each(|feed| _ = feed.push(value));
        self.serve_feeds();
    }

    /// A run fails, and perhaps the timer ends with that.
    pub(super) fn fail(&mut self, run: u64, kind: FailureKind, fatal: bool) {
        self.failures += 1;
        self.failure = if fatal { Some(kind) } else { self.failure };
        self.settle(|want| match want {
            Want::Run(number) if *number <= run => Some(Got::Failed(kind)),
            _ => None,
        });
    }

    /// The timer has ended.
    pub(super) fn end(&mut self, reason: Reason) {
        let failure = self.failure;
        self.close_feeds(failure);
        self.settle(|want| ending(want, reason, failure));
    }

    /// What waits for the timer is told when it already has ended.
    pub(super) fn ended_before(&self, want: &Want, reason: Reason) -> Option<Got> {
        ending(want, reason, self.failure)
    }

    /// The next time at which somebody runs out of patience.
    pub(super) fn next_deadline(&self) -> Option<Span> {
        self.waiters.iter().filter_map(|waiter| waiter.deadline).min()
    }

    /// Sends those away whose time is over.
    pub(super) fn expire(&mut self) {
        for waiter in std::mem::take(&mut self.waiters) {
            if waiter.deadline.is_none_or(|deadline| deadline > self.now) {
                self.waiters.push(waiter);
                continue;
            }
            let got = if waiter.want == Want::End { Got::StillRunning } else { Got::Timeout };
            self.answer(&waiter.name, got);
        }
    }

    pub(super) fn subscribe(&mut self, spec: &FeedSpec, ended: bool) -> Got {
        let overflow = match spec.drop {
            DropPolicy::Oldest => Overflow::DropOldest,
            DropPolicy::Newest => Overflow::DropNewest,
        };
        let mut buffer = match spec.bounded.map(|capacity| Buffer::bounded(capacity, overflow)) {
            None => Buffer::unbounded(),
            Some(Ok(buffer)) => buffer,
            Some(Err(error)) => return Got::Refused(error.field().to_owned()),
        };
        if ended {
            buffer.close(self.failure);
        }
        self.feeds.insert(spec.feed.clone(), buffer);
        Got::Ok
    }

    pub(super) fn read(&mut self, feed: &str) -> Got {
        Got::Items(self.feed(feed).map(take_all).unwrap_or_default())
    }

    pub(super) fn next(&mut self, name: &str, feed: &str, timeout: Option<Span>) {
        self.wait(name, Want::Item(feed.to_owned()), timeout);
        self.serve_feeds();
    }

    pub(super) fn drop_oldest(&mut self, feed: &str, count: usize) {
        if let Some(feed) = self.feed(feed) {
            feed.drop_oldest(count).for_each(drop);
        }
    }

    pub(super) fn close_feeds(&mut self, failure: Option<FailureKind>) {
        self.feeds.values_mut().for_each(|feed| feed.close(failure));
        self.serve_feeds();
    }

    pub(super) fn close_feed(&mut self, feed: &str) {
        if let Some(feed) = self.feed(feed) {
            feed.close(None);
        }
        self.serve_feeds();
    }

    pub(super) fn drop_feed(&mut self, feed: &str) {
        self.feeds.remove(feed);
    }

    /// The feeds as they are left.
    pub(super) fn leave_feeds(&mut self) -> BTreeMap<String, FeedState> {
        let feeds = std::mem::take(&mut self.feeds);
        feeds.into_iter().map(|(name, mut feed)| (name, leave(&mut feed))).collect()
    }

    fn feed(&mut self, name: &str) -> Option<&mut Buffer<u64, FailureKind>> {
        self.feeds.get_mut(name)
    }

    /// Answers everybody for whom `reply` has something.
    fn settle(&mut self, reply: impl Fn(&Want) -> Option<Got>) {
        for waiter in std::mem::take(&mut self.waiters) {
            match reply(&waiter.want) {
                Some(got) => self.answer(&waiter.name, got),
                None => self.waiters.push(waiter),
            }
        }
    }

    /// Hands out what the feeds have for those who wait for it.
    fn serve_feeds(&mut self) {
        for waiter in std::mem::take(&mut self.waiters) {
            let head = match &waiter.want {
                Want::Item(feed) => self.feed(feed).map_or(Head::End, Buffer::pop),
                _ => Head::Empty,
            };
            match head {
                Head::Empty => self.waiters.push(waiter),
                Head::Value(value) => self.answer(&waiter.name, Got::Value(value)),
                Head::Failed(kind) => self.answer(&waiter.name, Got::Failed(kind)),
                Head::End => self.answer(&waiter.name, Got::FeedEnd),
            }
        }
    }
}

/// What the end of a timer means to somebody who waits.
fn ending(want: &Want, reason: Reason, failure: Option<FailureKind>) -> Option<Got> {
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

fn take_all(feed: &mut Buffer<u64, FailureKind>) -> Vec<u64> {
    let mut values = Vec::new();
    while !feed.is_empty() {
        if let Head::Value(value) = feed.pop() {
            values.push(value);
        }
    }
    values
}

fn leave(feed: &mut Buffer<u64, FailureKind>) -> FeedState {
    let (holds, dropped) = (take_all(feed), feed.dropped());
    let then = match feed.pop() {
        Head::Empty | Head::Value(_) => FeedThen::Open,
        Head::Failed(kind) => FeedThen::Failed(kind),
        Head::End => FeedThen::End,
    };
    FeedState { holds, dropped, then }
}
