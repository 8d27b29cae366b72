"""What becomes of failures: the end of the timer, the next run as usual, or a retry sooner or later than that."""

import asyncio
import sys

from everbeat import Backoff, Timer, current_tick
from everbeat.exceptions import TimerError
from everbeat.testing import VirtualLoop


def tell(timer: Timer[str], target: object) -> None:
    print(f"  run {current_tick().run} of {timer.name} failed: {sys.exception()}")


async def show(title: str, **policy: object) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    starts = []

    async def work() -> str:
        tick = current_tick()
        starts.append(f"{loop.time() - began:g}")
        if tick.run in {2, 3}:
            raise ConnectionError("no route")
        if tick.run == 5:
            await asyncio.sleep(60)
        return "fetched"

    timer = Timer(10, work, max_runs=6, exc_cb=tell, name=title, **policy)
    timer.start()
    try:
        await timer.wait()
    except (ConnectionError, TimerError) as error:
        print(f"{title}: ended by {error!r}")
    print(f"{title}: runs at {' '.join(starts)} s, {timer.stats().failures} failures, {timer.last_result}")


async def main() -> None:
    await show("stop")
    await show("continue", on_error="continue", run_timeout=2)
    await show("backoff", on_error=Backoff(1, 60), run_timeout=2)


# Seconds of this loop take no time.
with asyncio.Runner(loop_factory=VirtualLoop) as runner:
    runner.run(main())
