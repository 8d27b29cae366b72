"""Runs many timers under random control for a set time, in asyncio and on threads, and says what was left over.

The counterpart of the program in Rust beside it; `make soak` runs both.
"""

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import random
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import everbeat
from everbeat import Backoff, Burst, Timer, TimerError, TimerGroup, current_tick
from everbeat.threading import Engine, PeriodicTask, Scope, Timer as ThreadTimer, after, ticks as thread_ticks

PERIODS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 1, 1, 2, 3, 5)
PATIENCE = 0.2
# Nothing that anybody does here takes so long, on any machine.
HANGS = 120
# What is over has gone by then: threads linger for a while.
GONE = 30

tally: Counter[str] = Counter()
complaints: list[str] = []
doing: dict[str, tuple[str, float]] = {}


counting = threading.Lock()


def count(what: str) -> None:
    """For what has to come out even: `+=` is two steps."""
    with counting:
        tally[what] += 1


def complain(complaint: str) -> None:
    complaints.append(complaint)


class Sample:
    """What runs deliver: in the end there are none."""

    alive = 0
    lock = threading.Lock()

    def __init__(self) -> None:
        with self.lock:
            Sample.alive += 1

    def __del__(self) -> None:
        with self.lock:
            Sample.alive -= 1


class Held:
    """What this process holds, as Linux tells."""

    def __init__(self) -> None:
        status = Path("/proc/self/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        self.resident_kib = int(fields["VmRSS"].split()[0])
        self.threads = int(fields["Threads"])
        self.descriptors = len(os.listdir("/proc/self/fd"))


class Watch:
    """What must hold for the runs of a timer, checked in the runs themselves."""

    def __init__(self, period: float | None) -> None:
        self.period = period
        self.last: everbeat.Tick | None = None
        self.dropped = 0
        self.loose = 0
        self.busy = False
        self.stopped = True

    def begin(self) -> None:
        self.last, self.dropped, self.loose, self.stopped = None, 0, 0, False

    def enter(self) -> None:
        tally["runs"] += 1
        if self.busy:
            complain("two runs at once")
        if self.stopped:
            complain("a run after a stop")
        self.busy = True
        tick = current_tick()
        if tick is not None:
            self.see(tick)

    def leave(self) -> None:
        self.busy = False

    def see(self, tick: everbeat.Tick) -> None:
        self.dropped += tick.missed
        tally["skipped"] += tick.missed
        tally["slots"] += tick.missed
        if tick.cause == "retry":
            return
        tally["slots"] += 1
        expected = self.dropped + (0 if self.last is None else self.last.slot + 1)
        if tick.slot != expected:
            tally["lost"] += abs(tick.slot - expected)
            complain(f"slot {tick.slot} came where {expected} was to come")
        if self.period and self.last and tick.cause == "schedule" and not self.loose:
            due = self.last.scheduled + (tick.slot - self.last.slot) * self.period
            tally["on_grid"] += 1
            if abs(due - tick.scheduled) > 1e-6:  # floats at this border; the grid itself is exact
                tally["drifted"] += 1
                complain(f"{tick} is off its grid by {tick.scheduled - due} s")
        self.loose = max(0, self.loose - 1)
        self.last, self.dropped = tick, 0


class Post:
    """A timer at a fixed rate that nobody touches. Its figures tell how many slots have passed."""

    def __init__(self, make: Callable[..., Any], period: float, grace: float) -> None:
        self.timer = make(period, lambda: None, mode="fixed_rate", initial_delay=grace, on_error="continue")
        self.period = period
        self.anchor = 0.0

    def start(self) -> None:
        self.timer.start()
        self.anchor = self.timer.stats().next_due_at or 0.0
        if not self.anchor:
            complain("a timer that was just started is not waiting")

    def check(self) -> None:
        stats = self.timer.stats()
        if stats.next_due_at is None:
            return  # in the middle of a run
        slots = (stats.next_due_at - self.anchor) / self.period
        tally["posts"] += 1
        if abs(slots - round(slots)) * self.period > 1e-6:
            tally["drifted"] += 1
            complain(f"{self.timer} waits for a time off its grid: slot {slots}")
        if stats.runs + stats.skipped.total != round(slots):
            tally["lost"] += 1
            complain(f"{slots} slots of {self.timer} have passed: {stats.runs} ran, {stats.skipped} did not")


def target(rng: random.Random, watch: Watch, asynchronous: bool) -> Callable[[], Any]:
    """Delivers, fails now and then, takes its time now and then."""
    fails, nap = rng.random() < 0.2, rng.choice((0.0, 0.0, 0.0, 0.001))

    def run() -> Sample:
        watch.enter()
        try:
            if nap:
                time.sleep(nap)
            if fails and random.random() < 0.1:
                raise ValueError("on purpose")
            return Sample()
        finally:
            watch.leave()

    async def run_async() -> Sample:
        watch.enter()
        try:
            await asyncio.sleep(nap * 3)
            if fails and random.random() < 0.1:
                raise ValueError("on purpose")
            return Sample()
        finally:
            watch.leave()

    return run_async if asynchronous else run


def options(rng: random.Random) -> dict[str, Any]:
    chosen: dict[str, Any] = {"initial_delay": rng.random() * 2, "exc_cb": lambda *_: None}
    chosen["cancel_cb"] = lambda *_: count("ends")
    chosen["on_error"] = rng.choice(("continue", "continue", "stop", Backoff(0.005, 0.05)))
    if rng.random() < 0.75:
        chosen["mode"] = "fixed_rate"
        chosen["missed"] = rng.choice(("skip", "skip", "delay", Burst(3)))
    if rng.random() < 0.05:
        chosen["max_runs"] = rng.randint(1, 50)
    if rng.random() < 0.1:
        chosen["histograms"] = True
    return chosen


class Plant:
    def __init__(self, rng: random.Random, make: Callable[..., Any], asyncio_face: bool) -> None:
        period, chosen = rng.choice(PERIODS), options(rng)
        has_grid = chosen.get("mode") == "fixed_rate" and chosen["missed"] != "delay"
        self.watch = Watch(period if has_grid else None)
        if asyncio_face:
            chosen["offload"] = rng.random() < 0.05
            if rng.random() < 0.1:
                chosen["precision"] = "fine"
        else:
            chosen.pop("histograms", None)
            chosen["inline"] = rng.random() < 0.3
        shape = target(rng, self.watch, asyncio_face and not chosen["offload"] and rng.random() < 0.3)
        self.timer = make(period, shape, **chosen)
        self.feeds: list[Any] = []

    def start(self) -> None:
        count("starts")
        self.watch.begin()
        self.timer.start()

    def set_delay(self, delay: float, rearm: bool) -> None:
        self.watch.loose = sys.maxsize
        self.timer.set_delay(delay, rearm=rearm)
        self.watch.loose = 3
        if self.watch.period:
            self.watch.period = delay

    def stopped(self) -> None:
        """What keeps a failure keeps the frames it went through, and a feed's is hidden from the collector."""
        while self.feeds:
            self.feeds.pop().close()
        self.watch.stopped = True
        if self.timer.is_running():
            complain(f"{self.timer} was stopped")


def command(rng: random.Random, plant: Plant) -> None:
    match rng.randrange(6):
        case 0 | 1:
            plant.set_delay(rng.choice(PERIODS), rng.random() < 0.5)
        case 2:
            plant.timer.pause()
        case 3:
            plant.timer.resume()
        case 4 if len(plant.feeds) < 4:
            plant.feeds.append(plant.timer.subscribe(maxsize=rng.randint(0, 8)))
        case _ if plant.feeds:
            plant.feeds.pop().close()


def some(rng: random.Random, plants: list[Plant]) -> Plant:
    """Half of the time one of a few, so that much happens to them."""
    return rng.choice(plants[:20]) if rng.random() < 0.5 else rng.choice(plants)


async def tend_loop(seed: int, most: int, until: float) -> None:
    rng = random.Random(seed)
    plants: list[Plant] = []
    me = f"loop {seed}"

    def plant() -> None:
        plants.append(Plant(rng, Timer, asyncio_face=True))
        plants[-1].start()

    async def limited(answer: Any) -> None:
        with contextlib.suppress(TimeoutError, TimerError, ValueError):
            await asyncio.wait_for(answer, PATIENCE)

    async def stop(plant: Plant) -> None:
        await (plant.timer.cancel() if rng.random() < 0.5 else plant.timer.shutdown(rng.random() * 0.005))
        plant.stopped()

    while time.monotonic() < until:
        tally["controls"] += 1
        for _ in range(min(10, most - len(plants))):
            plant()
        chosen = some(rng, plants)
        match rng.randrange(12):
            case 0:
                doing[me] = "stops", time.monotonic()
                await stop(chosen)
                chosen.start()
            case 1:
                doing[me] = "exchanges", time.monotonic()
                plants.remove(chosen)
                await stop(chosen)
                plant()
            case 2 | 3:
                doing[me] = "asks", time.monotonic()
                timer = chosen.timer
                await limited(rng.choice((timer.trigger, timer.join, timer.wait))())
            case 4:
                doing[me] = "groups", time.monotonic()
                group = TimerGroup({some(rng, plants).timer for _ in range(rng.randint(2, 8))})
                await (group.cancel_all() if rng.random() < 0.5 else limited(group.trigger(timeout=PATIENCE)))
            case 5:
                doing[me] = "iterates", time.monotonic()
                async for _ in everbeat.ticks(0.002, mode="fixed_rate", max_runs=5):
                    pass
            case 6:
                doing[me] = "mends", time.monotonic()
                for other in plants:
                    if not other.timer.is_running():
                        other.start()
            case 7:
                doing[me] = "calls from a thread", time.monotonic()
                await asyncio.to_thread(chosen.timer.cancel_threadsafe, HANGS)
                chosen.stopped()
            case _:
                command(rng, chosen)
        await asyncio.sleep(rng.random() * 0.004)
    doing[me] = "clears", time.monotonic()
    for plant_left in plants:
        await stop(plant_left)
    doing[me] = "is done", time.monotonic()


def tend_threads(seed: int, most: int, until: float) -> None:
    rng = random.Random(seed)
    plants: list[Plant] = []
    me = f"threads {seed}"

    def plant() -> None:
        plants.append(Plant(rng, ThreadTimer, asyncio_face=False))
        plants[-1].start()

    def stop(plant: Plant) -> None:
        if rng.random() < 0.5:
            plant.timer.cancel(HANGS)
        else:
            plant.timer.shutdown(rng.random() * 0.005, timeout=HANGS)
        plant.stopped()

    def ask(plant: Plant) -> None:
        with contextlib.suppress(TimeoutError, TimerError, ValueError):
            rng.choice((plant.timer.trigger, plant.timer.join))(timeout=PATIENCE)

    def session() -> None:
        with Scope() as scope:
            scope.after(rng.random() * 0.01, Sample)
            scope.periodic(0.001, Sample).start()
            tied = scope.timer(0.002, Sample, start=True)
            time.sleep(rng.random() * 0.005)
        if tied.is_running():
            complain("a timer runs whose scope was closed")

    def own_engine() -> None:
        engine = Engine(workers=rng.randrange(3))
        timers = [engine.every(0.001, Sample, start=True) for _ in range(10)]
        left = engine.close(HANGS)
        if left or any(timer.is_running() for timer in timers):
            complain(f"{left} timers are left on an engine that was closed")

    def task() -> None:
        task = PeriodicTask(0.001, Sample)
        for _ in range(3):
            task.start()
            time.sleep(rng.random() * 0.002)
            task.stop()

    while time.monotonic() < until:
        tally["controls"] += 1
        for _ in range(min(10, most - len(plants))):
            plant()
        chosen = some(rng, plants)
        choice = rng.randrange(14)
        doing[me] = f"makes choice {choice}", time.monotonic()
        match choice:
            case 0:
                stop(chosen)
                chosen.start()
            case 1:
                plants.remove(chosen)
                stop(chosen)
                plant()
            case 2 | 3:
                ask(chosen)
            case 4:
                session()
            case 5:
                own_engine()
            case 6:
                for other in plants:
                    if not other.timer.is_running():
                        other.start()
            case 7:
                after(rng.random() * 0.01, Sample)
                after(0.01, Sample).cancel()
            case 8:
                task()
            case 9:
                slots = [tick.slot for tick in thread_ticks(0.001, mode="fixed_rate", max_runs=5)]
                if slots != sorted(set(slots)):
                    complain(f"slots {slots}")
            case _:
                command(rng, chosen)
        time.sleep(rng.random() * 0.004)
    doing[me] = "clears", time.monotonic()
    for plant_left in plants:
        stop(plant_left)
    doing[me] = "is done", time.monotonic()


def tend_or_complain(seed: int, most: int, until: float) -> None:
    try:
        tend_threads(seed, most, until)
    except Exception:
        complain(traceback.format_exc())
        doing[f"threads {seed}"] = "is done", time.monotonic()


async def watch_posts(posts: list[Post], until: float, memory: list[int]) -> None:
    """Looks at the memory, that nobody hangs, and at the timers that nobody touches."""
    while time.monotonic() < until or any(what != "is done" for what, _ in doing.values()):
        await asyncio.sleep(0.25)
        if time.monotonic() < until:
            memory.append(Held().resident_kib)
        for post in random.sample(posts, min(50, len(posts))):
            post.check()


def guard(over: threading.Event) -> None:
    """Ends the program if anybody hangs, the loop included."""
    while not over.wait(1):
        for who, (what, since) in list(doing.items()):
            if what != "is done" and time.monotonic() - since > HANGS:
                print(f"verdict: {who}, who {what}, hangs", flush=True)
                os._exit(1)


async def grow(seconds: float, timers: int, seed: int, memory: list[int]) -> int:
    until = time.monotonic() + seconds
    share = max(4, timers // 4)
    posts = [Post(make, period, 0.5) for make in (Timer, ThreadTimer) for period in PERIODS * 4]
    for post in posts:
        post.start()
    threads = [
        threading.Thread(target=tend_or_complain, args=(number, share, until))
        for number in (seed + 2, seed + 3)
    ]
    for thread in threads:
        thread.start()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(tend_loop(seed, share, until))
        tasks.create_task(tend_loop(seed + 1, share, until))
        tasks.create_task(watch_posts(posts, until, memory))
    for thread in threads:
        await asyncio.to_thread(thread.join)
    for post in posts:
        ended = post.timer.cancel()
        if ended is not None:
            await ended
    await asyncio.sleep(0.1)
    return len(asyncio.all_tasks()) - 1


def median(samples: list[int]) -> int:
    return sorted(samples)[len(samples) // 2] if samples else 0


def judge(before: Held, memory: list[int], tasks: int) -> bool:
    end = time.monotonic() + GONE
    while time.monotonic() < end:
        gc.collect()
        if (
            Held().threads <= before.threads
            and Sample.alive == 0
            and Held().descriptors <= before.descriptors
        ):
            break
        time.sleep(0.05)
    after_all, many = Held(), len(memory)
    warm, last = median(memory[many // 5 : many * 3 // 10 + 1]), median(memory[many * 9 // 10 :])
    checks = [
        (tasks == 0, f"tasks left: {tasks}"),
        (after_all.threads <= before.threads, f"threads: {before.threads} before, {after_all.threads} after"),
        (
            after_all.descriptors <= before.descriptors,
            f"file descriptors: {before.descriptors} before, {after_all.descriptors} after",
        ),
        (Sample.alive == 0, f"values left: {Sample.alive}"),
        (
            last <= warm + warm // 10 + 8 * 1024,
            f"memory: {warm} KiB after the warm-up, {last} KiB at the end",
        ),
        (
            tally["drifted"] == 0 and tally["on_grid"] > 0 and tally["posts"] > 0,
            f"drift: {tally['drifted']} of {tally['on_grid']} runs and {tally['posts']} looks",
        ),
        (
            tally["lost"] == 0,
            f"slots: {tally['slots']} passed, {tally['skipped']} skipped, {tally['lost']} unaccounted for",
        ),
        (tally["starts"] == tally["ends"], f"starts: {tally['starts']}, ends called back: {tally['ends']}"),
        (not complaints, f"complaints: {len(complaints)}"),
    ]
    print(f"runs: {tally['runs']}; controls: {tally['controls']}")
    for is_sound, told in checks:
        print("  ok  " if is_sound else "WRONG ", told)
    for complaint in complaints[:20]:
        print("  ", complaint)
    return all(is_sound for is_sound, _ in checks)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--timers", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000_000)
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)  # failures on purpose
    print(f"soak in Python: {args.seconds:g} s, {args.timers} timers, seed {args.seed}", flush=True)
    asyncio.run(asyncio.to_thread(int))  # what a first loop and a first thread leave behind is not ours
    before, memory, over = Held(), list[int](), threading.Event()
    watchdog = threading.Thread(target=guard, args=(over,))
    watchdog.start()
    tasks = asyncio.run(grow(args.seconds, args.timers, args.seed, memory))
    over.set()
    watchdog.join()
    is_sound = judge(before, memory, tasks)
    print("verdict:", "sound" if is_sound else "unsound")
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
