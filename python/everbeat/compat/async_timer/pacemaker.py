"""The schedule of a timer, as an object of its own."""

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self, TypeAlias

from everbeat._durations import ns
from everbeat._everbeat import Ticks, Timer, _nanoseconds, ticks
from everbeat._options import Duration, Mode

__all__ = ["PacemakerMode", "TimerPacemaker"]

PacemakerMode: TypeAlias = Mode

_FOR_EVER = ns(2**63)
_logger = logging.getLogger("everbeat.compat")


class TimerPacemaker:
    """A schedule: that of a timer, or one by itself, which is an async iterator. Its `delay` can be set."""

    def __init__(
        self,
        delay: Duration,
        *,
        mode: PacemakerMode = "fixed_delay",
        initial_delay: Duration = 0.0,
        jitter: float = 0.0,
    ) -> None:
        self._ticks = ticks(delay, mode=mode, initial_delay=initial_delay, jitter=jitter, name="pacemaker")
        self._timer: Callable[[], Timer[Any] | None] = _nobody
        self._stops: list[asyncio.Future[Any]] = []
        self._fixed = (mode, initial_delay, jitter)
        self._note_delay(delay)

    def _lead(self, timer: Timer[Any]) -> None:
        """Is the schedule of this timer from now on, which holds it."""
        self._timer = weakref.ref(timer)

    @property
    def _schedule(self) -> Timer[Any] | Ticks:
        return self._timer() or self._ticks

    @property
    def delay(self) -> float:
        return self._delay

    @delay.setter
    def delay(self, new_delay: Duration) -> None:
        self._schedule.set_delay(new_delay)
        self._note_delay(new_delay)

    def _note_delay(self, delay: Duration) -> None:
        """The schedule counts nanoseconds; who gave a third of a second reads a third of a second."""
        if isinstance(delay, int | float) and not isinstance(delay, ns):
            self._delay: float = delay
        else:
            self._delay = _nanoseconds("delay", delay) / 1e9

    @property
    def mode(self) -> PacemakerMode:
        return self._fixed[0]

    @mode.setter
    def mode(self, mode: PacemakerMode) -> None:
        raise _fixed("mode")

    @property
    def initial_delay(self) -> Duration:
        return self._fixed[1]

    @initial_delay.setter
    def initial_delay(self, initial_delay: Duration) -> None:
        raise _fixed("initial_delay")

    @property
    def jitter(self) -> float:
        return self._fixed[2]

    @jitter.setter
    def jitter(self, jitter: float) -> None:
        raise _fixed("jitter")

    def trigger(self) -> None:
        """Has it tick now, if it waits."""
        schedule = self._schedule
        if isinstance(schedule, Timer):
            _ = Timer.trigger(schedule)  # asked by the call
        elif schedule.is_running():
            schedule.trigger()

    def stop(self) -> None:
        """Ends it. The current run of a timer may finish."""
        schedule = self._schedule
        _ = schedule.cancel() if isinstance(schedule, Ticks) else schedule.shutdown(_FOR_EVER)
        stops, self._stops = self._stops, []
        for future in stops:
            future.cancel()

    def stop_on(self, aws: Iterable[Awaitable[Any]]) -> None:
        """Ends it when the first of these is done, or has failed."""
        for awaitable in aws:
            future = asyncio.ensure_future(awaitable)
            self._stops.append(future)
            future.add_done_callback(self._stop_by)

    def _stop_by(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            _logger.error("what should stop a pacemaker failed, it stops", exc_info=error)
        self.stop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> None:
        if self._timer() is not None:
            raise TypeError("this pacemaker leads a timer: iterate over the timer")
        await anext(self._ticks)


def _nobody() -> None:
    return None


def _fixed(field: str) -> AttributeError:
    return AttributeError(f"the {field} of a pacemaker cannot be set: make another timer")
