"""L7, L8, L10 and R5: loops that end, one after the other and side by side, and what is left behind."""

import asyncio
import gc
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from everbeat import Subscription, Timer, TimerNotRunningError, TimerStoppedError, current_tick
from tests.support import REAL_LOOPS, VIRTUAL_LOOPS, spin

HERE = Path(__file__).parents[2]


@pytest.fixture(params=VIRTUAL_LOOPS.values(), ids=VIRTUAL_LOOPS)
def new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    factory: Callable[[], asyncio.AbstractEventLoop] = request.param
    return factory


@pytest.fixture
def run(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """`asyncio.run` in a new loop."""

    def run_in_new_loop(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main)

    return run_in_new_loop


Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    "target", [lambda: 1, forever, lambda: asyncio.sleep(0)], ids=["sync", "busy", "idle"]
)
def test_l8_a_loop_that_ends_ends_its_timers(run: Run, target: Callable[[], Any]) -> None:
    ends = list[str]()

    async def main() -> Timer[Any]:
        timer = Timer(0.01, target, None, lambda *_: ends.append("end"))
        timer.start()
        await asyncio.sleep(0.025)
        return timer

    timer = run(main())
    assert ends == ["end"]
    assert not timer.is_running()


def test_l8_those_who_wait_on_another_loop_are_told(run: Run) -> None:
    timers = list[Timer[Any]]()
    started, answered = threading.Event(), list[Any]()

    def wait_elsewhere() -> None:
        async def main() -> None:
            waiting = asyncio.ensure_future(ask())
            await spin()
            started.set()
            await waiting

        async def ask() -> None:
            try:
                await timers[0].wait(hits=1000)
            except TimerStoppedError as error:
                answered.append(str(error))

        asyncio.run(main())

    async def main() -> None:
        timer = Timer(3600, lambda: 1)
        timer.start()
        timers.append(timer)
        await timer.join()
        thread.start()
        await asyncio.to_thread(started.wait)

    thread = threading.Thread(target=wait_elsewhere)
    run(main())
    thread.join()
    assert len(answered) == 1


def test_l8_a_run_in_flight_gets_to_clean_up_when_its_loop_ends(run: Run) -> None:
    order = list[str]()

    async def clean_up() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            order.append("cleaned up")
            raise

    async def main() -> None:
        Timer(0.01, clean_up, None, lambda *_: order.append("end")).start()
        await asyncio.sleep(0.025)

    run(main())
    assert sorted(order) == ["cleaned up", "end"]


def test_l8_a_loop_that_is_closed_without_a_shutdown(
    new_loop: Callable[[], asyncio.AbstractEventLoop], recwarn: pytest.WarningsRecorder
) -> None:
    timer = Timer(0.01, lambda: 1)

    async def main() -> None:
        timer.start()
        await timer.wait(hit_count=2)

    loop = new_loop()
    loop.run_until_complete(main())
    loop.close()
    hits = timer.hit_count
    # Nobody has told the timer yet; the next to ask finds out.
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(restart(timer))
    assert timer.hit_count == hits + 3
    del loop
    gc.collect()


async def restart(timer: Timer[Any]) -> None:
    timer.start()
    await timer.wait(hits=3)
    await timer.cancel()


def test_l7_restart_in_another_loop(run: Run) -> None:
    timer = Timer(0.01, lambda: timer.hit_count + 1)
    for _ in range(3):
        run(restart(timer))
    assert (timer.hit_count, timer.last_result) == (9, 9)
    assert not timer.is_running()


def test_l7_runs_are_numbered_on_in_another_loop(run: Run) -> None:
    timer = Timer(0.01, current_tick)
    for number in (3, 6):
        run(restart(timer))
        assert timer.last_result is not None
        assert (timer.last_result.run, timer.last_result.slot) == (number, 2)


def test_l7_restart_in_the_loop_of_another_thread(run: Run) -> None:
    timer = Timer(0.01, lambda: threading.current_thread().name)
    run(restart(timer))
    thread = threading.Thread(target=run, args=(restart(timer),), name="other")
    thread.start()
    thread.join()
    assert (timer.hit_count, timer.last_result) == (6, "other")
    run(restart(timer))
    assert (timer.hit_count, timer.last_result) == (9, "MainThread")


def test_l7_a_period_that_was_set_goes_along_to_another_loop(run: Run) -> None:
    timer = Timer(0.01, lambda: 1)
    run(restart(timer))
    timer.set_delay(5)
    assert timer.delay == 5

    async def main() -> float:
        began = asyncio.get_running_loop().time()
        await restart(timer)
        return asyncio.get_running_loop().time() - began

    assert run(main()) == pytest.approx(10)


def test_l7_waiting_for_counts_across_loops(run: Run) -> None:
    timer = Timer(0.01, lambda: 1)
    run(restart(timer))

    async def main() -> None:
        timer.start()
        await timer.wait(hit_count=2)
        assert timer.hit_count == 3
        await timer.wait(hit_count=5)
        assert timer.hit_count == 5
        await timer.cancel()

    run(main())


def test_l8_timers_in_the_loops_of_several_threads() -> None:
    counts = list[int]()

    async def main() -> None:
        timers = [Timer(0.001, lambda: None, mode="fixed_rate") for _ in range(20)]
        for timer in timers:
            timer.start()
        await asyncio.gather(*(wait_for(timer, 20) for timer in timers))
        await asyncio.gather(*(cancelled(timer) for timer in timers))
        counts.extend(timer.hit_count for timer in timers)

    async def wait_for(timer: Timer[Any], count: int) -> None:
        await timer.wait(hit_count=count)

    async def cancelled(timer: Timer[Any]) -> None:
        await timer.cancel()

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == 80
    assert min(counts) >= 20


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("is_async", [False, True])
def test_r5_what_ends_the_program_ends_the_loop(
    new_loop: Callable[[], asyncio.AbstractEventLoop], error: type[BaseException], is_async: bool
) -> None:
    ends = list[str]()

    def run() -> None:
        raise error

    async def run_in_a_task() -> None:
        await asyncio.sleep(0)
        raise error

    async def main() -> None:
        timer = Timer(
            0.01, run_in_a_task if is_async else run, lambda *_: None, lambda *_: ends.append("end")
        )
        timer.start()
        await asyncio.sleep(1000)

    with pytest.raises(error), asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert ends == ["end"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_r5_what_ends_the_program_comes_before_whoever_waits_for_it(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A main task that ends in the same turn would stop the loop once more, in its cleanup.

    So it is in uvloop, which ends its round first.
    """
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

    async def run_in_a_task() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            raise error

    async def main() -> None:
        timer = Timer(0.01, run_in_a_task, start=True)
        await spin()
        await timer.cancel()

    with pytest.raises(error):
        asyncio.run(main())


def test_l8_a_started_timer_lives_whether_or_not_anyone_holds_it(run: Run) -> None:
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1

    async def main() -> None:
        Timer(0.01, tick).start()
        for _ in range(10):
            await asyncio.sleep(0.01)
            gc.collect()

    run(main())
    assert count >= 10


class Target:
    """Holds its timer, which holds it."""

    def __init__(self, *, is_async: bool, result: object = None) -> None:
        self.result = result
        self.timer = Timer(0.01, self.run_async if is_async else self.run, self.told, self.told, name="cycle")
        self.feed: Subscription[Any] = self.timer.subscribe(maxsize=2)

    def run(self) -> object:
        return self.result

    async def run_async(self) -> object:
        await asyncio.sleep(0)
        return self.result

    def told(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("how", ["never started", "cancelled", "failed wait", "loop ended"])
def test_l8_no_cycle_keeps_an_ended_timer(run: Run, is_async: bool, how: str) -> None:
    async def main() -> weakref.ref[Target]:
        target = Target(is_async=is_async)
        if how != "never started":
            target.timer.start()
            await target.timer.wait(hits=3)
        if how in ("cancelled", "failed wait"):
            await target.timer.cancel()
        if how == "failed wait":
            with pytest.raises(TimerNotRunningError):
                await target.timer.join()
        if how == "loop ended":
            return weakref.ref(target)
        reference = weakref.ref(target)
        del target
        await spin()
        gc.collect()
        assert reference() is None
        return reference

    reference = run(main())
    gc.collect()
    assert reference() is None


def test_l8_a_value_that_refers_to_its_timer_is_no_leak(run: Run) -> None:
    async def main() -> weakref.ref[Target]:
        target = Target(is_async=False)
        target.result = target
        target.feed.close()
        target.timer.start()
        await target.timer.wait(hits=3)
        await target.timer.cancel()
        return weakref.ref(target)

    reference = run(main())
    gc.collect()
    assert reference() is None


def test_l8_starts_and_ticks_leave_nothing_behind(run: Run) -> None:
    """The number of objects that the collector knows does not grow."""

    async def main() -> None:
        async def tick() -> None:
            await asyncio.sleep(0)

        async def work(times: int) -> None:
            async with Timer(0, lambda: None) as timer:
                await timer.wait(hit_count=10 * times)
            async with Timer(0, tick) as timer:
                feed = timer.subscribe(maxsize=3)
                await timer.wait(hit_count=times)
                assert feed.qsize == 3
            for _ in range(times):
                async with Timer(1, tick) as timer:
                    await timer.join()

        await work(100)
        gc.collect()
        before = len(gc.get_objects())
        await work(1_000)
        gc.collect()
        assert len(gc.get_objects()) - before < 100

    run(main())


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="nobody tells how much memory is in use")
@pytest.mark.parametrize("name", VIRTUAL_LOOPS)
def test_l8_memory_does_not_grow_with_ticks(name: str) -> None:
    """In a process of its own, where nothing else comes and goes. Two words kept by each tick are 1.5 MB."""
    script = f"""
import asyncio
import os
from everbeat import Timer
from tests.support import VIRTUAL_LOOPS

def resident():
    with open("/proc/self/statm") as figures:
        return int(figures.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

async def main():
    async with Timer(0, lambda: None) as timer:
        await timer.wait(hit_count=20_000)
        before = resident()
        await timer.wait(hits=100_000)
        print(resident() - before)

with asyncio.Runner(loop_factory=VIRTUAL_LOOPS[{name!r}]) as runner:
    runner.run(main())
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=HERE, timeout=50, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) < 1_000_000


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks are eager from Python 3.12 on")
def test_r2_eager_tasks(run: Run) -> None:
    async def main() -> None:
        def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
            return asyncio.Task(coro, loop=loop, **(options | {"eager_start": True}))

        asyncio.get_running_loop().set_task_factory(factory)

        async def at_once() -> int:
            return 1

        async def later() -> int:
            await asyncio.sleep(0.001)
            return 2

        async with Timer(0.01, at_once) as first, Timer(0.01, later) as second:
            assert await first.wait(hit_count=5) == 1
            assert await second.wait(hit_count=5) == 2
            assert await second.trigger() == 2
        await spin()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_r2_a_task_factory_of_ones_own(run: Run) -> None:
    made = list[asyncio.Task[Any]]()

    async def main() -> None:
        def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
            task = asyncio.Task(coro, loop=loop, **options)
            made.append(task)
            return task

        asyncio.get_running_loop().set_task_factory(factory)
        async with Timer(0.01, lambda: asyncio.sleep(0), name="made") as timer:
            await timer.wait(hit_count=3)

    run(main())
    assert [task.get_name() for task in made].count("timer:made") == 1


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_l11_a_timer_of_the_parent_says_so_in_the_child_and_new_ones_work() -> None:
    script = """
import asyncio, os
from everbeat import Timer, TimerError

timer = Timer(0.001, lambda: os.getpid())

async def in_child():
    async with Timer(0.001, lambda: os.getpid()) as another:
        return await another.wait(hit_count=3)

async def main():
    timer.start()
    await timer.wait(hit_count=3)
    pid = os.fork()
    if pid == 0:
        told = 0
        for use in (timer.start, timer.cancel, timer.trigger, timer.subscribe):
            try:
                use()
            except TimerError as error:
                told += "fork" in str(error)
        again = asyncio.run(in_child())
        os._exit(0 if timer.last_result == os.getppid() and told == 4 and again == os.getpid() else 1)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    await timer.wait(hits=3)
    await timer.cancel()
    return os.waitstatus_to_exitcode(status)

raise SystemExit(asyncio.run(main()))
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=30, check=False).returncode == 0


@pytest.mark.parametrize("kind", ["never awaited", "running at exit", "held by a global", "in a closed loop"])
def test_l10_the_interpreter_ends_quietly(kind: str) -> None:
    script = f"""
import asyncio
from everbeat import Timer

async def tick():
    await asyncio.sleep(0)

timer = Timer(0.001, tick)

async def main():
    timer.start()
    await timer.wait(hit_count=3)
    timer.join(), timer.cancel() if {kind == "never awaited"} else None

if {kind == "in a closed loop"}:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
elif {kind == "running at exit"}:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
else:
    asyncio.run(main())
"""
    flags = ["-X", "dev", "-W", "error"]
    done = subprocess.run(
        [sys.executable, *flags, "-c", script], timeout=30, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    if kind != "in a closed loop":  # there asyncio itself complains about what was left running
        assert done.stderr == ""


@pytest.mark.parametrize("factory", REAL_LOOPS.values(), ids=REAL_LOOPS)
def test_s3_real_time(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """By the clock: no tick before its slot, with a wide margin."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        at = list[float]()
        began = loop.time()
        async with Timer(0.02, lambda: at.append(loop.time() - began), mode="fixed_rate") as timer:
            await timer.wait(hit_count=10)
        # The time that uvloop tells stands still during a turn, which may be a long one on a busy machine.
        assert all(moment >= place * 0.02 - 0.01 for place, moment in enumerate(at))

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@pytest.mark.parametrize("factory", REAL_LOOPS.values(), ids=REAL_LOOPS)
def test_s9_real_time_many_periods(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        early = list[float]()

        def check(due: list[float], period: float) -> Callable[[], None]:
            def tick() -> None:
                if loop.time() < due[0] - 1e-9:
                    early.append(due[0] - loop.time())
                due[0] = loop.time() + period

            return tick

        timers = [Timer(k / 2_000, check([0], k / 2_000)) for k in range(1, 20)]
        for timer in timers:
            timer.start()
        await asyncio.sleep(0.3)
        for timer in timers:
            await timer.cancel()
            assert timer.hit_count > 3
        assert early == []

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def test_l10_ctrl_c_reaches_the_program() -> None:
    script = """
import asyncio, signal
from everbeat import Timer

# Who is started in the background ignores it, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    async with Timer(0.001, lambda: print("tick", flush=True)) as timer:
        await timer.wait()

try:
    asyncio.run(main())
except KeyboardInterrupt:
    raise SystemExit(7)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "tick\n"
        time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        child.stdout.read()
        assert child.wait(30) == 7
