"""What becomes of failures and of missed slots, beyond the policies that are a word."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """`on_error=Backoff(1, 60)`: retry after `first`, then `factor` times that, at most after `max`."""

    first: float | timedelta
    max: float | timedelta
    factor: float = 2.0


@dataclass(frozen=True, slots=True)
class Burst:
    """`missed=Burst(3)`: run at most `max` of the slots that passed, back to back, and drop the older ones."""

    max: int
