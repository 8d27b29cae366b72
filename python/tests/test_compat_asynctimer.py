"""`everbeat.compat.asynctimer`: what its users were told keeps working."""

import asyncio
import logging
from typing import Any

import pytest

from everbeat import ScheduleError, TimerAlreadyRunningError
from everbeat.compat.asynctimer import SchedulePolicy, Timer
from tests.loops import in_virtual_time, on_every_loop

SECOND = 1_000_000_000


def now() -> float:
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_a_callback_is_called_until_it_is_stopped() -> None:
    """S3"""
    ticks: list[float] = []
    timer = Timer(2000_000_000, lambda: ticks.append(now()))
    timer.start()
    await asyncio.sleep(10.5)
    timer.stop()
    await asyncio.sleep(10)
    assert ticks == [2, 4, 6, 8, 10]


@in_virtual_time
async def test_callbacks_may_be_coroutines_and_never_overlap() -> None:
    """R1"""
    running = 0
    ticks: list[float] = []

    async def callback() -> None:
        nonlocal running
        running += 1
        assert running == 1
        ticks.append(now())
        await asyncio.sleep(2.5)
        running -= 1

    timer = Timer(SECOND, callback)
    timer.start()
    await asyncio.sleep(9.7)
    timer.stop()
    assert ticks == [1, 4, 7]  # what was missed is not made up for, and the grid stays where it is


@in_virtual_time
async def test_fixed_delay_counts_from_the_end_of_the_callback() -> None:
    """S2"""
    ticks: list[float] = []

    async def callback() -> None:
        ticks.append(now())
        await asyncio.sleep(0.5)

    timer = Timer(2 * SECOND, callback, schedule_policy="FIXED_DELAY")
    timer.start()
    await asyncio.sleep(8)
    timer.stop()
    assert ticks == [2, 4.5, 7]


@in_virtual_time
async def test_after_a_stop_nothing_starts_and_what_runs_may_finish() -> None:
    """L4, L5"""
    events: list[str] = []

    async def callback() -> None:
        events.append("start")
        timer.stop()
        await asyncio.sleep(5)
        events.append("end")

    timer = Timer(SECOND, callback)
    timer.start()
    await asyncio.sleep(100)
    assert events == ["start", "end"]


@in_virtual_time
async def test_a_stop_at_the_very_moment_wins() -> None:
    """L4"""
    ticks: list[float] = []
    timer = Timer(SECOND, lambda: ticks.append(now()))
    asyncio.get_running_loop().call_at(3, timer.stop)
    timer.start()
    await asyncio.sleep(10)
    assert ticks == [1, 2]


@on_every_loop
async def test_start_and_stop_in_any_order() -> None:
    """L1, L7"""
    timer = Timer(SECOND, lambda: None)
    timer.stop()
    timer.start()
    with pytest.raises(TimerAlreadyRunningError):
        timer.start()
    timer.stop()
    timer.stop()
    timer.start()
    timer.stop()


@in_virtual_time
async def test_a_callback_that_fails_is_logged_and_called_again(caplog: pytest.LogCaptureFixture) -> None:
    """R3"""
    timer = Timer(SECOND, lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    with caplog.at_level(logging.ERROR):
        timer.start()
        await asyncio.sleep(3.5)
        timer.stop()
    assert len(caplog.records) == 3


@pytest.mark.parametrize(
    "arguments", [(-1,), (float("nan"),), (float("inf"),), (1, len, "FIXED")], ids=lambda given: repr(given)
)
def test_bad_input_is_refused(arguments: tuple[Any, ...]) -> None:
    """E2"""
    with pytest.raises(ScheduleError):
        Timer(*arguments, *(len,)[len(arguments) - 1 :])
    with pytest.raises(TypeError):
        Timer(1, 5)  # type: ignore[arg-type]


def test_e2_a_refusal_says_the_field_the_value_and_what_is_allowed() -> None:
    with pytest.raises(ScheduleError) as refused:
        Timer(1, len, "FIXED")  # type: ignore[arg-type]
    expected = "schedule_policy must be one of 'FIXED_SCHEDULE', 'FIXED_DELAY', got 'FIXED'"
    assert str(refused.value) == expected
    with pytest.raises(ScheduleError) as refused:
        Timer(float("inf"), len)  # type: ignore[arg-type]
    assert str(refused.value) == "timeout must be a finite number of nanoseconds of at least zero, got inf"


@pytest.mark.parametrize("policy", [SchedulePolicy.FIXED_SCHEDULE, "FIXED_SCHEDULE"], ids=repr)
@in_virtual_time
async def test_policies_and_fractions(policy: str) -> None:
    """S3"""
    ticks: list[float] = []
    timer = Timer(1.5e9, lambda: ticks.append(now()), policy)
    timer.start()
    await asyncio.sleep(4)
    timer.stop()
    assert ticks == [1.5, 3]


@in_virtual_time
async def test_the_interval_has_two_names() -> None:
    ticks: list[float] = []
    for name in ("timeout", "timeout_ns"):
        arguments: dict[str, Any] = {name: SECOND, "callback": lambda: ticks.append(now())}
        timer = Timer(**arguments)
        timer.start()
        await asyncio.sleep(1.5)
        timer.stop()
    assert ticks == [1, 2.5]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (
            {"timeout": -1},
            ScheduleError,
            "timeout must be a finite number of nanoseconds of at least zero, got -1",
        ),
        ({"timeout_ns": -1.5}, ScheduleError, "timeout_ns must be a finite number .* got -1.5"),
        ({"timeout": "5"}, TypeError, "timeout must be a number of nanoseconds, not str"),
        ({"timeout_ns": True}, TypeError, "timeout_ns must be a number of nanoseconds, not bool"),
        ({}, TypeError, "one of timeout and timeout_ns"),
        ({"timeout": 1, "timeout_ns": 1}, TypeError, "one of timeout and timeout_ns"),
        ({"timeout": 1, "callback": None}, TypeError, "callback must be callable, not NoneType"),
    ],
)
def test_e2_a_refusal_names_the_field_as_it_was_given(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        Timer(**({"callback": len} | arguments))
