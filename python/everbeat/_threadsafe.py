"""Calls from other threads than that of the loop."""

import asyncio
import concurrent.futures
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any

from everbeat.exceptions import ThreadsafeDispatchError

# How often a thread that waits looks whether the loop is still there, in seconds.
LOOK = 0.2


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
    coroutine = call()
    try:
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    except RuntimeError:  # it was closed in this very moment
        coroutine.close()
        raise ThreadsafeDispatchError(f"the event loop of {who} is closed") from None
    end = None if timeout is None else time.monotonic() + timeout
    while not concurrent.futures.wait([future], _next_look(end)).done:
        # A loop that ends without another iteration tells nobody.
        if loop.is_closed() and not future.done():
            if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()
            raise _ended(who)
        if end is not None and time.monotonic() >= end:
            raise TimeoutError(f"{who} did not answer within {timeout} s; what was asked stands")
    try:
        future.result()
    except concurrent.futures.CancelledError:
        raise _ended(who) from None


def _ended(who: str) -> ThreadsafeDispatchError:
    return ThreadsafeDispatchError(f"the event loop of {who} ended first: nothing of it goes on")


def _next_look(end: float | None) -> float:
    return LOOK if end is None else max(0.0, min(LOOK, end - time.monotonic()))
