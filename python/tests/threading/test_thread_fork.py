"""Forks, in programs of their own."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

BUSY = """
    tasks = [PeriodicTask(0, lambda: None) for _ in range(4)]
    for task in tasks:
        task.start()
    timer = Timer(0, lambda: object(), name="old")
    timer.start()
    timer.wait(hit_count=10, timeout=20)
"""


def test_l11_a_timer_of_the_parent_says_so(run_script):
    done = run_script(
        BUSY
        + """
    call = after(3600, print)
    feed = timer.subscribe()
    schedule = ticks(3600)
    scope = Scope()
    engine = Engine()
    group = TimerGroup([timer])
    started = TimerGroup()
    started.start()
    pid = os.fork()
    if pid == 0:
        uses = [
            timer.cancel, timer.start, timer.trigger, timer.join, timer.wait, timer.stats, timer.is_running,
            timer.pause, timer.resume, timer.subscribe, lambda: timer.hit_count, lambda: timer.last_result,
            lambda: timer.delay, lambda: timer.set_delay(1), lambda: timer.shutdown(1), feed.get, feed.close,
            tasks[0].stop, tasks[0].start, tasks[0].is_running, tasks[0].stats, call.cancel, call.wait,
            call.is_pending, call.fire_now, schedule.get, schedule.cancel, scope.close, scope.active,
            lambda: scope.after(1, print), engine.close, engine.stats, lambda: engine.after(1, print),
            group.start, group.cancel, group.trigger, group.wait, group.__enter__, lambda: group.shutdown(1),
            lambda: group.add(timer), started.start, started.cancel, lambda: started.shutdown(1),
        ]
        for use in uses:
            try:
                use()
            except everbeat.TimerError as error:
                assert "fork" in str(error), error
            else:
                print("no error", use)
        print(timer, tasks[0], call, feed, schedule, scope, engine, sep="\\n", flush=True)
        sys.exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    """
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 7 and "no error" not in done.stdout
    assert done.stdout.count("of another process") == 7


@pytest.mark.parametrize(
    "leave", ["sys.exit(0)", "os._exit(0)", "del timer, tasks; import gc; gc.collect(); sys.exit(0)"]
)
def test_l11_new_timers_work_in_the_child(run_script, leave):
    done = run_script(
        BUSY
        + f"""
    for _ in range(10):
        pid = os.fork()
        if pid == 0:
            new = Timer(0.001, lambda: 5)
            with new:
                assert new.wait(hits=3, timeout=20)
            assert after(0, lambda: 6).wait(20) == 6
            grandchild = os.fork()
            if grandchild == 0:
                assert after(0, lambda: 7).wait(20) == 7
                {leave}
            assert os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 0
            {leave}
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        timer.wait(hits=1, timeout=20)
    """
    )
    assert done.returncode == 0, done.stderr


def test_l11_multiprocessing(run_script):
    done = run_script(
        BUSY
        + """
    import multiprocessing
    context = multiprocessing.get_context("fork")

    def work(number):
        return after(0.001, lambda: number * 2).wait(20)

    with context.Pool(2) as pool:
        assert pool.map(work, range(8)) == [number * 2 for number in range(8)]
    process = context.Process(target=work, args=(1,))
    process.start()
    process.join(20)
    assert process.exitcode == 0
    """
    )
    assert done.returncode == 0, done.stderr


def test_l11_a_fork_in_a_callback(run_script):
    done = run_script("""
    children = []

    def fork():
        pid = os.fork()
        if pid:
            children.append(pid)

    with Timer(0, fork, max_runs=3) as timer:
        timer.wait(timeout=20)
    for pid in children:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    print(len(children))
    """)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


EARLY = """
import os, sys

def look():
    try:
        timer.cancel()
    except everbeat.TimerError as error:
        print(len(forks), "fork" in str(error), flush=True)

forks = []
os.register_at_fork(after_in_child=look)
import everbeat.threading
timer = everbeat.threading.Timer(0, lambda: None)
timer.start()
timer.wait(hit_count=10, timeout=20)
while len(forks) < 3:
    forks.append(os.fork())
    if forks[-1] == 0:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(forks[-1], 0)[1]) == 0
timer.cancel()
"""


def test_l11_what_runs_in_a_child_before_the_library_hears_of_it():
    # Hooks are called in the order in which they were registered.
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "0 True\n1 True\n2 True\n"), done.stderr


LATE = """
import os, threading
begun, loaded, forks = threading.Event(), threading.Event(), []

def wait_for_the_library():
    if not forks:
        begun.set()
        loaded.wait(20)

def look():
    if forks:
        try:
            timer.cancel()
        except everbeat.TimerError as error:
            print(len(forks), "fork" in str(error), flush=True)

def load():
    global everbeat
    begun.wait(20)
    import everbeat.threading
    loaded.set()

os.register_at_fork(before=wait_for_the_library, after_in_child=look)
loader = threading.Thread(target=load)
loader.start()
while len(forks) < 3:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    if not forks:
        loader.join()
        timer = everbeat.threading.Timer(3600, lambda: None, initial_delay=3600)
        timer.start()
    forks.append(pid)
timer.cancel()
"""


def test_l11_the_library_may_be_loaded_while_another_thread_forks():
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "1 True\n2 True\n"), done.stderr
