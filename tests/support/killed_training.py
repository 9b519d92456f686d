"""Kill one process of `restarted_training` with SIGKILL, and start the run again.

Launchers run it as people do, and it is killed from outside. Forked processes, which start in no
time, kill themselves at a chosen step or in the middle of a save.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import restarted_training
import torch
from distributed_runs import prepare, train
from process_groups import run_processes
from programs import LONGEST_MESSAGE

if TYPE_CHECKING:
    from collections.abc import Callable


class Death(NamedTuple):
    """When which process dies.

    Attributes:
        rank: the process.
        line: the line of the first process that announces it: "step 7" or "save 20".
        delay: seconds from there to the signal, if no call is given.
        call: of a save, which call of fsync or rename is the last.
    """

    rank: int
    line: str
    delay: float = 0.0
    call: int | None = None


# --- forked processes ----------------------------------------------------------------------------


def forked(world: int, folder: Path, death: Death | None = None, **options: Any) -> Any:
    """Run the tiny task in `world` processes; return the outcome, or None after a death."""
    folder.mkdir(exist_ok=True)
    arguments = argparse.Namespace(**{"folder": folder, "task": "tiny", "every": 6, **options})
    number = len(list(folder.parent.iterdir()))
    run_processes(world, _work, folder.parent / f"{folder.name}-{number}", arguments, death)
    found = folder / "outcome.pt"
    assert found.exists() == (death is None)
    return torch.load(found) if death is None else None


def _work(rank: int, arguments: argparse.Namespace, death: Death | None) -> None:
    if death is not None and rank == death.rank:
        die(death)
    try:
        restarted_training.run(arguments, rank, int(os.environ["WORLD_SIZE"]))
    except Exception:
        # Which error an interrupted collective raises is torch's choice.
        if death is None or rank == death.rank:
            raise


def die(death: Death) -> None:
    """Make this process kill itself."""

    def say(_run: Any, text: str) -> None:
        if text == death.line:
            if death.call is None:
                threading.Timer(death.delay, _kill_this_process).start()
            else:
                os.fsync, os.rename = deadly(os.fsync), deadly(os.rename)

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if next(calls) == death.call:
                _kill_this_process()
            return function(*arguments)

        return call

    calls = itertools.count()
    restarted_training.Run.say = say  # type: ignore[method-assign]


def _kill_this_process() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class PageRun(NamedTuple):
    """What a run with `save` and `resume` of a page did, and random numbers after either."""

    start: int
    trace: Any
    after_resume: torch.Tensor
    after_save: torch.Tensor


def train_as_the_page_tells(_rank: int, block: str, kind: str, folder: Path, stop: int) -> PageRun:
    """Train until before `stop` with the functions that a block of a page defines."""
    names: dict[str, Any] = {"__name__": "restart"}
    exec(block, names)  # noqa: S102 - the page's own code
    model, wrapped, optimizer = prepare(kind)
    start = names["resume"](folder, model, optimizer)
    after_resume = torch.rand(1)
    trace = train(wrapped, model, range(start, stop), optimizer=optimizer)
    names["save"](folder, model, optimizer, stop)
    return PageRun(start, trace, after_resume, torch.rand(1))


# --- launchers -----------------------------------------------------------------------------------

LAUNCHERS: dict[str, list[str]] = {
    "python": [],
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    "torchrun alone": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"],
    "accelerate": [
        *("-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1"),
        # What runs torchrun; its processes are told below to use the CPU.
        *("--multi_gpu", "--mixed_precision", "no", "--dynamo_backend", "no"),
        *("--main_process_port", "0"),
    ],
}
PROCESS = re.compile(r"rank (\d+) is process (\d+)\n")


class Launch(NamedTuple):
    """A program of this folder, and how it is launched.

    Attributes:
        launcher: a key of LAUNCHERS.
        program: the name of the file.
        options: of the program.
        alone: the launcher of a single process that continues the run; None if that is impossible.
        python: the interpreter.
    """

    launcher: str
    program: str
    options: tuple[str, ...]
    alone: str | None = None
    python: Path | str = sys.executable

    def run(self, folder: Path) -> Any:
        """Run the program to its end, and return the outcome."""
        assert self._run(folder, None) == 0, _errors(folder)
        return torch.load(folder / "outcome.pt")

    def run_and_kill(self, folder: Path, death: Death) -> None:
        """Run the program and kill one of its processes."""
        assert self._run(folder, death) != 0
        assert not (folder / "outcome.pt").exists()

    def _run(self, folder: Path, death: Death | None) -> int:
        folder.mkdir(exist_ok=True)
        settings = {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OMP_NUM_THREADS": "1",
            "ACCELERATE_USE_CPU": "true",
        }
        program = Path(__file__).with_name(self.program)
        command = [self.python, *LAUNCHERS[self.launcher], program, folder, *self.options]
        processes: dict[int, int] = {}
        with (
            (folder / "errors.txt").open("w") as errors,
            subprocess.Popen(
                [str(each) for each in command],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | settings,
            ) as running,
        ):
            for line in running.stdout or ():
                if found := PROCESS.fullmatch(line):
                    processes[int(found[1])] = int(found[2])
                elif death is not None and line == f"{death.line}\n":
                    time.sleep(death.delay)
                    os.kill(processes[death.rank], signal.SIGKILL)
        return running.returncode


def _errors(folder: Path) -> str:
    return (folder / "errors.txt").read_text()[-LONGEST_MESSAGE:]
