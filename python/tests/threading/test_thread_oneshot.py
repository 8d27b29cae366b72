"""One-shot timers: `after`."""

import gc
import threading
import weakref

import pytest

from everbeat import ScheduleError, TimerStoppedError
from everbeat.threading import Engine, OneShot, after
from tests.threading.support import LONG


def test_l12_calls_once_with_its_arguments():
    call = after(0.01, lambda *args, **kwargs: (args, kwargs), 1, 2, delay=3, fn=4, name=5)
    assert call.wait(LONG) == ((1, 2), {"delay": 3, "fn": 4, "name": 5})
    assert call.wait() == ((1, 2), {"delay": 3, "fn": 4, "name": 5})
    assert not call.is_pending()


def test_l12_cancel_in_time_wins_once():
    called = []
    call = after(3600, called.append, 1)
    assert call.is_pending()
    assert call.cancel()
    assert not call.cancel()
    assert not call.is_pending()
    with pytest.raises(TimerStoppedError):
        call.wait(LONG)
    assert called == []


def test_l12_cancel_after_the_call_has_lost():
    call = after(0, lambda: 1)
    assert call.wait(LONG) == 1
    assert not call.cancel()


def test_l12_cancel_and_the_call_never_both_win():
    """Cancelled as they fire, from several threads: each is called or called off, exactly once."""
    for _ in range(150):
        called, won = [], []
        call = after(0.0005, called.append, 1)
        threads = [
            threading.Thread(target=lambda call=call, won=won: won.append(call.cancel())) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if any(won):
            assert won.count(True) == 1
            with pytest.raises(TimerStoppedError):
                call.wait(LONG)
            assert called == []
        else:
            call.wait(LONG)
            assert called == [1]


def test_l12_fire_now():
    call = after(3600, lambda: "early")
    assert call.fire_now(LONG) == "early"
    assert call.fire_now(LONG) == "early"
    assert not call.cancel()


def test_d9_a_failure_is_raised_to_whoever_waits(caplog):
    def fail():
        raise LookupError("gone")

    call = after(0, fail)
    for _ in range(2):
        with pytest.raises(LookupError, match="gone") as caught:
            call.wait(LONG)
    assert caught.traceback[-1].name == "fail"
    (record,) = [record for record in caplog.records if record.name.startswith("everbeat.timer.")]
    assert record.exc_info[1] is caught.value


def test_d3_a_wait_has_a_timeout():
    call = after(3600, print)
    with pytest.raises(TimeoutError):
        call.wait(timeout=0.01)
    assert call.cancel()


def test_l8_needs_no_handle():
    called = threading.Event()
    after(0.01, called.set)
    gc.collect()
    assert called.wait(LONG)


def test_l8_lets_go_of_what_it_called():
    class Thing:
        def act(self):
            return None

    thing = Thing()
    gone = weakref.ref(thing)
    call = after(0, thing.act)
    call.wait(LONG)
    called_off = after(3600, thing.act)
    called_off.cancel()
    del thing
    gc.collect()
    assert gone() is None


def test_l5_a_call_may_cancel_itself():
    handle = []
    ready = threading.Event()

    def act():
        ready.wait(LONG)
        return handle[0].cancel()

    handle.append(after(0, act))
    ready.set()
    assert handle[0].wait(LONG) is False


def test_e2_bad_input():
    with pytest.raises(ScheduleError, match=r"delay must be .* got -1"):
        after(-1, print)
    with pytest.raises(ValueError):
        after(float("nan"), print)
    with pytest.raises(TypeError):
        after("1", print)
    with pytest.raises(TypeError, match=r"^fn must be callable, not "):
        after(1, 5)


def test_o1_has_a_name_and_a_repr():
    def remind():
        pass

    call = Engine().after(3600, remind)
    assert isinstance(call, OneShot)
    assert call.name.endswith("remind")
    assert "remind pending" in repr(call)
    call.cancel()
    assert "over" in repr(call)
