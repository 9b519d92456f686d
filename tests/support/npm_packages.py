"""Programs of the JavaScript world that tests ask: handed over by CI, or installed by npm."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from programs import run

VARIABLE = "ADALORA_NODE_MODULES"
"""Names a node_modules with everything that `package.json` beside this file asks for."""


def node_modules(folder: Path, proves: str) -> Path:
    """Return the node_modules of `VARIABLE`, or install one in `folder`.

    Where npm cannot do it the test is skipped, saying what it would have proved; in CI that is a
    failure.
    """
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    npm = shutil.which("npm")
    problem = "npm is not installed"
    if npm is not None:
        shutil.copy(Path(__file__).with_name("package.json"), folder)
        done = run(npm, "install", "--no-audit", "--no-fund", "--prefix", folder, timeout=300)
        if done.returncode == 0:
            return folder / "node_modules"
        problem = done.stderr[-300:]
    if os.environ.get("CI"):
        pytest.fail(f"npm packages are needed in CI: {problem}")
    pytest.skip(f"would prove that {proves}, but: {problem}")
