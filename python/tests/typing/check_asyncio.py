"""What type checkers make of timers in a loop. Checked, never run."""

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import everbeat
from everbeat import OneShot, Subscription, Timer, TimerGroup, after


async def fetch() -> str:
    return "fetched"


def numbers() -> Iterator[int]:
    yield 1


async def lines() -> AsyncIterator[bytes]:
    yield b"line"


# The value of a run is what the target returns or what its coroutine does, or an item of what it iterates over.
assert_type(Timer(5, lambda: 42), Timer[int])
assert_type(Timer(5, fetch), Timer[str])
assert_type(Timer(5, numbers), Timer[int])
assert_type(Timer(5, lines), Timer[bytes])
assert_type(Timer(5, iter("abc")), Timer[str])


async def post(url: str, *, retries: int = 3) -> bytes:
    return b""


async def calls() -> None:
    call = after(5, post, "url", retries=1)
    assert_type(call, OneShot[bytes])
    assert_type(await call, bytes)
    assert_type(await call.wait(timeout=5), bytes)
    assert_type(await call.fire_now(), bytes)
    assert_type(call.cancel(), bool)
    assert_type(after(everbeat.ns(5), divmod, 7, 2), OneShot[tuple[int, int]])
    assert_type(after(5, lambda: 42), OneShot[int])
    assert_type(after(5, numbers), OneShot[Iterator[int]])


async def uses(timer: Timer[str], group: TimerGroup) -> None:
    assert_type(await timer.join(), str)
    assert_type(await timer.trigger(), str)
    assert_type(timer.trigger_threadsafe(timeout=5), str)
    assert_type(timer.last_result, str | None)
    assert_type(timer.hit_count, int)
    assert_type(timer.is_running(), bool)
    async with timer as started:
        assert_type(started, Timer[str])
        async for value in started:
            assert_type(value, str)
    async with timer.subscribe(maxsize=10) as feed:
        assert_type(feed, Subscription[str])
        async for value in feed:
            assert_type(value, str)
    group.add(timer)
    await group.wait(hit_count=1)


@everbeat.every(5, mode="fixed_rate")
async def refresh() -> bytes:
    return b""


async def of_a_decorator() -> None:
    assert_type(await refresh.join(), bytes)


def refused() -> None:
    Timer("5", fetch)  # type: ignore[call-overload, arg-type, unused-ignore] # pyright: ignore[reportArgumentType, reportCallIssue]
    after("5", fetch)  # type: ignore[call-overload, arg-type, unused-ignore] # pyright: ignore[reportArgumentType, reportCallIssue]
    after(5, post)  # type: ignore[call-overload, arg-type, unused-ignore] # pyright: ignore[reportArgumentType, reportCallIssue]
    after(5, post, "url", retry=1)  # type: ignore[call-overload, call-arg, unused-ignore] # pyright: ignore[reportArgumentType, reportCallIssue]
    Timer(5, fetch, mode="often")  # type: ignore[call-overload, arg-type, unused-ignore] # pyright: ignore[reportArgumentType, reportCallIssue]
