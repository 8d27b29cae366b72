"""For code written for the package mock_async_timer, which comes with async-timer."""

from everbeat.compat.mock_async_timer import timer
from everbeat.compat.mock_async_timer.timer import MockTimer

__all__ = ["MockTimer", "timer"]
