"""A taste of the soak that `make soak` takes its time for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it looks at itself as Linux shows it")
def test_a_taste_of_the_soak_is_sound() -> None:
    command = [sys.executable, ROOT / "soak" / "soak.py", "--seconds", "4", "--timers", "80"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=55, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "verdict: sound" in done.stdout
