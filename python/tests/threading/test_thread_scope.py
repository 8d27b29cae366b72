"""Scopes and engines."""

import threading
import time

import pytest

from everbeat import ScheduleError, TimerError
from everbeat.threading import Engine, PeriodicTask, Scope, Timer, ticks
from tests.threading.support import LONG


def test_l10_closing_ends_everything():
    calls = []
    with Scope() as scope:
        call = scope.after(3600, calls.append, 1)
        task = scope.periodic(3600, calls.append, 2)
        timer = scope.timer(3600, calls.append, initial_delay=3600, name="third")
        own = Timer(3600, print, initial_delay=3600, scope=scope)
        assert scope.active() == [call, task, timer]
        own.start()
        assert scope.active() == [call, task, timer, own]
    assert scope.closed and scope.active() == []
    assert not (call.is_pending() or task.is_running() or timer.is_running() or own.is_running())
    assert calls == []
    for use in (own.start, task.start, lambda: scope.after(1, print), lambda: scope.periodic(1, print)):
        with pytest.raises(TimerError, match="closed"):
            use()


def test_l10_close_waits_and_reports():
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait(LONG)

    scope = Scope()
    task = scope.periodic(0, slow)
    assert begun.wait(LONG)
    report = scope.close(grace=0.01)
    assert report.left == [task.name]
    go_on.set()
    assert scope.close().left == []
    assert not task.is_running()


def test_l10_a_dropped_scope_ends_its_timers():
    scope = Scope()
    timer = scope.timer(3600, print, initial_delay=3600)
    del scope
    assert timer.wait(timeout=LONG)
    assert not timer.is_running()


def test_l10_what_has_ended_is_forgotten():
    scope = Scope()
    for _ in range(200):
        scope.after(0, lambda: None).wait(LONG)
    assert len(repr(scope)) < 40
    assert int(repr(scope).split()[2]) < 100


def test_e2_bad_input():
    with pytest.raises(ScheduleError):
        Scope().close(grace=-1)
    with pytest.raises(TypeError):
        Scope().timer(1, 5)
    for options in ({"precision": "finest"}, {"workers": -1}, {"workers": 10**9}):
        with pytest.raises(ScheduleError):
            Engine(**options)
    for options in ({"precision": 1}, {"workers": "x"}, {"workers": True}, {"name": 1}):
        with pytest.raises(TypeError):
            Engine(**options)


@pytest.mark.parametrize("precision", ["coarse", "fine", "spin"])
def test_o3_an_engine_of_your_own(precision):
    engine = Engine(name="own", precision=precision, workers=1)
    assert (engine.name, engine.precision) == ("own", precision)
    with engine.every(0.001, lambda: 1, mode="fixed_rate") as timer:
        assert timer.wait(hits=3, timeout=LONG)
        assert engine.stats().timers == 1
    assert engine.after(0, lambda: 2).wait(LONG) == 2
    while engine.stats().timers:
        time.sleep(0.001)
    stats = engine.stats()
    assert stats.turns >= 4 and stats.lateness.count >= 3
    assert engine.close() == 0
    with pytest.raises(TimerError, match="closed"):
        engine.after(0, print)
    with pytest.raises(TimerError, match="closed"):
        ticks(1, engine=engine)


def test_l2_close_waits_for_runs_in_flight():
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait(LONG)

    engine = Engine()
    timer = engine.every(0, slow, start=True)
    assert begun.wait(LONG)
    assert engine.close(timeout=0.01) == 1
    go_on.set()
    assert engine.close() == 0
    assert not timer.is_running()


@pytest.mark.parametrize("error", [None, KeyError("of the block")])
def test_l10_an_engine_of_a_block_ends_with_it(error):
    def block():
        with Engine() as engine:
            timers.append(engine.every(0.001, int, start=True))
            assert timers[0].wait(hits=1, timeout=LONG)
            if error is not None:
                raise error
        return engine

    timers = []
    if error is None:
        with pytest.raises(TimerError, match="closed"):
            block().after(0, print)
    else:
        with pytest.raises(KeyError, match="of the block"):
            block()
    assert not timers[0].is_running()


def test_l2_an_engine_closed_by_its_own_timer_does_not_wait():
    engine = Engine()
    assert engine.after(0, engine.close).wait(LONG) == 1
    assert engine.close() == 0


def test_r1_a_slow_run_does_not_hold_the_others_up():
    go_on = threading.Event()
    slow = [PeriodicTask(0, go_on.wait, LONG) for _ in range(8)]
    for task in slow:
        task.start()
    with Timer(0.001, lambda: None) as timer:
        assert timer.wait(hits=5, timeout=LONG)
    go_on.set()
    for task in slow:
        task.stop()
