"""What type checkers make of `everbeat.compat`. Checked, never run."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator, Iterator
from functools import partial
from typing import Any, assert_type

from everbeat.compat import async_timer, asynctimer, mock_async_timer
from everbeat.compat.async_timer.decorators import DecoratedTimer


def number() -> int:
    return 1


async def later() -> str:
    return ""


def numbers() -> Iterator[int]:
    yield 1


def generator() -> Generator[float, None, None]:
    yield 1.5


async def texts() -> AsyncIterator[str]:
    yield ""


async def async_generator() -> AsyncGenerator[bytes, None]:
    yield b""


def awaitable() -> Awaitable[bytes]:
    raise NotImplementedError


def told(timer: async_timer.Timer[Any], target: object) -> None: ...


assert_type(async_timer.Timer(1.0, lambda: 7), async_timer.Timer[int])
assert_type(async_timer.Timer(1, number), async_timer.Timer[int])
assert_type(async_timer.Timer(1, later), async_timer.Timer[str])
assert_type(async_timer.Timer(1, numbers), async_timer.Timer[int])
assert_type(async_timer.Timer(1, generator), async_timer.Timer[float])
assert_type(async_timer.Timer(1, texts), async_timer.Timer[str])
assert_type(async_timer.Timer(1, async_generator), async_timer.Timer[bytes])
assert_type(async_timer.Timer(1, numbers()), async_timer.Timer[int])
assert_type(async_timer.Timer(1, async_generator()), async_timer.Timer[bytes])
assert_type(async_timer.Timer(1, iter([1, 2])), async_timer.Timer[int])
assert_type(async_timer.Timer(1, awaitable), async_timer.Timer[bytes])
assert_type(async_timer.Timer(1, partial(later)), async_timer.Timer[str])
assert_type(
    async_timer.Timer(1, number, told, told, [later()], True, mode="fixed_rate", name="n"),
    async_timer.Timer[int],
)
assert_type(mock_async_timer.MockTimer(1, number), mock_async_timer.MockTimer[int])
assert_type(mock_async_timer.MockTimer(1, later, initial_delay=1), mock_async_timer.MockTimer[str])


@async_timer.every(1.0, mode="fixed_rate")
async def refresh() -> int:
    return 99


@async_timer.every(1.0)
def items() -> Iterator[str]:
    yield ""


assert_type(refresh, DecoratedTimer[int])
assert_type(items, DecoratedTimer[str])


async def flows(timer: async_timer.Timer[int]) -> None:
    assert_type(await timer.join(), int)
    assert_type(await timer.wait(hit_count=1), int | None)
    assert_type(await timer.trigger(), int)
    assert_type(timer.trigger_threadsafe(timeout=1), int)
    assert_type(timer.last_result, int | None)
    assert_type(await refresh.join(), int)
    timer.hit_count = 0
    timer.exception_callback = told
    async with timer as entered, timer.subscribe() as feed:
        assert_type(entered, async_timer.Timer[int])
        async for value in entered:
            assert_type(value, int)
        async for value in feed:
            assert_type(value, int)
    group = async_timer.TimerGroup([timer])
    assert_type(group.add(timer), async_timer.Timer[int])


asynctimer.Timer(5, lambda: None)
asynctimer.Timer(timeout=5, callback=lambda: None, schedule_policy="FIXED_DELAY")
asynctimer.Timer(timeout_ns=5, callback=lambda: None)

async_timer.Timer(1, number, mode="sometimes")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
async_timer.Timer(1, 3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
