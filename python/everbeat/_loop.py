"""How an event loop tells that it is being shut down."""

from collections.abc import AsyncGenerator, Callable


async def until_shutdown(end: Callable[[], None]) -> AsyncGenerator[None, None]:
    """Calls `end` when the loop closes its async generators, which `asyncio.run` and all servers have it do."""
    try:
        yield
    finally:
        end()
