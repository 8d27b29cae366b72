"""Tests that do not sleep.

- `MockTimer` does not wait: it ticks as fast as the loop runs, and notes what it would have slept.
- `TestClock` is moved by hand. It moves the timers that are started while it is installed and nothing else:
  neither `asyncio.sleep` nor the time limits of waits.
- `VirtualLoop` is an event loop whose clock jumps to the next call whenever nothing is left to do. It moves
  everything: timers, `asyncio.sleep`, time limits.
- `TestEngine` is to the timers of `everbeat.threading` what `TestClock` is to those of a loop.

As fixtures of pytest: `everbeat_clock` and `everbeat_engine`.
"""

import asyncio
import math
import selectors
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from functools import cached_property
from typing import Any, Generic, Self, TypeVar

from everbeat._everbeat import TestEngine, Timer, _install_clock, _nanoseconds
from everbeat._options import Duration
from everbeat.exceptions import TimerError

__all__ = ["MockTimer", "NothingDueError", "TestClock", "TestEngine", "VirtualLoop", "run"]

T = TypeVar("T")

# Everything has settled once this many rounds of the loop in a row saw no timer set its alarm.
_QUIET_ROUNDS = 32


class NothingDueError(TimerError):
    """Somebody waits, but nothing that they could wait for is to come."""


class TestClock:
    """A clock that a test moves by hand.

    Timers that are started within `with clock:` tick only while it moves, in the order of their deadlines, and
    everything that one of them wakes settles before the next. Work in threads takes real time, which the
    clock does not wait for. Beside a timer of period zero, which is always due, the others are not seen to be
    due before the clock has gone all the way.
    """

    __test__ = False  # not for pytest to collect

    def __init__(self) -> None:
        self._hands = _Hands()
        self._before: list[Any] = []
        self._moving = asyncio.Lock()

    def __enter__(self) -> Self:
        self._before.append(_install_clock(self._hands))
        return self

    def __exit__(self, *exc: object) -> None:
        _install_clock(self._before.pop())

    def time(self) -> float:
        """The seconds since it was made: what `last_tick_at` of its timers counts."""
        return self._hands.now / 1e9

    def next_due(self) -> float | None:
        """The time of the next deadline."""
        return None if self._hands.due is None else self._hands.due / 1e9

    async def advance(self, span: Duration) -> None:
        """Moves time by `span`. Every timer that comes due runs at its own time."""
        async with self._moving:
            end = self._hands.now + _nanoseconds("span", span)
            await self._settle()
            while self._hands.due is not None and self._hands.due <= end:
                await self._move_to(self._hands.due)
            self._hands.now = max(self._hands.now, end)
            await self._settle()

    async def advance_to_next(self) -> float | None:
        """Moves time to the next deadline; returns how far that was, in seconds. `None`: there is none."""
        async with self._moving:
            await self._settle()
            start, due = self._hands.now, self._hands.due
            if due is None:
                return None
            await self._move_to(due)
            return (self._hands.now - start) / 1e9

    async def settle(self) -> None:
        """Lets everything happen that can without moving time."""
        async with self._moving:
            await self._settle()

    async def run_until(self, awaitable: Awaitable[T]) -> T:
        """Moves time until there is a result.

        Raises `NothingDueError` when no timer is due and it still waits.
        """
        future = asyncio.ensure_future(awaitable)
        try:
            while True:
                await self.settle()
                if future.done():
                    return await future
                if await self.advance_to_next() is None:
                    raise NothingDueError(f"no timer of the clock is due, but {awaitable!r} still waits")
        finally:
            if future is not awaitable:
                future.cancel()

    async def _move_to(self, due: int) -> None:
        self._hands.ring(due)
        await self._settle()

    async def _settle(self) -> None:
        quiet = 0
        while quiet < _QUIET_ROUNDS:
            stirred = self._hands.stirred
            await asyncio.sleep(0)
            quiet = quiet + 1 if stirred == self._hands.stirred else 0

    def __repr__(self) -> str:
        return f"<TestClock time={self.time()}>"


class _Hands:
    """What timers see of a `TestClock`."""

    def __init__(self) -> None:
        self.now = 0
        self.due: int | None = None
        self.stirred = 0
        self._turn: Callable[[], None] | None = None

    def elapsed(self) -> int:
        return self.now

    def set_alarm(self, due: int | None, turn: Callable[[], None]) -> bool:
        self.due, self._turn = due, turn
        self.stirred += 1
        return True

    def ring(self, due: int) -> None:
        """Time is `due`: the timers have their turn, as the loop would call it."""
        self.now = max(self.now, due)
        turn, self.due, self._turn = self._turn, None, None
        if turn is not None:
            asyncio.get_running_loop().call_soon(turn)


class _Instantly:
    """The clock of a `MockTimer`: whoever sets an alarm is woken soon, and then it is that time.

    It stands still during a run, whose limits are never reached: only the run itself can end it.
    """

    def __init__(self, timer: "MockTimer[Any]") -> None:
        self._now = 0
        # Weak, since the timer holds its clock where the collector does not look.
        self._timer = weakref.ref(timer)
        self._alarm: tuple[int, Callable[[], None]] | None = None

    def elapsed(self) -> int:
        return self._now

    def set_alarm(self, due: int | None, turn: Callable[[], None]) -> bool:
        self._alarm = None
        timer = self._timer()
        if due is None or timer is None:
            return True
        if self._stands_still():
            return False
        self._alarm = alarm = (due, turn)
        timer._note_sleep((due - self._now) / 1e9)
        loop = asyncio.get_running_loop()
        # In the round after the next: what is asked of the timer meanwhile comes before time passes.
        loop.call_soon(lambda: loop.call_soon(self._ring, alarm))
        return True

    def _ring(self, alarm: tuple[int, Callable[[], None]]) -> None:
        if alarm is self._alarm:
            due, turn = alarm
            self._alarm = None
            # A run may have been triggered meanwhile: the turn sets the alarm anew.
            if not self._stands_still():
                self._now = max(self._now, due)
            turn()

    def _stands_still(self) -> bool:
        timer = self._timer()
        return timer is not None and Timer.stats(timer).busy


class MockTimer(Timer[T], Generic[T]):
    """A `Timer` that does not wait: the time of its own jumps to whatever it waits for.

    That stands still during a run. So `run_timeout` and the grace of a shutdown never strike: a run ends by
    itself, or when the timer is cancelled.
    """

    @cached_property
    def sleeps(self) -> list[float]:
        """What it would have slept, in seconds."""
        return []

    @cached_property
    def _clock(self) -> _Instantly:
        return _Instantly(self)

    def start(self) -> None:
        self._use_clock(self._clock)
        super().start()

    def _note_sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while anything is left to do, and then jumps to the next call.

    Time starts at zero and is exact to a nanosecond, or, after 97 days, to what a float of seconds can tell. It
    does not pass while the loop's executor works. Sockets that are ready come before a jump, but nobody waits for
    a peer who takes real time.

    Where a usual loop would wait for ever, this one raises `NothingDueError`.
    """

    def __init__(self) -> None:
        self._nanos = 0
        self._jobs = 0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._nanos / 1e9

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        job = super().run_in_executor(executor, func, *args)
        self._jobs += 1
        job.add_done_callback(self._end_job)
        return job

    async def shutdown_default_executor(self, *args: Any) -> None:
        self._jobs += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._jobs -= 1

    def _end_job(self, job: object) -> None:
        self._jobs -= 1

    def _jump(self, seconds: float) -> None:
        # At least a nanosecond: what is a fraction of one away shall come too.
        self._nanos += max(1, round(seconds * 1e9))
        # asyncio calls what is due before the time plus this, so a time that this is lost in is never reached.
        self._clock_resolution = max(1e-9, math.ulp(self.time()))


class _Jumping(selectors.DefaultSelector):
    """In place of waiting moves the clock of its loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        # The loop itself has one file registered, by which other threads wake it.
        has_peers = timeout is None and len(self.get_map()) > 1
        if self._loop._jobs > 0 or has_peers:
            return super().select(None)
        if timeout is None:
            raise NothingDueError("everybody in the loop waits, and nothing is scheduled that could end it")
        self._loop._jump(timeout)
        return ready


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, on a `VirtualLoop`."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
