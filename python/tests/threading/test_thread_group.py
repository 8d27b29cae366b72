"""G: groups on threads."""

import functools
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import everbeat
from everbeat import ScheduleError, TimerError, TimerNotRunningError, TimerStoppedError, _thread_group
from everbeat.testing import NothingDueError, TestEngine
from everbeat.threading import Engine, PeriodicTask, Timer, TimerGroup
from tests.support import at_line, interrupt
from tests.threading.support import LONG


def timers(count: int = 3, delay: float = 10) -> list[Timer[int]]:
    return [Timer(delay, lambda n=n: n, name=f"t{n}") for n in range(count)]


def boom() -> None:
    raise ValueError("boom")


def nothing(*_: object) -> None: ...


class Slow:
    """A target whose runs take until they are let go."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        self.go_on.wait(LONG)


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.go_on.set()


def refusing() -> Timer[Any]:
    """A timer that cannot be started."""
    engine = Engine()
    engine.close()
    return engine.every(10, dict)


def test_g1_every_member_is_warm_before_the_service_starts(everbeat_engine: TestEngine) -> None:
    with TimerGroup(name="caches") as group:
        users = group.add(Timer(5, lambda: "users"))
        prices = group.add(Timer(60, lambda: "prices"))
        assert group.wait(hit_count=1) == [(users, True), (prices, True)]
        assert group.is_running()
        assert group.trigger() == [(users, "users"), (prices, "prices")]
        assert [users.hit_count, prices.hit_count] == [2, 2]
    assert not (group.is_running() or users.is_running() or prices.is_running())


def test_g4_a_group_on_threads_is_a_collection_with_a_name() -> None:
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
    assert list(group) == [third] and bool(TimerGroup())
    for timer in group:
        group.remove(timer)
    assert len(group) == 0


@pytest.mark.parametrize("member", [PeriodicTask(1, print), everbeat.Timer(1, print), None])
def test_e2_only_timers_on_threads_are_members(member: Any) -> None:
    for take in (lambda: TimerGroup([member]), lambda: TimerGroup().add(member)):
        with pytest.raises(TypeError, match=r"must be an everbeat\.threading\.Timer, not "):
            take()


def test_g1_start_is_idempotent_and_leaves_members_that_run_alone(everbeat_engine: TestEngine) -> None:
    group = TimerGroup(timers())
    running = next(iter(group))
    running.start()
    assert not group.is_running()
    group.start()
    group.start()
    assert group.is_running()
    running.cancel()
    assert not group.is_running()
    group.start()
    assert not running.is_running(), "who has ended since is left alone too"
    group.cancel()
    assert not any(timer.is_running() for timer in group)
    group.start()
    assert group.is_running(), "a group can be started again"
    group.stop()
    empty = TimerGroup()
    assert not empty.is_running()
    empty.start()
    assert empty.is_running(), "all of none do"
    empty.cancel()
    assert not empty.is_running()


@pytest.mark.parametrize("entered", [False, True])
def test_g2_a_failing_start_on_threads_undoes_the_others(everbeat_engine: TestEngine, entered: bool) -> None:
    running, first, second = timers(3)
    running.start()
    group = TimerGroup([running, first, refusing(), second])
    with pytest.raises(TimerError):
        group.__enter__() if entered else group.start()
    assert [timer.is_running() for timer in group] == [True, False, False, False]
    assert repr(group).endswith("active=False>")
    assert not group.add(Timer(1, dict)).is_running()


def test_g2_who_is_added_to_an_active_group_on_threads_is_started(everbeat_engine: TestEngine) -> None:
    with TimerGroup() as group:
        late, early = timers(2)
        early.start()
        assert group.add(late).is_running()
        assert group.add(early) is early
        with pytest.raises(TimerError):
            group.add(refusing())
        assert list(group) == [late, early]
        group.discard(late)
    assert late.is_running() and not early.is_running()


def test_g2_a_stop_in_the_middle_of_a_start_has_the_last_word(everbeat_engine: TestEngine) -> None:
    """As by the handler of a signal, on the same thread."""

    class Interrupted(TimerGroup):
        at = 0

        def _start_members(self, timers: Iterable[Timer[Any]], *rest: Any) -> bool:
            def interrupted() -> Iterator[Timer[Any]]:
                for number, timer in enumerate(timers):
                    if number == self.at:
                        self.stop()
                    yield timer
                if self.at == 3:
                    self.stop()

            return super()._start_members(interrupted(), *rest)

    for at in (0, 1, 2, 3):
        group = Interrupted(timers(3))
        group.at = at
        group.start()
        assert not any(timer.is_running() for timer in group)
        assert "active=False" in repr(group)


def at_each_line(
    act: Callable[[TimerGroup], object], event: Callable[[TimerGroup], object]
) -> Iterator[TimerGroup]:
    """Groups with which this is done, while that comes at one line of it after the other."""
    for place in itertools.count():
        group = TimerGroup(timers(3))
        if not at_line(_thread_group.__file__, place, lambda: act(group), lambda: event(group)):
            assert place > 10, "there are more lines in it"
            return
        yield group
        group.stop()


def begin_anew(group: TimerGroup) -> None:
    group.stop()
    group.start()


def is_whole(group: TimerGroup) -> bool:
    """All of it runs, or nothing."""
    running = any(timer.is_running() for timer in group)
    return running == group.is_running() == ("active=True" in repr(group))


def test_g2_whenever_a_stop_comes_in_a_start_it_has_the_last_word(everbeat_engine: TestEngine) -> None:
    running = list[bool]()
    for group in at_each_line(TimerGroup.start, TimerGroup.stop):
        assert is_whole(group)
        running.append(group.is_running())
    # The stops at its first lines come before it.
    assert running == sorted(running, reverse=True) and running.count(True) < 5 < running.count(False)


def test_g2_whenever_a_group_begins_anew_in_a_start_it_runs(everbeat_engine: TestEngine) -> None:
    for group in at_each_line(TimerGroup.start, begin_anew):
        assert group.is_running()


def test_g2_whenever_somebody_is_added_in_a_start_the_whole_group_runs(everbeat_engine: TestEngine) -> None:
    for group in at_each_line(TimerGroup.start, lambda group: group.add(Timer(10, dict))):
        assert group.is_running() and len(group) == 4


def test_g2_a_start_that_is_interrupted_anywhere_is_whole_or_undone(everbeat_engine: TestEngine) -> None:
    for act in TimerGroup.start, TimerGroup.__enter__:
        assert all(is_whole(group) for group in at_each_line(act, lambda _: interrupt()))


def test_g2_whatever_comes_while_somebody_is_added_has_the_last_word(everbeat_engine: TestEngine) -> None:
    late = list[Timer[Any]]()

    def start_and_add(group: TimerGroup) -> None:
        group.start()
        late[:] = [Timer(10, dict)]
        group.add(late[0])

    for event in TimerGroup.stop, begin_anew:
        assert all(is_whole(group) for group in at_each_line(start_and_add, event))
    late.clear()
    for group in at_each_line(start_and_add, lambda _: interrupt()):
        assert is_whole(group)
        assert any(timer.is_running() for timer in late) == (len(group) == 4)
        late.clear()


def test_g2_a_failing_start_leaves_alone_whom_somebody_else_has_started(everbeat_engine: TestEngine) -> None:
    others = list[Timer[Any]]()

    def start(group: TimerGroup) -> None:
        group.add(refusing())
        with pytest.raises(TimerError, match="closed"):
            group.start()

    def start_one(group: TimerGroup) -> None:
        second = list(group)[1]
        if not second.is_running():
            second.start()
            others.append(second)

    for group in at_each_line(start, start_one):
        assert [timer for timer in group if timer.is_running()] == others
        for timer in others:
            timer.cancel()
        others.clear()


def test_g2_l4_whenever_a_start_comes_in_a_stop_it_comes_before_or_after(everbeat_engine: TestEngine) -> None:
    def start_and_stop(group: TimerGroup) -> None:
        group.start()
        group.stop()

    assert all(is_whole(group) for group in at_each_line(start_and_stop, TimerGroup.start))


def test_g2_a_block_that_cannot_begin_raises_why() -> None:
    class Waiting(TimerGroup):
        def _start_members(self, *rest: Any) -> bool:
            try:
                return super()._start_members(*rest)
            except TimerError:
                with pytest.raises(ValueError, match="boom"):
                    failing.wait(timeout=LONG)
                raise

    failing = Timer(3600, boom, exc_cb=nothing)
    with pytest.raises(TimerError, match="closed"), Waiting([failing, refusing()]):
        pytest.fail("it has begun")


def test_g2_l4_a_start_in_the_middle_of_a_stop_is_one_before_it(everbeat_engine: TestEngine) -> None:
    class Interrupted(TimerGroup):
        starts = 0

        def __iter__(self) -> Iterator[Timer[Any]]:
            if self.starts:
                self.starts -= 1
                with ThreadPoolExecutor(1) as other:
                    other.submit(super().start).result(LONG)
            return super().__iter__()

    group = Interrupted(timers(3))
    group.start()
    group.starts = 1
    group.stop()
    assert not any(timer.is_running() for timer in group)
    assert "active=False" in repr(group)
    group.start()
    assert group.is_running()
    group.stop()


def test_g2_l4_many_threads_start_and_stop_one_group() -> None:
    pool, group, seed = timers(6, 0.001), TimerGroup(), random.randrange(2**32)
    over, faults = time.monotonic() + 0.3, list[object]()

    def act(number: int) -> None:
        rng = random.Random(seed + number)
        try:
            while time.monotonic() < over:
                rng.choice((group.start, group.stop, group.is_running, lambda: group.add(rng.choice(pool))))()
        except Exception as error:
            faults.append(error)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(act, range(4)))
    assert not faults, seed
    group.stop(LONG)
    hits = [timer.hit_count for timer in pool]
    assert not any(timer.is_running() for timer in pool), seed
    time.sleep(0.02)
    assert [timer.hit_count for timer in pool] == hits, seed


def test_g1_counts_are_waited_for_together(everbeat_engine: TestEngine) -> None:
    fast, slow = timers(2)
    fast.set_delay(1)
    with TimerGroup([fast, slow]) as group:
        everbeat_engine.advance(10)
        assert group.wait(hit_count=2) == [(fast, True), (slow, True)]
        with pytest.raises(TimeoutError, match="t1 has not ticked that often"):
            group.wait(hit_count=3, timeout=1)
        (_, reached), (_, late) = group.wait(hit_count=3, timeout=1, return_exceptions=True)
        assert reached is True and isinstance(late, TimeoutError)
        assert group.wait(timeout=1) == [(fast, False), (slow, False)], "the end can be waited for in vain"
        with pytest.raises(NothingDueError):
            group.wait(hit_count=3)
        fast.cancel()
        assert group.wait(timeout=1) == [(fast, True), (slow, False)]
        with pytest.raises(TimerStoppedError):
            group.wait(hits=1, timeout=1)


def test_g1_further_hits_are_waited_for_together() -> None:
    group = TimerGroup(timers(3, 0.001))
    with group:
        assert [done for _, done in group.wait(hits=3, timeout=LONG)] == [True] * 3
    assert all(timer.hit_count >= 3 for timer in group)
    with TimerGroup([Timer(0.001, iter(range(5))) for _ in range(3)]) as group:
        assert [done for _, done in group.wait(timeout=LONG)] == [True] * 3
        assert [timer.hit_count for timer in group] == [5] * 3


def test_g1_a_group_of_timers_of_several_engines(everbeat_engine: TestEngine) -> None:
    other = TestEngine()
    first, second = Timer(10, lambda: "a"), Timer(10, lambda: "b", engine=other)
    with TimerGroup([first, second]) as group:
        assert group.trigger() == [(first, "a"), (second, "b")]
        third = group.add(Timer(3600, lambda: "c", engine=Engine()))
        assert group.trigger(timeout=LONG) == [(first, "a"), (second, "b"), (third, "c")]
        assert group.trigger() == [(first, "a"), (second, "b"), (third, "c")]


def test_g1_join_is_the_next_run_of_every_member() -> None:
    count = itertools.count()
    members = [Timer(0.001, lambda: next(count)) for _ in range(3)]
    with TimerGroup(members) as group:
        before = group.join(timeout=LONG)
        after = group.join(timeout=LONG)
        assert [timer for timer, _ in before] == members
        assert all(early < late for (_, early), (_, late) in zip(before, after, strict=True))


def test_g1_a_limit_bounds_the_whole(slow: Slow) -> None:
    stuck, quick = Timer(3600, slow), Timer(3600, lambda: 1)
    with TimerGroup([stuck, quick]) as group:
        assert slow.begun.wait(LONG)
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="Slow has delivered nothing in time"):
            group.trigger(timeout=0.1)
        assert time.monotonic() - began >= 0.1
        (_, late), (_, value) = group.trigger(timeout=0.05, return_exceptions=True)
        assert isinstance(late, TimeoutError) and value == 1
        assert stuck.is_running()
        slow.go_on.set()


def test_g1_failures_on_threads_come_as_they_are_or_as_results(everbeat_engine: TestEngine) -> None:
    """D9"""
    good, bad = Timer(10, lambda: 1), Timer(10, boom, exc_cb=nothing)
    with TimerGroup([good, bad]) as group:
        with pytest.raises(ValueError, match="boom"):
            group.wait(hit_count=1)
        assert not group.is_running()
        (_, value), (_, error) = group.trigger(return_exceptions=True)
        assert value == 1 and isinstance(error, (ValueError, TimerNotRunningError))
        with pytest.raises((ValueError, TimerNotRunningError)):
            group.trigger()
        with pytest.raises((ValueError, TimerNotRunningError)):
            group.join()


def test_g1_after_a_failure_nobody_waits_for_the_others_on_threads(slow: Slow) -> None:
    calm, bad, worse = Timer(3600, slow), Timer(10, boom, exc_cb=nothing), Timer(10, boom, exc_cb=nothing)
    with TimerGroup([calm, bad, worse]) as group:
        with pytest.raises(ValueError, match="boom"):
            group.wait(hits=5)
        slow.go_on.set()


def test_g1_an_empty_group_on_threads_waits_for_nobody() -> None:
    with TimerGroup() as group:
        assert group.is_running()
        assert group.wait(hit_count=5) == group.trigger() == group.join() == group.shutdown(1) == []
    assert not group.is_running()


def test_e2_bad_input_is_refused_before_a_member_is_asked(everbeat_engine: TestEngine) -> None:
    group = TimerGroup([Timer(10, int, initial_delay=10)])
    (timer,) = group
    with group:
        for refused in (
            lambda: group.shutdown(-1),
            lambda: group.shutdown(1, timeout=-1),
            lambda: group.cancel_all(timeout=float("nan")),
            lambda: group.trigger(timeout=-1),
            lambda: group.join(timeout=-1),
            lambda: group.wait(-1),
            lambda: group.wait(1, 1),
        ):
            with pytest.raises(ScheduleError):
                refused()
        for refused in (
            lambda: group.shutdown("1"),  # type: ignore[arg-type]
            lambda: group.trigger(timeout="1"),  # type: ignore[arg-type]
        ):
            with pytest.raises(TypeError):
                refused()
        everbeat_engine.settle()
        assert timer.is_running() and timer.hit_count == 0 and group.is_running()


def test_g3_all_members_are_asked_before_one_is_waited_for(slow: Slow) -> None:
    """The run of the first ends only when the second has ended."""
    first = Timer(3600, slow)
    second = Timer(3600, dict, initial_delay=3600, cancel_cb=lambda *_: slow.go_on.set())
    group = TimerGroup([first, second])
    group.start()
    assert slow.begun.wait(LONG)
    group.cancel_all(timeout=LONG)
    assert not first.is_running() and not second.is_running()


def test_g3_a_run_that_goes_on_is_an_error_of_the_whole(slow: Slow) -> None:
    before, stuck, after = Timer(3600, dict), Timer(3600, slow), Timer(3600, dict)
    group = TimerGroup([before, stuck, after])
    group.start()
    assert slow.begun.wait(LONG)
    for end in (lambda: group.cancel(0.05), lambda: group.shutdown(0, timeout=0.05)):
        with pytest.raises(TimeoutError, match="Slow has not ended in time"):
            end()
        assert not before.is_running() and not after.is_running() and not group.is_running()
    slow.go_on.set()
    group.cancel(LONG)
    assert stuck.stats().runs == 1


def test_g3_who_cannot_be_waited_for_is_logged_and_stops_nobody(
    slow: Slow, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(workers=1)
    first, last = (Timer(3600, dict, initial_delay=3600) for _ in range(2))
    busy = engine.every(3600, slow)
    told: list[Any] = []

    def ends_the_group() -> None:
        told.append(group.shutdown(LONG))

    group = TimerGroup([first, busy, last], name="caches")
    group.start()
    assert slow.begun.wait(LONG)
    keeper = engine.every(3600, ends_the_group, inline=True, start=True)
    assert keeper.wait(hit_count=1, timeout=LONG)
    assert told == [[(first, "drained"), (last, "drained")]]
    assert not first.is_running() and not last.is_running()
    (record,) = (record for record in caplog.records if record.name == "everbeat.group.caches")
    assert record.getMessage() == f"could not shut down {busy!r}" and record.exc_info
    slow.go_on.set()
    assert busy.wait(timeout=LONG)
    engine.close(LONG)


def test_l3_shutdown_of_a_group_says_how_each_member_ended(slow: Slow) -> None:
    idle, long = Timer(3600, dict, initial_delay=3600), Timer(3600, slow)
    failed = Timer(3600, boom, exc_cb=nothing)
    group = TimerGroup([idle, long, failed])
    group.start()
    assert slow.begun.wait(LONG) and long.hit_count == 0
    with pytest.raises(ValueError):
        failed.wait()
    threading.Timer(0.05, slow.go_on.set).start()
    assert group.shutdown(LONG) == [(idle, "drained"), (long, "drained"), (failed, "failed")]
    assert long.hit_count == 1 and not group.is_running()
    assert not group.add(Timer(10, dict)).is_running(), "the group is no longer active"


def test_l5_a_run_may_end_its_group_and_does_not_wait_for_itself() -> None:
    told, started = list[Any](), threading.Event()

    def asks_too_much() -> None:
        started.wait(LONG)
        told.extend(group.trigger(timeout=LONG, return_exceptions=True))
        with pytest.raises(TimerError, match="inside"):
            group.wait(hits=1)
        group.cancel_all(LONG)
        told.append([timer.is_running() for timer in others])

    others = timers(2)
    asking = Timer(3600, asks_too_much)
    group = TimerGroup([others[0], asking, others[1]])
    group.start()
    started.set()
    assert asking.wait(timeout=LONG)
    (_, first), (_, own), (_, last), left = told
    assert (first, type(own), last, left) == (0, TimerError, 1, [False, False])
    assert not any(timer.is_running() for timer in group) and asking.hit_count == 1


def test_l3_l5_a_run_that_shuts_its_group_down_has_the_same_grace() -> None:
    group = TimerGroup([timer := Timer(3600, lambda: group.shutdown(LONG))])
    group.start()
    assert timer.wait(timeout=LONG)
    assert timer.shutdown(0) == "drained"


def test_l3_l5_the_run_that_was_the_first_to_end_its_group_is_ended_by_others_too() -> None:
    both = threading.Barrier(3)

    def ends_it_gently() -> None:
        both.wait(LONG)
        group.shutdown(LONG)

    def ends_it_at_once() -> None:
        both.wait(LONG)
        while idle.is_running():  # the last one to be asked
            time.sleep(0.001)
        group.cancel_all(LONG)

    gentle, hasty = Timer(3600, ends_it_gently), Timer(3600, ends_it_at_once)
    group = TimerGroup([gentle, hasty, idle := Timer(3600, dict, initial_delay=3600)])
    group.start()
    both.wait(LONG)
    assert gentle.wait(timeout=LONG)
    assert gentle.shutdown(0) == "cancelled"


def test_l5_runs_that_end_their_group_do_not_wait_for_one_another() -> None:
    at_once, told = threading.Barrier(3), dict[int, list[str]]()

    def ends_it(number: int) -> None:
        at_once.wait(LONG)
        told[number] = [timer.name for timer, _ in group.shutdown(LONG, timeout=LONG)]

    group = TimerGroup(Timer(3600, functools.partial(ends_it, n), name=str(n)) for n in range(3))
    for round_ in range(20):
        group.start()
        assert [ended for _, ended in group.wait(timeout=LONG)] == [True] * 3, round_
        # Each has the answers of those that came later, and its own.
        in_order = sorted(told, key=lambda number: -len(told[number]))
        for place, number in enumerate(in_order):
            assert sorted(told[number]) == sorted(map(str, in_order[place:])), round_
        told.clear()


def test_d4_iterating_over_a_timer_on_threads(everbeat_engine: TestEngine) -> None:
    timer = Timer(10, iter("abc"))
    assert list(timer) == [], "it was not started"
    with timer:
        values = iter(timer)
        assert next(values) == "a"
        with pytest.raises(NothingDueError):
            next(values)
        everbeat_engine.advance(10)
        with pytest.raises(NothingDueError):
            next(values)  # who is busy misses some
        everbeat_engine.advance(10)
    assert list(values) == list(timer) == [], "it has ended"


def test_d4_iterating_ends_with_the_timer_and_raises_its_failure() -> None:
    def values() -> Iterator[int]:
        yield from range(50)
        raise ValueError("the end")

    timer = Timer(0.001, values, exc_cb=nothing, start=True)
    seen = list[int]()
    with pytest.raises(ValueError, match="the end"):
        for value in timer:
            seen.append(value)
    assert seen == sorted(set(seen))
    timer = Timer(0.001, itertools.count, start=True)
    threading.Timer(0.05, timer.cancel).start()
    seen = list(timer)
    assert seen == sorted(set(seen))
    assert timer.wait(timeout=60), "the iteration may end before the last callback has returned"
