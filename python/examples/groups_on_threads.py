"""A `TimerGroup` on threads handles its timers as one, without an event loop."""

import time

from everbeat.threading import Timer, TimerGroup

with TimerGroup(name="caches") as group:
    group.add(Timer(5, lambda: "rates", name="rates"))
    group.add(Timer(60, time.process_time, name="load"))
    group.wait(hit_count=1, timeout=10)
    print("all warm:", group.is_running(), [timer.name for timer in group])
    for timer, value in group.trigger(timeout=10):
        print(timer.name, "=", value)
print("running after the block:", group.is_running())
