"""What a timer calls."""

from typing import Any

__all__ = ["Caller"]


class Caller:
    """The target of a timer. The timer calls it by itself."""

    def __init__(self, target: Any) -> None:
        self.target = target
