"""The timer."""

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeVar

from everbeat._everbeat import Timer as _Timer
from everbeat._options import Callback, Duration, Mode
from everbeat.compat.async_timer.pacemaker import TimerPacemaker
from everbeat.compat.async_timer.target_caller import Caller
from everbeat.exceptions import TimerNotRunningError

__all__ = ["Timer"]

T = TypeVar("T")


@contextmanager
def _as_cancelled() -> Iterator[None]:
    """Who waits for a timer that has stopped is told so as if the waiting had been cancelled."""
    try:
        yield
    except TimerNotRunningError as error:
        raise asyncio.CancelledError(str(error)) from error


class Timer(_Timer[T], Generic[T]):
    """`everbeat.Timer`, except for what waiting for a stopped timer raises."""

    pacemaker: TimerPacemaker
    _pacemaker_type: ClassVar[type[TimerPacemaker]] = TimerPacemaker

    def __init__(
        self,
        delay: Duration,
        target: Any,
        exc_cb: Callback | None = None,
        cancel_cb: Callback | None = None,
        cancel_aws: Sequence[Awaitable[Any]] | None = None,
        start: bool = False,
        *,
        mode: Mode = "fixed_delay",
        initial_delay: Duration = 0.0,
        jitter: float = 0.0,
        name: str | None = None,
    ) -> None:
        self.exception_callback = exc_cb
        self.cancel_callback = cancel_cb
        self.target_caller = Caller(target)
        self.pacemaker = self._pacemaker_type(self, mode, initial_delay, jitter)
        super().__init__(
            delay,
            target,
            exc_cb,
            cancel_cb,
            cancel_aws,
            start,
            mode=mode,
            initial_delay=initial_delay,
            jitter=jitter,
            name=name,
        )

    async def join(self) -> T:
        with _as_cancelled():
            return await super().join()

    async def wait(
        self, hit_count: int | None = None, hits: int | None = None, timeout: Duration | None = None
    ) -> T | None:
        with _as_cancelled():
            return await super().wait(hit_count, hits, timeout)
