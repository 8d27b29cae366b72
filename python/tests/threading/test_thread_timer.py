"""`Timer` on threads."""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import timedelta

import pytest

import everbeat
from everbeat import (
    ScheduleError,
    ThreadsafeDispatchError,
    TimerAlreadyRunningError,
    TimerError,
    TimerNotRunningError,
    TimerStoppedError,
)
from everbeat.threading import Backoff, Burst, Engine, Timer
from tests.threading.support import LONG


def counter():
    count = 0

    def count_on():
        nonlocal count
        count += 1
        return count

    return count_on


def test_d1_latest_value_and_figures():
    timer = Timer(0.001, counter(), name="counts")
    assert (timer.last_result, timer.last_tick_at, timer.hit_count) == (None, None, 0)
    timer.start()
    assert timer.wait(hit_count=3, timeout=LONG) is True
    assert timer.last_result >= 3 and timer.hit_count >= 3
    assert abs(timer.last_tick_at - time.monotonic()) < LONG
    timer.cancel()
    stats = timer.stats()
    assert stats.name == "counts" and stats.runs >= stats.hits >= 3
    assert stats.lateness.count == stats.duration.count == stats.runs
    assert 0 <= stats.lateness.mean <= stats.lateness.max
    assert stats.lateness.p50 <= stats.lateness.p99 <= stats.lateness.max
    assert stats.skipped.total == 0 and stats.missed == 0


def test_d1_hit_count_during_a_run_is_that_before_it():
    seen = []
    timer = Timer(0, lambda: seen.append(timer.hit_count), max_runs=3)
    timer.start()
    timer.wait(timeout=LONG)
    assert seen == [0, 1, 2]


def test_d2_join_returns_the_next_value():
    release = threading.Event()

    def value():
        release.wait(LONG)
        return "value"

    with Timer(3600, value) as timer:
        threading.Timer(0.05, release.set).start()
        assert timer.join(LONG) == "value"
        with pytest.raises(TimeoutError):
            timer.join(timeout=0.01)


def test_d3_waits():
    with Timer(0.001, counter()) as timer:
        assert timer.wait(hits=2, timeout=LONG)
    timer = Timer(0.001, counter(), max_runs=5)
    timer.start()
    assert timer.wait(timeout=LONG)
    assert timer.wait(hit_count=5), "a timer that ends with the count satisfies it"
    with pytest.raises(TimerStoppedError):
        timer.wait(hit_count=6)
    with pytest.raises(ScheduleError):
        timer.wait(1, hits=1)


def test_d3_timeouts():
    with Timer(3600, counter(), initial_delay=3600) as timer:
        assert timer.wait(timeout=0.01) is False, "that it still runs is no error"
        with pytest.raises(TimeoutError):
            timer.wait(hits=1, timeout=0.01)


def test_d5_trigger_returns_a_run_that_started_after_the_call():
    with Timer(3600, counter()) as timer:
        timer.wait(hit_count=1, timeout=LONG)
        assert timer.trigger(LONG) == 2
        assert timer.trigger(timeout=LONG) == 3


def test_d5_triggers_during_a_run_share_one_follow_up():
    begun, go_on = threading.Event(), threading.Event()
    count = counter()

    def target():
        begun.set()
        go_on.wait(LONG)
        return count()

    with Timer(3600, target) as timer:
        assert begun.wait(LONG)
        values = []
        threads = [threading.Thread(target=lambda: values.append(timer.trigger(LONG))) for _ in range(5)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)  # for all of them to ask
        go_on.set()
        for thread in threads:
            thread.join()
        assert values == [2] * 5


def test_e3_not_running():
    timer = Timer(1, print)
    for call in (timer.join, timer.trigger, timer.wait):
        with pytest.raises(TimerNotRunningError):
            call()
    timer.cancel()


def test_l1_start_on_a_running_timer_is_an_error():
    with Timer(3600, print, initial_delay=3600) as timer:
        with pytest.raises(TimerAlreadyRunningError):
            timer.start()
        assert timer.is_running()


def test_l2_cancel_waits_for_the_run_and_the_callback():
    told, begun = [], threading.Event()

    def slow():
        begun.set()
        time.sleep(0.05)
        told.append("run")

    timer = Timer(0, slow, cancel_cb=lambda *_: told.append("end"))
    timer.start()
    begun.wait(LONG)
    timer.cancel(LONG)
    assert told[-2:] == ["run", "end"] and told.count("end") == 1
    timer.cancel()
    timer.stop()
    assert told.count("end") == 1


def test_l3_shutdown_tells_how_it_went():
    timer = Timer(3600, print, initial_delay=3600, start=True)
    assert timer.shutdown(1) == "drained"
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait(LONG)

    timer = Timer(3600, slow, start=True)
    assert begun.wait(LONG)
    with pytest.raises(TimeoutError):
        timer.shutdown(0.01, timeout=0.05)
    go_on.set()
    assert timer.shutdown(1) == "cancelled"
    for grace, told in ((0.01, "cancelled"), (LONG, "drained")):
        timer = Timer(3600, lambda: time.sleep(0.2), start=True)
        while not timer.stats().busy:
            time.sleep(0.001)
        assert timer.shutdown(grace) == told


def test_l5_control_from_inside_the_target():
    done = threading.Event()

    def target():
        with pytest.raises(TimerError):
            timer.join()
        timer.set_delay(0.002)
        timer.pause()
        timer.resume()
        timer.cancel()
        done.set()

    timer = Timer(0.001, target, cancel_cb=lambda timer, _: timer.cancel())
    timer.start()
    assert done.wait(LONG)
    assert timer.wait(timeout=LONG)
    assert timer.stats().failures == 0 and timer.stats().runs == 1


@pytest.mark.parametrize("inline", [False, True])
def test_l5_what_a_run_drops_may_end_its_timer(inline):
    answers = []

    class Session:
        def __del__(self):
            try:
                timer.cancel(LONG)
            except Exception as error:
                answers.append(error)
            else:
                answers.append("ended")

    timer = Timer(0.001, Session, inline=inline)  # a value goes when the next one comes
    timer.start()
    assert timer.wait(timeout=LONG)
    assert answers[0] == "ended"
    assert timer.hit_count == 2


def test_l7_the_failure_that_a_start_forgets_may_end_its_timer():
    answers = []

    class Session:
        def __del__(self):
            if timer.is_running():
                timer.cancel(LONG)
                answers.append(timer.is_running())

    def target():
        if timer.hit_count == timer.stats().failures:
            raise ValueError(Session())

    timer = Timer(3600, target, exc_cb=lambda *_: None)
    timer.start()
    with pytest.raises(ValueError):
        timer.wait(timeout=LONG)
    timer.start()
    assert answers == [False]


def test_l9_an_engine_thread_is_not_blocked_by_its_own_timers():
    engine = Engine()
    other = engine.every(3600, print, initial_delay=3600, start=True)
    with engine.every(3600, other.join, inline=True) as timer:
        with pytest.raises(ThreadsafeDispatchError):
            timer.wait(timeout=LONG)
    other.cancel()


def test_l7_restart_iterates_anew_and_counts_on():
    made = []

    def values():
        made.append([])
        for value in "ab":
            made[-1].append(value)
            yield value

    timer = Timer(0, values)
    for start in (1, 2):
        timer.start()
        timer.wait(timeout=LONG)
        assert made == [["a", "b"]] * start
        assert timer.hit_count == 2 * start


def test_l7_an_iterator_goes_on_where_it_was():
    timer = Timer(0, iter([1, 2, 3]), max_runs=2)
    for last in (2, 3):
        timer.start()
        timer.wait(timeout=LONG)
        assert timer.last_result == last


@pytest.mark.parametrize("target", [lambda: iter("xy"), "xy".__iter__, iter("xy"), (c for c in "xy")])
def test_r2_targets(target):
    timer = Timer(0, target)
    feed = timer.subscribe()
    timer.start()
    assert list(feed) == ["x", "y"]
    assert timer.wait(timeout=LONG)


def test_r2_a_call_that_raises_stop_iteration_ends_the_timer():
    timer = Timer(0, iter("xyz").__next__, start=True)
    assert timer.wait(timeout=LONG)
    assert (timer.last_result, timer.stats().failures) == ("z", 0)


def test_r2_async_targets_are_refused():
    async def poll():
        pass

    async def items():
        yield 1

    for target in (poll, items, items()):
        with pytest.raises(TypeError):
            Timer(1, target)
    timer = Timer(1, lambda: poll(), start=True)
    with pytest.raises(TypeError, match="await"):
        timer.wait(timeout=LONG)


def test_r3_stops_with_the_failure_by_default():
    def fail():
        raise KeyError("k")

    timer = Timer(0, fail, start=True)
    for _ in range(3):
        with pytest.raises(KeyError) as caught:
            timer.wait(timeout=LONG)
        assert len(traceback.extract_tb(caught.value.__traceback__)) <= 3, "it does not grow"
    with pytest.raises(KeyError):
        timer.join()
    assert not timer.is_running()


@pytest.mark.parametrize("policy", ["continue", Backoff(0.001, 0.01), Backoff(0.001, 0.01, factor=1.5)])
def test_r3_continue_and_backoff(policy):
    done = threading.Event()
    failures = []

    def fail():
        raise OSError

    def note(timer, target):
        failures.append(sys.exc_info()[0])
        if len(failures) >= 3:
            done.set()

    with Timer(0.001, fail, note, on_error=policy) as timer:
        assert done.wait(LONG)
        assert timer.is_running()
    assert set(failures) == {OSError}


def test_r4_a_run_over_its_limit_has_failed(caplog):
    timer = Timer(3600, lambda: time.sleep(0.05), run_timeout=0.001, start=True)
    with pytest.raises(TimeoutError):
        timer.wait(timeout=LONG)
    assert [record.name for record in caplog.records] == [f"everbeat.timer.{timer.name}"]


def test_r6_callbacks_are_told(caplog):
    told = []

    def fail():
        raise ValueError("v")

    def on_failure(timer, target):
        told.append(("failure", timer, target))
        logging.getLogger("mine").exception("handled")

    timer = Timer(0, fail, on_failure, lambda *args: told.append(("end", *args)))
    timer.start()
    with pytest.raises(ValueError):
        timer.wait(timeout=LONG)
    assert told == [("failure", timer, fail), ("end", timer, fail)]
    (record,) = caplog.records
    assert [frame.name for frame in traceback.extract_tb(record.exc_info[2])] == ["fail"]


def test_r6_callbacks_that_raise_are_logged(caplog):
    def fail():
        raise ValueError("v")

    timer = Timer(0, fail, lambda *_: 1 / 0, lambda *_: 1 / 0, name="t")
    timer.start()
    with pytest.raises(ValueError):
        timer.wait(timeout=LONG)
    messages = [(record.name, record.getMessage()) for record in caplog.records]
    assert messages == [("everbeat.timer.t", "a callback of timer 't' failed")] * 2


def test_r6_a_callback_that_makes_a_coroutine_is_told_of_and_so_is_the_failure(caplog):
    async def callback(*_args):
        pass

    def fail():
        raise ValueError("v")

    timer = Timer(0, fail, callback, callback, name="t")
    timer.start()
    with pytest.raises(ValueError):
        timer.wait(timeout=LONG)
    failed, ended = (record.exc_info[1] for record in caplog.records)
    for error in (failed, ended):
        assert isinstance(error, TypeError) and "plain functions" in str(error)
    assert str(failed.__context__) == "v"


def test_o1_any_string_is_a_name():
    timer = Timer(1, print, name="a\ud800")
    assert timer.name == "a\ud800" and repr(timer).startswith("<Timer a")


def test_r6_a_failure_that_its_callback_raises_again_keeps_its_traceback():
    kept = []

    def fail():
        raise ValueError("v")

    def told(*_):
        kept.append(sys.exc_info()[1])
        raise

    timer = Timer(0, fail, told, on_error="continue", max_runs=1, start=True)
    timer.wait(timeout=LONG)
    assert [frame.name for frame in traceback.extract_tb(kept[0].__traceback__)] == ["fail"]


def test_s2_s3_modes_and_limits():
    for options in ({}, {"mode": "fixed_rate"}, {"mode": "fixed_rate", "jitter": 0.5, "seed": 1}):
        timer = Timer(0.001, counter(), max_runs=4, start=True, **options)
        assert timer.wait(timeout=LONG)
        assert timer.hit_count == 4


def test_s4_missed_slots_are_counted():
    for policy in ("skip", "delay", Burst(2)):
        timer = Timer(
            0.001, lambda: time.sleep(0.01), mode="fixed_rate", missed=policy, max_runs=3, start=True
        )
        timer.wait(timeout=LONG)
        assert timer.stats().missed > 0


def test_s7_set_delay():
    with Timer(timedelta(hours=1), counter()) as timer:
        timer.wait(hit_count=1, timeout=LONG)
        timer.set_delay(everbeat.ns(1_000_000), rearm=True)
        timer.wait(hits=3, timeout=LONG)
        assert timer.delay == 0.001


def test_s10_pause_and_resume():
    with Timer(0.001, counter()) as timer:
        timer.wait(hit_count=1, timeout=LONG)
        timer.pause()
        assert timer.is_paused() and timer.stats().next_due_at is None
        assert timer.trigger(LONG) > 1
        timer.resume()
        timer.wait(hits=2, timeout=LONG)


def test_o1_names():
    def poll():
        pass

    assert Timer(1, poll).name.endswith("poll")
    timer = Timer(1, poll, name="given")
    assert repr(timer) == "<Timer given delay=1 hits=0 stopped>"
    with pytest.raises(TimerNotRunningError, match="given"):
        timer.join()


@pytest.mark.parametrize(
    "options, error",
    [
        ({"name": 3}, TypeError),
        ({"start": 1}, TypeError),
        ({"inline": 1}, TypeError),
        ({"keep_phase": 1}, TypeError),
        ({"max_runs": 2**70}, ScheduleError),
        ({"delay": -1}, ScheduleError),
        ({"delay": "1"}, TypeError),
        ({"delay": True}, TypeError),
        ({"target": 3}, TypeError),
        ({"mode": "fixed"}, ScheduleError),
        ({"mode": 3}, TypeError),
        ({"jitter": 1.5}, ScheduleError),
        ({"jitter": float("nan")}, ScheduleError),
        ({"jitter": "x"}, TypeError),
        ({"on_error": "ignore"}, ScheduleError),
        ({"on_error": 1}, TypeError),
        ({"missed": Burst(-1)}, ScheduleError),
        ({"missed": "later"}, ScheduleError),
        ({"run_timeout": 0}, ScheduleError),
        ({"max_runs": 0}, ScheduleError),
        ({"max_runs": 1.5}, TypeError),
        ({"max_lateness": -1}, ScheduleError),
        ({"initial_delay": float("inf")}, ScheduleError),
        ({"exc_cb": 1}, TypeError),
        ({"cancel_cb": 1}, TypeError),
        ({"engine": 1}, TypeError),
        ({"scope": 1}, TypeError),
        ({"nonsense": 1}, TypeError),
    ],
)
def test_e2_bad_input_is_refused_at_construction(options, error):
    (field,) = options
    with pytest.raises(error, match=field if field not in ("engine", "scope", "missed") else None):
        Timer(**{"delay": 1, "target": print, **options})


@pytest.mark.parametrize(
    "options, error",
    [
        ({"maxsize": 2**70}, ScheduleError),
        ({"name": 3}, TypeError),
        ({"overflow": "drop"}, ScheduleError),
        ({"overflow": 3}, TypeError),
    ],
)
def test_e2_bad_feeds_are_refused_on_threads(options, error):
    (field,) = options
    with pytest.raises(error, match=field):
        Timer(1, print).subscribe(**options)


@pytest.mark.parametrize("options", [{"first": 0}, {"factor": 0.5}, {"max": 0.5}, {"factor": float("nan")}])
def test_e2_bad_backoff(options):
    with pytest.raises(ScheduleError):
        Timer(1, print, on_error=Backoff(**{"first": 1, "max": 2, **options}))


def test_l2_what_an_iterator_does_at_its_end_belongs_to_its_timer() -> None:
    """Whoever stops the timer waits for it, at most as long as it wants to, and does not do it."""
    closing, go_on, seen = threading.Event(), threading.Event(), list[object]()

    def target() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            seen.append(everbeat.current_timer())
            seen.append(threading.current_thread() is threading.main_thread())
            closing.set()
            go_on.wait(LONG)

    timer = Timer(LONG, target, start=True)
    timer.wait(hit_count=1, timeout=LONG)
    try:
        with pytest.raises(TimeoutError):
            timer.cancel(timeout=0.05)
        assert closing.wait(LONG)
        assert timer.is_running()
        with pytest.raises(TimeoutError):
            timer.cancel(timeout=0.05)
    finally:
        go_on.set()
    timer.cancel(timeout=LONG)
    assert seen == [timer, False]
    timer.start()
    timer.cancel(timeout=LONG)


def test_l9_what_is_over_already_is_no_wait() -> None:
    """Also on a thread that must not wait."""
    engine, answers = Engine(), list[object]()
    idle = Timer(LONG, dict, engine=engine, initial_delay=LONG, start=True)
    idle.pause()
    ended = Timer(LONG, dict, engine=engine, start=True)
    ended.wait(hit_count=1, timeout=LONG)
    feed = ended.subscribe()
    ended.cancel(timeout=LONG)

    def run() -> None:
        answers.append(idle.shutdown(LONG))
        try:
            feed.get()
        except TimerStoppedError as error:
            answers.append(type(error))

    with Timer(LONG, run, engine=engine, inline=True) as timer:
        timer.wait(hit_count=1, timeout=LONG)
    assert answers == ["drained", TimerStoppedError]
    engine.close()
