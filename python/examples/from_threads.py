"""A timer of an event loop, used from another thread."""

import asyncio

from everbeat import Timer
from everbeat.exceptions import ThreadsafeDispatchError


def in_a_thread(timer: Timer) -> None:
    print("anybody can read:", timer.last_result, timer.hit_count, timer.is_running())
    timer.set_delay(30)
    print("triggered:", timer.trigger_threadsafe(timeout=5))
    timer.cancel_threadsafe(timeout=5)
    print("running:", timer.is_running())


async def main() -> None:
    async with Timer(60, target=lambda: "value") as timer:
        await timer.wait(hit_count=1)
        try:
            timer.cancel_threadsafe(timeout=5)
        except ThreadsafeDispatchError as error:
            print("not on the loop's own thread:", error)
        await asyncio.to_thread(in_a_thread, timer)


asyncio.run(main())
