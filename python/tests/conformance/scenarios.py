"""The scenarios of `conformance/`, as `conformance/README.md` describes them, and random histories."""

import json
import os
import re
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parents[3] / "conformance" / "scenarios"
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
# What stands in place of the name of a file.
RANDOM = "random"

Json = Any


def load() -> list[tuple[str, Json]]:
    """All scenarios, with the names of their files. The variable names a file of histories, one a line."""
    named = [
        (file.stem, one)
        for file in sorted(PLACE.glob("*.json"))
        for one in json.loads(file.read_text())["scenarios"]
    ]
    if histories := os.environ.get("EVERBEAT_HISTORIES"):
        with Path(histories).open() as lines:
            named += [(RANDOM, json.loads(line)) for line in lines]
    return named


def nanos(text: str) -> int:
    if text == "never":
        return NEVER
    parts = [re.fullmatch(r"(\d+)([a-z]+)", part) for part in text.split()]
    return sum(int(part[1]) * UNITS[part[2]] for part in parts if part)


def is_instant(scenario: Json) -> bool:
    plans = [*scenario.get("runs", {}).values(), scenario.get("other_runs", {})]
    return all(nanos(plan.get("takes", "0s")) == 0 for plan in plans)


def is_for_sync(scenario: Json) -> bool:
    """Whether sync targets in a loop can play it, whose runs take no time."""
    return scenario["timer"].get("target", "call") == "call" and is_instant(scenario)


def lacking(scenario: Json) -> str | None:
    """What timers in Python have not got, on loops and on threads, if the scenario needs it."""
    if "drivers" in scenario and not {"tokio", "thread"} & set(scenario["drivers"]):
        return f"for {scenario['drivers']} only: {scenario['because']}"
    if "until" in scenario["timer"]:
        return "a timer in Python has no `until`, but `run_for`"
    for command in scenario.get("commands", []):
        match command["do"]:
            case "detach" | "drop_handle":
                return "a started timer lives whether or not anyone holds it"
            case {"subscribe": {"bounded": 0}}:
                return "a maxsize of 0 stands for unbounded"
    return None
