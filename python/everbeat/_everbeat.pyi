"""The compiled part of the package: timers in an event loop. This stub is their manual.

A `Timer` calls its target again and again, in the event loop where it was started:

>>> import asyncio
>>> from everbeat import Timer
>>> async def main():
...     async with Timer(0.001, lambda: 42, name="answer") as timer:
...         print(await timer.wait(hit_count=3))
>>> asyncio.run(main())
42

Durations
    A number of seconds, a `datetime.timedelta` (exact to a microsecond) or an `everbeat.ns` (a whole number of
    nanoseconds). Negative, infinite and NaN durations are refused with `ScheduleError`, which is a
    `ValueError`; anything else with `TypeError`. Both name the field, and `ScheduleError` the value and what is
    allowed. One that reaches past the end of time is "never". Points in time are seconds as `loop.time()`
    counts them: no other clock is read, so a loop with a clock of its own works.

Awaiting
    Methods that are to be awaited make their request when they are called; the `await` only waits for the
    answer. An answer can be awaited once, wrapped in a task, gathered or given a time limit. A caller that is
    cancelled while it waits gets its `CancelledError`, always, and what was asked of the timer stands.
    Nothing is lost by that but the answer.

Threads
    The attributes of timers and feeds, `set_delay`, `pause`, `resume`, `close` and all methods with
    `_threadsafe` in their names can be used from any thread. Everything else belongs to the thread of the
    loop, except that an answer may be awaited in any loop.

Runs
    Runs of one timer never overlap. Sync targets run in the loop, without a task; coroutines run in one task
    per start, called `timer:<name>`. Both see the context variables as they were at `start()`, and what one run
    sets the next one sees. A target may do anything to its own timer but wait for its own later runs or for its
    end, which is refused with `TimerError`.

Failures
    An exception in a run is handed to `exc_cb`, or logged to the logger `everbeat.timer.<name>` if there is none.
    By default it ends the timer, and is raised to all who wait, and to all who ask later until the next
    start. `KeyboardInterrupt` and `SystemExit` leave the loop as well, as they would from a task.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from types import GenericAlias
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, Unpack, final, overload

from typing_extensions import disjoint_base

from everbeat import threading
from everbeat._current import TimerOnThreads
from everbeat._options import Callback, Duration, Mode, Options
from everbeat._policies import Burst
from everbeat.threading import Engine

_T = TypeVar("_T")

__all__ = [
    "Skipped",
    "Stats",
    "Subscription",
    "Summary",
    "TestEngine",
    "Tick",
    "Ticks",
    "Timer",
    "_ThreadAnswers",
    "_ThreadClosed",
    "_ThreadEngine",
    "_ThreadEngineStats",
    "_ThreadOneShot",
    "_ThreadPeriodicTask",
    "_ThreadScope",
    "_ThreadSubscription",
    "_ThreadTicks",
    "_ThreadTimer",
    "__version__",
    "_ask_all",
    "_check_wait",
    "_current_tick_of_thread",
    "_current_timer_of_thread",
    "_end_all_timers",
    "_engine_threads",
    "_install_clock",
    "_nanoseconds",
    "_thread_after",
    "_thread_ticks",
    "ticks",
]

__version__: str

@disjoint_base
class Timer(Generic[_T]):
    """A recurring timer in an event loop.

    `delay`
        The period: the time from the end of a run to the next, or, at a fixed rate, from slot to slot. 0 means
        as often as possible, with a turn for everybody else in between.
    `target`
        What is run: a function, a coroutine function, or any other callable without parameters; what it returns
        is awaited if it can be. An iterator, a generator or their async kin gives one item a run, and its
        end ends the timer, as does a call that raises `StopIteration` (the `__next__` of an iterator); a callable
        that returns one is called anew at each start, and an async generator that it made is closed at the end.
    `exc_cb`
        `exc_cb(timer, target)`, called for each failure while it is being handled: `sys.exc_info()` and
        `logger.exception` know it.
    `cancel_cb`
        `cancel_cb(timer, target)`, called exactly once for each start, when the timer has ended for whatever
        reason. Callbacks are plain functions. One that fails, or makes a coroutine, is logged, and changes
        nothing else.
    `cancel_aws`
        Awaitables. The first that is done stops the timer after its current run. They serve for one start.
    `start`
        Whether to start at once.
    `mode`
        `"fixed_delay"` (default): the next run is due one period after the end of the last. `"fixed_rate"`:
        slot k is due at the first tick + k periods, exactly, at any age.
    `initial_delay`
        How long after the start the first tick is due. Default: at once.
    `jitter`
        From 0 to 1. Each wait is longer or shorter by up to this fraction of the period, drawn evenly. At a fixed
        rate the grid stays where it is. `seed` makes the draws repeatable.
    `name`
        For logs, errors, the task and the repr. Default: the name of the target.
    `on_error`
        `"stop"` (default), `"continue"`, or a `Backoff`.
    `missed`
        What becomes of slots that pass during a long run: `"skip"` (default: the next run is at the next
        slot in the future), `"delay"` (the grid starts anew at the end of the late run), or a `Burst`.
    `run_timeout`
        The time limit of a run. A longer one is cancelled, and when it has cleaned up it counts as failed with
        `TimeoutError`. Sync runs cannot be interrupted: theirs counts when they return.
    `run_for`, `max_runs`
        How long, or how many runs after each start the timer ends.
    `max_lateness`
        A tick that would be later than this is skipped.
    `keep_phase`
        At a fixed rate: whether triggered runs leave the grid alone, where otherwise it starts anew at them.
    `offload`
        Whether sync runs, and the items of sync iterators, are made on a worker thread (`asyncio.to_thread`), for
        those that block. A cancel waits for them. What is to be awaited is awaited in the loop.
    `precision`
        `"coarse"` (default): as the loop wakes up. asyncio rounds its waits up to a millisecond, and where timers
        with periods of 100 ms and more have little to do in each wake-up, they share one every two milliseconds.
        `"fine"`: as precise as the system, on Linux by a timer of the kernel; elsewhere, where no file descriptor
        is left for one, and in a loop whose `time()` is neither that of asyncio nor of uvloop, as `"coarse"`.
    `histograms`
        Whether `stats()` has figures of lateness and duration.

    A started timer lives until it ends, whether or not anybody holds it; when its loop is shut down, as
    `asyncio.run` does it, it ends too. Subclasses call `super().__init__` once.

    >>> async def main():
    ...     ticks = iter("abc")
    ...     async with Timer(0.001, ticks, mode="fixed_rate") as timer:
    ...         print([letter async for letter in timer])
    >>> asyncio.run(main())
    ['a', 'b', 'c']
    """

    @overload
    def __init__(
        self,
        delay: Duration,
        target: AsyncIterator[_T] | Iterator[_T],
        exc_cb: Callback | None = None,
        cancel_cb: Callback | None = None,
        cancel_aws: Iterable[Awaitable[Any]] | None = None,
        start: bool = False,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self,
        delay: Duration,
        target: Callable[[], AsyncIterator[_T]],
        exc_cb: Callback | None = None,
        cancel_cb: Callback | None = None,
        cancel_aws: Iterable[Awaitable[Any]] | None = None,
        start: bool = False,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self,
        delay: Duration,
        target: Callable[[], Awaitable[_T]],
        exc_cb: Callback | None = None,
        cancel_cb: Callback | None = None,
        cancel_aws: Iterable[Awaitable[Any]] | None = None,
        start: bool = False,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self,
        delay: Duration,
        target: Callable[[], Iterator[_T]],
        exc_cb: Callback | None = None,
        cancel_cb: Callback | None = None,
        cancel_aws: Iterable[Awaitable[Any]] | None = None,
        start: bool = False,
        **options: Unpack[Options],
    ) -> None: ...
    @overload
    def __init__(
        self,
        delay: Duration,
        target: Callable[[], _T],
        exc_cb: Callback | None = None,
        cancel_cb: Callback | None = None,
        cancel_aws: Iterable[Awaitable[Any]] | None = None,
        start: bool = False,
        **options: Unpack[Options],
    ) -> None: ...
    def __class_getitem__(cls, key: Any) -> GenericAlias: ...
    @property
    def delay(self) -> float:
        """The period in seconds."""

    @property
    def hit_count(self) -> int:
        """How many runs have delivered a value, over all starts. The N-th of them reads N - 1."""

    @property
    def last_result(self) -> _T | None:
        """The latest value; `None` before the first."""

    @property
    def last_tick_at(self) -> float | None:
        """When the latest value came, by the clock of the loop; `None` before the first."""

    @property
    def name(self) -> str | None:
        """As it was given."""

    @property
    def target_object(self) -> Any:
        """The target, as it was given."""

    def start(self) -> None:
        """Begins the schedule, in the loop that is running. Counts go on from the start before.

        Raises `TimerAlreadyRunningError` if it runs, `TimerRestartError` on the second start of a timer with
        `cancel_aws`, and `RuntimeError` if no loop is running. A timer that has ended may be started in another
        loop.
        """

    def cancel(self) -> Coroutine[Any, Any, None]:
        """Ends it now. No run starts after the call; the current one is cancelled where it awaits.

        Awaited, it returns when the run and its generator have cleaned up and `cancel_cb` was called. A run that
        has nothing left to await delivers its value. Whoever waits for a later run gets a `TimerStoppedError`.
        On a timer that does not run it does nothing. Inside the target the call takes effect at the next `await`.
        """

    def stop(self) -> Coroutine[Any, Any, None]:
        """Another name of `cancel`."""

    def shutdown(self, grace: Duration) -> Coroutine[Any, Any, Literal["drained", "cancelled", "failed"]]:
        """Lets the current run finish, and cancels it after `grace`; no other starts.

        Awaited, it says how it ended: the run was over in time, or cancelled, or a failure had ended the timer. As
        with `cancel` the run and its generator clean up first, which `grace` does not bound.
        """

    def pause(self) -> None:
        """Suspends the schedule. The slots until `resume` are skipped; triggers still run."""

    def resume(self) -> None:
        """Takes the schedule up again, without making up for what was skipped."""

    def is_running(self) -> bool:
        """Whether it was started and has not ended."""

    def is_paused(self) -> bool:
        """Whether it is paused."""

    def set_delay(self, new_delay: Duration, *, rearm: bool = False) -> None:
        """Another period, from the next wait on; with `rearm` for the wait in progress too.

        At a fixed rate the grid starts anew at the last tick, so there is neither a gap nor a burst.
        """

    def join(self) -> Coroutine[Any, Any, _T]:
        """The value of the next run to end, or its exception.

        Raises `TimerNotRunningError` if the timer does not run, and `TimerStoppedError`, which is one, if it
        ends first. For everybody who waits it is the same value; who is busy misses ticks: see `subscribe`.
        """

    def trigger(self) -> Coroutine[Any, Any, _T]:
        """Has it run now; the value or the exception of a run that starts at or after this call.

        During a run it asks for one more, right after, which all triggers that come meanwhile share. Raises
        as `join`. The request holds whether or not it is awaited.

        >>> async def main():
        ...     async with Timer(3600, lambda: 42) as timer:
        ...         print(await timer.join(), await timer.trigger(), timer.hit_count)
        >>> asyncio.run(main())
        42 42 2
        """

    def wait(
        self, hit_count: int | None = None, hits: int | None = None, timeout: Duration | None = None
    ) -> Coroutine[Any, Any, _T | None]:
        """Waits until `hit_count` values have come, or `hits` more; with neither, until the timer ends.

        It counts values, not wake-ups: none is missed between two of them, and a count that was reached is
        answered at once. Returns the latest value if one has come since the call, else `None`. When `timeout` is
        over, waiting for a count raises `TimeoutError`, and waiting for the end returns. Raises the failure that
        ended the timer; waiting for a count that will not come raises `TimerNotRunningError`. To ask for both
        counts is a `ScheduleError`.
        """

    def subscribe(
        self,
        maxsize: int = 0,
        *,
        name: str | None = None,
        overflow: Literal["drop_oldest", "drop_newest"] = "drop_oldest",
    ) -> Subscription[_T]:
        """A feed of every value from now on, in a buffer of its own.

        With a `maxsize` above 0 the buffer holds so many; when it is full `overflow` says which value gives way.
        Of a timer that was never started it begins with the start; of one that has ended it ends at once.

        >>> async def main():
        ...     async with Timer(0.001, iter("abc")) as timer, timer.subscribe() as feed:
        ...         print([letter async for letter in feed], feed.dropped_count)
        >>> asyncio.run(main())
        ['a', 'b', 'c'] 0
        """

    def stats(self) -> Stats:
        """The figures of the timer. From any thread, without waiting.

        Runs, hits, failures and blocking runs count over all starts; everything else is since the timer is in the
        loop where it was started last.
        """

    def cancel_threadsafe(self, timeout: Duration | None = None) -> None:
        """`cancel` from another thread: blocks until it is done, without holding the interpreter.

        Raises `TimeoutError` when `timeout` is over, and the timer ends all the same; `ThreadsafeDispatchError` on
        the thread of its loop, before the first start, and when its loop is closed.
        """

    def trigger_threadsafe(self, timeout: Duration | None = None) -> _T:
        """`trigger` from another thread: blocks for the value. Raises as `trigger` and `cancel_threadsafe`."""

    async def __aenter__(self) -> Self:
        """Starts it."""

    async def __aexit__(self, *exc: object) -> None:
        """Cancels it, and waits for that."""

    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> _T:
        """As `join`, but the end of the timer is the end of the iteration. A failure is raised."""

    def _current_tick(self) -> Tick | None: ...
    def _use_clock(self, clock: Any) -> None: ...

@final
class Subscription(Generic[_T]):
    """The values of a timer for one consumer, in order: an async iterator, to be closed by `async with`.

    The end of the timer ends it, and a failure that ended the timer is raised once, after the values. Both are
    kept beside the buffer: they evict no value, are never evicted, and do not count. A cancelled read takes no
    value. Several tasks that read from one feed share its values, each of which one of them gets, and all see the
    end. A feed that nobody holds is closed; it is always true, however many values it holds. Python's collector
    of cycles does not look at what has not been read: if that refers to whoever holds the feed, read it or let
    go of the feed.

    `Timer.subscribe` makes them. One that is made by hand belongs to no timer, and has nothing until it is closed.
    """

    def __new__(
        cls,
        maxsize: int = 0,
        *,
        name: str | None = None,
        overflow: Literal["drop_oldest", "drop_newest"] = "drop_oldest",
    ) -> Self: ...
    def __class_getitem__(cls, key: Any) -> GenericAlias: ...
    @property
    def qsize(self) -> int:
        """How many values wait to be read. From any thread, as `len`."""

    @property
    def dropped_count(self) -> int:
        """How many values it has lost, and how many its consumer has dropped. From any thread."""

    @property
    def name(self) -> str | None:
        """As it was given."""

    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def drop_oldest(self, n: int = 1) -> int:
        """Drops up to `n` of the oldest values unread; returns how many. Raises `ScheduleError` below 0."""

    def close(self) -> None:
        """Ends it: no value comes any more, and whoever waits for one sees the end. From any thread."""

    def close_threadsafe(self) -> None:
        """Another name of `close`."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None:
        """Closes it."""

    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> _T:
        """The oldest value; waits if there is none."""

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
        """When it was due: seconds on the clock of its loop, or, on threads, on that of its engine, which is
        `time.monotonic` unless that is a `TestEngine`."""

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
    """A schedule without a target. It begins with the first tick that is asked for, or with `async with`, paused
    if it was paused before, and never if it was cancelled before.

    What lies between a tick and the request for the next is the run. One task waits for a tick at a time: another
    that asks meanwhile gets a `TimerError`.
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
class TestEngine(Engine):  # type: ignore[misc]  # final for everybody else
    """An engine for timers on threads that a test moves by hand, on the test's own thread.

    It runs the timers that are given it, and within `with engine:` all that have no engine of their own, in
    the order of their deadlines, each at exactly its time. No other thread is involved, and all points in time
    that its timers tell are on its clock.

    Nothing sleeps: while the thread waits that moves the time, none passes. Such a wait has whatever is due now
    run first. If that does not end it, nothing can: with a `timeout`, however long, its time is over at once, and
    without one it raises `NothingDueError`. With a `timeout` of 0 nothing runs either. A wait on any other
    thread blocks until time was moved far enough; its `timeout` is in real time. The thread that moves the time
    is the one that did so last, or entered the engine, or made it.
    """

    __test__: ClassVar[bool]
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

@final
class Stats:
    """What a timer has done so far, over all its starts: a snapshot. See `Timer.stats` for one that was started in
    several loops."""

    @property
    def name(self) -> str:
        """What the timer is called."""

    @property
    def delay(self) -> float:
        """The period in force."""

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""

    @property
    def busy(self) -> bool:
        """Whether a run is in flight."""

    @property
    def paused(self) -> bool:
        """Whether it is paused."""

    @property
    def runs(self) -> int:
        """Runs begun."""

    @property
    def hits(self) -> int:
        """Runs that delivered a value."""

    @property
    def failures(self) -> int:
        """Runs that failed."""

    @property
    def blocked(self) -> int:
        """Runs that held up the loop, or inline ones the engine, for more than a tenth of a second."""

    @property
    def queued(self) -> int:
        """On threads: runs that had to wait because all workers were busy."""

    @property
    def subscriptions(self) -> int:
        """Open subscriptions."""

    @property
    def missed(self) -> int:
        """Slots that passed before they could run, those that a burst ran later included."""

    @property
    def skipped(self) -> Skipped:
        """Slots that never ran, by reason."""

    @property
    def last_tick_at(self) -> float | None:
        """When the newest value was delivered."""

    @property
    def next_due_at(self) -> float | None:
        """When the next run is due. `None` during a run, while paused, and for a timer that does not run."""

    @property
    def lateness(self) -> Summary:
        """How late runs started."""

    @property
    def duration(self) -> Summary:
        """How long runs took."""

@final
class Skipped:
    """Slots that never ran, by reason."""

    @property
    def overrun(self) -> int:
        """They passed during a run or a stall."""

    @property
    def paused(self) -> int:
        """They passed during a pause."""

    @property
    def late(self) -> int:
        """They could not start within `max_lateness`."""

    @property
    def backoff(self) -> int:
        """They passed while a retry was waited for."""

    @property
    def total(self) -> int:
        """All of them."""

@final
class Summary:
    """Durations, in seconds."""

    @property
    def count(self) -> int:
        """How many there were."""

    @property
    def last(self) -> float:
        """The newest; 0 before the first."""

    @property
    def mean(self) -> float:
        """The mean; 0 before the first."""

    @property
    def max(self) -> float:
        """The longest; 0 before the first."""

    @property
    def p50(self) -> float | None:
        """Half of them were not longer. From a histogram: at most half above the true value."""

    @property
    def p99(self) -> float | None:
        """99 of 100 were not longer."""

def _install_clock(clock: Any) -> Any: ...
def _check_wait(hit_count: int | None, hits: int | None, timeout: Duration | None) -> None: ...
def _nanoseconds(field: str, given: Duration) -> int: ...

# The face for threads, whose manual is `threading.pyi`.
_ThreadClosed = threading.Closed
_ThreadEngine = threading.Engine
_ThreadEngineStats = threading.EngineStats
_ThreadOneShot = threading.OneShot
_ThreadPeriodicTask = threading.PeriodicTask
_ThreadScope = threading.Scope
_ThreadSubscription = threading.Subscription
_ThreadTicks = threading.Ticks
_ThreadTimer = threading.Timer
_Backoff = threading.Backoff
_thread_after = threading.after
_thread_ticks = threading.ticks

@final
class _ThreadAnswers:
    def wait(self, timeout: Duration | None = None, return_exceptions: bool = False) -> list[Any]: ...

def _ask_all(
    timers: Iterable[threading.Timer[Any]],
    request: str,
    *,
    grace: Duration | None = None,
    hit_count: int | None = None,
    hits: int | None = None,
) -> _ThreadAnswers: ...
def _current_timer_of_thread() -> TimerOnThreads | None: ...
def _current_tick_of_thread() -> Tick | None: ...
def _end_all_timers(seconds: float) -> bool: ...
def _engine_threads() -> list[int]: ...
