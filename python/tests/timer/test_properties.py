"""S, R, D and L under random schedules and random commands, beside a model that is too simple to be wrong."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from everbeat import Backoff, Burst, Subscription, Tick, Timer, TimerNotRunningError, current_tick, ns
from tests.support import (
    NANOS,
    PENDING,
    Stopwatch,
    VirtualStockLoop,
    VirtualTime,
    VirtualUvloop,
    settled,
    spin,
    virtual,
)

MS = 1_000_000
loops = st.sampled_from([VirtualStockLoop, VirtualUvloop])
# How often is set by the clock of the machine, not by a deadline.
quick = settings(deadline=None, max_examples=60)


@dataclass
class Seen:
    at: int
    slot: int
    missed: int


def grid(period: int, takes: list[int], missed: str | int) -> list[Seen]:
    """Slot by slot: what a fixed rate does with runs that take so long. A whole number is that of a burst."""
    anchor, slot, now, runs = 0, 0, 0, list[Seen]()
    dropped = 0
    for length in takes:
        now = max(now, anchor + slot * period)
        runs.append(Seen(now, slot, dropped))
        now += length
        following = slot + 1
        passed = 0
        while anchor + (following + passed) * period < now:
            passed += 1
        if missed == "delay" and passed:
            slot = following + passed
            anchor = now + period - slot * period
        else:
            passed -= min(passed, missed) if isinstance(missed, int) else 0
            slot = following + passed
        dropped = passed
    return runs


@quick
@given(
    loop=loops,
    period=st.integers(1, 50),
    takes=st.lists(st.integers(0, 200), min_size=1, max_size=15),
    missed=st.sampled_from(["skip", "delay", 0, 1, 3]),
)
def test_s3_s4_s12_a_fixed_rate_is_that_of_the_model(
    loop: type[VirtualTime], period: int, takes: list[int], missed: str | int
) -> None:
    seen = list[Seen]()

    async def main() -> None:
        watch = Stopwatch()

        async def run() -> None:
            tick = told()
            length = takes[len(seen)]
            seen.append(Seen(watch.nanos, tick.slot, tick.missed))
            if length:
                await asyncio.sleep(length * MS / NANOS)

        policy: Any = Burst(missed) if isinstance(missed, int) else missed
        async with Timer(
            ns(period * MS), run, mode="fixed_rate", missed=policy, max_runs=len(takes)
        ) as timer:
            await timer.wait()
            assert timer.stats().skipped.overrun == sum(one.missed for one in grid_of_all)

    # The slots after the last run are nobody's.
    grid_of_all = grid(period * MS, [length * MS for length in takes], missed)
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
    assert seen == grid_of_all


def told() -> Tick:
    tick = current_tick()
    assert tick is not None
    return tick


@quick
@given(
    loop=loops,
    period=st.integers(MS, 10**12),
    count=st.integers(2, 30),
    delay=st.integers(0, 10**12),
)
def test_s1_s3_due_times_are_exact(loop: type[VirtualTime], period: int, count: int, delay: int) -> None:
    at = list[int]()

    async def main() -> None:
        watch = Stopwatch()
        run: Callable[[], None] = lambda: at.append(watch.nanos)  # noqa: E731, it has to know the clock
        timer = Timer(ns(period), run, mode="fixed_rate", initial_delay=ns(delay), max_runs=count)
        timer.start()
        await timer.wait()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
    # A float of seconds has no nanoseconds left after a while.
    assert all(abs(moment - (delay + slot * period)) <= moment * 2e-16 + 1 for slot, moment in enumerate(at))
    assert len(at) == count


@quick
@given(
    loop=loops,
    period=st.integers(10 * MS, 1_000 * MS),
    jitter=st.floats(0, 1),
    seed=st.integers(0, 2**64 - 1),
    mode=st.sampled_from(["fixed_rate", "fixed_delay"]),
)
def test_s5_s9_jitter_stays_in_its_window_and_nothing_is_early(
    loop: type[VirtualTime], period: int, jitter: float, seed: int, mode: Any
) -> None:
    at = list[int]()

    async def main() -> None:
        watch = Stopwatch()

        def run() -> None:
            assert told().lateness >= 0
            at.append(watch.nanos)

        timer = Timer(ns(period), run, mode=mode, jitter=jitter, seed=seed, max_runs=20)
        timer.start()
        await timer.wait()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
    before = at[0]
    reach = jitter * period + 1
    for slot, moment in enumerate(at):
        nominal = slot * period if mode == "fixed_rate" else before + (period if slot else 0)
        assert abs(moment - nominal) <= reach
        assert moment >= before
        before = moment


class PlannedError(Exception):
    pass


class Commands(RuleBasedStateMachine):
    """A timer under random commands."""

    loop_type: type[VirtualTime] = VirtualStockLoop

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=self.loop_type)
        self.active = 0
        self.runs = 0
        self.most_hits = 0
        self.values = 0
        self.ends = 0
        self.starts = 0
        self.stopped_at: int | None = None
        self.feeds: list[tuple[Subscription[int], list[int], int]] = []
        self.fails = False
        self.failures_told = 0

    @initialize(
        mode=st.sampled_from(["fixed_delay", "fixed_rate"]),
        jitter=st.sampled_from([0.0, 0.5]),
        missed=st.sampled_from(["skip", "delay", Burst(2)]),
        on_error=st.sampled_from(["stop", "continue", Backoff(0.005, 0.02)]),
        limit=st.sampled_from([None, 0.006]),
    )
    def make(self, mode: Any, jitter: float, missed: Any, on_error: Any, limit: float | None) -> None:
        self.limit = limit
        options: dict[str, Any] = {"mode": mode, "jitter": jitter, "missed": missed, "on_error": on_error}
        options["run_timeout"] = limit
        self.timer = Timer(0.01, self.target, self.told_failure, self.told_end, seed=7, **options)

    def do(self, what: Callable[[], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            return await what()

        return self.runner.run(main())

    async def target(self) -> int:
        assert self.stopped_at is None
        assert self.active == 0
        self.active += 1
        self.runs += 1
        try:
            await asyncio.sleep((self.runs % 4) * 0.004)
            if self.fails:
                raise PlannedError
            self.values += 1
            return self.values
        finally:
            self.active -= 1

    def told_failure(self, *_: object) -> None:
        self.failures_told += 1

    def told_end(self, *_: object) -> None:
        assert self.active == 0
        self.ends += 1

    @precondition(lambda self: not self.timer.is_running())
    @rule()
    def start(self) -> None:
        async def start() -> None:
            self.stopped_at = None
            self.timer.start()
            self.starts += 1

        self.do(start)

    @rule(how=st.sampled_from(["cancel", "stop", "shutdown"]))
    def end(self, how: str) -> None:
        async def end() -> None:
            await (self.timer.shutdown(0.001) if how == "shutdown" else getattr(self.timer, how)())
            self.stopped_at = self.runs
            assert self.active == 0
            assert self.ends == self.starts

        self.do(end)

    @rule(milliseconds=st.integers(0, 100))
    def advance(self, milliseconds: int) -> None:
        self.do(lambda: asyncio.sleep(milliseconds / 1_000))
        assert self.stopped_at in (None, self.runs)

    @rule(milliseconds=st.integers(1, 100))
    def stall(self, milliseconds: int) -> None:
        async def stall() -> None:
            virtual().advance(milliseconds / 1_000)

        self.do(stall)

    @rule(fails=st.booleans())
    def fail(self, fails: bool) -> None:
        self.fails = fails

    @rule(
        how=st.sampled_from(["trigger", "join", "wait", "cancel", "shutdown", "anext"]),
        turns=st.integers(0, 5),
    )
    def give_up(self, how: str, turns: int) -> None:
        """Whoever waits is cancelled. What was asked of the timer goes on."""

        async def wait() -> Any:
            match how:
                case "shutdown":
                    return await self.timer.shutdown(0.001)
                case "anext":
                    async with self.timer.subscribe() as feed:
                        return await anext(feed)
            return await getattr(self.timer, how)()

        async def give_up() -> None:
            waiting = asyncio.create_task(wait())
            await spin(turns)
            waiting.cancel()
            await asyncio.wait([waiting])
            if how in ("cancel", "shutdown"):
                await asyncio.sleep(0.002)

        self.do(give_up)

    @rule(turns=st.integers(0, 5))
    def turn(self, turns: int) -> None:
        self.do(lambda: spin(turns))

    @rule(how=st.sampled_from(["trigger", "join"]), waits=st.booleans())
    def ask(self, how: str, waits: bool) -> None:
        async def ask() -> None:
            was_running, before = self.timer.is_running(), self.runs
            answer = getattr(self.timer, how)()
            if not waits or self.timer.is_paused():
                return
            try:
                async with asyncio.timeout(1):
                    assert await answer == self.values
                assert how == "join" or self.runs > before
            except TimerNotRunningError:
                assert not was_running
            except PlannedError:
                assert self.timer.stats().failures > 0
            except TimeoutError as error:
                assert "exceeded its time limit" in str(error)

        self.do(ask)

    @rule(period=st.sampled_from([0.001, 0.01, 0.1]), rearm=st.booleans())
    def set_delay(self, period: float, rearm: bool) -> None:
        async def set_delay() -> None:
            self.timer.set_delay(period, rearm=rearm)
            assert self.timer.delay == period

        self.do(set_delay)

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        async def pause() -> None:
            (self.timer.pause if paused else self.timer.resume)()

        self.do(pause)

    @rule(maxsize=st.sampled_from([0, 1, 5]))
    def subscribe(self, maxsize: int) -> None:
        async def subscribe() -> None:
            if len(self.feeds) < 5:
                self.feeds.append((self.timer.subscribe(maxsize), [], maxsize))

        self.do(subscribe)

    @precondition(lambda self: self.feeds)
    @rule(count=st.integers(1, 10), data=st.data())
    def read(self, count: int, data: st.DataObject) -> None:
        feed, seen, _ = data.draw(st.sampled_from(self.feeds))

        async def read() -> None:
            for _ in range(min(count, feed.qsize)):
                value = settled(anext(feed))
                assert value is not PENDING
                seen.append(value)

        self.do(read)

    @precondition(lambda self: self.feeds)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        feed, seen, maxsize = data.draw(st.sampled_from(self.feeds))

        async def close() -> None:
            feed.close()
            self.feeds.remove((feed, seen, maxsize))

        self.do(close)

    @invariant()
    def counts_only_grow(self) -> None:
        hits = self.timer.hit_count
        assert hits >= self.most_hits
        self.most_hits = hits
        assert self.failures_told == self.timer.stats().failures
        assert self.ends in (self.starts, self.starts - 1)

    @invariant()
    def feeds_are_in_order_without_gaps(self) -> None:
        for feed, seen, maxsize in self.feeds:
            assert seen == sorted(set(seen))
            if maxsize:
                assert feed.qsize <= maxsize
            else:
                assert feed.dropped_count == 0
                # A run that is over its limit may have come to its value in the same moment.
                assert self.limit or not seen or seen == list(range(seen[0], seen[0] + len(seen)))

    def teardown(self) -> None:
        self.runner.close()
        assert self.active == 0
        assert self.ends == self.starts
        assert not self.timer.is_running()


class CommandsOnUvloop(Commands):
    loop_type = VirtualUvloop


TestCommands = Commands.TestCase
TestCommandsOnUvloop = CommandsOnUvloop.TestCase
TestCommands.settings = TestCommandsOnUvloop.settings = settings(
    deadline=None, max_examples=30, stateful_step_count=40
)
