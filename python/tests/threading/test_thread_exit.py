"""The exit of the interpreter, in programs of their own."""

import pytest


@pytest.mark.parametrize(
    "target",
    [
        "pass",
        "time.sleep(0.002)",
        "time.sleep(0.3)",
        "raise ValueError",
        "threading.Event().wait()",
        "lock = threading.Lock(); lock.acquire(); lock.acquire()",
        "exec('while True: pass')",
        "exec('while True: time.sleep(0.001)')",
        "other.join()",
        "other.trigger()",
        "list(other.subscribe())",
        "task.stop()",
    ],
)
def test_l10_exit_is_bounded_whatever_a_callback_does(run_script, target):
    done = run_script(f"""
        started = threading.Event()

        def target():
            started.set()
            {target}

        other = Timer(3600, int, initial_delay=3600, start=True)
        task = PeriodicTask(0, target)
        task.start()
        assert started.wait(20)
    """)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Fatal" not in done.stderr
    assert done.took < 30


@pytest.mark.parametrize("inline", [True, False])
def test_l10_no_run_begins_after_exit_began(run_script, inline):
    """A handler that was registered before the import runs after everything was ended."""
    done = run_script(f"""
        import atexit
        exiting = False
        late = 0

        def check():
            before = late
            time.sleep(0.05)
            print("ended", not timer.is_running(), late == before)

        # Registered first, and so called last.
        atexit.unregister(everbeat.threading._leave)
        atexit.register(check)
        atexit.register(everbeat.threading._leave)

        def target():
            global late
            late += 1

        timer = Timer(0, target, inline={inline}, cancel_cb=lambda *_: print("told"))
        timer.start()
        timer.wait(hit_count=100, timeout=20)
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["told", "ended", "True", "True"]


def test_l10_everything_is_stopped(run_script):
    done = run_script("""
        engine = Engine(name="own")
        everything = [
            after(3600, print), engine.after(3600, print), PeriodicTask(3600, print), Timer(3600, int, print),
            engine.every(0.001, lambda: None), Scope().timer(3600, lambda: None), ticks(3600),
        ]
        for timer in everything[2:5]:
            timer.start()
        del engine
        for _ in range(1000):
            after(3600, print)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert done.took < 20


def test_l10_a_run_in_flight_may_finish(run_script):
    done = run_script("""
        started = threading.Event()

        def target():
            started.set()
            time.sleep(0.2)
            print("finished", flush=True)

        PeriodicTask(0, target).start()
        assert started.wait(20)
    """)
    assert (done.returncode, done.stdout.split()) == (0, ["finished"]), done.stderr


def test_l10_a_run_that_goes_on_is_asked_to_end(run_script):
    done = run_script("""
        started = threading.Event()

        def target():
            started.set()
            try:
                while True:
                    time.sleep(0.001)
            finally:
                print("cleaned up", flush=True)

        PeriodicTask(0, target).start()
        assert started.wait(20)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "cleaned up\n", "")


@pytest.mark.parametrize(
    "start",
    [
        "after(0, block)",
        "PeriodicTask(0, block).start()",
        "Timer(1, block, inline=True, start=True)",
        "Timer(1, generate, start=True)",
        "Timer(1, fail, lambda *_: block(), start=True)",
        "Timer(1, int, cancel_cb=lambda *_: block(), max_runs=1, start=True)",
        "in_loop(keep(block))",
        "in_loop(keep(generate))",
        "in_loop(keep(await_it))",
        "in_loop(keep(generate_slowly))",
        "in_loop(consume())",
    ],
)
def test_l10_a_call_that_comes_back_when_the_interpreter_is_going_away(run_script, start):
    """It is blocked in C, and goes on in the middle of the finalization: when Python flushes its files."""
    done = run_script(f"""
        import asyncio

        waiting, started = os.pipe(), threading.Event()

        def block():
            started.set()
            os.read(waiting[0], 1)

        def generate():
            yield block()

        def fail():
            raise ValueError

        async def await_it():
            block()

        async def generate_slowly():
            yield block()

        async def keep(target):
            async with everbeat.Timer(10, target):
                await asyncio.sleep(100)

        async def consume():
            async with everbeat.Timer(0.01, int) as timer:
                async for _ in timer:
                    block()

        def in_loop(main):
            threading.Thread(target=asyncio.run, args=(main,), daemon=True).start()

        class Output:
            closed = False

            def write(self, text):
                pass

            def flush(self, write=os.write, sleep=time.sleep, end=waiting[1]):
                write(end, b"x")
                sleep(0.3)
                write(1, b"flushed")

        {start}
        assert started.wait(20)
        sys.stdout = Output()
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "flushed", "")


def test_l10_nothing_starts_during_the_exit(run_script):
    done = run_script("""
        import atexit

        def late():
            for start in (lambda: after(0, print), PeriodicTask(0, print).start, Timer(0, print).start):
                try:
                    start()
                except everbeat.TimerError as error:
                    print(error)

        atexit.unregister(everbeat.threading._leave)
        atexit.register(late)
        atexit.register(everbeat.threading._leave)
    """)
    assert done.stdout.count("exiting") == 3, done.stderr


def test_l10_exit_codes_survive(run_script):
    done = run_script("""
        PeriodicTask(0, lambda: None).start()
        time.sleep(0.02)
        sys.exit(7)
    """)
    assert (done.returncode, done.stderr) == (7, "")


def test_l10_the_import_starts_no_thread(run_script):
    done = run_script("""
        print(len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1)
        timer = Timer(1, print)
        task = PeriodicTask(1, print)
        Engine(), Scope()
        print(len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1)
    """)
    assert done.stdout.split() == ["1", "1"], done.stderr


def test_l10_daemon_threads_in_a_wait(run_script):
    """Threads that wait for a timer while the interpreter goes away."""
    done = run_script("""
        timer = Timer(3600, print, initial_delay=3600, start=True)
        feed = timer.subscribe()
        for wait in (timer.wait, timer.join, feed.get, lambda: list(ticks(0.001))):
            threading.Thread(target=wait, daemon=True).start()
        time.sleep(0.05)
    """)
    assert done.returncode == 0, done.stderr
    assert "Fatal" not in done.stderr
