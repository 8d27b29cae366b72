//! Which timer's run is being polled on this thread.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use crate::any::{AnyTimer, Control};
use crate::sync::thread_local;
use crate::thread::placed::Placed;

/// A timer whose own code runs.
pub(crate) enum Current {
    Whole(Arc<dyn Control>),
    /// A lean one, at its place with its engine.
    Placed(Placed),
}

impl Current {
    /// The timer. A lean one is a whole one from here on.
    fn timer(&self) -> Option<Arc<dyn Control>> {
        match self {
            Self::Whole(timer) => Some(timer.clone()),
            Self::Placed(place) => place.promote_inside().map(|timer| timer as _),
        }
    }

    fn is(&self, timer: *const ()) -> bool {
        match self {
            Self::Whole(whole) => std::ptr::addr_eq(Arc::as_ptr(whole), timer),
            Self::Placed(place) => place.was_place_of(timer),
        }
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// The timer whose run or callback is calling this, if one is.
///
/// A target can control its own timer through it without holding a handle, which would keep the timer
/// alive forever:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), everbeat::Error> {
/// use everbeat::{StopReason, Tick, Timer};
/// use std::time::Duration;
///
/// let timer = Timer::every(Duration::ZERO).start(|tick: Tick| {
///     if tick.run == 3 {
///         everbeat::current().expect("called by a run").request_stop();
///     }
/// })?;
/// assert_eq!(timer.wait().await?, StopReason::Drained);
/// assert_eq!(timer.hits(), 3);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn current() -> Option<AnyTimer> {
    with_current(Current::timer).flatten().map(AnyTimer::inside)
}

/// The current timer, for a [`Target`](crate::Target) of your own whose runs do their work elsewhere than
/// where they are polled: on another thread, in somebody else's event loop.
///
/// What is done within [`scope`](Self::scope) counts as a part of the run: [`current()`] finds the timer, and
/// what would wait for its own run is answered at once. It keeps the timer in memory, but not going.
#[derive(Clone)]
pub struct Inside(Arc<dyn Control>);

impl Inside {
    /// The timer whose run or callback is calling this, if one is.
    #[must_use]
    pub fn current() -> Option<Self> {
        with_current(Current::timer).flatten().map(Self)
    }

    /// Makes it the current timer of this thread while `f` runs.
    pub fn scope<R>(&self, f: impl FnOnce() -> R) -> R {
        let mut timer = Some(Current::Whole(self.0.clone()));
        let _scope = Scope::enter(&mut timer);
        f()
    }
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inside").field(self.0.name()).finish()
    }
}

/// Whether a run or a callback of this timer is being polled on this thread.
pub(crate) fn is_inside(timer: *const ()) -> bool {
    with_current(|current| current.is(timer)).unwrap_or(false)
}

/// `None` outside of any run, and on a thread that is already tearing its locals down.
fn with_current<R>(f: impl FnOnce(&Current) -> R) -> Option<R> {
    CURRENT.try_with(|current| current.borrow().as_ref().map(f)).ok().flatten()
}

/// Makes `timer` the current one until the scope is dropped. It is moved, not cloned: an entry costs no
/// atomic operation.
pub(crate) struct Scope<'a> {
    timer: &'a mut Option<Current>,
    outer: Option<Current>,
}

impl<'a> Scope<'a> {
    pub(crate) fn enter(timer: &'a mut Option<Current>) -> Self {
        let outer = CURRENT.try_with(|current| current.replace(timer.take())).ok().flatten();
        Self { timer, outer }
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        if let Ok(timer) = CURRENT.try_with(|current| current.replace(self.outer.take())) {
            *self.timer = timer;
        }
    }
}
