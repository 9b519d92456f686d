"""A copy of the sources to build from, and what is built of it once in a run of the tests."""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
import venv
from pathlib import Path
from typing import Any

import pytest
from built_once import built_once
from programs import output_of, run

ROOT = Path(__file__).parents[2]
IN_FOLDER = "."
PIP_WHEEL = (sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", IN_FOLDER)


@pytest.fixture(scope="session")
def built(request):
    """Runs, once for all processes, a build that leaves one file where it runs; returns that."""

    def built_by(name: str, pattern: str, *command, **environment) -> Path:
        def build(folder: Path) -> None:
            output_of(*command, **apart(folder, environment))

        (file,) = built_once(request, name, build).glob(pattern)
        return file

    return built_by


def apart(folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Return how to run a command in `folder`, apart from what this process was started with."""
    ours = {"PYTHONPATH", "ADALORA_NATIVE", "CC", "CXX"}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    # Most tests are not about CUDA, and nvcc takes a minute of each build.
    variables = inherited | {"ADALORA_CUDA": "OFF"} | environment
    return {"cwd": folder, "timeout": 1800, "env": variables}


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory) -> Path:
    """The project as a clone has it: no build leaves anything in the real one."""
    tree = tmp_path_factory.mktemp("sources") / "adalora-core"
    ignored = shutil.ignore_patterns(".git", "*.so", "__pycache__", ".*_cache", "build", "shared")
    shutil.copytree(ROOT, tree, ignore=ignored)
    return tree


@pytest.fixture(scope="session")
def wheelhouse(request) -> Path:
    """What a build declares that it needs, fetched once; the builds below have no other source."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    # The last two are asked for on machines that have none of their own.
    needed = [*project["build-system"]["requires"], "cmake", "ninja"]
    download = [sys.executable, "-m", "pip", "download", "--quiet", *needed]
    return built_once(
        request, "wheelhouse", lambda folder: output_of(*download, **apart(folder, {}))
    )


@pytest.fixture(scope="session")
def offline(wheelhouse) -> dict[str, str]:
    """The environment of a machine without a network that has the wheelhouse."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheelhouse)}


@pytest.fixture(scope="session")
def sdist(built, source_tree, offline) -> Path:
    build = [sys.executable, "-m", "build", "--sdist", "--outdir", IN_FOLDER, source_tree]
    return built("sdist", "*.tar.gz", *build, **offline)


@pytest.fixture(scope="session")
def wheel(built, sdist, offline) -> Path:
    """The wheel with the compiled core, built of the sdist."""
    return built("wheel", "*.whl", *PIP_WHEEL, sdist, **offline)


@pytest.fixture(scope="session")
def cuda_wheel(request) -> Path:
    """The wheel with CUDA kernels for all GPUs; ADALORA_CUDA_WHEEL names one that exists."""
    given = os.environ.get("ADALORA_CUDA_WHEEL")
    if given:
        return Path(given)
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc; would have built the wheel with CUDA kernels")
    built, sdist, offline = map(request.getfixturevalue, ("built", "sdist", "offline"))
    return built("cuda-wheel", "*.whl", *PIP_WHEEL, sdist, **offline, ADALORA_CUDA="ON")


@pytest.fixture(scope="session")
def pure_wheel(built, sdist, offline, path_without_compiler) -> Path:
    """The wheel without a compiled core, built where there is no compiler."""
    alone = {"ADALORA_NATIVE": "OFF", "PATH": path_without_compiler}
    return built("pure-wheel", "*.whl", *PIP_WHEEL, sdist, **offline, **alone)


@pytest.fixture
def fresh_python(tmp_path) -> Path:
    """The interpreter of an empty virtual environment."""
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


@pytest.fixture
def run_command(tmp_path):
    """Runs a command outside the source tree; its result is returned whatever the exit code."""

    def run_apart(*command, folder=tmp_path, **environment):
        return run(*command, **apart(folder, environment))

    return run_apart


@pytest.fixture
def must_run(tmp_path):
    """Runs a command outside the source tree that must succeed; what it prints is returned."""

    def run_apart(*command, folder=tmp_path, **environment):
        return output_of(*command, **apart(folder, environment))

    return run_apart


@pytest.fixture(scope="session")
def path_without_compiler(tmp_path_factory) -> str:
    """A PATH that holds the build tools but no compiler."""
    folder = tmp_path_factory.mktemp("no-compiler")
    for tool in ("cmake", "ninja"):
        found = shutil.which(tool)
        if found:
            (folder / tool).symlink_to(Path(found).resolve())
    return os.pathsep.join([str(folder), str(Path(sys.executable).parent)])
