"""A consumer that is too slow for what it is sent, and says itself what it can do without."""

import asyncio
import itertools

from everbeat import Timer


async def main() -> None:
    numbers = itertools.count(1)
    async with Timer(0.005, lambda: next(numbers), max_runs=100) as timer:
        async with timer.subscribe(name="exporter") as feed:
            async for value in feed:
                if feed.qsize > 10:
                    feed.drop_oldest(feed.qsize - 1)  # behind: only the newest still matters
                print(f"export {value}, {feed.dropped_count} dropped so far")
                await asyncio.sleep(0.1)


asyncio.run(main())
