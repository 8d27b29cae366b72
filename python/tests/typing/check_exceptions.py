"""What type checkers make of the exceptions and of `ns`. Checked, never run."""

from typing import assert_type

import everbeat
from everbeat.exceptions import ScheduleError, TimerError, TimerNotRunningError, TimerStoppedError

assert_type(everbeat.ns(5), everbeat.ns)
assert_type(everbeat.ns(5) + everbeat.ns(5), int)


def is_caught_as_a_value_error() -> ValueError:
    return ScheduleError()


def is_caught_as_one_family() -> list[TimerError]:
    return [ScheduleError(), TimerNotRunningError(), TimerStoppedError()]
