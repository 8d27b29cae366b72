"""When the runs come: after each other, or on a grid; with a delay before the first, with jitter."""

import asyncio
import time

from everbeat import Timer


async def show(title: str, **options: object) -> None:
    starts: list[float] = []

    async def work() -> None:
        starts.append(time.monotonic() - began)
        await asyncio.sleep(0.02)

    began = time.monotonic()
    async with Timer(0.05, work, max_runs=5, **options) as timer:
        await timer.wait()
    print(f"{title:26}", " ".join(f"{start * 1000:4.0f}" for start in starts), "ms")


async def main() -> None:
    await show("fixed delay")
    await show("fixed rate", mode="fixed_rate")
    await show("after an initial delay", mode="fixed_rate", initial_delay=0.1)
    await show("with jitter, seeded", mode="fixed_rate", jitter=0.5, seed=7)


asyncio.run(main())
