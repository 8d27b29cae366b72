"""Which timer is running this code, and what it told the run."""

from contextvars import ContextVar
from typing import Any, TypeAlias

from everbeat._everbeat import (
    Tick,
    Timer,
    _current_tick_of_thread,
    _current_timer_of_thread,
    _ThreadOneShot,
    _ThreadPeriodicTask,
    _ThreadTimer,
)

TimerOnThreads: TypeAlias = _ThreadTimer[Any] | _ThreadPeriodicTask | _ThreadOneShot[Any]

# Set once for each start, in the context of the timer's own code. The tasks and threads that a run starts
# inherit it. Who makes runs on threads clears it, so where there is one it belongs to the innermost timer.
_timer: ContextVar[Timer[Any] | None] = ContextVar("everbeat.timer", default=None)


def current_timer() -> Timer[Any] | TimerOnThreads | None:
    """The timer whose target or callback this is, or was started by; `None` elsewhere.

    On threads it is known in runs and callbacks only, and not to other threads that they start.
    """
    timer = _timer.get()
    return _current_timer_of_thread() if timer is None else timer


def current_tick() -> Tick | None:
    """What the latest run of the current timer was told: its number, its slot, how late it is; `None` outside.

    Within a target that is its own run. A task that outlives the run it came from sees the later ones.
    """
    timer = _timer.get()
    return _current_tick_of_thread() if timer is None else timer._current_tick()
