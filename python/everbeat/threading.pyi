"""Timers that need no event loop: one thread keeps the time of all of them.

>>> from everbeat.threading import PeriodicTask, Scope, Timer, TimerGroup, after, ticks

A call to be made once, later, and called off in time:

>>> reminder = after(3600, print, "tea")
>>> reminder.cancel()
True

A function that is called again and again until the end of the block, after which nothing runs:

>>> with PeriodicTask(5, print, "still here"):
...     pass  # the work of the program

Everything else: a fixed rate, waits, failures, values, limits.

>>> with Timer(0.001, lambda: 42, mode="fixed_rate", name="answer") as timer:
...     timer.wait(hit_count=3, timeout=20)  # three values are there
...     timer.trigger(timeout=20)  # that of a run which started after this call
True
42

Timers that are handled as one. Every request goes to all of them at once, and what they answer comes in order:

>>> rates, load = Timer(5, lambda: 1.1, name="rates"), Timer(60, lambda: 0.3, name="load")
>>> with TimerGroup([rates, load], name="caches") as caches:
...     warm = caches.wait(hit_count=1, timeout=20)
...     [(timer.name, value) for timer, value in caches.trigger(timeout=20)]
[('rates', 1.1), ('load', 0.3)]

Timers that end with what they belong to:

>>> class Session:
...     def __init__(self):
...         self.timers = Scope()
...         self.timers.periodic(30, self.keep_alive)
...     def keep_alive(self): ...
...     def close(self):
...         self.timers.close()
>>> Session().close()

Durations
    A number of seconds, a `datetime.timedelta` (exact to a microsecond) or an `everbeat.ns` (a whole number of
    nanoseconds). Negative, infinite and NaN durations are refused with `ScheduleError`, which is a
    `ValueError`; anything else with `TypeError`. Points in time are seconds as `time.monotonic()` counts, or, on a
    `TestEngine`, its own `time()`.

Timeouts
    Every call that waits takes a `timeout`, and waits without limit if it is `None`. When the time is over it
    raises `TimeoutError`, and what was asked for still holds. In the main thread Ctrl-C interrupts every
    wait with `KeyboardInterrupt`, within a twentieth of a second. The interpreter is not held while waiting.

Threads
    Everything here can be called from any thread. Runs are made by the workers of an `Engine`, and two runs of
    one timer never overlap. A run may control its own timer: a stop takes effect when it returns, and to wait
    for a later run of the same timer is refused with `TimerError`. A run cannot be interrupted: whoever stops
    a timer waits for the run in flight, as long as the `timeout` lets it.

Runs
    Within a run and a callback `everbeat.current_timer()` is the timer, whether or not anybody else holds it, and
    `everbeat.current_tick()` is what the run was told: its number, its slot, when it was due, how late it is, what
    was missed since the run before, and why it runs. Other threads that a run starts are told nothing.

    >>> from everbeat import current_tick, current_timer
    >>> def three_times():
    ...     print(current_tick().run, current_tick().cause)
    ...     if current_tick().run == 3:
    ...         current_timer().cancel()
    >>> Timer(0.001, three_times, start=True).wait(timeout=20)
    1 schedule
    2 schedule
    3 schedule
    True

Failures
    An exception in a run is logged with its traceback, to the logger `everbeat.timer.<name>`, unless there is an
    `exc_cb`. Whether the timer goes on is its own matter: `PeriodicTask` does, `Timer` has `on_error`.

Life
    A timer that was started runs until it ends, whether or not anybody holds it; only the timers of a `Scope`
    end with the scope. A timer that has ended is forgotten like any other object.

Exit
    When the interpreter exits all timers end and no run begins any more. A run in flight has a second to
    end by itself, then a `SystemExit` is raised in it, and after another quarter of a second it is left alone.
    The exit waits for nobody longer than that.

Fork
    A child of `os.fork()` has none of the timers: to use one from the parent raises a `TimerError` which says so.
    New ones work there, and so does `multiprocessing` with any start method.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from types import GenericAlias
from typing import Any, Generic, Literal, ParamSpec, Self, TypeAlias, TypedDict, TypeVar, final, overload

from typing_extensions import Unpack

from everbeat import (
    Backoff as Backoff,
    Burst as Burst,
    Skipped as Skipped,
    Stats as Stats,
    Summary as Summary,
    Tick as Tick,
)
from everbeat._thread_group import TimerGroup as TimerGroup

__all__ = [
    "Backoff",
    "Burst",
    "Closed",
    "Engine",
    "EngineStats",
    "OneShot",
    "PeriodicTask",
    "Scope",
    "Skipped",
    "Stats",
    "Subscription",
    "Summary",
    "Tick",
    "Ticks",
    "Timer",
    "TimerGroup",
    "after",
    "ticks",
]

_T = TypeVar("_T")
_P = ParamSpec("_P")

_Duration: TypeAlias = float | timedelta
_Callback: TypeAlias = Callable[[Timer[Any], Any], object]
_Mode: TypeAlias = Literal["fixed_delay", "fixed_rate"]
_OnError: TypeAlias = Literal["stop", "continue"] | Backoff
_Missed: TypeAlias = Literal["skip", "delay"] | Burst

def after(delay: _Duration, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> OneShot[_T]:
    """Calls `fn(*args, **kwargs)` once, `delay` from now, on the default engine.

    All keywords are those of `fn`. For other options use `Engine.after`, `Scope.after` or a `Timer` with
    `max_runs=1`.

    >>> call = after(0.001, divmod, 7, 2)
    >>> call.wait(timeout=20)
    (3, 1)

    Raises `ScheduleError` for a bad delay, `TypeError` if `fn` cannot be called or is a coroutine function, which
    `everbeat.after` takes, and `TimerError` while the interpreter exits.
    """

@final
class OneShot(Generic[_T]):
    """A call that is to be made once. Made by `after`, `Engine.after` and `Scope.after`.

    It is made, or called off, exactly once, whoever asks for what on whichever thread.
    """

    def cancel(self) -> bool:
        """Calls the call off. `True` if that came in time: it has not begun and never will. Does not wait.

        >>> call = after(3600, print)
        >>> call.cancel(), call.cancel()
        (True, False)
        """

    def wait(self, timeout: _Duration | None = None) -> _T:
        """Waits for the call and returns its value; at once if it was made.

        Raises what the call raised, `TimerStoppedError` if it was called off, and `TimeoutError`.
        """

    def fire_now(self, timeout: _Duration | None = None) -> _T:
        """Makes the call now, or waits for it if it is being made, and returns its value.

        >>> after(3600, str.upper, "now").fire_now(timeout=20)
        'NOW'

        Raises as `wait`, and `TimerNotRunningError` if it was called off.
        """

    def is_pending(self) -> bool:
        """Whether the call is still to come."""

    @property
    def name(self) -> str:
        """The `__qualname__` of what it calls, or else its type."""

    def __class_getitem__(cls, key: Any) -> GenericAlias: ...

@final
class PeriodicTask:
    """Calls `func(*args, **kwargs)` again and again, with a pause of `interval` between two calls.

    The first call comes one interval after the start. A call that fails is logged, and the task goes on. All
    further arguments are those of `func`; what it returns is ignored.

    >>> lines = []
    >>> task = PeriodicTask(0.001, lines.append, "tick")
    >>> task.start()
    >>> task.start()  # it runs already
    >>> while len(lines) < 3:
    ...     pass
    >>> task.stop()  # from here on nothing runs
    >>> task.is_running()
    False

    Raises as `after`.
    """

    def __new__(
        cls, interval: _Duration, func: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs
    ) -> Self: ...
    def start(self) -> None:
        """Starts it, also after a stop. Does nothing if it runs. If it is about to stop, waits for that first.

        Raises `TimerError` in a call of the task itself that has stopped it, if its scope or engine is closed, or
        while the interpreter exits.
        """

    def stop(self, timeout: _Duration | None = None) -> None:
        """Stops it, and waits for a call in flight. Once this has returned nothing runs. Idempotent.

        In a call of the task itself, and in an `inline` run of the same engine, it does not wait, since the
        task could not come to its end; no call follows there either.

        Raises `TimeoutError` if a call is still in flight then; no other will follow it.
        """

    def is_running(self) -> bool:
        """Whether it was started and has not stopped."""

    @property
    def interval(self) -> float:
        """Seconds from the end of one call to the next."""

    def set_interval(self, interval: _Duration, rearm: bool = False) -> None:
        """Another interval, from the next wait on. With `rearm` it holds for the wait in progress too, counted
        from the last call; the wait for the first call stays as it is.
        """

    @property
    def name(self) -> str:
        """The `__qualname__` of `func`, or else its type."""

    def stats(self) -> Stats:
        """What it has done so far. The figures of lateness and duration are those of a `Timer`; here they are
        empty, and `Engine.stats` has them for all tasks together.
        """

    def __enter__(self) -> Self:
        """Starts it."""

    def __exit__(self, *_exc_info: object) -> None:
        """Stops it."""

class _Schedule(TypedDict, total=False):
    mode: _Mode
    initial_delay: _Duration | None
    jitter: float
    seed: int | None
    name: str | None
    missed: _Missed
    max_runs: int | None
    run_for: _Duration | None
    max_lateness: _Duration | None
    keep_phase: bool

class _Options(_Schedule, total=False):
    exc_cb: _Callback | None
    cancel_cb: _Callback | None
    on_error: _OnError
    run_timeout: _Duration | None
    inline: bool

class _EngineOptions(_Options, total=False):
    start: bool
    scope: Scope | None

class _ScopeOptions(_Options, total=False):
    engine: Engine | None

@final
class Timer(Generic[_T]):
    """Runs a target again and again.

    A target is a callable without parameters, whose result is the value of the run, or an iterator or
    generator, of which a run takes one item. If what a callable returns is an iterator or generator, that is
    iterated, and made anew by each start. The end of the items ends the timer. What would have to be
    awaited is refused with `TypeError`, at construction or as the failure of the run.

    >>> def countdown():
    ...     yield from (3, 2, 1)
    >>> timer = Timer(0.001, countdown)
    >>> with timer.subscribe() as values:
    ...     timer.start()
    ...     list(values)
    [3, 2, 1]

    delay
        The period. With `mode="fixed_delay"` a run is due a period after the end of the one before. With
        `"fixed_rate"` slot k is due at the first tick + k periods, however long the runs take. Zero: as often
        as possible.
    exc_cb
        Called as `exc_cb(timer, target)` on every failure, which is the exception being handled there:
        `logging.exception` and `sys.exc_info` work. If it is given, failures are not logged.
    cancel_cb
        Called as `cancel_cb(timer, target)` once for each start, when the timer has ended for whatever reason.
    start
        Starts it at once.
    initial_delay
        When the first run is due after the start. Default: at once.
    jitter, seed
        Spreads runs evenly over up to this fraction of the period, from 0 to 1, to both sides; repeatable if
        there is a seed.
    name
        In `repr`, errors and the name of the logger. Default: the `__qualname__` of the target.
    on_error
        `"stop"`: a failure ends the timer, and is raised to whoever asks later. `"continue"`: it goes on.
        A `Backoff`: it tries again, sooner or later than the schedule says.
    missed
        What becomes of slots of a fixed rate that pass during a long run. `"skip"`: none of them runs.
        `"delay"`: none of them, and the next is due a period after the end of that run. A `Burst(n)`: the newest
        `n` run at once.
    run_timeout
        A run that takes longer has failed, with `TimeoutError`. It cannot be interrupted: that is found when it
        returns.
    max_runs, run_for
        Ends the timer after so many runs, or after this time, counted from each start.
    max_lateness
        A run that cannot start within this time of when it was due is skipped.
    keep_phase
        Triggered runs leave the slots of a fixed rate where they are.
    inline
        Makes the runs on the thread that keeps the time: the cheapest way for a target that returns at once. One
        that does not holds up all timers of the engine.
    engine, scope
        Whose thread and workers it uses, and whom it ends with. Default: the engine of everybody, no scope.

    Raises `ScheduleError` for a bad value, with the field, the value and what is allowed, and `TypeError` for a
    wrong type.
    """

    @overload
    def __new__(
        cls,
        delay: _Duration,
        target: Callable[[], Iterator[_T]] | Iterator[_T],
        exc_cb: _Callback | None = None,
        cancel_cb: _Callback | None = None,
        start: bool = False,
        *,
        mode: _Mode = "fixed_delay",
        initial_delay: _Duration | None = None,
        jitter: float = 0.0,
        seed: int | None = None,
        name: str | None = None,
        on_error: _OnError = "stop",
        missed: _Missed = "skip",
        run_timeout: _Duration | None = None,
        max_runs: int | None = None,
        run_for: _Duration | None = None,
        max_lateness: _Duration | None = None,
        keep_phase: bool = False,
        inline: bool = False,
        engine: Engine | None = None,
        scope: Scope | None = None,
    ) -> Self: ...
    @overload
    def __new__(
        cls,
        delay: _Duration,
        target: Callable[[], _T],
        exc_cb: _Callback | None = None,
        cancel_cb: _Callback | None = None,
        start: bool = False,
        *,
        mode: _Mode = "fixed_delay",
        initial_delay: _Duration | None = None,
        jitter: float = 0.0,
        seed: int | None = None,
        name: str | None = None,
        on_error: _OnError = "stop",
        missed: _Missed = "skip",
        run_timeout: _Duration | None = None,
        max_runs: int | None = None,
        run_for: _Duration | None = None,
        max_lateness: _Duration | None = None,
        keep_phase: bool = False,
        inline: bool = False,
        engine: Engine | None = None,
        scope: Scope | None = None,
    ) -> Self: ...
    def start(self) -> None:
        """Starts it, also after an end, with a fresh schedule; counts go on.

        Raises `TimerAlreadyRunningError`, also in its own `cancel_cb`, where its end is not over yet; `TimerError`
        if its scope or engine is closed, or while the interpreter exits.
        """

    def cancel(self, timeout: _Duration | None = None) -> None:
        """Stops it. Once this has returned nothing runs and `cancel_cb` has been called. Idempotent.

        Raises `TimeoutError` if a run is still in flight then, and `ThreadsafeDispatchError` in an inline run
        of another timer of the engine, which would wait in vain. No run follows in either case.
        """

    def stop(self, timeout: _Duration | None = None) -> None:
        """The same as `cancel`."""

    def shutdown(
        self, grace: _Duration, timeout: _Duration | None = None
    ) -> Literal["drained", "cancelled", "failed"]:
        """Stops it gently: the run in flight has `grace` to end. `"drained"` if it did or there was none,
        `"cancelled"` if it took longer, `"failed"` if a failure has ended the timer.

        >>> Timer(60, dict, start=True).shutdown(grace=20)
        'drained'

        Raises as `cancel`.
        """

    def pause(self) -> None:
        """Suspends the schedule. The run in flight goes on, and triggers run. Without effect on a timer that
        does not run.
        """

    def resume(self) -> None:
        """Takes the schedule up again at the next slot, without a burst."""

    def trigger(self, timeout: _Duration | None = None) -> _T:
        """Asks for a run now, and returns the value of one that started at or after this call. If a run is in
        flight, one more follows it and serves everybody who asked meanwhile.

        Raises what the run raised, `TimerNotRunningError`, `TimerStoppedError` if the timer ends before the
        run, and `TimeoutError`.
        """

    def join(self, timeout: _Duration | None = None) -> _T:
        """Waits for the next run to end and returns its value. Raises as `trigger`."""

    def wait(
        self, hit_count: int | None = None, *, hits: int | None = None, timeout: _Duration | None = None
    ) -> bool:
        """Waits for the end of the timer, or for values: until there are `hit_count` in all (at once if there
        are), or `hits` more from now on. Returns `True`, or `False` if `timeout` is over and the timer still runs.

        >>> timer = Timer(0.001, int, max_runs=5, start=True)
        >>> timer.wait(timeout=20), timer.wait(hit_count=5)
        (True, True)

        A wait for values raises `TimeoutError` when the time is over, and `TimerStoppedError` if the timer
        ends with fewer. Both raise the failure that has ended the timer, and `TimerNotRunningError` if it was
        never started.
        """

    def subscribe(
        self,
        maxsize: int = 0,
        *,
        name: str | None = None,
        overflow: Literal["drop_oldest", "drop_newest"] = "drop_oldest",
    ) -> Subscription[_T]:
        """Every value from now on, in order, in a buffer of its own.

        With a `maxsize` above 0 the buffer holds so many; when it is full `overflow` says which value gives way.
        The name is for log messages about that.

        >>> timer = Timer(0, iter("abcde"))
        >>> first = timer.subscribe(2, overflow="drop_newest")
        >>> latest = timer.subscribe(2)
        >>> with timer:
        ...     timer.wait(timeout=20)
        ...     list(first), list(latest), latest.dropped_count
        True
        (['a', 'b'], ['d', 'e'], 3)

        Raises `ScheduleError` for a negative `maxsize` and for any other word, and `TypeError`.
        """

    @property
    def hit_count(self) -> int:
        """How many values it has delivered. During run n this is n - 1."""

    @property
    def last_result(self) -> _T | None:
        """The newest value; `None` before the first."""

    @property
    def last_tick_at(self) -> float | None:
        """When the newest value was delivered."""

    @property
    def delay(self) -> float:
        """The period in force, in seconds."""

    def set_delay(self, delay: _Duration, rearm: bool = False) -> None:
        """Another period, from the next wait on. With `rearm` it holds for the wait in progress too, counted
        from the last tick; the wait for the first stays as it is. A fixed rate goes on from its last slot.
        """

    @property
    def name(self) -> str:
        """What it is called."""

    def is_running(self) -> bool:
        """Whether it was started and has not ended."""

    def is_paused(self) -> bool:
        """Whether it is paused."""

    def stats(self) -> Stats:
        """Everything that is counted and measured. Costs the timer nothing."""

    def __iter__(self) -> Iterator[_T]:
        """Its values as they come, until it ends. Who is busy meanwhile misses some; `subscribe` has them all. The
        failure that ends the timer is raised.

        >>> from itertools import count
        >>> with Timer(0.001, count) as timer:
        ...     for number in timer:
        ...         if number > 5:
        ...             break
        """

    def __enter__(self) -> Self:
        """Starts it."""

    def __exit__(self, *_exc_info: object) -> None:
        """Cancels it."""

    def __class_getitem__(cls, key: Any) -> GenericAlias: ...

@final
class Subscription(Generic[_T]):
    """Every value of a timer from the moment of `Timer.subscribe` on, in order, for one consumer.

    Iterating waits for the next value. It ends with the timer, after what is in the buffer; if a failure has
    ended the timer, that is raised then, once. The subscription of a timer that has ended already is
    empty. One that is dropped or closed costs the timer nothing any more. Python's collector of cycles does
    not look at what has not been read: if that refers to whoever holds the feed, read it or let go of the feed.
    """

    def get(self, timeout: _Duration | None = None) -> _T:
        """Waits for the next value. Raises `TimerStoppedError` at the end, and `TimeoutError`."""

    @property
    def name(self) -> str | None:
        """The name that it was given."""

    @property
    def qsize(self) -> int:
        """How many values wait to be read."""

    @property
    def dropped_count(self) -> int:
        """How many values were lost, to `maxsize` and to `drop_oldest`."""

    def drop_oldest(self, n: int = 1) -> int:
        """Drops up to `n` of the oldest values, to catch up. Returns how many there were to drop."""

    def close(self) -> None:
        """No more values arrive; those that are there can still be read. Wakes who waits for one. Idempotent."""

    def __len__(self) -> int: ...
    def __bool__(self) -> Literal[True]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> _T: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exc_info: object) -> None:
        """Closes it."""

    def __class_getitem__(cls, key: Any) -> GenericAlias: ...

def ticks(
    delay: _Duration,
    *,
    mode: _Mode = "fixed_delay",
    initial_delay: _Duration | None = None,
    jitter: float = 0.0,
    seed: int | None = None,
    name: str = "ticks",
    missed: _Missed = "skip",
    max_runs: int | None = None,
    run_for: _Duration | None = None,
    max_lateness: _Duration | None = None,
    keep_phase: bool = False,
    engine: Engine | None = None,
) -> Ticks:
    """A schedule without a target, for a loop of your own. The options are those of `Timer`.

    What lies between a tick and the question for the next is the run. Raises as `Timer`, and `TimerError` if the
    engine is closed, or while the interpreter exits.

    >>> for tick in ticks(0.001, mode="fixed_rate", max_runs=3):
    ...     print(tick.run)
    1
    2
    3
    """

@final
class Ticks:
    """A blocking iterator of ticks, for one thread. Made by `ticks`. Others may control it."""

    def get(self, timeout: _Duration | None = None) -> Tick:
        """Waits for the next tick. Raises `TimerStoppedError` at the end, `TimeoutError`, and `TimerError` if
        another thread is waiting here.
        """

    def trigger(self) -> None:
        """Has it tick now. Raises `TimerNotRunningError` at the end."""

    def set_delay(self, delay: _Duration, rearm: bool = False) -> None:
        """As `Timer.set_delay`."""

    def pause(self) -> None:
        """Suspends the schedule."""

    def resume(self) -> None:
        """Takes the schedule up again."""

    def cancel(self) -> None:
        """Ends the schedule, for good, and wakes who waits for a tick."""

    def is_running(self) -> bool:
        """Whether it has not ended."""

    def stats(self) -> Stats:
        """What it has done so far."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> Tick: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exc_info: object) -> None:
        """Ends the schedule."""

@final
class Scope:
    """Owns timers, and ends them when it is closed, at the end of a `with` block, or when nobody holds it.

    Make it an attribute of what its timers belong to. They may call methods of that object without keeping it
    alive: when it is forgotten they end with it.

    >>> with Scope() as scope:
    ...     call = scope.after(3600, print)
    ...     task = scope.periodic(3600, print)
    ...     timer = scope.timer(3600, dict)
    ...     len(scope.active())
    3
    >>> call.is_pending(), task.is_running(), timer.is_running()
    (False, False, False)
    """

    def __new__(cls) -> Self: ...
    def after(
        self, delay: _Duration, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> OneShot[_T]:
        """As `everbeat.threading.after`. Raises `TimerError` if the scope is closed."""

    def periodic(
        self, interval: _Duration, func: Callable[_P, object], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> PeriodicTask:
        """A `PeriodicTask`, started. Raises `TimerError` if the scope is closed."""

    @overload
    def timer(
        self,
        delay: _Duration,
        target: Callable[[], Iterator[_T]] | Iterator[_T],
        **options: Unpack[_ScopeOptions],
    ) -> Timer[_T]: ...
    @overload
    def timer(
        self,
        delay: _Duration,
        target: Callable[[], _T],
        **options: Unpack[_ScopeOptions],
    ) -> Timer[_T]:
        """A `Timer`, started. Raises `TimerError` if the scope is closed."""

    def active(self) -> list[OneShot[Any] | PeriodicTask | Timer[Any]]:
        """Its timers that run at the moment."""

    def close(self, grace: _Duration | None = None) -> Closed:
        """Ends all its timers and refuses new ones. Waits for runs in flight, for `grace` at most (default: 5 s),
        except for one that calls this. Ctrl-C is noticed only after that. Idempotent.
        """

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_exc_info: object) -> None:
        """Closes it."""

@final
class Closed:
    """How the timers of a scope ended."""

    @property
    def drained(self) -> int:
        """How many had no run in flight, or one that ended in time."""

    @property
    def cancelled(self) -> int:
        """How many had one that took longer."""

    @property
    def left(self) -> list[str]:
        """The names of those whose last run has not ended yet. No other follows it."""

@final
class Engine:
    """Keeps the time of any number of timers with one thread, and runs them on a few workers.

    `after`, `PeriodicTask` and `Timer` share one engine. Make one of your own to give some timers their own
    threads and figures, to choose how precise they are, or to end them all at once. The threads start with the
    first timer and end soon after the last.

    >>> with Engine(name="sampler", precision="fine", workers=1) as sampler:
    ...     timer = sampler.every(0.001, int, mode="fixed_rate", start=True)
    ...     timer.wait(hits=3, timeout=20)
    True
    >>> timer.is_running()
    False

    As a context manager it is closed at the end of the block.

    precision
        `"coarse"` wakes up at most once a millisecond, for everything that is due then: the cheapest. `"fine"`
        wakes up for every deadline. `"spin"` wakes up shortly before and spins, within a tenth of a core.
    workers
        How many threads there are at most for runs, from 0 to 1024; they start as they are needed. When all
        are busy a run waits for one. With none all runs are `inline`. Default: 32.
    """

    def __new__(
        cls,
        *,
        name: str = "timers",
        precision: Literal["coarse", "fine", "spin"] = "coarse",
        workers: int = 32,
    ) -> Self: ...
    @overload
    def every(
        self,
        delay: _Duration,
        target: Callable[[], Iterator[_T]] | Iterator[_T],
        **options: Unpack[_EngineOptions],
    ) -> Timer[_T]: ...
    @overload
    def every(
        self,
        delay: _Duration,
        target: Callable[[], _T],
        **options: Unpack[_EngineOptions],
    ) -> Timer[_T]:
        """A `Timer` on this engine. It does not run yet, unless `start=True`."""

    def after(
        self, delay: _Duration, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> OneShot[_T]:
        """As `everbeat.threading.after`, on this engine. Raises `TimerError` if it is closed."""

    def close(self, timeout: _Duration | None = None) -> int:
        """Ends all its timers, refuses new ones, and waits for runs in flight. Returns how many timers have not
        come to their end when the time is over. On a thread of the engine it does not wait.
        """

    def stats(self) -> EngineStats:
        """What all its timers together have done so far."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_exc_info: object) -> None:
        """Closes it, without a time limit."""

    @property
    def name(self) -> str:
        """In the names of its threads."""

    @property
    def precision(self) -> Literal["coarse", "fine", "spin"]:
        """How precisely it keeps its times."""

@final
class EngineStats:
    """What an engine has done so far: a snapshot."""

    @property
    def timers(self) -> int:
        """Timers that are started and have not ended."""

    @property
    def workers(self) -> int:
        """Workers that exist at the moment."""

    @property
    def idle_workers(self) -> int:
        """Of those, how many wait for work."""

    @property
    def turns(self) -> int:
        """Turns given to timers: a run, or a look at what a command has changed."""

    @property
    def queued(self) -> int:
        """Turns that had to wait because all workers were busy."""

    @property
    def wakeups(self) -> int:
        """How often the thread that keeps the time woke up."""

    @property
    def lateness(self) -> Summary:
        """How late it noticed that a timer was due."""
