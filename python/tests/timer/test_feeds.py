"""D6 to D8: feeds."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from everbeat import ScheduleError, Subscription, Timer
from tests.support import PENDING, Times, settled, spin

pytestmark = pytest.mark.asyncio


class Planned(Exception):
    """What a run raises that is to fail."""


def fails_after(count: int) -> Times:
    class Failing(Times):
        def __call__(self) -> int:
            if super().__call__() > count:
                raise Planned
            return len(self.at)

    return Failing()


async def drain(feed: Subscription[Any]) -> list[Any]:
    return [value async for value in feed]


async def test_d6_every_tick_in_order_for_each_consumer() -> None:
    timer = Timer(0.01, Times(), max_runs=20)
    timer.start()
    await timer.wait(hit_count=2)
    async with timer.subscribe() as fast, timer.subscribe() as slow:

        async def consume() -> list[int]:
            seen = []
            async for value in slow:
                seen.append(value)
                await asyncio.sleep(0.1)
            return seen

        assert await asyncio.gather(drain(fast), consume()) == [list(range(3, 21))] * 2
        assert fast.dropped_count == slow.dropped_count == 0


async def test_d6_subscribed_before_the_start() -> None:
    timer = Timer(0.01, Times(), max_runs=3)
    feed = timer.subscribe(name="early")
    reader = asyncio.create_task(drain(feed))
    await spin()
    assert (feed.qsize, feed.dropped_count, feed.drop_oldest(3)) == (0, 0, 0)
    timer.start()
    assert await reader == [1, 2, 3]


async def test_d6_closed_before_the_start() -> None:
    timer = Timer(0.01, Times(), max_runs=3)
    feed = timer.subscribe()
    reader = asyncio.create_task(drain(feed))
    await spin()
    feed.close()
    assert await reader == []
    timer.start()
    await timer.wait()
    assert (feed.qsize, await drain(feed)) == (0, [])


async def test_d6_subscribed_after_the_end() -> None:
    timer = Timer(0.01, Times(), max_runs=2)
    timer.start()
    await timer.wait()
    feed = timer.subscribe()
    assert await drain(feed) == []
    timer.start()
    await timer.wait()
    assert await drain(feed) == []


@pytest.mark.parametrize(("overflow", "left"), [("drop_oldest", [8, 9, 10]), ("drop_newest", [1, 2, 3])])
async def test_d6_bounded_feeds_drop_by_policy_and_count(overflow: Any, left: list[int]) -> None:
    timer = Timer(0.01, Times(), max_runs=10)
    feed = timer.subscribe(maxsize=3, overflow=overflow)
    timer.start()
    await timer.wait()
    assert (feed.qsize, len(feed), feed.dropped_count) == (3, 3, 7)
    assert await drain(feed) == left
    assert (feed.qsize, feed.dropped_count) == (0, 7)


async def test_d7_the_consumer_may_drop() -> None:
    timer = Timer(0.01, Times(), max_runs=10)
    feed = timer.subscribe()
    timer.start()
    await timer.wait()
    assert feed.drop_oldest() == 1
    assert feed.drop_oldest(feed.qsize - 1) == 8
    assert (feed.qsize, feed.dropped_count) == (1, 9)
    assert feed.drop_oldest(0) == 0
    assert await drain(feed) == [10]
    assert feed.drop_oldest(5) == 0


@pytest.mark.parametrize("maxsize", [0, 1, 3])
async def test_d7_end_and_failure_evict_nothing_and_are_never_evicted(maxsize: int) -> None:
    timer = Timer(0.01, fails_after(3), lambda *_: None)
    feed, shed = timer.subscribe(maxsize), timer.subscribe(maxsize)
    timer.start()
    with pytest.raises(Planned):
        await timer.wait()
    assert feed.qsize == len(feed) == (maxsize or 3)
    seen = list[int]()
    with pytest.raises(Planned):
        async for value in feed:
            seen.append(value)
    assert seen == [1, 2, 3][-maxsize:]
    assert await drain(feed) == []  # the failure is told once, then comes the end
    assert shed.drop_oldest(100) == shed.dropped_count + (maxsize or 3) - shed.dropped_count
    with pytest.raises(Planned):
        await anext(shed)


async def test_d7_a_feed_is_true_even_if_it_is_empty() -> None:
    feed = Timer(0.01, Times()).subscribe()
    assert feed
    assert len(feed) == 0


async def test_d8_a_closed_feed_keeps_what_it_has_and_gets_nothing_more() -> None:
    async with Timer(0.01, Times()) as timer:
        feed = timer.subscribe()
        await timer.wait(hit_count=3)
        for _ in range(3):
            feed.close()
        feed.close_threadsafe()
        await timer.wait(hit_count=5)
        assert await drain(feed) in ([1, 2, 3], [])


async def test_d8_close_wakes_the_consumer() -> None:
    async with Timer(3600, Times()) as timer:
        feed = timer.subscribe()
        assert await anext(feed) == 1
        reader = asyncio.create_task(drain(feed))
        await spin()
        assert not reader.done()
        await asyncio.to_thread(feed.close_threadsafe)
        assert await reader == []


async def test_d8_leaving_the_block_closes_it() -> None:
    async with Timer(0.01, Times()) as timer:
        async with timer.subscribe() as feed:
            assert await anext(feed) == 1
        await timer.wait(hit_count=4)
        assert feed.qsize == 0


async def test_d8_a_feed_that_nobody_holds_unregisters_itself() -> None:
    class Value:
        pass

    alive = weakref.WeakSet[Value]()

    def run() -> Value:
        value = Value()
        alive.add(value)
        return value

    async with Timer(0.01, run) as timer:
        feed = timer.subscribe()
        await timer.wait(hit_count=10)
        assert len(alive) == 10
        del feed
        gc.collect()
        await timer.wait(hits=2)
        assert len(alive) <= 2  # the latest, and perhaps the answer of the wait


async def test_d8_a_feed_that_nobody_holds_while_one_waits_is_not_lost() -> None:
    timer = Timer(1, Times(), max_runs=2)
    timer.start()

    async def read() -> list[int]:
        return [value async for value in timer.subscribe()]

    reader = asyncio.create_task(read())
    await asyncio.sleep(0.5)
    gc.collect()
    assert await reader in ([1, 2], [2])


async def test_d6_a_cancelled_read_loses_no_value() -> None:
    async with Timer(1, Times()) as timer:
        feed = timer.subscribe()
        seen = list[int]()
        while len(seen) < 5:
            try:
                async with asyncio.timeout(0.3):
                    seen.append(await anext(feed))
            except TimeoutError:
                pass
        assert seen == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("started", [True, False])
async def test_d6_readers_of_one_feed_take_turns_and_all_see_its_end(started: bool) -> None:
    timer = Timer(1, Times(), max_runs=6, start=started)
    seen = dict[str, list[int]]()
    feed = timer.subscribe()

    async def read(name: str) -> None:
        seen[name] = [value async for value in feed]

    readers = [asyncio.create_task(read(name)) for name in "abc"]
    await spin()
    if not started:
        timer.start()
    async with asyncio.timeout(100):
        await asyncio.gather(*readers)
    assert sorted(value for values in seen.values() for value in values) == [1, 2, 3, 4, 5, 6]
    assert all(len(values) >= 1 for values in seen.values())


async def test_d6_a_reader_that_gives_up_takes_no_value_from_another() -> None:
    async with Timer(1, Times(), initial_delay=1) as timer, timer.subscribe() as feed:
        first = asyncio.ensure_future(anext(feed))
        await spin()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(feed), 0)
        second = asyncio.ensure_future(anext(feed))
        await spin()
        second.cancel()
        assert await asyncio.wait_for(first, 10) == 1


async def test_d8_close_ends_all_who_wait() -> None:
    async with Timer(1000, Times(), initial_delay=1000) as timer:
        feed = timer.subscribe()
        readers = [asyncio.create_task(drain(feed)) for _ in range(3)]
        await spin()
        feed.close()
        assert await asyncio.wait_for(asyncio.gather(*readers), 10) == [[], [], []]


async def test_d6_feeds_of_a_restarted_timer() -> None:
    timer = Timer(0.01, Times(), max_runs=2)
    first = timer.subscribe()
    timer.start()
    await timer.wait()
    timer.start()
    second = timer.subscribe()
    await timer.wait()
    assert await drain(first) == [1, 2]
    assert await drain(second) == [3, 4]


async def test_d6_who_reads_what_is_there_does_not_wait() -> None:
    timer = Timer(0.01, Times(), max_runs=2)
    feed = timer.subscribe()
    timer.start()
    assert settled(anext(feed)) is PENDING
    await timer.wait()
    assert [settled(anext(feed)), settled(anext(feed))] == [1, 2]
    with pytest.raises(StopAsyncIteration):
        settled(anext(feed))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"maxsize": -1}, ScheduleError),
        ({"maxsize": "1"}, TypeError),
        ({"maxsize": 1.5}, TypeError),
        ({"overflow": "drop"}, ScheduleError),
        ({"overflow": 3}, TypeError),
        ({"name": 3}, TypeError),
        ({"maxsize": 2**70}, ScheduleError),
    ],
)
async def test_e2_bad_feeds_are_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    timer = Timer(1, Times())
    (field,) = arguments
    with pytest.raises(error, match=field):
        timer.subscribe(**arguments)
    with pytest.raises(error, match=field):
        Subscription(**arguments)


async def test_e2_dropping_too_large_a_number_is_refused() -> None:
    with pytest.raises(ScheduleError, match=f"n must be a whole number of at most {2**64 - 1}, got"):
        Timer(1, Times()).subscribe().drop_oldest(2**70)


async def test_d8_a_feed_made_by_hand_has_nothing_until_it_is_closed() -> None:
    feed: Subscription[int] = Subscription(3, name="mine")
    assert (feed.qsize, feed.dropped_count, feed.name) == (0, 0, "mine")
    reading = anext(feed)
    assert settled(reading) is PENDING
    feed.close()
    with pytest.raises(StopAsyncIteration):
        settled(anext(feed))


async def test_e2_dropping_a_negative_number_is_refused() -> None:
    with pytest.raises(ScheduleError, match="at least 0"):
        Timer(1, Times()).subscribe().drop_oldest(-1)


async def test_o1_the_name_of_a_feed_is_in_its_repr() -> None:
    feed = Timer(1, Times()).subscribe(name="sink")
    assert feed.name == "sink"
    assert "sink" in repr(feed)
