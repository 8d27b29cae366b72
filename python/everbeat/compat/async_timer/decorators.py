"""`@every(5)`."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from everbeat._decorator import Decorated
from everbeat._options import Callback, Duration, Mode
from everbeat.compat.async_timer.timer import Timer

__all__ = ["DecoratedTimer", "every"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[[], Any])


class DecoratedTimer(Decorated[F], Timer[T], Generic[T, F]):
    """A timer made by `every`. The function itself is `func`."""


def every(
    delay: Duration,
    *,
    exc_cb: Callback | None = None,
    cancel_cb: Callback | None = None,
    cancel_aws: Sequence[Awaitable[Any]] | None = None,
    mode: Mode = "fixed_delay",
    initial_delay: Duration = 0.0,
    jitter: float = 0.0,
    name: str | None = None,
) -> Callable[[F], DecoratedTimer[Any, F]]:
    """Makes a timer of the function below it."""

    def decorate(func: F) -> DecoratedTimer[Any, F]:
        return DecoratedTimer(
            delay,
            func,
            exc_cb=exc_cb,
            cancel_cb=cancel_cb,
            cancel_aws=cancel_aws,
            mode=mode,
            initial_delay=initial_delay,
            jitter=jitter,
            name=name,
        )

    return decorate
