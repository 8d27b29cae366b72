"""Calls that are made once, later, in an event loop."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from everbeat._everbeat import Timer, _nanoseconds
from everbeat._options import Duration

T = TypeVar("T")
P = ParamSpec("P")


class OneShot(Generic[T]):
    """A call that is to be made once. Made by `after`, in whose loop and thread it lives.

    It is made, or called off, exactly once, whoever asks for what. To await it is to `wait` for it.
    """

    def __init__(self, delay: Duration, call: functools.partial[Any]) -> None:
        _nanoseconds("delay", delay)  # refused by the name that it has here
        # Taken out when the call begins or is called off: nobody keeps what it refers to any longer.
        self._calls = calls = [call]
        # There is no second run for the period to say anything about.
        self._timer: Timer[T] = Timer(
            1, lambda: _make(calls.pop()), initial_delay=delay, max_runs=1, name=_name_of(call.func)
        )
        self._timer.start()

    def cancel(self) -> bool:
        """Calls the call off. `True` if that came in time: it has not begun and never will. Does not wait.

        A call that has begun is made to its end.

        >>> async def main():
        ...     call = after(3600, print)
        ...     print(call.cancel(), call.cancel())
        >>> asyncio.run(main())
        True False
        """
        in_time = self.is_pending()
        if in_time:
            self._calls.clear()
            _ = self._timer.cancel()  # the request is made; there is nothing to wait for
        return in_time

    def wait(self, timeout: Duration | None = None) -> Coroutine[Any, Any, T]:
        """Waits for the call; its value, at once if it was made.

        Raises what the call raised, `TimerStoppedError` if it was called off, `TimeoutError`, and, in the call
        itself, `TimerError`. Whoever is cancelled while it waits is cancelled alone.

        >>> async def main():
        ...     call = after(0.001, divmod, 7, 2)
        ...     print(await call.wait(timeout=20), await call)
        >>> asyncio.run(main())
        (3, 1) (3, 1)
        """
        timer = self._timer
        answer = timer.wait(hit_count=1, timeout=timeout)
        # The answer tells of values that come; one that is there is read.
        return cast(Coroutine[Any, Any, T], _itself(timer.last_result) if timer.hit_count else answer)

    def fire_now(self, timeout: Duration | None = None) -> Coroutine[Any, Any, T]:
        """Makes the call now, or waits for it if it is being made; its value. Raises as `wait`.

        The request is made at once, and stands whether or not it is awaited.

        >>> async def main():
        ...     print(await after(3600, str.upper, "now").fire_now(timeout=20))
        >>> asyncio.run(main())
        NOW
        """
        answer = self.wait(timeout)
        if self.is_pending():
            _ = self._timer.trigger()  # `answer` is that of the same run
        return answer

    def is_pending(self) -> bool:
        """Whether the call is still to come."""
        return bool(self._calls) and self._timer.is_running()

    @property
    def name(self) -> str:
        """The `__qualname__` of what it calls, or else its type."""
        return cast(str, self._timer.name)

    def __await__(self) -> Generator[Any, Any, T]:
        return self.wait().__await__()

    def __repr__(self) -> str:
        return f"<OneShot {self.name} {'pending' if self.is_pending() else 'over'}>"


@overload
def after(
    delay: Duration, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
) -> OneShot[T]: ...
@overload
def after(delay: Duration, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> OneShot[T]: ...
def after(delay: Duration, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> OneShot[Any]:
    """Calls `fn(*args, **kwargs)` once, `delay` from now, in the running loop.

    What it returns is awaited if it can be. All keywords are those of `fn`. The call is made, in a task
    `timer:<name>`, whether or not anybody holds what this returns; it sees the context variables as they are now,
    and there `current_timer()` is the timer behind it. For other options use a `Timer` with `max_runs=1`.

    >>> async def greet(name, greeting="hello"):
    ...     return f"{greeting}, {name}"
    >>> async def main():
    ...     call = after(0.001, greet, "world")
    ...     print(await call)
    ...     print(call.cancel())  # too late
    >>> asyncio.run(main())
    hello, world
    False

    Raises `ScheduleError` for a bad delay, `TypeError` if `fn` cannot be called, and `RuntimeError` if no loop is
    running.
    """
    if not callable(fn):
        raise TypeError(f"fn must be callable, not {type(fn).__qualname__}")
    return OneShot(delay, functools.partial(fn, *args, **kwargs))


async def _make(call: Callable[[], Any]) -> Any:
    # A timer would iterate over what a plain function returns, and end without a word by `StopAsyncIteration`.
    try:
        made = call()
        return await made if inspect.isawaitable(made) else made
    except StopAsyncIteration as end:
        raise RuntimeError("the call raised StopAsyncIteration") from end


async def _itself(value: T) -> T:
    return value


def _name_of(fn: object) -> str:
    name = getattr(fn, "__qualname__", None)
    return name if isinstance(name, str) else type(fn).__name__
