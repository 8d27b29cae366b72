"""Groups."""

import asyncio
from typing import Any

from everbeat._everbeat import Timer
from everbeat._group import TimerGroup as _TimerGroup

__all__ = ["TimerGroup"]


class TimerGroup(_TimerGroup):
    """`everbeat.TimerGroup`, except that the time limit of a wait is an error of the whole."""

    @property
    def timers(self) -> list[Timer[Any]]:
        return list(self)

    async def wait(
        self,
        hit_count: int | None = None,
        hits: int | None = None,
        timeout: Any = None,
        return_exceptions: bool = False,
    ) -> list[tuple[Timer[Any], Any]]:
        waiting = super().wait(hit_count, hits, return_exceptions=return_exceptions)
        return await asyncio.wait_for(waiting, timeout)
