"""What a tick costs: a thousand periodic tasks of a second, and the same as chains of `threading.Timer`.

    python python/benches/threads.py [tasks] [seconds]

Each contender runs in a process of its own, one after the other. The tasks are started all at once, or
spread evenly over a second. CPU is that of the whole process while the tasks run, divided by the ticks;
memory is what the resident size has grown by when all have ticked twice, divided by the tasks. The threads
that everbeat keeps for all its tasks together are there before, and told of separately.
"""

import os
import subprocess
import sys
import threading
import time

CONTENDERS = ("everbeat", "chain")
STARTS = ("spread", "at once")


class Chain:
    """What one writes without a library."""

    def __init__(self, interval, func):
        self.interval, self.func = interval, func
        self.timer, self.running = None, True
        self.lock = threading.Lock()

    def start(self):
        with self.lock:
            if self.running:
                self.timer = threading.Timer(self.interval, self.run)
                self.timer.daemon = True
                self.timer.start()

    def run(self):
        try:
            self.func()
        finally:
            self.start()

    def stop(self):
        with self.lock:
            self.running = False
            self.timer.cancel()


def resident_bytes():
    with open("/proc/self/statm") as sizes:
        return int(sizes.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def hire_all_workers(Task):
    together = [Task(0, time.sleep, 0.01) for _ in range(64)]
    for task in together:
        task.start()
    time.sleep(0.5)
    for task in together:
        task.stop()


def measure(contender, spread, tasks, seconds):
    if contender == "everbeat":
        from everbeat.threading import PeriodicTask as Task
    else:
        Task = Chain
    ticks = 0

    def tick():
        nonlocal ticks
        ticks += 1

    nothing = resident_bytes()
    if contender == "everbeat":
        hire_all_workers(Task)
    before = resident_bytes()
    running = [Task(1, tick) for _ in range(tasks)]
    begun = time.monotonic()
    for number, task in enumerate(running):
        task.start()
        if spread:
            time.sleep(max(0, begun + (number + 1) / tasks - time.monotonic()))
    time.sleep(2.2)
    bytes_each = (resident_bytes() - before) / tasks
    counted, cpu = ticks, time.process_time()
    time.sleep(seconds)
    cpu, counted = time.process_time() - cpu, ticks - counted
    for task in running:
        task.stop()
    print(f"{cpu / counted * 1e6:.1f} {bytes_each:.0f} {counted / tasks / seconds:.3f} {before - nothing}")


def main(tasks=1000, seconds=10):
    print(f"{tasks} tasks of 1 s, {seconds} s each run")
    print(f"{'':10} {'start':8} {'CPU us/tick':>12} {'bytes each':>11} {'ticks kept':>11} {'fixed KB':>9}")
    for start in STARTS:
        for contender in CONTENDERS:
            program = [sys.executable, __file__, "--one", contender, start, str(tasks), str(seconds)]
            printed = subprocess.run(program, check=True, capture_output=True, text=True).stdout
            cpu, size, kept, fixed = map(float, printed.split())
            print(f"{contender:10} {start:8} {cpu:12.1f} {size:11.0f} {kept:11.1%} {fixed / 1000:9.0f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _, contender, start, tasks, seconds = sys.argv[1:]
        measure(contender, start == "spread", int(tasks), int(seconds))
    else:
        main(*map(int, sys.argv[1:]))
