"""What was seen of a scenario, and how that differs from what it expects."""

import math
from dataclasses import dataclass, field

from tests.conformance.scenarios import Json, nanos
from tests.support import NANOS


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
    # What it was told.
    scheduled: int
    lateness: int
    slot: int
    missed: int
    cause: str
    end: int | None = None
    how: str = ""


@dataclass
class Trace:
    """What was seen."""

    # The time that a clock shows at the beginning: times are told as floats, as exactly as those can.
    origin: int
    # Whether whoever waits is a thread, before which another run of the same time may come.
    on_threads: bool = False
    refused: str | None = None
    runs: list[Run] = field(default_factory=list)
    answers: dict[str, Json] = field(default_factory=dict)
    feeds: dict[str, Json] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)
    failures_told: int = 0
    counters: Json = None
    faults: list[str] = field(default_factory=list)

    def agree(self, wanted: int, seen: int, now: int = 0) -> bool:
        """Whether two times are the same to a clock that tells them as floats."""
        return abs(wanted - seen) <= 2 * math.ulp((self.origin + max(seen, now)) / NANOS) * NANOS

    def hits_at(self, moment: int) -> int:
        """The hit count after everything that happened until then."""
        return sum(run.how == "value" and run.end is not None and run.end <= moment for run in self.runs)


def differences(scenario: Json, trace: Trace) -> list[str]:
    """Everything in which the trace is not what the scenario expects."""
    expect, report = scenario["expect"], list(trace.faults)

    def compare(what: str, wanted: Json, seen: Json) -> None:
        if wanted != seen:
            report.append(f"{what}\n    - {wanted}\n    + {seen}")

    compare("refused", expect.get("refused"), trace.refused)
    compare_runs(scenario, trace, report)
    for name, wanted in expect.get("answers", {}).items():
        seen = trace.answers.get(name)
        if not (wanted is seen is None) and not (wanted and seen and answers(wanted, seen, trace)):
            compare(f"answer {name}", wanted, seen)
    nothing = {"holds": [], "dropped": 0, "then": "open"}
    compare("feeds", {name: nothing | feed for name, feed in expect.get("feeds", {}).items()}, trace.feeds)
    ends = expect.get("ended", [])
    if len(ends) != len(trace.ended) or not all(
        "at" not in wanted or trace.agree(nanos(wanted["at"]), seen)
        for wanted, seen in zip(ends, trace.ended, strict=True)
    ):
        compare("ended", ends, trace.ended)
    counters = {"hits": 0, "failures": 0, "skipped": {}, "missed": 0} | expect.get("counters", {})
    compare("counters", counters if trace.refused is None else None, trace.counters)
    compare("failures told", counters["failures"], trace.failures_told)
    return report


def answers(wanted: Json, seen: Json, trace: Trace) -> bool:
    got = wanted.get("got", seen["got"])
    match got:
        case {"look": figures}:
            shown = seen["got"]["look"]
            fits = all(figures[name] == shown[name] for name in figures.keys() - {"next_due"})
            if "next_due" in figures:
                due = None if figures["next_due"] is None else nanos(figures["next_due"])
                fits = fits and (
                    due == shown["next_due"] or (bool(due) and trace.agree(due, shown["next_due"]))
                )
        case {"ended": _}:
            fits = seen["got"] == "ended"  # the reason is not told
        case {"stopped": _}:
            fits = "stopped" in seen["got"]
        case _:
            fits = got == seen["got"]
    fewest = wanted.get("hits", seen["hits"])
    most = trace.hits_at(seen["at"]) if trace.on_threads else fewest
    return bool(
        fits and trace.agree(nanos(wanted["at"]), seen["at"]) and fewest <= seen["hits"] <= max(fewest, most)
    )


def compare_runs(scenario: Json, trace: Trace, report: list[str]) -> None:
    expected = [row for spec in scenario["expect"].get("ticks", []) for row in rows(spec)]
    if len(expected) != len(trace.runs):
        report.append(f"{len(expected)} runs were expected at {expected}, and seen were {trace.runs}")
        return
    before, hits, sides = 0, 0, [0, 0]
    for number, (spec, run) in enumerate(zip(expected, trace.runs, strict=True), 1):
        nominal = before + spec["after"] if spec["at"] is None else spec["at"]
        in_time = trace.agree(nominal, run.at) or abs(nominal - run.at) <= spec["give"]
        due = nominal if spec["scheduled"] is None else spec["scheduled"]
        near = trace.agree(due, run.scheduled, run.at) or abs(due - run.scheduled) <= spec["give"]
        in_time = in_time and near and trace.agree(run.at, run.scheduled + run.lateness)
        fits = (run.slot, run.missed, run.cause) == (spec["slot"], spec["missed"], spec["cause"])
        if not in_time or not fits or (run.end if run.how == "given up" else None) != spec["given_up"]:
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
