"""Runs of sync targets on other threads than the loop's."""

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """As `asyncio.to_thread`, but who is cancelled waits for the call: it goes on, and nobody can stop it."""
    loop = asyncio.get_running_loop()
    job = loop.run_in_executor(None, contextvars.copy_context().run, call)
    # The traceback of a failure keeps what is in here, and the call keeps the timer, which keeps the failure.
    del call
    cancelled: asyncio.CancelledError | None = None
    while not job.done():
        try:
            await asyncio.wait([job])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return job.result()
    # Of a run that was given up: nobody is told how it ended, and nobody awaits what it has made.
    if not job.cancelled() and job.exception() is None and inspect.iscoroutine(made := job.result()):
        made.close()
    raise cancelled
