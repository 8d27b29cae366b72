"""The timer."""

import asyncio
import logging
import math
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Sequence,
)
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeAlias, TypeVar, overload

from everbeat._everbeat import Timer as _Timer
from everbeat._options import Duration, Mode
from everbeat.compat.async_timer.pacemaker import TimerPacemaker
from everbeat.compat.async_timer.target_caller import Caller
from everbeat.exceptions import TimerNotRunningError, TimerStoppedError

__all__ = ["Timer", "TimerCallbackT", "TimerMainTaskT"]

T = TypeVar("T")

TimerMainTaskT: TypeAlias = (
    Callable[[], T]
    | Callable[[], Coroutine[Any, Any, T]]
    | Callable[[], AsyncGenerator[T, Any]]
    | Callable[[], Generator[T, Any, Any]]
    | AsyncGenerator[T, Any]
    | Generator[T, Any, Any]
)
TimerCallbackT: TypeAlias = Callable[["Timer[T]", TimerMainTaskT[T]], None]
# As type checkers are to see it: most callbacks take timers of any values.
Callback: TypeAlias = Callable[["Timer[Any]", Any], object]


def _log_failure(timer: "Timer[Any]", target: Any) -> None:
    name = timer.stats().name
    logging.getLogger(f"everbeat.timer.{name}").exception("a run of timer %r failed", name)


def _do_nothing(timer: "Timer[Any]", target: Any) -> None: ...


# What the timer calls looks for the callback then: it can be another one by that time.
def _tell_failure(timer: Any, target: Any) -> None:
    timer.exception_callback(timer, target)


def _tell_end(timer: Any, target: Any) -> None:
    timer.cancel_callback(timer, target)


def time_limit(timeout: Any) -> Any:
    """As asyncio takes them: of a limit that has passed nothing is left, and one that is infinite is none."""
    if not isinstance(timeout, int | float):
        return timeout
    return None if timeout == math.inf else max(timeout, 0)


@contextmanager
def _as_cancelled(kind: type[TimerNotRunningError]) -> Iterator[None]:
    """Who waits for a timer that has stopped is told so as if the waiting had been cancelled."""
    try:
        yield
    except kind as error:
        raise asyncio.CancelledError(str(error)) from error


class Timer(_Timer[T], Generic[T]):
    """`everbeat.Timer`, except for what waiting for a stopped timer raises, and what can be assigned."""

    pacemaker: TimerPacemaker
    target_caller: Caller[T]
    exception_callback: Callback
    cancel_callback: Callback
    _uncounted: int = 0
    _assigned_result: tuple[int, T | None] | None = None
    _assigned_tick_at: tuple[int, float | None] | None = None

    @overload
    def __init__(
        self,
        delay: Duration,
        target: AsyncIterator[T] | Iterator[T],
        exc_cb: Callback = ...,
        cancel_cb: Callback = ...,
        cancel_aws: Sequence[Awaitable[Any]] | None = None,
        start: bool = False,
        *,
        mode: Mode = "fixed_delay",
        initial_delay: Duration = 0.0,
        jitter: float = 0.0,
        name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        delay: Duration,
        target: Callable[[], AsyncIterator[T]],
        exc_cb: Callback = ...,
        cancel_cb: Callback = ...,
        cancel_aws: Sequence[Awaitable[Any]] | None = None,
        start: bool = False,
        *,
        mode: Mode = "fixed_delay",
        initial_delay: Duration = 0.0,
        jitter: float = 0.0,
        name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        delay: Duration,
        target: Callable[[], Awaitable[T]],
        exc_cb: Callback = ...,
        cancel_cb: Callback = ...,
        cancel_aws: Sequence[Awaitable[Any]] | None = None,
        start: bool = False,
        *,
        mode: Mode = "fixed_delay",
        initial_delay: Duration = 0.0,
        jitter: float = 0.0,
        name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        delay: Duration,
        target: Callable[[], Iterator[T]],
        exc_cb: Callback = ...,
        cancel_cb: Callback = ...,
        cancel_aws: Sequence[Awaitable[Any]] | None = None,
        start: bool = False,
        *,
        mode: Mode = "fixed_delay",
        initial_delay: Duration = 0.0,
        jitter: float = 0.0,
        name: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        delay: Duration,
        target: Callable[[], T],
        exc_cb: Callback = ...,
        cancel_cb: Callback = ...,
        cancel_aws: Sequence[Awaitable[Any]] | None = None,
        start: bool = False,
        *,
        mode: Mode = "fixed_delay",
        initial_delay: Duration = 0.0,
        jitter: float = 0.0,
        name: str | None = None,
    ) -> None: ...
    def __init__(
        self,
        delay: Duration,
        target: Any,
        exc_cb: Callback = _log_failure,
        cancel_cb: Callback = _do_nothing,
        cancel_aws: Sequence[Awaitable[Any]] | None = None,
        start: bool = False,
        *,
        mode: Mode = "fixed_delay",
        initial_delay: Duration = 0.0,
        jitter: float = 0.0,
        name: str | None = None,
    ) -> None:
        if not (callable(exc_cb) and callable(cancel_cb)):
            raise TypeError(f"exc_cb and cancel_cb must be callable, got {exc_cb!r} and {cancel_cb!r}")
        schedule: Any = {"mode": mode, "initial_delay": initial_delay, "jitter": jitter}
        self.exception_callback = exc_cb
        self.cancel_callback = cancel_cb
        self.target_caller = Caller(target)
        self.pacemaker = self._create_pacemaker(delay, **schedule)
        self.pacemaker._lead(self)
        super().__init__(
            delay, target, _tell_failure, _tell_end, cancel_aws or None, start, name=name, **schedule
        )

    if not TYPE_CHECKING:  # for which any attribute could be set then

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "name" or (name in ("pacemaker", "target_caller") and hasattr(self, name)):
                raise AttributeError(f"the {name} of a timer cannot be set: make another timer")
            super().__setattr__(name, value)

    def _create_pacemaker(self, delay: Duration, **schedule: Any) -> TimerPacemaker:
        return TimerPacemaker(delay, **schedule)

    @property
    def hit_count(self) -> int:
        """As that of `everbeat.Timer`, but it can be set."""
        return super().hit_count - self._uncounted

    @hit_count.setter
    def hit_count(self, count: int) -> None:
        self._uncounted = super().hit_count - count

    @property
    def last_result(self) -> T | None:
        """As that of `everbeat.Timer`, but it can be set, until the next tick."""
        assigned = self._assigned_result
        return assigned[1] if assigned and assigned[0] == super().hit_count else super().last_result

    @last_result.setter
    def last_result(self, result: T | None) -> None:
        self._assigned_result = super().hit_count, result

    @property
    def last_tick_at(self) -> float | None:
        """As that of `everbeat.Timer`, but it can be set, until the next tick."""
        assigned = self._assigned_tick_at
        return assigned[1] if assigned and assigned[0] == super().hit_count else super().last_tick_at

    @last_tick_at.setter
    def last_tick_at(self, moment: float | None) -> None:
        self._assigned_tick_at = super().hit_count, moment

    @property
    def delay(self) -> float:
        return self.pacemaker.delay

    def set_delay(self, new_delay: Duration, *, rearm: bool = False) -> None:
        super().set_delay(new_delay, rearm=rearm)
        self.pacemaker._note_delay(new_delay)

    # Coroutine functions, which mocks of a timer ask for.
    async def cancel(self) -> None:
        await super().cancel()

    async def stop(self) -> None:
        await self.cancel()

    async def join(self) -> T:
        with _as_cancelled(TimerNotRunningError):
            return await super().join()

    async def trigger(self) -> T:
        with _as_cancelled(TimerStoppedError):
            return await super().trigger()

    async def wait(
        self, /, hit_count: int | None = None, hits: int | None = None, timeout: Duration | None = None
    ) -> T | None:
        if hit_count is not None:
            hit_count, hits = max(0, hit_count + self._uncounted), None
        elif hits is not None:
            hits = max(0, hits)
        with _as_cancelled(TimerNotRunningError):
            return await super().wait(hit_count, hits, time_limit(timeout))

    def cancel_threadsafe(self, timeout: Duration | None = None) -> None:
        super().cancel_threadsafe(time_limit(timeout))

    def trigger_threadsafe(self, timeout: Duration | None = None) -> T:
        return super().trigger_threadsafe(time_limit(timeout))

    @property
    def main_task(self) -> NoReturn:
        raise AttributeError("a timer has no main_task: see is_running(), or await wait() or cancel()")

    @property
    def result_fanout(self) -> NoReturn:
        raise AttributeError("a timer has no result_fanout: await join()")

    @property
    def FanoutRv(self) -> NoReturn:
        raise AttributeError("a timer has no FanoutRv: await join()")
