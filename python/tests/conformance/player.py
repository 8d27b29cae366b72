"""Plays the scenarios of `conformance/` on a timer in an event loop, and compares what it sees with what
they expect. `conformance/README.md` says what the fields mean."""

import asyncio
import json
import math
import os
import re
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from everbeat import (
    Backoff,
    Burst,
    ScheduleError,
    Subscription,
    Timer,
    TimerAlreadyRunningError,
    TimerNotRunningError,
    TimerRestartError,
    TimerStoppedError,
    current_tick,
    ns,
)
from tests.support import NANOS, ORIGIN, PENDING, Stopwatch, settled, virtual

SCENARIOS = Path(__file__).parents[3] / "conformance" / "scenarios"
UNITS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "y": 365 * 86_400_000_000_000,
}
NEVER = 2**64 - 1

Json = Any


def agree(wanted: int, seen: int, now: int = 0) -> bool:
    """Whether two times are the same to a loop, which tells them as floats."""
    return abs(wanted - seen) <= 2 * math.ulp((ORIGIN + max(seen, now)) / NANOS) * NANOS


def nanos(text: str) -> int:
    if text == "never":
        return NEVER
    parts = [re.fullmatch(r"(\d+)([a-z]+)", part) for part in text.split()]
    return sum(int(part[1]) * UNITS[part[2]] for part in parts if part)


def load() -> list[tuple[str, Json]]:
    """All scenarios, with the names of their files. The variable names a file with random histories."""
    files = sorted(SCENARIOS.glob("*.json"))
    if histories := os.environ.get("EVERBEAT_HISTORIES"):
        files.append(Path(histories))
    return [(file.stem, one) for file in files for one in json.loads(file.read_text())["scenarios"]]


def is_instant(scenario: Json) -> bool:
    plans = [*scenario.get("runs", {}).values(), scenario.get("other_runs", {})]
    return all(nanos(plan.get("takes", "0s")) == 0 for plan in plans)


NOT_HERE = {
    "waiting-on-a-timer-that-was-never-started": "in Python the idle wait is no error",
    "on-the-grid-after-twenty-years": "a loop tells its time as a float, which has no milliseconds left then",
    "a-pause-of-a-century": "a loop tells its time as a float, which has no milliseconds left then",
}


def lacking(scenario: Json) -> str | None:
    """What this face has not got, if the scenario needs it."""
    if "drivers" in scenario and not {"tokio", "thread"} & set(scenario["drivers"]):
        return f"for {scenario['drivers']} only: {scenario['because']}"
    if scenario["name"] in NOT_HERE:
        return NOT_HERE[scenario["name"]]
    if "until" in scenario["timer"]:
        return "a timer in a loop has no `until`, but `run_for`"
    if any(command["do"] in ("detach", "drop_handle") for command in scenario.get("commands", [])):
        return "a started timer lives whether or not anyone holds it"
    if any(bound(command) == 0 for command in scenario.get("commands", [])):
        return "a maxsize of 0 stands for unbounded"
    return None


def bound(command: Json) -> int | None:
    match command["do"]:
        case {"subscribe": {"bounded": int(size)}}:
            return size
    return None


# Why slots are skipped.
REASONS = ("overrun", "paused", "late", "backoff")


class PlannedError(Exception):
    """What a run raises that is to fail."""


class PlannedPanic(Exception):
    """What a run raises that is to panic: in Python that is another exception."""


KINDS: dict[type[BaseException], str] = {
    PlannedError: "error",
    PlannedPanic: "panic",
    TimeoutError: "timed_out",
}


@dataclass
class Run:
    at: int
    hits: int
    slot: int
    scheduled: int
    lateness: int
    missed: int
    cause: str
    end: int | None = None
    how: str = ""


@dataclass
class Trace:
    """What was seen."""

    refused: str | None = None
    runs: list[Run] = field(default_factory=list)
    answers: dict[str, Json] = field(default_factory=dict)
    feeds: dict[str, Json] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)
    failures_told: int = 0
    counters: Json = None
    faults: list[str] = field(default_factory=list)


class Stage:
    """One play of one scenario."""

    def __init__(self, scenario: Json, *, sync: bool) -> None:
        self.scenario = scenario
        self.sync = sync
        self.clock = Stopwatch()
        self.trace = Trace()
        self.waiting: dict[str, asyncio.Task[None]] = {}
        self.feeds: dict[str, tuple[Subscription[int], asyncio.Lock]] = {}
        self.timer: Timer[int]

    async def play(self) -> Trace:
        try:
            self.timer = self.build()
        except ScheduleError as error:
            self.trace.refused = str(error).split()[0]
            return self.trace
        if self.scenario.get("autostart", True):
            self.timer.start()
        for command in self.scenario.get("commands", []):
            await self.sleep_until(nanos(command["at"]))
            self.give(command)
        await self.sleep_until(nanos(self.scenario["watch"]))
        await self.leave()
        return self.trace

    async def sleep_until(self, moment: int) -> None:
        """The commands of one time are given in one go, before whatever else is due then."""
        if moment > self.clock.nanos:
            reached = virtual().create_future()
            virtual().call_at(at(self.clock, moment), reached.set_result, None, before_others=True)
            await reached

    # The timer and its runs.

    def build(self) -> Timer[int]:
        spec = self.scenario["timer"]
        options: dict[str, Any] = {
            name: ns(nanos(spec[name]))
            for name in ("initial_delay", "max_lateness", "run_for", "run_timeout")
            if name in spec
        }
        options |= {name: spec[name] for name in ("mode", "keep_phase", "max_runs") if name in spec}
        if "jitter" in spec:
            options |= {"jitter": float(Fraction(spec["jitter"]["fraction"])), "seed": spec["jitter"]["seed"]}
        match spec.get("missed"):
            case {"burst": most}:
                options["missed"] = Burst(most)
            case str(word):
                options["missed"] = word
        match spec.get("on_error"):
            case {"backoff": waits}:
                factor = float(Fraction(waits.get("factor", "2")))
                options["on_error"] = Backoff(ns(nanos(waits["first"])), ns(nanos(waits["max"])), factor)
            case str(word):
                options["on_error"] = word
        if "stop_when" in spec:
            options["cancel_aws"] = [self.condition(nanos(spec["stop_when"]))]
        return Timer(
            ns(nanos(spec["period"])),
            self.target(),
            self.told_failure,
            self.told_end,
            name="conformance",
            **options,
        )

    def condition(self, moment: int) -> asyncio.Future[None]:
        future = virtual().create_future()
        if moment <= self.clock.nanos:
            future.set_result(None)
        else:
            virtual().call_at(at(self.clock, moment), lambda: future.done() or future.set_result(None))
        return future

    def target(self) -> Callable[[], Any]:
        match self.scenario["timer"].get("target", "call"):
            case {"iterator": count}:
                return lambda: Iterated(self, count)
            case {"stream": count}:
                return lambda: Streamed(self, count)
        return self.run_sync if self.sync else self.run_async

    def run_sync(self) -> int:
        plan = self.begin()
        return self.finish(plan)

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
        """A run begins. What it does to its own timer it does without waiting for answers."""
        runs, hits = self.trace.runs, self.timer.hit_count
        if runs and runs[-1].end is None:
            self.trace.faults.append(f"run {len(runs) + 1} began during the one before")
        tick = current_tick()
        assert tick is not None
        assert tick.run == len(runs) + 1
        scheduled, lateness = self.since_start(tick.scheduled), round(tick.lateness * NANOS)
        runs.append(Run(self.clock.nanos, hits, tick.slot, scheduled, lateness, tick.missed, tick.cause))
        if len(runs) == 10_000:
            self.trace.faults.append("it has run wild")
            self.timer.cancel()
        plan = self.scenario.get("runs", {}).get(str(len(runs)), self.scenario.get("other_runs", {}))
        for action in plan.get("does", []):
            self.ask(action)
        return plan

    def since_start(self, moment: float) -> int:
        return self.clock.nanos + round((moment - virtual().time()) * NANOS)

    def finish(self, plan: Json) -> int:
        match plan.get("returns", "number"):
            case "error":
                self.over("error")
                raise PlannedError
            case "panic":
                self.over("panic")
                raise PlannedPanic
            case {"value": int(value)}:
                self.over("value")
                return value
        self.over("value")
        return len(self.trace.runs)

    def over(self, how: str) -> None:
        run = self.trace.runs[-1]
        run.end, run.how = self.clock.nanos, how

    def told_failure(self, _timer: object, _target: object) -> None:
        self.trace.failures_told += 1

    def told_end(self, _timer: object, _target: object) -> None:
        self.trace.ended.append(self.clock.nanos)

    # Commands.

    def give(self, command: Json) -> None:
        limit = nanos(command["timeout"]) / 1e9 if "timeout" in command else None
        match command["do"]:
            case "start":
                self.answer_now(command, self.timer.start)
            case "look":
                self.answer_now(command, self.look)
            case {"subscribe": spec}:
                self.answer_now(command, lambda: self.subscribe(spec))
            case {"read": feed}:
                self.answer_now(command, lambda: {"items": take_all(self.feeds[feed][0])})
            case {"next": feed}:
                self.listen(command, Next(*self.feeds[feed]), value, limit)
            case {"drop_oldest": {"feed": feed, "count": count}}:
                self.feeds[feed][0].drop_oldest(count)
            case {"close_feed": feed}:
                self.feeds[feed][0].close()
            case {"drop_feed": feed}:
                del self.feeds[feed]
            case {"forget": name}:
                if name in self.waiting:
                    self.waiting.pop(name).cancel()
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
        overflow = f"drop_{spec.get('drop', 'oldest')}"
        feed = self.timer.subscribe(spec.get("bounded", 0), name=spec["feed"], overflow=overflow)
        self.feeds[spec["feed"]] = feed, asyncio.Lock()
        return "ok"

    def look(self) -> Json:
        timer, stats = self.timer, self.timer.stats()
        assert (stats.running, stats.paused, stats.hits) == (
            timer.is_running(),
            timer.is_paused(),
            timer.hit_count,
        )
        return {
            "look": {
                "running": stats.running,
                "busy": stats.busy,
                "paused": stats.paused,
                "hits": stats.hits,
                "latest": timer.last_result,
                "next_due": None if stats.next_due_at is None else self.since_start(stats.next_due_at),
            }
        }

    def answer_now(self, command: Json, ask: Callable[[], Json]) -> None:
        self.note(command.get("as"), attempt(ask))

    def note(self, name: str | None, got: Json) -> None:
        if name is not None:
            self.trace.answers[name] = {"at": self.clock.nanos, "got": got, "hits": self.timer.hit_count}
        if got == "ended" and self.trace.runs and (self.trace.runs[-1].end is None or not self.trace.ended):
            self.trace.faults.append(f"`{name}` was told of an end before the callback, or during a run")

    def listen(
        self,
        command: Json,
        answer: Awaitable[Any],
        meant: Callable[[Any], Json],
        limit: float | None = None,
    ) -> None:
        """Waits for the answer in a task of its own. Without a name it is not waited for."""
        name = command.get("as")

        async def listening() -> None:
            try:
                async with asyncio.timeout(limit):
                    got = meant(await answer)
            except Exception as error:
                got = meaning(error)
            self.note(name, got)

        if name is not None:
            self.waiting[name] = asyncio.create_task(listening())

    async def leave(self) -> None:
        """What there is to be seen at the end."""
        seen, self.trace = self.trace, Trace()  # what happens while leaving is not watched
        stats = self.timer.stats()
        skipped = {reason: getattr(stats.skipped, reason) for reason in REASONS}
        seen.counters = {
            "hits": stats.hits,
            "failures": stats.failures,
            "skipped": {reason: count for reason, count in skipped.items() if count},
            "missed": stats.missed,
        }
        for task in self.waiting.values():
            task.cancel()
        for name, (feed, _) in self.feeds.items():
            holds = take_all(feed)
            then = attempt(lambda feed=feed: "open" if settled(anext(feed)) is PENDING else "?")
            then = "end" if then == "feed_end" else then
            seen.feeds[name] = {"holds": holds, "dropped": feed.dropped_count, "then": then}
        seen.runs, self.trace.runs = [replace(run) for run in seen.runs], seen.runs
        self.timer.cancel()
        await asyncio.gather(*self.waiting.values(), return_exceptions=True)
        await self.timer.cancel()
        self.trace = seen


@dataclass
class Iterated:
    """An iterator of so many items, each of which is what its run returns."""

    stage: Stage
    left: int

    def __iter__(self) -> "Iterated":
        return self

    def __next__(self) -> int:
        plan = self.stage.begin()
        if self.left == 0:
            self.stage.over("exhausted")
            raise StopIteration
        self.left -= 1
        return self.stage.finish(plan)


@dataclass
class Streamed:
    """The same, asynchronously."""

    stage: Stage
    left: int

    def __aiter__(self) -> "Streamed":
        return self

    async def __anext__(self) -> int:
        if self.left == 0:
            self.stage.begin()
            self.stage.over("exhausted")
            raise StopAsyncIteration
        self.left -= 1
        return await self.stage.run_async()


def at(clock: Stopwatch, moment: int) -> float:
    return virtual().time() + (moment - clock.nanos) / 1e9


def value(got: int) -> Json:
    return {"value": got}


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


def attempt(ask: Callable[[], Json]) -> Json:
    try:
        return ask() or "ok"
    except Exception as error:
        return meaning(error)


def meaning(error: BaseException) -> Json:
    match error:
        case StopAsyncIteration():
            return "feed_end"
        case PlannedError() | PlannedPanic():
            return {"failed": KINDS[type(error)]}
        case TimeoutError():
            return {"failed": "timed_out"} if "the run exceeded" in str(error) else "timeout"
        case TimerStoppedError():
            return {"stopped": str(error).rpartition(": ")[2]}
        case TimerNotRunningError():
            return "not_running"
        case TimerAlreadyRunningError():
            return "already_running"
        case TimerRestartError():
            return "restart"
    return repr(error)


def take_all(feed: Subscription[int]) -> list[int]:
    return [settled(anext(feed)) for _ in range(feed.qsize)]


# Comparing.


def differences(scenario: Json, trace: Trace) -> list[str]:
    expect, report = scenario["expect"], list(trace.faults)

    def compare(what: str, wanted: Json, seen: Json) -> None:
        if wanted != seen:
            report.append(f"{what}\n    - {wanted}\n    + {seen}")

    compare("refused", expect.get("refused"), trace.refused)
    compare_runs(scenario, trace, report)
    for name, wanted in expect.get("answers", {}).items():
        seen = trace.answers.get(name)
        if not (wanted is seen is None) and not (wanted and seen and answers(wanted, seen)):
            compare(f"answer {name}", wanted, seen)
    nothing = {"holds": [], "dropped": 0, "then": "open"}
    compare("feeds", {name: nothing | feed for name, feed in expect.get("feeds", {}).items()}, trace.feeds)
    ends = expect.get("ended", [])
    if len(ends) != len(trace.ended) or not all(
        "at" not in wanted or agree(nanos(wanted["at"]), seen)
        for wanted, seen in zip(ends, trace.ended, strict=True)
    ):
        compare("ended", ends, trace.ended)
    counters = {"hits": 0, "failures": 0, "skipped": {}, "missed": 0} | expect.get("counters", {})
    compare("counters", counters if trace.refused is None else None, trace.counters)
    compare("failures told", counters["failures"], trace.failures_told)
    return report


def answers(wanted: Json, seen: Json) -> bool:
    got = wanted.get("got", seen["got"])
    match got:
        case {"look": figures}:
            shown = seen["got"]["look"]
            fits = all(figures[name] == shown[name] for name in figures.keys() - {"next_due"})
            if "next_due" in figures:
                due = None if figures["next_due"] is None else nanos(figures["next_due"])
                fits = fits and (due == shown["next_due"] or (bool(due) and agree(due, shown["next_due"])))
        case {"ended": _}:
            fits = seen["got"] == "ended"  # the reason is not told
        case {"stopped": _}:
            fits = "stopped" in seen["got"]
        case _:
            fits = got == seen["got"]
    return bool(
        fits and agree(nanos(wanted["at"]), seen["at"]) and wanted.get("hits", seen["hits"]) == seen["hits"]
    )


def compare_runs(scenario: Json, trace: Trace, report: list[str]) -> None:
    expected = [row for spec in scenario["expect"].get("ticks", []) for row in rows(spec)]
    if len(expected) != len(trace.runs):
        report.append(f"{len(expected)} runs were expected at {expected}, and seen were {trace.runs}")
        return
    before, hits, sides = 0, 0, [0, 0]
    for number, (spec, run) in enumerate(zip(expected, trace.runs, strict=True), 1):
        nominal = before + spec["after"] if spec["at"] is None else spec["at"]
        in_time = agree(nominal, run.at) or abs(nominal - run.at) <= spec["give"]
        given_up = run.end if run.how == "given up" else None
        told = {"slot": run.slot, "missed": run.missed, "cause": run.cause, "given_up": given_up}
        due = nominal if spec["scheduled"] is None else spec["scheduled"]
        in_time = in_time and (agree(due, run.scheduled, run.at) or abs(due - run.scheduled) <= spec["give"])
        in_time = in_time and agree(run.at, run.scheduled + run.lateness)
        if not in_time or told != {name: spec[name] for name in told}:
            report.append(f"run {number}\n    - {spec}\n    + {run}")
        if run.hits != hits:
            report.append(f"run {number} read a hit count of {run.hits}, not {hits}")
        hits += run.how == "value"
        if spec["give"] and run.at != nominal:
            sides[run.at > nominal] += 1
        before = run.at if run.end is None else run.end
    if min(sides) < scenario["expect"].get("both_sides", 0):
        report.append(f"before and after their nominal time were {sides}")


def rows(spec: Json) -> list[Json]:
    repeat = spec.get("repeat", {"times": 1, "every": "0s"})
    at = nanos(spec["at"]) if "at" in spec else None
    fixed = {
        "missed": spec.get("missed", 0),
        "cause": spec.get("cause", "schedule"),
        "after": nanos(spec.get("after", "0s")),
        "give": nanos(spec.get("give", "0s")),
        "given_up": nanos(spec["given_up"]) if "given_up" in spec else None,
    }
    every = nanos(repeat["every"])
    scheduled = nanos(spec["scheduled"]) if "scheduled" in spec else None
    return [
        {
            "slot": spec["slot"] + k,
            "at": at if at is None else at + k * every,
            "scheduled": scheduled if scheduled is None else scheduled + k * every,
            **fixed,
        }
        for k in range(repeat["times"])
    ]
