"""`after()` calls a function once, later, unless it is cancelled in time. No event loop needed."""

import threading

from everbeat.threading import after

rung = threading.Event()

after(0.05, rung.set)
reminder = after(3600, print, "never printed")

print("cancelled in time:", reminder.cancel())
print("rung:", rung.wait(timeout=10))
