"""The fixtures of the tests of `everbeat.threading`."""

import subprocess
import sys
import textwrap
import time

import pytest


@pytest.fixture
def run_script():
    """Runs a program of its own, and hands out how it ended, what it printed and how long it took."""

    def run(source: str, timeout: float = 60.0) -> subprocess.CompletedProcess:
        program = (
            "from everbeat.threading import *\nimport everbeat, threading, time, os, sys\n"
            + textwrap.dedent(source)
        )
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=timeout, check=False
        )
        done.took = time.monotonic() - began
        return done

    return run
