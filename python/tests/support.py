"""What the tests share: event loops in virtual time, and what can be asked of an awaitable by hand."""

import asyncio
import contextvars
import heapq
import itertools
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Protocol, cast

import uvloop

NANOS = 1_000_000_000
# Not zero, so that nobody takes the time of the loop for the time since the start of the test.
ORIGIN = 1_000 * NANOS


class VirtualTime(asyncio.AbstractEventLoop):
    """An event loop whose clock jumps to the next scheduled call when nothing is ready.

    The clock counts whole nanoseconds. It stands still while a thread is at work for the loop, that is in
    `run_in_executor` and in `outside`. For both loops time passes here alone: theirs knows milliseconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nanos = ORIGIN
        self._scheduled_calls: list[tuple[int, int, int, asyncio.TimerHandle]] = []
        self._order = 0
        self._calls = 0  # how often anybody has asked for a call soon
        self._watching = False
        self._threads_at_work = 0

    def time(self) -> float:
        return self.nanos / NANOS

    def advance(self, seconds: float) -> None:
        """Nothing of the process runs for so long: a busy loop, a machine that sleeps."""
        self.nanos += round(seconds * NANOS)

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Time stands still meanwhile: other threads will call."""
        self._threads_at_work += 1
        try:
            yield
        finally:
            self._threads_at_work -= 1
            self._watch()

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
        before_others: bool = False,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._order += 1
        key = round(when * NANOS), 0 if before_others else 1, self._order
        heapq.heappush(self._scheduled_calls, (*key, handle))
        self._watch()
        return handle

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        self._calls += 1
        return super().call_soon(callback, *args, context=context)

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        self._calls += 1
        return super().call_soon_threadsafe(callback, *args, context=context)

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> asyncio.Future[Any]:
        done = cast("asyncio.Future[Any]", super().run_in_executor(executor, func, *args))
        outside = self.outside()
        outside.__enter__()
        done.add_done_callback(lambda _: outside.__exit__(None, None, None))
        return done

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        with self.outside():
            await super().shutdown_default_executor()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Handles tell their loop. Here they are dropped when their time comes."""

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._jump_soon(-1)

    def _jump_soon(self, calls_before: int, quiet: int = 0) -> None:
        # In a context of its own, since the current one may hold whoever called first.
        super().call_soon(self._jump, calls_before, quiet, context=contextvars.Context())

    def _jump(self, calls_before: int, quiet: int) -> None:
        """Runs once in each iteration: when it finds that nobody has asked for a call since the one before,
        there is nothing left to do now."""
        calls, scheduled = self._calls, self._scheduled_calls
        if calls != calls_before:
            self._jump_soon(calls)
            return
        while scheduled and scheduled[0][3].cancelled():
            heapq.heappop(scheduled)
        if self._threads_at_work or not (scheduled or asyncio.all_tasks(self)):
            self._watching = False
        elif scheduled:
            moment = scheduled[0][:2]
            self.nanos = max(self.nanos, moment[0])
            while scheduled and scheduled[0][:2] == moment:
                self._run_due(heapq.heappop(scheduled)[3])
            self._jump_soon(self._calls)
        elif quiet < 100:
            self._jump_soon(calls, quiet + 1)
        else:
            self._watching = False
            self.stop()  # nothing will ever happen: whoever runs the loop says so

    def _run_due(self, handle: asyncio.TimerHandle) -> None:
        # The two attributes are those that asyncio's own loops go by.
        callback, args, context = handle._callback, handle._args, handle._context  # type: ignore[attr-defined]
        if not handle.cancelled():
            # Called in the handle's stead, so that one which is cancelled until then is not.
            self.call_soon(lambda: handle.cancelled() or callback(*args), context=context)


class VirtualStockLoop(VirtualTime, asyncio.SelectorEventLoop):
    """asyncio's own loop in virtual time."""


class VirtualUvloop(VirtualTime, uvloop.Loop):
    """uvloop in virtual time."""


VIRTUAL_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "stock": VirtualStockLoop,
    "uvloop": VirtualUvloop,
}
REAL_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "stock": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


def virtual() -> VirtualTime:
    """The running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTime)
    return loop


class Stopwatch:
    """The time since it was made."""

    def __init__(self) -> None:
        self._loop = virtual()
        self._began = self._loop.nanos

    @property
    def nanos(self) -> int:
        return self._loop.nanos - self._began

    @property
    def ms(self) -> float:
        return self.nanos / 1_000_000


class _Awaitable(Protocol):
    def __await__(self) -> Generator[Any, Any, Any]: ...


PENDING = object()


def settled(awaitable: _Awaitable) -> Any:
    """What an awaitable has to say without waiting: `PENDING` if it would have to."""
    steps = awaitable.__await__()
    try:
        steps.send(None)
    except StopIteration as stop:
        return stop.value
    steps.close()
    return PENDING


async def spin(times: int = 10) -> None:
    """Lets everybody else have some turns, in which no time passes."""
    for _ in range(times):
        await asyncio.sleep(0)


class Times:
    """A target that writes down when it was called, in milliseconds from the making of the list."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self._watch = Stopwatch()

    def __call__(self) -> int:
        self.at.append(self._watch.ms)
        return len(self.at)

    def taking(self, seconds: float) -> Callable[[], Any]:
        """The same as a coroutine function that takes its time."""

        async def run() -> int:
            number = self()
            await asyncio.sleep(seconds)
            return number

        return run


class AskedLoop(asyncio.SelectorEventLoop):
    """Knows when another thread has asked it for something."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def call_soon_threadsafe(self, *args: Any, **options: Any) -> asyncio.Handle:
        handle = super().call_soon_threadsafe(*args, **options)
        self.asked.set()
        return handle


def at_line(file: str, place: int, act: Callable[[], object], event: Callable[[], object]) -> bool:
    """Does this, and when it comes to the line of this number in the file that, as from the handler of a signal.

    Returns whether there are so many lines on the way. A `KeyboardInterrupt` goes no further.
    """
    lines = itertools.count()

    def trace(frame: FrameType, what: str, _: Any) -> Any:
        if frame.f_code.co_filename != file:
            return None
        if what == "line" and next(lines) == place:
            event()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    with suppress(KeyboardInterrupt):
        try:
            act()
        finally:
            sys.settrace(before)
    return next(lines) > place


def interrupt() -> None:
    raise KeyboardInterrupt
