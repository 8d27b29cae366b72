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

    A callback that fails is logged, and the timer goes on.
    """

    def __init__(
        self,
        timeout_ns: int | float,
        callback: Callback,
        schedule_policy: str = SchedulePolicy.FIXED_SCHEDULE,
    ) -> None:
        if schedule_policy not in list(SchedulePolicy):
            known = ", ".join(repr(str(policy)) for policy in SchedulePolicy)
            raise ScheduleError(f"schedule_policy must be one of {known}, got {schedule_policy!r}")
        if not math.isfinite(timeout_ns):
            raise ScheduleError(f"timeout_ns must be a finite number of nanoseconds, got {timeout_ns!r}")
        period = ns(timeout_ns)
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


_FOR_EVER = ns(2**63)
