//! Everything that can go wrong, by name.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use everbeat_core::{ScheduleError, StopReason};

use crate::name::Name;

/// An error value of a target, as the library carries it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What the library refuses or reports. Each variant names the timer that it speaks of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The timer was already started.
    AlreadyRunning {
        /// The timer.
        name: Name,
    },
    /// The timer was not started, or has ended: there is nothing to act on or to wait for.
    NotRunning {
        /// The timer.
        name: Name,
    },
    /// The timer serves for one start only: it was built with stop conditions, or is a call that is made once.
    Restart {
        /// The timer.
        name: Name,
    },
    /// The timer ended before what was waited for came about.
    Stopped {
        /// The timer.
        name: Name,
        /// Why it ended.
        reason: StopReason,
    },
    /// The run failed. For a timer that a failure ended, everybody who asks later is told so too.
    Failed {
        /// The timer.
        name: Name,
        /// What happened in the run.
        failure: Failure,
    },
    /// What was waited for did not come about in time. The request itself stands.
    Timeout {
        /// The timer.
        name: Name,
        /// How long was waited.
        after: Duration,
    },
    /// A run or a callback of the timer waited for a later run of the same timer, which cannot start
    /// before it returns.
    InsideRun {
        /// The timer.
        name: Name,
    },
    /// A blocking call was made on a thread that the timer itself needs.
    ThreadsafeDispatch {
        /// The timer.
        name: Name,
        /// What to do in its place.
        advice: &'static str,
    },
    /// There is no tokio runtime here, or its time driver is not enabled.
    NoRuntime {
        /// The timer.
        name: Name,
    },
    /// A thread that the timer needs could not be started.
    NoThread {
        /// The timer.
        name: Name,
        /// What the operating system says.
        reason: Arc<std::io::Error>,
    },
    /// The engine that the timer belongs to is closed.
    EngineClosed {
        /// The timer.
        name: Name,
    },
    /// The scope that the timer belongs to is closed.
    ScopeClosed {
        /// The timer.
        name: Name,
    },
    /// A configuration was refused.
    Schedule(ScheduleError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyRunning { name } => write!(f, "timer `{name}` is already running"),
            Self::NotRunning { name } => write!(f, "timer `{name}` is not running"),
            Self::Restart { name } => {
                write!(
                    f,
                    "timer `{name}` serves for one start only, as all with stop conditions and all one-shots"
                )
            }
            Self::Stopped { name, reason } => write!(f, "timer `{name}` stopped: {reason}"),
            Self::Failed { name, failure } => write!(f, "a run of timer `{name}` failed: {failure}"),
            Self::Timeout { name, after } => {
                write!(f, "timer `{name}` did not get there within {after:?}")
            }
            Self::InsideRun { name } => {
                write!(f, "timer `{name}` cannot wait for its next run from inside its own run")
            }
            Self::ThreadsafeDispatch { name, advice } => {
                write!(f, "a blocking call for timer `{name}` on a thread that it needs: {advice}")
            }
            Self::NoRuntime { name } => write!(
                f,
                "timer `{name}` needs a tokio runtime with its time driver enabled: start it inside one"
            ),
            Self::NoThread { name, reason } => {
                write!(f, "timer `{name}` needs a thread that could not be started: {reason}")
            }
            Self::EngineClosed { name } => write!(f, "timer `{name}` belongs to an engine that is closed"),
            Self::ScopeClosed { name } => write!(f, "timer `{name}` belongs to a scope that is closed"),
            Self::Schedule(error) => error.fmt(f),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            // What is printed above is not told a second time.
            Self::Failed { failure, .. } => failure.source(),
            _ => None,
        }
    }
}

impl From<ScheduleError> for Error {
    fn from(error: ScheduleError) -> Self {
        Self::Schedule(error)
    }
}

/// Why a run failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The target returned an error.
    Error(Arc<dyn StdError + Send + Sync>),
    /// The target panicked, with this message.
    Panic(Arc<str>),
    /// The run exceeded its time limit, which was this.
    TimedOut(Duration),
}

impl Failure {
    pub(crate) fn from_error(error: BoxError) -> Self {
        Self::Error(error.into())
    }

    pub(crate) fn from_panic(payload: &(dyn Any + Send)) -> Self {
        Self::Panic(panic_message(payload).into())
    }

    /// The target's own error, if it returned one and it is of this type.
    ///
    /// ```
    /// # use everbeat::Failure;
    /// # use std::{io, sync::Arc};
    /// let failure = Failure::Error(Arc::new(io::Error::from(io::ErrorKind::NotFound)));
    /// assert_eq!(failure.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::NotFound);
    /// ```
    #[must_use]
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        match self {
            Self::Error(error) => error.downcast_ref(),
            Self::Panic(_) | Self::TimedOut(_) => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::Panic(message) => write!(f, "panicked: {message}"),
            Self::TimedOut(limit) => write!(f, "exceeded its time limit of {limit:?}"),
        }
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Error(error) => error.source(),
            Self::Panic(_) | Self::TimedOut(_) => None,
        }
    }
}

/// The text of a panic, as far as it has one.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("(no message)").to_owned()
}
