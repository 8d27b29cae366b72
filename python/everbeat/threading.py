"""Timers that need no event loop: one thread keeps the time of all of them.

`after` calls a function once, later. `PeriodicTask` calls one again and again. `Timer` has everything
else, and `TimerGroup` handles many of them as one. `Scope` ends the timers of a session with the session. The
stub beside this file is the manual.
"""

import atexit
import sys

from everbeat import Backoff, Burst
from everbeat._everbeat import (
    Skipped,
    Stats,
    Summary,
    Tick,
    _end_all_timers,
    _engine_threads,
    _thread_after as after,
    _thread_ticks as ticks,
    _ThreadClosed as Closed,
    _ThreadEngine as Engine,
    _ThreadEngineStats as EngineStats,
    _ThreadOneShot as OneShot,
    _ThreadPeriodicTask as PeriodicTask,
    _ThreadScope as Scope,
    _ThreadSubscription as Subscription,
    _ThreadTicks as Ticks,
    _ThreadTimer as Timer,
)
from everbeat._thread_group import TimerGroup

__all__ = [
    "Backoff",
    "Burst",
    "Closed",
    "Engine",
    "EngineStats",
    "OneShot",
    "PeriodicTask",
    "Scope",
    "Skipped",
    "Stats",
    "Subscription",
    "Summary",
    "Tick",
    "Ticks",
    "Timer",
    "TimerGroup",
    "after",
    "ticks",
]


def _leave() -> None:
    """Ends all timers, before the interpreter takes away what they use.

    Runs in flight have a second. A thread that goes on with Python code after the interpreter is gone would
    take the process down, so what still runs then is asked to end by a `SystemExit`. A run that is blocked
    outside of Python is not waited for any longer.
    """
    if _end_all_timers(1.0):
        return
    import ctypes  # takes a while, and is hardly ever needed

    busy = sys._current_frames().keys() & set(_engine_threads())
    for thread in busy:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(SystemExit))
    _end_all_timers(0.25)


# Among the first things at exit, since handlers run in the reverse order of their registration: whatever
# was registered before may take away what the timers use.
atexit.register(_leave)
