"""The compiled part of the package."""

from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable
from types import GenericAlias
from typing import Any, Generic, Literal, Self, TypeVar, final

from everbeat._options import Callback, Duration, Mode
from everbeat._policies import Backoff, Burst
from everbeat.threading import Engine

T = TypeVar("T")

__version__: str

class Timer(Generic[T]):
    def __init__(
        self,
        delay: Duration,
        target: Any,
        exc_cb: Callback | None = None,
        cancel_cb: Callback | None = None,
        cancel_aws: Iterable[Awaitable[Any]] | None = None,
        start: bool = False,
        *,
        mode: Mode | None = None,
        initial_delay: Duration | None = None,
        jitter: float | None = None,
        name: str | None = None,
        seed: int | None = None,
        on_error: Literal["stop", "continue"] | Backoff | None = None,
        missed: Literal["skip", "delay"] | Burst | None = None,
        run_timeout: Duration | None = None,
        run_for: Duration | None = None,
        max_runs: int | None = None,
        max_lateness: Duration | None = None,
        keep_phase: bool = False,
        offload: bool = False,
        precision: Literal["coarse", "fine"] | None = None,
        histograms: bool = False,
    ) -> None: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    @property
    def delay(self) -> float: ...
    @property
    def hit_count(self) -> int: ...
    @property
    def last_result(self) -> T | None: ...
    @property
    def last_tick_at(self) -> float | None: ...
    @property
    def name(self) -> str | None: ...
    def start(self) -> None: ...
    def cancel(self) -> Coroutine[Any, Any, None]: ...
    def stop(self) -> Coroutine[Any, Any, None]: ...
    def shutdown(self, grace: Duration) -> Coroutine[Any, Any, Literal["drained", "cancelled", "failed"]]: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def is_running(self) -> bool: ...
    def is_paused(self) -> bool: ...
    def set_delay(self, new_delay: Duration, *, rearm: bool = False) -> None: ...
    def join(self) -> Coroutine[Any, Any, T]: ...
    def trigger(self) -> Coroutine[Any, Any, T]: ...
    def wait(
        self, hit_count: int | None = None, hits: int | None = None, timeout: Duration | None = None
    ) -> Coroutine[Any, Any, T | None]: ...
    def subscribe(
        self,
        maxsize: int = 0,
        *,
        name: str | None = None,
        overflow: Literal["drop_oldest", "drop_newest"] = "drop_oldest",
    ) -> Subscription[T]: ...
    def cancel_threadsafe(self, timeout: Duration | None = None) -> None: ...
    def trigger_threadsafe(self, timeout: Duration | None = None) -> T: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> T: ...
    def _current_tick(self) -> Tick | None: ...
    def _use_clock(self, clock: Any) -> None: ...

@final
class Subscription(Generic[T]):
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    @property
    def qsize(self) -> int: ...
    @property
    def dropped_count(self) -> int: ...
    @property
    def name(self) -> str | None: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def drop_oldest(self, n: int = 1) -> int: ...
    def close(self) -> None: ...
    def close_threadsafe(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> T: ...

@final
class Tick:
    """What a run is told about itself, and what a schedule without a target gives."""

    @property
    def run(self) -> int:
        """The number of the run, from 1; goes on over restarts."""

    @property
    def slot(self) -> int:
        """The index on the grid, from 0 at each start."""

    @property
    def scheduled(self) -> float:
        """When it was due: seconds on the clock of its loop, or, on threads, on that of `time.monotonic`."""

    @property
    def lateness(self) -> float:
        """How many seconds after that it came."""

    @property
    def missed(self) -> int:
        """How many slots were dropped since the one before."""

    @property
    def cause(self) -> Literal["schedule", "trigger", "retry"]:
        """Why it came."""

@final
class Ticks(AsyncIterator[Tick]):
    """A schedule without a target. It begins with the first tick that is asked for, or with `async with`.

    What lies between a tick and the request for the next is the run.
    """

    @property
    def name(self) -> str: ...
    @property
    def delay(self) -> float:
        """The period, in seconds."""

    def is_running(self) -> bool:
        """Whether it has begun and has not ended."""

    def trigger(self) -> None:
        """Has it tick now. Raises `TimerNotRunningError` if it has not begun or has ended."""

    def set_delay(self, new_delay: Duration, *, rearm: bool = False) -> None:
        """Another period, from the next wait on; with `rearm` for the wait in progress too."""

    def pause(self) -> None:
        """Suspends it: the slots until `resume` are skipped."""

    def resume(self) -> None: ...
    def cancel(self) -> Coroutine[Any, Any, None]:
        """Ends it. That is done by the call; there is no need to await it."""

    def aclose(self) -> Coroutine[Any, Any, None]:
        """As `cancel`."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> Tick: ...

def ticks(
    delay: Duration,
    *,
    mode: Mode | None = None,
    initial_delay: Duration | None = None,
    jitter: float | None = None,
    seed: int | None = None,
    missed: Literal["skip", "delay"] | Burst | None = None,
    max_runs: int | None = None,
    run_for: Duration | None = None,
    max_lateness: Duration | None = None,
    keep_phase: bool = False,
    name: str = "ticks",
) -> Ticks:
    """A schedule without a target, as an async iterator; the options are those of `Timer`."""

@final
class TestEngine(Engine):
    """An engine for timers on threads that a test moves by hand, on the test's own thread.

    It runs the timers that are given it, and within `with engine:` all that have no engine of their own, in
    the order of their deadlines, each at exactly its time. Nothing sleeps, and no other thread is involved.
    """

    def __new__(cls) -> Self: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def time(self) -> float:
        """The seconds since it was made."""

    def next_due(self) -> float | None:
        """The time of the next deadline."""

    def advance(self, span: Duration) -> None:
        """Moves time by `span`. Every timer that comes due runs at its own time."""

    def advance_to_next(self) -> float | None:
        """Moves time to the next deadline; returns how far that was, in seconds. `None`: there is none."""

    def settle(self) -> None:
        """Runs whatever can run without moving time."""

    def spend(self, span: Duration) -> None:
        """Has time pass without running anything: for a run that takes that long."""

def _install_clock(clock: Any) -> Any: ...
def _nanoseconds(field: str, given: Duration) -> int: ...
