"""What the library reports, in Python's `logging`: loggers, levels, words, and how often (O2)."""

import asyncio
import logging
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator

import pytest

from everbeat import Timer

KNOWN = logging.Logger.manager.loggerDict


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG, logger="everbeat"):
        yield


def lines(caplog: pytest.LogCaptureFixture, start: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if re.match(r"timer [^:]*: " + start, record.getMessage())]


async def run_once(name: str) -> None:
    async with Timer(0, lambda: None, name=name, max_runs=1) as timer:
        await timer.wait()


async def test_s4_missed_slots_are_reported_once_per_batch(caplog: pytest.LogCaptureFixture) -> None:
    blocks = iter([0.05, 0, 0, 0])
    async with Timer(
        0.01, lambda: time.sleep(next(blocks)), mode="fixed_rate", max_runs=4, name="slow"
    ) as timer:
        await timer.wait()
    records = lines(caplog, "slots missed")
    assert {(record.name, record.levelname) for record in records} == {("everbeat.timer.slow", "WARNING")}
    words = r"timer slow: slots missed \(missed=(\d+), late=[\d.]+.?s\)"
    told = [re.fullmatch(words, record.getMessage()) for record in records]
    missed = [int(line[1]) for line in told if line]
    assert missed[0] >= 4
    # On a busy machine there may be another batch.
    assert sum(missed) == timer.stats().missed


async def test_s4_batches_that_follow_are_reported_together(caplog: pytest.LogCaptureFixture) -> None:
    def block() -> None:
        time.sleep(0.03)

    async with Timer(0.01, block, mode="fixed_rate", max_runs=6, name="slow") as timer:
        await timer.wait()
    # One at once, the rest when the quiet time or the timer is over.
    assert len(lines(caplog, "slots missed")) == 2


async def test_o2_a_failure_is_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with Timer(0, lambda: 1 / 0, name="broken", on_error="continue", max_runs=3) as timer:
        await timer.wait()
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    told = ("everbeat.timer.broken", "a run of timer 'broken' failed")
    assert [(record.name, record.getMessage()) for record in failures] == [told] * 3
    for record in failures:
        assert record.exc_info and record.exc_info[0] is ZeroDivisionError
        assert [frame.name for frame in traceback.extract_tb(record.exc_info[2])] == ["<lambda>"]
    assert not lines(caplog, "run failed")


async def test_d6_losses_of_a_feed_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    async with Timer(0, iter(range(10)), name="fast") as timer, timer.subscribe(2, name="narrow"):
        await timer.wait()
    told = [re.search(r"\(feed=narrow, lost=(\d+)\)", line.getMessage()) for line in lines(caplog, "a slow")]
    assert sum(int(line[1]) for line in told if line) == 8


async def test_o2_the_end_is_a_debug_message(caplog: pytest.LogCaptureFixture) -> None:
    await run_once("short")
    (record,) = lines(caplog, "timer ended")
    assert (record.name, record.levelname) == ("everbeat.timer.short", "DEBUG")


@pytest.mark.parametrize("name", ["silent", "silent.with.dots", "silent.with..odd.", "%s {} \N{SNOWMAN}"])
async def test_o2_a_level_that_is_off_costs_no_logger(caplog: pytest.LogCaptureFixture, name: str) -> None:
    with caplog.at_level(logging.INFO, logger="everbeat"):
        await run_once(name)
    assert not caplog.records
    assert f"everbeat.timer.{name}" not in KNOWN


async def test_o2_every_logger_on_the_way_has_its_say(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="everbeat"):
        with caplog.at_level(logging.DEBUG, logger="everbeat.timer.db"):
            await run_once("db.one")
            with caplog.at_level(logging.INFO, logger="everbeat.timer.db.two"):
                await run_once("db.two")
                await run_once("db.two.three")
        with caplog.at_level(logging.DEBUG, logger="everbeat.timer.cache"):
            await run_once("cache")
    assert [record.name for record in caplog.records] == ["everbeat.timer.db.one", "everbeat.timer.cache"]


async def test_o2_logging_that_is_disabled_altogether(caplog: pytest.LogCaptureFixture) -> None:
    logging.disable(logging.DEBUG)
    try:
        await run_once("disabled")
    finally:
        logging.disable(logging.NOTSET)
    assert not caplog.records


async def test_o2_names_are_no_formats(caplog: pytest.LogCaptureFixture) -> None:
    await run_once("%s {} \N{SNOWMAN}")
    assert caplog.messages == ["timer %s {} \N{SNOWMAN}: timer ended (reason=MaxRuns)"]


class Calling(logging.Handler):
    """Calls a function with every record."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.emit = function  # type: ignore[method-assign, assignment]


async def test_o2_a_handler_may_use_the_timer_that_reports() -> None:
    seen, told = [], asyncio.Event()

    def emit(record: logging.LogRecord) -> None:
        timer.set_delay(5)
        seen.append((record.getMessage(), timer.is_running()))
        told.set()

    blocks = iter([0.03, 0])
    timer = Timer(0.01, lambda: time.sleep(next(blocks)), mode="fixed_rate", name="watched")
    logger, handler = logging.getLogger("everbeat.timer.watched"), Calling(emit)
    logger.addHandler(handler)
    try:
        async with timer:
            await asyncio.wait_for(told.wait(), 10)
    finally:
        logger.removeHandler(handler)
    assert "slots missed" in seen[0][0]
    assert "timer ended" in seen[-1][0]


async def test_o2_a_handler_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def emit(_: logging.LogRecord) -> None:
        raise ZeroDivisionError

    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: unraisable.append(told.exc_type))
    logger, handler = logging.getLogger("everbeat.timer.unlucky"), Calling(emit)
    logger.addHandler(handler)
    try:
        await run_once("unlucky")
    finally:
        logger.removeHandler(handler)
    assert unraisable == [ZeroDivisionError]


AT_EXIT = """
import asyncio, logging
from everbeat import Timer

logging.basicConfig(level=logging.DEBUG)

async def main():
    kept.append(Timer(0.001, lambda: None, name="left", start=True))
    await asyncio.sleep(0.01)

kept = []
asyncio.run(main())
"""


def test_l10_reports_during_the_exit_of_the_interpreter_do_no_harm() -> None:
    command = [sys.executable, "-X", "dev", "-c", AT_EXIT]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert "DEBUG:everbeat.timer.left:timer left: timer ended" in ended.stderr
    assert "Traceback" not in ended.stderr
