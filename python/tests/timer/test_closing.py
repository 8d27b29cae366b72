"""R2, L2: an async generator that the target has made is closed before its timer has ended."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from everbeat import Timer, TimerAlreadyRunningError, TimerGroup
from tests.support import spin

pytestmark = pytest.mark.asyncio

End = Callable[[Timer[int]], Awaitable[Any]]


class Generators:
    """Makes async generators that take a while to clean up, and notes what they do."""

    def __init__(self) -> None:
        self.notes = list[str]()

    async def __call__(self) -> AsyncIterator[int]:
        self.notes.append("begin")
        try:
            for number in range(1000):
                yield number
        finally:
            await asyncio.sleep(0.02)
            self.notes.append("end")

    def note_end(self, *_: object) -> None:
        self.notes.append("callback")


async def cancel_in_a_group(timer: Timer[int]) -> None:
    await TimerGroup([timer]).cancel_all()


ENDS: list[End] = [
    lambda timer: timer.cancel(),
    lambda timer: timer.shutdown(0),
    lambda timer: asyncio.gather(timer.cancel(), timer.shutdown(0)),
    lambda timer: timer.__aexit__(None, None, None),
    cancel_in_a_group,
]


@pytest.mark.parametrize("end", ENDS)
async def test_l2_who_ends_a_timer_waits_for_its_generator(end: End) -> None:
    target = Generators()
    timer = Timer(0.001, target, cancel_cb=target.note_end)
    for _ in range(2):
        target.notes.clear()
        timer.start()
        await timer.wait(hits=2)
        await end(timer)
        assert target.notes == ["begin", "end", "callback"]
        assert not timer.is_running()


async def test_l2_limits_wait_for_the_generator() -> None:
    target = Generators()
    timer = Timer(0.001, target, cancel_cb=target.note_end, max_runs=2)
    feed = timer.subscribe()
    timer.start()
    assert await timer.wait() == 1
    assert [value async for value in feed] == [0, 1]
    assert target.notes == ["begin", "end", "callback"]


async def test_l1_r1_a_timer_is_not_started_again_before_its_generator_is_closed() -> None:
    target = Generators()
    timer = Timer(0.001, target, start=True)
    await timer.join()
    ended = timer.cancel()
    await spin()
    assert timer.is_running()
    with pytest.raises(TimerAlreadyRunningError):
        timer.start()
    await ended
    assert target.notes == ["begin", "end"]


async def test_l6_closing_goes_on_when_its_caller_is_cancelled() -> None:
    target = Generators()
    timer = Timer(0.001, target, start=True)
    await timer.join()
    cancelling = asyncio.ensure_future(timer.cancel())
    await spin()
    cancelling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelling
    assert target.notes == ["begin"]
    await timer.wait()
    assert target.notes == ["begin", "end"]


async def test_l5_a_generator_that_is_being_closed_may_end_its_timer() -> None:
    answers = list[Any]()

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            answers.append(await timer.cancel())
            answers.append(await timer.shutdown(1))

    timer = Timer(0.001, endless, start=True)
    await timer.join()
    await timer.cancel()
    assert answers == [None, "cancelled"]


async def test_l2_a_generator_that_fails_to_close_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[Any]()
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise ValueError

    async with Timer(0.001, endless, lambda *_: seen.append("told")) as timer:
        await timer.join()
    assert seen == [ValueError]


async def test_l2_a_generator_that_returns_when_its_run_is_given_up_has_not_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = list[Any]()
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))

    async def careful() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            seen.append("returns")

    async with Timer(0.001, careful, lambda *_: seen.append("told")) as timer:
        await timer.join()
        await asyncio.sleep(0.01)
    assert seen == ["returns"]


async def test_l2_closing_can_be_cancelled_by_the_task_of_the_timer() -> None:
    target = Generators()
    timer = Timer(0.001, target, cancel_cb=target.note_end, name="closing", start=True)
    await timer.join()
    _ = timer.cancel()
    await spin()
    task = next(task for task in asyncio.all_tasks() if task.get_name() == "timer:closing")
    task.cancel()
    await timer.wait()
    assert target.notes == ["begin", "callback"]
    assert task.cancelled()


async def test_l7_a_generator_that_was_given_is_not_closed() -> None:
    target = Generators()
    given = target()
    timer = Timer(0.001, given)
    for number in range(2):
        timer.start()
        assert await timer.join() == number
        await timer.cancel()
    assert target.notes == ["begin"]
    assert await anext(given) == 2
