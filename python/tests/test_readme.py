"""The programs in both READMEs run as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAMS = {
    f"{name}-{number}": program
    for name, path in (("repository", HERE / "../../README.md"), ("package", HERE / "../README.md"))
    for number, program in enumerate(re.findall(r"^```python\n(.*?)^```$", path.read_text(), re.M | re.S))
}


def test_there_are_programs() -> None:
    assert {"repository-0", "package-0", "package-1"} <= PROGRAMS.keys()


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_the_program_runs(program: str) -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    # On a busy machine a slot may be missed, which is logged.
    complaints = [line for line in done.stderr.splitlines() if not re.search("slots missed", line)]
    assert (done.returncode, complaints) == (0, [])
