"""S: when a timer ticks."""

import asyncio
from datetime import timedelta

import pytest

import everbeat.threading
from everbeat import Burst, Timer, ns
from tests.support import Stopwatch, Times, spin, virtual

pytestmark = pytest.mark.asyncio


async def test_s1_the_first_tick_is_due_at_start_or_after_the_initial_delay() -> None:
    at_once, later = Times(), Times()
    async with Timer(0.01, at_once) as timer, Timer(0.01, later, initial_delay=0.025) as other:
        await asyncio.gather(timer.wait(hit_count=2), other.wait(hit_count=2))
    assert at_once.at[:2] == [0, 10]
    assert later.at == [25, 35]


async def test_s2_a_fixed_delay_counts_from_the_end_of_the_run() -> None:
    times = Times()
    async with Timer(0.01, times.taking(0.003)) as timer:
        await timer.wait(hit_count=4)
    assert times.at == [0, 13, 26, 39]


async def test_s3_a_fixed_rate_does_not_drift() -> None:
    times = Times()
    async with Timer(0.01, times.taking(0.003), mode="fixed_rate") as timer:
        await timer.wait(hit_count=1_000)
    assert times.at == [10 * slot for slot in range(1_000)]


async def test_s3_slots_are_exact_to_the_nanosecond() -> None:
    watch, at = Stopwatch(), list[int]()
    async with Timer(ns(1_000_003), lambda: at.append(watch.nanos), mode="fixed_rate") as timer:
        await timer.wait(hit_count=2_000)
    assert at == [1_000_003 * slot for slot in range(2_000)]


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("skip", [0, 40, 50, 60]),
        ("delay", [0, 45, 55, 65]),
        (Burst(2), [0, 35, 35, 40]),
        (Burst(0), [0, 40, 50, 60]),
    ],
)
async def test_s4_missed_slots_follow_the_policy(missed: str | Burst, expected: list[float]) -> None:
    times = Times()

    async def first_is_slow() -> None:
        if times() == 1:
            await asyncio.sleep(0.035)

    async with Timer(0.01, first_is_slow, mode="fixed_rate", missed=missed) as timer:
        await timer.wait(hit_count=4)
    assert times.at == expected


async def test_s4_a_stall_of_hours_is_one_late_tick() -> None:
    times = Times()
    async with Timer(0.01, times, mode="fixed_rate") as timer:
        await timer.wait(hit_count=2)
        virtual().advance(3600.005)
        await timer.wait(hit_count=4)
    assert times.at == [0, 10, 3_600_015, 3_600_020]


@pytest.mark.parametrize("seed", range(5))
async def test_s5_jitter_of_a_fixed_delay_stays_within_its_bounds(seed: int) -> None:
    times = Times()
    async with Timer(0.1, times, jitter=0.3, seed=seed) as timer:
        await timer.wait(hit_count=50)
    waits = [after - before for before, after in zip(times.at, times.at[1:], strict=False)]
    assert all(70 <= wait <= 130 for wait in waits)
    assert min(waits) < 90 and max(waits) > 110


@pytest.mark.parametrize("seed", range(5))
async def test_s5_jitter_of_a_fixed_rate_leaves_the_grid_alone(seed: int) -> None:
    times = Times()
    async with Timer(0.1, times, mode="fixed_rate", jitter=0.4, seed=seed) as timer:
        await timer.wait(hit_count=200)
    offsets = [at - 100 * slot for slot, at in enumerate(times.at)]
    assert all(-40 <= offset <= 40 for offset in offsets[1:])
    assert times.at == sorted(times.at)
    # An even spread has nothing piled up on the slot itself.
    assert sum(abs(offset) < 1 for offset in offsets) < 20
    assert 60 < sum(offset < 0 for offset in offsets) < 140


async def test_s5_the_same_seed_draws_the_same_times() -> None:
    first, second, other = Times(), Times(), Times()
    async with (
        Timer(0.1, first, jitter=1, seed=7) as timer,
        Timer(0.1, second, jitter=1, seed=7),
        Timer(0.1, other, jitter=1, seed=8),
    ):
        await timer.wait(hit_count=20)
    count = min(len(first.at), len(second.at))
    assert first.at[:count] == second.at[:count] != other.at[:count]


@pytest.mark.parametrize("mode", ["fixed_delay", "fixed_rate"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_s6_a_period_of_zero_leaves_others_their_turn(mode: str, is_async: bool) -> None:
    times = Times()

    async def run() -> None:
        times()

    async with Timer(0, run if is_async else times, mode=mode) as timer:
        turns = 0
        while len(times.at) < 100:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 50
        assert await timer.join() is not None or is_async
        await timer.cancel()
        count = len(times.at)
        await spin()
    assert len(times.at) == count
    assert set(times.at) == {0}


async def test_s6_two_busy_timers_take_turns() -> None:
    order = list[str]()
    async with Timer(0, lambda: order.append("a")) as timer, Timer(0, lambda: order.append("b")):
        await timer.wait(hit_count=50)
    assert abs(order.count("a") - order.count("b")) <= 2


async def test_s7_a_new_period_holds_from_the_next_wait_on() -> None:
    times = Times()
    async with Timer(0.01, times) as timer:
        await asyncio.sleep(0.015)
        timer.set_delay(0.1)
        assert timer.delay == 0.1
        await timer.wait(hit_count=4)
    assert times.at == [0, 10, 20, 120]


async def test_s7_rearm_applies_it_to_the_wait_in_progress() -> None:
    times = Times()
    async with Timer(10, times) as timer:
        await asyncio.sleep(1)
        timer.set_delay(timedelta(seconds=2), rearm=True)
        await timer.wait(hit_count=3)
    assert times.at == [0, 2_000, 4_000]


async def test_s7_a_new_period_at_any_age_makes_no_gap_and_no_burst() -> None:
    times = Times()
    async with Timer(0.01, times, mode="fixed_rate") as timer:
        await timer.wait(hit_count=51)
        timer.set_delay(0.02)
        await timer.wait(hit_count=54)
    assert times.at[50:] == [500, 510, 530, 550]


async def test_s7_a_period_from_another_thread() -> None:
    times = Times()
    async with Timer(3600, times) as timer:
        await timer.wait(hit_count=1)
        await asyncio.to_thread(timer.set_delay, 1, rearm=True)
        await timer.wait(hit_count=3)
    assert times.at == [0, 1_000, 2_000]


async def test_s7_a_period_that_was_set_before_the_start() -> None:
    times = Times()
    timer = Timer(10, times)
    timer.set_delay(1)
    assert timer.delay == 1
    async with timer:
        await timer.wait(hit_count=2)
    assert times.at == [0, 1_000]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 4, 14, 24]),
        ({"mode": "fixed_rate"}, [0, 4, 14, 24]),
        ({"mode": "fixed_rate", "keep_phase": True}, [0, 4, 10, 20]),
    ],
)
async def test_s8_the_schedule_after_a_trigger(options: dict[str, object], expected: list[float]) -> None:
    times = Times()
    async with Timer(0.01, times, **options) as timer:  # type: ignore[arg-type]
        await asyncio.sleep(0.004)
        assert await timer.trigger() == 2
        await timer.wait(hit_count=4)
    assert times.at == expected


@pytest.mark.parametrize("endless", [timedelta.max, ns(2**64 - 1), 1e300, 10**400])
async def test_s9_a_period_past_the_end_of_time_is_never(endless: timedelta | float) -> None:
    times = Times()
    async with Timer(endless, times) as timer:
        await timer.wait(timeout=1e6)
        assert timer.is_running()
        assert await timer.trigger() == 2
    assert times.at == [0, 1e9]


async def test_s9_a_clock_that_runs_backwards_does_no_harm() -> None:
    times = Times()
    async with Timer(0.01, times) as timer:
        await timer.wait(hit_count=2)
        virtual().nanos -= 5_000_000
        await timer.wait(hit_count=3)
    assert times.at[2] >= 20


async def test_s10_a_pause_skips_what_passes_and_resume_does_not_burst() -> None:
    times = Times()
    async with Timer(0.01, times, mode="fixed_rate") as timer:
        await timer.wait(hit_count=2)
        timer.pause()
        assert timer.is_paused()
        assert timer.is_running()
        await asyncio.sleep(0.095)
        timer.resume()
        assert not timer.is_paused()
        await timer.wait(hit_count=4)
    assert times.at == [0, 10, 110, 120]


async def test_s10_a_trigger_runs_while_paused() -> None:
    times = Times()
    async with Timer(0.01, times) as timer:
        await timer.wait(hit_count=1)
        timer.pause()
        await asyncio.sleep(0.1)
        assert await timer.trigger() == 2
        await asyncio.sleep(0.1)
    assert times.at == [0, 100]


async def test_s10_pause_and_resume_from_other_threads() -> None:
    times = Times()
    async with Timer(1, times) as timer:
        await timer.wait(hit_count=1)
        await asyncio.to_thread(timer.pause)
        await asyncio.sleep(10)
        await asyncio.to_thread(timer.resume)
        await timer.wait(hit_count=2)
    assert times.at == [0, 11_000]


async def test_s11_max_runs_ends_it_normally() -> None:
    ends = list[bool]()
    timer = Timer(0.01, lambda: 1, None, lambda *_: ends.append(True), max_runs=3)
    timer.start()
    await timer.wait()
    assert (timer.hit_count, timer.is_running(), ends) == (3, False, [True])


async def test_s11_run_for_ends_it_at_its_time() -> None:
    times = Times()
    timer = Timer(0.01, times, run_for=0.025)
    watch = Stopwatch()
    timer.start()
    await timer.wait()
    assert (times.at, watch.ms) == ([0, 10, 20], 25)


async def test_s11_cancel_aws_let_the_current_run_finish() -> None:
    stop = asyncio.Event()
    times = Times()
    timer = Timer(0.01, times.taking(0.005), cancel_aws=[stop.wait()])
    timer.start()
    await asyncio.sleep(0.017)
    stop.set()
    await timer.wait()
    assert (times.at, timer.hit_count) == ([0, 15], 2)


async def test_s11_a_condition_that_is_true_already_comes_before_the_first_tick() -> None:
    times = Times()
    done = asyncio.get_running_loop().create_future()
    done.set_result(None)
    timer = Timer(0.01, times, cancel_aws=[done])
    timer.start()
    await timer.wait()
    assert times.at == []


async def test_s11_a_condition_that_fails_stops_it_too_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails() -> None:
        await asyncio.sleep(0.015)
        raise ValueError("broken")

    timer = Timer(0.01, Times(), cancel_aws=[fails()], name="guarded")
    timer.start()
    await timer.wait()
    assert timer.hit_count == 2
    (told,) = [record for record in caplog.records if record.exc_info]
    said = "one of the cancel_aws of timer 'guarded' failed, the timer stops"
    assert (told.name, told.getMessage()) == ("everbeat.timer.guarded", said)


async def test_s11_conditions_that_are_not_needed_are_cancelled() -> None:
    ours, given = asyncio.Event(), asyncio.get_running_loop().create_future()
    timer = Timer(0.01, Times(), cancel_aws=[ours.wait(), given], max_runs=2)
    timer.start()
    await timer.wait()
    await spin()
    assert not given.done()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_s9_t2_no_tick_is_early_by_the_clock_of_the_loop() -> None:
    loop, early = virtual(), list[float]()
    due = loop.time()

    def check() -> None:
        if loop.time() < due:
            early.append(loop.time())

    async with Timer(ns(333_333_333), check, mode="fixed_rate") as timer:
        for _ in range(1_000):
            await timer.join()
            due += 0.333_333_333 - 1e-9
    assert early == []


@pytest.mark.parametrize("delay", [1.647194127, 0.1, 1e-9, 59.999999999, 86_400.3, 1e9 + 0.5])
async def test_s7_a_delay_of_whole_nanoseconds_is_read_as_it_was_written(delay: float) -> None:
    for timer in (Timer(delay, int), everbeat.threading.Timer(delay, int), everbeat.ticks(delay)):
        assert timer.delay == delay
    assert everbeat.threading.PeriodicTask(delay, int).interval == delay
    assert Timer(delay, int).stats().delay == delay
