"""What timers in an asyncio loop cost, beside a bare `call_at` chain and, if it is installed, async-timer.

    python python/benches/loops.py [--rounds N] [--uvloop] [words...]

Contenders take turns within a round; the median of the rounds is told. CPU is that of the whole process. Only
ratios within a run count. With words, only the lines that have one of them in their name are measured.
"""

import argparse
import asyncio
import gc
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import everbeat

try:
    import async_timer
except ImportError:
    async_timer = None

MakeTimer = Callable[..., Any]
ASYNC_TIMER = async_timer.Timer if async_timer else None


class Chain:
    """What one writes without a library: each call schedules the next."""

    def __init__(self, delay: float, target: Callable[[], Any], initial_delay: float = 0.0) -> None:
        self.delay, self.target, self.first = delay, target, initial_delay
        self.loop: Any = None
        self.handle: Any = None

    def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.handle = self.loop.call_at(self.loop.time() + self.first, self.run)

    def run(self) -> None:
        self.target()
        self.handle = self.loop.call_at(self.loop.time() + self.delay, self.run)

    async def cancel(self) -> None:
        self.handle.cancel()


async def as_fast_as_possible(make: MakeTimer, is_async: bool) -> float:
    """Microseconds a tick with a delay of a microsecond."""
    ticks = 0

    def run() -> None:
        nonlocal ticks
        ticks += 1

    async def run_async() -> None:
        run()

    timer = make(1e-6, run_async if is_async else run)
    timer.start()
    began = time.process_time()
    await asyncio.sleep(0.5)
    spent = time.process_time() - began
    await timer.cancel()
    return spent / ticks * 1e6


async def many(make: MakeTimer, count: int) -> dict[str, float]:
    """Timers of a second, evenly spread: microseconds a tick, ticks kept, lateness, starts and cancels."""
    ticks, lateness = 0, list[float]()
    loop = asyncio.get_running_loop()
    due = dict[int, float]()

    def target(place: int) -> Callable[[], None]:
        def run() -> None:
            nonlocal ticks
            ticks += 1
            now = loop.time()
            if place in due:
                lateness.append(now - due[place])
            due[place] = now + 1

        return run

    gc.collect()
    before = resident_bytes()
    timers = [make(1.0, target(i), initial_delay=i / count) for i in range(count)]
    began = time.perf_counter()
    for timer in timers:
        timer.start()
    started = time.perf_counter() - began
    await asyncio.sleep(1.5)
    memory = (resident_bytes() - before) / count
    ticks, spent = 0, time.process_time()
    lateness.clear()
    await asyncio.sleep(3)
    spent = time.process_time() - spent
    kept, late = ticks / (3 * count), sorted(lateness)
    began = time.perf_counter()
    for timer in timers:
        await timer.cancel()
    return {
        "us a tick": spent / ticks * 1e6,
        "kept": kept,
        "p50 late ms": late[len(late) // 2] * 1e3,
        "p99 late ms": late[len(late) * 99 // 100] * 1e3,
        "start ms": started * 1e3,
        "cancel ms": (time.perf_counter() - began) * 1e3,
        "bytes with target": memory,
    }


async def delivery(make: MakeTimer, consumers: int) -> float:
    """Microseconds an item, for each of the consumers of a timer of a millisecond."""
    items = 0
    timer = make(0.001, lambda: 1)

    async def consume() -> None:
        nonlocal items
        async with timer.subscribe() as feed:
            async for _ in feed:
                items += 1

    tasks = [asyncio.create_task(consume()) for _ in range(consumers)]
    await asyncio.sleep(0)
    timer.start()
    began = time.process_time()
    await asyncio.sleep(0.5)
    spent = time.process_time() - began
    await timer.cancel()
    await asyncio.gather(*tasks)
    return spent / items * 1e6


async def trigger(make: MakeTimer) -> float:
    """Microseconds a round trip."""
    timer = make(1000, lambda: 1)
    timer.start()
    await asyncio.sleep(0.01)
    began = time.process_time()
    for _ in range(5000):
        await timer.trigger()
    spent = time.process_time() - began
    await timer.cancel()
    return spent / 5000 * 1e6


async def lateness(make: MakeTimer) -> dict[str, float]:
    """One timer of ten milliseconds: how late its ticks are after the period that follows the tick before."""
    late, before = list[float](), 0.0

    def run() -> None:
        nonlocal before
        now = time.monotonic()
        if before:
            late.append(now - before - 0.01)
        before = now

    timer = make(0.01, run)
    timer.start()
    await asyncio.sleep(2)
    await timer.cancel()
    late.sort()
    return {"p50 us": late[len(late) // 2] * 1e6, "p99 us": late[len(late) * 99 // 100] * 1e6}


def fine(delay: float, target: Callable[[], Any]) -> everbeat.Timer[Any]:
    return everbeat.Timer(delay, target, precision="fine")


def resident_bytes() -> int:
    with open("/proc/self/statm") as sizes:
        return int(sizes.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


Line = tuple[str, dict[str, Any], Callable[[Any], Awaitable[Any]]]
ALL = {"everbeat": everbeat.Timer, "call_at chain": Chain, "async-timer": ASYNC_TIMER}
LIBRARIES = {name: make for name, make in ALL.items() if name != "call_at chain"}
LINES: list[Line] = [
    ("fast, sync target, us", ALL, lambda make: as_fast_as_possible(make, is_async=False)),
    ("fast, async target, us", LIBRARIES, lambda make: as_fast_as_possible(make, is_async=True)),
    ("trigger, us", LIBRARIES, trigger),
    *((f"delivery to {n}, us an item", LIBRARIES, lambda make, n=n: delivery(make, n)) for n in (1, 10, 100)),
    ("lateness at 10 ms", {"fine": fine, **ALL}, lateness),
    ("many, 1000", ALL, lambda make: many(make, 1_000)),
    ("many, 10000", ALL, lambda make: many(make, 10_000)),
    ("many, 100000", {"everbeat": everbeat.Timer, "call_at chain": Chain}, lambda make: many(make, 100_000)),
]


def middle(results: list[Any]) -> str:
    if isinstance(results[0], dict):
        return "  ".join(f"{key} {statistics.median(r[key] for r in results):.4g}" for key in results[0])
    return f"{statistics.median(results):.2f}  ({min(results):.2f} to {max(results):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    run = asyncio.run
    if options.uvloop:
        import uvloop

        run = uvloop.run
    for name, contenders, measure in LINES:
        if options.words and not any(word in name for word in options.words):
            continue
        present = {who: make for who, make in contenders.items() if make is not None}
        results: dict[str, list[Any]] = {who: [] for who in present}
        for _ in range(options.rounds):
            for who, make in present.items():
                results[who].append(run(measure(make)))
        print(name)
        for who, found in results.items():
            print(f"    {who:14} {middle(found)}", flush=True)


if __name__ == "__main__":
    main()
