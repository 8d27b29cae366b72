"""What a run on threads is told: `current_tick` and `current_timer`."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import everbeat
from everbeat import Tick, TimerError, current_tick, current_timer, ns
from everbeat.testing import TestEngine
from everbeat.threading import Backoff, Engine, PeriodicTask, Scope, Timer, after
from tests.threading.support import LONG


def tick() -> Tick:
    told = current_tick()
    assert told is not None
    return told


def what_it_is_told(told: Tick) -> tuple[int, int, float, float, int, str]:
    return told.run, told.slot, told.scheduled, told.lateness, told.missed, told.cause


def nothing(*_: object) -> None: ...


class Noting:
    """A target that notes the timer that runs it, and what that tells the run."""

    def __init__(self) -> None:
        self.timers: list[Any] = []
        self.ticks: list[Tick] = []

    def __call__(self, *_: object) -> None:
        self.timers.append(current_timer())
        self.ticks.append(tick())


@pytest.fixture
def noting() -> Noting:
    return Noting()


def test_s12_a_run_is_told_its_number_its_slot_and_its_time(
    everbeat_engine: TestEngine, noting: Noting
) -> None:
    def slow() -> None:
        noting()
        everbeat_engine.spend(ns(25) if tick().run == 1 else 0)

    timer = Timer(ns(10), slow, mode="fixed_rate", start=True)
    everbeat_engine.advance(ns(40))
    with pytest.raises(TimeoutError):
        timer.trigger(timeout=0)
    everbeat_engine.settle()
    assert [what_it_is_told(told) for told in noting.ticks] == [
        (1, 0, 0.0, 0.0, 0, "schedule"),
        (2, 3, 3e-8, 0.0, 2, "schedule"),
        (3, 4, 4e-8, 0.0, 0, "schedule"),
        (4, 5, 4e-8, 0.0, 0, "trigger"),
    ]
    assert noting.timers == [timer] * 4


def test_s12_a_run_is_told_how_late_it_is_and_what_was_missed(
    everbeat_engine: TestEngine, noting: Noting
) -> None:
    Timer(2, noting, mode="fixed_rate", start=True)
    everbeat_engine.settle()
    everbeat_engine.spend(7)
    everbeat_engine.settle()
    assert [what_it_is_told(told) for told in noting.ticks] == [
        (1, 0, 0.0, 0.0, 0, "schedule"),
        (2, 1, 2.0, 5.0, 0, "schedule"),
    ]
    everbeat_engine.advance(1)
    assert what_it_is_told(noting.ticks[-1]) == (3, 4, 8.0, 0.0, 2, "schedule")


def test_s12_a_retry_says_so(everbeat_engine: TestEngine, noting: Noting) -> None:
    def fails() -> None:
        noting()
        raise ValueError

    Timer(10, fails, on_error=Backoff(1, 10), exc_cb=nothing, start=True)
    everbeat_engine.advance(1)
    assert [(told.slot, told.cause) for told in noting.ticks] == [(0, "schedule"), (0, "retry")]


@pytest.mark.parametrize(
    "make",
    [
        lambda target, _: Timer(10, target, start=True),
        lambda target, _: Timer(10, iter(target, 1), start=True),
        lambda target, _: Timer(10, target, inline=True, cancel_cb=nothing, run_timeout=5, start=True),
        lambda target, scope: scope.timer(10, target),
        lambda target, _: after(10, target, 1, 2),
        lambda target, scope: scope.after(10, target),
        lambda target, scope: scope.periodic(10, target),
    ],
)
def test_s12_every_kind_of_timer_is_known_to_its_run(
    everbeat_engine: TestEngine, noting: Noting, make: Callable[[Noting, Scope], object]
) -> None:
    with Scope() as scope:
        timer = make(noting, scope)
        everbeat_engine.advance(10)
        assert noting.timers and set(noting.timers) == {timer}
        assert noting.ticks[0].run == 1 and noting.ticks[-1].scheduled == 10
    assert current_timer() is None and current_tick() is None


def test_s12_nobody_is_told_outside_of_a_run(everbeat_engine: TestEngine) -> None:
    seen: list[object] = []

    def starts_a_thread() -> None:
        thread = threading.Thread(target=lambda: seen.extend((current_timer(), current_tick())))
        thread.start()
        thread.join()

    Timer(10, starts_a_thread, start=True)
    everbeat_engine.settle()
    assert seen == [None, None]
    assert current_timer() is None and current_tick() is None


def test_s12_callbacks_are_told_of_the_latest_run(everbeat_engine: TestEngine, noting: Noting) -> None:
    """R6"""

    def fails() -> None:
        raise ValueError

    timer = Timer(10, fails, noting, noting, on_error="continue", start=True)
    everbeat_engine.advance(10)
    timer.cancel()
    assert [told.run for told in noting.ticks] == [1, 2, 2]
    assert noting.timers == [timer] * 3


def test_s12_a_restarted_timer_has_no_tick_of_its_former_life(everbeat_engine: TestEngine) -> None:
    """L7"""
    seen: list[Tick | None] = []
    timer = Timer(10, dict, cancel_cb=lambda *_: seen.append(current_tick()), initial_delay=10)
    timer.start()
    everbeat_engine.advance(10)
    timer.cancel()
    timer.start()
    timer.cancel()
    assert [told and told.run for told in seen] == [1, None]


def test_s12_timers_that_run_inside_of_others_are_told_of_themselves(everbeat_engine: TestEngine) -> None:
    """Those of another engine that a run moves, one of which fails, and those of an event loop in it."""
    seen: list[object] = []
    within = TestEngine()

    def inner() -> None:
        seen.append(("inner", current_timer(), tick().run))
        raise ValueError

    async def in_a_loop() -> None:
        seen.append(("no timer of the loop", current_timer()))
        async with everbeat.Timer(1000, lambda: seen.append(("in the loop", current_timer()))) as timer:
            await timer.wait(hit_count=1)
            seen.append(timer)

    def outer() -> None:
        within.advance(10)
        asyncio.run(in_a_loop())
        seen.append(("outer", current_timer(), tick().run))

    inside = Timer(5, inner, on_error="continue", engine=within, start=True)
    outside = Timer(100, outer, start=True)
    everbeat_engine.settle()
    in_loop = seen.pop(-2)
    assert seen == [
        ("inner", inside, 1),
        ("inner", inside, 2),
        ("inner", inside, 3),
        ("no timer of the loop", outside),
        ("in the loop", in_loop),
        ("outer", outside, 1),
    ]


async def test_s12_timers_that_a_timer_of_a_loop_moves_are_told_of_themselves() -> None:
    seen: list[object] = []
    engine = TestEngine()
    inside = Timer(5, lambda: seen.append((current_timer(), tick().scheduled)), engine=engine, start=True)

    def moves() -> None:
        engine.advance(5)
        seen.append((current_timer(), tick().run))

    async with everbeat.Timer(1000, moves) as outside:
        await outside.wait(hit_count=1)
    assert seen == [(inside, 0.0), (inside, 5.0), (outside, 1)]


def test_s12_each_thread_is_told_of_its_own_run() -> None:
    """Workers of several engines, in runs that overlap."""
    engines = [Engine(name=f"e{n}", workers=3) for n in range(3)]
    together = threading.Barrier(9, timeout=LONG)
    faults: list[object] = []

    def target(number: int) -> None:
        run = tick().run
        for _ in range(3):
            together.wait()
            if current_timer() is not timers[number] or tick().run != run:
                faults.append((number, run, current_timer(), current_tick()))

    timers = [
        engines[n % 3].every(0, lambda n=n: target(n), max_runs=20, exc_cb=faults.append)  # type: ignore[misc]
        for n in range(9)
    ]
    for timer in timers:
        timer.start()
    assert all(timer.wait(timeout=LONG) for timer in timers)
    assert [timer.hit_count for timer in timers] == [20] * 9
    assert not faults


def test_s12_a_task_that_nobody_holds_may_stop_itself(everbeat_engine: TestEngine) -> None:
    runs = []

    def act() -> None:
        runs.append(1)
        task = current_timer()
        if len(runs) == 3 and isinstance(task, PeriodicTask):
            task.stop()

    PeriodicTask(5, act).start()
    everbeat_engine.advance(100)
    assert len(runs) == 3


@pytest.mark.parametrize("callbacks", [False, True])
def test_l8_a_timer_holds_its_object_until_it_ends(everbeat_engine: TestEngine, callbacks: bool) -> None:
    def timer() -> Timer[object]:
        return Timer(10, dict, cancel_cb=nothing if callbacks else None, start=True)

    def task() -> PeriodicTask:
        task = PeriodicTask(10, dict)
        task.start()
        task.start()
        task.stop()
        task.start()
        return task

    for make, end in (
        (timer, lambda timer: timer.cancel()),
        (timer, lambda timer: timer.shutdown(1)),
        (lambda: Timer(10, dict, max_runs=1, start=True), lambda _: everbeat_engine.settle()),
        (task, lambda task: task.stop()),
        (lambda: after(10, dict), lambda call: call.cancel()),
        (lambda: after(10, dict), lambda _: everbeat_engine.advance(10)),
    ):
        gone = weakref.ref(make())
        assert gone() is not None
        end(gone())
        gc.collect()
        assert gone() is None, make


def test_l8_a_start_that_fails_holds_nothing() -> None:
    engine = TestEngine()
    timer = engine.every(10, dict)
    running = engine.every(10, dict, start=True)
    with pytest.raises(TimerError):
        running.start()
    engine.close()
    with pytest.raises(TimerError):
        timer.start()
    with pytest.raises(TimerError):
        engine.after(10, dict)
    gone = [weakref.ref(timer), weakref.ref(running)]
    del timer, running
    gc.collect()
    assert [held() for held in gone] == [None, None]
