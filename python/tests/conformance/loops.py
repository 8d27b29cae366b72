"""Plays scenarios on a timer in an event loop, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any

from everbeat import ScheduleError, Subscription, Timer, ns
from tests.conformance import scenarios
from tests.conformance.scenarios import Json, nanos
from tests.conformance.stage import Iterated, Stage, attempt, meaning, value
from tests.conformance.trace import Trace
from tests.support import NANOS, ORIGIN, PENDING, Stopwatch, settled, virtual

NOT_HERE = {
    "waiting-on-a-timer-that-was-never-started": "in Python the idle wait is no error",
    # A millisecond later than twenty years is no float: the nearest one is some nanoseconds off.
    "on-the-grid-after-twenty-years": "the slot at the very end of the stall has passed by the clock of a loop",
}


def lacking(scenario: Json) -> str | None:
    """What this face has not got, if the scenario needs it."""
    return NOT_HERE.get(scenario["name"]) or scenarios.lacking(scenario)


class LoopStage(Stage):
    """One play of one scenario."""

    timer: Timer[int]

    def __init__(self, scenario: Json, *, sync: bool) -> None:
        super().__init__(scenario, Trace(ORIGIN))
        self.sync = sync
        self.clock = Stopwatch()
        self.waiting: dict[str, Listener] = {}
        self.locks: dict[str, asyncio.Lock] = {}

    async def play(self) -> Trace:
        options = self.options()
        if "stop_when" in self.scenario["timer"]:
            options["cancel_aws"] = [self.condition(nanos(self.scenario["timer"]["stop_when"]))]
        try:
            self.timer = Timer(target=self.target(), **options)
        except ScheduleError as error:
            self.trace.refused = str(error).split()[0]
            return self.trace
        if self.scenario.get("autostart", True):
            self.timer.start()
        for command in self.scenario.get("commands", []):
            await self.sleep_until(nanos(command["at"]))
            self.give(command)
        await self.sleep_until(nanos(self.scenario["watch"]))
        return await self.leave()

    def now(self) -> int:
        return self.clock.nanos

    def since_start(self, moment: float) -> int:
        return self.clock.nanos + round((moment - virtual().time()) * NANOS)

    async def sleep_until(self, moment: int) -> None:
        """The commands of one time are given in one go, before whatever else is due then."""
        if moment > self.clock.nanos:
            reached = virtual().create_future()
            virtual().call_at(at(self.clock, moment), reached.set_result, None, before_others=True)
            await reached

    def condition(self, moment: int) -> asyncio.Future[None]:
        future = virtual().create_future()
        if moment <= self.clock.nanos:
            future.set_result(None)
        else:
            virtual().call_at(at(self.clock, moment), lambda: future.done() or future.set_result(None))
        return future

    # Runs.

    def target(self) -> Callable[[], Any]:
        match self.scenario["timer"].get("target", "call"):
            case {"iterator": count}:
                return lambda: Iterated(self, count)
            case {"stream": count}:
                return lambda: Streamed(self, count)
        return self.run_sync if self.sync else self.run_async

    def run_sync(self) -> int:
        return self.finish(self.begin())

    async def run_async(self) -> int:
        plan = self.begin()
        try:
            takes = nanos(plan.get("takes", "0s"))
            if takes > 0:
                await asyncio.sleep(takes / 1e9)
        except asyncio.CancelledError:
            self.over("given up")
            raise
        return self.finish(plan)

    def begin(self) -> Json:
        return self.enter(self.told())

    # Commands.

    def give_other(self, command: Json) -> None:
        limit = nanos(command["timeout"]) / 1e9 if "timeout" in command else None
        match command["do"]:
            case {"next": feed}:
                self.listen(command, Next(self.feeds[feed], self.locks[feed]), value, limit)
            case {"forget": name}:
                if name in self.waiting:
                    self.waiting.pop(name).forget()
            case {"stall": span}:
                virtual().advance(nanos(span) / 1e9)
            case "wait":
                self.listen(command, self.timer.wait(timeout=limit), self.waited)
            case {"wait_hits": count}:
                self.listen(command, self.timer.wait(hit_count=count, timeout=limit), lambda _: "ok")
            case {"wait_more": count}:
                self.listen(command, self.timer.wait(hits=count, timeout=limit), lambda _: "ok")
            case action:
                asked = self.ask(action)
                if asked is not None:
                    self.listen(command, *asked, limit)

    def ask(self, action: Json) -> tuple[Awaitable[Any], Callable[[Any], Json]] | None:
        """Makes the request. Returns the answer to wait for, and what it means."""
        timer = self.timer
        match action:
            case "trigger":
                return timer.trigger(), value
            case "join":
                return timer.join(), value
            case "cancel":
                return timer.cancel(), lambda _: "ended"
            case {"shutdown": grace}:
                return timer.shutdown(ns(nanos(grace))), lambda how: {"shutdown": how}
            case "pause":
                timer.pause()
            case "resume":
                timer.resume()
            case {"set_period": period}:
                timer.set_delay(ns(nanos(period)))
            case {"rearm": period}:
                timer.set_delay(ns(nanos(period)), rearm=True)
        return None

    def waited(self, _: object) -> Json:
        return "still_running" if self.timer.is_running() else "ended"

    def subscribe(self, spec: Json) -> Json:
        self.locks[spec["feed"]] = asyncio.Lock()
        return super().subscribe(spec)

    def take_all(self, feed: Subscription[int]) -> list[int]:
        return [settled(anext(feed)) for _ in range(feed.qsize)]

    def listen(
        self,
        command: Json,
        answer: Awaitable[Any],
        meant: Callable[[Any], Json],
        limit: float | None = None,
    ) -> None:
        """Without a name the answer is not waited for."""
        if name := command.get("as"):
            self.waiting[name] = Listener(answer, limit, lambda got: self.note(name, got), meant)

    async def leave(self) -> Trace:
        """What there is to be seen at the end."""
        seen = self.part()
        for listener in self.waiting.values():
            listener.forget()
        for name, feed in self.feeds.items():
            holds = self.take_all(feed)
            then = attempt(lambda feed=feed: "open" if settled(anext(feed)) is PENDING else "?")
            then = "end" if then == "feed_end" else then
            seen.feeds[name] = {"holds": holds, "dropped": feed.dropped_count, "then": then}
        await self.timer.cancel()
        return seen


@dataclass
class Streamed:
    """The same, asynchronously. An item that is given up on is not taken."""

    stage: LoopStage
    left: int

    def __aiter__(self) -> "Streamed":
        return self

    async def __anext__(self) -> int:
        if self.left == 0:
            self.stage.begin()
            self.stage.over("exhausted")
            raise StopAsyncIteration
        try:
            return await self.stage.run_async()
        finally:
            self.left -= self.stage.trace.runs[-1].how != "given up"


def at(clock: Stopwatch, moment: int) -> float:
    return virtual().time() + (moment - clock.nanos) / NANOS


class Next:
    """The next item of a feed, for one consumer after the other."""

    def __init__(self, feed: Subscription[int], turn: asyncio.Lock) -> None:
        self.feed, self.turn = feed, turn

    def __await__(self) -> Generator[Any, Any, int]:
        yield from self.turn.acquire().__await__()
        try:
            return (yield from anext(self.feed).__await__())
        finally:
            self.turn.release()


class Listener:
    """Waits for an answer from this very moment on, where a task would begin a turn later."""

    def __init__(
        self,
        answer: Awaitable[Any],
        limit: float | None,
        tell: Callable[[Json], None],
        meant: Callable[[Any], Json],
    ) -> None:
        self.steps = answer.__await__()
        self.tell, self.meant = tell, meant
        self.future: asyncio.Future[Any] | None = None
        self.given_up = self.forgotten = False
        self.alarm = virtual().call_later(limit, self.give_up) if limit is not None else None
        self.step()

    def step(self, woken_by: asyncio.Future[Any] | None = None) -> None:
        """As a task does it."""
        self.future = None
        try:
            self.future = self.go_on(woken_by)
        except StopIteration as stop:
            self.over(self.meant(stop.value))
        except asyncio.CancelledError:
            self.over("timeout")
        except Exception as error:
            self.over(meaning(error))
        else:
            self.future._asyncio_future_blocking = False  # as a task says that it has seen it
            self.future.add_done_callback(self.step)

    def go_on(self, woken_by: asyncio.Future[Any] | None) -> Any:
        try:
            if woken_by is not None:
                woken_by.result()
        except asyncio.CancelledError as error:
            return self.steps.throw(error)
        return self.steps.throw(asyncio.CancelledError()) if self.given_up else self.steps.send(None)

    def over(self, got: Json) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
        if not self.forgotten:
            self.tell(got)

    def give_up(self) -> None:
        """Whoever was woken already learns it then."""
        self.given_up = True
        if self.future is not None:
            self.future.cancel()

    def forget(self) -> None:
        self.forgotten = True
        self.give_up()
