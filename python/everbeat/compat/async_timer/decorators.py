"""`@every(5)`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, overload

from everbeat._decorator import Decorated, checked_delay
from everbeat._options import Duration, Mode
from everbeat.compat.async_timer.timer import Callback, Timer

__all__ = ["DecoratedTimer", "every"]

T = TypeVar("T")


class DecoratedTimer(Decorated[Any], Timer[T], Generic[T]):
    """A timer made by `every`. The function itself is `func`."""


class Decorator(Protocol):
    """Makes a timer of a function; the type of its values is what a run delivers."""

    @overload
    def __call__(self, func: Callable[[], AsyncIterator[T]], /) -> DecoratedTimer[T]: ...
    @overload
    def __call__(self, func: Callable[[], Awaitable[T]], /) -> DecoratedTimer[T]: ...
    @overload
    def __call__(self, func: Callable[[], Iterator[T]], /) -> DecoratedTimer[T]: ...
    @overload
    def __call__(self, func: Callable[[], T], /) -> DecoratedTimer[T]: ...


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
) -> Decorator:
    """Makes a timer of the function below it."""
    options: dict[str, Any] = {
        "mode": mode,
        "initial_delay": initial_delay,
        "jitter": jitter,
        "name": name,
        "cancel_aws": cancel_aws,
    }
    callbacks = {"exc_cb": exc_cb, "cancel_cb": cancel_cb}
    options |= {field: callback for field, callback in callbacks.items() if callback is not None}
    checked_delay(delay)

    def decorate(func: Any) -> DecoratedTimer[Any]:
        return DecoratedTimer(delay, func, **options)

    return decorate
