"""What can be a target: functions, coroutine functions, iterators, async iterators, and what makes them."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from everbeat import Timer


def function() -> str:
    return "function"


async def coroutine() -> str:
    await asyncio.sleep(0)
    return "coroutine"


def generator() -> Iterator[str]:
    yield from ("generator, run 1", "generator, run 2")


async def async_generator() -> AsyncIterator[str]:
    yield "async generator, run 1"
    yield "async generator, run 2"


async def main() -> None:
    for target in (function, coroutine, generator, async_generator, generator(), lambda: coroutine()):
        async with Timer(0.01, target, max_runs=5) as timer:
            async for value in timer:
                print(value)
        print("  ended after", timer.hit_count, "hits")  # the end of a generator is the end of its timer


asyncio.run(main())
