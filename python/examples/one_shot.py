"""`after()` calls a function once, later, unless it is cancelled in time: in an event loop, and on threads."""

import asyncio
import threading

import everbeat
import everbeat.threading


async def greet(name: str) -> str:
    return f"hello, {name}"


async def in_a_loop() -> None:
    greeting = everbeat.after(0.05, greet, "world")
    reminder = everbeat.after(3600, print, "never printed")
    report = everbeat.after(3600, greet, "everybody")

    print("cancelled in time:", reminder.cancel())
    print("made at its time:", await greeting)
    print("made now:", await report.fire_now())


def on_threads() -> None:
    rung = threading.Event()

    everbeat.threading.after(0.05, rung.set)
    reminder = everbeat.threading.after(3600, print, "never printed")

    print("without a loop:", reminder.cancel())
    print("rung:", rung.wait(timeout=10))


asyncio.run(in_a_loop())
on_threads()
