"""The FastAPI example as a process of its own, behind a real uvicorn."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 120.0


class Service:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = ""
        self.log = ""
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_until_ready(self) -> None:
        self.url = self.wait_for(r"running on (http://[\w.:]+)").group(1)
        self.wait_for("Application startup complete")

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            with self._news:
                self.log += line
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Waits until the pattern has been logged so many times."""
        deadline = time.monotonic() + PATIENCE
        with self._news:
            while len(found := list(re.finditer(pattern, self.log))) < times:
                assert not self._ended and self._news.wait(deadline - time.monotonic()), (
                    f"{pattern!r} is missing in\n{self.log}"
                )
        return found[-1]

    def request(self, method: str, path: str) -> Any:
        request = urllib.request.Request(self.url + path, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def end(self, by: int) -> int:
        """Sends the signal, and tells with which code the process has ended."""
        self.process.send_signal(by)
        code = self.process.wait(PATIENCE)
        self.read_to_the_end()
        return code

    def read_to_the_end(self) -> None:
        """Whatever the process, which is about to end or has, still says. Nothing may close its output before."""
        self._reader.join(PATIENCE)


@contextlib.contextmanager
def started(database: Path, *options: str, **settings: object) -> Iterator[Service]:
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "--port", "0", *options]
    environment = {f"PRICES_{name.upper()}": str(value) for name, value in settings.items()}
    process = subprocess.Popen(
        [*command, "fastapi_cache:app"],
        env=os.environ | environment | {"PRICES_DB": str(database)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=database.parent,
        start_new_session=True,
    )
    with process:
        service = Service(process)
        try:
            service.wait_until_ready()
            yield service
        finally:
            # Whatever is left of it, workers included.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            service.read_to_the_end()
