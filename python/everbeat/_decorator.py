"""`@every(5)`: a timer made of a function."""

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Generic, Protocol, TypeVar, Unpack, overload

from everbeat._everbeat import Timer
from everbeat._options import Duration, TimerOptions

T = TypeVar("T")


class Decorated:
    """Makes a kind of timer one that stands where its function stood, and has its name and its words."""

    func: Callable[[], Any]
    __name__: str
    __qualname__: str
    __wrapped__: Callable[[], Any]

    def __init__(self, delay: Duration, func: Callable[[], Any], **options: Any) -> None:
        if options.get("name") is None:
            options["name"] = getattr(func, "__name__", None)
        super().__init__(delay, func, **options)  # type: ignore[call-arg]
        functools.update_wrapper(self, func)  # type: ignore[arg-type]
        self.func = func


class DecoratedTimer(Decorated, Timer[T], Generic[T]):
    """A timer made by `every`. The function itself is `func`."""


class Decorator(Protocol):
    """Makes a timer of a function; the type of its values is what a run delivers."""

    @overload
    def __call__(self, func: Callable[[], Coroutine[Any, Any, T]], /) -> DecoratedTimer[T]: ...
    @overload
    def __call__(self, func: Callable[[], AsyncIterator[T]], /) -> DecoratedTimer[T]: ...
    @overload
    def __call__(self, func: Callable[[], Iterator[T]], /) -> DecoratedTimer[T]: ...
    @overload
    def __call__(self, func: Callable[[], T], /) -> DecoratedTimer[T]: ...


def every(delay: Duration, **options: Unpack[TimerOptions]) -> Decorator:
    """Makes a timer of the function below it, with the options of `Timer`. It is started by hand.

    The name of the timer is that of the function unless it is given another one.
    """

    def decorate(func: Callable[[], Any]) -> DecoratedTimer[Any]:
        return DecoratedTimer(delay, func, **options)

    return decorate
