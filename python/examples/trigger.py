"""`trigger()` has a run start now and returns what it delivers: never what an earlier run has read."""

import asyncio

from everbeat import Timer

database = {"answer": 41}


async def read() -> int:
    answer = database["answer"]
    await asyncio.sleep(0.05)
    return answer


async def main() -> None:
    async with Timer(3600, read) as timer:
        await asyncio.sleep(0.01)  # the first run has read 41 already, and is not done
        database["answer"] = 42
        answers = await asyncio.gather(*(timer.trigger() for _ in range(3)))
        print("three requests:", answers, "in runs:", timer.hit_count)


asyncio.run(main())
