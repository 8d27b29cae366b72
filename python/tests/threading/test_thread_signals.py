"""Ctrl-C in the middle of a wait."""

import pytest


@pytest.mark.parametrize(
    "wait",
    [
        "timer.wait()",
        "timer.join()",
        "timer.wait(hits=1)",
        "timer.trigger()",
        "timer.cancel()",
        "timer.shutdown(3600)",
        "next(timer.subscribe())",
        "next(ticks(3600, initial_delay=3600))",
        "after(3600, print).wait()",
        "task.stop()",
        "engine.close()",
    ],
)
def test_d3_a_wait_can_be_interrupted(run_script, wait):
    done = run_script(f"""
        import signal
        # Who is started in the background ignores it, and so do its children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        busy = threading.Event()
        go_on = threading.Event()

        def slow():
            busy.set()
            go_on.wait(30)

        engine = Engine()
        timer = engine.every(3600, slow)
        timer.start()
        assert busy.wait(20)
        busy.clear()
        task = PeriodicTask(0, slow)
        task.start()
        assert busy.wait(20)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            {wait}
        except KeyboardInterrupt:
            print("interrupted")
        go_on.set()
    """)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
