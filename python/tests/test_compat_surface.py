"""`everbeat.compat.async_timer` has what async-timer 1.3.2 has: names, signatures, what can be assigned."""

import asyncio
import gc
import importlib
import inspect
import logging
import math
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest.mock import AsyncMock

import pytest

import everbeat
from everbeat.compat import async_timer, mock_async_timer
from everbeat.compat.async_timer.pacemaker import TimerPacemaker
from everbeat.compat.async_timer.target_caller import Caller
from everbeat.compat.mock_async_timer.timer import MockPacemaker, MockTimer
from tests.loops import in_virtual_time, on_every_loop

# What users of 1.3.2 can import, module by module.
NAMES = {
    "async_timer": "Subscription ThreadsafeDispatchError Timer TimerAlreadyRunningError TimerError TimerGroup "
    "TimerNotRunningError TimerRestartError __version__ decorators every exceptions group pacemaker subscription "
    "target_caller timer",
    "async_timer.decorators": "DecoratedTimer every",
    "async_timer.exceptions": "ThreadsafeDispatchError TimerAlreadyRunningError TimerError TimerNotRunningError "
    "TimerRestartError",
    "async_timer.group": "GroupResult TimerGroup WaitResult",
    "async_timer.pacemaker": "PacemakerMode TimerPacemaker",
    "async_timer.subscription": "Subscription",
    "async_timer.target_caller": "Caller",
    "async_timer.timer": "Timer TimerCallbackT TimerMainTaskT",
    "mock_async_timer": "MockTimer timer",
    "mock_async_timer.timer": "MockPacemaker MockTimer",
}

# Positional parameters, and after the star those that are keywords; with the defaults that are plain values.
SIGNATURES = {
    "async_timer.timer.Timer": "delay target exc_cb cancel_cb cancel_aws=None start=False * mode='fixed_delay' "
    "initial_delay=0.0 jitter=0.0 name=None",
    "async_timer.timer.Timer.start": "self",
    "async_timer.timer.Timer.cancel": "self",
    "async_timer.timer.Timer.stop": "self",
    "async_timer.timer.Timer.join": "self",
    "async_timer.timer.Timer.trigger": "self",
    "async_timer.timer.Timer.is_running": "self",
    "async_timer.timer.Timer.wait": "self hit_count=None hits=None timeout=None",
    "async_timer.timer.Timer.subscribe": "self maxsize=0 * name=None",
    "async_timer.timer.Timer.set_delay": "self new_delay",
    "async_timer.timer.Timer.cancel_threadsafe": "self timeout=None",
    "async_timer.timer.Timer.trigger_threadsafe": "self timeout=None",
    "async_timer.decorators.every": "delay * exc_cb=None cancel_cb=None cancel_aws=None mode='fixed_delay' "
    "initial_delay=0.0 jitter=0.0 name=None",
    "async_timer.group.TimerGroup": "timers=() * name=None",
    "async_timer.group.TimerGroup.add": "self timer",
    "async_timer.group.TimerGroup.start": "self",
    "async_timer.group.TimerGroup.is_running": "self",
    "async_timer.group.TimerGroup.cancel_all": "self",
    "async_timer.group.TimerGroup.wait": "self hit_count=None hits=None timeout=None return_exceptions=False",
    "async_timer.group.TimerGroup.trigger": "self * timeout=None return_exceptions=False",
    "async_timer.group.TimerGroup.cancel_threadsafe": "self timeout=None",
    "async_timer.pacemaker.TimerPacemaker": "delay * mode='fixed_delay' initial_delay=0.0 jitter=0.0",
    "async_timer.pacemaker.TimerPacemaker.stop": "self",
    "async_timer.pacemaker.TimerPacemaker.stop_on": "self aws",
    "async_timer.pacemaker.TimerPacemaker.trigger": "self",
    "async_timer.subscription.Subscription": "maxsize=0 * name=None",
    "async_timer.subscription.Subscription.drop_oldest": "self n=1",
    "async_timer.subscription.Subscription.close": "self",
    "async_timer.subscription.Subscription.close_threadsafe": "self",
    "async_timer.target_caller.Caller": "target",
    "async_timer.target_caller.Caller.next": "self",
    "async_timer.target_caller.Caller.reset": "self",
}

# Keywords that only everbeat has, which every timer of it may have.
OURS = {"rearm", "overflow"}


def found(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(f"everbeat.compat.{module}"), name)
    except ModuleNotFoundError:
        return getattr(found(module), name)


def written(signature: inspect.Signature) -> str:
    words, keywords = list[str](), False
    for parameter in signature.parameters.values():
        if parameter.name in OURS:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not keywords:
            words.append("*")
            keywords = True
        plain = not callable(parameter.default) and parameter.default is not parameter.empty
        words.append(f"{parameter.name}={parameter.default!r}" if plain else parameter.name)
    return " ".join(words)


@pytest.mark.parametrize("module", NAMES)
def test_every_name_is_there(module: str) -> None:
    there = importlib.import_module(f"everbeat.compat.{module}")
    assert [name for name in NAMES[module].split() if not hasattr(there, name)] == []


@pytest.mark.parametrize("path", SIGNATURES)
def test_signatures_are_those_that_callers_know(path: str) -> None:
    assert written(inspect.signature(found(path))) == SIGNATURES[path]


def test_aliases_of_types_take_the_type_of_a_value() -> None:
    timer, group = async_timer.timer, async_timer.group
    assert all(alias[int] for alias in (timer.TimerMainTaskT, timer.TimerCallbackT))
    assert group.WaitResult is group.GroupResult
    assert async_timer.decorators.DecoratedTimer[int]


@on_every_loop
async def test_r6_callbacks_can_be_assigned(caplog: pytest.LogCaptureFixture) -> None:
    told = list[Any]()

    def boom() -> None:
        raise ValueError("boom")

    timer = async_timer.Timer(1, boom, name="loud")
    with caplog.at_level(logging.ERROR):
        timer.start()
        with pytest.raises(ValueError, match="boom"):
            await timer.wait()
    (record,) = caplog.records
    assert record.name == "everbeat.timer.loud" and record.exc_info is not None
    timer.exception_callback = lambda *given: told.append(given)
    timer.cancel_callback = lambda *given: told.append(given)
    timer.start()
    with pytest.raises(ValueError, match="boom"):
        await timer.wait()
    assert told == [(timer, boom), (timer, boom)]
    with pytest.raises(TypeError, match="callable"):
        async_timer.Timer(1, boom, exc_cb=None)  # type: ignore[call-overload]


@on_every_loop
async def test_d1_d3_the_hit_count_can_be_assigned() -> None:
    async with async_timer.Timer(1000, lambda: 1) as timer:
        await timer.wait(hit_count=1)
        await timer.trigger()
        assert timer.hit_count == 2
        timer.hit_count = 0
        assert await timer.wait(hit_count=0) is None and timer.hit_count == 0
        waiting = asyncio.ensure_future(timer.wait(hit_count=2))
        await timer.trigger()
        await asyncio.sleep(0.001)
        assert timer.hit_count == 1 and not waiting.done()
        await timer.trigger()
        assert await waiting == 1 and timer.hit_count == 2
        assert await timer.wait(hit_count=-5) is None and await timer.wait(hits=-5) is None


@on_every_loop
async def test_d1_the_latest_value_can_be_assigned_until_the_next_tick() -> None:
    values = iter([1, 2])
    timer = async_timer.Timer(1000, values.__next__)
    timer.last_result = 7
    assert timer.last_result == 7 and timer.last_tick_at is None
    async with timer:
        assert await timer.wait(hit_count=1) == timer.last_result == 1
        timer.last_result = None
        timer.last_tick_at = 5.0
        assert timer.last_result is None and timer.last_tick_at == 5
        await timer.trigger()
        assert timer.last_result == 2 and timer.last_tick_at not in (None, 5)


def test_s7_a_delay_is_read_as_it_was_given() -> None:
    timer = async_timer.Timer(60 / 7, lambda: 1)
    assert timer.delay == timer.pacemaker.delay == 60 / 7
    timer.set_delay(1 / 3)
    assert timer.delay == timer.pacemaker.delay == 1 / 3
    timer.pacemaker.delay = 2 / 3
    assert timer.delay == timer.pacemaker.delay == 2 / 3 and timer.stats().delay == 0.666666667
    timer.set_delay(everbeat.ns(1_500))
    assert timer.delay == timer.pacemaker.delay == 1.5e-6
    with pytest.raises(ValueError, match="delay"):
        timer.set_delay(-1)
    assert timer.delay == 1.5e-6
    assert TimerPacemaker(1 / 7).delay == 1 / 7


@in_virtual_time
async def test_d3_a_time_limit_that_has_passed_leaves_no_time() -> None:
    timer = async_timer.Timer(1000, lambda: 1)
    async with async_timer.TimerGroup([timer]) as group:
        assert await timer.wait(hits=1, timeout=math.inf) == 1
        for wait in (
            lambda: timer.wait(hits=1, timeout=-1),
            lambda: group.wait(hits=1, timeout=-1),
            lambda: group.trigger(timeout=-1),
        ):
            with pytest.raises(TimeoutError):
                await wait()
        assert await timer.wait(timeout=-1) is None
        for limit in (math.nan, True):
            with pytest.raises((ValueError, TypeError)):
                await timer.wait(timeout=limit)


@on_every_loop
async def test_l9_a_time_limit_that_has_passed_leaves_a_thread_no_time() -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await let_go.wait()

    let_go = asyncio.Event()
    timer = async_timer.Timer(10, work)
    async with async_timer.TimerGroup([timer]) as group:
        await asyncio.sleep(0)
        for ask in (timer.trigger_threadsafe, timer.cancel_threadsafe, group.cancel_threadsafe):
            with pytest.raises(TimeoutError):
                await asyncio.to_thread(ask, -1)
        let_go.set()


@on_every_loop
async def test_mocks_of_a_timer_are_awaited_as_it_is() -> None:
    timer = AsyncMock(spec=async_timer.Timer)
    timer.join.return_value = 5
    assert await timer.join() == 5
    for method in (timer.cancel, timer.stop, timer.trigger, timer.wait):
        await method()
        method.assert_awaited_once_with()
    assert not asyncio.iscoroutine(timer.is_running())


def test_g4_an_empty_group_is_false() -> None:
    group = async_timer.TimerGroup()
    assert not group
    group.add(async_timer.Timer(1, lambda: 1))
    assert group


def test_what_cannot_be_assigned_says_so() -> None:
    timer = async_timer.Timer(1, lambda: 1)
    for owner, field in (
        (timer.target_caller, "target"),
        (timer, "target_caller"),
        (timer, "pacemaker"),
        (timer, "name"),
        (timer.pacemaker, "mode"),
        (timer.pacemaker, "initial_delay"),
        (timer.pacemaker, "jitter"),
    ):
        with pytest.raises(AttributeError, match=rf"{field}.* cannot be set: make another"):
            setattr(owner, field, None)
    for field in ("main_task", "result_fanout", "FanoutRv"):
        with pytest.raises(AttributeError, match=rf"{field}.*await"):
            getattr(timer, field)


@on_every_loop
async def test_g2_g4_the_members_of_a_group_are_a_list() -> None:
    first, second, third = (async_timer.Timer(1, lambda: 1) for _ in range(3))
    group = async_timer.TimerGroup([first])
    group.timers.append(second)
    assert group.timers == list(group) == [first, second] and second in group and len(group) == 2
    async with group:
        assert second.is_running()
        assert group.add(third) is third is group.add(third)
        assert third.is_running()
        group.timers = [second]
    assert first.is_running() and third.is_running() and not second.is_running()
    await asyncio.gather(first.cancel(), third.cancel())
    group.remove(second)
    group.discard(second)
    assert not group.timers


@on_every_loop
async def test_r2_a_call_that_raises_stop_iteration_ends_a_compatible_timer() -> None:
    ends = list[Any]()

    async def at_an_end() -> None:
        raise StopAsyncIteration

    timer = async_timer.Timer(0.001, iter([5, 6]).__next__, cancel_cb=lambda *_: ends.append(1))
    async with timer.subscribe() as feed:
        timer.start()
        assert [value async for value in feed] == [5, 6]
    assert await timer.wait() is None and ends == [1]
    assert await async_timer.Timer(1, at_an_end, start=True).wait() is None


@on_every_loop
async def test_e3_a_trigger_whose_timer_stops_is_cancelled() -> None:
    timer = async_timer.Timer(1000, asyncio.Event().wait, start=True)
    waiting = asyncio.ensure_future(timer.trigger())
    await asyncio.sleep(0)
    await timer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(async_timer.TimerNotRunningError):
        await timer.trigger()


@on_every_loop
@pytest.mark.parametrize("kind", [async_timer.Timer, MockTimer])
async def test_l8_a_timer_that_has_ended_is_gone_without_the_collector(kind: Any) -> None:
    class Target:
        def __call__(self) -> int:
            return 1

    target = Target()
    seen = weakref.ref(target)
    timer = kind(0.001, target)
    gone = weakref.ref(timer)
    gc.collect()
    gc.disable()
    try:
        async with timer:
            await timer.wait(hits=2)
            del target
        for _ in range(5):
            await asyncio.sleep(0)  # calls that the loop was asked for
        del timer
        assert gone() is None and seen() is None
    finally:
        gc.enable()


@in_virtual_time
async def test_a_pacemaker_is_a_schedule_by_itself() -> None:
    """D10, S3"""
    now = asyncio.get_running_loop().time
    pacemaker, moments = TimerPacemaker(10, mode="fixed_rate", initial_delay=5), list[float]()
    assert (pacemaker.delay, pacemaker.mode, pacemaker.initial_delay, pacemaker.jitter) == (
        10,
        "fixed_rate",
        5,
        0,
    )
    async for nothing in pacemaker:
        assert nothing is None
        moments.append(now())
        await asyncio.sleep(1)
        if len(moments) == 3:
            pacemaker.delay = 20
        if len(moments) == 5:
            pacemaker.stop()
    assert moments == [5, 15, 25, 45, 65]
    assert [None async for _ in pacemaker] == []
    with pytest.raises(ValueError, match="jitter"):
        TimerPacemaker(1, jitter=2)


@pytest.mark.parametrize("error", [None, ValueError("boom")])
@in_virtual_time
async def test_a_pacemaker_stops_on_an_awaitable(
    error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    other: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    pacemaker, ticks = TimerPacemaker(10), 0
    pacemaker.trigger()  # nothing waits
    pacemaker.stop_on([stop, other])
    with caplog.at_level(logging.ERROR):
        async for _ in pacemaker:
            ticks += 1
            if ticks == 3:
                stop.set_result(None) if error is None else stop.set_exception(error)
    assert ticks == 3 and other.cancelled()
    assert len(caplog.records) == (error is not None)


@in_virtual_time
async def test_the_pacemaker_of_a_timer_leads_it() -> None:
    now = asyncio.get_running_loop().time
    ends, moments = list[float](), list[float]()

    async def run() -> None:
        moments.append(now())
        await asyncio.sleep(1)

    timer = async_timer.Timer(10, run, cancel_cb=lambda *_: ends.append(now()), start=True)
    await asyncio.sleep(5)
    timer.pacemaker.trigger()
    await asyncio.sleep(0.5)
    timer.pacemaker.stop()
    assert await timer.wait() is None
    assert (moments, ends) == ([0, 5], [6])  # the run has ended by itself
    with pytest.raises(TypeError, match="iterate over the timer"):
        await anext(timer.pacemaker)


def numbers() -> Iterator[int]:
    yield from (1, 2)


async def later() -> AsyncIterator[int]:
    for number in (1, 2):
        yield number


def counts(is_async: bool) -> Callable[[], Any]:
    items = numbers()

    async def give() -> int:
        await asyncio.sleep(0)
        try:
            return next(items)
        except StopIteration:
            raise StopAsyncIteration from None

    return give if is_async else items.__next__


@pytest.mark.parametrize(
    ("make", "can_begin_anew"),
    [
        (lambda: numbers, True),
        (numbers, False),
        (lambda: later, True),
        (later, False),
        (lambda: lambda: iter([1, 2]), True),
        (lambda: counts(is_async=False), False),
        (lambda: counts(is_async=True), False),
    ],
)
@on_every_loop
async def test_r2_a_caller_calls_targets_of_all_shapes(make: Callable[[], Any], can_begin_anew: bool) -> None:
    caller = Caller[int](make())
    assert [await caller.next(), await caller.next()] == [1, 2]
    with pytest.raises(StopAsyncIteration):
        await caller.next()
    caller.reset()
    if can_begin_anew:
        assert await caller.next() == 1
    else:
        with pytest.raises(StopAsyncIteration):
            await caller.next()


@on_every_loop
async def test_t3_a_mock_has_slept_once_less_than_it_has_ticked() -> None:
    """What comes first is no wait, and the wait after the last tick is not over."""
    seen = list[int]()
    timer: MockTimer[None]

    def tick() -> None:
        seen.append(timer.pacemaker.sleep.await_count)

    async with MockTimer(0.1, tick) as timer:
        await timer.wait(hits=3)
        assert timer.pacemaker.sleep.await_count == 2
    assert seen == [0, 1, 2]
    timer.pacemaker.sleep.assert_awaited_with(0.1)
    timer = MockTimer(10, iter(range(100)).__next__, start=True)
    await timer.wait()
    assert timer.hit_count == 100 and timer.pacemaker.sleep.await_count == 100


@on_every_loop
async def test_t3_a_mock_that_is_stopped_does_not_sleep_on() -> None:
    end, hits = asyncio.Event(), 0

    def tick() -> None:
        nonlocal hits
        hits += 1
        if hits == 100:
            end.set()

    timer = MockTimer(10, tick, cancel_aws=[end.wait()], start=True)
    await timer.wait()
    assert timer.pacemaker.sleep.await_count == hits - 1 >= 99


@on_every_loop
async def test_t3_the_pacemaker_of_mocks_does_not_wait() -> None:
    pacemaker, ticks = MockPacemaker(10_000, initial_delay=5), 0
    async for _ in pacemaker:
        ticks += 1
        if ticks == 100:
            pacemaker.stop()
    assert ticks == 100
    assert [call.args for call in pacemaker.sleep.await_args_list] == [(5,)] + [(10_000,)] * 99
    assert isinstance(pacemaker, TimerPacemaker) and mock_async_timer.timer.MockTimer is MockTimer
