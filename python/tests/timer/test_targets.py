"""R: what is run, and what becomes of its failures."""

import asyncio
import contextvars
import functools
import inspect
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from everbeat import Backoff, Timer
from everbeat._offload import in_thread
from tests.support import Stopwatch, Times, spin

pytestmark = pytest.mark.asyncio


def plain() -> int:
    return 1


async def coroutine() -> int:
    await asyncio.sleep(0.001)
    return 1


def awaitable() -> Awaitable[int]:
    return asyncio.ensure_future(coroutine())


def generator() -> Iterator[int]:
    yield from (1, 2, 3)


async def async_generator() -> AsyncIterator[int]:
    for value in (1, 2, 3):
        await asyncio.sleep(0.001)
        yield value


class Callable_:
    def __call__(self) -> int:
        return 1

    def method(self) -> int:
        return 1

    async def async_method(self) -> int:
        return await coroutine()


class AsyncCallable:
    async def __call__(self) -> int:
        return await coroutine()


class Items:
    """An iterator that is no generator."""

    def __init__(self) -> None:
        self.left = [3, 2, 1]

    def __iter__(self) -> "Items":
        return self

    def __next__(self) -> int:
        if not self.left:
            raise StopIteration
        return self.left.pop()


class AsyncItems:
    def __init__(self) -> None:
        self.left = [3, 2, 1]

    def __aiter__(self) -> "AsyncItems":
        return self

    def __anext__(self) -> Awaitable[int]:
        return self._next()

    async def _next(self) -> int:
        await asyncio.sleep(0)
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop()


class Waits:
    """An awaitable of a class of its own."""

    def __await__(self) -> Iterator[Any]:
        yield from asyncio.sleep(0.001).__await__()
        return 1


ENDLESS: dict[str, Callable[[], Any]] = {
    "function": plain,
    "lambda": lambda: 1,
    "coroutine function": coroutine,
    "returns a future": awaitable,
    "returns an awaitable": Waits,
    "partial": functools.partial(int, "1"),
    "partial of a coroutine function": functools.partial(coroutine),
    "bound method": Callable_().method,
    "bound async method": Callable_().async_method,
    "callable object": Callable_(),
    "callable object, async": AsyncCallable(),
    "returns a coroutine": lambda: coroutine(),
    "builtin": functools.partial(len, "a"),
}
ENDING: dict[str, Callable[[], Any]] = {
    "generator function": lambda: generator,
    "generator": generator,
    "iterator": lambda: iter([1, 2, 3]),
    "iterator object": Items,
    "returns an iterator": lambda: lambda: iter([1, 2, 3]),
    "async generator function": lambda: async_generator,
    "async generator": async_generator,
    "async iterator object": AsyncItems,
    "returns an async iterator": lambda: AsyncItems,
}


@pytest.mark.parametrize("name", [name for name in ENDLESS if name != "returns a future"])
async def test_r2_r7_callables_may_be_offloaded(name: str) -> None:
    """What they return is awaited in the loop. A future has to be made there."""
    async with Timer(0.01, ENDLESS[name], offload=True) as timer:
        assert await timer.join() == 1
        assert await timer.trigger() == 1
        assert await timer.wait(hit_count=5) == 1


@pytest.mark.parametrize("make", ENDING.values(), ids=ENDING)
async def test_r2_r7_iterators_may_be_offloaded(make: Callable[[], Any]) -> None:
    timer = Timer(0.01, make(), offload=True)
    feed = timer.subscribe()
    timer.start()
    assert [value async for value in feed] == [1, 2, 3]
    assert not timer.is_running()


async def test_r7_each_item_of_an_offloaded_iterator_is_made_on_another_thread() -> None:
    async def in_the_loop() -> bool:
        return threading.current_thread() is threading.main_thread()

    def generator() -> Iterator[Any]:
        for _ in range(3):
            yield threading.current_thread() is not threading.main_thread()
            yield in_the_loop()

    timer = Timer(0.01, generator, offload=True)
    for _ in range(2):
        timer.start()
        assert [value async for value in timer.subscribe()] == [True] * 6


@pytest.mark.parametrize("target", ENDLESS.values(), ids=ENDLESS)
async def test_r2_callables(target: Callable[[], Any]) -> None:
    async with Timer(0.01, target) as timer:
        assert await timer.join() == 1
        assert await timer.trigger() == 1
        assert await timer.wait(hit_count=5) == 1
    assert timer.hit_count == 5
    assert timer.last_result == 1


@pytest.mark.parametrize("make", ENDING.values(), ids=ENDING)
async def test_r2_iterators_end_the_timer_with_their_last_item(make: Callable[[], Any]) -> None:
    watch = Stopwatch()
    timer = Timer(0.01, make())
    timer.start()
    assert [value async for value in timer] == [1, 2, 3]
    await timer.wait()
    assert not timer.is_running()
    assert (timer.hit_count, timer.last_result) == (3, 3)
    assert 30 <= watch.ms <= 35


async def test_r2_a_container_is_no_target_and_its_value_no_source() -> None:
    """Only iterators give their items: a list that is returned is a value."""
    async with Timer(0.01, lambda: [1, 2]) as timer:
        assert await timer.join() == [1, 2]
        assert await timer.join() == [1, 2]


async def test_r2_a_factory_is_called_anew_at_each_start() -> None:
    timer = Timer(0.01, generator)
    for _ in range(2):
        timer.start()
        assert [value async for value in timer] == [1, 2, 3]
    assert timer.hit_count == 6


async def test_r2_a_generator_is_not_left_open() -> None:
    closed = list[bool]()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    async with Timer(0.01, endless) as timer:
        await timer.join()
    assert closed == [True]


async def test_r2_an_async_generator_is_not_left_open() -> None:
    closed = list[bool]()

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async with Timer(0.01, endless) as timer:
        await timer.join()
    assert closed == [True]


@pytest.mark.parametrize("takes", [0.0, 0.025])
async def test_r1_runs_never_overlap(takes: float) -> None:
    active = 0

    async def run() -> None:
        nonlocal active
        active += 1
        assert active == 1
        await asyncio.sleep(takes)
        active -= 1

    async with Timer(0.01, run, mode="fixed_rate") as timer:
        for _ in range(20):
            await asyncio.gather(timer.trigger(), timer.trigger())
    assert active == 0


def failing(*, on: set[int], error: Callable[[], BaseException] = lambda: ValueError("planned")) -> Times:
    class Failing(Times):
        def __call__(self) -> int:
            number = super().__call__()
            if number in on:
                raise error()
            return number

    return Failing()


async def test_r3_a_failure_stops_the_timer_and_reaches_whoever_waits() -> None:
    timer = Timer(0.01, failing(on={2}))
    timer.start()
    await timer.wait(hit_count=1)
    answers = await asyncio.gather(
        timer.join(), timer.wait(), timer.wait(hits=1), anext(timer), return_exceptions=True
    )
    assert [str(answer) for answer in answers] == ["planned"] * 4
    assert len({id(answer) for answer in answers}) == 1
    assert not timer.is_running()


async def test_r3_continue_goes_on() -> None:
    times = failing(on={2, 3})
    async with Timer(0.01, times, on_error="continue") as timer:
        await timer.wait(hit_count=3)
    assert times.at == [0, 10, 20, 30, 40]


async def test_r3_backoff_grows_up_to_its_cap_and_a_success_resets_it() -> None:
    times = failing(on={2, 3, 4, 5, 7})
    async with Timer(0.1, times, on_error=Backoff(0.01, 0.03)) as timer:
        await timer.wait(hit_count=3)
    assert times.at == [0, 100, 110, 130, 160, 190, 290, 300]


@pytest.mark.parametrize("shielded", [False, True])
async def test_r4_a_run_over_its_limit_is_given_up_and_fails(shielded: bool) -> None:
    given_up = list[float]()

    async def slow() -> None:
        watch = Stopwatch()
        try:
            await (asyncio.shield(asyncio.sleep(1)) if shielded else asyncio.sleep(1))
        except asyncio.CancelledError:
            given_up.append(watch.ms)
            raise

    timer = Timer(0.01, slow, run_timeout=0.05)
    timer.start()
    with pytest.raises(TimeoutError, match="time limit"):
        await timer.wait()
    assert given_up == [50]
    await asyncio.sleep(1)


async def test_r4_cleanup_that_awaits_is_waited_for() -> None:
    watch, ends = Stopwatch(), list[float]()
    told = list[float]()

    async def slow() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            await asyncio.sleep(0.1)
            ends.append(watch.ms)

    timer = Timer(
        0.01, slow, lambda *_: told.append(watch.ms), run_timeout=0.05, on_error="continue", max_runs=2
    )
    timer.start()
    await timer.wait()
    assert ends == [150, 310]
    assert told == [150, 310]
    assert timer.hit_count == 0


async def test_r4_a_run_that_refuses_to_be_cancelled_holds_its_timer_up_and_nothing_else() -> None:
    watch = Stopwatch()
    other = Times()

    async def stubborn() -> int:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
        return 1

    timer = Timer(0.01, stubborn, run_timeout=0.05, name="stubborn")
    timer.start()
    async with Timer(0.1, other):
        with pytest.raises(TimeoutError):
            await timer.wait()
    assert watch.ms == 550
    assert len(other.at) == 6


async def test_r4_a_sync_run_over_its_limit_counts_as_a_failure() -> None:
    from tests.support import virtual

    timer = Timer(0.01, lambda: virtual().advance(0.1), run_timeout=0.05)
    timer.start()
    with pytest.raises(TimeoutError):
        await timer.join()


async def test_r4_the_task_can_be_used_after_a_run_was_given_up() -> None:
    """The cancellation of one run is not counted against the next."""
    cancelling = list[int]()

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        cancelling.append(task.cancelling())
        async with asyncio.timeout(10):
            await asyncio.sleep(1)

    async with Timer(0.01, run, run_timeout=0.05, on_error="continue"):
        await asyncio.sleep(0.2)
    assert len(cancelling) >= 3
    assert set(cancelling) == {0}


async def test_r5_a_broken_callback_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    timer = Timer(0.01, failing(on={2}), broken, broken, on_error="continue", max_runs=3, name="broken")
    timer.start()
    await timer.wait()
    assert timer.hit_count == 2
    told = [record for record in caplog.records if record.exc_info]
    assert [record.exc_info[0] for record in told if record.exc_info] == [ZeroDivisionError] * 2
    assert {(record.name, record.getMessage()) for record in told} == {
        ("everbeat.timer.broken", "a callback of timer 'broken' failed")
    }


async def test_r5_one_failing_timer_leaves_the_others_alone() -> None:
    times = Times()
    async with Timer(0.01, times) as timer, Timer(0.01, failing(on={2}), lambda *_: None):
        await timer.wait(hit_count=5)
    assert times.at == [0, 10, 20, 30, 40]


async def test_r6_callbacks_get_the_timer_and_its_target_and_see_the_exception() -> None:
    seen = list[Any]()

    def told(timer: object, target: object) -> None:
        seen.append((timer, target, sys.exc_info()[0], sys.exc_info()[1]))

    target = failing(on={1})
    timer = Timer(0.01, target, told, told)
    timer.start()
    with pytest.raises(ValueError, match="planned") as raised:
        await timer.join()
    await timer.wait(timeout=0) if timer.is_running() else None
    assert seen[0] == (timer, target, ValueError, raised.value)
    assert seen[1:] == [(timer, target, None, None)]


class Unusual(BaseException):
    """What nobody catches by accident."""


@pytest.mark.parametrize("kind", [ValueError, Unusual])
@pytest.mark.parametrize("is_async", [False, True])
async def test_r6_callbacks_see_where_it_failed_and_leave_no_trace_in_it(
    is_async: bool, kind: type[BaseException]
) -> None:
    seen = list[Any]()

    def frames(error: BaseException | None) -> list[str]:
        assert error is not None
        return [frame.name for frame in traceback.extract_tb(error.__traceback__)]

    def fail() -> None:
        raise kind("planned")

    async def fail_later() -> None:
        fail()

    def told(*_: object) -> None:
        seen.append(frames(sys.exc_info()[1]))
        if issubclass(kind, Exception):
            raise  # which is logged

    timer = Timer(0.01, fail_later if is_async else fail, told, start=True)
    with pytest.raises(kind, match="planned") as raised:
        await timer.wait()
    own = ["fail_later", "fail"] if is_async else ["fail"]
    assert seen == [own]
    assert frames(raised.value)[1:] == own  # after the frame of this test


async def test_r6_a_failure_without_a_callback_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    timer = Timer(0.01, failing(on={1}), name="quiet")
    timer.start()
    with pytest.raises(ValueError, match="planned"):
        await timer.wait()
    [record] = [record for record in caplog.records if record.name == "everbeat.timer.quiet"]
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError


@pytest.mark.parametrize("how", ["cancel", "shutdown", "fail", "exhaust", "max_runs", "run_for", "condition"])
async def test_r6_cancel_cb_is_called_once_for_each_end(how: str) -> None:
    ends = list[bool]()
    stop = asyncio.get_running_loop().create_future()
    targets: dict[str, Any] = {"fail": failing(on={2}), "exhaust": generator}
    options: dict[str, Any] = {
        "max_runs": {"max_runs": 2},
        "run_for": {"run_for": 0.015},
        "condition": {"cancel_aws": [stop]},
    }.get(how, {})
    timer = Timer(0.01, targets.get(how, plain), plain_callback, lambda *_: ends.append(True), **options)
    timer.start()
    await asyncio.sleep(0.005)
    stop.set_result(None)
    if how == "cancel":
        await timer.cancel()
    elif how == "shutdown":
        assert await timer.shutdown(1) == "drained"
    await asyncio.gather(timer.wait(), return_exceptions=True)
    await asyncio.gather(timer.cancel(), timer.cancel(), timer.stop())
    assert ends == [True]
    if how == "condition":
        return
    timer.start()
    await timer.cancel()
    assert ends == [True, True]


def plain_callback(*_: object) -> None:
    pass


async def test_r7_offload_moves_a_sync_target_to_another_thread() -> None:
    variable = contextvars.ContextVar("variable", default="nothing")
    variable.set("set")

    def run() -> tuple[bool, str]:
        return threading.current_thread() is threading.main_thread(), variable.get()

    async with Timer(0.01, run, offload=True) as timer:
        assert await timer.join() == (False, "set")
        assert await timer.trigger() == (False, "set")


async def test_r7_a_failure_of_an_offloaded_run() -> None:
    timer = Timer(0.01, failing(on={1}), offload=True)
    timer.start()
    with pytest.raises(ValueError, match="planned"):
        await timer.wait()


@pytest.mark.parametrize("fails", [False, True])
async def test_l6_who_is_cancelled_waits_for_the_thread_and_is_cancelled(fails: bool) -> None:
    go_on = threading.Event()

    def work() -> float:
        go_on.wait(10)
        return 1 / (not fails)

    task = asyncio.create_task(in_thread(work))
    for _ in range(2):
        await spin()
        task.cancel()
    await spin()
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    # What became of the work is nobody's: the loop does not complain.


async def given_up(run: Callable[[], Any], go_on: threading.Event) -> Timer[Any]:
    """A timer that was cancelled during its run on a worker, which has gone on since."""
    timer = Timer(0.01, run, offload=True, start=True)
    await spin()
    cancelling = timer.cancel()
    await spin()
    go_on.set()
    await cancelling
    return timer


async def test_r7_a_coroutine_of_an_offloaded_run_that_was_given_up_is_closed() -> None:
    go_on, made = threading.Event(), list[Coroutine[Any, Any, int]]()

    def run() -> Coroutine[Any, Any, int]:
        go_on.wait(10)
        made.append(coroutine())
        return made[-1]

    await given_up(run, go_on)
    assert [inspect.getcoroutinestate(coroutine) for coroutine in made] == [inspect.CORO_CLOSED]


async def test_r7_a_failure_of_an_offloaded_run_that_was_given_up_is_nobodys() -> None:
    go_on = threading.Event()

    def run() -> None:
        go_on.wait(10)
        raise ValueError("planned")

    timer = await given_up(run, go_on)
    assert timer.stats().failures == 0  # nor does the loop complain


@pytest.mark.parametrize("is_async", [False, True])
async def test_o1_the_context_is_that_of_the_start(is_async: bool) -> None:
    variable = contextvars.ContextVar("variable", default=0)
    seen = list[Any]()

    def run() -> None:
        seen.append(("run", variable.get()))
        variable.set(variable.get() + 10)

    async def run_in_a_task() -> None:
        await asyncio.sleep(0)
        run()

    def told(*_: object) -> None:
        seen.append(("end", variable.get()))

    timer = Timer(0.01, run_in_a_task if is_async else run, None, told)
    for start in (1, 2):
        variable.set(start)
        timer.start()
        variable.set(0)
        await timer.wait(hits=2)
        await timer.cancel()
    # Runs of one start share their context, as they would in a loop of one's own.
    assert seen == [
        *(("run", 1), ("run", 11), ("end", 21)),
        *(("run", 2), ("run", 12), ("end", 22)),
    ]
    assert variable.get() == 0


async def test_o1_the_task_has_the_name_of_the_timer() -> None:
    names = set[str]()

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        names.add(task.get_name())
        await asyncio.sleep(0)
        assert asyncio.current_task() is task

    async with Timer(0.01, run, name="named") as timer:
        await timer.wait(hit_count=3)
    assert names == {"timer:named"}


async def test_o1_a_sync_target_runs_in_no_task() -> None:
    tasks = set[object]()
    async with Timer(0.01, lambda: tasks.add(asyncio.current_task())) as timer:
        await timer.wait(hit_count=3)
    assert tasks == {None}


async def test_l5_timeouts_task_groups_and_gather_work_inside_a_target() -> None:
    async def run() -> list[Any]:
        seen: list[Any] = []
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(1)
        except TimeoutError:
            seen.append("timeout")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(1), 0.01)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(coroutine())
        seen.append(task.result())
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(1))
                group.create_task(fails())
        seen += await asyncio.gather(coroutine(), coroutine())
        return seen

    async def fails() -> None:
        raise ValueError

    async with Timer(0.01, run) as timer:
        for _ in range(3):
            assert await timer.join() == ["timeout", 1, 1, 1]


async def test_r3_the_traceback_does_not_grow_with_those_who_are_told() -> None:
    timer = Timer(0.01, failing(on={1}))
    timer.start()
    lengths = set[int]()
    for _ in range(20):
        with pytest.raises(ValueError, match="planned") as raised:
            await timer.wait()
        lengths.add(len(traceback.extract_tb(raised.value.__traceback__)))
    assert len(lengths) == 1


def raising(error: type[Exception]) -> Callable[[], Any]:
    def run() -> None:
        raise error

    return run


async def raising_in_a_task() -> None:
    await asyncio.sleep(0)
    raise StopAsyncIteration


@pytest.mark.parametrize(
    ("make", "offload", "last"),
    [
        (lambda: iter("xyz").__next__, False, "z"),
        (lambda: iter("xyz").__next__, True, "z"),
        (lambda: raising(StopAsyncIteration), False, None),
        (lambda: raising_in_a_task, False, None),
    ],
)
async def test_r2_a_call_that_raises_stop_iteration_ends_the_timer(
    make: Callable[[], Callable[[], Any]], offload: bool, last: str | None
) -> None:
    told, ends = list[Any](), list[Any]()
    timer = Timer(0.01, make(), lambda *_: told.append(1), lambda *_: ends.append(1), offload=offload)
    timer.start()
    assert await timer.wait() == last
    assert (timer.last_result, timer.stats().failures, told, ends) == (last, 0, [], [1])


@pytest.mark.parametrize("is_async", [False, True])
async def test_r3_a_target_that_raises_cancelled_error_has_failed(is_async: bool) -> None:
    """E3: nobody has cancelled the timer, and whoever waits for it is not cancelled by that."""
    awaited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    awaited.cancel()
    told, ends = list[bool](), list[bool]()

    def raising() -> None:
        raise asyncio.CancelledError

    async def awaiting() -> None:
        await awaited

    target = awaiting if is_async else raising
    timer = Timer(0.01, target, lambda *_: told.append(True), lambda *_: ends.append(True))
    timer.start()
    with pytest.raises(RuntimeError, match="CancelledError"):
        await timer.join()
    with pytest.raises(RuntimeError, match="CancelledError"):
        await timer.wait()
    assert (told, ends) == ([True], [True])
    async with Timer(0.01, target, lambda *_: None, on_error="continue", max_runs=3) as patient:
        await patient.wait()
        assert patient.stats().failures == 3


async def test_o1_a_task_factory_of_the_old_kind_serves_as_well() -> None:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.BaseEventLoop):
        pytest.skip("uvloop gives every factory a context")
    var: ContextVar[str] = ContextVar("var")
    var.set("as started")

    async def run() -> str:
        return var.get()

    loop.set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))
    try:
        async with Timer(0.01, run) as timer:
            assert await timer.wait(hit_count=3) == "as started"
    finally:
        loop.set_task_factory(None)


async def test_l2_cancelling_the_task_of_a_timer_from_elsewhere_ends_the_timer() -> None:
    ends, tasks = list[bool](), list[asyncio.Task[Any]]()

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await asyncio.sleep(1)

    timer = Timer(0.01, run, None, lambda *_: ends.append(True))
    timer.start()
    await asyncio.sleep(0.005)
    tasks[0].cancel()
    await timer.wait()
    assert tasks[0].cancelled()
    assert (timer.is_running(), ends, len(tasks)) == (False, [True], 1)


async def test_l2_cancelling_the_task_between_two_runs_ends_the_timer() -> None:
    tasks = list[asyncio.Task[Any]]()

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)

    timer = Timer(1, run)
    timer.start()
    await timer.join()
    await asyncio.sleep(0.5)
    tasks[0].cancel()
    await timer.wait()
    assert not timer.is_running()
