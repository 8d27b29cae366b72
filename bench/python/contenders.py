"""Timers for an event loop, by everbeat, by other libraries, and by hand.

Each is made with a period, a function and a delay before the first call, and has `start()`, which may have to be
awaited, and `await cancel()`.
"""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import aiocron
import async_timer

import everbeat

Target = Callable[[], Any]

# Where the other version of APScheduler is. A process has one of them.
APSCHEDULER_4 = Path(__file__).parent.parent / ".venv" / "apscheduler4"


class Chain:
    """Each call schedules the next."""

    def __init__(self, delay: float, target: Target, initial_delay: float = 0.0) -> None:
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


class SleepLoop:
    """A task that sleeps between two calls."""

    def __init__(self, delay: float, target: Target, initial_delay: float = 0.0) -> None:
        self.delay, self.target, self.first = delay, target, initial_delay
        self.task: Any = None

    def start(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self.run())

    async def run(self) -> None:
        await asyncio.sleep(self.first)
        while True:
            self.target()
            await asyncio.sleep(self.delay)

    async def cancel(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


class RepeatEvery(SleepLoop):
    """As the decorators called `repeat_every` do it: functions that are not async run in the pool of threads."""

    async def run(self) -> None:
        await asyncio.sleep(self.first)
        while True:
            await asyncio.to_thread(self.target)
            await asyncio.sleep(self.delay)


class APSchedulerJob:
    """A job of one scheduler for each loop. The job is async, since others go to the pool of threads."""

    schedulers: ClassVar[dict[Any, Any]] = {}

    def __init__(self, delay: float, target: Target, initial_delay: float = 0.0) -> None:
        self.delay, self.target, self.first = delay, target, initial_delay
        self.job: Any = None

    def start(self) -> None:
        from apscheduler.schedulers.asyncio import AsyncIOScheduler

        loop = asyncio.get_running_loop()
        if loop not in self.schedulers:
            self.schedulers[loop] = AsyncIOScheduler(timezone=datetime.UTC)
            self.schedulers[loop].start()
        first = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self.first)
        self.job = self.schedulers[loop].add_job(
            self.run, "interval", seconds=self.delay, next_run_time=first, misfire_grace_time=None
        )

    async def run(self) -> None:
        self.target()

    async def cancel(self) -> None:
        self.job.remove()


class APScheduler4Schedule:
    """A schedule of one scheduler for each loop, with a task of its own."""

    path = APSCHEDULER_4
    schedulers: ClassVar[dict[Any, Any]] = {}

    def __init__(self, delay: float, target: Target, initial_delay: float = 0.0) -> None:
        self.delay, self.target, self.first = delay, target, initial_delay
        self.scheduler: Any = None
        self.name = str(id(self))

    async def start(self) -> None:
        from apscheduler import AsyncScheduler
        from apscheduler.triggers.interval import IntervalTrigger

        loop = asyncio.get_running_loop()
        if loop not in self.schedulers:
            self.schedulers[loop] = await AsyncScheduler().__aenter__()
            await self.schedulers[loop].start_in_background()
        self.scheduler = self.schedulers[loop]
        await self.scheduler.configure_task(self.name, func=self.run)
        first = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self.first)
        trigger = IntervalTrigger(microseconds=round(self.delay * 1e6), start_time=first)
        await self.scheduler.add_schedule(self.name, trigger, id=self.name, misfire_grace_time=None)

    async def run(self) -> None:
        self.target()

    async def cancel(self) -> None:
        await self.scheduler.remove_schedule(self.name)


class CronJob:
    """Ticks at whole seconds only, whatever it is asked for."""

    def __init__(self, delay: float, target: Target, initial_delay: float = 0.0) -> None:
        self.cron = aiocron.crontab("* * * * * *", func=target, start=False, loop=asyncio.get_running_loop())

    def start(self) -> None:
        self.cron.start()

    async def cancel(self) -> None:
        self.cron.stop()


class SharedFuture:
    """What one may write by hand for consumers that are always there in time: all wait for one future."""

    def __init__(self, delay: float, target: Target, initial_delay: float = 0.0) -> None:
        self.target, self.loop = target, asyncio.get_running_loop()
        self.running, self.next = False, self.loop.create_future()

    def start(self) -> None:
        self.running = True
        self.loop.call_soon(self.run)

    def run(self) -> None:
        if self.running:
            this, self.next = self.next, self.loop.create_future()
            this.set_result(self.target())
            self.loop.call_soon(self.run)

    async def cancel(self) -> None:
        self.running = False

    @contextlib.asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Any]]:
        yield self.items()

    async def items(self) -> AsyncIterator[Any]:
        while True:
            yield await self.next


def fine(delay: float, target: Target, initial_delay: float = 0.0) -> everbeat.Timer[Any]:
    return everbeat.Timer(delay, target, initial_delay=initial_delay, precision="fine")


LIBRARIES: dict[str, Any] = {"everbeat": everbeat.Timer, "async-timer": async_timer.Timer}
BY_HAND: dict[str, Any] = {"call_at chain": Chain, "sleep loop": SleepLoop}
# APScheduler's triggers go through all the times that have passed, one by one.
FAST: dict[str, Any] = {**LIBRARIES, "repeat_every": RepeatEvery, **BY_HAND}
DELIVER: dict[str, Any] = {**LIBRARIES, "shared future": SharedFuture}
ALL: dict[str, Any] = {
    **LIBRARIES,
    "APScheduler": APSchedulerJob,
    "APScheduler 4": APScheduler4Schedule,
    "repeat_every": RepeatEvery,
    **BY_HAND,
}
OF_SECONDS: dict[str, Any] = {**ALL, "aiocron": CronJob}
AT_SCALE: dict[str, Any] = {"everbeat": everbeat.Timer, **BY_HAND}
