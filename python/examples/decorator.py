"""`@every` makes a timer of a function; the function itself is its `.func`."""

import asyncio

import everbeat


@everbeat.every(0.05, mode="fixed_rate", name="db_refresh")
async def refresh_db() -> str:
    return f"content, read in run {refresh_db.hit_count + 1}"


async def main() -> None:
    print("called:", await refresh_db.func())
    refresh_db.start()
    print("joined:", await refresh_db.join())
    print("cached:", refresh_db.last_result)
    await refresh_db.cancel()
    print(refresh_db)


asyncio.run(main())
