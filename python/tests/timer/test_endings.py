"""L2, L6, L8 and R5: what ends at an awkward moment."""

import asyncio
import functools
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import everbeat.testing
from everbeat import Timer, TimerError, current_tick
from everbeat.testing import MockTimer
from everbeat.threading import Timer as ThreadTimer
from tests.support import spin


def task_of(timer_name: str) -> asyncio.Task[Any]:
    return next(task for task in asyncio.all_tasks() if task.get_name() == f"timer:{timer_name}")


@pytest.mark.asyncio
async def test_l6_a_cancellation_from_elsewhere_is_not_taken_for_that_of_a_run_over_its_limit() -> None:
    async def endless() -> None:
        await asyncio.sleep(1000)

    timer = Timer(1, endless, lambda *_: None, run_timeout=1, on_error="continue", name="limited")
    timer.start()
    await asyncio.sleep(1)
    task = task_of("limited")
    for _ in range(10):
        if task.cancelling():
            break
        await asyncio.sleep(0)
    assert task.cancel()  # before the run learns that it is given up
    await timer.wait(timeout=10)
    assert task.cancelled()
    assert not timer.is_running()


@pytest.mark.parametrize("busy", [True, False])
def test_l8_a_task_that_was_cancelled_with_its_loop_is_collected(busy: bool) -> None:
    async def run() -> None:
        if busy:
            await asyncio.sleep(10)

    async def main() -> weakref.ref[asyncio.Task[Any]]:
        timer = Timer(10, run, name="cancelled")
        timer.start()
        await asyncio.sleep(0.01)
        return weakref.ref(task_of("cancelled"))

    task = asyncio.run(main())
    gc.collect()
    assert task() is None


class Owner:
    """Owns the timer that calls it. The traceback of the failure refers to it."""

    def __init__(self, kind: Callable[..., Any]) -> None:
        self.timer = kind(10, self.fail, exc_cb=lambda *_: None)

    def fail(self) -> None:
        raise ValueError("no")


@pytest.mark.parametrize("offload", [False, True])
def test_l8_a_failure_keeps_no_cycle_alive(offload: bool) -> None:
    async def main() -> weakref.ref[Owner]:
        owner = Owner(functools.partial(Timer, offload=offload))
        owner.timer.start()
        with pytest.raises(ValueError, match="no"):
            await owner.timer.join()
        await spin()
        with pytest.raises(ValueError, match="no"):
            await owner.timer.wait()
        return weakref.ref(owner)

    owner = asyncio.run(main())
    gc.collect()
    assert owner() is None


def test_l8_a_failure_keeps_no_cycle_alive_on_threads() -> None:
    def fail() -> weakref.ref[Owner]:
        owner = Owner(ThreadTimer)
        owner.timer.start()
        with pytest.raises(ValueError, match="no"):
            owner.timer.wait(timeout=10)
        return weakref.ref(owner)

    owner = fail()
    gc.collect()
    assert owner() is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_r5_what_ends_the_program_does_not_disturb_the_end_of_its_loop(error: type[BaseException]) -> None:
    cleaned_up = list[bool]()

    async def other() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await spin()
            cleaned_up.append(True)

    async def fail() -> None:
        raise error

    async def main() -> None:
        task = asyncio.create_task(other())
        await spin()
        Timer(10, fail, lambda *_: None).start()
        await task

    with pytest.raises(error):
        asyncio.run(main())
    assert cleaned_up == [True]


@pytest.mark.asyncio
async def test_s11_conditions_of_a_timer_that_ended_before_its_first_run_are_cancelled() -> None:
    cancelled = list[bool]()

    async def condition() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            cancelled.append(True)

    timer = Timer(10, lambda: 1, initial_delay=10, cancel_aws=[condition()])
    timer.start()
    await spin()
    await timer.cancel()
    await spin()
    assert cancelled == [True]


@pytest.mark.asyncio
async def test_l1_a_start_that_fails_leaves_nothing_running() -> None:
    elsewhere = asyncio.new_event_loop()
    runs = list[int]()
    timer = Timer(10, lambda: runs.append(1), cancel_aws=[elsewhere.create_future()])
    with pytest.raises(ValueError, match="different loop"):
        timer.start()
    await spin()
    assert (runs, timer.is_running()) == ([], False)
    elsewhere.close()


@pytest.mark.asyncio
async def test_l9_what_is_left_of_a_timer_is_let_go_of_in_its_loop() -> None:
    asyncio.get_running_loop().set_debug(True)
    where = list[str]()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            where.append(threading.current_thread().name)

    async def condition() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            where.append(threading.current_thread().name)

    timer = Timer(10, items, cancel_aws=[condition()])
    timer.start()
    await timer.join()
    await spin()
    await asyncio.to_thread(timer.cancel_threadsafe, 10)
    await spin()
    assert where == [threading.current_thread().name] * 2


@pytest.mark.asyncio
async def test_l6_an_answer_belongs_to_one_task() -> None:
    async with Timer(1, lambda: 1) as timer:
        await timer.join()
        answer = timer.join()
        first = asyncio.ensure_future(answer)
        await spin()
        with pytest.raises(RuntimeError, match="awaited already"):
            await answer
        assert await first == 1


def test_l8_an_async_generator_may_end_its_timer_with_the_loop() -> None:
    """The loop closes all async generators at once, and timers end with the same: in any order."""
    ends = list[str]()

    async def source() -> AsyncIterator[int]:
        timer = Timer(10, lambda: 1, None, lambda *_: ends.append("timer"))
        timer.start()
        try:
            yield await timer.join()
        finally:
            await timer.cancel()
            ends.append("source")

    sources = [source() for _ in range(8)]

    async def main() -> None:
        for one in sources:
            assert await anext(one) == 1

    asyncio.run(main())
    assert sorted(ends) == ["source"] * 8 + ["timer"] * 8


@pytest.mark.parametrize("run", [asyncio.run, everbeat.testing.run])
def test_l8_a_loop_that_is_shut_down_closes_the_generators_of_its_timers(run: Callable[[Any], None]) -> None:
    notes = list[str]()

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0.01)
            notes.append("closed")

    async def main() -> None:
        timer = Timer(1, endless, cancel_cb=lambda *_: notes.append("told"))
        timer.start()
        await timer.join()

    run(main())
    assert notes == ["closed", "told"]


@pytest.mark.asyncio
async def test_l8_who_waits_when_a_loop_is_shut_down_is_told() -> None:
    timer = Timer(10, lambda: 1)
    timer.start()
    await timer.join()
    waiting = asyncio.ensure_future(timer.wait())
    await spin()
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.wait_for(waiting, 10)
    assert not timer.is_running()


@pytest.mark.parametrize("callback", ["exc_cb", "cancel_cb"])
def test_r5_what_ends_the_program_does_so_from_a_callback_too(callback: str) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def fail() -> None:
        raise ValueError

    async def main() -> None:
        callbacks: dict[str, Any] = {"exc_cb": lambda *_: None, callback: interrupt}
        Timer(10, fail, **callbacks).start()
        await asyncio.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())


def test_r5_a_target_that_runs_the_loop_itself_leaves_it_in_order() -> None:
    """As packages do that let loops nest. The inner loop finds a turn that was asked for, and can do nothing
    with it: a turn is being taken."""

    async def main() -> list[Any]:
        loop, complaints = asyncio.get_running_loop(), list[Any]()
        loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))
        other = Timer(3600, lambda: 1)
        other.start()
        await other.join()
        Timer(3600, lambda: loop._run_once(), initial_delay=0.01).start()  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        time.sleep(0.05)  # noqa: ASYNC251  # the timer is due, and so comes before the turn that is asked for now
        await asyncio.sleep(0)
        for _ in range(2):
            assert await asyncio.wait_for(other.trigger(), 10) == 1
        return complaints

    assert asyncio.run(main()) == []


@pytest.mark.parametrize("method", ["call_soon", "call_at"])
def test_l10_a_signal_while_a_turn_is_asked_for_reaches_the_program(method: str) -> None:
    """And the timers of those who catch it go on."""

    class Loop(asyncio.SelectorEventLoop):
        armed = False

    def interrupted(self: Loop, *args: Any, **options: Any) -> Any:
        if self.armed and any(type(arg).__name__ == "_Turn" for arg in args):
            self.armed = False
            raise KeyboardInterrupt
        return getattr(asyncio.SelectorEventLoop, method)(self, *args, **options)

    setattr(Loop, method, interrupted)
    timer = Timer(10, lambda: 1)

    async def main() -> None:
        timer.start()
        await timer.join()
        await asyncio.sleep(0)  # the turn is over
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        loop.armed = True
        timer.set_delay(0.01, rearm=True)
        await asyncio.sleep(1)

    async def go_on() -> None:
        await asyncio.wait_for(timer.wait(hits=2), 10)
        await timer.cancel()

    loop = Loop()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(main())
    loop.run_until_complete(go_on())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def test_l8_t3_a_mock_timer_that_has_ended_is_collected() -> None:
    async def main() -> weakref.ref[MockTimer[int]]:
        timer = MockTimer(1, lambda: 1, max_runs=3)
        timer.start()
        await timer.wait()
        assert len(timer.sleeps) >= 2
        return weakref.ref(timer)

    timer = asyncio.run(main())
    gc.collect()
    assert timer() is None


def test_r1_l2_an_offloaded_run_is_waited_for() -> None:
    active = most = 0

    def run() -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        time.sleep(0.1)
        active -= 1

    async def main() -> None:
        timer = Timer(0.01, run, lambda *_: None, offload=True, run_timeout=0.03, on_error="continue")
        timer.start()
        await asyncio.sleep(0.25)
        await timer.cancel()
        assert (most, active) == (1, 0)

    asyncio.run(main())


def test_l5_an_offloaded_run_may_end_its_timer() -> None:
    refused = list[str]()

    async def main() -> None:
        def run() -> None:
            try:
                timer.trigger_threadsafe(5)
            except TimerError as error:
                refused.append(str(error))
            timer.cancel_threadsafe(5)

        timer = Timer(0.01, run, offload=True)
        timer.start()
        await asyncio.wait_for(timer.wait(), 2)
        assert not timer.is_running()

    asyncio.run(main())
    assert len(refused) == 1


def test_s12_a_slow_callback_is_not_taken_for_the_slowness_of_the_next_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        loop, amiss = asyncio.get_running_loop(), list[float]()

        def run() -> None:
            tick = current_tick()
            assert tick is not None
            amiss.append(loop.time() - tick.scheduled - tick.lateness)

        first = Timer(10, lambda: 1, None, lambda *_: time.sleep(0.2), initial_delay=0.05, max_runs=1)
        others = [Timer(10, run, initial_delay=0.05) for _ in range(3)]
        for timer in (first, *others):
            timer.start()
        await others[-1].wait(hit_count=1)
        for timer in others:
            await timer.cancel()
        assert max(amiss) < 0.1

    asyncio.run(main())
    assert not [record for record in caplog.records if "blocked" in record.getMessage()]
