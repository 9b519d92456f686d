"""Feed inputs to a process with limits, and start another one after each failure."""

from __future__ import annotations

import json
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fuzz_inputs import Files, Generator

WORKER = Path(__file__).with_name("fuzz_worker.py")
PATIENCE = 600
"""Seconds of real time after which an input counts as endless."""
FEWEST = 20
"""Inputs of each format that are handled, however slow the machine is."""


@dataclass
class Fuzzer:
    """Handles inputs in a worker process.

    Args:
        folder: where the inputs are written.
    """

    folder: Path
    _worker: subprocess.Popen[str] | None = None

    def problem(self, format_: str, files: Files) -> str | None:
        """Return what is wrong with the handling of an input, or None."""
        place = self.folder / "input"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for name, content in files.items():
            (place / name).write_bytes(content)
        problem = self._answer(format_, place)
        if problem is not None:
            self.stop()
        return problem

    def _answer(self, format_: str, place: Path) -> str | None:
        if self._worker is None:
            self._worker = subprocess.Popen(
                [sys.executable, str(WORKER)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True, cwd=self.folder,
            )  # fmt: skip
        worker = self._worker
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps([format_, str(place)]) + "\n")
        worker.stdin.flush()
        if not select.select([worker.stdout], [], [], PATIENCE)[0]:
            return f"no answer after {PATIENCE} s"
        line = worker.stdout.readline()
        if not line:
            return f"the process ended with {worker.wait()}"
        problem: str | None = json.loads(line)
        return problem

    def stop(self) -> None:
        """End the worker process, if there is one."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.communicate()
            self._worker = None

    def search(
        self, generator: Generator, format_: str, first: int, seconds: float
    ) -> dict[int, str]:
        """Handle the inputs of the seeds from `first` on, for some time and at least FEWEST.

        Returns:
            What is wrong, by seed.
        """
        end = time.monotonic() + seconds
        found: dict[int, str] = {}
        seed = first
        while time.monotonic() < end or seed - first < FEWEST:
            problem = self.problem(format_, generator.make(format_, seed))
            if problem is not None:
                found[seed] = problem
            seed += 1
        return found
