"""What a timer calls in Python when a run fails or the timer ends."""

import inspect
import logging
from collections.abc import Callable
from typing import Any


def _logger(name: str) -> logging.Logger:
    return logging.getLogger(f"everbeat.timer.{name}")


def tell_failure(
    callback: Callable[[Any, Any], object] | None, timer: Any, target: Any, name: str, error: BaseException
) -> None:
    """Calls `exc_cb` while the failure is being handled, so that `logger.exception` finds it."""
    if callback is None:
        _logger(name).error("a run of timer %r failed", name, exc_info=error)
        return
    traceback = error.__traceback__
    try:
        raise error
    except BaseException:
        error.__traceback__ = traceback  # without this frame, which nobody wants to read
        _call(callback, timer, target, name)
    finally:
        error.__traceback__ = traceback


def tell_end(callback: Callable[[Any, Any], object], timer: Any, target: Any, name: str) -> None:
    """Calls `cancel_cb`."""
    _call(callback, timer, target, name)


def log_condition(name: str, error: BaseException) -> None:
    """One of `cancel_aws` has failed, which stops the timer like any other end of it."""
    _logger(name).error("one of the cancel_aws of timer %r failed, the timer stops", name, exc_info=error)


def _call(callback: Callable[[Any, Any], object], timer: Any, target: Any, name: str) -> None:
    try:
        returned = callback(timer, target)
        if inspect.iscoroutine(returned):
            returned.close()
            raise TypeError(f"callbacks are plain functions, and {callback!r} has made a coroutine")
    except Exception:
        _logger(name).exception("a callback of timer %r failed", name)
