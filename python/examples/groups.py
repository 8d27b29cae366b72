"""A `TimerGroup` handles its timers as one: start, wait, trigger, end."""

import asyncio
import time

from everbeat import Timer, TimerGroup


async def main() -> None:
    async with TimerGroup(name="caches") as group:
        group.add(Timer(5, target=lambda: "rates", name="rates"))
        group.add(Timer(60, target=time.process_time, name="load"))
        await group.wait(hit_count=1)
        print("all warm:", group.is_running(), [timer.name for timer in group])
        for timer, value in await group.trigger(timeout=5):
            print(timer.name, "=", value)
    print("running after the block:", group.is_running())


asyncio.run(main())
