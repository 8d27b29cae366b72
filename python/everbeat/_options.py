"""What timers are made with, as types."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypedDict

from everbeat._everbeat import Timer
from everbeat._policies import Backoff, Burst

# Seconds, or a `timedelta`, or an `everbeat.ns`, which is an `int` to type checkers.
Duration: TypeAlias = float | timedelta
Mode: TypeAlias = Literal["fixed_delay", "fixed_rate"]
Callback: TypeAlias = Callable[[Timer[Any], Any], object]


class Options(TypedDict, total=False):
    """The keyword arguments of `Timer` that are nothing else."""

    mode: Mode | None
    initial_delay: Duration | None
    jitter: float | None
    name: str | None
    seed: int | None
    on_error: Literal["stop", "continue"] | Backoff | None
    missed: Literal["skip", "delay"] | Burst | None
    run_timeout: Duration | None
    run_for: Duration | None
    max_runs: int | None
    max_lateness: Duration | None
    keep_phase: bool
    offload: bool
    precision: Literal["coarse", "fine"] | None
    histograms: bool


class TimerOptions(Options, total=False):
    """The arguments of `Timer` beside the delay, the target and `start`."""

    exc_cb: Callback | None
    cancel_cb: Callback | None
    cancel_aws: Iterable[Awaitable[Any]] | None
