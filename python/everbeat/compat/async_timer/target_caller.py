"""What a timer calls."""

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar, cast

__all__ = ["Caller"]

T = TypeVar("T")


class Caller(Generic[T]):
    """A target of any shape, called once for each `await caller.next()`.

    A timer calls its target by itself, and keeps it: that of its `target_caller` cannot be replaced.
    """

    def __init__(self, target: Any) -> None:
        self._target = target
        self._items: Any = None

    @property
    def target(self) -> Any:
        return self._target

    @target.setter
    def target(self, target: Any) -> None:
        raise AttributeError("the target of a Caller cannot be set: make another timer, or another Caller")

    async def next(self) -> T:
        """The next value; `StopAsyncIteration` when there is none."""
        found = self._target if self._items is None else self._items
        try:
            if not isinstance(found, Iterator | AsyncIterator):
                found = found()
            if isinstance(found, Iterator | AsyncIterator):
                self._items = found
                found = next(found) if isinstance(found, Iterator) else anext(found)
        except StopIteration as end:
            raise StopAsyncIteration from end
        return cast(T, await found if inspect.isawaitable(found) else found)

    def reset(self) -> None:
        """Begins anew: a function that returns an iterator is called again."""
        self._items = None
