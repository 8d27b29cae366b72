"""Every scenario that this face can play, with async and with sync targets, on every loop."""

from typing import Any

import pytest

from tests.conformance.player import Stage, differences, is_instant, lacking, load

STORIES = load()


def params(*, sync: bool) -> list[Any]:
    chosen = [
        (file, scenario)
        for file, scenario in STORIES
        if not sync or (scenario["timer"].get("target", "call") == "call" and is_instant(scenario))
    ]
    return [
        pytest.param(scenario, id=f"{file}-{scenario['name']}", marks=marks(scenario))
        for file, scenario in chosen
    ]


def marks(scenario: Any) -> list[pytest.MarkDecorator]:
    reason = lacking(scenario)
    return [] if reason is None else [pytest.mark.skip(reason=reason)]


async def check(scenario: Any, *, sync: bool) -> None:
    found = differences(scenario, await Stage(scenario, sync=sync).play())
    assert not found, f"({' '.join(scenario['clauses'])}) {scenario['why']}\n  " + "\n  ".join(found)


@pytest.mark.parametrize("scenario", params(sync=False))
async def test_async_target(scenario: Any) -> None:
    await check(scenario, sync=False)


@pytest.mark.parametrize("scenario", params(sync=True))
async def test_sync_target(scenario: Any) -> None:
    await check(scenario, sync=True)


def test_most_scenarios_are_played() -> None:
    assert sum(lacking(scenario) is None for _, scenario in STORIES) >= 0.8 * len(STORIES)
