"""Build what several test files need once in a run, whichever of its processes asks first."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def built_once(request: pytest.FixtureRequest, name: str, build: Callable[[Path], object]) -> Path:
    """Return a folder that holds what `build` writes into it; the other processes wait for it.

    Args:
        request: that of a fixture.
        name: of the folder, one for the whole run.
        build: fills the empty folder. A build that fails is tried again by the next that asks.
    """
    run = request.getfixturevalue("tmp_path_factory").getbasetemp()
    if hasattr(request.config, "workerinput"):
        run = run.parent  # a worker of pytest-xdist has a folder of its own in that of the run
    folder, is_whole = run / name, run / f"{name}.whole"
    with (run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            is_whole.touch()
    return folder
