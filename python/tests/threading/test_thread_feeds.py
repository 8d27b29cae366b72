"""Subscriptions and ticks."""

import itertools
import threading
import time

import pytest

from everbeat import ScheduleError, TimerError, TimerNotRunningError, TimerStoppedError
from everbeat.threading import Engine, Timer, ticks
from tests.threading.support import LONG


def test_d6_every_tick_in_order():
    timer = Timer(0, iter(range(100)))
    with timer.subscribe() as one, timer.subscribe(name="two") as two:
        timer.start()
        assert list(one) == list(two) == list(range(100))


@pytest.mark.parametrize(
    "options, left",
    [({}, [7, 8, 9]), ({"overflow": "drop_oldest"}, [7, 8, 9]), ({"overflow": "drop_newest"}, [0, 1, 2])],
)
def test_d6_bounded_feeds_on_threads_drop_by_policy_and_count(everbeat_engine, options, left):
    timer = Timer(1, iter(range(10)))
    feed = timer.subscribe(maxsize=3, **options)
    timer.start()
    everbeat_engine.advance(10)
    assert (feed.qsize, len(feed), feed.dropped_count) == (3, 3, 7)
    assert feed.drop_oldest() == 1
    assert list(feed) == left[1:]
    assert feed.dropped_count == 8


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_d6_a_feed_without_a_bound_drops_nothing(everbeat_engine, overflow):
    timer = Timer(1, iter(range(10)))
    feed = timer.subscribe(overflow=overflow)
    timer.start()
    everbeat_engine.advance(10)
    assert list(feed) == list(range(10)) and feed.dropped_count == 0


def test_o1_a_feed_on_threads_has_a_name():
    timer = Timer(1, print, name="source")
    named, other = timer.subscribe(name="sink"), timer.subscribe(maxsize=1)
    assert (named.name, other.name) == ("sink", None)
    assert repr(named) == '<Subscription to source name="sink" qsize=0 dropped=0>'
    assert repr(other) == "<Subscription to source qsize=0 dropped=0>"


def test_d7_get():
    timer = Timer(0, iter([1]))
    feed = timer.subscribe()
    with pytest.raises(TimeoutError):
        feed.get(timeout=0.01)
    timer.start()
    assert feed.get(LONG) == 1
    with pytest.raises(TimerStoppedError):
        feed.get(LONG)


def test_d9_a_failure_comes_after_the_values():
    def values():
        yield 1
        raise ValueError("v")

    timer = Timer(0, values)
    feed = timer.subscribe()
    timer.start()
    assert next(feed) == 1
    with pytest.raises(ValueError):
        next(feed)


def test_d8_close_ends_a_consumer_that_waits():
    with Timer(3600, print, initial_delay=3600) as timer:
        feed = timer.subscribe()
        threading.Timer(0.05, feed.close).start()
        assert list(feed) == []
        feed.close()
        assert timer.stats().subscriptions == 0
        other = timer.subscribe()
        assert timer.stats().subscriptions == 1
        del other
        assert timer.stats().subscriptions == 0


def test_d6_qsize_does_not_wait_for_a_consumer_that_does():
    with Timer(3600, print, initial_delay=3600) as timer:
        feed = timer.subscribe()
        consumer = threading.Thread(target=list, args=(feed,))
        consumer.start()
        time.sleep(0.05)
        assert feed.qsize == 0
        feed.close()
        consumer.join(LONG)
        assert not consumer.is_alive()


def test_e2_bad_input():
    with pytest.raises(ScheduleError):
        Timer(1, print).subscribe(maxsize=-1)
    with pytest.raises(ScheduleError):
        Timer(1, print).subscribe().drop_oldest(-1)
    for count in ({"hit_count": -1}, {"hits": -1}):
        with pytest.raises(ScheduleError):
            Timer(1, print).wait(**count)
    with pytest.raises(TypeError):
        Timer(1, print).subscribe(maxsize="x")
    with pytest.raises(ScheduleError):
        ticks(-1)
    with pytest.raises(ScheduleError):
        ticks(1, max_runs=0)


def test_d10_ticks():
    began = time.monotonic()
    seen = list(ticks(0.002, mode="fixed_rate", max_runs=4, engine=Engine(precision="fine")))
    assert [tick.run for tick in seen] == [1, 2, 3, 4]
    assert all(tick.lateness >= 0 and tick.cause == "schedule" for tick in seen)
    for before, tick in itertools.pairwise(seen):
        slots = tick.slot - before.slot
        assert tick.scheduled - before.scheduled == pytest.approx(slots * 0.002, abs=1e-6)
    assert began - 0.001 <= seen[0].scheduled <= time.monotonic()


def test_d10_ticks_are_controlled_from_elsewhere():
    with ticks(3600) as schedule:
        assert schedule.get(LONG).run == 1
        with pytest.raises(TimeoutError):
            schedule.get(timeout=0.01)
        threading.Timer(0.05, schedule.trigger).start()
        assert schedule.get(LONG).cause == "trigger"
        threading.Timer(0.05, schedule.set_delay, (0.001, True)).start()
        assert schedule.get(LONG).run == 3
        threading.Timer(0.05, schedule.cancel).start()
        schedule.set_delay(3600)
        for _ in schedule:
            pass
        assert not schedule.is_running()
        with pytest.raises(TimerStoppedError):
            schedule.get()
        with pytest.raises(TimerNotRunningError):
            schedule.trigger()


def test_d10_one_thread_iterates():
    schedule = ticks(3600, initial_delay=3600)
    consumer = threading.Thread(target=list, args=(schedule,))
    consumer.start()
    time.sleep(0.05)
    with pytest.raises(TimerError, match="another thread"):
        next(schedule)
    schedule.cancel()
    consumer.join(LONG)
    assert not consumer.is_alive()
