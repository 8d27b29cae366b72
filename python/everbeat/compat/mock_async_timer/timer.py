"""A timer that does not wait, and whose waits are calls of a mock."""

from contextlib import suppress
from typing import Any, Generic, TypeVar
from unittest.mock import AsyncMock

from everbeat.compat.async_timer.pacemaker import TimerPacemaker
from everbeat.compat.async_timer.timer import Timer
from everbeat.testing import MockTimer as _MockTimer

__all__ = ["MockPacemaker", "MockTimer"]

T = TypeVar("T")


class MockPacemaker(TimerPacemaker):
    """Its `sleep` is called, and awaited, with the seconds of every wait."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sleep = AsyncMock()


class MockTimer(_MockTimer[T], Timer[T], Generic[T]):
    """A `Timer` that ticks as fast as the loop runs."""

    pacemaker: MockPacemaker
    _pacemaker_type = MockPacemaker

    def _note_sleep(self, seconds: float) -> None:
        super()._note_sleep(seconds)
        call = self.pacemaker.sleep(seconds)
        with suppress(StopIteration):
            call.send(None)  # a mock waits for nothing
