"""T2: loops in virtual time, where a float of seconds has no nanoseconds left."""

import asyncio
import math
from typing import Literal

import pytest

from everbeat import Timer
from everbeat.testing import run

YEAR = 365 * 86_400.0


@pytest.mark.parametrize(
    "span",
    [2.0**24 - 100, 16_800_000.0, 2**36 / 1_000, 20 * YEAR, 292 * YEAR],
    ids=lambda span: f"{span:.0f}s",
)
@pytest.mark.parametrize("mode", ["fixed_rate", "fixed_delay"])
def test_t2_a_virtual_loop_goes_on_for_centuries(
    span: float, mode: Literal["fixed_rate", "fixed_delay"]
) -> None:
    async def live() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(span)
        assert loop.time() == span
        async with Timer(0.033333333, lambda: None, mode=mode) as timer:
            await timer.wait(hit_count=100)
            stats = timer.stats()
        assert (stats.hits, stats.missed) == (100, 0)
        # A wait is late by some steps of the clock; at a fixed rate that does not add up.
        late = loop.time() - span - 99 * 0.033333333
        waits = 1 if mode == "fixed_rate" else 99
        assert -1 <= late / math.ulp(span) <= 5 * waits
        # Nothing is called early either.
        due = loop.time() + 1e-3
        called = loop.create_future()
        loop.call_at(due, called.set_result, None)
        await called
        assert loop.time() >= due

    run(live())
