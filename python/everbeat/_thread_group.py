"""Timers on threads that start, stop and are waited for together."""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeAlias, TypeVar

from everbeat._everbeat import _ask_all, _nanoseconds, _ThreadTimer
from everbeat._members import Members
from everbeat._options import Duration
from everbeat.exceptions import TimerError

AnyTimer: TypeAlias = _ThreadTimer[Any]
TimerT = TypeVar("TimerT", bound=AnyTimer)


class TimerGroup(Members[AnyTimer]):
    """A set of timers, in the order in which they were added. From any thread.

    Every request goes to all members at once. Answers come as `[(timer, value), ...]`, in order. A `timeout`
    bounds the whole; without one there is no limit. What was asked stands, also when nobody waits any more.
    """

    _kind = _ThreadTimer, "everbeat.threading.Timer"

    def __init__(self, timers: Iterable[AnyTimer] = (), *, name: str | None = None) -> None:
        super().__init__(timers, name=name)
        self._process = os.getpid()
        # Held while members are started: a stop comes before that or after it. No code of the user's runs
        # meanwhile but handlers of signals, on the same thread.
        self._lock = threading.RLock()
        self._stops = 0

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._process != os.getpid():
            raise TimerError(
                f"this group belongs to process {self._process}, of which this one ({os.getpid()}) is a fork: "
                "make a new one here"
            )
        with self._lock:
            yield

    def add(self, timer: TimerT) -> TimerT:
        """Takes a timer in and returns it. If the group is active, the timer is started."""
        self._check(timer)
        with self._alone():
            if self._active and not timer.is_running():
                timer.start()
            self._take_in(timer)
        return timer

    def start(self) -> None:
        """Starts all members that do not run yet. If one of them cannot be started, none is."""
        started: list[AnyTimer] = []
        try:
            with self._alone():
                if self._active:
                    return
                stops = self._stops
                for timer in self:
                    if not timer.is_running():
                        timer.start()
                        started.append(timer)
                    if self._stops != stops:
                        break
                # The handler of a signal may have stopped it, and has the last word then.
                self._active = self._stops == stops
                if self._active:
                    return
        except BaseException:
            _ask_all(started, "cancel")
            raise
        _ask_all(started, "cancel")

    def __enter__(self) -> Self:
        """Starts it."""
        idle = [timer for timer in self if not timer.is_running()]
        try:
            self.start()
        except BaseException:
            _ask_all(idle, "cancel").wait(None, True)  # asked already, and to be waited for
            raise
        return self

    def __exit__(self, *_exc_info: object) -> None:
        """Cancels it."""
        self.cancel_all()

    def is_running(self) -> bool:
        """Whether the group is active and all its members run."""
        return self._active and all(timer.is_running() for timer in self)

    def cancel_all(self, timeout: Duration | None = None) -> None:
        """Cancels all members; returns when nothing is left of their runs.

        A member that cannot be waited for here is logged, and the others end all the same. Raises `TimeoutError`
        if a run is still in flight then. No other follows it.
        """
        self._end("cancel", timeout)

    def cancel(self, timeout: Duration | None = None) -> None:
        """Another name of `cancel_all`."""
        self.cancel_all(timeout)

    def stop(self, timeout: Duration | None = None) -> None:
        """Another name of `cancel_all`."""
        self.cancel_all(timeout)

    def shutdown(self, grace: Duration, timeout: Duration | None = None) -> list[tuple[AnyTimer, Any]]:
        """Lets the current runs finish, for at most `grace`; says for each member how it ended.

        A run on a thread cannot be interrupted: one that takes longer is waited for nevertheless. Members that
        cannot be waited for are logged, as by `cancel_all`, and left out.
        """
        return self._end("shut down", timeout, grace=grace)

    def wait(
        self,
        hit_count: int | None = None,
        hits: int | None = None,
        timeout: Duration | None = None,
        return_exceptions: bool = False,
    ) -> list[tuple[AnyTimer, Any]]:
        """Waits until every member has reached a hit count, has had further hits, or has ended.

        What each answers is what `Timer.wait` returns, or, with `return_exceptions`, what it raises.
        """
        return self._ask(timeout, return_exceptions, "wait", hit_count=hit_count, hits=hits)

    def trigger(
        self, *, timeout: Duration | None = None, return_exceptions: bool = False
    ) -> list[tuple[AnyTimer, Any]]:
        """Has every member run now; the results of runs that started after the call.

        With `return_exceptions` what a member raises is its result.
        """
        return self._ask(timeout, return_exceptions, "trigger")

    def join(
        self, *, timeout: Duration | None = None, return_exceptions: bool = False
    ) -> list[tuple[AnyTimer, Any]]:
        """Waits for the next run of every member to end. As `trigger` in all else."""
        return self._ask(timeout, return_exceptions, "join")

    def _ask(
        self, timeout: Duration | None, return_exceptions: bool, request: str, **options: Any
    ) -> list[tuple[AnyTimer, Any]]:
        _check_limit(timeout)
        timers = list(self)
        asked = _ask_all(timers, request, **options)
        return list(zip(timers, asked.wait(timeout, return_exceptions), strict=True))

    def _end(self, verb: str, timeout: Duration | None, **options: Any) -> list[tuple[AnyTimer, Any]]:
        _check_limit(timeout)
        _ask_all((), "cancel", **options)  # a bad grace is refused as well
        with self._alone():
            self._active = False
            self._stops += 1
        ended: list[tuple[AnyTimer, Any]] = []
        late: TimeoutError | None = None
        for timer, answer in self._ask(timeout, True, "cancel", **options):
            if isinstance(answer, TimeoutError):
                late = late or answer
            elif isinstance(answer, BaseException):
                self._log_refusal(verb, timer, answer)
            else:
                ended.append((timer, answer))
        if late is not None:
            raise late
        return ended


def _check_limit(timeout: Duration | None) -> None:
    """A bad one is refused before anybody is asked."""
    if timeout is not None:
        _nanoseconds("timeout", timeout)
