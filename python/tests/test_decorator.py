"""`@every`: the timer that stands where its function stood."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

import everbeat
from everbeat import ScheduleError, Timer, TimerGroup
from everbeat.compat import async_timer
from tests.loops import in_virtual_time, on_every_loop


@everbeat.every(5, mode="fixed_rate", name="db_refresh")
async def refresh_db() -> str:
    """Reads it all anew."""
    return "rows"


@on_every_loop
async def test_the_function_is_called_as_it_is_or_by_its_timer() -> None:
    """R2"""
    assert await refresh_db.func() == "rows"
    refresh_db.start()
    assert await refresh_db.join() == "rows"
    assert refresh_db.last_result == "rows"
    await refresh_db.cancel()


def test_it_has_the_name_and_the_words_of_its_function() -> None:
    """O1"""
    assert isinstance(refresh_db, Timer)
    assert refresh_db.name == "db_refresh" and "db_refresh" in repr(refresh_db)
    assert refresh_db.__name__ == "refresh_db"
    assert refresh_db.__qualname__.endswith("refresh_db")
    assert refresh_db.__doc__ == "Reads it all anew."
    assert refresh_db.__module__ == __name__
    assert refresh_db.__wrapped__ is refresh_db.func

    @everbeat.every(1)
    def prune() -> None: ...

    assert prune.name == "prune" and not prune.is_running()
    assert everbeat.every(1)(lambda: 0).name == "<lambda>"


def test_bad_options_are_refused_where_the_function_is() -> None:
    """E2"""
    with pytest.raises(ScheduleError, match="jitter"):
        everbeat.every(1, jitter=2)(lambda: 0)
    with pytest.raises(TypeError):
        everbeat.every(1, period=5)(lambda: 0)  # type: ignore[call-arg]


@in_virtual_time
async def test_it_takes_every_option_of_a_timer() -> None:
    """R3, S11"""
    ended: list[object] = []

    @everbeat.every(
        1, on_error="continue", max_runs=3, exc_cb=lambda *_: None, cancel_cb=lambda *_: ended.append(1)
    )
    def fails() -> None:
        raise ValueError

    fails.start()
    await fails.wait()
    assert asyncio.get_running_loop().time() == 2 and ended == [1]


@in_virtual_time
async def test_functions_of_all_shapes() -> None:
    """R2"""

    @everbeat.every(1)
    def counts() -> Iterator[int]:
        yield from range(3)

    @everbeat.every(1)
    async def counts_slowly() -> AsyncIterator[int]:
        for n in range(3):
            await asyncio.sleep(1)
            yield n

    for timer in (counts, counts_slowly):
        async with timer, timer.subscribe() as feed:
            assert [value async for value in feed] == [0, 1, 2]


@on_every_loop
async def test_it_is_a_member_like_any_timer() -> None:
    """G1"""
    async with TimerGroup([refresh_db]) as group:
        assert await group.trigger() == [(refresh_db, "rows")]


def test_e2_the_decorator_without_its_delay_is_refused() -> None:
    for decorator in (everbeat.every, async_timer.every):
        with pytest.raises(TypeError, match=r"write @every\(5\), with parentheses"):
            decorator(len)  # type: ignore[arg-type]
        with pytest.raises(ScheduleError, match="delay must be"):
            decorator(-1)
