"""The latest value is there for everybody, at any time, without waiting."""

import asyncio

from everbeat import Timer


async def main() -> None:
    timer = Timer(0.05, target=iter(["first", "second", "third"]))
    print("before the first tick:", timer.last_result, timer.last_tick_at)
    async with timer:
        await timer.wait(hit_count=2)
        print("after two:", timer.last_result)
        await timer.wait()
    print("after the end:", timer.last_result, "of", timer.hit_count)


asyncio.run(main())
