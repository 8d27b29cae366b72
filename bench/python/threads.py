"""Periodic tasks without an event loop, a thousand of them or so.

Memory is what the resident size has grown by when all have ticked twice. The threads that everbeat keeps for all
its tasks together are there before, whoever is measured, and so do not count.
"""

import datetime
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from everbeat.threading import PeriodicTask, Timer
from measures import Figures, quantiles, resident_bytes


class Chain:
    """What one writes without a library."""

    def __init__(self, interval: float, func: Callable[[], Any]) -> None:
        self.interval, self.func = interval, func
        self.timer: Any = None
        self.running = True
        self.lock = threading.Lock()

    def start(self) -> None:
        with self.lock:
            if self.running:
                self.timer = threading.Timer(self.interval, self.run)
                self.timer.daemon = True
                self.timer.start()

    def run(self) -> None:
        try:
            self.func()
        finally:
            self.start()

    def stop(self) -> None:
        with self.lock:
            self.running = False
            self.timer.cancel()


class APSchedulerJob:
    """A job of one scheduler, whose pool of ten threads makes the runs."""

    scheduler: Any = None

    def __init__(self, interval: float, func: Callable[[], Any]) -> None:
        self.interval, self.func = interval, func
        self.job: Any = None

    def start(self) -> None:
        from apscheduler.schedulers.background import BackgroundScheduler

        if APSchedulerJob.scheduler is None:
            scheduler = BackgroundScheduler(timezone=datetime.UTC)
            APSchedulerJob.scheduler = scheduler
            scheduler.start()
        self.job = self.scheduler.add_job(
            self.func, "interval", seconds=self.interval, misfire_grace_time=None
        )

    def stop(self) -> None:
        self.job.remove()


class OfTimer:
    """A timer that does what a task does. It has histograms, which a task has not."""

    inline = False

    def __init__(self, interval: float, func: Callable[[], Any]) -> None:
        self.timer = Timer(interval, func, initial_delay=interval, mode="fixed_delay", inline=self.inline)
        self.start, self.stop, self.trigger = self.timer.start, self.timer.stop, self.timer.trigger


class Inline(OfTimer):
    """Its runs are made by the thread that keeps the time."""

    inline = True


class Submitted:
    """A thread that makes calls when it is asked to, and no others."""

    def __init__(self, interval: float, func: Callable[[], Any]) -> None:
        self.pool, self.func = ThreadPoolExecutor(1), func

    def start(self) -> None:
        pass

    def trigger(self) -> Any:
        return self.pool.submit(self.func).result()

    def stop(self) -> None:
        self.pool.shutdown()


FAST: dict[str, Any] = {
    "everbeat.threading": PeriodicTask,
    "everbeat.threading, inline": Inline,
    "threading.Timer chain": Chain,
}
CONTENDERS: dict[str, Any] = {**FAST, "APScheduler": APSchedulerJob}
TRIGGERED: dict[str, Any] = {
    "everbeat.threading": OfTimer,
    "everbeat.threading, inline": Inline,
    "ThreadPoolExecutor": Submitted,
}


def hire_all_workers() -> None:
    together = [PeriodicTask(0, time.sleep, 0.01) for _ in range(64)]
    for task in together:
        task.start()
    time.sleep(0.5)
    for task in together:
        task.stop()


def many(make: Callable[..., Any], seconds: float, count: int) -> Figures:
    """Tasks of a second, evenly spread. A tick is late by what is more than a second since the one before."""
    ticks, late, due = [0] * count, list[float](), dict[int, float]()

    def target(place: int) -> Callable[[], None]:
        def run() -> None:
            ticks[place] += 1
            now = time.monotonic()
            if place in due:
                late.append(now - due[place])
            due[place] = now + 1

        return run

    hire_all_workers()
    before = resident_bytes()
    running = [make(1, target(place)) for place in range(count)]
    begun = time.monotonic()
    for number, task in enumerate(running):
        task.start()
        time.sleep(max(0, begun + (number + 1) / count - time.monotonic()))
    time.sleep(2.2)
    memory = (resident_bytes() - before) / count
    late.clear()
    counted, began, cpu = sum(ticks), time.perf_counter(), time.process_time()
    time.sleep(seconds)
    cpu, took, counted = time.process_time() - cpu, time.perf_counter() - began, sum(ticks) - counted
    figures = {
        "µs CPU/tick": cpu / counted * 1e6,
        "% kept": 100 * counted / (took * count),
        **quantiles(late),
    }
    for task in running:
        task.stop()
    return {**figures, "B/timer with its function": memory}


def as_fast_as_possible(make: Callable[..., Any], seconds: float) -> Figures:
    """A period of a microsecond, which nobody keeps."""
    ticks = 0

    def run() -> None:
        nonlocal ticks
        ticks += 1

    task = make(1e-6, run)
    task.start()
    time.sleep(seconds / 10)
    counted, began, cpu = ticks, time.perf_counter(), time.process_time()
    time.sleep(seconds)
    counted, took, cpu = ticks - counted, time.perf_counter() - began, time.process_time() - cpu
    task.stop()
    return {"µs CPU/tick": cpu / counted * 1e6, "ticks/s": counted / took}


def start_and_stop(make: Callable[..., Any], _seconds: float, count: int = 1_000) -> Figures:
    """Tasks that never come to a call."""
    tasks = [make(3600, int) for _ in range(count)]
    began, cpu = time.perf_counter(), time.process_time()
    for task in tasks:
        task.start()
    started, started_cpu = time.perf_counter(), time.process_time()
    for task in tasks:
        task.stop()
    ended, ended_cpu = time.perf_counter(), time.process_time()
    return {
        "µs/start": (started - began) / count * 1e6,
        "µs/stop": (ended - started) / count * 1e6,
        "µs CPU/start": (started_cpu - cpu) / count * 1e6,
        "µs CPU/stop": (ended_cpu - started_cpu) / count * 1e6,
    }


def trigger(make: Callable[..., Any], seconds: float) -> Figures:
    """A run that is asked for, and its value."""
    task = make(1000, lambda: 1)
    task.start()
    trips, began, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() < began + seconds:
        task.trigger()
        trips += 1
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    task.stop()
    return {"µs CPU/round trip": cpu / trips * 1e6, "µs/round trip": took / trips * 1e6}
