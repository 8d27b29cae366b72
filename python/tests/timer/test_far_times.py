"""S9: a loop tells its time as a float, whose steps are longer than a nanosecond when it is far from zero."""

import asyncio
from typing import Any, Literal

import pytest

from everbeat import Tick, Timer, current_tick, ns
from tests.support import NANOS, Stopwatch, virtual

ORIGINS = [10_000_000 * NANOS, 2**36 * 1_000_000, 2_000_000_000 * NANOS, 2**63]

every_origin = pytest.mark.parametrize("origin", ORIGINS)


@every_origin
@pytest.mark.parametrize("mode", ["fixed_rate", "fixed_delay"])
async def test_s9_time_that_is_far_from_zero_goes_on(
    origin: int, mode: Literal["fixed_rate", "fixed_delay"]
) -> None:
    virtual().nanos = origin
    watch = Stopwatch()
    async with Timer(0.033333333, lambda: None, mode=mode) as timer:
        await asyncio.wait_for(timer.wait(hit_count=100), 60)
        stats = timer.stats()
    assert (stats.hits, stats.missed) == (100, 0)
    # A wait is late by a step or two of the clock; at a fixed rate that does not add up.
    late = watch.nanos - 99 * 33_333_333
    assert 0 <= late <= 10_000 * (99 if mode == "fixed_delay" else 1)


@every_origin
async def test_s9_a_period_shorter_than_the_steps_of_the_clock(origin: int) -> None:
    virtual().nanos = origin
    async with Timer(ns(1_000), lambda: None, mode="fixed_rate") as timer:
        await asyncio.wait_for(timer.wait(hit_count=100), 60)


@pytest.mark.parametrize("grain", [1_000, 1_000_000, NANOS])
async def test_s9_a_loop_that_calls_before_it_was_asked_to(monkeypatch: Any, grain: int) -> None:
    """Its clock counts larger steps than the schedule, and it rounds what it is asked for down to one."""
    loop = virtual()
    call_at = loop.call_at

    def early(when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        return call_at(round(when * NANOS) // grain * grain / NANOS, *args, **options)

    monkeypatch.setattr(loop, "call_at", early)
    ticks: list[tuple[float, Tick]] = []

    def note() -> None:
        tick = current_tick()
        assert tick is not None
        ticks.append((loop.time(), tick))

    timer = Timer(0.0333, note, mode="fixed_rate", max_runs=20, start=True)
    await timer.wait()
    assert len(ticks) == 20 and all(time >= tick.scheduled for time, tick in ticks), "none is early"
