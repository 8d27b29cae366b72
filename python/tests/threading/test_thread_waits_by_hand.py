"""T1: who waits on the thread that moves the time of an engine is not left waiting."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import everbeat.threading
from everbeat.testing import NothingDueError, TestEngine
from everbeat.threading import PeriodicTask, Scope, Timer, after

HOUR = 3600.0

Wait = Callable[..., Any]

# What a timer that has run and is not due for an hour can be asked for in vain.
WAITS: dict[str, Callable[[Timer[int]], Wait]] = {
    "join": lambda timer: timer.join,
    "wait": lambda timer: timer.wait,
    "hits": lambda timer: lambda **limit: timer.wait(hits=1, **limit),
    "hit count": lambda timer: lambda **limit: timer.wait(hit_count=5, **limit),
    "get": lambda timer: timer.subscribe().get,
    "next": lambda timer: lambda: next(iter(timer.subscribe())),
    "one-shot": lambda _: after(HOUR, int).wait,
    "ticks": lambda _: everbeat.threading.ticks(HOUR, initial_delay=HOUR).get,
    "next tick": lambda _: lambda: next(everbeat.threading.ticks(HOUR, initial_delay=HOUR)),
}

every_wait = pytest.mark.parametrize("name", WAITS)


@pytest.fixture(autouse=True)
def nothing_sleeps() -> Iterator[None]:
    """What is waited for here is hours away, of which none may pass."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 30


@pytest.fixture
def timer(everbeat_engine: TestEngine) -> Iterator[Timer[int]]:
    timer = Timer(HOUR, lambda: timer.hit_count + 1, mode="fixed_rate", start=True)
    everbeat_engine.settle()
    yield timer
    timer.cancel()


@every_wait
def test_t1_a_wait_that_only_time_can_end_says_so(timer: Timer[int], name: str) -> None:
    with pytest.raises(NothingDueError, match=r"Advance the engine before, or wait on another thread$"):
        WAITS[name](timer)()
    assert timer.hit_count == 1


@every_wait
def test_t1_patience_is_counted_on_the_clock_of_the_engine(
    timer: Timer[int], everbeat_engine: TestEngine, name: str
) -> None:
    if name.startswith("next"):
        return  # takes no time limit
    wait = WAITS[name](timer)
    if name == "wait":
        assert wait(timeout=10 * HOUR) is False
    else:
        with pytest.raises(TimeoutError):
            wait(timeout=10 * HOUR)
    assert (timer.hit_count, everbeat_engine.time()) == (1, 0), "no time has passed"


@every_wait
def test_t1_waits_on_other_threads_last_until_time_is_moved(
    timer: Timer[int], everbeat_engine: TestEngine, name: str
) -> None:
    waiting = threading.Event()
    wait = WAITS[name](timer)

    def listen() -> Any:
        waiting.set()
        return wait()

    with ThreadPoolExecutor(1) as executor:
        listening = executor.submit(listen)
        assert waiting.wait(20)
        assert not listening.done()
        while not listening.done():
            everbeat_engine.advance(HOUR)
            if name == "wait" and timer.hit_count > 3:
                timer.cancel()
            time.sleep(0.001)
        listening.result()


def test_t1_what_is_due_happens_while_one_waits(everbeat_engine: TestEngine) -> None:
    timer = Timer(HOUR, lambda: everbeat_engine.time(), start=True)
    assert timer.wait(hit_count=1) and timer.hit_count == 1
    assert timer.trigger() == 0
    everbeat_engine.spend(HOUR)
    assert timer.join() == HOUR
    assert after(HOUR, lambda: "now").fire_now() == "now"
    once = after(HOUR, lambda: "later")
    everbeat_engine.advance(HOUR)
    assert once.wait() == "later"
    with timer.subscribe() as feed:
        timer.trigger()
        assert feed.get() == 2 * HOUR
    assert timer.stats().hits == 5 and timer.shutdown(HOUR) == "drained"
    with everbeat.threading.ticks(HOUR) as schedule:
        assert next(schedule).run == 1
        with pytest.raises(NothingDueError):
            next(schedule)
        everbeat_engine.advance(HOUR)
        assert next(schedule).scheduled == 3 * HOUR


def test_t1_a_timer_without_a_period_can_be_waited_for(everbeat_engine: TestEngine) -> None:
    restless, hourly = Timer(0, int, start=True), Timer(HOUR, int, start=True)
    assert restless.wait(hit_count=100) and hourly.wait(hit_count=1)
    with pytest.raises(NothingDueError):
        hourly.join()
    restless.cancel()
    hourly.cancel()


def test_t1_a_wait_without_patience_lets_nothing_happen(everbeat_engine: TestEngine) -> None:
    timer = Timer(HOUR, int, start=True)
    with pytest.raises(TimeoutError):
        timer.wait(hit_count=1, timeout=0)
    assert timer.hit_count == 0
    timer.cancel()


def test_t1_ends_need_no_time(everbeat_engine: TestEngine) -> None:
    ended: list[str] = []
    timer = Timer(HOUR, int, cancel_cb=lambda *_: ended.append("timer"), start=True)
    everbeat_engine.settle()
    timer.cancel()
    with Scope() as scope, Timer(HOUR, int, cancel_cb=lambda *_: ended.append("with")) as inner:
        scope.periodic(HOUR, int)
        assert inner.wait(hits=1)
    with PeriodicTask(HOUR, int) as task:
        everbeat_engine.advance(HOUR)
    assert ended == ["timer", "with"] and not task.is_running()
    assert everbeat_engine.close() == 0


def test_t1_the_thread_that_moves_time_may_change(timer: Timer[int], everbeat_engine: TestEngine) -> None:
    def move_and_wait() -> None:
        everbeat_engine.advance(HOUR)
        with pytest.raises(NothingDueError):
            timer.join()

    with ThreadPoolExecutor(1) as executor:
        executor.submit(move_and_wait).result(20)
        going_on = executor.submit(lambda: (time.sleep(0.05), everbeat_engine.advance(HOUR)))
        assert timer.join() == 3, "it is not this thread any more"
        going_on.result(20)
    everbeat_engine.settle()
    with pytest.raises(NothingDueError):
        timer.join()


def test_t1_a_run_that_waits_is_refused_as_on_any_engine(everbeat_engine: TestEngine) -> None:
    def run() -> None:
        with pytest.raises(everbeat.TimerError) as refused:
            other.join()
        assert not isinstance(refused.value, NothingDueError)

    other = Timer(HOUR, int, start=True)
    timer = Timer(HOUR, run, start=True)
    everbeat_engine.settle()
    assert timer.hit_count == 1
    timer.cancel()
    other.cancel()


def test_t1_an_engine_for_tests_has_one_clock(everbeat_engine: TestEngine) -> None:
    everbeat_engine.advance(2)
    timer = Timer(5, int, start=True)
    task = PeriodicTask(4, int)
    task.start()
    everbeat_engine.advance(5.5)
    stats = timer.stats()
    assert (timer.last_tick_at, stats.last_tick_at, stats.next_due_at) == (7, 7, 12)
    assert (task.stats().last_tick_at, task.stats().next_due_at) == (6, 10)
    assert (everbeat_engine.time(), everbeat_engine.next_due()) == (7.5, 10)
    with everbeat.threading.ticks(1) as schedule:
        assert schedule.get().scheduled == 7.5
    timer.cancel()
    task.stop()
