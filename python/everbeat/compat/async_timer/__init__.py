"""For code written for the package async-timer: `import everbeat.compat.async_timer as async_timer`.

What differs from `everbeat` itself: `join()`, and `wait()` for hits, raise `asyncio.CancelledError` on a timer
that does not run or that stops, and `trigger()` on one that stops meanwhile; the callbacks, `hit_count`, the
latest value and the members of a group can be set; delays are read as they were given; time limits are those of
asyncio; a timer takes the attributes that its user gives it.
"""

from everbeat._everbeat import __version__
from everbeat.compat.async_timer import (
    decorators,
    exceptions,
    group,
    pacemaker,
    subscription,
    target_caller,
    timer,
)
from everbeat.compat.async_timer.decorators import every
from everbeat.compat.async_timer.exceptions import (
    ThreadsafeDispatchError,
    TimerAlreadyRunningError,
    TimerError,
    TimerNotRunningError,
    TimerRestartError,
)
from everbeat.compat.async_timer.group import TimerGroup
from everbeat.compat.async_timer.subscription import Subscription
from everbeat.compat.async_timer.timer import Timer

__all__ = [
    "Subscription",
    "ThreadsafeDispatchError",
    "Timer",
    "TimerAlreadyRunningError",
    "TimerError",
    "TimerGroup",
    "TimerNotRunningError",
    "TimerRestartError",
    "__version__",
    "decorators",
    "every",
    "exceptions",
    "group",
    "pacemaker",
    "subscription",
    "target_caller",
    "timer",
]
