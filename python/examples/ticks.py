"""`ticks()` is a schedule without a target, for a loop of your own."""

import asyncio

import everbeat


async def main() -> None:
    async with everbeat.ticks(0.02, mode="fixed_rate", max_runs=5) as ticks:
        async for tick in ticks:
            print(tick)
            await asyncio.sleep(0.01)


asyncio.run(main())
