"""`join()` waits for the next value, and hands every waiter the same one."""

import asyncio

from everbeat import Timer


async def main() -> None:
    timer = Timer(12, target=lambda: 42)
    timer.start()
    print("joined:", await timer.join())
    await timer.cancel()
    print("running:", timer.is_running())


asyncio.run(main())
