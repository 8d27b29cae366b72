"""R7, O3: what is reported and counted. And how the loop is asked to come back."""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

import everbeat.threading
from everbeat import Timer

LONG = 30


class Watching(asyncio.SelectorEventLoop):
    """Knows which calls the library has asked for, and which of them are armed."""

    def __init__(self) -> None:
        super().__init__()
        self.handles: list[asyncio.TimerHandle] = []
        self.rung = 0
        self.readers = 0
        self.most = 0

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        if not type(callback).__module__.startswith("everbeat"):
            return super().call_at(when, callback, *args, context=context)

        def ring() -> None:
            self.rung += 1
            callback()

        assert not args
        handle = super().call_at(when, ring, context=context)
        self.handles.append(handle)
        self.most = max(self.most, self.armed())
        return handle

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        self.readers += type(callback).__module__.startswith("everbeat")
        super().add_reader(fd, callback, *args)

    def armed(self) -> int:
        return sum(not handle.cancelled() for handle in self.handles) - self.rung


def watched(test: Callable[[Watching], Any]) -> None:
    with asyncio.Runner(loop_factory=Watching) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Watching)
        runner.run(test(loop))


@pytest.mark.parametrize("count", [1, 300])
def test_s9_one_call_of_the_loop_is_armed_for_any_number_of_timers(count: int) -> None:
    async def test(loop: Watching) -> None:
        async with contextlib.AsyncExitStack() as running:
            for number in range(count):
                # Falling, so that each is due before all that were started earlier.
                timer = Timer(0.02, lambda: 1, initial_delay=100 + 0.01 * (count - number))
                await running.enter_async_context(timer)
            await asyncio.sleep(0.001)
            assert loop.armed() == 1
            for _ in range(3):
                quick = await running.enter_async_context(Timer(50, lambda: 1))
                await quick.join()
            await asyncio.sleep(0.001)
            assert loop.armed() == 1
        assert loop.most == 1 and loop.readers == 0

    watched(test)


@pytest.mark.skipif(sys.platform != "linux", reason="by a timer of Linux")
def test_s9_a_precise_timer_waits_by_a_descriptor_and_asks_for_no_call() -> None:
    async def test(loop: Watching) -> None:
        async with Timer(0.002, lambda: 1, precision="fine") as timer:
            await timer.wait(hits=3)
        assert loop.readers == 1 and loop.handles == []

    watched(test)


def hold() -> None:
    time.sleep(0.11)  # the threshold is a tenth of a second


async def hold_the_loop() -> None:
    await asyncio.sleep(0)
    hold()


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.name for record in caplog.records if "blocked" in record.getMessage()]


@pytest.mark.parametrize("target", [hold, hold_the_loop])
def test_r7_a_run_that_blocks_its_loop_is_reported_and_counted(
    target: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        timer = Timer(0.001, target, name="slow", max_runs=1)
        for runs in (1, 2):
            timer.start()
            await timer.wait()
            assert timer.stats().blocked == runs

    asyncio.run(test())
    assert reports(caplog) == ["everbeat.timer.slow"] * 2


def test_r7_the_count_of_blocking_runs_moves_with_the_timer_to_another_loop() -> None:
    timer = Timer(0.001, hold_the_loop, max_runs=1)

    async def test() -> None:
        timer.start()
        await timer.wait()

    for runs in (1, 2):
        asyncio.run(test())
        assert timer.stats().blocked == runs


def test_r7_an_offloaded_run_blocks_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with Timer(10, hold, offload=True) as timer:
            await timer.join()
            assert timer.stats().blocked == 0

    asyncio.run(test())
    assert reports(caplog) == []


@pytest.mark.parametrize("inline", [True, False])
def test_r7_a_run_that_blocks_the_thread_of_its_engine_is_reported_and_counted(
    inline: bool, caplog: pytest.LogCaptureFixture
) -> None:
    timer = everbeat.threading.Timer(0.001, hold, name="slow", max_runs=1, inline=inline, start=True)
    assert timer.wait(timeout=LONG)
    assert timer.stats().blocked == inline
    assert reports(caplog) == ["everbeat.timer.slow"] * inline


def test_o3_histograms_are_filled_if_they_are_wanted() -> None:
    async def test() -> None:
        for wanted in (True, False):
            async with Timer(0.001, lambda: time.sleep(0.001), histograms=wanted) as timer:
                await timer.wait(hits=3)
            stats = timer.stats()
            assert stats.lateness.count == stats.duration.count == stats.runs * wanted
            if wanted:
                assert stats.duration.mean >= 0.001 and stats.duration.max >= stats.duration.mean
                assert stats.lateness.p50 is not None and stats.duration.p99 is not None
            else:
                assert stats.lateness.p50 is None and stats.duration.max == 0

    asyncio.run(test())


def test_o2_the_logger_of_a_blocking_run_can_be_silenced(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "everbeat.timer.quiet")

    async def test() -> None:
        async with Timer(10, hold, name="quiet") as timer:
            await timer.join()

    asyncio.run(test())
    assert reports(caplog) == []
