"""The exceptions of everbeat: one family, under `TimerError`."""

__all__ = [
    "ScheduleError",
    "ThreadsafeDispatchError",
    "TimerAlreadyRunningError",
    "TimerError",
    "TimerNotRunningError",
    "TimerRestartError",
    "TimerStoppedError",
]


class TimerError(RuntimeError):
    """Whatever the library itself refuses or reports."""


class TimerAlreadyRunningError(TimerError):
    """`start()` on a timer that runs."""


class TimerNotRunningError(TimerError):
    """There is nothing to act on or to wait for: the timer was not started, or has ended."""


class TimerStoppedError(TimerNotRunningError):
    """The timer ended before what was waited for came about."""


class TimerRestartError(TimerError):
    """`start()` once more on a timer that was built with `cancel_aws`, which serve for one start only."""


class ThreadsafeDispatchError(TimerError):
    """A `*_threadsafe` call in a place where it cannot work: the loop's own thread, before the start, or
    after the loop was closed."""


class ScheduleError(TimerError, ValueError):
    """A configuration that was refused: says the field, the value and what is allowed."""
