"""Plays scenarios on a timer of `everbeat.threading`, on an engine whose time is moved by hand.

This thread moves the time and so makes the runs. Whoever waits for an answer is a thread of its own. It is known
when that is to be answered, and time stands still until it has been. Patience would be counted in real time:
whoever is to lose it has none from the beginning.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from everbeat import ScheduleError, ns
from everbeat.testing import TestEngine
from everbeat.threading import Subscription, Timer
from tests.conformance import scenarios
from tests.conformance.scenarios import Json, is_instant, nanos
from tests.conformance.stage import Iterated, Stage, attempt, value
from tests.conformance.trace import Trace
from tests.support import NANOS

# Longer than it takes to hear anybody, on a machine that does much else.
LONG = 20.0

HELPER = ThreadPoolExecutor(1)


def lacking(scenario: Json) -> str | None:
    """What this face has not got, if the scenario needs it."""
    timer, expect = scenario["timer"], scenario["expect"]
    if "stream" in timer.get("target", ""):
        return "a timer on threads cannot await its target"
    if "stop_when" in timer:
        return "a timer on threads has no stop condition"
    if any("given_up" in tick for tick in expect.get("ticks", [])):
        return "a run on threads cannot be given up"
    if "run_for" in timer and not is_instant(scenario):
        return "a run holds up an engine that is moved by hand, which notices the limit after it"
    return scenarios.lacking(scenario)


@contextmanager
def no_preemption() -> Iterator[None]:
    """A thread keeps the interpreter until it waits: so it has asked before anybody else goes on."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class ThreadStage(Stage):
    """One play of one scenario."""

    timer: Timer[int]

    def __init__(self, scenario: Json) -> None:
        self.engine = TestEngine()
        # What the clock of timers shows at the beginning is told by one that ticks then.
        first = Timer(1, int, engine=self.engine, max_runs=1, start=True)
        self.engine.settle()
        assert first.last_tick_at is not None
        self.origin = first.last_tick_at
        super().__init__(impatient(scenario), Trace(round(self.origin * NANOS), on_threads=True))
        self.commands = deque(self.scenario.get("commands", []))
        self.watch = nanos(scenario["watch"])
        self.left = False
        # Who waits for an answer, and at which feed.
        self.listeners: dict[str, tuple[threading.Thread, list[Subscription[int]]]] = {}

    def play(self) -> Trace:
        trace = self.trace
        with no_preemption():
            try:
                self.timer = Timer(target=self.target(), engine=self.engine, **self.options())
            except ScheduleError as error:
                trace.refused = str(error).split()[0]
                return trace
            if self.scenario.get("autostart", True):
                self.timer.start()
            while self.commands and not self.left:
                self.move_to(nanos(self.commands[0]["at"]))
                while self.commands and nanos(self.commands[0]["at"]) <= self.now():
                    self.give(self.commands.popleft())
            self.move_to(self.watch)
            self.leave()
            self.end(trace)
        return trace

    def now(self) -> int:
        return round(self.engine.time() * NANOS)

    def since_start(self, moment: float) -> int:
        return round((moment - self.origin) * NANOS)

    def move_to(self, moment: int) -> None:
        """Lets everything happen that is due before, and nothing that is due then."""
        while self.now() < moment and not self.left:
            self.settle()
            due = self.engine.next_due()
            if due is None or round(due * NANOS) >= moment:
                self.spend_until(moment)
            else:
                self.hear()
                self.engine.advance_to_next()

    def settle(self) -> None:
        """Until nothing happens any more: a timer without a period is given one run at a time."""
        runs = None
        while runs != len(self.trace.runs) and not self.left:
            runs = len(self.trace.runs)
            self.engine.settle()

    def spend_until(self, moment: int) -> None:
        if moment > self.now() and not self.left:
            self.hear()
            self.engine.spend(ns(moment - self.now()))

    def hear(self) -> None:
        """Waits for everybody who is to be answered by now."""
        for name, (listener, _) in list(self.listeners.items()):
            wanted = self.scenario["expect"]["answers"][name]
            if wanted is not None and nanos(wanted["at"]) <= self.now():
                del self.listeners[name]
                listener.join(LONG)

    # Runs.

    def target(self) -> Callable[[], Any]:
        match self.scenario["timer"].get("target", "call"):
            case {"iterator": count}:
                return lambda: Iterated(self, count)
        return self.run

    def run(self) -> int:
        plan = self.begin()
        self.last(nanos(plan.get("takes", "0s")))
        return self.finish(plan)

    def begin(self) -> Json:
        if self.left:
            return {}
        for listener, feeds in self.listeners.values():
            if any(feed.qsize > 0 for feed in feeds):
                listener.join(LONG)  # it takes what there is before there is more
        return self.enter(self.told())

    def last(self, takes: int) -> None:
        """Commands that come during a run, or right at its end, come from another thread."""
        end = min(self.now() + takes, self.watch)
        while takes and self.commands and nanos(self.commands[0]["at"]) <= end:
            command = self.commands.popleft()
            self.spend_until(nanos(command["at"]))
            HELPER.submit(self.give, command).result()
        self.spend_until(end)
        if end == self.watch:
            HELPER.submit(self.leave).result()

    # Commands.

    def give_other(self, command: Json) -> None:
        match command["do"]:
            case {"stall": span}:
                self.spend_until(self.now() + nanos(span))
            case {"forget": _}:
                pass  # it had no patience
            case {"next": feed} if self.feeds[feed].qsize > 0:
                self.answer_now(command, lambda: self.request(command["do"])(0))
            case action if "as" in command:
                self.listen(command, self.request(action))
            case action:
                self.ask(action)

    def ask(self, action: Json) -> object:
        return attempt(self.request(action), 0)

    def request(self, action: Json) -> Callable[[float], Json]:
        """What asks for it and waits so long for the answer."""
        timer = self.timer
        match action:
            case "trigger":
                return lambda limit: value(timer.trigger(timeout=limit))
            case "join":
                return lambda limit: value(timer.join(timeout=limit))
            case "wait":
                return lambda limit: "ended" if timer.wait(timeout=limit) else "still_running"
            case {"wait_hits": count}:
                return lambda limit: timer.wait(hit_count=count, timeout=limit) and "ok"
            case {"wait_more": count}:
                return lambda limit: timer.wait(hits=count, timeout=limit) and "ok"
            case {"next": feed}:
                return lambda limit, feed=self.feeds[feed]: value(feed.get(timeout=limit))
            case "cancel":
                return lambda limit: timer.cancel(timeout=limit) or "ended"
            case {"shutdown": grace}:
                return lambda limit: {"shutdown": timer.shutdown(ns(nanos(grace)), timeout=limit)}
            case "pause":
                return lambda _: timer.pause()
            case "resume":
                return lambda _: timer.resume()
            case {"set_period": period}:
                return lambda _: timer.set_delay(ns(nanos(period)))
            case {"rearm": period}:
                return lambda _: timer.set_delay(ns(nanos(period)), rearm=True)
        raise AssertionError(action)

    def listen(self, command: Json, request: Callable[[float], Json]) -> None:
        asked = threading.Lock()
        asked.acquire()

        def listening() -> None:
            asked.release()
            self.note(name, attempt(request, 0 if command.get("timeout") == "0s" else LONG))

        name = command["as"]
        listener = threading.Thread(target=listening, daemon=True)
        feeds = [self.feeds[feed] for feed in subject(command, "next")]
        self.listeners[name] = listener, feeds
        listener.start()
        asked.acquire()

    def take_all(self, feed: Subscription[int]) -> list[int]:
        return [feed.get(timeout=0) for _ in range(feed.qsize)]

    # The end.

    def leave(self) -> None:
        """What there is to be seen at the end."""
        if self.left:
            return
        self.hear()
        self.left = True
        seen = self.part()
        for name, feed in self.feeds.items():
            holds = self.take_all(feed)
            then = {"timeout": "open", "feed_end": "end"}
            left = attempt(feed.get, 0)
            seen.feeds[name] = {
                "holds": holds,
                "dropped": feed.dropped_count,
                "then": left if isinstance(left, dict) else then[left],
            }
        self.ask("cancel")

    def end(self, trace: Trace) -> None:
        """Nobody may be left who waits."""
        self.engine.settle()
        for feed in self.feeds.values():
            feed.close()
        for name, (listener, _) in self.listeners.items():
            listener.join(LONG)
            if listener.is_alive():
                trace.faults.append(f"`{name}` was not told of the end")


def impatient(scenario: Json) -> Json:
    """The same, but what is to be waited for in vain is asked for without patience."""
    answers = dict(scenario["expect"].get("answers", {}))
    given = scenario.get("commands", [])
    forgotten = {name for command in given for name in subject(command, "forget")}
    commands = []
    for command in given:
        name = command.get("as")
        wanted = answers.get(name)
        if wanted is None and name in forgotten:
            command = {"at": command["at"], "do": command["do"]}
        elif wanted is not None and wanted.get("got") in ("timeout", "still_running"):
            command = command | {"timeout": "0s"}
            answers[name] = {"at": command["at"], "got": wanted["got"]}
        commands.append(command)
    return scenario | {"commands": commands, "expect": scenario["expect"] | {"answers": answers}}


def subject(command: Json, verb: str) -> list[str]:
    """What a command is about, if it is of this kind."""
    action = command["do"]
    return [action[verb]] if isinstance(action, dict) and verb in action else []
