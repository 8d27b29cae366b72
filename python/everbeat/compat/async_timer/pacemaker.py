"""The schedule of a timer, as an object of its own."""

from typing import TYPE_CHECKING, Any, TypeAlias

from everbeat._options import Duration, Mode

if TYPE_CHECKING:
    from everbeat.compat.async_timer.timer import Timer

__all__ = ["PacemakerMode", "TimerPacemaker"]

PacemakerMode: TypeAlias = Mode


class TimerPacemaker:
    """What the schedule of a timer is. Its `delay` can be set."""

    def __init__(
        self, timer: "Timer[Any]", mode: PacemakerMode, initial_delay: Duration, jitter: float
    ) -> None:
        self._timer = timer
        self.mode = mode
        self.initial_delay = initial_delay
        self.jitter = jitter

    @property
    def delay(self) -> float:
        return self._timer.delay

    @delay.setter
    def delay(self, new_delay: Duration) -> None:
        self._timer.set_delay(new_delay)
