"""What timers and engines on threads report, in Python's `logging` (O2)."""

import logging
import subprocess
import sys
import time

import pytest

from everbeat.threading import PeriodicTask, Timer


def test_s4_missed_slots_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    blocks = iter([0.05, 0, 0])
    target = lambda: time.sleep(next(blocks))  # noqa: E731
    with Timer(0.01, target, mode="fixed_rate", max_runs=3, name="slow") as timer:
        timer.wait(timeout=10)
    record = next(record for record in caplog.records if "slots missed" in record.getMessage())
    assert (record.name, record.levelname) == ("everbeat.timer.slow", "WARNING")
    assert record.getMessage().startswith("timer slow: slots missed (missed=")


def test_o2_a_failure_is_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with Timer(0, lambda: 1 / 0, name="broken", on_error="continue", max_runs=3) as timer:
        timer.wait(timeout=10)
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.name for record in failures] == ["everbeat.timer.broken"] * 3
    assert all(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in failures)


def test_o2_a_task_that_fails_goes_on_and_logs_each_time(caplog: pytest.LogCaptureFixture) -> None:
    task = PeriodicTask(0.001, lambda: 1 / 0)
    task.start()
    deadline = time.monotonic() + 10
    while len(caplog.records) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    task.stop()
    assert len([record for record in caplog.records if record.exc_info]) >= 3


def test_o2_a_handler_may_end_the_timer_that_reports() -> None:
    """On the very thread that the timer has its turn on."""

    def emit(_: logging.LogRecord) -> bool:
        timer.set_delay(5)
        return True

    logger = logging.getLogger("everbeat.timer.watched")
    logger.addFilter(emit)
    try:
        timer = Timer(0.01, lambda: time.sleep(0.03), mode="fixed_rate", name="watched", start=True)
        timer.wait(hit_count=1, timeout=10)
        assert timer.trigger(timeout=10) is None
        timer.cancel(timeout=10)
    finally:
        logger.removeFilter(emit)
    assert timer.delay == 5


def run(script: str) -> str:
    command = [sys.executable, "-X", "dev", "-c", script]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


# A process that may have no more threads. Nothing of the sort applies to root.
NO_MORE_THREADS = """
import logging, os, resource, threading
logging.basicConfig(level=logging.WARNING)
from everbeat.threading import Engine

engine, done = Engine(name="narrow"), threading.Event()
keeper = engine.after(3600, print)
if os.getuid() == 0:
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
engine.after(0, done.set)
assert done.wait(10)
"""


def test_o2_engines_report_too() -> None:
    assert "ERROR:everbeat.engine.narrow:engine narrow: a worker could not be started (error=" in run(
        NO_MORE_THREADS
    )


AT_EXIT = """
import logging, time
logging.basicConfig(level=logging.DEBUG)
from everbeat.threading import Timer

left = Timer(0.001, lambda: time.sleep(0.003), mode="fixed_rate", name="left", start=True)
left.wait(hits=3)
"""


def test_l10_reports_during_the_exit_of_the_interpreter_do_no_harm() -> None:
    assert "DEBUG:everbeat.timer.left:timer left: timer ended" in run(AT_EXIT)
