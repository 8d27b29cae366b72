"""What users see when something around a timer fails: descriptors and threads that cannot be had, loops that
nobody runs, processes that are stopped or forked, signals at an awkward moment."""

import asyncio
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from everbeat import Timer

PACKAGE = Path(__file__).parents[1] / "everbeat"
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="by the means of Linux")


def run(script: str) -> subprocess.CompletedProcess[str]:
    """A program of its own."""
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@ON_LINUX
def test_e1_a_precise_timer_without_a_descriptor_goes_by_the_waits_of_the_loop() -> None:
    done = run("""
        import asyncio, logging, os, resource
        from everbeat import Timer

        logging.basicConfig(level=logging.WARNING)

        async def main():
            taken = []
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
            try:
                while True:
                    taken.append(os.dup(0))
            except OSError:
                pass
            async with Timer(0.005, lambda: 1, precision="fine") as timer:
                await timer.wait(hit_count=5)
            print("without")
            for descriptor in taken:
                os.close(descriptor)
            async with Timer(0.005, lambda: 1, precision="fine") as timer:
                await timer.wait(hit_count=5)
            print("with", len(os.listdir("/proc/self/fd")))

        print(len(os.listdir("/proc/self/fd")))
        asyncio.run(main())
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1:3] == ["without", "with"]
    assert done.stderr.count("no precise alarm is to be had") == 1, done.stderr


def test_e1_a_precise_timer_in_a_loop_that_reads_no_descriptors() -> None:
    class Loop(asyncio.SelectorEventLoop):
        def add_reader(self, *_: object) -> None:
            raise NotImplementedError

        def _add_reader(self, *args: object) -> object:  # what asyncio needs itself
            return super()._add_reader(*args)  # type: ignore[misc]

    async def main() -> None:
        async with Timer(0.005, lambda: 1, precision="fine") as timer:
            await timer.wait(hit_count=5)

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())


@ON_LINUX
def test_e1_a_thread_that_cannot_be_had_is_an_error_of_the_library() -> None:
    done = run("""
        import resource
        from everbeat import TimerError
        from everbeat.threading import Engine, PeriodicTask, Timer

        engine = Engine(name="spare")
        timer, task = Timer(0.01, lambda: 1, engine=engine), PeriodicTask(0.01, lambda: 1)
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 20), resource.RLIM_INFINITY))
        for start in (timer.start, task.start):
            try:
                start()
            except TimerError as error:
                print(error)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(timer.is_running(), task.is_running())
        timer.start(), task.start()
        print(timer.wait(hit_count=2, timeout=20))
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("thread") == 2, done.stdout
    assert done.stdout.splitlines()[-2:] == ["False False", "True"], done.stdout


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_l10_a_signal_while_the_loop_is_asked_for_the_time_reaches_the_program(
    error: type[BaseException],
) -> None:
    class Loop(asyncio.SelectorEventLoop):
        asked = 0

        def time(self) -> float:
            # In a turn, not when asyncio itself wants to know.
            if sys._getframe(1).f_code.co_name == "_run":
                self.asked += 1
                if self.asked == 20:
                    raise error
            return super().time()

    loop = Loop()
    timer = Timer(0.001, lambda: None)
    loop.call_soon(timer.start)
    loop.call_later(30, loop.stop)
    with pytest.raises(error):
        loop.run_forever()
    assert loop.asked >= 20
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert not timer.is_running()


def test_s9_a_loop_that_is_slow_to_tell_the_time_is_asked_once_a_turn() -> None:
    """Its clock is the machine's, which tells the time after the run."""

    class Loop(asyncio.SelectorEventLoop):
        asked = 0

        def time(self) -> float:
            told = super().time()
            # In a turn, not when asyncio itself wants to know.
            self.asked += sys._getframe(1).f_code.co_name == "_run"
            while super().time() < told + 50e-6:
                pass
            return told

    async def tick() -> tuple[int, int]:
        async with Timer(0, lambda: None) as timer:
            await timer.wait(hit_count=10)
            before = timer.hit_count, loop.asked
            await timer.wait(hit_count=300)
            return timer.hit_count - before[0], loop.asked - before[1]

    loop = Loop()
    ticks, asked = loop.run_until_complete(tick())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert ticks * 0.9 < asked < ticks * 1.5


def test_l9_a_loop_that_was_stopped_answers_when_it_runs_again() -> None:
    loop = asyncio.new_event_loop()
    timer = Timer(0.001, lambda: 1)

    async def begin() -> None:
        timer.start()
        await timer.wait(hit_count=2)

    loop.run_until_complete(begin())
    hits = timer.hit_count
    told = list[BaseException]()

    def ask() -> None:
        for request in (timer.trigger_threadsafe, timer.cancel_threadsafe):
            try:
                request(0.05)
            except TimeoutError as error:
                told.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert len(told) == 2
    assert "what was asked stands" in str(told[0])
    assert (timer.hit_count, timer.is_running()) == (hits, True)
    loop.run_until_complete(timer.wait())
    assert not timer.is_running()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@ON_LINUX
def test_s4_a_process_that_is_stopped_for_a_while_makes_one_late_run_a_timer() -> None:
    """`SIGSTOP`, and `SIGCONT` a while later, from a process of its own."""
    done = run("""
        import asyncio, time
        from everbeat import Timer
        from everbeat.threading import Timer as ThreadTimer

        STOP = "kill -STOP $PPID && sleep 1.5; kill -CONT $PPID"

        async def main():
            runs = [[] for _ in range(4)]
            targets = [lambda run=run: run.append(time.monotonic()) for run in runs]
            makes = [(Timer, {}), (Timer, {"precision": "fine"})]
            makes += [(ThreadTimer, {}), (ThreadTimer, {"inline": True})]
            timers = [
                make(0.02, target, mode="fixed_rate", **options)
                for (make, options), target in zip(makes, targets, strict=True)
            ]
            for timer in timers:
                timer.start()
            while any(len(run) < 3 for run in runs):
                await asyncio.sleep(0.01)
            shell = await asyncio.create_subprocess_exec("sh", "-c", STOP)
            await shell.wait()
            counts = [len(run) for run in runs]
            while any(len(run) < count + 3 for run, count in zip(runs, counts, strict=True)):
                await asyncio.sleep(0.01)
            for timer, run in zip(timers, runs, strict=True):
                gaps = [after - before for before, after in zip(run, run[1:])]
                stop = gaps.index(max(gaps))
                resumed = run[stop + 1]
                burst = sum(resumed <= at < resumed + 0.01 for at in run)
                print(max(gaps) > 1.0, burst <= 2, timer.stats().skipped.total >= 40)
                ended = timer.cancel()
                if ended is not None:
                    await ended

        asyncio.run(main())
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True True True"] * 4
    assert done.stderr.count("slots missed") >= 4


@pytest.mark.skipif(sys.platform == "win32", reason="no fork here")
def test_l11_a_fork_in_the_middle_of_everything() -> None:
    """With timers in a loop and on threads, by `multiprocessing` and by hand."""
    done = run("""
        import asyncio, multiprocessing, os, warnings
        from everbeat import Timer
        from everbeat.threading import PeriodicTask, after

        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about threads and forks

        async def fresh():
            async with Timer(0.001, os.getpid) as timer:
                return await timer.wait(hit_count=3)

        def work(number):
            assert asyncio.run(fresh()) == os.getpid()
            return after(0.001, lambda: number * 2).wait(20)

        async def main():
            tasks = [PeriodicTask(0, lambda: None) for _ in range(3)]
            for task in tasks:
                task.start()
            async with Timer(0.001, lambda: None) as timer, Timer(0.001, lambda: None, precision="fine") as fine:
                await timer.wait(hit_count=3)
                pool = multiprocessing.get_context("fork").Pool(2)
                print(await asyncio.to_thread(pool.map, work, range(4)))
                await asyncio.to_thread(pool.terminate)
                await asyncio.to_thread(pool.join)
                pid = os.fork()
                if pid == 0:
                    os._exit(work(21))
                _, status = await asyncio.to_thread(os.waitpid, pid, 0)
                print(os.waitstatus_to_exitcode(status))
                await timer.wait(hits=3)
                await fine.wait(hits=3)
            for task in tasks:
                task.stop()

        asyncio.run(main())
    """)
    assert (done.returncode, done.stdout) == (0, "[0, 2, 4, 6]\n42\n"), done.stdout + done.stderr


def test_l10_the_end_of_the_program_waits_for_a_run_on_another_thread() -> None:
    done = run("""
        import asyncio, threading, time
        from everbeat import Timer

        begun = threading.Event()

        def work():
            begun.set()
            time.sleep(0.3)
            print("finished")

        async def main():
            Timer(60, work, None, lambda *_: print("ended"), offload=True, start=True)
            await asyncio.to_thread(begun.wait)

        asyncio.run(main())
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split()) == ["ended", "finished"]


def test_s9_the_package_reads_no_clock_that_can_be_stepped() -> None:
    """What is compiled is looked after by Clippy."""
    stepped = re.compile(r"\btime\.time(_ns)?\(|\bdatetime\.(now|utcnow|today)\(|from time import .*\btime\b")
    sources = list(PACKAGE.rglob("*.py"))
    assert len(sources) > 10
    assert [path.name for path in sources if stepped.search(path.read_text())] == []
