"""Calls from other threads than that of the loop."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from everbeat.exceptions import ThreadsafeDispatchError


def run_on_loop(
    loop: asyncio.AbstractEventLoop | None,
    call: Callable[[], Coroutine[Any, Any, None]],
    who: str,
    alternative: str,
    timeout: float | None,
) -> None:
    """Runs a coroutine in the loop and blocks until it is done. After `timeout` it still is, but unwatched."""
    if loop is None:
        raise ThreadsafeDispatchError(f"{who} has not been started yet: it belongs to no loop")
    if loop.is_closed():
        raise ThreadsafeDispatchError(f"the event loop of {who} is closed")
    if asyncio._get_running_loop() is loop:
        raise ThreadsafeDispatchError(
            f"{who} lives in the loop of this thread, which must not block: await {alternative}"
        )
    future = asyncio.run_coroutine_threadsafe(call(), loop)
    try:
        future.result(timeout)
    except TimeoutError:
        raise TimeoutError(f"{who} did not answer within {timeout} s; what was asked stands") from None
