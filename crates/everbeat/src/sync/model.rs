//! The model checker's threads, and its time.
//!
//! Time stands still, and no wait has a limit: a thread that nobody wakes is a deadlock, which fails the
//! model. From [`let_time_pass`] on every limit is over as soon as it is waited for, unless it is as good as
//! none.
//!
//! Everything that one thread does here for another goes through an object of loom's: it plays only those
//! orders of which it knows that they differ.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::panic::{UnwindSafe, resume_unwind};
use std::sync::{Arc, LazyLock, LockResult, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32};
use loom::sync::{Mutex as Lock, MutexGuard as LockGuard, Notify};

use self::thread::Thread;

/// As the standard library's, in the one form that is used.
macro_rules! of_each_thread {
    ($(#[$attr:meta])* static $name:ident: $type:ty = const $init:block;) => {
        loom::thread_local! { $(#[$attr])* static $name: $type = $init; }
    };
}
pub(crate) use of_each_thread as thread_local;

/// The only panic that is part of a model.
struct Meant;

/// Panics as a target of the user's might.
pub(crate) fn panic_on_purpose() {
    resume_unwind(Box::new(Meant));
}

/// Any other panic fails the model, and is not to be caught.
pub(crate) fn catch_unwind<R>(f: impl FnOnce() -> R + UnwindSafe) -> std::thread::Result<R> {
    match std::panic::catch_unwind(f) {
        Err(payload) if !payload.is::<Meant>() => resume_unwind(payload),
        result => result,
    }
}

#[derive(Debug)]
pub(crate) struct Mutex<T>(Lock<T>);

#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    guard: LockGuard<'a, T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Lock::new(value))
    }

    #[track_caller]
    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let guarding = |guard| MutexGuard { mutex: self, guard };
        self.0.lock().map(guarding).map_err(|error| PoisonError::new(guarding(error.into_inner())))
    }

    pub(crate) fn get_mut(&mut self) -> LockResult<&mut T> {
        self.0.get_mut()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// Who waits here, first come first served. As with a real one a wait may end for nothing, and one whose
/// limit is over may have been notified all the same.
#[derive(Debug)]
pub(crate) struct Condvar(Lock<VecDeque<Thread>>);

#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(self) -> bool {
        self.0
    }
}

type Waited<'a, T> = (MutexGuard<'a, T>, WaitTimeoutResult);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(Lock::new(VecDeque::new()))
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> LockResult<Waited<'a, T>> {
        let (mutex, me) = (guard.mutex, thread::current());
        self.waiters().push_back(me.clone());
        drop(guard);
        let timed_out = WaitTimeoutResult(park(limit));
        self.waiters().retain(|waiter| !waiter.is(&me));
        Ok((mutex.lock().unwrap_or_else(PoisonError::into_inner), timed_out))
    }

    pub(crate) fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<Waited<'a, T>> {
        let mut waited = WaitTimeoutResult(false);
        while condition(&mut guard) && !waited.timed_out() {
            (guard, waited) = self.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner);
        }
        Ok((guard, waited))
    }

    pub(crate) fn notify_one(&self) {
        let waiter = self.waiters().pop_front();
        waiter.iter().for_each(Thread::unpark);
    }

    pub(crate) fn notify_all(&self) {
        let waiters = std::mem::take(&mut *self.waiters());
        waiters.iter().for_each(Thread::unpark);
    }

    fn waiters(&self) -> LockGuard<'_, VecDeque<Thread>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) mod thread {
    use std::io;

    use super::{Arc, Duration, Notify};

    /// A token that is left for a thread stays there until it parks.
    #[derive(Clone, Debug)]
    pub(crate) struct Thread(pub(super) Arc<Notify>);

    pub(crate) struct JoinHandle<T> {
        handle: loom::thread::JoinHandle<T>,
        thread: Thread,
    }

    #[derive(Debug)]
    pub(crate) struct Builder;

    loom::thread_local! {
        static CURRENT: std::cell::RefCell<Option<Thread>> = std::cell::RefCell::new(None);
    }

    impl Thread {
        pub(super) fn new() -> Self {
            let thread = Self(Arc::new(Notify::new()));
            super::passing(|passing| passing.threads.push(thread.clone()));
            thread
        }

        pub(super) fn is(&self, other: &Self) -> bool {
            Arc::ptr_eq(&self.0, &other.0)
        }

        pub(crate) fn unpark(&self) {
            self.0.notify();
        }
    }

    pub(crate) fn current() -> Thread {
        if let Some(thread) = CURRENT.with(|current| current.borrow().clone()) {
            return thread;
        }
        let thread = Thread::new();
        CURRENT.with(|current| current.replace(Some(thread.clone())));
        thread
    }

    pub(crate) fn park_timeout(limit: Duration) {
        super::park(limit);
    }

    impl Builder {
        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) fn name(self, _name: String) -> Self {
            self
        }

        #[allow(clippy::unused_self)]
        pub(crate) fn spawn<T: 'static>(self, f: impl FnOnce() -> T + 'static) -> io::Result<JoinHandle<T>> {
            let thread = Thread::new();
            let known = thread.clone();
            let handle = loom::thread::spawn(move || {
                CURRENT.with(|current| current.replace(Some(known)));
                f()
            });
            Ok(JoinHandle { handle, thread })
        }
    }

    pub(crate) fn spawn<T: 'static>(f: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
        Builder::new().spawn(f).expect("a model starts as many threads as it likes")
    }

    impl<T> JoinHandle<T> {
        pub(crate) fn thread(&self) -> &Thread {
            &self.thread
        }

        pub(crate) fn join(self) -> T {
            self.handle.join().expect("a panic ends the model")
        }
    }
}

/// What passes as time.
#[derive(Debug, Default)]
struct Passing {
    passes: bool,
    threads: Vec<Thread>,
}

std::thread_local! {
    // All threads of a model are one to the system.
    static PASSING: RefCell<Option<Arc<Lock<Passing>>>> = const { RefCell::new(None) };
    static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn passing<R>(f: impl FnOnce(&mut Passing) -> R) -> R {
    let passing = PASSING.with_borrow(|passing| passing.clone().expect("this is called in a model"));
    f(&mut passing.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The time of the model.
pub(crate) fn now() -> Instant {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    *ORIGIN + PASSED.get()
}

/// Moves the time of the model. Wakes nobody.
pub(crate) fn pass(span: Duration) {
    PASSED.set(PASSED.get() + span);
}

/// From now on every limit is over as soon as it is waited for, and those that are waited for are over.
pub(crate) fn let_time_pass() {
    let threads = passing(|passing| {
        passing.passes = true;
        passing.threads.clone()
    });
    threads.iter().for_each(Thread::unpark);
}

/// Who waits for so long waits for somebody.
const AS_GOOD_AS_NONE: Duration = Duration::from_secs(24 * 3600);

/// Returns whether the limit is over.
fn park(limit: Duration) -> bool {
    let me = thread::current();
    if limit >= AS_GOOD_AS_NONE {
        me.0.wait();
        return false;
    }
    if !passing(|passing| passing.passes) {
        me.0.wait();
    }
    let passes = passing(|passing| passing.passes);
    if passes {
        pass(limit);
    }
    passes
}

/// Plays a model in every order, or in those with at most so many preemptions.
pub(crate) fn check(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 10_000;
    let (begun, orders) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let counted = orders.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        PASSED.set(Duration::ZERO);
        PASSING.set(Some(Arc::default()));
        model();
    });
    let name = std::thread::current().name().map(str::to_owned).unwrap_or_default();
    let (orders, took) = (orders.load(Ordering::Relaxed), begun.elapsed());
    println!("{name}: {orders} orders in {took:.1?}, preemptions: {:?}", builder.preemption_bound);
}
