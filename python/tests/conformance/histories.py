"""Plays random histories, one a line of the input, on every face until each has played COUNT of them:

    histories SEED | python -m tests.conformance.histories COUNT

`make histories-python` does. A history on which a face and the model differ is printed and kept in a file.
"""

import asyncio
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tests.conformance import loops, threads
from tests.conformance.loops import LoopStage
from tests.conformance.scenarios import Json, is_for_sync
from tests.conformance.threads import ThreadStage
from tests.conformance.trace import differences
from tests.support import VIRTUAL_LOOPS

# How many histories one loop plays, and how often one is told about.
BATCH = 1_000
MOST_FAILURES = 5


@dataclass
class Face:
    name: str
    can_play: Callable[[Json], bool]
    play: Callable[[list[Json]], Iterator[list[str]]]
    histories: int = 0
    ticks: int = 0


def in_loop(kind: str, *, sync: bool) -> Callable[[list[Json]], Iterator[list[str]]]:
    async def one(scenario: Json) -> list[str]:
        return differences(scenario, await LoopStage(scenario, sync=sync).play())

    def play(batch: list[Json]) -> Iterator[list[str]]:
        with asyncio.Runner(loop_factory=VIRTUAL_LOOPS[kind]) as runner:
            for scenario in batch:
                yield runner.run(one(scenario))

    return play


def on_threads(batch: list[Json]) -> Iterator[list[str]]:
    for scenario in batch:
        stage = ThreadStage(scenario)
        yield differences(stage.scenario, stage.play())


def loops_can(scenario: Json) -> bool:
    return loops.lacking(scenario) is None


FACES = [
    Face("asyncio", loops_can, in_loop("stock", sync=False)),
    Face(
        "asyncio, sync targets", lambda one: loops_can(one) and is_for_sync(one), in_loop("uvloop", sync=True)
    ),
    Face("threads", lambda one: threads.lacking(one) is None, on_threads),
]


def main(count: int) -> bool:
    logging.disable()  # missed slots and lost values are no news here
    began, failures = time.monotonic(), 0
    while any(face.histories < count for face in FACES) and failures < MOST_FAILURES:
        batch = [json.loads(line) for line in islice(sys.stdin, BATCH)]
        if not batch:
            break
        for face in FACES:
            chosen = [one for one in batch if face.can_play(one)][: count - face.histories]
            for scenario, found in zip(chosen, face.play(chosen), strict=True):
                face.histories += 1
                face.ticks += len(scenario["expect"].get("ticks", []))
                if found:
                    failures += 1
                    tell(face, scenario, found)
        took = time.monotonic() - began
        print(f"{batch[-1]['name']}: {[face.histories for face in FACES]} in {took:.0f} s", flush=True)
    for face in FACES:
        print(f"{face.name}: {face.histories} histories, {face.ticks} ticks")
    return failures == 0 and all(face.histories == count for face in FACES)


def tell(face: Face, scenario: Json, found: list[str]) -> None:
    file = Path(tempfile.gettempdir()) / f"{scenario['name']}.json"
    file.write_text(json.dumps(scenario) + "\n")
    print(f"{face.name} and the model differ on {scenario['name']} (its seed and number), kept in {file}:")
    print("  " + "\n  ".join(found))
    print(f"  To play it again: EVERBEAT_HISTORIES={file} pytest tests/conformance -k {scenario['name']}")


if __name__ == "__main__":
    sys.exit(not main(int(sys.argv[1])))
