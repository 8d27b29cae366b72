"""What timers cost in Python: everbeat beside other libraries, and beside what one would write by hand.

    make bench-python                          # everything
    bench.py [--quick] [--repeat N] [words...] # groups with all these words in their name

Each measurement has a process of its own, and what is compared takes turns. A figure is the median, with the least
and the greatest; all of them are added to `bench/results/`.
"""

import argparse
import asyncio
import importlib.metadata
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

import measures
import threads
from contenders import ALL, APSCHEDULER_4, AT_SCALE, DELIVER, FAST, LIBRARIES, OF_SECONDS, fine

RESULTS = Path(__file__).parent.parent / "results"
PEERS = ("APScheduler", "aiocron", "async-timer", "uvloop")
LOOPS = {"asyncio": asyncio.run, "uvloop": uvloop.run}


@dataclass
class Group:
    name: str
    contenders: dict[str, Any]
    measure: Callable[..., Any]
    seconds: float = 2.0
    in_quick: bool = True

    def run(self, subject: str, quick: bool) -> measures.Figures:
        seconds = self.seconds / 4 if quick else self.seconds
        result = self.measure(self.contenders[subject], seconds)
        loop = self.name.split("/")[0]
        return LOOPS[loop](result) if loop in LOOPS else result


def groups() -> list[Group]:
    found = []
    for loop in LOOPS:
        fast, many, delivery = measures.as_fast_as_possible, measures.many, measures.delivery
        found += [
            Group(f"{loop}/fast/sync", FAST, fast),
            Group(f"{loop}/fast/async", LIBRARIES, partial(fast, is_async=True)),
            Group(f"{loop}/zero/sync", FAST, partial(fast, delay=0), in_quick=False),
            Group(f"{loop}/lateness/10ms", {"everbeat, fine": fine, **ALL}, measures.lateness, 4),
            *(
                Group(f"{loop}/many/{count}", OF_SECONDS, partial(many, count=count), 8, in_quick=False)
                for count in (1, 10, 100)
            ),
            Group(f"{loop}/many/1000", OF_SECONDS, partial(many, count=1_000), 8),
            Group(f"{loop}/many/10000", OF_SECONDS, partial(many, count=10_000), 8, in_quick=False),
            Group(f"{loop}/many/100000", AT_SCALE, partial(many, count=100_000), 8, in_quick=False),
            Group(f"{loop}/trigger", LIBRARIES, measures.trigger),
            *(
                Group(f"{loop}/delivery/{count}", DELIVER, partial(delivery, consumers=count), in_quick=quick)
                for count, quick in ((1, True), (10, False), (100, True), (1000, False))
            ),
        ]
    return [
        *found,
        Group("threads/fast", threads.FAST, threads.as_fast_as_possible),
        Group("threads/many/1000", threads.CONTENDERS, partial(threads.many, count=1_000), 8),
        Group("threads/start+stop", threads.CONTENDERS, threads.start_and_stop),
        Group("threads/trigger", threads.TRIGGERED, threads.trigger),
    ]


def measure_here(name: str, subject: str, quick: bool) -> None:
    """Measures, and ends the process, for taking timers down is measured only where it is told."""
    logging.disable()
    group = next(group for group in groups() if group.name == name)
    print(json.dumps(group.run(subject, quick)), flush=True)
    os._exit(0)


def measure_apart(group: Group, subject: str, quick: bool) -> measures.Figures:
    program = [sys.executable, __file__, "--case", group.name, subject, *["--quick"] * quick]
    places = [getattr(group.contenders[subject], "path", None), os.environ.get("PYTHONPATH")]
    path = os.pathsep.join(str(place) for place in places if place)
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path})
    return json.loads(done.stdout)


def compare(group: Group, repeat: int, quick: bool, results: Any) -> None:
    """The contenders take turns, so that what disturbs the machine disturbs them all."""
    found: dict[str, list[measures.Figures]] = {subject: [] for subject in group.contenders}
    for _ in range(repeat):
        for subject, figures in found.items():
            figures.append(measure_apart(group, subject, quick))
            line = {"group": group.name, "subject": subject, "figures": figures[-1]}
            print(json.dumps(line, ensure_ascii=False), file=results, flush=True)
    print(f"\n## {group.name} ({repeat} x)\n")
    print_table({subject: summaries(figures) for subject, figures in found.items()})


def summaries(repeats: list[measures.Figures]) -> dict[str, str]:
    return {name: summary([figures[name] for figures in repeats if name in figures]) for name in repeats[0]}


def summary(values: list[float]) -> str:
    median = f"{statistics.median(values):.4g}"
    return median if len(values) == 1 else f"{median} ({min(values):.4g} to {max(values):.4g})"


def print_table(rows: dict[str, dict[str, str]]) -> None:
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [["", *names], *([subject, *(row.get(n, "-") for n in names)] for subject, row in rows.items())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names) + 1)]
    lines.insert(1, ["-" * width for width in widths])
    for line in lines:
        print(
            "|",
            " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)),
            "|",
            flush=True,
        )


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")


def commit() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=RESULTS.parent, stdout=subprocess.PIPE, text=True
    )
    return described.stdout.strip()


def facts(began: int) -> dict[str, Any]:
    """Where and with what everything was measured."""
    (other,) = importlib.metadata.distributions(name="APScheduler", path=[str(APSCHEDULER_4)])
    return {
        "began": began,
        "load": Path("/proc/loadavg").read_text().strip(),
        "cpu": cpu(),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "commit": commit(),
        "compiler": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": ", ".join(
            [
                *(f"{peer} {importlib.metadata.version(peer)}" for peer in PEERS),
                f"APScheduler {other.version}",
            ]
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeat", type=int)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    if options.case:
        measure_here(*options.case, options.quick)
    repeat = options.repeat or (1 if options.quick else 3)
    began = int(time.time())
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / f"python-{began}.jsonl", "w") as results:
        print(json.dumps(facts(began)), file=results)
        for group in groups():
            wanted = group.in_quick or not options.quick
            if wanted and all(word in group.name for word in options.words):
                compare(group, repeat, options.quick, results)


if __name__ == "__main__":
    main()
