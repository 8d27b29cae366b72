"""Recurring work for asyncio and threads."""

from everbeat._durations import ns
from everbeat.exceptions import (
    ScheduleError,
    ThreadsafeDispatchError,
    TimerAlreadyRunningError,
    TimerError,
    TimerNotRunningError,
    TimerRestartError,
    TimerStoppedError,
)

__all__ = [
    "ScheduleError",
    "ThreadsafeDispatchError",
    "TimerAlreadyRunningError",
    "TimerError",
    "TimerNotRunningError",
    "TimerRestartError",
    "TimerStoppedError",
    "ns",
]
