"""Tests that run on several event loops."""

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from everbeat.testing import VirtualLoop

NewLoop = Callable[[], asyncio.AbstractEventLoop]
AsyncTest = Callable[..., Coroutine[Any, Any, None]]

LOOPS: list[Any] = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(VirtualLoop, id="virtual"),
]
try:
    import uvloop
except ImportError:  # there is none for this system
    pass
else:
    LOOPS.append(pytest.param(uvloop.new_event_loop, id="uvloop"))


def on_every_loop(test: AsyncTest) -> Callable[..., None]:
    """For what takes no time: the test runs on each kind of loop."""
    parametrize = pytest.mark.parametrize("new_loop", LOOPS)
    return parametrize(_as_function(test, lambda new_loop: new_loop, ["new_loop"]))  # type: ignore[no-any-return]


def in_virtual_time(test: AsyncTest) -> Callable[..., None]:
    """For what would take long: the clock of the loop jumps."""
    return _as_function(test, lambda: VirtualLoop, [])


def _as_function(test: AsyncTest, choose: Callable[..., NewLoop], own: list[str]) -> Callable[..., None]:
    """A test that pytest calls with the arguments of the async one, and with some of its own."""

    def run(**arguments: Any) -> None:
        new_loop = choose(**{name: arguments.pop(name) for name in own})
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test(**arguments))

    functools.update_wrapper(run, test)
    given = list(inspect.signature(test).parameters.values())
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in own]
    run.__signature__ = inspect.Signature([*given, *added])  # type: ignore[attr-defined]
    del run.__wrapped__  # type: ignore[attr-defined]  # pytest would call that
    return run
