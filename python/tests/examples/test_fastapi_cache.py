"""The FastAPI example end to end: warm before it serves, refreshed, and ended by SIGTERM in a refresh."""

import signal
import threading
from pathlib import Path

import pytest

from tests.examples.service import started

LOOPS = ["asyncio", "uvloop"]
LATER = 3600


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "prices.sqlite3"


def test_the_cache_is_warm_before_the_first_request(database: Path) -> None:
    with started(database, period=LATER) as service:
        assert service.log.index("read 3 prices") < service.log.index("Application startup complete")
        assert service.request("GET", "/")["prices"]["tea"] == 2.5


def test_a_change_is_served_after_a_refresh(database: Path) -> None:
    with started(database, period=LATER) as service:
        service.request("PUT", "/prices/tea?price=9")
        assert service.request("GET", "/")["prices"]["tea"] == 2.5
        assert service.request("POST", "/admin/refresh")["prices"]["tea"] == 9
        assert service.request("GET", "/")["prices"]["tea"] == 9
        assert "runs=2" in service.request("GET", "/admin/timer")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_refresh_that_somebody_waits_for_is_finished_first(database: Path, loop: str) -> None:
    with started(database, "--loop", loop, period=LATER, takes=0.5) as service:
        answers: list[object] = []
        asking = threading.Thread(target=lambda: answers.append(service.request("POST", "/admin/refresh")))
        asking.start()
        service.wait_for("reading prices", times=2)
        code = service.end(signal.SIGTERM)
        asking.join()
        # uvicorn ends in order, and then by the signal itself.
        assert code == -signal.SIGTERM, service.log
        assert "Application shutdown complete" in service.log
        assert answers and "prices" in answers[0]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("grace", "how"), [(10, "drained"), (0.1, "cancelled")])
def test_a_scheduled_refresh_has_its_grace_and_no_more(
    database: Path, loop: str, grace: float, how: str
) -> None:
    with started(database, "--loop", loop, period=0.05, grace=grace) as service:
        service.request("POST", f"/admin/source?takes={0.5 if how == 'drained' else LATER}")
        service.wait_for(r"the source takes(.|\n)*reading prices")
        assert service.end(signal.SIGTERM) == -signal.SIGTERM, service.log
        assert f"the refresh has ended: {how}" in service.log
        assert "Application shutdown complete" in service.log
        assert "Traceback" not in service.log


def test_each_of_two_workers_ends_in_order(database: Path) -> None:
    with started(database, "--workers", "2", period=0.05, grace=10, takes=0.3) as service:
        service.wait_for("Application startup complete", times=2)
        service.wait_for("reading prices", times=4)
        # The supervisor tells its workers, waits for them, and reports success.
        assert service.end(signal.SIGTERM) == 0, service.log
        assert service.log.count("the refresh has ended: drained") == 2
        assert service.log.count("Application shutdown complete") == 2
        assert "Traceback" not in service.log
