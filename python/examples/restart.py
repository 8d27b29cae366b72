"""A timer that has ended can be started again: with a fresh schedule, while its counts go on."""

import asyncio

from everbeat import Timer
from everbeat.exceptions import TimerAlreadyRunningError, TimerRestartError


async def main() -> None:
    timer = Timer(60, target=lambda: "done")
    for _ in range(2):
        timer.start()
        print(await timer.join(), "hits:", timer.hit_count)
        try:
            timer.start()
        except TimerAlreadyRunningError as error:
            print("refused:", error)
        await timer.cancel()

    once = Timer(60, target=lambda: "done", cancel_aws=[asyncio.sleep(0.01)])
    once.start()
    await once.wait()
    try:
        once.start()
    except TimerRestartError as error:
        print("refused:", error)


asyncio.run(main())
