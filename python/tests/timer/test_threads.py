"""L9: control from other threads."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from everbeat import ThreadsafeDispatchError, Timer, TimerNotRunningError, TimerStoppedError
from tests.support import AskedLoop, Times, virtual

pytestmark = pytest.mark.asyncio


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def test_l9_cancel() -> None:
    ends = list[str]()
    timer = Timer(1, forever, None, lambda *_: ends.append(threading.current_thread().name))
    timer.start()
    await asyncio.sleep(0)
    assert await asyncio.to_thread(timer.cancel_threadsafe, 30) is None
    assert not timer.is_running()
    assert ends == ["MainThread"]
    await asyncio.to_thread(timer.cancel_threadsafe)


async def test_l9_trigger() -> None:
    async with Timer(1, Times().taking(0)) as timer:
        await timer.join()
        assert await asyncio.to_thread(timer.trigger_threadsafe, 30) == 2
        assert await asyncio.to_thread(timer.trigger_threadsafe) == 3


async def test_l9_trigger_raises_the_failure_of_the_run() -> None:
    def fail() -> None:
        raise ValueError("planned")

    timer = Timer(3600, fail, lambda *_: None, initial_delay=3600)
    timer.start()
    for _ in range(2):
        with pytest.raises(ValueError, match="planned"):
            await asyncio.to_thread(timer.trigger_threadsafe, 30)
    await timer.cancel()


async def test_l9_trigger_of_a_timer_that_has_ended() -> None:
    timer = Timer(1, Times(), name="ended")
    timer.start()
    await timer.cancel()
    with pytest.raises(TimerNotRunningError, match="ended"):
        await asyncio.to_thread(timer.trigger_threadsafe, 30)


async def test_l9_a_timeout_is_an_error_and_what_was_asked_stands() -> None:
    gate = asyncio.Event()

    async def run() -> None:
        try:
            await forever()
        finally:
            await gate.wait()

    timer = Timer(1, run)
    timer.start()
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError, match="did not answer"):
        await asyncio.to_thread(timer.trigger_threadsafe, 0)
    with pytest.raises(TimeoutError, match="did not answer"):
        await asyncio.to_thread(timer.cancel_threadsafe, 0.05)
    gate.set()
    await timer.wait()
    assert not timer.is_running()


CALLS: list[Callable[[Timer[Any]], Any]] = [
    lambda timer: timer.cancel_threadsafe(timeout=1),
    lambda timer: timer.trigger_threadsafe(timeout=1),
]


@pytest.mark.parametrize("call", CALLS)
async def test_l9_refused_in_the_loop_of_the_timer(call: Callable[[Timer[Any]], Any]) -> None:
    async with Timer(1, Times(), name="here") as timer:
        with pytest.raises(ThreadsafeDispatchError, match=r"here.*await"):
            call(timer)


@pytest.mark.parametrize("call", CALLS)
async def test_l9_refused_before_the_start(call: Callable[[Timer[Any]], Any]) -> None:
    timer = Timer(1, Times(), name="early")
    with pytest.raises(ThreadsafeDispatchError, match=r"early.*not been started"):
        await asyncio.to_thread(call, timer)


@pytest.mark.parametrize("call", CALLS)
async def test_l9_refused_after_the_loop_was_closed(call: Callable[[Timer[Any]], Any]) -> None:
    timer = Timer(1, lambda: 1, name="late")

    def use() -> None:
        async def main() -> None:
            timer.start()
            await timer.join()

        asyncio.run(main())

    await asyncio.to_thread(use)
    with pytest.raises(ThreadsafeDispatchError, match=r"late.*closed"):
        call(timer)


async def test_l9_a_loop_that_closes_answers_whoever_blocks() -> None:
    timer = Timer(3600, forever)
    entered, answers = threading.Event(), list[str]()

    def use() -> None:
        async def main() -> None:
            timer.start()
            await asyncio.sleep(0.01)
            entered.set()
            await asyncio.sleep(0.1)

        asyncio.run(main())

    thread = threading.Thread(target=use)
    thread.start()
    await asyncio.to_thread(entered.wait)

    def block() -> None:
        try:
            timer.trigger_threadsafe(30)
        except Exception as error:
            answers.append(type(error).__name__)

    await asyncio.to_thread(block)
    thread.join()
    assert answers in (["TimerStoppedError"], ["ThreadsafeDispatchError"])


async def test_l9_a_loop_that_is_only_closed_answers_whoever_blocks() -> None:
    timer = Timer(3600, Times(), initial_delay=3600)

    async def start() -> None:
        timer.start()

    def use() -> None:
        loop = AskedLoop()
        loop.run_until_complete(start())
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(timer.trigger_threadsafe)
            assert loop.asked.wait(30)
            loop.close()
            with pytest.raises(TimerStoppedError):
                answer.result(30)

    await asyncio.to_thread(use)
    assert not timer.is_running()


async def test_l9_ctrl_c_ends_a_wait_in_the_middle_of_a_look_at_the_loop() -> None:
    timer = Timer(3600, Times(), initial_delay=3600)

    class Loop(AskedLoop):
        def is_closed(self) -> bool:
            if self.asked.is_set() and threading.current_thread().name == "asker_0":
                raise KeyboardInterrupt
            return super().is_closed()

    async def start() -> None:
        timer.start()

    async def stop() -> None:
        await timer.cancel()

    def use() -> None:
        loop = Loop()
        loop.run_until_complete(start())
        with ThreadPoolExecutor(thread_name_prefix="asker") as pool:
            assert isinstance(pool.submit(timer.trigger_threadsafe, 30).exception(30), KeyboardInterrupt)
        loop.run_until_complete(stop())
        loop.close()

    await asyncio.to_thread(use)


async def test_l9_d5_many_threads_hammer_one_timer() -> None:
    active = 0

    async def run() -> int:
        nonlocal active
        active += 1
        assert active == 1
        await asyncio.sleep(0)
        active -= 1
        return 1

    timer = Timer(0.001, run)
    timer.start()
    failures = list[BaseException]()

    def hammer(seed: int) -> None:
        try:
            for turn in range(30):
                timer.trigger_threadsafe(30)
                timer.set_delay(0.001 * (1 + (seed + turn) % 3), rearm=turn % 2 == 0)
                if turn % 5 == seed:
                    timer.pause()
                assert timer.last_result == 1
                timer.resume()
                assert timer.is_running()
        except BaseException as error:
            failures.append(error)
            raise

    await asyncio.gather(*(asyncio.to_thread(hammer, seed) for seed in range(6)))
    await timer.cancel()
    assert failures == []
    assert timer.hit_count >= 30


async def test_l4_l9_no_run_starts_once_a_cancel_from_a_thread_has_returned() -> None:
    loop = virtual()
    runs = 0

    def tick() -> None:
        nonlocal runs
        runs += 1

    def cancel() -> bool:
        timer.cancel_threadsafe(30)
        before = runs
        done = threading.Event()
        loop.call_soon_threadsafe(done.set)
        done.wait(30)
        return runs == before

    for _ in range(20):
        timer = Timer(0, tick)
        timer.start()
        await timer.wait(hit_count=3)
        assert await asyncio.to_thread(cancel)


async def test_l9_d8_feeds_are_closed_from_other_threads() -> None:
    async with Timer(0, lambda: 1) as timer:
        feeds = [timer.subscribe() for _ in range(20)]

        async def read(feed: Any) -> int:
            return sum([value async for value in feed])

        readers = [asyncio.ensure_future(read(feed)) for feed in feeds]
        await timer.wait(hits=10)
        await asyncio.gather(*(asyncio.to_thread(feed.close_threadsafe) for feed in feeds))
        counts = await asyncio.gather(*readers)
        assert min(counts) >= 10
