"""`everbeat.compat.async_timer`: what its users were told keeps working."""

import asyncio
import contextlib
import importlib
import inspect
import logging
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import everbeat
from everbeat.compat import async_timer as compat
from everbeat.compat.mock_async_timer import MockTimer
from tests.loops import in_virtual_time, on_every_loop

# The same programs under both names.
both_names = pytest.mark.parametrize("async_timer", [compat, everbeat], ids=["compat", "everbeat"])


@both_names
@on_every_loop
async def test_a_cache_is_warm_before_anybody_is_served(async_timer: Any) -> None:
    """D3, L2"""
    cache: dict[str, Any] = {"warm": False}

    async def refresh() -> None:
        cache.update(warm=True, at=time.time())

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with async_timer.Timer(delay=5, target=refresh) as timer:
            await timer.wait(hit_count=1)
            yield
        assert not timer.is_running()

    async with lifespan():
        assert cache["warm"] and cache["at"] <= time.time()


@both_names
@on_every_loop
async def test_join(async_timer: Any) -> None:
    """D2"""
    timer = async_timer.Timer(12, target=lambda: 42)
    assert timer.start() is None
    assert await timer.join() == 42
    assert await timer.cancel() is None


@both_names
@in_virtual_time
async def test_async_for(async_timer: Any) -> None:
    """D4"""
    seen = []
    async with async_timer.Timer(14, target=asyncio.get_running_loop().time) as timer:
        async for moment in timer:
            seen.append(moment)
            if len(seen) == 3:
                break
    assert seen == [0, 14, 28]


@both_names
@on_every_loop
async def test_decorator(async_timer: Any) -> None:
    """R2, D1"""

    @async_timer.every(5, mode="fixed_rate", name="db_refresh")
    async def refresh() -> str:
        """Reads it."""
        return "rows"

    def cached() -> Any:
        return refresh.last_result

    assert isinstance(refresh, async_timer.Timer)
    assert await refresh.func() == "rows"
    assert (refresh.__name__, refresh.__doc__, refresh.name) == ("refresh", "Reads it.", "db_refresh")
    assert cached() is None
    refresh.start()
    assert await refresh.join() == "rows" == cached()
    await refresh.cancel()


@both_names
@on_every_loop
async def test_group(async_timer: Any) -> None:
    """G1, G2, G4"""
    async with async_timer.TimerGroup(name="caches") as group:
        first = group.add(async_timer.Timer(5, target=lambda: "rows"))
        second = group.add(async_timer.Timer(60, target=lambda: "pruned"))
        assert [timer for timer, _ in await group.wait(hit_count=1)] == [first, second]
        assert await group.trigger() == [(first, "rows"), (second, "pruned")]
        assert group.is_running() and len(group) == 2 and first in group and list(group) == [first, second]
        with pytest.raises(TimeoutError):
            await group.wait(hits=5, timeout=0)
    assert not first.is_running() and not second.is_running()
    group.start()
    with pytest.raises(async_timer.ThreadsafeDispatchError):
        group.cancel_threadsafe()
    await asyncio.to_thread(group.cancel_threadsafe, timeout=5.0)
    await group.cancel_all()
    assert not group.is_running()


@both_names
@on_every_loop
async def test_trigger_tells_of_a_run_of_its_own(async_timer: Any) -> None:
    """D5"""
    numbers = iter(range(100))

    async def slow() -> int:
        number = next(numbers)
        await asyncio.sleep(0)
        return number

    async with async_timer.Timer(1000, slow) as timer:
        await asyncio.sleep(0)
        assert await timer.trigger() == 1  # run 0 had begun before


@both_names
@in_virtual_time
async def test_every_tick_reaches_a_slow_subscriber(async_timer: Any) -> None:
    """D6"""
    numbers = iter(range(100))
    async with async_timer.Timer(1, lambda: next(numbers)) as timer:
        async with timer.subscribe() as feed, timer.subscribe() as other:
            seen = []
            async for value in feed:
                seen.append(value)
                if len(seen) == 5:
                    break
                await asyncio.sleep(3)
            assert seen == [0, 1, 2, 3, 4]
            assert other.qsize == timer.hit_count


@both_names
@in_virtual_time
async def test_a_bounded_feed_drops_the_oldest(async_timer: Any) -> None:
    """D6, D7"""
    numbers = iter(range(100))
    async with async_timer.Timer(1, lambda: next(numbers)) as timer:
        async with timer.subscribe(maxsize=3, name="sink") as feed:
            await asyncio.sleep(9.5)
            assert (feed.qsize, feed.dropped_count) == (3, 7)
            assert await anext(feed) == 7


@both_names
@in_virtual_time
async def test_a_consumer_sheds_its_load(async_timer: Any) -> None:
    """D7"""
    numbers = iter(range(100))
    async with async_timer.Timer(1, lambda: next(numbers)) as timer:
        async with timer.subscribe() as feed:
            await asyncio.sleep(99.5)
            assert await anext(feed) == 0
            assert feed.drop_oldest(feed.qsize - 1) == 98
            assert (feed.qsize, feed.dropped_count) == (1, 98)
            assert await anext(feed) == 99
            with pytest.raises(StopAsyncIteration):
                await anext(feed)  # its numbers are at an end, and so is the timer


@both_names
@on_every_loop
async def test_a_failure_reaches_the_subscribers(async_timer: Any) -> None:
    """D7, R6"""
    told: list[Any] = []

    def boom() -> None:
        raise ValueError("boom")

    def exc_cb(timer: Any, target: Any) -> None:
        told.append((timer, target))

    timer = async_timer.Timer(1, boom, exc_cb=exc_cb, cancel_cb=lambda *_: told.append("end"))
    async with timer.subscribe() as feed:
        timer.start()
        with pytest.raises(ValueError, match="boom"):
            await anext(feed)
    assert told == [(timer, boom), "end"]


@both_names
@on_every_loop
async def test_other_threads_control_a_timer(async_timer: Any) -> None:
    """L9"""
    timer = async_timer.Timer(1000, lambda: 42)
    for call in (timer.cancel_threadsafe, timer.trigger_threadsafe):
        with pytest.raises(async_timer.ThreadsafeDispatchError):
            call(timeout=5.0)
    timer.start()
    with pytest.raises(async_timer.ThreadsafeDispatchError):
        timer.cancel_threadsafe(timeout=5.0)
    assert await asyncio.to_thread(timer.trigger_threadsafe, timeout=5.0) == 42
    feed = timer.subscribe()
    await asyncio.to_thread(feed.close_threadsafe)
    assert [value async for value in feed] == []
    await asyncio.to_thread(timer.cancel_threadsafe, timeout=5.0)
    assert not timer.is_running()


@both_names
@on_every_loop
async def test_a_timer_may_be_started_again_unless_it_was_built_with_cancel_aws(async_timer: Any) -> None:
    """L1, L7"""
    timer = async_timer.Timer(1000, lambda: 42, start=True)
    with pytest.raises(async_timer.TimerAlreadyRunningError):
        timer.start()
    await timer.cancel()
    timer.start()
    assert await timer.join() == 42
    await timer.cancel()
    stop = asyncio.Event()
    single = async_timer.Timer(1000, lambda: 42, cancel_aws=[stop.wait()], start=True)
    stop.set()
    await single.wait(timeout=5)
    assert not single.is_running()
    with pytest.raises(async_timer.TimerRestartError):
        single.start()


@both_names
def test_every_error_is_one_of_the_family(async_timer: Any) -> None:
    """E1"""
    names = (
        "TimerAlreadyRunningError",
        "TimerNotRunningError",
        "TimerRestartError",
        "ThreadsafeDispatchError",
    )
    assert issubclass(async_timer.TimerError, RuntimeError)
    assert all(issubclass(getattr(async_timer, name), async_timer.TimerError) for name in names)
    assert all(hasattr(async_timer, name) for name in ("Timer", "TimerGroup", "Subscription", "every"))
    assert async_timer.__version__ == everbeat.__version__


@both_names
@in_virtual_time
async def test_the_delay_is_changed_on_the_way(async_timer: Any) -> None:
    """S7"""
    now = asyncio.get_running_loop().time
    async with async_timer.Timer(10, now, initial_delay=1.0, jitter=0.0, name="t") as timer:
        await timer.wait(hit_count=1)
        timer.set_delay(5)
        assert timer.delay == 5
        await timer.wait(hits=2)
        assert now() in (11, 16)
        assert timer.last_tick_at == now()


MODULES = ["decorators", "exceptions", "group", "pacemaker", "subscription", "target_caller", "timer"]


@pytest.mark.parametrize("module", MODULES)
def test_the_modules_have_their_names(module: str) -> None:
    found = importlib.import_module(f"everbeat.compat.async_timer.{module}")
    assert getattr(compat, module) is found and found.__all__
    assert all(hasattr(found, name) for name in found.__all__)


def test_signatures() -> None:
    assert list(inspect.signature(compat.Timer).parameters) == [
        *("delay", "target", "exc_cb", "cancel_cb", "cancel_aws", "start"),
        *("mode", "initial_delay", "jitter", "name"),
    ]
    assert list(inspect.signature(compat.every).parameters) == [
        *("delay", "exc_cb", "cancel_cb", "cancel_aws", "mode", "initial_delay", "jitter", "name")
    ]
    assert list(inspect.signature(compat.TimerGroup).parameters) == ["timers", "name"]


@on_every_loop
async def test_of_two_counts_the_total_counts() -> None:
    async with compat.Timer(0.001, lambda: 42) as timer:
        assert await timer.wait(hit_count=2, hits=10**9) == 42


@on_every_loop
async def test_waiting_for_a_timer_that_does_not_run_is_cancelled() -> None:
    """E3: only here. Elsewhere a cancellation means that one was cancelled."""
    timer = compat.Timer(1000, lambda: 42)
    for _ in range(2):
        for waiting in (timer.join(), timer.wait(hit_count=1000), timer.wait(hits=1)):
            with pytest.raises(asyncio.CancelledError) as told:
                await waiting
            assert told.value.args == (str(told.value.__cause__),)
        with pytest.raises(compat.TimerNotRunningError):
            await timer.trigger()
        assert await timer.wait() is None
        assert [value async for value in timer] == []
        timer.start()
        await timer.join()
        await timer.cancel()
    assert await timer.wait(hit_count=1) is None


@on_every_loop
async def test_waiting_for_a_timer_that_stops_is_cancelled() -> None:
    """E3"""
    timer = compat.Timer(1000, lambda: 42, initial_delay=1000, start=True)
    waiting = [asyncio.ensure_future(wait) for wait in (timer.join(), timer.wait(hits=1), timer.wait())]
    await asyncio.sleep(0)
    await timer.cancel()
    joined, hit, ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(joined, asyncio.CancelledError) and isinstance(hit, asyncio.CancelledError)
    assert ended is None


@on_every_loop
async def test_a_failure_is_not_taken_for_a_cancellation() -> None:
    """D9"""

    def boom() -> None:
        raise ValueError("boom")

    timer = compat.Timer(1, boom, exc_cb=lambda *_: None, start=True)
    with pytest.raises(ValueError, match="boom"):
        await timer.join()
    with pytest.raises(ValueError, match="boom"):
        await timer.join()


@on_every_loop
async def test_a_cancelled_caller_is_cancelled() -> None:
    """L6"""
    async with compat.Timer(1000, lambda: 42, initial_delay=1000) as timer:
        for waiting in (timer.join(), timer.wait(), timer.trigger()):
            task = asyncio.ensure_future(waiting)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert timer.is_running()


@on_every_loop
async def test_timers_have_a_pacemaker_and_attributes_of_their_users() -> None:
    def told(timer: Any, target: Any) -> None: ...

    def ended(timer: Any, target: Any) -> None: ...

    timer = compat.Timer(10, len, told, ended, mode="fixed_rate", initial_delay=1, jitter=0.5)
    assert (timer.exception_callback, timer.cancel_callback) == (told, ended)
    pacemaker = timer.pacemaker
    assert (pacemaker.delay, pacemaker.mode, pacemaker.initial_delay, pacemaker.jitter) == (
        10,
        "fixed_rate",
        1,
        0.5,
    )
    pacemaker.delay = 5
    assert timer.delay == 5
    timer.owner = "me"  # type: ignore[attr-defined]
    assert timer.target_caller.target is len
    with pytest.raises(ValueError, match="delay"):
        compat.Timer(-1, len)


@in_virtual_time
async def test_s3_s5_the_timer_keeps_the_mode_and_the_jitter_it_is_given() -> None:
    now = asyncio.get_running_loop().time
    on_the_grid, beside_it = list[float](), list[float]()

    async def work() -> None:
        on_the_grid.append(now())
        await asyncio.sleep(1)

    async with (
        compat.Timer(10, work, mode="fixed_rate"),
        compat.Timer(10, lambda: beside_it.append(now()), mode="fixed_rate", jitter=0.4),
    ):
        await asyncio.sleep(35)
    assert on_the_grid == [0, 10, 20, 30]
    first, *others = beside_it
    assert first == 0 and [round(moment, -1) for moment in others] == [10, 20, 30]
    assert not {*others} <= {*on_the_grid}


@on_every_loop
async def test_failures_of_a_group_come_as_they_are_or_as_results() -> None:
    """G1"""
    bad = compat.Timer(10, lambda: 1 // 0, exc_cb=lambda *_: None)
    async with compat.TimerGroup([bad]) as group:
        with pytest.raises(ZeroDivisionError):
            await group.wait(hit_count=1)
        ((_, error),) = await group.wait(hit_count=1, return_exceptions=True)
        assert isinstance(error, ZeroDivisionError)


@on_every_loop
async def test_the_decorator_hands_on_what_it_is_given() -> None:
    told: list[str] = []

    @compat.every(
        10,
        exc_cb=lambda *_: told.append("failed"),
        cancel_cb=lambda *_: told.append("ended"),
        cancel_aws=[asyncio.get_running_loop().create_future()],
        mode="fixed_rate",
        initial_delay=0.001,
        jitter=0.5,
        name="mine",
    )
    def fails() -> None:
        raise ValueError("boom")

    def schedule(timer: compat.Timer[Any]) -> tuple[Any, ...]:
        pacemaker = timer.pacemaker
        return pacemaker.delay, pacemaker.mode, pacemaker.initial_delay, pacemaker.jitter

    assert schedule(fails) == (10, "fixed_rate", 0.001, 0.5) and fails.name == "mine"
    fails.start()
    with pytest.raises(ValueError, match="boom"):
        await fails.wait()
    assert told == ["failed", "ended"]
    with pytest.raises(compat.TimerRestartError):
        fails.start()
    for plain in (compat.every(5)(len), compat.Timer(5, len)):  # type: ignore[arg-type]
        assert schedule(plain) == (5, "fixed_delay", 0, 0)


@in_virtual_time
async def test_the_time_limit_of_a_group_is_an_error_of_the_whole() -> None:
    """G1"""
    group = compat.TimerGroup([compat.Timer(1000, lambda: 1)])
    assert group.timers == list(group)
    async with group:
        await group.wait(hit_count=1)
        for options in ({"hits": 5}, {"hits": 5, "return_exceptions": True}, {}):
            with pytest.raises(TimeoutError):
                await group.wait(timeout=1, **options)
        assert group.is_running()


@on_every_loop
async def test_mock_timers_call_a_mock() -> None:
    """T3"""
    calls = 0

    def tick() -> None:
        nonlocal calls
        calls += 1

    async with MockTimer(0.1, tick, initial_delay=1.0) as timer:
        await timer.wait(hits=3)
    assert calls == 3
    assert isinstance(timer, compat.Timer)
    slept = [call.args for call in timer.pacemaker.sleep.await_args_list]
    assert slept == [(1.0,), (0.1,), (0.1,)]
    assert timer.sleeps[:3] == [1.0, 0.1, 0.1]
    pacemaker = timer.pacemaker
    assert (pacemaker.delay, pacemaker.mode, pacemaker.initial_delay, pacemaker.jitter) == (
        0.1,
        "fixed_delay",
        1.0,
        0.0,
    )
    timer.pacemaker.sleep.reset_mock()
    assert timer.pacemaker.sleep.await_count == 0
    with pytest.raises(asyncio.CancelledError):
        await timer.join()


@on_every_loop
async def test_mock_timers_do_what_timers_do() -> None:
    """T3"""

    def counts() -> Iterator[int]:
        yield from range(4)

    timer: MockTimer[int] = MockTimer(3600, counts, mode="fixed_rate")
    async with compat.TimerGroup([timer]) as group, timer.subscribe() as feed:
        assert [value async for value in feed] == [0, 1, 2, 3]
        assert not group.is_running()


@on_every_loop
async def test_a_failure_without_a_callback_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """R6, O2"""

    async def boom() -> None:
        raise ValueError("boom")

    timer = compat.Timer(1, boom, name="loud", start=True)
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match="boom"):
        await timer.wait()
    assert [record.name for record in caplog.records] == ["everbeat.timer.loud"]
