"""`async for` over a timer: values as they come, until the timer ends or its target fails."""

import asyncio
import time

from everbeat import Timer


async def main() -> None:
    async with Timer(0.05, target=time.monotonic, max_runs=5) as timer:
        async for now in timer:
            print(f"{now:.3f}")
    print("the end, after", timer.hit_count, "hits")

    async with Timer(0.05, target=iter([1, 0])) as timer:
        try:
            async for divisor in timer:
                print(1 / divisor)
        except ZeroDivisionError as error:
            print("leaving the loop ends the timer, too:", error)
    print("running:", timer.is_running())


asyncio.run(main())
