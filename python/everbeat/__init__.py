"""Recurring work for asyncio and threads."""

# What the compiled part asks for later. By then there may be no file descriptor to read it with.
from everbeat import _callbacks as _callbacks, _loop as _loop, _offload as _offload
from everbeat._current import current_tick, current_timer
from everbeat._decorator import every
from everbeat._durations import ns
from everbeat._everbeat import (
    Skipped,
    Stats,
    Subscription,
    Summary,
    Tick,
    Ticks,
    Timer,
    __version__,
    ticks,
)
from everbeat._group import TimerGroup
from everbeat._oneshot import OneShot, after
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
    "OneShot",
    "ScheduleError",
    "Skipped",
    "Stats",
    "Subscription",
    "Summary",
    "ThreadsafeDispatchError",
    "Tick",
    "Ticks",
    "Timer",
    "TimerAlreadyRunningError",
    "TimerError",
    "TimerGroup",
    "TimerNotRunningError",
    "TimerRestartError",
    "TimerStoppedError",
    "__version__",
    "after",
    "current_tick",
    "current_timer",
    "every",
    "ns",
    "ticks",
]
