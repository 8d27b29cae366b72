"""Awaitables that end the timer, and callbacks that are told of failures and of the end."""

import asyncio
import itertools
import sys

from everbeat import Timer


async def main() -> None:
    shutdown = asyncio.Event()
    timer = Timer(
        0.02,
        target=itertools.count(),
        cancel_aws=[shutdown.wait()],
        cancel_cb=lambda timer, _: print("the timer has ended:", timer.name),
        name="counter",
    )
    async with timer:
        await timer.wait(hit_count=3)
        shutdown.set()
        await timer.wait()
    print("hits:", timer.hit_count, "running:", timer.is_running())

    failing = Timer(0.02, target=lambda: 1 / 0, exc_cb=lambda *_: print("told of:", sys.exception()))
    async with failing:
        try:
            await failing.wait()
        except ZeroDivisionError:
            print("and so is whoever waits")


asyncio.run(main())
