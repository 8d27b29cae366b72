"""What the players of scenarios have in common, whatever their timers live on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from everbeat import (
    Backoff,
    Burst,
    TimerAlreadyRunningError,
    TimerNotRunningError,
    TimerRestartError,
    TimerStoppedError,
    current_tick,
    current_timer,
    ns,
)
from tests.conformance.scenarios import Json, nanos
from tests.conformance.trace import KINDS, PlannedError, PlannedPanic, Run, Trace
from tests.support import NANOS

# Why slots are skipped.
REASONS = ("overrun", "paused", "late", "backoff")


class Stage:
    """One play of one scenario."""

    timer: Any

    def __init__(self, scenario: Json, trace: Trace) -> None:
        self.scenario = scenario
        self.trace = trace
        self.feeds: dict[str, Any] = {}

    def now(self) -> int:
        """The time since the beginning."""
        raise NotImplementedError

    def since_start(self, moment: float) -> int:
        """The same for a time that the timer has told."""
        raise NotImplementedError

    def begin(self) -> Json:
        """A run begins. Returns what it is to be like."""
        raise NotImplementedError

    def ask(self, action: Json) -> object:
        """Makes a request, as a run can make it as well."""
        raise NotImplementedError

    def subscribe(self, spec: Json) -> Json:
        name, overflow = spec["feed"], f"drop_{spec.get('drop', 'oldest')}"
        self.feeds[name] = self.timer.subscribe(spec.get("bounded", 0), name=name, overflow=overflow)
        return "ok"

    def take_all(self, feed: Any) -> list[int]:
        """What a feed holds."""
        raise NotImplementedError

    def give_other(self, command: Json) -> None:
        """What each player does in its own way, mostly since the answer is to be waited for."""
        raise NotImplementedError

    def give(self, command: Json) -> None:
        match command["do"]:
            case "start":
                self.answer_now(command, self.timer.start)
            case "look":
                self.answer_now(command, self.look)
            case {"subscribe": spec}:
                self.answer_now(command, lambda: self.subscribe(spec))
            case {"read": feed}:
                self.answer_now(command, lambda: {"items": self.take_all(self.feeds[feed])})
            case {"drop_oldest": {"feed": feed, "count": count}}:
                self.feeds[feed].drop_oldest(count)
            case {"close_feed": feed}:
                self.feeds[feed].close()
            case {"drop_feed": feed}:
                del self.feeds[feed]
            case _:
                self.give_other(command)

    def options(self) -> dict[str, Any]:
        """What every timer is given."""
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
        return options | {
            "delay": ns(nanos(spec["period"])),
            "exc_cb": self.told_failure,
            "cancel_cb": self.told_end,
            "name": "conformance",
        }

    def told(self) -> Run:
        """The run that begins, as it is told."""
        tick = current_tick()
        assert tick is not None
        assert tick.run == len(self.trace.runs) + 1
        assert current_timer() is self.timer
        scheduled, lateness = self.since_start(tick.scheduled), round(tick.lateness * NANOS)
        hits = self.timer.hit_count
        return Run(self.now(), hits, scheduled, lateness, tick.slot, tick.missed, tick.cause)

    def enter(self, run: Run) -> Json:
        """A run begins. What it does to its own timer it does without waiting for answers."""
        runs = self.trace.runs
        if runs and runs[-1].end is None:
            self.trace.faults.append(f"run {len(runs) + 1} began during the one before")
        runs.append(run)
        if len(runs) == 10_000:
            self.trace.faults.append("it has run wild")
            self.ask("cancel")
        plan = self.scenario.get("runs", {}).get(str(len(runs)), self.scenario.get("other_runs", {}))
        for action in plan.get("does", []):
            self.ask(action)
        return plan

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
        run.end, run.how = self.now(), how

    def told_failure(self, _timer: object, _target: object) -> None:
        self.trace.failures_told += 1

    def told_end(self, _timer: object, _target: object) -> None:
        self.trace.ended.append(self.now())

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

    def part(self) -> Trace:
        """What has been seen so far, and the counters. What happens from now on is not watched."""
        seen, stats = self.trace, self.timer.stats()
        skipped = {reason: getattr(stats.skipped, reason) for reason in REASONS}
        seen.counters = {
            "hits": stats.hits,
            "failures": stats.failures,
            "skipped": {reason: count for reason, count in skipped.items() if count},
            "missed": stats.missed,
        }
        self.trace = Trace(seen.origin, runs=[replace(run) for run in seen.runs])
        return seen

    def answer_now(self, command: Json, ask: Callable[[], Json]) -> None:
        self.note(command.get("as"), attempt(ask))

    def note(self, name: str | None, got: Json) -> None:
        if name is not None:
            self.trace.answers[name] = {"at": self.now(), "got": got, "hits": self.timer.hit_count}
        if got == "ended" and self.trace.runs and (self.trace.runs[-1].end is None or not self.trace.ended):
            self.trace.faults.append(f"`{name}` was told of an end before the callback, or during a run")


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


def value(got: int) -> Json:
    return {"value": got}


def attempt(ask: Callable[..., Json], *args: Any) -> Json:
    try:
        return ask(*args) or "ok"
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
        case TimerStoppedError() if "subscription" in str(error):
            return "feed_end"
        case TimerStoppedError():
            return {"stopped": str(error).rpartition(": ")[2]}
        case TimerNotRunningError():
            return "not_running"
        case TimerAlreadyRunningError():
            return "already_running"
        case TimerRestartError():
            return "restart"
    return repr(error)
