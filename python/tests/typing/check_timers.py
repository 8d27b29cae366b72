"""What type checkers make of timers and feeds. Checked, never run."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any, assert_type

from everbeat import Backoff, Burst, Subscription, Timer, ns
from everbeat.testing import MockTimer


def number() -> int:
    return 1


async def later() -> str:
    return ""


def numbers() -> Iterator[int]:
    yield 1


async def texts() -> AsyncIterator[str]:
    yield ""


def awaitable() -> Awaitable[bytes]:
    raise NotImplementedError


class Service:
    def sync_method(self) -> bool:
        return True

    async def async_method(self) -> float:
        return 1.0

    def __call__(self) -> list[int]:
        return []


def told(timer: Timer[Any], target: object) -> None: ...


assert_type(Timer(1, number), Timer[int])
assert_type(Timer(1, later), Timer[str])
assert_type(Timer(1, numbers), Timer[int])
assert_type(Timer(1, texts), Timer[str])
assert_type(Timer(1, numbers()), Timer[int])
assert_type(Timer(1, texts()), Timer[str])
assert_type(Timer(1, awaitable), Timer[bytes])
assert_type(Timer(1, Service().sync_method), Timer[bool])
assert_type(Timer(1, Service().async_method), Timer[float])
assert_type(Timer(1, Service()), Timer[list[int]])
assert_type(Timer(1, partial(later)), Timer[str])
assert_type(Timer(1, lambda: 1.5), Timer[float])
assert_type(Timer(1, iter([1, 2])), Timer[int])


# One that does not wait is made as any other.
assert_type(MockTimer(1, number), MockTimer[int])
assert_type(MockTimer(1, later), MockTimer[str])
assert_type(MockTimer(1, numbers), MockTimer[int])
assert_type(MockTimer(1, texts), MockTimer[str])
assert_type(MockTimer(1, iter([1, 2]), max_runs=2, start=True), MockTimer[int])
assert_type(MockTimer(1, later).sleeps, list[float])


async def flows(timer: Timer[int]) -> None:
    assert_type(await timer.join(), int)
    assert_type(await timer.trigger(), int)
    assert_type(await timer.wait(hit_count=1, timeout=timedelta(seconds=1)), int | None)
    assert_type(timer.trigger_threadsafe(timeout=1), int)
    assert_type(timer.last_result, int | None)
    assert_type(timer.hit_count, int)
    assert_type(timer.subscribe(), Subscription[int])
    async with timer as entered:
        assert_type(entered, Timer[int])
    async for value in timer:
        assert_type(value, int)
    async with timer.subscribe(maxsize=3, overflow="drop_newest") as feed:
        assert_type(feed, Subscription[int])
        async for value in feed:
            assert_type(value, int)
        assert_type(await anext(feed), int)
    await timer.shutdown(ns(5))


def takes_all_options(make: Callable[[], Awaitable[int]]) -> Timer[int]:
    return Timer(
        timedelta(seconds=1),
        make,
        told,
        told,
        [later()],
        mode="fixed_rate",
        jitter=0.1,
        on_error=Backoff(1, timedelta(seconds=60)),
        missed=Burst(3),
        run_timeout=ns(1),
        max_runs=3,
    )


Timer(1, number, mode="sometimes")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
Timer("1", number)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
Timer(1, 3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
MockTimer("1", number)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
MockTimer(1, number, often=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
