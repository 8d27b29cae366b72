"""G: groups."""

import asyncio
import concurrent.futures
import functools
import gc
import itertools
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import everbeat.threading
from everbeat import (
    ScheduleError,
    ThreadsafeDispatchError,
    Timer,
    TimerError,
    TimerGroup,
    TimerNotRunningError,
    TimerRestartError,
    _group,
)
from tests.loops import in_virtual_time, on_every_loop
from tests.support import AskedLoop, at_line, interrupt, spin


def timers(count: int = 3, delay: float = 10) -> list[Timer[int]]:
    return [Timer(delay, lambda n=n: n, name=f"t{n}") for n in range(count)]


def boom() -> None:
    raise ValueError("boom")


@on_every_loop
async def test_every_member_is_warm_before_the_service_starts() -> None:
    """G1"""
    async with TimerGroup(name="caches") as group:
        users = group.add(Timer(5, target=lambda: "users"))
        prices = group.add(Timer(60, target=lambda: "prices"))
        await group.wait(hit_count=1)
        assert [users.hit_count, prices.hit_count] == [1, 1]
        assert group.is_running()
        assert await group.trigger() == [(users, "users"), (prices, "prices")]
    assert not (group.is_running() or users.is_running() or prices.is_running())


def test_a_group_is_a_collection_with_a_name() -> None:
    """G4"""
    first, second, third = timers()
    group = TimerGroup([first, second], name="caches")
    assert group.name == "caches"
    assert repr(group) == "<TimerGroup name='caches' members=2 active=False>"
    assert group.add(third) is third
    assert list(group) == [first, second, third]
    assert len(group) == 3 and third in group and "third" not in group
    group.add(first)
    assert len(group) == 3
    group.discard(first)
    group.discard(first)
    group.remove(second)
    with pytest.raises(KeyError):
        group.remove(second)
    assert list(group) == [third]
    assert repr(TimerGroup()) == "<TimerGroup members=0 active=False>"
    assert bool(TimerGroup())


def test_members_may_come_and_go_while_one_iterates() -> None:
    """G4"""
    group = TimerGroup(timers())
    for timer in group:
        group.remove(timer)
    assert len(group) == 0


@on_every_loop
async def test_start_is_idempotent_and_leaves_members_that_run_alone() -> None:
    """G1"""
    group = TimerGroup(timers())
    running = next(iter(group))
    running.start()
    assert not group.is_running()
    group.start()
    group.start()
    assert group.is_running()
    await running.cancel()
    assert not group.is_running()
    group.start()
    assert not running.is_running(), "who has ended since is left alone too"
    await group.cancel()
    assert not any(timer.is_running() for timer in group)
    empty = TimerGroup()
    assert not empty.is_running()
    empty.start()
    assert empty.is_running(), "all of none do"
    await empty.cancel()
    assert not empty.is_running()


@on_every_loop
async def test_a_failing_start_undoes_the_others() -> None:
    """G2"""
    first, second = timers(2)
    spent = Timer(10, lambda: 0, cancel_aws=[asyncio.sleep(0)])
    spent.start()
    await spent.wait()
    group = TimerGroup([first, spent, second])
    with pytest.raises(TimerRestartError):
        group.start()
    await first.wait()
    assert not any(timer.is_running() for timer in group)
    assert repr(group).endswith("active=False>")


@on_every_loop
async def test_g2_a_start_that_is_interrupted_undoes_the_others_and_says_who_resists(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Interrupted(Timer[Any]):
        def start(self) -> None:
            raise KeyboardInterrupt

    (first,) = timers(1)
    stubborn = StubbornAtOnce(10, lambda: 0)
    with pytest.raises(KeyboardInterrupt):
        TimerGroup([stubborn, first, Interrupted(10, lambda: 0)]).start()
    await asyncio.gather(first.wait(), stubborn.wait())
    assert caplog.messages == [f"could not cancel {stubborn!r}"]


@on_every_loop
async def test_g2_a_start_that_is_interrupted_anywhere_is_whole_or_undone() -> None:
    for place in itertools.count():
        group = TimerGroup(timers())
        if not at_line(_group.__file__, place, group.start, interrupt):
            assert place > 10, "there are more lines in it"
            break
        await asyncio.sleep(0)
        running = any(timer.is_running() for timer in group)
        assert running == group.is_running() == ("active=True" in repr(group))
        await group.cancel_all()


@on_every_loop
async def test_g2_a_block_that_is_interrupted_right_after_its_start_is_undone() -> None:
    class Interrupted(TimerGroup):
        def start(self) -> None:
            super().start()
            interrupt()

    group = Interrupted(timers())
    with pytest.raises(KeyboardInterrupt):
        async with group:
            pytest.fail("it has begun")
    assert not any(timer.is_running() for timer in group) and "active=False" in repr(group)


@on_every_loop
async def test_who_is_added_to_an_active_group_is_started() -> None:
    """G2"""
    async with TimerGroup() as group:
        late, early = timers(2)
        early.start()
        assert group.add(late).is_running()
        assert group.add(early) is early
        group.discard(late)
    assert late.is_running() and not early.is_running()
    await late.cancel()


@on_every_loop
async def test_a_member_that_cannot_be_started_is_not_added() -> None:
    """G2"""
    spent = Timer(10, lambda: 0, cancel_aws=[asyncio.sleep(0)])
    spent.start()
    await spent.wait()
    async with TimerGroup() as group:
        with pytest.raises(TimerRestartError):
            group.add(spent)
        assert spent not in group


@in_virtual_time
async def test_members_are_cancelled_side_by_side() -> None:
    """G3"""
    loop = asyncio.get_running_loop()

    async def takes_a_second_to_stop() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)

    group = TimerGroup(Timer(1, takes_a_second_to_stop) for _ in range(5))
    group.start()
    await asyncio.sleep(0.5)
    await group.cancel_all()
    assert loop.time() == pytest.approx(1.5)
    assert not any(timer.is_running() for timer in group)


class Stubborn(Timer[Any]):
    async def cancel(self) -> None:
        await super().cancel()
        raise OSError("no")


class StubbornAtOnce(Timer[Any]):
    def cancel(self) -> Any:
        super().cancel()
        raise OSError("not even asked")

    def shutdown(self, grace: Any) -> Any:
        super().shutdown(grace)
        raise OSError("not even asked")


@on_every_loop
async def test_who_fails_to_end_is_logged_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """G3"""
    first, last = timers(2)
    group = TimerGroup([first, Stubborn(1, boom), StubbornAtOnce(1, lambda: 0), last], name="caches")
    with caplog.at_level(logging.CRITICAL, "everbeat.timer"):
        group.start()
        await asyncio.sleep(0)
    await group.cancel_all()
    assert not any(timer.is_running() for timer in group)
    told = [record for record in caplog.records if record.name == "everbeat.group.caches"]
    _, stubborn, at_once, _ = group
    assert [record.getMessage() for record in told] == [
        f"could not cancel {at_once!r}",
        f"could not cancel {stubborn!r}",
    ]
    assert all(record.exc_info for record in told)


@on_every_loop
async def test_g3_an_interrupt_while_members_are_asked_reaches_the_program() -> None:
    class Interrupted(Timer[Any]):
        def cancel(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await TimerGroup([Interrupted(10, lambda: 0)]).cancel_all()


@on_every_loop
async def test_g3_a_group_without_a_name_reports_too(caplog: pytest.LogCaptureFixture) -> None:
    stubborn, other = StubbornAtOnce(10, lambda: 0), Timer(10, lambda: 0)
    group = TimerGroup([stubborn, other])
    group.start()
    assert await group.shutdown(1) == [(other, "drained")]
    (told,) = caplog.records
    assert (told.name, told.getMessage()) == ("everbeat.group.unnamed", f"could not shut down {stubborn!r}")


@in_virtual_time
async def test_a_cancelled_caller_leaves_the_cancelling_to_go_on() -> None:
    """L6"""
    ended: list[int] = []

    async def slow_to_stop(n: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            ended.append(n)

    group = TimerGroup(Timer(1, lambda n=n: slow_to_stop(n)) for n in range(3))
    group.start()
    await asyncio.sleep(0)
    caller = asyncio.create_task(group.cancel_all())
    await asyncio.sleep(0.5)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended == []
    await asyncio.sleep(1)
    assert sorted(ended) == [0, 1, 2] and not any(timer.is_running() for timer in group)


class Told(Timer[Any]):
    """Its cancel begins when it is awaited, as coroutine functions do."""

    async def cancel(self) -> None:  # type: ignore[override]
        await super().cancel()


async def slow_to_go() -> None:
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(10)


@in_virtual_time
async def test_g3_members_with_a_cancel_of_their_own_end_side_by_side() -> None:
    now = asyncio.get_running_loop().time
    async with TimerGroup([Told(1, slow_to_go) for _ in range(3)]) as group:
        await asyncio.sleep(5)
        began = now()
        await group.cancel_all()
    assert now() - began == 10


@in_virtual_time
async def test_l6_members_with_a_cancel_of_their_own_end_without_their_caller() -> None:
    group = TimerGroup([Told(1, slow_to_go) for _ in range(3)])
    group.start()
    await asyncio.sleep(5)
    cancelling = asyncio.ensure_future(group.cancel_all())
    await asyncio.sleep(0)
    cancelling.cancel()
    await asyncio.sleep(20)
    assert cancelling.cancelled() and not any(timer.is_running() for timer in group)


@in_virtual_time
async def test_l6_what_a_run_has_started_may_be_cancelled_while_it_ends_the_group() -> None:
    helpers = list[asyncio.Task[None]]()

    async def starts_a_helper() -> None:
        helpers.append(asyncio.create_task(group.cancel_all()))
        await slow_to_go()

    group = TimerGroup([Told(1000, starts_a_helper), Told(1, slow_to_go)])
    group.start()
    await asyncio.sleep(5)
    (helper,) = helpers
    helper.cancel()
    await asyncio.sleep(20)
    assert helper.cancelled() and not any(timer.is_running() for timer in group)


@on_every_loop
async def test_g2_a_failing_start_undoes_members_with_a_cancel_of_their_own() -> None:
    spent = Timer(10, lambda: 1, cancel_aws=[asyncio.Event().wait()], start=True)
    await spent.cancel()
    good = Told(10, lambda: 1, initial_delay=10)
    group = TimerGroup([good, spent])
    with pytest.raises(TimerRestartError):
        group.start()
    assert await good.wait(timeout=5) is None and not good.is_running()


@on_every_loop
async def test_l5_a_run_cancels_its_group_whatever_cancel_its_members_have() -> None:
    done = asyncio.Event()

    async def give_up() -> None:
        await group.cancel_all()
        done.set()

    group = TimerGroup([Told(10, give_up), Told(10, lambda: 1), Told(10, asyncio.Event().wait)])
    group.start()
    await asyncio.wait_for(done.wait(), 10)
    assert not any(timer.is_running() for timer in group)


@in_virtual_time
async def test_a_group_is_cancelled_by_one_of_its_own_runs() -> None:
    """L5"""
    group = TimerGroup(timers())

    async def pulls_the_plug() -> None:
        await group.cancel_all()

    plug = group.add(Timer(1, pulls_the_plug, initial_delay=5))
    group.start()
    await asyncio.wait_for(plug.wait(), 60)
    assert not any(timer.is_running() for timer in group)


@on_every_loop
async def test_l5_runs_that_end_their_group_do_not_wait_for_one_another() -> None:
    ended = list[int]()

    async def waits_until_it_is_given_up(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await group.cancel_all()
            ended.append(number)

    group = TimerGroup(Timer(10, functools.partial(waits_until_it_is_given_up, n)) for n in range(3))
    group.start()
    await spin()
    await asyncio.wait_for(group.cancel_all(), 10)
    # Each had waited for those that came to it later.
    assert ended == [2, 1, 0]
    group.start()
    await spin()
    await asyncio.wait_for(group.cancel_all(), 10)
    assert ended[3:] == [2, 1, 0], "it was forgotten who had ended it"


@in_virtual_time
async def test_l5_runs_that_shut_their_group_down_do_not_wait_for_one_another() -> None:
    told = dict[int, list[str]]()

    async def shuts_down(number: int) -> None:
        await asyncio.sleep(1)
        told[number] = [timer.name for timer, _ in await group.shutdown(3600)]

    group = TimerGroup(Timer(10, functools.partial(shuts_down, n), name=str(n)) for n in range(3))
    group.start()
    await asyncio.wait_for(group.wait(), 60)
    # It comes last for which nobody waits: the first has the answers of the others, and its own.
    assert told == {2: ["2"], 1: ["1", "2"], 0: ["0", "1", "2"]}


@in_virtual_time
async def test_a_run_that_would_wait_for_itself_is_told_so() -> None:
    """L5"""
    told: list[Any] = []

    async def asks_too_much() -> None:
        if told:
            return  # the run that it has asked for
        told.extend(await group.trigger(return_exceptions=True))
        told.extend(await group.trigger(timeout=5, return_exceptions=True))
        told.extend(await group.wait(hits=1, return_exceptions=True))
        with pytest.raises(TimerError, match="inside"):
            await group.wait(hits=1)

    asking, other = Timer(1000, asks_too_much), Timer(1000, lambda: "other")
    group = TimerGroup([asking, other])
    async with group:
        await other.wait(hit_count=3)
        helper = asyncio.create_task(_trigger_later(other))
        await asking.wait(hit_count=1)
        await helper
    assert [value for timer, value in told if timer is other] == ["other"] * 3
    assert all(isinstance(value, TimerError) for timer, value in told if timer is asking)


async def _trigger_later(timer: Timer[Any]) -> None:
    for _ in range(2):
        await asyncio.sleep(1)
        await timer.trigger()


@in_virtual_time
async def test_what_a_run_has_started_may_wait_for_the_group() -> None:
    """L5"""
    background: list[asyncio.Task[Any]] = []

    def starts_a_task() -> str:
        if not background:
            background.append(asyncio.create_task(group.trigger()))
        return "ran"

    group = TimerGroup([Timer(1000, starts_a_task), Timer(1000, lambda: "other")])
    async with group:
        await group.wait(hit_count=2)
        assert [value for _, value in await background[0]] == ["ran", "other"]


@in_virtual_time
async def test_l6_what_a_run_has_started_can_be_cancelled_while_it_waits_for_the_group() -> None:
    background: list[asyncio.Task[Any]] = []

    async def starts_a_task() -> None:
        if background:
            await asyncio.sleep(50)
        else:
            background.append(asyncio.create_task(group.trigger(return_exceptions=True)))

    group = TimerGroup([Timer(1000, starts_a_task)])
    async with group:
        await group.wait(hit_count=1)
        await asyncio.sleep(1)
        background[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await background[0]


@in_virtual_time
async def test_shutdown_says_how_each_member_ended() -> None:
    """L3, G1"""
    quick = Timer(10, lambda: asyncio.sleep(1))
    slow = Timer(10, lambda: asyncio.sleep(100))
    group = TimerGroup([quick, slow])
    group.start()
    await asyncio.sleep(0.5)
    assert await group.shutdown(5) == [(quick, "drained"), (slow, "cancelled")]
    assert asyncio.get_running_loop().time() == pytest.approx(5.5)
    assert not group.is_running()
    late = group.add(Timer(10, lambda: 0))
    assert not late.is_running(), "the group is no longer active"


@in_virtual_time
async def test_waits_are_combined() -> None:
    """G1"""
    loop = asyncio.get_running_loop()
    fast, slow = (Timer(delay, loop.time, mode="fixed_rate") for delay in (1, 5))
    async with TimerGroup([fast, slow]) as group:
        await group.wait(hits=2)
        assert loop.time() == pytest.approx(5)
        assert [timer for timer, _ in await group.wait(hit_count=3)] == [fast, slow]
        assert loop.time() == pytest.approx(10)
        assert await group.wait(hit_count=1) == [(fast, None), (slow, None)]


@in_virtual_time
async def test_a_time_limit_bounds_the_whole() -> None:
    """G1, D3"""
    loop = asyncio.get_running_loop()
    fast, slow = Timer(1, lambda: "fast"), Timer(100, lambda: "slow")
    async with TimerGroup([fast, slow]) as group:
        await group.wait(hit_count=1)
        start = loop.time()
        with pytest.raises(TimeoutError):
            await group.wait(hits=2, timeout=10)
        assert loop.time() - start == pytest.approx(10)
        (_, value), (_, error) = await group.wait(hits=2, timeout=10, return_exceptions=True)
        assert value == "fast" and isinstance(error, TimeoutError)
        assert await group.wait(timeout=10) == [(fast, "fast"), (slow, None)]


@in_virtual_time
async def test_a_trigger_has_a_time_limit() -> None:
    """G1"""
    stuck, quick = Timer(100, lambda: asyncio.sleep(50)), Timer(100, lambda: 1)
    async with TimerGroup([stuck, quick]) as group:
        loop = asyncio.get_running_loop()
        start = loop.time()
        with pytest.raises(TimeoutError):
            await group.trigger(timeout=5)
        assert loop.time() - start == 5
        (_, late), (_, value) = await group.trigger(timeout=5, return_exceptions=True)
        assert isinstance(late, TimeoutError) and value == 1
        assert stuck.is_running()


@on_every_loop
async def test_failures_come_as_they_are_or_as_results() -> None:
    """G1, D9"""
    good, bad = Timer(10, lambda: 1), Timer(10, boom, exc_cb=lambda *_: None)
    async with TimerGroup([good, bad]) as group:
        with pytest.raises(ValueError, match="boom"):
            await group.wait(hit_count=1)
        assert not group.is_running()
        (_, value), (_, error) = await group.trigger(return_exceptions=True)
        assert value == 1 and isinstance(error, (ValueError, TimerNotRunningError))
        with pytest.raises((ValueError, TimerNotRunningError)):
            await group.trigger()


@on_every_loop
async def test_g1_after_a_failure_nobody_waits_for_the_others() -> None:
    calm, bad = Timer(10, lambda: 1), Timer(10, boom, initial_delay=0.001, exc_cb=lambda *_: None)
    async with TimerGroup([calm, bad]) as group:
        with pytest.raises(ValueError, match="boom"):
            await group.wait(hits=5)
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if not task.get_name().startswith("timer:")]


@on_every_loop
async def test_an_empty_group_waits_for_nobody() -> None:
    """G1"""
    async with TimerGroup() as group:
        assert group.is_running()
        assert await group.wait(hit_count=5) == [] == await group.trigger()
    assert not group.is_running()


@on_every_loop
async def test_a_group_can_be_started_again() -> None:
    """L7"""
    group = TimerGroup(timers())
    for count in (1, 2):
        async with group:
            await group.wait(hit_count=count)
    assert [timer.hit_count for timer in group] == [2, 2, 2]


@on_every_loop
async def test_a_group_is_cancelled_from_another_thread() -> None:
    """L9"""
    group = TimerGroup(timers(), name="caches")
    with pytest.raises(ThreadsafeDispatchError) as refused:
        group.cancel_threadsafe()
    assert str(refused.value) == f"{group!r} has not been started yet: it belongs to no loop"
    group.start()
    with pytest.raises(ThreadsafeDispatchError) as refused:
        group.cancel_threadsafe(timeout=5)
    advice = "lives in the loop of this thread, which must not block: await cancel_all()"
    assert str(refused.value) == f"{group!r} {advice}"
    assert group.is_running()
    await asyncio.to_thread(group.cancel_threadsafe, timeout=5)
    assert not any(timer.is_running() for timer in group)


@on_every_loop
async def test_a_thread_does_not_wait_longer_than_it_wants() -> None:
    """L9"""
    go_on = asyncio.Event()

    async def clings_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await go_on.wait()

    group = TimerGroup([Timer(1, clings_on)])
    group.start()
    await asyncio.sleep(0)
    said = f"{group!r} did not answer within 0.01 s; what was asked stands"
    with pytest.raises(TimeoutError) as late:
        await asyncio.to_thread(group.cancel_threadsafe, timeout=0.01)
    assert str(late.value) == said
    go_on.set()
    await group.cancel()


def test_l9_a_thread_that_waits_when_the_loop_ends_is_told() -> None:
    asked = asyncio.Event()

    async def clings_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            asked.set()
            await asyncio.Event().wait()

    group = TimerGroup([Timer(1, clings_on)])

    async def main() -> Future[None]:
        group.start()
        await asyncio.sleep(0)
        told = pool.submit(group.cancel_threadsafe, timeout=30)
        await asked.wait()
        return told

    with (
        ThreadPoolExecutor() as pool,
        pytest.raises(
            ThreadsafeDispatchError, match=r"^the event loop of <.*> ended first: nothing of it goes on"
        ),
    ):
        asyncio.run(main()).result(30)


def test_l9_an_answer_just_before_the_loop_is_closed_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    group, loop, real = TimerGroup(timers()), asyncio.new_event_loop(), concurrent.futures.wait

    async def start() -> None:
        group.start()

    def wait(futures: list[Future[None]], timeout: float | None = None) -> Any:
        seen = real(futures, 0)
        if not seen.done:
            loop.run_until_complete(asyncio.sleep(0.05))
            loop.close()
        return seen

    loop.run_until_complete(start())
    monkeypatch.setattr(concurrent.futures, "wait", wait)
    group.cancel_threadsafe(timeout=30)
    assert not any(timer.is_running() for timer in group)


@pytest.mark.parametrize("timeout", [float("nan"), -1, "x", True])
def test_l9_how_long_a_thread_waits_is_checked_before_anything_is_asked(timeout: Any) -> None:
    group = TimerGroup(timers())

    async def main() -> None:
        group.start()
        with pytest.raises((ScheduleError, TypeError), match="timeout"):
            await asyncio.to_thread(group.cancel_threadsafe, timeout=timeout)
        assert group.is_running()
        await group.cancel()

    asyncio.run(main())


@pytest.mark.parametrize("patience", [None, 30])
def test_l9_a_thread_that_asks_a_loop_that_stands_still_is_told_when_that_is_closed(
    patience: float | None,
) -> None:
    group, loop = TimerGroup(timers()), AskedLoop()

    async def start() -> None:
        group.start()

    loop.run_until_complete(start())
    with ThreadPoolExecutor() as pool:
        told = pool.submit(group.cancel_threadsafe, timeout=patience)
        assert loop.asked.wait(30)
        loop.close()
        with pytest.raises(ThreadsafeDispatchError, match="ended first: nothing of it goes on"):
            told.result(30)
    gc.collect()  # and no coroutine complains that nobody has awaited it


def test_a_group_of_a_closed_loop_says_so() -> None:
    """L9"""
    group = TimerGroup(timers())

    async def start() -> None:
        group.start()

    asyncio.run(start())
    errors: list[BaseException] = []

    def cancel() -> None:
        try:
            group.cancel_threadsafe(timeout=1)
        except TimerError as error:
            errors.append(error)

    thread = threading.Thread(target=cancel)
    thread.start()
    thread.join()
    assert isinstance(errors[0], ThreadsafeDispatchError)
    assert str(errors[0]) == f"the event loop of {group!r} is closed"


@on_every_loop
async def test_bad_input_is_refused_before_anybody_is_asked() -> None:
    """E2"""
    async with TimerGroup(timers()) as group:
        with pytest.raises(ScheduleError, match=r"^timeout .*-1"):
            await group.wait(timeout=-1)
        with pytest.raises(ScheduleError, match=r"^timeout .*-1"):
            await group.trigger(timeout=-1)
        with pytest.raises(ScheduleError, match=r"^grace .*-1"):
            await group.shutdown(-1)
    nobody: TimerGroup = TimerGroup()
    with pytest.raises(ScheduleError, match=r"^timeout .*-1"):
        await nobody.wait(timeout=-1)
    with pytest.raises(ScheduleError, match=r"^hits .*-1"):
        await nobody.wait(hits=-1)
    with pytest.raises(ScheduleError, match=r"^wait takes hit_count or hits"):
        await nobody.wait(hits=1, hit_count=1)


@pytest.mark.parametrize("kind", [TimerGroup, everbeat.threading.TimerGroup])
def test_e2_the_name_of_a_group_is_a_string(kind: Any) -> None:
    with pytest.raises(TypeError, match="name must be a string, not int"):
        kind(name=5)


@pytest.mark.parametrize("member", [1, None, "timer", everbeat.threading.Timer(1, print)], ids=repr)
def test_e2_what_is_no_timer_of_a_loop_is_no_member(member: Any) -> None:
    kind = type(member)
    says = f"must be an everbeat.Timer, not {kind.__module__}.{kind.__qualname__}"
    with pytest.raises(TypeError, match=says):
        TimerGroup([member])
    group = TimerGroup()
    with pytest.raises(TypeError, match=says):
        group.add(member)
    assert len(group) == 0


@on_every_loop
async def test_g2_who_enters_a_group_that_cannot_start_finds_nobody_running() -> None:
    class Leisurely(Timer[None]):
        async def cancel(self) -> None:  # type: ignore[override]
            await asyncio.sleep(0.01)
            await super().cancel()

    async def run() -> None:
        await asyncio.sleep(1000)

    good, bad = Leisurely(1, run), Timer(1, run, cancel_aws=[asyncio.Event().wait()])
    bad.start()
    await asyncio.sleep(0)
    await bad.cancel()
    group = TimerGroup([good, bad])
    with pytest.raises(TimerRestartError):
        async with group:
            raise AssertionError("the block was entered")
    assert not good.is_running() and not group.is_running()
