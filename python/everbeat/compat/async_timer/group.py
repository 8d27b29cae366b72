"""Groups."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from everbeat._everbeat import Timer
from everbeat._group import TimerGroup as _TimerGroup
from everbeat._options import Duration
from everbeat.compat.async_timer.timer import time_limit

__all__ = ["GroupResult", "TimerGroup", "WaitResult"]

GroupResult: TypeAlias = list[tuple[Timer[Any], Any]]
WaitResult = GroupResult


class TimerGroup(_TimerGroup):
    """`everbeat.TimerGroup`, except that its members are those of a list, without any of which it is false, and
    that the time limit of a wait is an error of the whole."""

    timers: list[Timer[Any]]

    def __init__(self, timers: Iterable[Timer[Any]] = (), *, name: str | None = None) -> None:
        self.timers = []
        super().__init__(timers, name=name)

    def _take_in(self, timer: Timer[Any]) -> None:
        if timer not in self.timers:
            self.timers.append(timer)

    def discard(self, timer: Timer[Any]) -> None:
        if timer in self.timers:
            self.timers.remove(timer)

    def remove(self, timer: Timer[Any]) -> None:
        self.timers.remove(timer)

    def __iter__(self) -> Iterator[Timer[Any]]:
        return iter(list(self.timers))

    def __len__(self) -> int:
        return len(self.timers)

    def __bool__(self) -> bool:
        return bool(self.timers)

    def __contains__(self, timer: object) -> bool:
        return timer in self.timers

    async def wait(
        self,
        hit_count: int | None = None,
        hits: int | None = None,
        timeout: Any = None,
        return_exceptions: bool = False,
    ) -> GroupResult:
        waiting = super().wait(hit_count, hits, return_exceptions=return_exceptions)
        return await asyncio.wait_for(waiting, timeout)

    async def trigger(
        self, *, timeout: Duration | None = None, return_exceptions: bool = False
    ) -> GroupResult:
        return await super().trigger(timeout=time_limit(timeout), return_exceptions=return_exceptions)

    def cancel_threadsafe(self, timeout: Duration | None = None) -> None:
        super().cancel_threadsafe(time_limit(timeout))
