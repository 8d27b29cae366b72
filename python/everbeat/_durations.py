"""Durations in whole nanoseconds."""


class ns(int):
    """A whole number of nanoseconds, wherever a duration is wanted: `Timer(ns(1_500), sample)`.

    A plain number is seconds; a `timedelta` is exact to a microsecond.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"ns({int(self)})"
