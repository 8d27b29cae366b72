"""L12: calls that are made once, later, in an event loop."""

import asyncio
import functools
import gc
import logging
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest

from everbeat import OneShot, ScheduleError, TimerError, TimerStoppedError, after, current_timer
from tests.support import ORIGIN, spin, virtual


def now() -> float:
    """Seconds since the test began."""
    return (virtual().nanos - ORIGIN) / 1e9


async def told(*args: Any, **kwargs: Any) -> Any:
    await asyncio.sleep(0)
    return now(), args, kwargs


def told_at_once(*args: Any, **kwargs: Any) -> Any:
    return now(), args, kwargs


both = pytest.mark.parametrize("fn", [told, told_at_once])


@both
async def test_l12_a_call_is_made_once_at_its_time_with_its_arguments(fn: Any) -> None:
    count = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return fn(*args, **kwargs)

    shot = after(5, call, 1, 2, delay=3, fn=4, name=5)
    await asyncio.sleep(4.999)
    assert shot.is_pending() and count == 0
    expected = 5.0, (1, 2), {"delay": 3, "fn": 4, "name": 5}
    assert await shot.wait() == expected
    assert now() == 5
    assert not shot.is_pending() and not shot.cancel()
    assert await shot == await shot.wait(timeout=0) == expected
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing waits for another time"
    await asyncio.sleep(3600)
    assert count == 1


@both
async def test_l12_a_cancel_in_time_wins_once(fn: Any) -> None:
    called: list[Any] = []

    def call() -> Any:
        called.append(1)
        return fn()

    for delay in 3600, 0:
        shot = after(delay, call)
        waiting = asyncio.ensure_future(shot.wait())
        assert shot.is_pending()
        assert (shot.cancel(), shot.cancel(), shot.is_pending()) == (True, False, False)
        for answer in waiting, shot, shot.wait(), shot.fire_now():
            with pytest.raises(TimerStoppedError):
                await answer
    await asyncio.sleep(0.01)
    assert called == []


async def test_l12_a_cancel_in_the_very_moment_of_the_call_comes_first() -> None:
    called: list[int] = []
    for late in 5, 6:
        shot = after(5, called.append, 1)
        await spin()
        virtual().advance(late)  # nobody has had a turn since its time came
        assert shot.cancel()
        await asyncio.sleep(10)
    assert called == []


async def test_l12_a_call_that_has_begun_is_made_to_its_end() -> None:
    done: list[float] = []

    async def slow() -> str:
        await asyncio.sleep(10)
        done.append(now())
        return "slow"

    shot = after(5, slow)
    await asyncio.sleep(7)
    assert (shot.is_pending(), shot.cancel()) == (False, False)
    assert await shot.wait() == "slow"
    assert done == [15]


async def test_l12_in_any_turn_the_call_is_made_or_called_off() -> None:
    outcomes = set[bool]()
    for turns in range(30):
        called: list[int] = []
        shot = after(0, called.append, turns)
        for _ in range(turns % 10):
            await asyncio.sleep(0)
        outcomes.add(won := shot.cancel())
        if won:
            with pytest.raises(TimerStoppedError):
                await shot
            assert called == []
        else:
            await shot
            assert called == [turns]
    assert outcomes == {True, False}


@both
async def test_l12_a_call_can_be_made_now(fn: Any) -> None:
    shot = after(3600, fn, "early")
    shot.fire_now()  # holds whether or not it is awaited
    assert shot.is_pending()
    assert await shot.fire_now(timeout=1) == (0.0, ("early",), {})
    assert await shot.fire_now() == await shot == (0.0, ("early",), {})
    assert not shot.cancel()


async def test_l12_who_asks_for_a_call_that_is_being_made_has_its_result() -> None:
    shot = after(5, asyncio.sleep, 10, "slept")
    await asyncio.sleep(7)
    assert await shot.fire_now() == "slept"
    assert now() == 15


async def test_l12_a_cancel_takes_back_a_call_that_was_asked_for() -> None:
    called: list[int] = []
    shot = after(3600, called.append, 1)
    asked = shot.fire_now()
    assert shot.cancel()
    with pytest.raises(TimerStoppedError):
        await asked
    assert called == []


async def test_l12_a_failure_is_raised_to_whoever_waits(caplog: pytest.LogCaptureFixture) -> None:
    """D9, R6"""

    def fail() -> None:
        raise LookupError("gone")

    async def fail_later() -> None:
        await asyncio.sleep(0)
        fail()

    for call in fail, fail_later:
        caplog.clear()
        shot = after(0, call)
        for answer in asyncio.ensure_future(shot.wait()), shot, shot.fire_now():
            with pytest.raises(LookupError, match="gone") as caught:
                await answer
            assert caught.traceback[-1].name == "fail"
        assert not shot.cancel()
        (record,) = [record for record in caplog.records if record.name.startswith("everbeat.timer.")]
        assert record.exc_info and record.exc_info[1] is caught.value


async def test_l12_the_end_of_an_iterator_is_a_failure_like_any_other() -> None:
    shot = after(0, next, iter(()))
    with pytest.raises(RuntimeError) as caught:
        await shot
    assert isinstance(caught.value.__cause__, StopIteration)


async def test_l12_the_end_of_an_async_iterator_is_a_failure_like_any_other() -> None:
    async def nothing() -> AsyncIterator[int]:
        for item in ():
            yield item

    shot = after(0, anext, nothing())
    with pytest.raises(RuntimeError) as caught:
        await shot
    assert isinstance(caught.value.__cause__, StopAsyncIteration)


async def test_l12_what_is_returned_is_the_value_whatever_it_is() -> None:
    items = iter("abc")
    assert await after(0, lambda: items) is items
    assert list(items) == ["a", "b", "c"]
    assert await after(0, lambda: None) is None
    assert await after(0, lambda: asyncio.ensure_future(asyncio.sleep(0, "awaited"))) == "awaited"


async def test_l12_a_wait_has_a_timeout() -> None:
    """D3"""
    shot = after(3600, print)
    with pytest.raises(TimeoutError):
        await shot.wait(timeout=5)
    assert now() == 5
    with pytest.raises(ScheduleError, match="timeout"):
        shot.wait(timeout=-1)
    with pytest.raises(ScheduleError, match="timeout"):
        shot.fire_now(timeout=-1)
    assert shot.cancel(), "what was refused has asked for nothing"


async def test_l12_a_cancelled_caller_is_cancelled_alone() -> None:
    """L6"""
    shot = after(5, asyncio.sleep, 5, "made")
    for begin in shot.wait, shot.fire_now:
        caller, other = asyncio.ensure_future(begin()), asyncio.ensure_future(shot.wait())
        await asyncio.sleep(1)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert not other.done()
    assert await shot == await other == "made"
    assert now() == 6, "it was asked for after a second"


async def test_l12_a_call_may_do_anything_to_itself() -> None:
    """L5"""

    async def act() -> bool:
        assert not shot.is_pending()
        won = shot.cancel()
        for answer in shot, shot.wait(), shot.fire_now():
            with pytest.raises(TimerError, match="inside its own run"):
                await answer
        await asyncio.sleep(0)
        return won

    shot = after(0, act)
    assert await shot is False


async def test_l12_a_call_is_called_off_from_inside_another() -> None:
    later = after(3600, print)
    assert await after(0, later.cancel)
    assert not later.is_pending()


async def test_l12_a_call_needs_no_handle() -> None:
    """L8"""
    called: list[float] = []
    after(5, lambda: called.append(now()))
    gc.collect()
    await asyncio.sleep(10)
    assert called == [5]


class Thing:
    def act(self) -> None:
        pass

    def fail(self) -> None:
        raise ValueError


async def test_l12_what_was_called_is_let_go_of_at_once() -> None:
    """L8"""
    thing = Thing()
    gone = weakref.ref(thing)
    made, called_off = after(0, thing.act), after(3600, thing.act)
    await made
    called_off.cancel()
    await asyncio.sleep(0)
    gc.disable()
    try:
        del thing
        assert gone() is None
    finally:
        gc.enable()


async def test_l12_a_call_that_its_own_subject_holds_keeps_no_cycle_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """L8"""

    class Session(Thing):
        call: OneShot[None]

    async def lives(act: str, delay: float) -> weakref.ref[Session]:
        session = Session()
        session.call = after(delay, getattr(session, act))
        if delay:
            session.call.cancel()
        with suppress(TimerStoppedError, ValueError):
            await session.call
        return weakref.ref(session)

    # The test keeps what is logged.
    monkeypatch.setattr(logging.getLogger("everbeat.timer.Thing.fail"), "disabled", True)
    for act, delay in ("act", 0), ("act", 3600), ("fail", 0):
        gone = await lives(act, delay)
        await asyncio.sleep(0.01)
        gc.collect()
        assert gone() is None, (act, delay)


def test_l12_a_call_ends_with_its_loop() -> None:
    async def main() -> OneShot[None]:
        return after(3600, print)

    shot = asyncio.run(main())
    assert not shot.is_pending()
    assert "over" in repr(shot)


async def test_l12_bad_input_is_refused() -> None:
    """E2"""
    with pytest.raises(ScheduleError, match=r"^delay must be .* got -1"):
        after(-1, print)
    with pytest.raises(ValueError, match="delay"):
        after(float("nan"), print)
    with pytest.raises(TypeError, match="delay"):
        after("1", print)  # type: ignore[call-overload, arg-type, unused-ignore]
    with pytest.raises(TypeError, match="fn must be callable, not int"):
        after(1, 5)  # type: ignore[call-overload, arg-type, unused-ignore]


def test_l12_a_call_needs_a_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        after(1, print)


where = ContextVar("where", default="nowhere")


async def test_l12_a_call_has_a_name_a_context_and_a_timer() -> None:
    """O1"""

    def act() -> Any:
        return where.get(), current_timer(), asyncio.current_task()

    where.set("here")
    shot = after(0, act)
    where.set("there")
    assert isinstance(shot, OneShot)
    assert shot.name.endswith("<locals>.act")
    assert repr(shot) == f"<OneShot {shot.name} pending>"
    place, timer, task = await shot
    assert repr(shot) == f"<OneShot {shot.name} over>"
    assert place == "here"
    assert timer is not None and timer.name == shot.name
    assert task is not None and task.get_name() == f"timer:{shot.name}"
    for call in functools.partial(act), act:
        other = after(3600, call)
        assert other.name == shot.name
        other.cancel()

    class Reminder:
        def __call__(self) -> None: ...

    reminder = after(3600, Reminder())
    assert reminder.name == "Reminder"
    reminder.cancel()
