"""A test that does not sleep: a `MockTimer` ticks as fast as the loop runs."""

import asyncio
import time

from everbeat.testing import MockTimer


async def test_periodic_refresh() -> None:
    calls = 0

    def tick() -> None:
        nonlocal calls
        calls += 1

    async with MockTimer(3600, tick) as timer:
        await timer.wait(hits=3)
    assert calls == 3


began = time.monotonic()
asyncio.run(test_periodic_refresh())
print(f"three ticks of an hour each, in {time.monotonic() - began:.3f} s")
