"""Timers on threads that start, stop and are waited for together."""

import os
from collections.abc import Container, Iterable
from typing import Any, Self, TypeAlias, TypeVar

from everbeat._current import current_timer
from everbeat._everbeat import _ask_all, _nanoseconds, _ThreadTimer
from everbeat._members import Members
from everbeat._options import Duration
from everbeat.exceptions import TimerAlreadyRunningError, TimerError

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
        # Each stop exchanges it in one step, and nothing is locked, since a stop may come in the middle of
        # anything: from another thread, from the run of a member, and from the handler of a signal. A start that
        # finds another life than it began with takes itself back, unless somebody has begun to start it anew.
        self._life = _Life()

    def _is_active(self) -> bool:
        return self._life.is_started

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise TimerError(
                f"this group belongs to process {self._process}, of which this one ({os.getpid()}) is a fork: "
                "make a new one here"
            )

    def add(self, timer: TimerT) -> TimerT:
        """Takes a timer in and returns it. If the group is active, the timer is started."""
        self._check(timer)
        self._check_process()
        is_new, started = timer not in self, list[AnyTimer]()
        try:
            # In first: whoever starts the group from here on finds it.
            self._take_in(timer)
            life = self._life
            if life.is_started:
                self._start_members([timer], life, started)
            self._yield_to_stop(life, started)
        except BaseException:
            _ask_all(started, "cancel")
            if is_new:
                self.discard(timer)
            raise
        return timer

    def start(self) -> None:
        """Starts all members that do not run yet. If one of them cannot be started, none is.

        Does nothing if the group is active: a member that has ended since is left alone.
        """
        self._check_process()
        life, started = self._life, list[AnyTimer]()
        if life.is_started:
            return
        life.is_wanted = True
        members = list(self)
        try:
            if self._start_members(members, life, started):
                life.is_started = True
                # Who was added meanwhile found the group not active yet.
                self._start_members([timer for timer in self if timer not in members], life, started)
        except BaseException:
            # Who starts it as well has taken those that are asked to end now for running.
            if self._life is life:
                self._life = _Life()
            raise
        finally:
            self._yield_to_stop(life, started)

    def _start_members(self, timers: Iterable[AnyTimer], life: "_Life", started: list[AnyTimer]) -> bool:
        """Starts those that do not run, up to a stop, and notes which. Returns whether none has come."""
        for timer in timers:
            if self._life is not life:
                break
            if timer.is_running():
                continue
            started.append(timer)  # first: an interrupt may come right after the start
            try:
                timer.start()
            except TimerAlreadyRunningError:
                started.pop()  # somebody else was faster
        return self._life is life

    def _yield_to_stop(self, life: "_Life", started: list[AnyTimer]) -> None:
        """A stop since a start has begun has the last word; whoever starts the group anew has one after that."""
        if self._life is not life and not self._life.is_wanted:
            _ask_all(started, "cancel")

    def __enter__(self) -> Self:
        """Starts it."""
        idle = [timer for timer in self if not timer.is_running()]
        try:
            self.start()
        except BaseException:
            self._life = _Life()  # an interrupt may come right after the start
            _ask_all(idle, "cancel").wait(None, True)
            raise
        return self

    def __exit__(self, *_exc_info: object) -> None:
        """Cancels it."""
        self.cancel_all()

    def is_running(self) -> bool:
        """Whether the group is active and all its members run."""
        return self._is_active() and all(timer.is_running() for timer in self)

    def cancel_all(self, timeout: Duration | None = None) -> None:
        """Cancels all members; returns when nothing is left of their runs.

        A member that cannot be waited for here is logged, and the others end all the same. Raises `TimeoutError`
        if a run is still in flight then. No other follows it. Of members whose runs call this each waits for those
        that do so later.
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
        are not waited for, as told at `cancel_all`, are left out.
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

    def _end(
        self, verb: str, timeout: Duration | None, grace: Duration | None = None
    ) -> list[tuple[AnyTimer, Any]]:
        _check_limit(timeout)
        if grace is not None:
            _nanoseconds("grace", grace)
        self._check_process()
        with self._ending(current_timer()) as wait_for_this:
            timers, asked = self._ask_to_end(grace, wait_for_this)
            answers = asked.wait(timeout, True)
        ended: list[tuple[AnyTimer, Any]] = []
        late: TimeoutError | None = None
        for timer, answer in zip(timers, answers, strict=True):
            if isinstance(answer, TimeoutError):
                late = late or answer
            elif isinstance(answer, BaseException):
                self._log_refusal(verb, timer, answer)
            else:
                ended.append((timer, answer))
        if late is not None:
            raise late
        return ended

    def _ask_to_end(
        self, grace: Duration | None, left_out: Container[AnyTimer]
    ) -> tuple[list[AnyTimer], Any]:
        """Asks all members to end. The answers are those of all but the ones left out.

        A start on another thread that comes in between is one that came before.
        """
        self._life = _Life()
        while True:
            timers = list(self)
            _ask_all([timer for timer in timers if timer in left_out], "cancel", grace=grace)
            timers = [timer for timer in timers if timer not in left_out]
            asked = _ask_all(timers, "cancel", grace=grace)
            before, self._life = self._life, _Life()
            if not before.is_wanted:
                return timers, asked


class _Life:
    """What becomes of a group between two stops."""

    __slots__ = ("is_started", "is_wanted")

    def __init__(self) -> None:
        self.is_wanted = False
        """Somebody has begun to start it."""
        self.is_started = False


def _check_limit(timeout: Duration | None) -> None:
    """A bad one is refused before anybody is asked."""
    if timeout is not None:
        _nanoseconds("timeout", timeout)
