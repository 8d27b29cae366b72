"""Which loops the tests run on, and what no test may leave behind."""

import gc
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import REAL_LOOPS, VIRTUAL_LOOPS

IN_VIRTUAL_TIME = {Path(__file__).parent / name for name in ("timer", "conformance")}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_time: runs by the clock, on each of the real loops")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], Any]]:
    if item.path.parent not in IN_VIRTUAL_TIME:
        return {"stock": REAL_LOOPS["stock"]}
    return REAL_LOOPS if item.get_closest_marker("real_time") else VIRTUAL_LOOPS


def pytest_collection_finish() -> None:
    """What is there for all tests, a thousand histories among it, need not be looked through after each one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nobody_complains(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """asyncio reports tasks that are destroyed and exceptions that nobody has seen: there must be none."""
    yield
    gc.collect()
    complaints = [
        record.getMessage()
        for phase in ("setup", "call", "teardown")
        for record in caplog.get_records(phase)  # type: ignore[arg-type]
        if record.name == "asyncio" and record.levelno >= logging.ERROR
    ]
    assert complaints == []
