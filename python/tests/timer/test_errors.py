"""E and O: what is refused, what errors are, and what things are called."""

import logging
import math
from dataclasses import FrozenInstanceError
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import everbeat
from everbeat import (
    Backoff,
    Burst,
    ScheduleError,
    ThreadsafeDispatchError,
    Timer,
    TimerAlreadyRunningError,
    TimerError,
    TimerNotRunningError,
    TimerRestartError,
    TimerStoppedError,
    ns,
)


def target() -> None:
    pass


def test_e1_one_family() -> None:
    kinds = [
        ScheduleError,
        ThreadsafeDispatchError,
        TimerAlreadyRunningError,
        TimerNotRunningError,
        TimerRestartError,
        TimerStoppedError,
    ]
    assert all(issubclass(kind, TimerError) for kind in kinds)
    assert issubclass(TimerError, RuntimeError)
    assert issubclass(ScheduleError, ValueError)
    assert issubclass(TimerStoppedError, TimerNotRunningError)
    assert {kind.__name__ for kind in kinds} <= set(everbeat.__all__)


DURATIONS = ["delay", "initial_delay", "run_timeout", "run_for", "max_lateness"]


@pytest.mark.parametrize("field", DURATIONS)
@pytest.mark.parametrize(
    "value", [-1, -0.001, math.nan, math.inf, -math.inf, ns(-1), timedelta(seconds=-1), -(10**400)], ids=repr
)
def test_e2_bad_durations_are_refused_by_field_value_and_range(field: str, value: Any) -> None:
    arguments: dict[str, Any] = {"delay": 1, "target": target, field: value}
    with pytest.raises(ScheduleError) as refused:
        Timer(**arguments)
    allowed = "longer than zero" if field == "run_timeout" else "at least zero"
    assert all(part in str(refused.value) for part in (field, repr(value), allowed))


@pytest.mark.parametrize("field", DURATIONS)
@pytest.mark.parametrize("value", ["1", b"1", [], True, 1j, object()], ids=repr)
def test_e2_what_is_no_duration_is_a_type_error(field: str, value: Any) -> None:
    arguments: dict[str, Any] = {"delay": 1, "target": target, field: value}
    with pytest.raises(TypeError, match=field):
        Timer(**arguments)


@pytest.mark.parametrize(
    "value",
    [
        0,
        0.0,
        1,
        0.5,
        Fraction(1, 2),
        Decimal("0.5"),
        ns(0),
        ns(5),
        timedelta(0),
        timedelta.max,
        ns(2**64),
        10**400,
    ],
)
def test_e2_all_kinds_of_durations_are_taken(value: Any) -> None:
    assert Timer(value, target).delay >= 0


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"jitter": 1.01}, ScheduleError, "jitter.*from 0 to 1.*1.01"),
        ({"jitter": -0.01}, ScheduleError, "jitter"),
        ({"jitter": math.nan}, ScheduleError, "jitter.*nan"),
        ({"jitter": "0.1"}, TypeError, "jitter"),
        ({"jitter": True}, TypeError, "jitter.*from 0 to 1, not bool"),
        ({"jitter": 10**400}, ScheduleError, "jitter.*from 0 to 1, got 10"),
        ({"mode": "fixed"}, ScheduleError, "mode.*fixed_delay.*fixed_rate.*'fixed'"),
        ({"mode": 1}, TypeError, "mode.*fixed_delay.*fixed_rate.*, not int"),
        ({"missed": "burst"}, ScheduleError, "missed.*skip.*delay.*a Burst, got 'burst'"),
        ({"missed": 3}, TypeError, "missed.*skip.*delay.*a Burst, not int"),
        ({"missed": Burst(-1)}, ScheduleError, "burst.max"),
        ({"missed": Burst(1.5)}, TypeError, "burst.max"),  # type: ignore[arg-type]
        ({"on_error": "ignore"}, ScheduleError, "on_error.*stop.*continue.*a Backoff, got 'ignore'"),
        ({"on_error": 3}, TypeError, "on_error.*stop.*continue.*a Backoff, not int"),
        ({"on_error": Backoff(-1, 1)}, ScheduleError, "backoff.first.*longer than zero"),
        ({"on_error": Backoff(1, math.inf)}, ScheduleError, "backoff.max"),
        ({"on_error": Backoff(2, 1)}, ScheduleError, "backoff.max"),
        ({"on_error": Backoff(1, 2, 0.5)}, ScheduleError, "backoff.factor"),
        ({"on_error": Backoff(1, 2, "2")}, TypeError, "backoff.factor"),  # type: ignore[arg-type]
        ({"on_error": Backoff(1, 2, True)}, TypeError, "backoff.factor.*, not bool"),
        ({"on_error": Backoff(1, 2, 10**400)}, ScheduleError, "backoff.factor.*from 1 to 1e6, got 10"),
        ({"max_runs": 0}, ScheduleError, "max_runs"),
        ({"max_runs": 1.5}, TypeError, "max_runs"),
        ({"max_runs": True}, TypeError, "max_runs"),
        ({"run_timeout": 0}, ScheduleError, "run_timeout.*longer than zero"),
        ({"seed": -1}, ScheduleError, "seed"),
        ({"seed": 0.5}, TypeError, "seed"),
        ({"precision": "spin"}, ScheduleError, "precision"),
        ({"target": None}, TypeError, "target"),
        ({"target": 3}, TypeError, "target"),
        ({"target": [1, 2]}, TypeError, "target.*list"),
        ({"exc_cb": 3}, TypeError, "exc_cb"),
        ({"cancel_cb": "x"}, TypeError, "cancel_cb"),
        ({"cancel_aws": 3}, TypeError, "cancel_aws"),
        ({"cancel_aws": [3]}, TypeError, "cancel_aws"),
        ({"name": 3}, TypeError, "name must be a string, not int"),
        ({"start": 1}, TypeError, "start must be True or False, not int"),
        ({"keep_phase": 1}, TypeError, "keep_phase must be True or False, not int"),
        ({"offload": "no"}, TypeError, "offload must be True or False, not str"),
        ({"histograms": 1}, TypeError, "histograms must be True or False, not int"),
        ({"max_runs": 2**70}, ScheduleError, f"max_runs must be a whole number of at most {2**64 - 1}, got"),
        ({"seed": 2**64}, ScheduleError, f"seed must be a whole number of at most {2**64 - 1}, got {2**64}"),
        ({"missed": Burst(2**70)}, ScheduleError, "burst.max must be a whole number of at most"),
        ({"unknown": 3}, TypeError, "unknown"),
    ],
)
def test_e2_bad_configuration_is_refused(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        Timer(**({"delay": 1, "target": target} | arguments))


@pytest.mark.parametrize("arguments", [{"hit_count": "1"}, {"hits": 1.5}, {"timeout": "1"}])
def test_e2_bad_waits_are_type_errors(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Timer(1, target).wait(**arguments)


def test_e2_a_wait_counts_in_one_way() -> None:
    with pytest.raises(ScheduleError, match="hit_count or hits, not both"):
        Timer(1, target).wait(hit_count=1, hits=1)


def test_e2_bad_periods_are_refused_later_too() -> None:
    timer = Timer(1, target)
    for value in (-1, math.nan):
        with pytest.raises(ScheduleError, match="delay"):
            timer.set_delay(value)
    with pytest.raises(ScheduleError, match="grace"):
        timer.shutdown(-1)
    assert timer.delay == 1


def test_e1_a_subclass_has_to_call_init_once() -> None:
    class Bad(Timer[Any]):
        def __init__(self) -> None:
            pass

    with pytest.raises(RuntimeError, match="__init__"):
        Bad().start()
    timer = Timer(1, target)
    with pytest.raises(TypeError, match="before"):
        timer.__init__(1, target)  # type: ignore[misc]


def test_o1_repr() -> None:
    timer = Timer(1.5, target, name="db_refresh")
    assert repr(timer).startswith("<Timer name='db_refresh' target=<function target")
    assert "delay=1.5 hit_count=0 running=false" in repr(timer).lower()


def test_o1_repr_of_a_subclass_and_of_a_target_that_cannot_be_printed() -> None:
    class Mine(Timer[Any]):
        pass

    class Broken:
        def __call__(self) -> None:
            pass

        def __repr__(self) -> str:
            raise ValueError

    assert repr(Mine(1, Broken())).startswith("<Mine target=? ")


def test_o1_repr_of_a_timer_whose_target_is_its_own_method() -> None:
    class Mine(Timer[None]):
        def __init__(self, name: str) -> None:
            super().__init__(1, self.work, name=name)

        def work(self) -> None:
            pass

    for name in "first", "second":
        mine = Mine(name)
        assert repr(mine).count(f"<Mine name={name!r} target=<bound method ") == 1
        assert repr(mine).count(f"<Mine name={name!r} target=... delay=1 ") == 1


def test_o1_attributes() -> None:
    timer = Timer(timedelta(minutes=1), target, name="named")
    assert (timer.name, timer.delay) == ("named", 60.0)
    assert Timer(1, target).name is None
    assert (timer.is_running(), timer.is_paused()) == (False, False)
    with pytest.raises(AttributeError):
        timer.hit_count = 3  # type: ignore[misc]


@pytest.mark.parametrize("name", ["", "with blanks", "ünï ☃", "a.b.c", "x" * 1_000, "{}%s"])
async def test_o2_any_name_will_do(name: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError

    timer = Timer(1, fail, name=name)
    timer.start()
    with pytest.raises(ValueError):
        await timer.wait()
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.name == f"everbeat.timer.{name}"
    assert name in repr(timer) or not name.isascii()


def test_e2_policies_are_values() -> None:
    assert {Backoff(1, 60), Backoff(1, 60, 2), Backoff(1, 60, factor=3)} == {
        Backoff(1, 60),
        Backoff(1, 60, 3),
    }
    assert {Burst(3), Burst(3), Burst(4)} == {Burst(3), Burst(4)}
    assert repr((Backoff(1, 60), Burst(3))) == "(Backoff(first=1, max=60, factor=2.0), Burst(max=3))"
    for policy in (Backoff(1, 60), Burst(3)):
        with pytest.raises(FrozenInstanceError):
            policy.max = 5  # type: ignore[misc]


def test_durations_in_nanoseconds() -> None:
    assert ns(5) + ns(3) == 8
    assert repr(ns(5)) == "ns(5)"
    assert Timer(ns(1_500_000_000), target).delay == 1.5
