"""A copy of the sources to build from, so that no build leaves anything in the working tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ["CMakeLists.txt", "LICENSE", "README.md", "adalora_core", "csrc", "pyproject.toml"]


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory) -> Path:
    """Everything that a build reads, without version control and without build products."""
    tree = tmp_path_factory.mktemp("sources") / "adalora-core"
    tree.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so", "build")
            shutil.copytree(source, tree / name, ignore=ignored)
        else:
            shutil.copy(source, tree / name)
    return tree


@pytest.fixture
def fresh_python(tmp_path) -> Path:
    """The interpreter of an empty virtual environment."""
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


@pytest.fixture
def run_command(tmp_path):
    """Runs a command outside the source tree; its result is returned whatever the exit code."""

    def run(*command, **environment) -> subprocess.CompletedProcess[str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in {"PYTHONPATH", "ADALORA_NATIVE", "CC", "CXX"}
        }
        return subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            cwd=tmp_path,
            env=inherited | environment,
        )

    return run


@pytest.fixture
def path_without_compiler(tmp_path) -> str:
    """A PATH that holds the build tools but no compiler."""
    folder = tmp_path / "no-compiler"
    folder.mkdir()
    for tool in ("cmake", "ninja"):
        found = shutil.which(tool)
        if found:
            (folder / tool).symlink_to(Path(found).resolve())
    return os.pathsep.join([str(folder), str(Path(sys.executable).parent)])
