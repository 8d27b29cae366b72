"""Timers that start, stop and are waited for together."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Self, TypeAlias, TypeVar

from everbeat._current import current_timer
from everbeat._everbeat import Timer, _check_wait, _nanoseconds
from everbeat._members import Members
from everbeat._options import Duration
from everbeat._threadsafe import run_on_loop

AnyTimer: TypeAlias = Timer[Any]
TimerT = TypeVar("TimerT", bound=AnyTimer)


class TimerGroup(Members[AnyTimer]):
    """A set of timers, in the order in which they were added.

    Every request goes to all members at once. Answers come as `[(timer, value), ...]`, in order.
    """

    _kind = Timer, "everbeat.Timer"
    _active = False
    _loop: asyncio.AbstractEventLoop | None = None

    def _is_active(self) -> bool:
        return self._active

    def add(self, timer: TimerT) -> TimerT:
        """Takes a timer in and returns it. If the group is active, the timer is started."""
        self._check(timer)
        if self._active and not timer.is_running():
            timer.start()
        self._take_in(timer)
        return timer

    def start(self) -> None:
        """Starts all members that do not run yet. If one of them cannot be started, none is.

        Does nothing if the group is active: a member that has ended since is left alone.
        """
        if self._active:
            return
        self._loop = asyncio.get_running_loop()
        started: list[AnyTimer] = []
        try:
            for timer in self:
                if not timer.is_running():
                    # First: an interrupt may come right after the start.
                    started.append(timer)
                    timer.start()
            self._active = True
        except BaseException:
            self._active = False
            # Asked by the call itself; who awaits only learns when it is done.
            self._ask_to_end("cancel", started, lambda timer: timer.cancel())
            raise

    async def __aenter__(self) -> Self:
        idle = [timer for timer in self if not timer.is_running()]
        try:
            self.start()
        except BaseException:
            self._active = False  # an interrupt may come right after the start
            await self._end("cancel", idle, lambda timer: timer.cancel())
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.cancel_all()

    def is_running(self) -> bool:
        """Whether the group is active and all its members run."""
        return self._active and all(timer.is_running() for timer in self)

    async def cancel_all(self) -> None:
        """Cancels all members; returns when nothing is left of their runs.

        A member that fails to end is logged, and the others end all the same. If the caller is cancelled, the
        timers are cancelled nevertheless. Of members whose runs call this each waits for those that do so later.
        """
        self._active = False
        await self._end("cancel", self, lambda timer: timer.cancel())

    async def cancel(self) -> None:
        """Another name of `cancel_all`."""
        await self.cancel_all()

    async def shutdown(self, grace: Duration) -> list[tuple[AnyTimer, Any]]:
        """Lets the current runs finish, for at most `grace`; says for each member how it ended.

        A member that is not waited for, as told at `cancel_all`, is left out.
        """
        _nanoseconds("grace", grace)  # refused before anybody is asked
        self._active = False
        return await self._end("shut down", self, lambda timer: timer.shutdown(grace))

    def cancel_threadsafe(self, timeout: float | None = None) -> None:
        """`cancel_all`, from another thread than the loop's: blocks until it is done."""
        limit = None if timeout is None else _nanoseconds("timeout", timeout) / 1e9
        run_on_loop(self._loop, self.cancel_all, repr(self), "cancel_all()", limit)

    async def wait(
        self,
        hit_count: int | None = None,
        hits: int | None = None,
        timeout: Duration | None = None,
        return_exceptions: bool = False,
    ) -> list[tuple[AnyTimer, Any]]:
        """Waits until every member has reached a hit count, has had further hits, or has ended.

        `timeout` bounds the whole. With `return_exceptions` what a member raises is its result.
        """
        _check_wait(hit_count, hits, timeout)
        asked = [timer.wait(hit_count=hit_count, hits=hits, timeout=timeout) for timer in self]
        return await self._gather(asked, return_exceptions)

    async def trigger(
        self, *, timeout: Duration | None = None, return_exceptions: bool = False
    ) -> list[tuple[AnyTimer, Any]]:
        """Has every member run now; the results of runs that started after the call.

        `timeout` bounds the whole. With `return_exceptions` what a member raises is its result.
        """
        limit = None if timeout is None else _nanoseconds("timeout", timeout) / 1e9
        asked = [_within(limit, timer.trigger()) for timer in self]
        return await self._gather(asked, return_exceptions)

    async def _gather(
        self, asked: Sequence[Awaitable[Any]], return_exceptions: bool
    ) -> list[tuple[AnyTimer, Any]]:
        answers = dict(zip(self, asked, strict=True))
        own = current_timer()
        if own in answers:
            # A run that would wait for itself is told so at once, but only if the asking is its own.
            answers[own] = await _settled(answers[own])
        futures = [asyncio.ensure_future(answer) for answer in answers.values()]
        try:
            results = await asyncio.gather(*futures, return_exceptions=return_exceptions)
        finally:
            for future in futures:
                future.cancel()  # after a failure nobody waits for the others
        return list(zip(answers, results, strict=True))

    async def _end(
        self, verb: str, timers: Iterable[AnyTimer], ask: Callable[[AnyTimer], Awaitable[Any]]
    ) -> list[tuple[AnyTimer, Any]]:
        """Asks all at once, then waits for one after the other: all of them end meanwhile.

        For a member's own run last: once it is given up, it cannot wait for the others.
        """
        own = current_timer()
        asked = self._ask_to_end(verb, timers, ask, own)
        ended: dict[AnyTimer, Any] = {}
        try:
            with self._ending(own) as wait_for_this:
                for timer, answer in sorted(asked, key=lambda pair: pair[0] is own):
                    if timer in wait_for_this:
                        continue
                    try:
                        ended[timer] = await answer
                    except Exception as error:
                        self._log_refusal(verb, timer, error)
        finally:
            for _, answer in asked:
                # The caller has been cancelled before its turn came.
                if inspect.iscoroutine(answer) and inspect.getcoroutinestate(answer) == inspect.CORO_CREATED:
                    asyncio.shield(asyncio.ensure_future(answer))
        return [(timer, ended[timer]) for timer, _ in asked if timer in ended]

    def _ask_to_end(
        self,
        verb: str,
        timers: Iterable[AnyTimer],
        ask: Callable[[AnyTimer], Awaitable[Any]],
        own: object = None,
    ) -> list[tuple[AnyTimer, Awaitable[Any]]]:
        """The answers. `own`, if this is its run, is answered at once, but in a task it would wait for itself."""
        asked: list[tuple[AnyTimer, Awaitable[Any]]] = []
        for timer in timers:
            try:
                answer = ask(timer)
                if inspect.iscoroutine(answer) and timer is not own:
                    # A method of a subclass, which begins when it is awaited: that of a timer has begun.
                    answer = asyncio.shield(asyncio.ensure_future(answer))
                asked.append((timer, answer))
            except Exception as error:
                self._log_refusal(verb, timer, error)
        return asked


async def _within(limit: float | None, answer: Awaitable[Any]) -> Any:
    async with asyncio.timeout(limit):
        return await answer


async def _settled(answer: Awaitable[Any]) -> asyncio.Future[Any]:
    """The answer as a future, once it is there."""
    future = asyncio.get_running_loop().create_future()
    try:
        future.set_result(await answer)
    except Exception as error:
        future.set_exception(error)
    return future
