"""What becomes of slots that pass during a long run: skipped, moved, or made up for."""

import asyncio

from everbeat import Burst, Timer, current_tick
from everbeat.testing import VirtualLoop


async def show(title: str, **policy: object) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    starts = []

    async def work() -> None:
        tick = current_tick()
        starts.append(f"{loop.time() - began:g}")
        if tick.run == 2:
            await asyncio.sleep(3.5)

    async with Timer(1, work, mode="fixed_rate", max_runs=6, **policy) as timer:
        await timer.wait()
    stats = timer.stats()
    print(f"{title:8} runs at {' '.join(starts)} s; {stats.skipped.overrun} of {stats.missed} skipped")


async def main() -> None:
    await show("skip")
    await show("delay", missed="delay")
    await show("burst", missed=Burst(2))


# Seconds of this loop take no time.
with asyncio.Runner(loop_factory=VirtualLoop) as runner:
    runner.run(main())
