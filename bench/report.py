"""Writes docs/performance.md and its plots from results.

    python3 bench/report.py [results/*.jsonl ...]

Without names the newest file of each language is taken. Files of one language are put together; what was measured
repeatedly is told as the median, with the least and the greatest. What is said by hand is in `remarks.md`.
"""

import json
import statistics
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chart import Points, chart

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
SIZES = ("1e0", "1e1", "1e2", "1e3", "1e4", "1e5", "1e6")
QUANTILES = {2.0: "p50", 10.0: "p90", 100.0: "p99", 1000.0: "p99.9"}
# The other ways of everbeat, and variants of one peer, are in the tables.
MANY = (
    "everbeat-inline",
    "everbeat-inline-fine",
    "everbeat-pooled",
    "everbeat-tokio",
    "tokio-interval",
    "tokio-delay-queue",
    "fastimer-tokio",
    "async-io",
    "futures-timer",
    "heap-batched",
    "thread-each",
    "floor-wheel",
    "floor-sorted-array",
)

Figures = dict[str, list[float]]
Groups = dict[str, dict[str, Figures]]


def read(paths: list[Path]) -> tuple[list[dict[str, Any]], Groups]:
    """What is known of the runs, and what they measured."""
    runs, groups = [], Groups()
    for path in paths:
        first, *lines = path.read_text().splitlines()
        runs.append(json.loads(first))
        for line in map(json.loads, lines):
            figures = groups.setdefault(line["group"], {}).setdefault(line["subject"], {})
            for name, value in line["figures"].items():
                figures.setdefault(name, []).append(value)
    return runs, groups


def newest(kind: str) -> list[Path]:
    return sorted((HERE / "results").glob(f"{kind}-*.jsonl"))[-1:]


def median(figures: Figures, name: str) -> float:
    return statistics.median(figures[name]) if name in figures else 0.0


def against_count(groups: Groups, period: str, figure: str) -> dict[str, Points]:
    lines = dict[str, Points]()
    for subject in MANY:
        found = [(float(size), groups.get(f"scale/{size}/{period}", {}).get(subject, {})) for size in SIZES]
        lines[subject] = [(size, median(figures, figure)) for size, figures in found if figure in figures]
    return lines


def quantiles(subjects: dict[str, Figures], drawn: Iterable[str]) -> dict[str, Points]:
    def line(figures: Figures) -> Points:
        return [(x, median(figures, f"{name} µs")) for x, name in QUANTILES.items()]

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
            plots[name] = chart(f"Lateness, {group}", "quantile", "microseconds", lines, QUANTILES)
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
    names = list(dict.fromkeys(name for figures in subjects.values() for name in figures))
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
    return "- " + "; ".join(f"{name}: {fact}" for name, fact in facts.items())


def main() -> None:
    paths = [Path(name) for name in sys.argv[1:]] or [
        *newest("rust"),
        *newest("python"),
    ]
    runs, groups = read(paths)
    plots = draw(groups)
    (DOCS / "performance").mkdir(parents=True, exist_ok=True)
    for name, plot in plots.items():
        (DOCS / "performance" / f"{name}.svg").write_text(plot)
    parts = [
        "<!-- Written by bench/report.py from results; what is said by hand is in bench/remarks.md. -->",
        (HERE / "remarks.md").read_text().strip(),
        "## Runs\n\n" + "\n".join(told(run) for run in runs),
        "## Plots\n\n" + "\n\n".join(f"![{name}](performance/{name}.svg)" for name in plots),
        "## Tables",
        *(f"### {group}\n\n{table(subjects)}" for group, subjects in groups.items()),
    ]
    (DOCS / "performance.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
