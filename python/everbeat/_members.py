"""What groups of both kinds are: timers in order, with a name."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any, ClassVar, Generic, TypeVar, cast

TimerT = TypeVar("TimerT")


class Members(Generic[TimerT]):
    """A set of timers, in the order in which they were added."""

    _kind: ClassVar[tuple[type[Any], str]]
    """The type of the members, and what it is called."""

    def __init__(self, timers: Iterable[TimerT] = (), *, name: str | None = None) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string, not {type(name).__qualname__}")
        self._timers: dict[TimerT, None] = {}
        # The members whose runs end the group, in the order in which they came to it.
        self._enders: dict[object, TimerT] = {}
        for timer in timers:
            self._check(timer)
            self._take_in(timer)
        self.name = name
        self._logger = logging.getLogger(f"everbeat.group.{name or 'unnamed'}")

    def _check(self, timer: object) -> None:
        kind, name = self._kind
        if not isinstance(timer, kind):
            given = type(timer)
            raise TypeError(
                f"a member of a TimerGroup must be an {name}, not {given.__module__}.{given.__qualname__}"
            )

    def _is_active(self) -> bool:
        """Whether it was started, and not stopped since."""
        raise NotImplementedError

    def _take_in(self, timer: TimerT) -> None:
        self._timers[timer] = None

    def discard(self, timer: TimerT) -> None:
        """Takes a timer out, if it is in. It goes on as it is."""
        self._timers.pop(timer, None)

    def remove(self, timer: TimerT) -> None:
        """Takes a timer out, which must be in. It goes on as it is."""
        del self._timers[timer]

    def __iter__(self) -> Iterator[TimerT]:
        return iter(list(self._timers))

    def __len__(self) -> int:
        return len(self._timers)

    def __contains__(self, timer: object) -> bool:
        return timer in self._timers

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        name = "" if self.name is None else f" name={self.name!r}"
        return f"<TimerGroup{name} members={len(self)} active={self._is_active()}>"

    @contextmanager
    def _ending(self, own: object) -> Iterator[list[TimerT]]:
        """While `own`, if it is a member whose run this is, waits for the others to end.

        The members whose runs began to do the same before: they wait for this one, and it must not wait for them.
        """
        if own not in self:
            yield []
            return
        key = object()
        self._enders[key] = cast(TimerT, own)
        try:
            # A copy, in one step: others come and go on other threads.
            before = takewhile(lambda ender: ender[0] is not key, self._enders.copy().items())
            yield [timer for _, timer in before]
        finally:
            del self._enders[key]

    def _log_refusal(self, verb: str, timer: TimerT, error: BaseException) -> None:
        self._logger.error("could not %s %r", verb, timer, exc_info=error)
