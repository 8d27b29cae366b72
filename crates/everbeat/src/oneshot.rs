//! Timers that fire once.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use everbeat_core::{OnError, Tick};

use crate::builder::Builder;
use crate::error::{BoxError, Error};
use crate::handle::Timer;
use crate::name::Name;
use crate::outcome::Outcome;
use crate::pending::{self, Pending};
use crate::target::{IntoTarget, Target};

/// Calls `target` once, after `delay`, on the tokio runtime that this is called in, and awaits what it returns.
/// [`thread::after`](crate::thread::after) needs no runtime; [`OneShot::start_async`] gives such a call a name, a
/// time limit, a scope or a clock.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), everbeat::Error> {
/// use std::time::Duration;
///
/// let answer = everbeat::after(Duration::from_millis(1), || async { 42 })?;
/// assert_eq!(*answer.wait().await?, 42);
/// assert!(!answer.cancel()); // too late
///
/// let reminder = everbeat::after(Duration::from_secs(3600), || async { println!("tea") })?;
/// assert!(reminder.cancel()); // in time: it will never be called
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::NoRuntime`] outside of a tokio runtime with its time driver enabled.
#[cfg(feature = "tokio")]
#[track_caller]
pub fn after<F, R, O>(delay: Duration, target: F) -> Result<OneShot<O::Value>, Error>
where
    F: FnOnce() -> R + Send + 'static,
    R: Future<Output = O> + Send + 'static,
    O: Outcome<Value: Send + Sync + 'static> + 'static,
{
    OneShot::start_async(Builder::new(OneShot::<()>::PERIOD), delay, target)
}

/// A call that is to be made once, later. Made by [`after`](crate::after) on tokio, and by
/// [`thread::after`](crate::thread::after) on threads.
///
/// Like all timers it needs a handle: when the last one is dropped the call is called off, unless it was
/// [detached](Self::detach). This is one, and so is every clone of [`as_timer`](Self::as_timer). A call that has begun
/// is made to its end, whoever calls it off or lets go of it; only what gives up the run of any timer does so here too: a
/// cancel of [`as_timer`](Self::as_timer), of a group or a scope.
///
/// Commands take effect when they are called. What they return can be dropped at any point, and what was asked for
/// stands.
#[must_use = "a call is called off when its last handle is dropped; `detach` lets it happen"]
pub struct OneShot<V: Send + Sync + 'static> {
    timer: Timer<V>,
}

impl<V: Send + Sync + 'static> OneShot<V> {
    /// There is no second run for it to say anything about, but with a period of zero a timer is never at
    /// rest.
    pub(crate) const PERIOD: Duration = Duration::from_secs(1);

    /// A call of any other kind: with its own name, engine or scope. Of the schedule of the builder only what ends it
    /// is used: [`until`](Builder::until), [`run_for`](Builder::run_for) and [`stop_when`](Builder::stop_when) call it
    /// off. The policy for errors is not used. One whose timer is [paused](Timer::pause) when it is due is made at the
    /// next slot after the pause: there alone the period counts.
    ///
    /// # Errors
    /// As [`after`](crate::thread::after), and [`Error::ScopeClosed`].
    pub fn start<F, O>(builder: Builder, delay: Duration, target: F) -> Result<Self, Error>
    where
        F: FnOnce() -> O + Send + 'static,
        O: Outcome<Value = V> + 'static,
    {
        let mut call = once(target);
        let timer = Self::planned(builder, delay).start(move |_: Tick| call()?.into_result())?;
        Ok(Self { timer })
    }

    /// The same for a target that returns a future.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), everbeat::Error> {
    /// use everbeat::{Error, OneShot, Timer};
    /// use std::time::Duration;
    ///
    /// let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
    /// let builder = Timer::every(second).name("upload").run_timeout(10 * second);
    /// let upload = OneShot::start_async(builder, hour, || async { Err::<(), _>("no network") })?;
    /// assert_eq!(upload.name().to_string(), "upload");
    /// assert!(matches!(upload.fire_now().await, Err(Error::Failed { .. })));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Schedule`] for a bad value in the builder; [`Error::ScopeClosed`]; [`Error::NoRuntime`] on tokio, and
    /// [`Error::NoThread`] or [`Error::EngineClosed`] on an engine.
    pub fn start_async<F, R>(builder: Builder, delay: Duration, target: F) -> Result<Self, Error>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Future<Output: Outcome<Value = V>> + Send + 'static,
    {
        let mut call = once(target);
        let timer = Self::planned(builder, delay).start(move |_: Tick| {
            let run = call();
            async move { run?.await.into_result() }
        })?;
        Ok(Self { timer })
    }

    /// The same, of any target, and not started yet: [`as_timer`](Self::as_timer) leads to what starts it.
    ///
    /// # Errors
    /// [`Error::Schedule`] for a bad value in the builder.
    #[doc(hidden)]
    pub fn of<M, X>(builder: Builder, delay: Duration, target: X) -> Result<Self, Error>
    where
        X: IntoTarget<M>,
        X::Target: Target<Value = V>,
    {
        let timer = Self::planned(builder, delay).build(target)?;
        Ok(Self { timer })
    }

    fn planned(builder: Builder, delay: Duration) -> Builder {
        // No run follows for another policy to decide about, and a failure that has ended the timer is told to
        // whoever asks later. Nor is there a slot to go to for a call that is late.
        let builder = builder.initial_delay(delay).max_lateness(Duration::MAX).max_runs(1);
        builder.on_error(OnError::Stop).single_use()
    }

    /// Calls the call off. Returns whether that came in time: after `true` it has not begun and never
    /// will; after `false` it has, or the call was called off before. It does not wait for a call that
    /// is being made; see [`wait`](Self::wait).
    pub fn cancel(&self) -> bool {
        self.timer.call_off()
    }

    /// Makes the call now, or waits for it if it is being made, and gives its result.
    ///
    /// # Errors
    /// [`Error::Failed`] if the call fails; [`Error::NotRunning`] or [`Error::Stopped`] if it was called
    /// off before.
    pub fn fire_now(&self) -> Pending<V, Result<Arc<V>, Error>> {
        // Asked for first: if the call has not begun after that, what was asked for is this very call.
        let asked = self.timer.trigger();
        if self.timer.read(|state| state.machine.runs() > 0) {
            return self.wait();
        }
        asked
    }

    /// Waits for the result of the call; at once if it has been made.
    ///
    /// # Errors
    /// [`Error::Failed`] if it failed, [`Error::Stopped`] if it was called off.
    pub fn wait(&self) -> Pending<V, Result<Arc<V>, Error>> {
        // In line first: a call that ends before the look at its value is seen there, and one that ends
        // later finds this in the line.
        let in_line = self.timer.join();
        if self.timer.read(|state| state.latest.is_some() || !state.machine.is_running()) {
            return pending::for_only_run(&self.timer.whole());
        }
        in_line
    }

    /// Whether the call is still to come.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.timer.read(|state| state.machine.accepts_triggers() && state.machine.runs() == 0)
    }

    /// Lets the call happen without this handle.
    pub fn detach(self) {
        self.timer.detach();
    }

    /// What it is called: the place in the source where it was made.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.timer.name()
    }

    /// The timer behind it, for a [`Group`](crate::Group) and everything else that takes timers. Once the call was
    /// made or called off nobody can start it again: [`Error::Restart`].
    pub fn as_timer(&self) -> &Timer<V> {
        &self.timer
    }
}

impl<V: Send + Sync + 'static> fmt::Debug for OneShot<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneShot").field("name", self.name()).field("pending", &self.is_pending()).finish()
    }
}

/// What can be called once, as what can be called again: a timer knows no other targets.
fn once<R>(target: impl FnOnce() -> R) -> impl FnMut() -> Result<R, BoxError> {
    let mut target = Some(target);
    move || match target.take() {
        Some(target) => Ok(target()),
        None => Err("a call that is made once was made already".into()),
    }
}
