"""T: testing without sleeping."""

import asyncio
import contextvars
import inspect
import logging
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

import everbeat
import everbeat.threading
from everbeat import ScheduleError, Timer, TimerGroup, current_tick, every, ns
from everbeat.testing import MockTimer, NothingDueError, TestClock, TestEngine, VirtualLoop, run
from tests.loops import in_virtual_time, on_every_loop

HOUR = 3600.0


@on_every_loop
async def test_a_mock_timer_does_not_sleep() -> None:
    """T3"""
    calls = 0

    def tick() -> None:
        nonlocal calls
        calls += 1

    start = time.monotonic()
    async with MockTimer(HOUR, tick) as timer:
        await timer.wait(hits=3)
    assert calls == 3
    assert time.monotonic() - start < 60
    assert timer.sleeps[:2] == [HOUR, HOUR]


@on_every_loop
async def test_a_mock_timer_notes_what_it_would_have_slept() -> None:
    """T3, S5"""
    timer = MockTimer(10, lambda: 0, initial_delay=timedelta(minutes=1), max_runs=4)
    timer.start()
    await timer.wait()
    assert timer.sleeps == [60, 10, 10, 10]
    assert timer.last_tick_at == 90

    jittered = MockTimer(10, lambda: 0, jitter=0.5, seed=7, max_runs=50, mode="fixed_rate", start=True)
    await jittered.wait()
    assert len({*jittered.sleeps}) > 40 and min(jittered.sleeps) >= 0 and max(jittered.sleeps) <= 20


@on_every_loop
async def test_a_mock_timer_is_a_timer_in_all_else() -> None:
    """T3"""
    timer: MockTimer[Any] = MockTimer(HOUR, iter(range(5)), cancel_cb=lambda *_: ended.append(1), name="mock")
    ended: list[int] = []
    async with timer.subscribe() as feed, timer:
        assert [value async for value in feed] == [0, 1, 2, 3, 4]
    assert ended == [1] and repr(timer).startswith("<MockTimer")
    group = TimerGroup([MockTimer(HOUR, lambda: 1), MockTimer(HOUR, lambda: 2)])
    async with group:
        assert [value for _, value in await group.trigger()] == [1, 2]
        assert [value for _, value in await group.wait(hits=2)] == [1, 2]


@on_every_loop
async def test_a_mock_timer_can_be_started_again() -> None:
    """T3, L7"""
    timer = MockTimer(HOUR, lambda: 0)
    for _ in range(2):
        async with timer:
            await timer.wait(hits=2)
    assert timer.hit_count == 4


@on_every_loop
async def test_t3_time_passes_for_a_mock_timer_up_to_what_it_waits_for() -> None:
    timer = MockTimer(10, lambda: 0, mode="fixed_rate", start=True)
    await timer.wait(hit_count=1)
    timer.set_delay(5, rearm=True)
    await timer.wait(hits=1)
    assert timer.last_tick_at == 5
    await timer.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    timer.start()
    await timer.wait(hits=1)
    assert timer.last_tick_at == 5, "none passes for a timer that was cancelled"
    await timer.cancel()


@on_every_loop
async def test_t3_a_mocked_run_ends_only_by_itself() -> None:
    running = asyncio.Event()

    async def run() -> int:
        running.set()
        await asyncio.sleep(0.001)
        running.clear()
        return 1

    timer = MockTimer(5, run, run_timeout=60, start=True)
    assert await timer.wait(hits=3) == 1
    assert timer.stats().failures == 0 and {*timer.sleeps} == {5}
    await timer.cancel()
    # What it waits for after a run may be due when the limit of the run was.
    same = MockTimer(60, run, run_timeout=60, start=True)
    assert await same.wait(hits=3) == 1
    await same.cancel()
    for busy in (timer, same):
        busy.start()
        await busy.wait(hits=1)
        running.clear()
        asked = busy.trigger()
        await running.wait()
        sleeps = len(busy.sleeps)
        assert await busy.shutdown(10) == "drained"
        assert await asked == 1 and len(busy.sleeps) == sleeps

    limited = MockTimer(5, run, run_for=12, start=True)
    await limited.wait()
    assert (limited.hit_count, limited.stats().failures) == (3, 0)

    in_thread = MockTimer(5, lambda: time.sleep(0.01), offload=True, run_timeout=60, start=True)
    await in_thread.wait(hits=2)
    await in_thread.cancel()
    assert in_thread.stats().failures == 0


@on_every_loop
async def test_t3_a_mocked_run_that_is_stuck_can_be_cancelled() -> None:
    timer = MockTimer(5, asyncio.Event().wait, run_timeout=60, start=True)
    for _ in range(50):
        await asyncio.sleep(0)
    assert timer.stats().busy and timer.sleeps == []
    await timer.cancel()
    assert timer.sleeps == [] and timer.stats().failures == 0


@on_every_loop
async def test_time_moves_only_by_hand() -> None:
    """T1"""
    with TestClock() as clock:
        timer = Timer(HOUR, clock.time, mode="fixed_rate", start=True)
        await clock.settle()
        assert (timer.hit_count, clock.next_due()) == (1, HOUR)
        await clock.advance(HOUR - 1)
        assert timer.hit_count == 1
        await clock.advance(1)
        assert (timer.hit_count, timer.last_result, timer.last_tick_at) == (2, HOUR, HOUR)
        assert await clock.advance_to_next() == HOUR
        await clock.advance(timedelta(hours=10))
        assert (timer.hit_count, clock.time()) == (13, 12 * HOUR)
        await timer.cancel()
        assert await clock.advance_to_next() is None and clock.next_due() is None
        assert repr(clock) == "<TestClock time=43200.0>"


@on_every_loop
async def test_timers_fire_in_the_order_of_their_deadlines() -> None:
    """T1"""
    fired: list[tuple[str, float]] = []
    with TestClock() as clock:
        group = TimerGroup(
            Timer(
                delay,
                lambda name=name: fired.append((name, clock.time())),
                mode="fixed_rate",
                initial_delay=delay,
            )
            for name, delay in (("c", 5), ("a", 2), ("b", 3))
        )
        async with group:
            await clock.advance(6)
    assert fired == [("a", 2), ("b", 3), ("a", 4), ("c", 5), ("b", 6), ("a", 6)]


@on_every_loop
async def test_what_a_tick_wakes_settles_before_the_next() -> None:
    """T1"""
    events: list[str] = []

    async def consume(timer: Timer[int], queue: asyncio.Queue[int]) -> None:
        async for value in timer:
            await queue.put(value)

    async def work(queue: asyncio.Queue[int]) -> None:
        while True:
            value = await queue.get()
            for _ in range(5):
                await asyncio.sleep(0)
            events.append(f"done {value}")

    def tick() -> int:
        tick_ = current_tick()
        assert tick_ is not None
        events.append(f"tick {tick_.run}")
        return tick_.run

    with TestClock() as clock:
        timer = Timer(1, tick, mode="fixed_rate", initial_delay=1)
        queue: asyncio.Queue[int] = asyncio.Queue()
        async with timer:
            tasks = [asyncio.create_task(consume(timer, queue)), asyncio.create_task(work(queue))]
            await clock.advance(3)
        for task in tasks:
            task.cancel()
    assert events == ["tick 1", "done 1", "tick 2", "done 2", "tick 3", "done 3"]


@on_every_loop
async def test_time_moves_until_there_is_a_result() -> None:
    """T1"""
    with TestClock() as clock:
        async with Timer(HOUR, lambda: "rows") as timer:
            assert await clock.run_until(timer.wait(hit_count=5)) == "rows"
            assert clock.time() == 4 * HOUR
            with pytest.raises(ZeroDivisionError):
                await clock.run_until(_fails())


async def _fails() -> None:
    raise ZeroDivisionError


@on_every_loop
async def test_nothing_to_come_is_an_error_and_no_hang() -> None:
    """T1"""
    with TestClock() as clock:
        async with Timer(HOUR, lambda: 0, max_runs=3) as timer:
            waiting = asyncio.Event().wait()
            with pytest.raises(NothingDueError) as told:
                await clock.run_until(waiting)
            assert str(told.value) == f"no timer of the clock is due, but {waiting!r} still waits"
            await clock.settle()
            assert inspect.getcoroutinestate(waiting) == inspect.CORO_CLOSED, "nobody waits any longer"
            assert timer.hit_count == 3 and not timer.is_running()
        future = asyncio.get_running_loop().create_future()
        with pytest.raises(NothingDueError):
            await clock.run_until(future)
        assert not future.cancelled()


@on_every_loop
async def test_t1_a_clock_has_settled_when_no_timer_has_stirred_for_a_while() -> None:
    async def hurry() -> None:
        for minutes in range(1, 6):
            for _ in range(20):
                await asyncio.sleep(0)
            timer.set_delay(HOUR - 60 * minutes, rearm=True)

    with TestClock() as clock:
        async with Timer(HOUR, lambda: 0) as timer:
            await clock.settle()
            hurrying = asyncio.create_task(hurry())
            await clock.settle()
            assert hurrying.done() and (clock.next_due(), clock.time()) == (HOUR - 300, 0)


@on_every_loop
async def test_t1_who_moves_a_clock_takes_turns() -> None:
    with TestClock() as clock:
        async with Timer(HOUR, lambda: 0, mode="fixed_rate"):
            await asyncio.gather(clock.advance(2), clock.advance(3))
            assert clock.time() == 5
            moved, _ = await asyncio.gather(clock.advance_to_next(), clock.advance(HOUR))
            assert (moved, clock.time()) == (HOUR - 5, 2 * HOUR)
            advancing = asyncio.create_task(clock.advance(10 * HOUR))
            await asyncio.sleep(0)
            await clock.settle()
            assert advancing.done() and clock.time() == 12 * HOUR


@on_every_loop
async def test_a_clock_moves_only_who_was_started_under_it() -> None:
    """T1"""
    before = Timer(HOUR, lambda: 0, start=True)
    with TestClock() as clock:
        with TestClock() as inner:
            innermost = Timer(HOUR, lambda: 0, start=True)
        moved = Timer(HOUR, lambda: 0, start=True)
        await clock.advance(10 * HOUR)
        assert (before.hit_count, moved.hit_count, innermost.hit_count) == (1, 11, 1)
        await inner.advance(HOUR)
        assert innermost.hit_count == 2
    after = Timer(HOUR, lambda: 0, start=True)
    await clock.advance(HOUR)
    assert (moved.hit_count, after.hit_count) == (12, 1)
    for timer in (before, moved, innermost, after):
        await timer.cancel()


@on_every_loop
async def test_a_timer_moves_to_the_clock_under_which_it_is_started_again() -> None:
    """T1, L7"""

    @every(HOUR)
    def refresh() -> int:
        return refresh.hit_count

    for _ in range(2):
        with TestClock() as clock:
            async with refresh:
                await clock.advance(2 * HOUR)
    async with refresh:
        await refresh.wait(hits=1)
    assert refresh.hit_count == 7


@on_every_loop
async def test_runs_that_take_time_of_the_clock() -> None:
    """T1, S4"""
    with TestClock() as clock:
        go_on = asyncio.Event()
        timer = Timer(10, go_on.wait, mode="fixed_rate", start=True)
        await clock.advance(35)
        assert timer.hit_count == 0
        go_on.set()
        await clock.settle()
        assert (timer.hit_count, clock.next_due()) == (1, 40)
        await timer.cancel()


@on_every_loop
async def test_the_smallest_period() -> None:
    """T1, S3"""
    with TestClock() as clock:
        async with Timer(ns(1), lambda: 0) as timer:
            await clock.settle()
            assert timer.hit_count == 1
            await clock.advance(ns(5))
            assert timer.hit_count == 6 and clock.time() == 5e-9


@on_every_loop
async def test_a_timer_without_a_period_does_not_hold_time_up() -> None:
    """T1, S6"""
    with TestClock() as clock:
        restless, hourly = Timer(0, lambda: 0, start=True), Timer(HOUR, lambda: 0, start=True)
        await clock.advance(HOUR)
        assert restless.hit_count > 1 and hourly.hit_count == 2
        await restless.cancel()
        await hourly.cancel()


@on_every_loop
async def test_a_target_that_raises_does_so_in_its_own_context() -> None:
    """T1: what advances time is not what runs the target."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    with TestClock() as clock:
        seen: list[str] = []
        timer = Timer(1, lambda: seen.append(variable.get()), start=True)
        variable.set("test")
        await clock.advance(1)
        await timer.cancel()
    assert seen == ["unset", "unset"]


@on_every_loop
async def test_bad_spans_are_refused() -> None:
    """E2"""
    for span in (-1, float("nan"), float("inf")):
        with pytest.raises(ScheduleError, match=r"^span "):
            await TestClock().advance(span)
        with pytest.raises(ScheduleError, match="span"):
            TestEngine().advance(span)


@in_virtual_time
async def test_a_virtual_loop_moves_everything() -> None:
    """T2"""
    loop = asyncio.get_running_loop()
    assert loop.time() == 0
    start = time.monotonic()
    async with Timer(HOUR, loop.time, mode="fixed_rate") as timer:
        await asyncio.sleep(24 * HOUR)
        assert timer.hit_count == 25 and timer.last_result == 24 * HOUR
        with pytest.raises(TimeoutError):
            await timer.wait(hits=10, timeout=HOUR * 2.5)
        assert loop.time() == 26.5 * HOUR
    assert time.monotonic() - start < 60


@in_virtual_time
async def test_a_virtual_loop_is_exact() -> None:
    """T2, S3"""
    ticks = [tick.scheduled async for tick in everbeat.ticks(0.1, mode="fixed_rate", max_runs=1000)]
    assert ticks == [pytest.approx(0.1 * k, abs=1e-9) for k in range(1000)]
    async with Timer(ns(1), lambda: 0, mode="fixed_rate") as timer:
        await timer.wait(hit_count=100)
    assert asyncio.get_running_loop().time() == pytest.approx(99.9 + 99e-9, abs=1e-9)


def test_t2_a_loop_in_virtual_time_may_agree_with_the_machine_for_a_moment() -> None:
    """A few microseconds after its start it often does."""

    async def ticks() -> list[int]:
        told = list[int]()
        async with Timer(1e-5, lambda: told.append(round(current_tick().scheduled * 1e6))) as timer:
            await timer.wait(hit_count=20)
        return told

    for _ in range(50):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            assert runner.run(ticks()) == list(range(0, 200, 10))


@in_virtual_time
async def test_t2_a_precise_timer_goes_by_the_clock_of_the_loop() -> None:
    start, loop = time.monotonic(), asyncio.get_running_loop()
    async with Timer(HOUR, loop.time, precision="fine", mode="fixed_rate") as timer:
        assert await timer.wait(hit_count=100) == 99 * HOUR
    assert time.monotonic() - start < 60


@in_virtual_time
async def test_t2_a_virtual_loop_counts_whole_nanoseconds() -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0.123456789)
    assert loop.time() == 0.123456789
    await asyncio.sleep(3e-10)
    assert loop.time() == 0.12345679, "never early"


@in_virtual_time
async def test_work_in_threads_takes_no_virtual_time() -> None:
    """T2, R7"""
    loop = asyncio.get_running_loop()
    async with Timer(HOUR, lambda: time.sleep(0.02), offload=True) as timer:
        assert await asyncio.to_thread(lambda: 7) == 7
        await timer.wait(hit_count=3)
        assert loop.time() == 2 * HOUR


@in_virtual_time
async def test_t2_the_end_of_an_executor_takes_no_virtual_time() -> None:
    loop = asyncio.get_running_loop()
    started, ended = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        time.sleep(0.05)
        ended.set()

    job = loop.run_in_executor(None, work)
    assert started.wait(20)
    job.cancel()
    await loop.shutdown_default_executor()
    assert ended.is_set() and loop.time() == 0
    with ThreadPoolExecutor(1) as executor:
        await loop.run_in_executor(executor, time.sleep, 0.02)
    await asyncio.sleep(HOUR)
    assert loop.time() == HOUR


@in_virtual_time
async def test_t2_peers_are_waited_for_only_where_nothing_is_scheduled() -> None:
    loop = asyncio.get_running_loop()
    read: asyncio.Queue[tuple[bytes, float]] = asyncio.Queue()
    here, there = socket.socketpair()
    with here, there:
        loop.add_reader(here, lambda: read.put_nowait((here.recv(1), loop.time())))
        await asyncio.sleep(HOUR)
        there.send(b"a")
        await asyncio.sleep(HOUR)
        assert read.get_nowait() == (b"a", HOUR), "what is ready comes before time passes"
        speaker = threading.Timer(0.05, there.send, [b"b"])
        speaker.start()
        assert await read.get() == (b"b", 2 * HOUR)
        speaker.join()
        loop.remove_reader(here)


def test_a_virtual_loop_that_would_wait_for_ever_says_so() -> None:
    """T2"""

    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.raises(NothingDueError, match=r"^everybody in the loop waits, and nothing is scheduled"):
        run(hang())


def test_a_virtual_loop_talks_to_sockets() -> None:
    """T2"""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def talk() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return answer

    assert run(talk()) == b"hello\n"


def test_run_hands_the_result_out() -> None:
    """T2"""

    async def main() -> float:
        await asyncio.sleep(HOUR)
        return asyncio.get_running_loop().time()

    assert run(main()) == HOUR
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(main()) == HOUR


def test_an_engine_for_tests_begins_at_zero() -> None:
    """T1"""
    engine = TestEngine()
    engine.settle()
    engine.advance(timedelta(seconds=1.5))
    engine.spend(1)
    assert engine.time() == 2.5 and engine.next_due() is None and engine.advance_to_next() is None
    assert repr(engine) == "<TestEngine time=2.5>"


PLUGIN_TEST = """
import asyncio
from everbeat import Timer

def test_clock(everbeat_clock):
    async def main():
        async with Timer(3600, lambda: 0) as timer:
            await everbeat_clock.advance(7200)
            assert timer.hit_count == 3
    asyncio.run(main())

def test_nothing_is_left_installed():
    from everbeat._everbeat import _install_clock
    assert _install_clock(None) is None

def test_engine(everbeat_engine):
    everbeat_engine.advance(5)
    assert everbeat_engine.time() == 5
"""


def test_pytest_finds_the_fixtures(tmp_path: Any) -> None:
    """T1"""
    (tmp_path / "test_plugin.py").write_text(PLUGIN_TEST)
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout + done.stderr


@on_every_loop
async def test_a_failing_target_fails_as_ever_under_a_clock(caplog: pytest.LogCaptureFixture) -> None:
    """T1, R3"""
    with TestClock() as clock, caplog.at_level(logging.ERROR):
        timer = Timer(HOUR, _fails, on_error="continue", start=True)
        await clock.advance(3 * HOUR)
        assert timer.is_running() and len(caplog.records) == 4
        await timer.cancel()


def test_timers_on_an_engine_for_tests_run_in_order_without_a_thread(everbeat_engine: TestEngine) -> None:
    """T1"""
    fired: list[tuple[str, float]] = []
    timers = [
        everbeat_engine.every(
            delay,
            lambda name=name: fired.append((name, everbeat_engine.time())),
            initial_delay=delay,
            mode="fixed_rate",
        )
        for name, delay in (("c", 5), ("a", 2), ("b", 3))
    ]
    for timer in timers:
        timer.start()
    threads = threading.active_count()
    assert everbeat_engine.next_due() == 2 and everbeat_engine.advance_to_next() == 2
    everbeat_engine.advance(4)
    assert fired == [("a", 2), ("b", 3), ("a", 4), ("c", 5), ("b", 6), ("a", 6)]
    assert threading.active_count() == threads
    for timer in timers:
        timer.cancel()


def test_an_engine_for_tests_serves_all_kinds_of_timers(everbeat_engine: TestEngine) -> None:
    """T1, L12, D10"""
    told: list[str] = []
    once = everbeat.threading.after(HOUR, told.append, "tea")
    too_late = everbeat_engine.after(2 * HOUR, told.append, "late")
    task = everbeat.threading.PeriodicTask(HOUR, told.append, "beat")
    task.start()
    everbeat_engine.advance(HOUR)
    assert sorted(told) == ["beat", "tea"] and not once.cancel() and too_late.cancel()
    everbeat_engine.advance(2 * HOUR)
    assert sorted(told) == ["beat", "beat", "beat", "tea"]
    task.stop()


def test_the_engine_for_tests_is_that_of_everybody_for_a_while() -> None:
    """T1"""
    with TestEngine() as outer:
        with TestEngine() as inner:
            innermost = everbeat.threading.Timer(1, lambda: None)
        moved = everbeat.threading.Timer(1, lambda: None)
        innermost.start()
        moved.start()
        outer.advance(5)
        assert (moved.hit_count, innermost.hit_count) == (6, 0)
        inner.settle()
        assert innermost.hit_count == 1
    other = everbeat.threading.Timer(HOUR, lambda: None)
    other.start()
    assert other.wait(hit_count=1, timeout=10)
    other.cancel()
