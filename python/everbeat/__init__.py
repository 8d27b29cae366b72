"""Recurring work for asyncio and threads."""

from everbeat._durations import ns
from everbeat._everbeat import Subscription, Timer
from everbeat._policies import Backoff, Burst
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
    "Backoff",
    "Burst",
    "ScheduleError",
    "Subscription",
    "ThreadsafeDispatchError",
    "Timer",
    "TimerAlreadyRunningError",
    "TimerError",
    "TimerNotRunningError",
    "TimerRestartError",
    "TimerStoppedError",
    "ns",
]
