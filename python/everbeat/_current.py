"""Which timer is running this code, and what it told the run."""

from contextvars import ContextVar
from typing import Any

from everbeat._everbeat import Tick, Timer

# Set once for each start, in the context of the timer's own code. The tasks and threads that a run starts
# inherit it.
_timer: ContextVar[Timer[Any] | None] = ContextVar("everbeat.timer", default=None)


def current_timer() -> Timer[Any] | None:
    """The timer whose target or callback this is, or was started by; `None` elsewhere."""
    return _timer.get()


def current_tick() -> Tick | None:
    """What the latest run of the current timer was told: its number, its slot, how late it is; `None` outside.

    Within a target that is its own run. A task that outlives the run it came from sees the later ones.
    """
    timer = _timer.get()
    return None if timer is None else timer._current_tick()
