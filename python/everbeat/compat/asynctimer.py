"""For code written for the package asynctimer: `from everbeat.compat.asynctimer import Timer`."""

import math
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, TypeAlias

from everbeat._durations import ns
from everbeat._everbeat import Timer as _Timer
from everbeat._options import Mode
from everbeat.exceptions import ScheduleError

__all__ = ["Callback", "SchedulePolicy", "Timer"]

Callback: TypeAlias = Callable[[], Awaitable[None] | None]


class SchedulePolicy(StrEnum):
    """What the next tick is counted from."""

    FIXED_SCHEDULE = "FIXED_SCHEDULE"
    """The start: no drift."""
    FIXED_DELAY = "FIXED_DELAY"
    """The end of the callback."""


class Timer:
    """Calls `callback` every `timeout_ns` nanoseconds, for the first time after one of them.

    `timeout` is another name of `timeout_ns`. A callback that fails is logged, and the timer goes on.
    """

    def __init__(
        self,
        timeout: float | None = None,
        callback: Callback | None = None,
        schedule_policy: str = SchedulePolicy.FIXED_SCHEDULE,
        *,
        timeout_ns: float | None = None,
    ) -> None:
        if (timeout is None) == (timeout_ns is None):
            raise TypeError("Timer takes one of timeout and timeout_ns, which are the same")
        period = _period("timeout_ns", timeout_ns) if timeout is None else _period("timeout", timeout)
        if not callable(callback):
            raise TypeError(f"callback must be callable, not {type(callback).__name__}")
        if schedule_policy not in list(SchedulePolicy):
            known = ", ".join(repr(str(policy)) for policy in SchedulePolicy)
            raise ScheduleError(f"schedule_policy must be one of {known}, got {schedule_policy!r}")
        mode: Mode = "fixed_rate" if schedule_policy == SchedulePolicy.FIXED_SCHEDULE else "fixed_delay"
        self._timer: _Timer[Any] = _Timer(
            period, callback, mode=mode, initial_delay=period, on_error="continue"
        )

    def start(self) -> None:
        """Starts to call, in the running loop."""
        self._timer.start()

    def stop(self) -> None:
        """Stops it: once this has returned no callback is scheduled or started. One that runs may finish."""
        _ = self._timer.shutdown(_FOR_EVER)  # asked by the call; there is nothing to wait for


def _period(field: str, given: Any) -> ns:
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"{field} must be a number of nanoseconds, not {type(given).__name__}")
    if not 0 <= given < math.inf:
        raise ScheduleError(f"{field} must be a finite number of nanoseconds of at least zero, got {given!r}")
    return ns(given)


_FOR_EVER = ns(2**63)
