"""A pause skips what is due meanwhile, and lets through what is asked for."""

import asyncio

from everbeat import Timer, current_tick
from everbeat.testing import TestClock


async def main() -> None:
    clock = TestClock()
    with clock:  # time moves by hand only
        timer = Timer(60, target=lambda: current_tick().slot, mode="fixed_rate", name="report")
        timer.start()
        await clock.advance(60)
        print("after a minute:", timer.hit_count, "runs")

        timer.pause()
        await clock.advance(300)
        print("paused for five:", timer.hit_count, "runs")
        asked = asyncio.create_task(timer.trigger())
        await clock.advance(0)
        print("asked for:", await asked is not None, timer.hit_count, "runs")

        timer.resume()
        await clock.advance_to_next()
        print("resumed:", timer.hit_count, "runs,", timer.stats().skipped.paused, "skipped")
        await timer.cancel()


asyncio.run(main())
