"""`PeriodicTask`."""

import gc
import logging
import threading
import time
import weakref

import pytest

from everbeat import ScheduleError
from everbeat.threading import PeriodicTask
from tests.threading.support import LONG


class Counter:
    """Counts calls, and lets others wait for a count."""

    def __init__(self):
        self.count = 0
        self.changed = threading.Condition()

    def __call__(self, *args, **kwargs):
        with self.changed:
            self.count += 1
            self.changed.notify_all()

    def wait_for(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: self.count >= count, LONG)


def test_r1_calls_again_and_again_with_its_arguments():
    seen, enough = [], threading.Event()

    def note(*args, **kwargs):
        seen.append((args, kwargs))
        if len(seen) >= 3:
            enough.set()

    task = PeriodicTask(0.005, note, 1, key=2)
    task.start()
    assert enough.wait(LONG)
    task.stop()
    assert set(map(repr, seen)) == {"((1,), {'key': 2})"}


def test_s1_the_first_call_comes_one_interval_after_the_start():
    called = []
    task = PeriodicTask(3600, called.append, 1)
    task.start()
    assert task.stats().next_due_at == pytest.approx(time.monotonic() + 3600, abs=60)
    task.stop()
    assert called == []


def test_l1_start_is_idempotent():
    counter = Counter()
    task = PeriodicTask(3600, counter)
    task.start()
    due = task.stats().next_due_at
    task.start()
    assert task.stats().next_due_at == due
    task.stop()


def test_l4_nothing_runs_once_stop_has_returned():
    """Stopped from many threads while it fires as often as it can."""
    for _ in range(40):
        counter = Counter()
        task = PeriodicTask(0, counter)
        task.start()
        counter.wait_for(1)
        after_stop = []

        def stop(task=task, after_stop=after_stop, counter=counter):
            task.stop()
            after_stop.append(counter.count)

        threads = [threading.Thread(target=stop) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not task.is_running()
        time.sleep(0.002)
        assert after_stop == [counter.count] * 4


def test_l4_stop_waits_for_the_call_in_flight():
    begun, go_on, ended = threading.Event(), threading.Event(), []

    def slow():
        begun.set()
        go_on.wait(LONG)
        ended.append(1)

    task = PeriodicTask(0, slow)
    task.start()
    assert begun.wait(LONG)
    with pytest.raises(TimeoutError):
        task.stop(timeout=0.01)
    assert ended == []
    go_on.set()
    task.stop()
    assert ended == [1]


def test_l5_stops_itself_without_a_deadlock():
    counter, stopped = Counter(), threading.Event()

    def act():
        counter()
        task.stop()
        stopped.set()

    task = PeriodicTask(0, act)
    task.start()
    assert stopped.wait(LONG)
    task.stop()
    assert counter.count == 1 and not task.is_running()


def test_l7_starts_again():
    counter = Counter()
    task = PeriodicTask(0.001, counter)
    for _ in range(1, 4):
        before = counter.count
        task.start()
        counter.wait_for(before + 2)
        task.stop()
    assert task.stats().runs == counter.count


def test_l4_starts_and_stops_from_many_threads_leave_no_stray():
    counter = Counter()
    task = PeriodicTask(0.0002, counter)

    def toggle():
        for _ in range(50):
            task.start()
            task.stop()

    threads = [threading.Thread(target=toggle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not task.is_running()
    count = counter.count
    time.sleep(0.01)
    assert counter.count == count


def test_r3_goes_on_after_a_failure_and_logs_it(caplog):
    counter = Counter()

    def fail():
        counter()
        raise ValueError(f"call {counter.count}")

    task = PeriodicTask(0.001, fail)
    with caplog.at_level(logging.ERROR, logger="everbeat"):
        task.start()
        counter.wait_for(3)
        task.stop()
    assert task.stats().failures == counter.count
    record = caplog.records[0]
    assert record.name == f"everbeat.timer.{task.name}"
    assert "call 1" in str(record.exc_info[1])
    assert record.exc_info[2] is not None, "with its traceback"


def test_s7_the_interval_can_be_changed():
    counter = Counter()
    task = PeriodicTask(0.01, counter)
    with task:
        counter.wait_for(1)
        task.set_interval(3600)
        assert task.interval == 3600.0
        while (task.stats().next_due_at or 0) < time.monotonic() + 60:
            time.sleep(0.001)
        count = counter.count
        task.set_interval(0.001, rearm=True)
        counter.wait_for(count + 3)
        assert task.interval == 0.001
    assert not task.is_running()


def test_l8_runs_on_without_a_handle_and_is_forgotten_after():
    counter = Counter()

    class Owner:
        def __init__(self):
            self.task = PeriodicTask(0.001, self.poll)
            self.task.start()

        def poll(self):
            counter()
            if counter.count >= 5:
                self.task.stop()

    gone = weakref.ref(Owner())
    gc.collect()
    counter.wait_for(5)
    for _ in range(1000):
        gc.collect()
        if gone() is None:
            break
        time.sleep(0.01)
    assert gone() is None


def test_l8_lets_go_of_what_its_calls_return():
    class Value:
        pass

    returned, enough = [], threading.Event()

    def make():
        value = Value()
        returned.append(weakref.ref(value))
        if len(returned) == 3:
            task.set_interval(3600)
            enough.set()
        return value

    with PeriodicTask(0.001, make) as task:
        assert enough.wait(LONG)
        end = time.monotonic() + LONG
        while any(value() for value in returned) and time.monotonic() < end:
            time.sleep(0.001)
        assert [value() for value in returned] == [None] * 3


def test_e2_bad_input():
    with pytest.raises(ScheduleError, match=r"interval must be .* got -0.5"):
        PeriodicTask(-0.5, print)
    with pytest.raises(TypeError, match=r"^func must be callable, not NoneType"):
        PeriodicTask(1, None)
    with pytest.raises(TypeError):
        PeriodicTask(None, print)
    task = PeriodicTask(1, print)
    with pytest.raises(ScheduleError):
        task.set_interval(float("inf"))

    async def poll():
        pass

    with pytest.raises(TypeError, match="await"):
        PeriodicTask(1, poll)
