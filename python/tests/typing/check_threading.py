"""What type checkers make of `everbeat.threading`. Checked, never run."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Literal, assert_type

import everbeat
from everbeat.threading import OneShot, PeriodicTask, Scope, Subscription, Timer, TimerGroup, after


def numbers() -> Iterator[int]:
    yield 1


def poll(url: str, *, limit: int) -> bytes:
    return url.encode()[:limit]


# The value of a run is what the target returns, or an item of what it iterates over.
assert_type(Timer(1, lambda: 42), Timer[int])
assert_type(Timer(1, numbers), Timer[int])
assert_type(Timer(1, iter("abc")), Timer[str])


def uses(timer: Timer[int]) -> None:
    assert_type(timer.trigger(timeout=1), int)
    assert_type(timer.join(timedelta(seconds=1)), int)
    assert_type(timer.last_result, int | None)
    assert_type(timer.hit_count, int)
    assert_type(timer.wait(hits=3), bool)
    assert_type(timer.shutdown(5), Literal["drained", "cancelled", "failed"])
    assert_type(timer.subscribe(10), Subscription[int])
    with timer.subscribe(overflow="drop_newest") as feed:
        for value in feed:
            assert_type(value, int)


def together(timer: Timer[int], group: TimerGroup) -> None:
    assert_type(group.add(timer), Timer[int])
    assert_type(group.trigger(timeout=1), list[tuple[Timer[Any], Any]])
    assert_type(group.shutdown(timedelta(seconds=1)), list[tuple[Timer[Any], Any]])
    assert_type(next(iter(group)), Timer[Any])
    for value in timer:
        assert_type(value, int)


def act() -> None:
    timer, tick = everbeat.current_timer(), everbeat.current_tick()
    assert_type(timer, everbeat.Timer[Any] | Timer[Any] | PeriodicTask | OneShot[Any] | None)
    assert_type(tick, everbeat.Tick | None)
    if isinstance(timer, Timer):
        timer.cancel()


def refused(timer: Timer[int]) -> None:
    """An error that is not there any more is an error itself: both checkers report needless ignores."""
    Timer("1", numbers)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType, reportCallIssue]
    Timer(1, numbers, mode="often")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
    timer.wait(1, 2)  # type: ignore[misc, call-arg, unused-ignore] # pyright: ignore[reportCallIssue]


# The parameters of what is called are checked, too.
assert_type(after(1, poll, "url", limit=3), OneShot[bytes])
assert_type(after(everbeat.ns(5), poll, "url", limit=3).wait(), bytes)
PeriodicTask(1, poll, "url", limit=3).start()
PeriodicTask(1, poll, "url")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]

with Scope() as scope:
    assert_type(scope.timer(1, numbers, mode="fixed_rate"), Timer[int])
