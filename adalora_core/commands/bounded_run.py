"""Run a command in a worker process with limits of the system on processor, memory and time.

The process of the user starts the worker, waits and prints nothing while all is well. The worker
runs the command, with the same standard streams, and announces each file before it reads it. Where
that ends the worker, the next worker gets the results of the other files and goes on.
"""

from __future__ import annotations

import gc
import marshal
import signal
import sys
import time
from typing import TYPE_CHECKING

from adalora_core.commands.session import OF_A_CHECK, OF_TENSORS, SESSION
from adalora_core.floor.worker import Bounds, Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

BOUNDS = {
    "check": OF_A_CHECK,
    "explain": OF_A_CHECK,
    "plan": OF_TENSORS,
    "report": OF_TENSORS,
    "export-lora": OF_TENSORS,
}
"""The bounds of each command that reads files of others."""
MOST_FILES, MOST_SECONDS = 10, 300
"""The number of files beyond a bound, and the time spent on them, after which no file is read."""
CANNOT_RUN = 2
_MANY, _NAP = 32, 0.002
"""After each so many files some frames are waited for, to be read together."""

_PROGRAM = "from adalora_core.commands.bounded_run import work; sys.exit(work(reading, writing))"


def main() -> int:
    """Run the `adalora` command of this process, bounded if it reads files of others."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in BOUNDS and sys.executable and not getattr(sys, "frozen", False):
        return _Run(sys.argv[1:], BOUNDS[command]).run()
    from adalora_core.commands.cli import main as run

    return run()


class _Run:
    """A command in one worker after the other.

    `most_seconds` is the time by the clock, spent on files beyond a bound, after which the rest is
    not read.
    """

    def __init__(
        self, argv: Sequence[str], bounds: Bounds, most_seconds: float = MOST_SECONDS
    ) -> None:
        self._argv, self._bounds, self._most_seconds = list(argv), bounds, most_seconds
        self._results: dict[str, bytes] = {}
        self._beyond: dict[str, str] = {}
        self._printed: list[str] = []
        self._retried: set[str] = set()
        self._seconds = 0.0
        self._worker: Worker | None = None

    def run(self) -> int:
        """Return the exit code of the last worker."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._hand_on)
        while True:
            began, served = time.monotonic(), len(self._results)
            worker, file, may_retry = self._work()
            code = worker.end()
            if worker.reason is None:
                return code
            if file is None:
                from adalora_core.commands.cli.console import fail

                hint = "raise the bound with --limit NAME=NUMBER"
                return fail(self._argv[0], f"the command {worker.reason}; {hint}")
            self._seconds += time.monotonic() - began
            had_others = len(self._results) > served
            if may_retry and had_others and file not in self._retried:
                self._retried.add(file)
            else:
                self._beyond[file] = worker.reason

    def _work(self) -> tuple[Worker, str | None, bool]:
        """Let a worker work until it ends, and return the file that it was reading then."""
        runs_site = self._bounds.of_data  # the compiled modules may be found by a hook
        worker = self._worker = Worker(_PROGRAM, self._bounds, runs_site=runs_site)
        is_full = len(self._beyond) >= MOST_FILES or self._seconds >= self._most_seconds
        known = self._argv, self._results, self._beyond, self._printed, is_full
        try:  # noqa: SIM105 - contextlib takes as long to import as all the rest
            worker.send(marshal.dumps((*known, vars(self._bounds))))
        except BrokenPipeError:  # it has ended: there is no answer
            pass
        file, may_retry, is_timed, files = None, False, True, 0
        while (frame := worker.answer(is_timed=is_timed)) is not None:
            kind, *given = marshal.loads(frame)  # noqa: S302 - of our own process
            if kind == "file":
                file, may_retry = given
                files += 1
                if files > _MANY and not worker.has_frame():
                    time.sleep(_NAP)
            elif kind == "result":
                self._results[file or ""], file = given[0], None
            elif kind == "passed":
                file = None
            elif kind == "printed":
                self._printed.append(given[0])
            elif kind == "waits":
                is_timed = not given[0]
            else:  # bounds
                worker.bounds = self._bounds = Bounds(**given[0])
        return worker, file, may_retry

    def _hand_on(self, number: int, _: object) -> None:
        """Hand a signal that ends a process on to the worker, which prints a sentence."""
        if self._worker is not None:
            self._worker.forward(number)


def work(reading: int, writing: int) -> int:
    """Run a command as the worker of a process."""
    gc.set_threshold(200_000, 30, 30)  # most objects of a check are needed to its end
    from adalora_core.commands.cli import main as run

    return SESSION.serve(reading, writing, run)
