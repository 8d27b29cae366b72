"""`@every(5)`: a timer made of a function."""

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Generic, Protocol, TypeVar, Unpack, overload

from everbeat._everbeat import Timer, _nanoseconds
from everbeat._options import Duration, TimerOptions

T = TypeVar("T")
F = TypeVar("F", bound=Callable[[], Any])


class Decorated(Generic[F]):
    """Makes a kind of timer one that stands where its function stood, and has its name and its words."""

    func: F
    __name__: str
    __qualname__: str
    __wrapped__: F

    def __init__(self, delay: Duration, func: F, **options: Any) -> None:
        if options.get("name") is None:
            options["name"] = getattr(func, "__name__", None)
        super().__init__(delay, func, **options)  # type: ignore[call-arg]
        functools.update_wrapper(self, func)  # type: ignore[arg-type]
        self.func = func


class DecoratedTimer(Decorated[F], Timer[T], Generic[T, F]):
    """A timer made by `every`. The function itself is `func`."""


class Decorator(Protocol):
    """Makes a timer of a function; the type of its values is what a run delivers."""

    @overload
    def __call__(
        self, func: Callable[[], Coroutine[Any, Any, T]], /
    ) -> DecoratedTimer[T, Callable[[], Coroutine[Any, Any, T]]]: ...
    @overload
    def __call__(
        self, func: Callable[[], AsyncIterator[T]], /
    ) -> DecoratedTimer[T, Callable[[], AsyncIterator[T]]]: ...
    @overload
    def __call__(
        self, func: Callable[[], Iterator[T]], /
    ) -> DecoratedTimer[T, Callable[[], Iterator[T]]]: ...
    @overload
    def __call__(self, func: Callable[[], T], /) -> DecoratedTimer[T, Callable[[], T]]: ...


def checked_delay(delay: Duration) -> None:
    """Refuses what is no delay before there is a function, of which `@every` without parentheses makes one."""
    if callable(delay):
        raise TypeError("delay must be a duration, not a function: write @every(5), with parentheses")
    _nanoseconds("delay", delay)


def every(delay: Duration, **options: Unpack[TimerOptions]) -> Decorator:
    """Makes a timer of the function below it, with the options of `Timer`. It is started by hand.

    The name of the timer is that of the function unless it is given another one.
    """
    checked_delay(delay)

    def decorate(func: F) -> DecoratedTimer[Any, F]:
        return DecoratedTimer(delay, func, **options)

    return decorate
