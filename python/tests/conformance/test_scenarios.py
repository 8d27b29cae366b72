"""Every scenario that a face can play: in loops with async and with sync targets, and on threads."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance import loops, threads
from tests.conformance.loops import LoopStage
from tests.conformance.scenarios import RANDOM, Json, is_for_sync, load
from tests.conformance.threads import ThreadStage
from tests.conformance.trace import Trace, differences

STORIES = load()


def params(chosen: Callable[[Json], bool], lacking: Callable[[Json], str | None]) -> list[Any]:
    return [
        pytest.param(scenario, id=f"{file}-{scenario['name']}", marks=marks(lacking(scenario)))
        for file, scenario in STORIES
        if chosen(scenario)
    ]


def marks(reason: str | None) -> list[pytest.MarkDecorator]:
    return [] if reason is None else [pytest.mark.skip(reason=reason)]


def check(scenario: Json, trace: Trace) -> None:
    found = differences(scenario, trace)
    assert not found, f"({' '.join(scenario['clauses'])}) {scenario['why']}\n  " + "\n  ".join(found)


@pytest.mark.parametrize("scenario", params(lambda _: True, loops.lacking))
async def test_async_target(scenario: Json) -> None:
    check(scenario, await LoopStage(scenario, sync=False).play())


@pytest.mark.parametrize("scenario", params(is_for_sync, loops.lacking))
async def test_sync_target(scenario: Json) -> None:
    check(scenario, await LoopStage(scenario, sync=True).play())


@pytest.mark.parametrize("scenario", params(lambda _: True, threads.lacking))
def test_on_threads(scenario: Json) -> None:
    stage = ThreadStage(scenario)
    check(stage.scenario, stage.play())


@pytest.mark.parametrize(("lacking", "share"), [(loops.lacking, 0.8), (threads.lacking, 0.7)])
def test_most_scenarios_are_played(lacking: Callable[[Json], str | None], share: float) -> None:
    named = [scenario for file, scenario in STORIES if file != RANDOM]
    assert sum(lacking(scenario) is None for scenario in named) >= share * len(named)
