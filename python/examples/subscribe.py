"""`subscribe()` gives each consumer a buffer of its own: with every value, or bounded."""

import asyncio
import logging
import sys

from everbeat import Subscription, Timer


async def collect(feed: Subscription) -> None:
    values = []
    async for value in feed:
        values.append(value)
        await asyncio.sleep(0.03)  # slower than the timer
    print(f"{feed.name}: {values}, lost: {feed.dropped_count}")


async def main() -> None:
    async with Timer(0.01, target=iter(range(12)), name="numbers") as timer:
        async with (
            timer.subscribe(name="archive") as archive,
            timer.subscribe(maxsize=3, name="display") as display,
            timer.subscribe(maxsize=3, name="first come", overflow="drop_newest") as first_come,
        ):
            await asyncio.gather(collect(archive), collect(display), collect(first_come))


logging.basicConfig(stream=sys.stdout, format="%(levelname)s from %(name)s: %(message)s")
asyncio.run(main())
