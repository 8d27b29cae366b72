"""L1 to L7: starting and ending."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from everbeat import (
    Timer,
    TimerAlreadyRunningError,
    TimerError,
    TimerNotRunningError,
    TimerRestartError,
    TimerStoppedError,
)
from tests.support import Stopwatch, Times, spin

pytestmark = pytest.mark.asyncio


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_l1_start_on_a_running_timer_is_an_error() -> None:
    async with Timer(1, Times(), name="once") as timer:
        with pytest.raises(TimerAlreadyRunningError, match="once"):
            timer.start()
        assert timer.is_running()
        assert await timer.join() == 1


async def test_l1_start_in_the_constructor() -> None:
    timer = Timer(1, Times(), start=True)
    assert timer.is_running()
    assert await timer.join() == 1
    await timer.cancel()


async def test_l1_start_without_a_loop_is_an_error() -> None:
    timer = Timer(1, Times())
    with pytest.raises(RuntimeError, match="no running event loop"):
        await asyncio.to_thread(timer.start)
    assert not timer.is_running()


async def test_l2_cancel_gives_the_run_up_and_returns_when_nothing_is_left() -> None:
    order = list[str]()

    async def run() -> None:
        try:
            await forever()
        finally:
            order.append("cleaning up")
            await asyncio.sleep(1)
            order.append("cleaned up")

    timer = Timer(1, run, None, lambda *_: order.append("told"))
    timer.start()
    await asyncio.sleep(0.5)
    await timer.cancel()
    order.append("returned")
    assert order == ["cleaning up", "cleaned up", "told", "returned"]
    assert not timer.is_running()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_l2_cancel_is_idempotent() -> None:
    ends = list[bool]()
    timer = Timer(1, Times(), None, lambda *_: ends.append(True))
    await timer.cancel()
    assert ends == []
    timer.start()
    await asyncio.gather(timer.cancel(), timer.stop(), timer.cancel())
    await timer.cancel()
    assert ends == [True]


async def test_l2_cancel_before_the_first_tick() -> None:
    times = Times()
    timer = Timer(1, times)
    timer.start()
    await timer.cancel()
    await asyncio.sleep(10)
    assert times.at == []


async def test_l2_a_run_that_swallows_its_cancellation_is_waited_for_and_not_repeated() -> None:
    times = Times()

    async def run() -> None:
        times()
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(1)

    timer = Timer(0.01, run)
    timer.start()
    await spin()
    watch = Stopwatch()
    await timer.cancel()
    assert watch.ms == 1_000
    assert len(times.at) == 1


async def test_l2_a_cleanup_that_fails_is_reported_and_the_timer_ends(
    recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    seen = list[Any]()
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))

    async def run() -> None:
        try:
            await forever()
        finally:
            raise ValueError

    timer = Timer(0.01, run, lambda *_: seen.append("told"))
    timer.start()
    await spin()
    await timer.cancel()
    assert seen == [ValueError]


@pytest.mark.parametrize("is_async", [False, True])
async def test_l2_a_run_that_has_ended_when_its_timer_is_cancelled_counts(is_async: bool) -> None:
    def run() -> int:
        timer.cancel()
        return 1

    async def run_in_a_task() -> int:
        return run()

    timer = Timer(0.01, run_in_a_task if is_async else run)
    timer.start()
    assert await timer.join() == 1
    await timer.wait()
    assert timer.hit_count == 1


async def test_l3_shutdown_drains() -> None:
    times = Times()
    timer = Timer(1, times.taking(2))
    timer.start()
    await asyncio.sleep(0.5)
    watch = Stopwatch()
    assert await timer.shutdown(10) == "drained"
    assert (watch.ms, timer.hit_count, timer.last_result) == (1_500, 1, 1)


async def test_l3_shutdown_cancels_after_its_grace() -> None:
    timer = Timer(1, forever)
    timer.start()
    await spin()
    watch = Stopwatch()
    assert await timer.shutdown(10) == "cancelled"
    assert watch.ms == 10_000
    assert await timer.shutdown(1) == "cancelled"


async def test_l3_shutdown_of_a_timer_that_does_not_run() -> None:
    assert await Timer(1, Times()).shutdown(1) == "drained"


async def test_l3_a_cancel_overtakes_a_shutdown() -> None:
    timer = Timer(1, forever)
    timer.start()
    draining = asyncio.create_task(shut_down(timer))
    await asyncio.sleep(1)
    watch = Stopwatch()
    await timer.cancel()
    assert await draining == "cancelled"
    assert watch.ms == 0


async def shut_down(timer: Timer[Any]) -> Any:
    return await timer.shutdown(3600)


@pytest.mark.parametrize("stop", ["cancel", "stop", "shutdown"])
@pytest.mark.parametrize("period", [0, 0.01])
async def test_l4_no_run_starts_once_a_stop_was_called(stop: str, period: float) -> None:
    times = Times()
    timer = Timer(period, times)
    for _ in range(20):
        timer.start()
        await timer.wait(hits=3)
        ending = timer.shutdown(1) if stop == "shutdown" else getattr(timer, stop)()
        count = len(times.at)
        await spin()
        await ending
        await asyncio.sleep(0.1)
        assert len(times.at) == count


Command = Callable[[Timer[Any]], Any]


@pytest.mark.parametrize(
    "command",
    [lambda t: t.cancel(), lambda t: t.stop(), lambda t: t.shutdown(1), lambda t: t.shutdown(0)],
    ids=["cancel", "stop", "shutdown", "shutdown at once"],
)
async def test_l5_ending_from_inside_the_target(command: Command) -> None:
    ends = list[bool]()
    after = list[bool]()

    async def run() -> int:
        if timer.hit_count == 1:
            await command(timer)
            after.append(True)
        return timer.hit_count

    timer = Timer(0.01, run, None, lambda *_: ends.append(True))
    timer.start()
    await timer.wait()
    assert (timer.is_running(), ends) == (False, [True])
    assert timer.hit_count == 1 + len(after)


async def test_l5_ending_from_inside_a_sync_target() -> None:
    def run() -> int:
        if timer.hit_count == 2:
            timer.cancel()
        return timer.hit_count

    timer = Timer(0.01, run)
    timer.start()
    await timer.wait()
    assert timer.hit_count == 3


async def test_l5_ending_from_a_generator() -> None:
    def run() -> Any:
        yield 1
        timer.cancel()
        yield 2
        yield 3

    timer = Timer(0.01, run)
    timer.start()
    await timer.wait()
    assert timer.last_result == 2


async def test_l5_everything_may_be_called_from_inside_the_callbacks() -> None:
    starts = 0

    def again(timer: Timer[Any], _target: object) -> None:
        nonlocal starts
        starts += 1
        timer.cancel()
        timer.trigger()
        timer.join()
        timer.set_delay(0.02)
        timer.pause()
        timer.resume()
        with pytest.raises(TimerAlreadyRunningError):
            timer.start()  # its end is not over before the callback is
        if starts < 3:
            asyncio.get_running_loop().call_soon(timer.start)

    timer = Timer(0.01, Times(), None, again, max_runs=2)
    timer.start()
    await asyncio.sleep(1)
    assert (starts, timer.hit_count) == (3, 6)


async def test_l5_ending_from_inside_exc_cb() -> None:
    def fail() -> None:
        raise ValueError

    timer = Timer(0.01, fail, lambda timer, _: timer.cancel(), on_error="continue")
    timer.start()
    await timer.wait()
    assert not timer.is_running()


@pytest.mark.parametrize(
    "ask",
    [
        lambda t: t.join(),
        lambda t: t.trigger(),
        lambda t: t.wait(hits=2),
        lambda t: t.wait(),
        lambda t: t.wait(timeout=20),
    ],
)
async def test_l5_what_would_wait_for_itself_is_refused(ask: Command) -> None:
    async def run() -> None:
        await ask(timer)

    timer = Timer(0.01, run, lambda *_: None)
    timer.start()
    with pytest.raises(TimerError, match="inside its own run"):
        await timer.wait()


async def test_l5_a_run_may_ask_for_another_and_not_wait() -> None:
    times = Times()

    async def run() -> None:
        if times() < 3:
            timer.trigger()

    async with Timer(10, run) as timer:
        await asyncio.sleep(1)
    assert times.at == [0, 0, 0]


@pytest.mark.parametrize(
    "ask",
    [
        lambda t: t.cancel(),
        lambda t: t.stop(),
        lambda t: t.shutdown(100),
        lambda t: t.join(),
        lambda t: t.trigger(),
        lambda t: t.wait(),
        lambda t: t.wait(hits=5),
        lambda t: t.wait(hits=5, timeout=1000),
        lambda t: anext(t),
        lambda t: anext(t.subscribe()),
    ],
)
async def test_l6_whoever_waits_can_be_cancelled(ask: Command) -> None:
    async def run() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(10)

    timer = Timer(0.01, run)
    timer.start()
    await spin()

    async def caller() -> None:
        await ask(timer)

    task = asyncio.create_task(caller())
    await asyncio.sleep(0.1)
    assert not task.done()
    task.cancel("because")
    watch = Stopwatch()
    with pytest.raises(asyncio.CancelledError, match="because"):
        await task
    assert watch.ms == 0
    assert task.cancelled()
    await timer.cancel()


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("ask", ["cancel", "join", "trigger", "wait", "shutdown"])
async def test_l6_at_every_await_on_the_way(ask: str, turns: int) -> None:
    """Wherever the cancellation meets its caller, it is either in time or too late, never swallowed."""
    timer = Timer(0, Times().taking(0))
    timer.start()
    await timer.join()

    async def caller() -> None:
        await (timer.shutdown(1) if ask == "shutdown" else getattr(timer, ask)())

    task = asyncio.create_task(caller())
    await spin(turns)
    in_time = task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() == in_time
    await timer.cancel()


async def test_l6_a_cancel_goes_on_when_its_caller_is_cancelled() -> None:
    ends = list[bool]()

    async def run() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(1)

    timer = Timer(0.01, run, None, lambda *_: ends.append(True))
    timer.start()
    await spin()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await timer.cancel()
    assert ends == []
    await asyncio.sleep(1)
    assert (ends, timer.is_running()) == ([True], False)


async def test_l6_a_cancel_of_a_run_on_a_thread_goes_on_when_its_caller_is_cancelled() -> None:
    go_on, ends = threading.Event(), list[bool]()

    def run() -> None:
        go_on.wait(10)

    timer = Timer(0.01, run, None, lambda *_: ends.append(True), offload=True, start=True)
    while not timer.stats().busy:
        await spin(1)
    for _ in range(2):
        caller = asyncio.ensure_future(timer.cancel())
        await spin()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
    assert ends == [] and timer.stats().busy
    go_on.set()
    await timer.cancel()
    assert (ends, timer.is_running(), timer.stats().runs) == ([True], False, 1)


async def test_l6_leaving_the_block_by_cancellation() -> None:
    ends = list[bool]()

    async def body() -> None:
        async with Timer(0.01, Times(), None, lambda *_: ends.append(True)):
            await forever()

    task = asyncio.create_task(body())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends == [True]


async def test_l7_restart_has_a_fresh_schedule_and_counts_go_on() -> None:
    times = Times()
    timer = Timer(0.01, times, initial_delay=0.005)
    for _ in range(3):
        timer.start()
        await timer.wait(hits=2)
        await timer.cancel()
        await asyncio.sleep(0.1)
    assert times.at == [5, 15, 120, 130, 235, 245]
    assert timer.hit_count == 6


async def test_l7_restart_the_moment_cancel_returns() -> None:
    times = Times()
    timer = Timer(0.01, times.taking(0.001))
    for count in range(1, 50):
        timer.start()
        assert await timer.join() == count
        await timer.cancel()


async def test_l7_restart_after_a_failure_forgets_it() -> None:
    def run() -> int:
        if timer.hit_count == 0 and not failed:
            failed.append(True)
            raise ValueError
        return 1

    failed = list[bool]()
    timer = Timer(0.01, run, lambda *_: None)
    timer.start()
    with pytest.raises(ValueError):
        await timer.wait()
    timer.start()
    assert await timer.join() == 1
    await timer.cancel()


async def test_l7_cancel_aws_serve_for_one_start() -> None:
    stop = asyncio.get_running_loop().create_future()
    timer = Timer(0.01, Times(), cancel_aws=[stop], name="single")
    timer.start()
    await timer.cancel()
    with pytest.raises(TimerRestartError, match="single"):
        timer.start()
    assert not timer.is_running()


async def test_l7_without_conditions_there_is_nothing_to_refuse() -> None:
    timer = Timer(0.01, Times(), cancel_aws=[], max_runs=1)
    for _ in range(2):
        timer.start()
        await timer.wait()
    assert timer.hit_count == 2


@pytest.mark.parametrize("ask", [lambda t: t.join(), lambda t: t.trigger(), lambda t: t.wait(hits=1)])
async def test_e3_a_timer_that_does_not_run_says_so(ask: Command) -> None:
    timer = Timer(0.01, Times(), name="idle")
    for _ in range(2):
        with pytest.raises(TimerNotRunningError, match="idle"):
            await ask(timer)
        timer.start()
        await timer.cancel()


@pytest.mark.parametrize("ask", [lambda t: t.join(), lambda t: t.trigger(), lambda t: t.wait(hits=1)])
async def test_e3_a_timer_that_is_stopped_tells_whoever_waits(ask: Command) -> None:
    timer = Timer(0.01, forever, name="stopped")
    timer.start()
    await spin()

    async def caller() -> None:
        await ask(timer)

    task = asyncio.create_task(caller())
    await spin()
    await timer.cancel()
    with pytest.raises(TimerStoppedError, match="stopped"):
        await task


async def test_l6_who_compares_callbacks_may_end_the_wait() -> None:
    timer = Timer(1, Times(), initial_delay=3600)
    timer.start()
    pause: Any = next(timer.join().__await__())
    told: list[str] = []

    class Nosy:
        def __call__(self, _: object) -> None:
            told.append("nosy")

        def __eq__(self, other: object) -> bool:
            pause.cancel()
            return False

        __hash__ = None  # type: ignore[assignment]

    pause.add_done_callback(Nosy())
    pause.add_done_callback(lambda _: told.append("other"))
    assert pause.remove_done_callback("nobody") == 0
    await spin()
    assert told == ["nosy", "other"]
    assert pause.done()
    await timer.cancel()


async def test_l6_callbacks_of_a_wait_are_removed_by_equality() -> None:
    timer = Timer(1, Times(), initial_delay=3600)
    timer.start()
    pause: Any = next(timer.join().__await__())
    told: list[object] = []
    for callback in [told.append, print, told.append]:
        pause.add_done_callback(callback)
    assert pause.remove_done_callback(told.append) == 2
    assert pause.remove_done_callback(told.append) == 0
    assert pause.remove_done_callback(print) == 1
    await timer.trigger()
    await timer.cancel()
    assert not told
