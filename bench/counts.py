"""Counts the instructions of single paths, and writes them to counts.md.

They say the same on every machine with the same compiler and libraries, whatever else it does: a change that costs
something shows in a review.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE / "counts.md"
TIMES = (2_000, 12_000)


def main(program: str) -> None:
    names = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
    before = dict(re.findall(r"^\| (.+?) \| ([\d,]+) \|", PAGE.read_text(), re.M)) if PAGE.exists() else {}
    rows = []
    for name in names:
        few, many = (instructions(program, name, times) for times in TIMES)
        count = f"{round((many - few) / (TIMES[1] - TIMES[0])):,}"
        rows.append(f"| {name} | {count} |")
        print(f"{name}: {count}, before {before.get(name, 'unknown')}", flush=True)
    PAGE.write_text(PREFACE + "\n".join(rows) + "\n")


def instructions(program: str, name: str, times: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, name, str(times)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = re.search(r"Collected : (\d+)", told)
    assert found, told
    return int(found[1])


PREFACE = """# Instructions

How many instructions each of these takes, of user code and under callgrind; `make bench-counts` writes this page.
There are 1,000 timers where a tick is counted, which come due one after the other in virtual time: each tick has
a wake-up of its own (those after missed slots share one), and the clock is that of a test. So these are no costs
in production, where ticks share wake-ups and wait for memory; they tell whether a change costs something.

| path | instructions |
|---|---|
"""

if __name__ == "__main__":
    main(sys.argv[1])
