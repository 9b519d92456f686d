"""Writes that a signal ends at each instruction of `adalora_core/floor/files.py`.

    python signalled_writes.py KIND SIGNAL FOLDER STEP

writes `FOLDER/N/target` in a child for every STEP-th instruction N, and prints how each ended.
The process forks for every write, so that the package is loaded once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adalora_core.floor import files

OLD, NEW = b"old\n", b"new\n"
INTERRUPTED = 130


def write_one(folder: Path) -> None:
    files.write_file(folder / "target", NEW)


def write_two(folder: Path) -> None:
    files.write_files({folder / "target": NEW, folder / "other": NEW})


def stage_in_a_folder(folder: Path) -> None:
    with files.staging_folder(folder) as inner:
        (inner / "part").write_bytes(NEW)
        files.write_file(folder / "target", NEW)


KINDS: dict[str, Callable[[Path], None]] = {
    "one": write_one,
    "two": write_two,
    "folder": stage_in_a_folder,
}


def signalling(number: int, at: int) -> Callable[..., Any]:
    """Return a trace function that sends a signal before an instruction of the module."""
    seen = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal seen
        if frame.f_code.co_filename != files.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if seen == at:
                signal.raise_signal(number)
            seen += 1
        return trace

    return trace


def ended(write: Callable[[Path], None], folder: Path, number: int, at: int) -> int:
    """Write in a child that gets a signal; return its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            sys.settrace(signalling(number, at))
            write(folder)
        except KeyboardInterrupt:
            os._exit(INTERRUPTED)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(kind: str, number: int, root: Path, step: int) -> None:
    """Write until a write gets to its end before the signal."""
    codes: dict[int, int] = {}
    code, at = -1, 0
    while code != 0:
        folder = root / str(at)
        folder.mkdir()
        (folder / "target").write_bytes(OLD)
        code = codes[at] = ended(KINDS[kind], folder, number, at)
        at += step
    sys.stdout.write(json.dumps(codes))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
