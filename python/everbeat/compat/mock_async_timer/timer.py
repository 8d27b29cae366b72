"""A timer that does not wait, and whose waits are calls of a mock."""

import asyncio
from contextlib import suppress
from typing import Any, Generic, TypeVar
from unittest.mock import AsyncMock

from everbeat._everbeat import _nanoseconds
from everbeat._options import Duration
from everbeat.compat.async_timer.pacemaker import TimerPacemaker
from everbeat.compat.async_timer.timer import Timer
from everbeat.testing import MockTimer as _MockTimer

__all__ = ["MockPacemaker", "MockTimer"]

T = TypeVar("T")


class MockPacemaker(TimerPacemaker):
    """Its `sleep` is called, and awaited, with the seconds of every wait."""

    def __init__(self, *args: Any, **schedule: Any) -> None:
        super().__init__(*args, **schedule)
        self.sleep = AsyncMock(name="mock-timer-sleep")
        self._waits = 0
        self._has_ticked = self._is_stopped = False

    def stop(self) -> None:
        self._is_stopped = True
        super().stop()

    async def __anext__(self) -> None:
        if self._timer() is not None:
            await super().__anext__()
        seconds = self.delay if self._has_ticked else _nanoseconds("initial_delay", self.initial_delay) / 1e9
        if self._has_ticked or seconds > 0:
            await asyncio.sleep(0)
            if not self._is_stopped:
                await self.sleep(seconds)
        if self._is_stopped:
            raise StopAsyncIteration
        self._has_ticked = True

    def _note_wait(self, seconds: float) -> None:
        """A wait has begun. It is slept right before its tick, unless something else comes first."""
        self._waits += 1
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._sleep, self._waits, seconds)

    def _sleep(self, wait: int, seconds: float) -> None:
        timer = self._timer()
        if wait == self._waits and timer is not None and timer.stats().next_due_at is not None:
            with suppress(StopIteration):
                self.sleep(seconds).send(None)  # a mock waits for nothing


class MockTimer(Timer[T], _MockTimer[T], Generic[T]):
    """A `Timer` that ticks as fast as the loop runs."""

    pacemaker: MockPacemaker

    def _create_pacemaker(self, delay: Duration, **schedule: Any) -> MockPacemaker:
        return MockPacemaker(delay, **schedule)

    def _note_sleep(self, seconds: float) -> None:
        super()._note_sleep(seconds)
        self.pacemaker._note_wait(seconds)
