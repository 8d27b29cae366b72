"""What is measured of timers in an event loop. CPU is that of the whole process."""

import asyncio
import gc
import inspect
import os
import time
from collections.abc import Callable
from typing import Any

MakeTimer = Callable[..., Any]
Figures = dict[str, float]

MOST_SECONDS_TO_CANCEL = 20.0


async def begin(*timers: Any) -> None:
    begun = [timer.start() for timer in timers]
    if inspect.isawaitable(begun[0]):
        for each in begun:
            await each


async def as_fast_as_possible(
    make: MakeTimer, seconds: float, delay: float = 1e-6, is_async: bool = False
) -> Figures:
    """A period that nobody keeps."""
    ticks = 0

    def run() -> None:
        nonlocal ticks
        ticks += 1

    async def run_async() -> None:
        run()

    timer = make(delay, run_async if is_async else run)
    await begin(timer)
    await asyncio.sleep(seconds / 10)
    counted, began, cpu = ticks, time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    counted, took, cpu = ticks - counted, time.perf_counter() - began, time.process_time() - cpu
    await timer.cancel()
    return {"µs CPU/tick": cpu / counted * 1e6, "ticks/s": counted / took}


async def many(make: MakeTimer, seconds: float, count: int) -> Figures:
    """Timers of a second, evenly spread. A tick is late by what is more than a second since the one before."""
    ticks, lateness, due = 0, list[float](), dict[int, float]()

    def target(place: int) -> Callable[[], None]:
        def run() -> None:
            nonlocal ticks
            ticks += 1
            now = time.monotonic()  # that of the loop can be coarser
            if place in due:
                lateness.append(now - due[place])
            due[place] = now + 1

        return run

    targets = [target(place) for place in range(count)]
    gc.collect()
    before = resident_bytes()
    timers = [make(1.0, target, initial_delay=place / count) for place, target in enumerate(targets)]
    started = time.perf_counter()
    await begin(*timers)
    started = time.perf_counter() - started
    await asyncio.sleep(2)
    memory = (resident_bytes() - before) / count  # with the place of its next tick
    ticks, began, cpu = 0, time.perf_counter(), time.process_time()
    lateness.clear()
    await asyncio.sleep(seconds)
    spent, took, counted = time.process_time() - cpu, time.perf_counter() - began, ticks
    late = quantiles(lateness)
    cancel = await cost_of_cancel(timers)
    return {
        "µs CPU/tick": spent / counted * 1e6,
        "% kept": 100 * counted / (took * count),
        **late,
        "µs/start": started / count * 1e6,
        "µs/cancel": cancel,
        "B/timer with its function": memory,
    }


async def cost_of_cancel(timers: list[Any]) -> float:
    """Of one of them, in microseconds. Who cannot cancel them all among others that tick does what it can."""
    began, cancelled, took = time.perf_counter(), 0, 0.0
    while cancelled < len(timers) and took < MOST_SECONDS_TO_CANCEL:
        await timers[cancelled].cancel()
        cancelled, took = cancelled + 1, time.perf_counter() - began
    return took / cancelled * 1e6


async def lateness(make: MakeTimer, seconds: float) -> Figures:
    """One timer of ten milliseconds: how much later its ticks are than a period after the one before."""
    late, before, ticks = list[float](), 0.0, 0

    def run() -> None:
        nonlocal before, ticks
        ticks += 1
        now = time.monotonic()
        if before:
            late.append(now - before - 0.01)
        before = now

    timer = make(0.01, run)
    await begin(timer)
    await asyncio.sleep(0.1)
    late.clear()
    counted, began = ticks, time.perf_counter()
    await asyncio.sleep(seconds)
    counted, took = ticks - counted, time.perf_counter() - began
    await timer.cancel()
    return {**quantiles(late), "% kept": counted / took}


async def delivery(make: MakeTimer, seconds: float, consumers: int) -> Figures:
    """Items for each of many consumers, one after the other as fast as they come: delivery, and no wake-ups."""
    items = 0
    timer = make(0, lambda: 1)

    async def consume() -> None:
        nonlocal items
        async with timer.subscribe() as feed:
            async for _ in feed:
                items += 1

    tasks = [asyncio.create_task(consume()) for _ in range(consumers)]
    await asyncio.sleep(0)
    await begin(timer)
    await asyncio.sleep(seconds / 10)
    counted, cpu = items, time.process_time()
    await asyncio.sleep(seconds)
    counted, cpu = items - counted, time.process_time() - cpu
    await timer.cancel()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return {"µs CPU/item": cpu / counted * 1e6}


async def trigger(make: MakeTimer, seconds: float) -> Figures:
    """A run that is asked for, and its value."""
    timer = make(1000, lambda: 1)
    await begin(timer)
    await asyncio.sleep(0.01)
    trips, began = 0, time.perf_counter()
    cpu = time.process_time()
    while time.perf_counter() < began + seconds:
        await timer.trigger()
        trips += 1
    cpu = time.process_time() - cpu
    await timer.cancel()
    return {"µs CPU/round trip": cpu / trips * 1e6}


def quantiles(lateness: list[float]) -> Figures:
    """Those that more than one tick tells of."""
    late = sorted(lateness)
    wanted = {"p50 µs": 0.5, "p90 µs": 0.9, "p99 µs": 0.99, "p99.9 µs": 0.999}
    enough = {name: fraction for name, fraction in wanted.items() if len(late) * (1 - fraction) >= 2}
    return {name: late[int(len(late) * fraction)] * 1e6 for name, fraction in enough.items()}


def resident_bytes() -> int:
    with open("/proc/self/statm") as sizes:
        return int(sizes.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
