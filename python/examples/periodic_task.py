"""A `PeriodicTask` calls a function again and again on a thread, whatever it raises, until it is stopped."""

import threading

from everbeat.threading import PeriodicTask

calls = threading.Semaphore(0)


def poll(url: str, *, limit: int) -> None:
    calls.release()
    print("poll", url, limit)


task = PeriodicTask(0.02, poll, "https://example.com", limit=3)
task.start()
task.start()  # it runs already: nothing changes
for _ in range(3):
    calls.acquire(timeout=10)
task.stop()  # once this has returned, nothing runs
print("stopped")
