"""Fixtures for pytest, which finds this module by itself."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from everbeat.testing import TestClock, TestEngine

# The package is imported by who uses a fixture, so that the plugin costs others nothing.


@pytest.fixture
def everbeat_clock() -> "Iterator[TestClock]":
    """A clock that moves all timers of the test by hand: `await everbeat_clock.advance(5)`.

    It stands still while the test awaits anything else, so a plain `await timer.join()` waits for ever. What is
    to be waited for is handed to the clock: `await everbeat_clock.run_until(timer.join())` moves time until there
    is a result, and raises `NothingDueError` when no timer is due that could bring it.
    """
    from everbeat.testing import TestClock

    with TestClock() as clock:
        yield clock


@pytest.fixture
def everbeat_engine() -> "Iterator[TestEngine]":
    """An engine that runs all timers on threads of the test by hand: `everbeat_engine.advance(5)`.

    Time stands still while the test waits: a wait in its own thread that nothing due now can end raises
    `NothingDueError`.
    """
    from everbeat.testing import TestEngine

    with TestEngine() as engine:
        yield engine
