"""A FastAPI service with a warm cache: prices are read from SQLite by a timer, requests never wait for it.

    make demo-python                                      # or: python python/examples/fastapi_cache.py
    uvicorn --app-dir python/examples fastapi_cache:app   # the usual way; add --workers 2, --reload, ...

Nothing is served before the first success. At the end the refresh in flight has GRACE seconds to finish.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException

from everbeat import Backoff, Timer

DATABASE = Path(os.environ.get("PRICES_DB") or Path(tempfile.gettempdir(), "everbeat-prices.sqlite3"))
PERIOD = float(os.environ.get("PRICES_PERIOD", "5"))
GRACE = float(os.environ.get("PRICES_GRACE", "5"))
source = {"takes": float(os.environ.get("PRICES_TAKES", "0"))}

log = logging.getLogger("uvicorn.error")  # where uvicorn's own lines go


async def refresh() -> dict[str, Any]:
    log.info("reading prices")
    prices = await asyncio.to_thread(read_prices)
    await asyncio.sleep(source["takes"])  # to see what a slow source does
    log.info("read %d prices", len(prices))
    return {"prices": prices, "read_at": time.time(), "by": os.getpid()}


timer = Timer(
    PERIOD,
    refresh,
    mode="fixed_rate",
    name="prices",
    on_error=Backoff(0.5, max=30),  # a source that is away is asked again soon, then less and less often
)


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    create_prices()
    async with timer:
        await timer.wait(hit_count=1, timeout=60)
        yield
        log.info("the refresh has ended: %s", await timer.shutdown(GRACE))


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def cached() -> dict[str, Any]:
    return timer.last_result


@app.put("/prices/{item}")
def change(item: str, price: float) -> str:
    """Changes the database, not the cache."""
    with contextlib.closing(connect()) as db, db:
        if not db.execute("UPDATE prices SET price = ? WHERE item = ?", (price, item)).rowcount:
            raise HTTPException(404, f"no price for {item}")
    return "served after the next refresh"


@app.post("/admin/refresh")
async def refresh_now() -> dict[str, Any]:
    """What a run that starts now reads; requests that come during a run share the next one."""
    return await timer.trigger()


@app.post("/admin/source")
async def slow_down(takes: float) -> None:
    source["takes"] = takes
    log.info("from now on the source takes %g s", takes)


@app.get("/admin/timer")
async def figures() -> str:
    return repr(timer.stats())


def connect() -> sqlite3.Connection:
    return sqlite3.connect(DATABASE, timeout=10)


def create_prices() -> None:
    with contextlib.closing(connect()) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS prices (item TEXT PRIMARY KEY, price REAL NOT NULL)")
        db.execute("INSERT OR IGNORE INTO prices VALUES ('tea', 2.5), ('coffee', 3.5), ('cake', 4.0)")


def read_prices() -> dict[str, float]:
    with contextlib.closing(connect()) as db:
        return dict(db.execute("SELECT item, price FROM prices"))


WHAT_TO_TRY = """
  curl {url}/                                       # from the cache, read every {period:g} s; never waits
  curl -X PUT '{url}/prices/tea?price=9'            # changes the database ...
  curl -X POST {url}/admin/refresh                  # ... and this has the cache read it now
  curl -X POST '{url}/admin/source?takes=8'         # a source slower than the period: slots are missed,
  curl {url}/admin/timer                            # counted and logged, nothing bursts, / answers at once
  Ctrl-C during a refresh: it may finish, for {grace:g} s at most

The database is {database}.
"""

if __name__ == "__main__":
    import uvicorn

    print(
        WHAT_TO_TRY.format(url="http://127.0.0.1:8091", period=PERIOD, grace=GRACE, database=DATABASE),
        flush=True,
    )
    uvicorn.run(app, port=8091, timeout_graceful_shutdown=5)
