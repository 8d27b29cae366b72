"""Schedules without a target, and what a run is told."""

import asyncio
import gc
import weakref
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

import everbeat
from everbeat import (
    ScheduleError,
    Tick,
    Timer,
    TimerError,
    TimerNotRunningError,
    current_tick,
    current_timer,
    ns,
    ticks,
)
from everbeat.testing import NothingDueError, TestClock
from tests.loops import in_virtual_time, on_every_loop


def now() -> float:
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_ticks_come_on_the_grid() -> None:
    """D10, S3, S12"""
    seen = []
    async for tick in ticks(10, mode="fixed_rate", max_runs=4):
        assert isinstance(tick, Tick) and tick.scheduled == now()
        seen.append((tick.run, tick.slot, tick.scheduled, tick.lateness, tick.missed, tick.cause))
        await asyncio.sleep(3)
    assert seen == [(k + 1, k, 10.0 * k, 0.0, 0, "schedule") for k in range(4)]


@in_virtual_time
async def test_a_slow_body_misses_slots() -> None:
    """D10, S4"""
    async with ticks(10, mode="fixed_rate", max_runs=3) as schedule:
        seen = []
        async for tick in schedule:
            seen.append((now(), tick.slot, tick.missed))
            await asyncio.sleep(25)
    assert seen == [(0, 0, 0), (30, 3, 2), (60, 6, 2)]


@in_virtual_time
async def test_fixed_delay_counts_from_the_end_of_the_body() -> None:
    """D10, S2"""
    seen = []
    async for _ in ticks(timedelta(seconds=10), initial_delay=1, run_for=60):
        seen.append(now())
        await asyncio.sleep(5)
    assert seen == [1, 16, 31, 46]


@in_virtual_time
async def test_a_schedule_is_controlled_from_outside() -> None:
    """D10, S7, S8, S10"""
    schedule = ticks(10, name="sampler")
    seen: list[tuple[float, str]] = []

    async def consume() -> None:
        async for tick in schedule:
            seen.append((now(), tick.cause))

    consumer = asyncio.create_task(consume())
    await asyncio.sleep(4)
    schedule.trigger()
    await asyncio.sleep(1)
    schedule.set_delay(100)
    assert schedule.delay == 100
    await asyncio.sleep(10)  # the wait that was in progress, until 14
    schedule.set_delay(2, rearm=True)
    await asyncio.sleep(2)  # until 16: the two seconds count from 14
    schedule.pause()
    await asyncio.sleep(50)
    schedule.resume()
    await asyncio.sleep(3)
    assert schedule.is_running()
    await schedule.cancel()
    await consumer
    assert not schedule.is_running()
    assert seen[:4] == [(0, "schedule"), (4, "trigger"), (14, "schedule"), (16, "schedule")]
    assert seen[4][0] >= 67 and len(seen) == 5


@on_every_loop
async def test_a_schedule_that_has_not_begun_or_has_ended() -> None:
    """D10, E3"""
    schedule = ticks(1)
    with pytest.raises(TimerNotRunningError):
        schedule.trigger()
    schedule.pause()
    schedule.resume()
    schedule.set_delay(5)
    assert schedule.delay == 5 and not schedule.is_running()
    await schedule.cancel()
    assert [tick async for tick in schedule] == []
    async with ticks(1) as schedule:
        assert (await anext(schedule)).run == 1
        schedule.cancel()
        with pytest.raises(StopAsyncIteration):
            await anext(schedule)
        with pytest.raises(TimerNotRunningError):
            schedule.trigger()
    await schedule.aclose()


@on_every_loop
async def test_a_schedule_that_was_ended_before_it_began_never_begins() -> None:
    """D10"""
    schedule = ticks(0)
    await schedule.cancel()
    async with schedule:
        assert not schedule.is_running()
        assert [tick async for tick in schedule] == []


@in_virtual_time
async def test_a_schedule_that_was_paused_before_it_began_begins_paused() -> None:
    """D10, S10"""
    schedule = ticks(10, mode="fixed_rate")
    schedule.pause()
    asyncio.get_running_loop().call_later(25, schedule.resume)
    async with schedule:
        tick = await anext(schedule)
        assert (tick.slot, tick.scheduled) == (3, 30)
    resumed = ticks(10)
    resumed.pause()
    resumed.resume()
    async with resumed:
        assert (await anext(resumed)).scheduled == now() == 30


@on_every_loop
async def test_one_task_waits_for_a_tick_at_a_time() -> None:
    """D10"""
    async with ticks(1000, initial_delay=1000) as schedule:
        first = asyncio.ensure_future(anext(schedule))
        await asyncio.sleep(0)
        with pytest.raises(TimerError, match="another task"):
            await anext(schedule)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        schedule.trigger()
        assert (await anext(schedule)).run == 1


@in_virtual_time
async def test_a_cancelled_wait_loses_no_tick() -> None:
    """D10, L6"""
    async with ticks(10, mode="fixed_rate") as schedule:
        runs = []
        while len(runs) < 3:
            with suppress(TimeoutError):
                runs.append((await asyncio.wait_for(anext(schedule), 3)).run)
        assert runs == [1, 2, 3] and now() == 20


@on_every_loop
async def test_period_zero_gives_others_their_turn() -> None:
    """S6, D10"""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    async for tick in ticks(0):
        if tick.run == 50:
            break
    assert turns >= 20  # the loop is given back at least after every second tick
    task.cancel()


@on_every_loop
async def test_a_forgotten_schedule_is_gone() -> None:
    """L8"""
    schedule = ticks(1000)
    await anext(schedule)
    gone = weakref.ref(schedule)
    del schedule
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "bad",
    [{"delay": -1}, {"mode": "often"}, {"jitter": 2}, {"max_runs": 0}, {"missed": "all"}, {"run_for": -1}],
)
def test_bad_input_is_refused(bad: dict[str, Any]) -> None:
    """E2"""
    with pytest.raises(ScheduleError):
        ticks(**{"delay": 1, **bad})


def test_outside_of_a_loop_a_schedule_is_made_but_does_not_begin() -> None:
    """D10"""
    schedule = ticks(1, name="sampler")
    assert repr(schedule) == '<Ticks name="sampler" delay=1 running=False>'
    with pytest.raises(RuntimeError, match="no running event loop"):
        anext(schedule).send(None)  # type: ignore[attr-defined]


@on_every_loop
async def test_a_seeded_schedule_repeats_itself() -> None:
    """S5, T1"""
    courses = []
    for _ in range(2):
        with TestClock() as clock:
            schedule = ticks(10, mode="fixed_rate", jitter=0.5, seed=7, max_runs=5)
            courses.append([tick.scheduled async for tick in _driven(clock, schedule)])
    assert courses[0] == courses[1] and len(set(courses[0])) == 5


async def _driven(clock: TestClock, schedule: everbeat.Ticks) -> Any:
    while True:
        try:
            yield await clock.run_until(anext(schedule))
        except StopAsyncIteration:
            return


@on_every_loop
async def test_a_target_knows_its_timer_and_its_tick() -> None:
    """S12"""
    seen: list[Any] = []

    def note() -> None:
        seen.append((current_timer(), current_tick()))

    async def note_later() -> None:
        await asyncio.sleep(0)
        await asyncio.create_task(_noting())

    async def _noting() -> None:
        note()

    for target, options in ((note, {}), (note_later, {}), (note, {"offload": True})):
        seen.clear()
        async with Timer(1000, target, **options) as timer:
            await timer.wait(hit_count=1)
            await timer.trigger()
        assert [owner for owner, _ in seen] == [timer, timer]
        assert [(tick.run, tick.cause) for _, tick in seen] == [(1, "schedule"), (2, "trigger")]
    assert current_timer() is None and current_tick() is None


@in_virtual_time
async def test_a_run_is_told_how_late_it_is() -> None:
    """S12"""
    seen: list[Any] = []

    async def slow() -> None:
        seen.append(current_tick())
        await asyncio.sleep(25)

    async with Timer(10, slow, mode="fixed_rate") as timer:
        await timer.wait(hits=2)
    assert [(tick.scheduled, tick.slot, tick.missed) for tick in seen[:2]] == [(0, 0, 0), (30, 3, 2)]


@on_every_loop
async def test_callbacks_know_their_timer_and_timers_inside_timers_theirs() -> None:
    """S12, R6"""
    seen: list[Any] = []
    inner = Timer(1000, lambda: seen.append(current_timer()))

    def fails() -> None:
        inner.start()
        raise ValueError

    outer = Timer(
        1000,
        fails,
        exc_cb=lambda *_: seen.append(current_timer()),
        cancel_cb=lambda *_: seen.append(current_timer()),
    )
    outer.start()
    with pytest.raises(ValueError):
        await outer.wait()
    await inner.wait(hit_count=1)
    await inner.cancel()
    assert sorted(map(repr, seen)) == sorted(map(repr, [outer, outer, inner]))


@in_virtual_time
async def test_a_restarted_timer_has_no_tick_of_its_former_life() -> None:
    """S12, L7"""
    timer = Timer(ns(10), lambda: current_tick().run)  # type: ignore[union-attr]
    async with timer:
        assert await timer.join() == 1
    timer.start()
    assert timer._current_tick() is None
    assert await timer.join() >= 2
    await timer.cancel()


def test_nothing_due_is_an_error_of_the_library() -> None:
    """T1"""
    assert issubclass(NothingDueError, everbeat.TimerError)
