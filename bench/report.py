"""Writes docs/performance.md and its plots from results.

    python3 bench/report.py [results/*.jsonl ...]

Without names each group is taken from the newest file that has it; files that are named are put together. What was
measured repeatedly is told as the median, with the least and the greatest. What is said by hand is in
`remarks.md`.
"""

import json
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chart import Points, chart

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
SIZES = ("1e0", "1e1", "1e2", "1e3", "1e4", "1e5", "1e6")
LOADS = ("1", "10", "100", "1000", "10000", "100000")
# By how many ticks there are to one that is later.
QUANTILES = {
    1 / 0.99: "|p1",
    1 / 0.9: "|p10",
    1 / 0.75: "|p25",
    2.0: "p50",
    4.0: "|p75",
    10.0: "p90",
    20.0: "|p95",
    50.0: "|p98",
    100.0: "p99",
    200.0: "|p99.5",
    1000.0: "p99.9",
}
MARKS = {1 / 0.99: "p1", 2.0: "p50", 10.0: "p90", 100.0: "p99", 1000.0: "p99.9"}
# The other ways of everbeat, and variants of one peer, are in the tables.
MANY = (
    "everbeat-inline",
    "everbeat-inline-fine",
    "everbeat-pooled",
    "everbeat-tokio",
    "everbeat-tokio-histograms",
    "everbeat-group",
    "tokio-interval",
    "tokio-delay-queue",
    "fastimer-tokio",
    "async-io",
    "futures-timer",
    "heap-exact",
    "heap-batched",
    "thread-each",
    "floor-wheel",
    "floor-sorted-array",
)

Figures = dict[str, list[float]]
Groups = dict[str, dict[str, Figures]]


@dataclass
class Results:
    """What is known of the runs, what they measured, and which of them measured it."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    groups: Groups = field(default_factory=dict)
    origins: dict[str, list[int]] = field(default_factory=dict)

    def add(self, path: Path, wanted: Callable[[str], bool] = lambda _: True) -> None:
        """Figures of a group that several runs have count as repeats."""
        first, *lines = path.read_text().splitlines()
        self.runs.append(json.loads(first))
        for line in filter(lambda line: wanted(line["group"]), map(json.loads, lines)):
            runs = self.origins.setdefault(line["group"], [])
            if len(self.runs) not in runs:
                runs.append(len(self.runs))
            figures = self.groups.setdefault(line["group"], {}).setdefault(line["subject"], {})
            for name, value in line["figures"].items():
                figures.setdefault(name, []).append(value)


def measured(paths: Iterable[Path]) -> Results:
    results = Results()
    for path in paths:
        results.add(path)
    return results


def newest() -> Results:
    """Each group from the newest run that has it."""
    files = sorted((HERE / "results").glob("*.jsonl"), key=lambda path: path.stem.split("-")[1])
    last = {group: path for path in files for group in measured([path]).groups}
    results = Results()
    for path in dict.fromkeys(last.values()):
        results.add(path, lambda group, path=path: last[group] == path)
    return results


def median(figures: Figures, name: str) -> float:
    return statistics.median(figures[name]) if name in figures else 0.0


def against_count(groups: Groups, period: str, figure: str) -> dict[str, Points]:
    lines = dict[str, Points]()
    for subject in MANY:
        found = [(float(size), groups.get(f"scale/{size}/{period}", {}).get(subject, {})) for size in SIZES]
        lines[subject] = [(size, median(figures, figure)) for size, figures in found if figure in figures]
    return lines


def against_load(groups: Groups, loop: str) -> dict[str, Points]:
    """The same for Python."""
    loads = [(float(load), groups.get(f"{loop}/many/{load}", {})) for load in LOADS]
    subjects = dict.fromkeys(subject for _, found in loads for subject in found)
    figure = "µs CPU/tick"
    return {
        name: [(x, median(found[name], figure)) for x, found in loads if name in found] for name in subjects
    }


def quantiles(subjects: dict[str, Figures], drawn: Iterable[str]) -> dict[str, Points]:
    def line(figures: Figures) -> Points:
        found = [(x, f"{name} µs") for x, name in QUANTILES.items()]
        return [(x, median(figures, name)) for x, name in found if name in figures]

    return {subject: line(subjects[subject]) if subject in subjects else [] for subject in drawn}


def draw(groups: Groups) -> dict[str, str]:
    """Plots by their names, as far as there are figures for them."""
    plots = {}
    curves = {
        "cost-10ms": ("10ms", "ns CPU/tick", "Cost of a tick, timers of 10 ms", "CPU, nanoseconds a tick"),
        "cost-1s": ("1s", "ns CPU/tick", "Cost of a tick, timers of 1 s", "CPU, nanoseconds a tick"),
        "memory": ("1s", "B/timer later", "Memory, timers of 1 s", "bytes a timer"),
    }
    for name, (period, figure, title, unit) in curves.items():
        lines = against_count(groups, period, figure)
        if any(len(line) > 1 for line in lines.values()):
            plots[name] = chart(title, "timers", unit, lines)
    for name, group in {"lateness-many": "scale/1e4/10ms", "lateness-one": "precision/1kHz"}.items():
        if group in groups:
            lines = quantiles(groups[group], MANY if group.startswith("scale") else groups[group])
            plots[name] = chart(f"Lateness, {group}", "quantile", "microseconds", lines, MARKS)
    for loop in ("asyncio", "uvloop"):
        lines = against_load(groups, loop)
        if any(len(line) > 1 for line in lines.values()):
            title = f"Cost of a tick in Python, timers of 1 s, {loop}"
            plots[f"cost-{loop}"] = chart(title, "timers", "CPU, microseconds a tick", lines)
    return plots


def cell(figures: Figures, name: str) -> str:
    values = figures.get(name)
    if not values:
        return "-"
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(subjects: dict[str, Figures]) -> str:
    names = [name for figures in subjects.values() for name in figures if not name.startswith("|")]
    names = list(dict.fromkeys(names))
    rows = [["", *names], ["---", *["---:"] * len(names)]]
    for subject, figures in subjects.items():
        shown = f"**{subject}**" if subject.startswith("everbeat") else subject
        rows.append([shown, *(cell(figures, name) for name in names)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def told(run: dict[str, Any]) -> str:
    facts = {
        **run,
        "began": f"{datetime.fromtimestamp(run['began'], UTC):%Y-%m-%d %H:%M} UTC",
    }
    return "; ".join(f"{name}: {fact}" for name, fact in facts.items())


def main() -> None:
    paths = [Path(name) for name in sys.argv[1:]]
    results = measured(paths) if paths else newest()
    plots = draw(results.groups)
    (DOCS / "performance").mkdir(parents=True, exist_ok=True)
    for name, plot in plots.items():
        (DOCS / "performance" / f"{name}.svg").write_text(plot)
    runs = [f"{number}. {told(run)}" for number, run in enumerate(results.runs, 1)]
    parts = [
        "<!-- Written by bench/report.py from results; what is said by hand is in bench/remarks.md. -->",
        (HERE / "remarks.md").read_text().strip(),
        "## Runs\n\n" + "\n".join(runs),
        "## Plots\n\n" + "\n\n".join(f"![{name}](performance/{name}.svg)" for name in plots),
        "## Tables",
    ]
    for group, subjects in results.groups.items():
        of = ", ".join(map(str, results.origins[group]))
        parts.append(f"### {group}\n\n{table(subjects)}\n\nRun {of}.")
    (DOCS / "performance.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
