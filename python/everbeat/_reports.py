"""What timers tell the `logging` module and their callbacks. Called by the compiled part."""

import logging
from typing import Any, Callable


def logger(name: str) -> logging.Logger:
    return logging.getLogger(f"everbeat.timer.{name}")


def run_failed(name: str, error: BaseException) -> None:
    logger(name).error("run failed", exc_info=error)


def tell_failure(
    name: str, callback: Callable[..., object], error: BaseException, timer: Any, target: Any
) -> None:
    traceback = error.__traceback__
    try:
        raise error
    except BaseException:
        # Raising it here has added this frame, which nobody wants to read.
        error.__traceback__ = traceback
        try:
            callback(timer, target)
        except BaseException:
            logger(name).exception("exc_cb failed")


def tell_end(name: str, callback: Callable[..., object], timer: Any, target: Any) -> None:
    try:
        callback(timer, target)
    except BaseException:
        logger(name).exception("cancel_cb failed")
