"""What keeps what alive."""

import gc
import threading
import time
import weakref

import pytest

from everbeat.threading import Engine, PeriodicTask, Scope, Timer, after, ticks
from tests.threading.support import LONG


def collected(gone):
    for _ in range(500):
        gc.collect()
        if gone() is None:
            return True
        time.sleep(0.01)
    return False


class Owner:
    """Holds a timer that calls it: a cycle."""

    def __init__(self, make):
        self.value = None
        self.timer = make(self)

    def act(self, *args):
        self.value = self
        return self


@pytest.mark.parametrize(
    "make",
    [
        lambda owner: Timer(3600, owner.act),
        lambda owner: Timer(3600, owner.act, owner.act, owner.act),
        lambda owner: PeriodicTask(3600, owner.act, owner, owner=owner),
        lambda owner: Timer(3600, iter(owner.act, None)),
        lambda owner: Timer(3600, print, scope=Scope()),
    ],
)
def test_l8_a_timer_that_was_never_started_is_forgotten(make):
    gone = weakref.ref(Owner(make))
    assert collected(gone)


@pytest.mark.parametrize("callbacks", [False, True])
def test_l8_a_timer_that_has_ended_is_forgotten(callbacks):
    owner = Owner(lambda owner: Timer(0, owner.act, *[owner.act] * 2 * callbacks))
    owner.timer.start()
    owner.timer.wait(hits=2, timeout=LONG)
    gone = weakref.ref(owner)
    owner.timer.cancel()
    del owner
    assert collected(gone)


def test_l8_a_generator_is_forgotten():
    owner = Owner(lambda owner: None)

    def values():
        held = owner  # noqa: F821
        while True:
            yield held

    owner.timer = Timer(0.001, values, start=True)
    owner.timer.wait(hits=2, timeout=LONG)
    owner.timer.cancel()
    gone = weakref.ref(owner)
    del owner, values
    assert collected(gone)


@pytest.mark.parametrize("callbacks", [False, True])
def test_l8_a_timer_that_runs_lives_on(callbacks):
    ticked = threading.Event()
    owner = Owner(lambda owner: Timer(0.002, owner.act, *[owner.act] * 2 * callbacks))
    owner.act = lambda *_: ticked.set()
    owner.timer = Timer(0.002, lambda: ticked.set(), cancel_cb=owner.act if callbacks else None)
    owner.timer.start()
    gone = weakref.ref(owner.timer)
    del owner
    gc.collect()
    for _ in range(3):
        ticked.clear()
        assert ticked.wait(LONG)
    if callbacks:
        gone().cancel()
        assert collected(gone)


def test_l8_a_call_that_is_pending_keeps_what_it_calls():
    called = []
    owner = Owner(lambda owner: after(0.1, lambda: called.append(owner)))
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is not None
    assert collected(lambda: None if called else 1)
    called.clear()
    assert collected(gone)


def test_l8_a_closed_engine_lets_go():
    engine = Engine()
    owner = Owner(lambda owner: engine.after(3600, owner.act))
    owner.more = engine.every(3600, owner.act, start=True)
    owner.more.wait(hit_count=1, timeout=LONG)
    assert engine.close() == 0
    gone = weakref.ref(owner)
    del owner
    assert collected(gone)


def test_l10_a_forgotten_session_takes_its_timers_along():
    """Though its timers call its methods."""
    calls = []

    class Session:
        def __init__(self):
            self.timers = Scope()
            self.task = self.timers.periodic(0.001, self.poll)
            self.timer = self.timers.timer(0.001, self.poll, exc_cb=self.fail)
            self.call = self.timers.after(3600, self.poll)

        def poll(self):
            calls.append(1)

        def fail(self, *_):
            pass

    session = Session()
    session.timer.wait(hits=2, timeout=LONG)
    gone, timer = weakref.ref(session), weakref.ref(session.timer)
    gc.collect()
    assert gone() is session, "it is held"
    session.timer.wait(hits=2, timeout=LONG)
    del session
    assert collected(gone) and collected(timer)
    time.sleep(0.02)
    count = len(calls)
    time.sleep(0.02)
    assert len(calls) == count


def test_l10_a_session_that_has_forgotten_some_timers_is_forgotten():
    class Session:
        def __init__(self):
            self.timers = Scope()
            for _ in range(40):
                self.timers.timer(3600, self.poll, exc_cb=self.poll, cancel_cb=self.poll).cancel()
                self.timers.periodic(3600, self.poll).stop()
                self.timers.after(3600, self.poll).cancel()

        def poll(self, *_):
            pass

    gone = weakref.ref(Session())
    assert collected(gone)


def test_l8_nothing_is_left_of_many():
    gc.collect()
    engine = Engine()
    before = len(gc.get_objects())
    for _ in range(300):
        timer = engine.every(3600, list, initial_delay=3600)
        timer.start()
        timer.subscribe()
        timer.cancel()
        engine.after(0, lambda: None).wait(LONG)
        ticks(3600, engine=engine).get(LONG)
    del timer
    gc.collect()
    assert len(gc.get_objects()) - before < 100
    # A call is answered a moment before its timer has left.
    deadline = time.monotonic() + LONG
    while engine.stats().timers and time.monotonic() < deadline:
        time.sleep(0.001)
    assert engine.stats().timers == 0


def test_l8_a_timer_that_its_scope_has_forgotten_lives_when_it_is_started() -> None:
    """Scopes forget what does not run, and own it no longer."""
    with Scope() as scope:
        never = Timer(0.001, lambda: None, scope=scope)
        before = scope.timer(0.001, lambda: None)
        before.cancel(timeout=LONG)
        task = scope.periodic(0.001, lambda: None)
        task.stop(timeout=LONG)
        for _ in range(100):
            scope.timer(LONG, lambda: None).cancel(timeout=LONG)
        seen = []
        for timer in (never, before, task):
            timer.start()
            seen.append(timer.stats)
        feeds = [never.subscribe(), before.subscribe()]
        del never, before, task, timer, seen
        gc.collect()
        for feed in feeds:
            while len(feed):
                feed.get(timeout=LONG)
            feed.get(timeout=LONG)
