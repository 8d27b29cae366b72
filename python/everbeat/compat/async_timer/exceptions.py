"""The exceptions, which are those of everbeat."""

from everbeat.exceptions import (
    ThreadsafeDispatchError,
    TimerAlreadyRunningError,
    TimerError,
    TimerNotRunningError,
    TimerRestartError,
)

__all__ = [
    "ThreadsafeDispatchError",
    "TimerAlreadyRunningError",
    "TimerError",
    "TimerNotRunningError",
    "TimerRestartError",
]
