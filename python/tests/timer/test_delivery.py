"""D: who is told of what, and when."""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from everbeat import ScheduleError, Timer, TimerNotRunningError, TimerStoppedError
from tests.support import PENDING, Stopwatch, Times, settled, spin, virtual

pytestmark = pytest.mark.asyncio


class Planned(Exception):
    """What a run raises that is to fail."""


def fails_at(last: int) -> Callable[[], int]:
    count = 0

    def run() -> int:
        nonlocal count
        count += 1
        if count == last:
            raise Planned
        return count

    return run


async def test_d1_the_count_is_raised_after_the_run_and_before_anybody_is_woken() -> None:
    inside = list[int]()

    def run() -> int:
        inside.append(timer.hit_count)
        return len(inside)

    timer = Timer(0.01, run)
    assert (timer.hit_count, timer.last_result, timer.last_tick_at) == (0, None, None)
    async with timer:
        for number in range(1, 6):
            assert await timer.join() == number
            assert (timer.hit_count, timer.last_result) == (number, number)
    assert inside == [0, 1, 2, 3, 4]


async def test_d1_the_time_of_the_last_tick_is_that_of_the_loop() -> None:
    async with Timer(1, lambda: None, initial_delay=0.5) as timer:
        began = virtual().time()
        await timer.wait(hit_count=3)
        assert timer.last_tick_at == pytest.approx(began + 2.5, abs=1e-8)
    assert timer.last_tick_at == pytest.approx(began + 2.5, abs=1e-8)


async def test_d1_a_result_of_none_counts() -> None:
    async with Timer(0.01, lambda: None) as timer:
        assert await timer.join() is None
    assert timer.hit_count == 1


async def test_d1_everything_can_be_read_on_another_thread() -> None:
    async with Timer(1, lambda: "value", name="named") as timer:
        await timer.join()

        def read() -> tuple[Any, ...]:
            return (
                timer.last_result,
                timer.hit_count,
                timer.is_running(),
                timer.delay,
                timer.name,
                timer.is_paused(),
            )

        assert await asyncio.to_thread(read) == ("value", 1, True, 1.0, "named", False)


async def test_d2_join_is_the_next_tick_for_everybody_who_waits() -> None:
    times = Times()
    async with Timer(0.01, times) as timer:
        assert await asyncio.gather(*(timer.join() for _ in range(5))) == [1] * 5
        await asyncio.sleep(0.035)
        assert await timer.join() == 5


async def test_d2_join_during_a_run_is_that_run() -> None:
    async with Timer(0.01, Times().taking(0.02)) as timer:
        await asyncio.sleep(0.005)
        assert await timer.join() == 1


async def test_d2_a_request_is_made_by_the_call_and_not_by_the_await() -> None:
    async with Timer(0.01, Times()) as timer:
        await timer.wait(hit_count=2)
        answer = timer.join()
        await asyncio.sleep(0.035)
        assert await answer == 3
        with pytest.raises(RuntimeError, match="awaited already"):
            await answer


async def test_d2_who_does_not_await_is_not_complained_about() -> None:
    async with Timer(0.01, Times()) as timer:
        timer.join()
        timer.trigger()
        timer.wait()
        await timer.wait(hit_count=2)


async def test_d3_a_count_is_reached_at_once_if_it_was() -> None:
    async with Timer(0.01, Times()) as timer:
        await timer.wait(hit_count=3)
        for count in (0, 2, 3):
            assert settled(timer.wait(hit_count=count)) is not PENDING
        assert settled(timer.wait(hits=0)) is not PENDING
        assert settled(timer.wait(hit_count=4)) is PENDING


async def test_d3_waiting_for_hits_returns_the_latest_value() -> None:
    watch = Stopwatch()
    async with Timer(0.01, Times()) as timer:
        assert await timer.wait(hit_count=3) == 3
        assert await timer.wait(hits=2) == 5
        assert watch.ms == 40


async def test_d3_ticks_that_pass_between_two_wake_ups_are_counted() -> None:
    async with Timer(0.01, Times(), mode="fixed_rate") as timer:
        wait = asyncio.create_task(
            timer.wait(hit_count=50).__await__.__self__ if False else waiting(timer, 50)
        )
        assert await wait == 50


async def waiting(timer: Timer[Any], count: int) -> Any:
    return await timer.wait(hit_count=count)


async def test_d3_a_timer_that_ends_at_n_satisfies_the_wait() -> None:
    timer = Timer(0.01, Times(), max_runs=3)
    timer.start()
    assert await timer.wait(hit_count=3) == 3
    timer.start()
    with pytest.raises(TimerStoppedError):
        await timer.wait(hit_count=7)


async def test_d3_a_timeout_of_a_counting_wait_is_an_error() -> None:
    watch = Stopwatch()
    async with Timer(0.01, Times()) as timer:
        with pytest.raises(TimeoutError, match="hit count 10"):
            await timer.wait(hit_count=10, timeout=0.025)
        with pytest.raises(TimeoutError):
            await timer.wait(hits=10, timeout=0.025)
        assert watch.ms == 50
        assert await timer.wait(hits=1, timeout=100) == 7
        await asyncio.sleep(1)  # the time limit that was not needed does no harm


async def test_d3_a_timeout_of_the_idle_wait_is_none() -> None:
    watch = Stopwatch()
    async with Timer(0.01, Times()) as timer:
        await timer.wait(timeout=0.025)
        assert (watch.ms, timer.is_running()) == (25, True)
        await timer.wait(timeout=0)


async def test_d3_the_idle_wait_returns_when_the_timer_ends() -> None:
    timer = Timer(0.01, Times(), max_runs=3)
    assert await timer.wait() is None
    timer.start()
    assert await timer.wait() == 3
    assert await timer.wait() is None  # nothing has come since this call


async def test_d4_iterating_ends_with_the_timer() -> None:
    async with Timer(0.01, Times(), max_runs=3) as timer:
        assert [value async for value in timer] == [1, 2, 3]
    assert [value async for value in timer] == []


async def test_d4_iterating_raises_the_failure() -> None:
    timer = Timer(0.01, fails_at(3), lambda *_: None)
    timer.start()
    seen = list[int]()
    with pytest.raises(Planned):
        async for value in timer:
            seen.append(value)
    assert seen == [1, 2]


async def test_d4_iterating_over_a_cancelled_timer_ends_cleanly() -> None:
    seen = list[int]()
    async with Timer(0.01, Times()) as timer:
        async for value in timer:
            seen.append(value)
            if value == 3:
                await timer.cancel()
    assert seen == [1, 2, 3]


async def test_d4_the_end_that_a_call_raises_ends_the_iteration() -> None:
    async with Timer(0.01, iter([5, 6]).__next__) as timer:
        assert [value async for value in timer] == [5, 6]


async def test_e2_a_negative_count_is_refused() -> None:
    async with Timer(0.01, Times()) as timer:
        for field in ("hit_count", "hits"):
            with pytest.raises(ScheduleError, match=f"{field} must be a whole number of at least 0, got -3"):
                timer.wait(**{field: -3})
            with pytest.raises(ScheduleError, match=f"{field} must be a whole number of at most {2**64 - 1}"):
                timer.wait(**{field: 2**64})
            with pytest.raises(TypeError, match=f"{field} must be a whole number, not str"):
                timer.wait(**{field: "3"})


async def test_d5_trigger_returns_a_run_that_started_after_the_call() -> None:
    times = Times()
    async with Timer(10, times.taking(1)) as timer:
        await asyncio.sleep(0.5)
        assert await timer.trigger() == 2
        assert times.at == [0, 1_000]
        await asyncio.sleep(3)
        assert await timer.trigger() == 3
    assert times.at == [0, 1_000, 5_000]


async def test_d5_all_triggers_during_a_run_share_one_follow_up() -> None:
    times = Times()
    async with Timer(10, times.taking(1)) as timer:
        await asyncio.sleep(0.5)
        assert await asyncio.gather(*(timer.trigger() for _ in range(20))) == [2] * 20
    assert len(times.at) == 2


async def test_d5_a_failing_run_fails_its_triggers() -> None:
    async with Timer(10, fails_at(2), lambda *_: None, on_error="continue") as timer:
        await timer.join()
        with pytest.raises(Planned):
            await timer.trigger()
        assert await timer.trigger() == 3


async def test_d5_a_trigger_takes_effect_even_if_nobody_waits() -> None:
    times = Times()
    async with Timer(10, times) as timer:
        await timer.join()
        timer.trigger()
        await asyncio.sleep(0.1)
    assert len(times.at) == 2


async def test_d9_a_failure_is_told_to_whoever_asks_later_until_the_next_start() -> None:
    timer = Timer(0.01, fails_at(2), lambda *_: None)
    timer.start()
    await timer.wait(hit_count=1)
    await asyncio.sleep(1)
    asks: list[Callable[[], Awaitable[Any]]] = [
        timer.join,
        timer.trigger,
        timer.wait,
        lambda: timer.wait(hits=1),
        lambda: anext(timer),
        lambda: anext(timer.subscribe()),
    ]
    for ask in asks * 2:
        with pytest.raises(Planned):
            await ask()
    timer.start()
    assert await timer.join() == 3
    await timer.cancel()
    with pytest.raises(TimerNotRunningError):
        await timer.join()


async def test_d9_cancel_of_a_failed_timer_is_no_error() -> None:
    timer = Timer(0.01, fails_at(1), lambda *_: None)
    timer.start()
    await asyncio.sleep(0.005)
    assert await timer.cancel() is None
    assert await timer.shutdown(1) == "failed"


async def test_d11_a_slow_consumer_does_not_hold_the_timer_up() -> None:
    times = Times()
    async with Timer(0.01, times, mode="fixed_rate") as timer:
        seen = list[int]()
        async for value in timer:
            seen.append(value)
            await asyncio.sleep(0.045)
            if len(seen) == 3:
                break
    assert times.at == [10 * slot for slot in range(len(times.at))]
    assert seen == [1, 6, 11]


async def test_d11_whoever_is_woken_has_a_turn_before_the_next_tick() -> None:
    order = list[str]()
    async with Timer(0, lambda: order.append("tick")) as timer:

        async def consume() -> None:
            async for _ in timer:
                order.append("seen")
                if len(order) > 50:
                    break

        await consume()
    pairs = list(zip(order[::2], order[1::2], strict=False))
    assert set(pairs[1:]) == {("tick", "seen")}


async def test_l6_answers_in_tasks_gather_timeout_and_wait_for() -> None:
    async with Timer(1, Times()) as timer:
        await timer.join()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(timer.join(), 0.5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await timer.wait(hits=3)
        done, pending = await asyncio.wait(
            [asyncio.ensure_future(timer.join()), asyncio.ensure_future(asyncio.sleep(0.1))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        assert len(done) == 1
        (task,) = pending
        assert await task == 2


async def test_d2_a_task_that_waits_on_a_timer_is_not_lost() -> None:
    seen = list[int]()
    timer = Timer(1, Times(), initial_delay=1)
    timer.start()

    async def forgotten() -> None:
        seen.append(await timer.join())
        seen.append(await timer.wait(hits=2))

    # Tasks are only weakly known to their loop: whoever waits must be kept by what is waited for.
    asyncio.get_running_loop().call_soon(asyncio.ensure_future, forgotten())
    for _ in range(5):
        await asyncio.sleep(1)
        gc.collect()
    await timer.cancel()
    assert seen == [1, 3]


async def test_d9_the_traceback_begins_in_the_target() -> None:
    timer = Timer(0.01, fails_at(1), lambda *_: None)
    timer.start()
    with pytest.raises(Planned) as raised:
        await timer.wait()
    assert raised.traceback[-1].name == "run"
    assert sys.exc_info() == (None, None, None)


async def test_d2_awaiting_in_another_loop_than_the_timers() -> None:
    """An answer wakes its task in the loop of that task."""
    async with Timer(1, Times()) as timer:
        await timer.join()

        def elsewhere() -> Any:
            async def main() -> Any:
                return await timer.trigger()

            return asyncio.run(main())

        assert await asyncio.to_thread(elsewhere) == 2
        await spin()
