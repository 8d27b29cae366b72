//! Feeds: every tick from the moment of subscription on, in order, each consumer at its own pace.
//!
//! # Locks
//!
//! A feed has a lock of its own, around its buffer. It may be taken while the timer's lock is held, never
//! the other way round. No value is dropped and no waker is woken or dropped under it; whatever leaves
//! the buffer is carried outside first.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use everbeat_core::{Buffer, Head, Instant, Overflow, ScheduleError};
use futures_core::Stream;

use crate::block;
use crate::error::{Error, Failure};
use crate::guard::{drop_all_quietly, drop_quietly, guarded, tell};
use crate::handle::Timer;
use crate::log::RateLimit;
use crate::name::Name;
use crate::shared::Shared;
use crate::sync::{Mutex, MutexGuard};

/// The side of a feed that the timer sees.
#[derive(Debug)]
pub(crate) struct Line<V> {
    inner: Mutex<Inner<V>>,
    name: Option<Box<str>>,
}

#[derive(Debug)]
struct Inner<V> {
    buffer: Buffer<Arc<V>, Failure>,
    consumer: Option<Waker>,
    /// Losses that no log line has told of yet.
    untold: u64,
}

/// The open feeds of a timer, of which there is one at least. Its lock guards them.
#[derive(Debug)]
pub(crate) struct Feeds<V> {
    lines: Vec<Arc<Line<V>>>,
    loss_log: RateLimit,
}

impl<V> Feeds<V> {
    pub(crate) fn lines(&self) -> &[Arc<Line<V>>] {
        &self.lines
    }

    /// Whether losses may be logged again.
    pub(crate) fn tells_losses(&mut self, now: Instant) -> bool {
        self.loss_log.permits(now)
    }

    pub(crate) fn add(feeds: &mut Option<Box<Self>>, line: Arc<Line<V>>) {
        let none = || Box::new(Self { lines: Vec::new(), loss_log: RateLimit::default() });
        feeds.get_or_insert_with(none).lines.push(line);
    }

    pub(crate) fn remove(feeds: &mut Option<Box<Self>>, line: &Arc<Line<V>>) -> Option<Arc<Line<V>>> {
        let lines = &mut feeds.as_mut()?.lines;
        let place = lines.iter().position(|other| Arc::ptr_eq(other, line))?;
        let removed = lines.swap_remove(place);
        if lines.is_empty() {
            *feeds = None;
        }
        Some(removed)
    }
}

impl<V> Clone for Feeds<V> {
    fn clone(&self) -> Self {
        Self { lines: self.lines.clone(), loss_log: self.loss_log.clone() }
    }
}

/// What a push took out of the feed, to be dropped or woken outside of all locks.
pub(crate) struct Pushed<V> {
    pub(crate) evicted: Option<Arc<V>>,
    pub(crate) consumer: Option<Waker>,
}

impl<V> Line<V> {
    pub(crate) fn push(&self, value: Arc<V>) -> Pushed<V> {
        let mut inner = self.lock();
        let before = inner.buffer.dropped();
        let evicted = inner.buffer.push(value);
        inner.untold += inner.buffer.dropped() - before;
        Pushed { evicted, consumer: inner.consumer.take() }
    }

    /// Ends the feed after what is in it already; its consumer is handed out to be woken.
    pub(crate) fn end(&self, failure: Option<Failure>) -> Option<Waker> {
        let mut inner = self.lock();
        inner.buffer.close(failure);
        inner.consumer.take()
    }

    /// How many values were lost since this was last asked.
    pub(crate) fn take_untold_losses(&self) -> u64 {
        mem::take(&mut self.lock().untold)
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("unnamed")
    }

    fn poll_next(&self, waker: &Waker) -> Poll<Head<Arc<V>, Failure>> {
        let mut fresh = None;
        loop {
            let mut inner = self.lock();
            let head = inner.buffer.pop();
            if !matches!(head, Head::Empty) {
                return Poll::Ready(head);
            }
            if inner.consumer.as_ref().is_some_and(|known| known.will_wake(waker)) {
                return Poll::Pending;
            }
            if let Some(fresh) = fresh.take() {
                let old = inner.consumer.replace(fresh);
                drop(inner);
                drop(old);
                return Poll::Pending;
            }
            // Cloning a waker may run code of the user's, so it is done without the lock.
            drop(inner);
            fresh = Some(waker.clone());
        }
    }

    /// Takes out what is left and drops it, a failure at the end included.
    fn drop_rest(&self) {
        loop {
            let head = self.lock().buffer.pop();
            if let Head::Empty | Head::End = head {
                return;
            }
            drop_quietly(head);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a feed shall be, made by [`Timer::subscribe`](crate::Timer::subscribe).
#[must_use = "a feed begins with `open`"]
pub struct FeedBuilder<'a, V: Send + Sync + 'static> {
    of: &'a Timer<V>,
    bound: Option<usize>,
    overflow: Overflow,
    name: Option<Box<str>>,
}

impl<'a, V: Send + Sync + 'static> FeedBuilder<'a, V> {
    pub(crate) fn new(of: &'a Timer<V>) -> Self {
        Self { of, bound: None, overflow: Overflow::DropOldest, name: None }
    }

    /// Holds at most `capacity` values (at least 1); when it is full the oldest gives way. Without a
    /// bound a feed grows as long as its consumer is slower than the timer.
    pub fn bounded(mut self, capacity: usize) -> Self {
        self.bound = Some(capacity);
        self
    }

    /// When the feed is full, the arriving value is dropped and not the oldest.
    pub fn drop_newest(mut self) -> Self {
        self.overflow = Overflow::DropNewest;
        self
    }

    /// What the feed is called in log messages about lost values.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Opens the feed: it receives every tick that the timer delivers from now on. The feed of a timer
    /// that has ended ends at once, with the failure if one ended the timer; on a timer that was not
    /// started yet it waits, and ends if nobody can start it any more.
    ///
    /// # Errors
    /// [`Error::Schedule`] for a capacity of zero, and for `drop_newest` without a bound.
    pub fn open(self) -> Result<Feed<V>, Error> {
        let buffer = match self.bound {
            None if self.overflow == Overflow::DropNewest => {
                return Err(
                    ScheduleError::new("drop_newest", "no bound", "used with bounded(capacity)").into()
                );
            }
            None => Buffer::unbounded(),
            Some(capacity) => Buffer::bounded(capacity, self.overflow)?,
        };
        let inner = Mutex::new(Inner { buffer, consumer: None, untold: 0 });
        let line = Arc::new(Line { inner, name: self.name });
        let shared = self.of.whole();
        shared.subscribe(&line);
        let timer = shared.name().clone();
        Ok(Feed { closer: FeedCloser { line, shared: Arc::downgrade(&shared) }, timer })
    }
}

impl<V: Send + Sync + 'static> fmt::Debug for FeedBuilder<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedBuilder").field("bound", &self.bound).field("overflow", &self.overflow).finish()
    }
}

/// Every tick of a timer from the moment of the subscription, in order, for one consumer.
///
/// Yields `Ok(value)` per tick. When the timer ends the feed gives what it still holds, then
/// `Err(failure)` if a failure ended the timer, then `None`. Failures that did not end the timer are not
/// in the feed. A feed is also a [`Stream`].
///
/// A dropped feed unregisters itself. A feed does not keep its timer alive.
#[must_use = "a feed that is dropped unregisters itself"]
pub struct Feed<V: Send + Sync + 'static> {
    closer: FeedCloser<V>,
    timer: Name,
}

impl<V: Send + Sync + 'static> Feed<V> {
    /// The next value; `None` once the feed has ended.
    ///
    /// # Errors
    /// The failure that ended the timer, once, after all values.
    ///
    /// # Cancel safety
    /// Cancel safe: a value is taken out only in the poll that returns it.
    pub async fn next(&mut self) -> Option<Result<Arc<V>, Failure>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    /// As polling [`next`](Self::next), for an event loop of your own. One consumer is remembered: if
    /// several poll, the last one is woken.
    pub fn poll_value(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Arc<V>, Failure>>> {
        self.poll_item(cx)
    }

    /// The next value if it is there already. `None` if it is not, or if the feed has ended.
    pub fn try_next(&mut self) -> Option<Result<Arc<V>, Failure>> {
        match self.poll_item(&Context::from_waker(Waker::noop())) {
            Poll::Ready(item) => item,
            Poll::Pending => None,
        }
    }

    /// Blocks the thread until the next value is there; `Ok(None)` once the feed has ended.
    ///
    /// # Errors
    /// [`Error::ThreadsafeDispatch`] on a thread that the timer needs, unless a value or the end is there already;
    /// [`Error::Timeout`] after `timeout`; [`Error::Failed`] with the failure that ended the timer.
    pub fn next_blocking(&mut self, timeout: Duration) -> Result<Option<Arc<V>>, Error> {
        let name = self.timer.clone();
        // The end may be there, where nobody may wait for it.
        let refused = self.may_block().err();
        let timeout = if refused.is_some() { Duration::ZERO } else { timeout };
        match block::on(self.next(), timeout) {
            None => Err(refused.unwrap_or(Error::Timeout { name, after: timeout })),
            Some(None) => Ok(None),
            Some(Some(Ok(value))) => Ok(Some(value)),
            Some(Some(Err(failure))) => Err(Error::Failed { name, failure }),
        }
    }

    /// Whether this thread may wait for the next value: for who waits in parts, with
    /// [`thread::wait_for`](crate::thread::wait_for).
    ///
    /// # Errors
    /// [`Error::ThreadsafeDispatch`] as [`next_blocking`](Self::next_blocking).
    pub fn may_block(&self) -> Result<(), Error> {
        if self.is_empty() && self.closer.shared.upgrade().is_some_and(|shared| shared.needs_this_thread()) {
            return Err(Error::ThreadsafeDispatch { name: self.timer.clone(), advice: block::ADVICE });
        }
        Ok(())
    }

    /// How many values wait to be read.
    #[must_use]
    pub fn len(&self) -> usize {
        self.line().lock().buffer.len()
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops up to `count` of the oldest values, to catch up. They count as dropped. The end of the
    /// feed and its failure are never dropped.
    ///
    /// Returns how many were dropped.
    pub fn drop_oldest(&self, count: usize) -> u64 {
        let dropped: Vec<_> = self.line().lock().buffer.drop_oldest(count).collect();
        let count = dropped.len() as u64;
        drop_all_quietly(dropped);
        count
    }

    /// How many values this feed lost: to its bound, and to [`Feed::drop_oldest`].
    #[must_use]
    pub fn dropped_count(&self) -> u64 {
        self.line().lock().buffer.dropped()
    }

    /// Ends the feed: no more values arrive, those that are here can still be read. Idempotent.
    pub fn close(&self) {
        self.closer.close();
    }

    /// Something that closes the feed from elsewhere, while a consumer waits on it.
    #[must_use]
    pub fn closer(&self) -> FeedCloser<V> {
        self.closer.clone()
    }

    fn line(&self) -> &Line<V> {
        &self.closer.line
    }

    fn poll_item(&self, cx: &Context<'_>) -> Poll<Option<Result<Arc<V>, Failure>>> {
        self.line().poll_next(cx.waker()).map(|head| match head {
            Head::Value(value) => Some(Ok(value)),
            Head::Failed(failure) => Some(Err(failure)),
            Head::Empty | Head::End => None,
        })
    }
}

impl<V: Send + Sync + 'static> Stream for Feed<V> {
    type Item = Result<Arc<V>, Failure>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl<V: Send + Sync + 'static> Drop for Feed<V> {
    fn drop(&mut self) {
        self.close();
        self.line().drop_rest();
    }
}

impl<V: Send + Sync + 'static> fmt::Debug for Feed<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Feed");
        debug.field("timer", &self.timer).field("name", &self.line().name());
        debug.field("len", &self.len()).field("dropped", &self.dropped_count()).finish()
    }
}

/// Closes a [`Feed`] from any thread.
pub struct FeedCloser<V: Send + Sync + 'static> {
    line: Arc<Line<V>>,
    shared: Weak<Shared<V>>,
}

impl<V: Send + Sync + 'static> FeedCloser<V> {
    /// Ends the feed: its consumer is woken, reads what is there, then sees the end. Idempotent.
    pub fn close(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.unsubscribe(&self.line);
        }
        let Some(consumer) = self.line.end(None) else { return };
        if let Err(failure) = guarded(|| consumer.wake()) {
            tell!(ERROR, feed = self.line.name(), "a waker {failure}");
        }
    }
}

impl<V: Send + Sync + 'static> Clone for FeedCloser<V> {
    fn clone(&self) -> Self {
        Self { line: self.line.clone(), shared: self.shared.clone() }
    }
}

impl<V: Send + Sync + 'static> fmt::Debug for FeedCloser<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedCloser").field("name", &self.line.name()).finish()
    }
}
