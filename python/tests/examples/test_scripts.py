"""Every script under examples/ runs, ends by itself, and shows what it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

# What may be said on a machine that is busy with other things.
BUSY = re.compile(r"slots missed|a run blocked|Executing <.* took")

# What the output must contain, in this order.
SHOWS = {
    "async_for": ["the end, after 5 hits", "1.0", "division by zero", "running: False"],
    "cancel_aws": [
        "has ended: counter",
        "running: False",
        "told of: division by zero",
        "so is whoever waits",
    ],
    "decorator": ["called: content, read in run 1", "joined: content", "cached: content", "db_refresh"],
    "failures": [
        "run 2 of stop failed: no route",
        "stop: ended by ConnectionError('no route')",
        "run 5 of continue failed: the run exceeded its time limit",
        "continue: runs at 0 10 20 30 40 52 s, 3 failures, fetched",
        "backoff: runs at 0 10 11 13 23 26 s, 3 failures, fetched",
    ],
    "from_threads": ["not on the loop's own thread", "value 1 True", "triggered: value", "running: False"],
    "groups": ["all warm: True ['rates', 'load']", "rates = rates", "load = ", "after the block: False"],
    "groups_on_threads": [
        "all warm: True ['rates', 'load']",
        "rates = rates",
        "load = ",
        "after the block: False",
    ],
    "join": ["joined: 42", "running: False"],
    "last_result": ["None None", "after two: second", "after the end: third of 3"],
    "mock_timer": ["three ticks of an hour each"],
    "one_shot": [
        "cancelled in time: True",
        "made at its time: hello, world",
        "made now: hello, everybody",
        "without a loop: True",
        "rung: True",
    ],
    "overruns": [
        "runs at 0 1 5 6 7 8 s; 3 of 3 skipped",
        "runs at 0 1 5.5 6.5 7.5 8.5 s; 3 of 3 skipped",
        "runs at 0 1 4.5 4.5 5 6 s; 1 of 3 skipped",
    ],
    "pause": ["a minute: 2 runs", "for five: 2 runs", "asked for: True 3 runs", "resumed: 4 runs, 4 skipped"],
    "periodic_task": ["poll https://example.com 3", "stopped"],
    "restart": ["done hits: 1", "refused: ", "done hits: 2", "refused: ", "refused: "],
    "schedules": ["fixed delay", "fixed rate", "after an initial delay", "with jitter"],
    "session": ["triggered: ", "after the session: False"],
    "shed_load": ["export 1, 0 dropped", "export 100, "],
    "subscribe": [
        "WARNING from everbeat.timer.numbers: timer numbers: a slow consumer lost values",
        "archive: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], lost: 0",
    ],
    "targets": [
        *(
            "function",
            "  ended after 5",
            "coroutine",
            "  ended after 5",
            "generator, run 2",
            "  ended after 2",
        ),
        *("async generator, run 2", "  ended after 2", "generator, run 2", "  ended after 2", "coroutine"),
    ],
    "ticks": [],
    "trigger": ["three requests: [42, 42, 42] in runs: 2"],
}


def test_every_script_is_listed() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py")} - {"fastapi_cache"}
    assert scripts == SHOWS.keys()
    manual = (EXAMPLES / "README.md").read_text()
    assert [name for name in scripts if f"({name}.py)" not in manual] == []


@pytest.mark.parametrize("name", SHOWS)
def test_script(name: str) -> None:
    # A coroutine that nobody awaited, a loop that was left open: all such warnings are errors.
    command = [sys.executable, "-X", "dev", "-W", "error", str(EXAMPLES / f"{name}.py")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    complaints = [line for line in ended.stderr.splitlines() if not BUSY.search(line)]
    assert (ended.returncode, complaints) == (0, []), ended.stdout
    assert ended.stdout
    rest = ended.stdout
    for fragment in SHOWS[name]:
        _, found, rest = rest.partition(fragment)
        assert found, f"{fragment!r} is missing, or not in its place, in\n{ended.stdout}"
