"""The settings that a release is made with: valid, and about the Pythons that the package names."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from programs import Finished, output_of_python, run_python

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WHEELS = SETTINGS["tool"]["cibuildwheel"]
NAMED_PYTHONS = {
    name.rpartition(" ")[2]
    for name in SETTINGS["project"]["classifiers"]
    if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", name)
}
PYTHONS_TO_BE_SHOWN = {"3.14"}
"""Those that get a wheel, and a classifier once a run has shown that it works."""


def run_tool(name: str, *arguments: str, folder: Path = ROOT) -> Finished:
    if find_spec(name) is None:
        pytest.skip(
            f"would check the settings of a release with {name}; install the extra: release"
        )
    return run_python("-m", name, *arguments, cwd=folder)


def planned_wheels(platform: str) -> list[str]:
    architectures = ",".join(WHEELS["linux"]["archs"]) if platform == "linux" else "all"
    done = run_tool(
        "cibuildwheel",
        "--print-build-identifiers",
        "--platform",
        platform,
        "--archs",
        architectures,
    )
    assert done.returncode in {0, 3}, done.stderr  # 3: nothing to build
    return done.stdout.split()


def test_every_tool_whose_settings_have_a_schema_accepts_them():
    # cibuildwheel, scikit-build-core and the standards bring theirs.
    done = run_tool("validate_pyproject", "pyproject.toml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_misspelt_setting_of_cibuildwheel_is_refused(tmp_path):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(text.replace("test-sources =", "test-source ="))
    done = run_tool("validate_pyproject", "pyproject.toml", folder=tmp_path)
    assert done.returncode == 1
    assert "test-source" in done.stdout + done.stderr


def test_wheels_are_planned_for_the_named_pythons_on_two_architectures_of_linux():
    assert not NAMED_PYTHONS & PYTHONS_TO_BE_SHOWN
    assert set(planned_wheels("linux")) == {
        f"cp{python.replace('.', '')}-manylinux_{architecture}"
        for python in NAMED_PYTHONS | PYTHONS_TO_BE_SHOWN
        for architecture in ("x86_64", "aarch64")
    }


def options_of(identifier: str) -> Any:
    """Return what cibuildwheel makes of the settings for one wheel."""
    options = pytest.importorskip("cibuildwheel.options", reason="would have read the settings")
    arguments = options.CommandLineArguments.defaults()
    arguments.platform, arguments.package_dir = "linux", ROOT
    return options.compute_options("linux", arguments, {}).build_options(identifier)


def test_wheels_for_x86_have_kernels_of_a_toolkit_for_the_drivers_of_cuda_12_and_13():
    options = options_of("cp312-manylinux_x86_64")
    environment = options.environment.as_dictionary({})
    assert environment["ADALORA_CUDA"] == "ON"
    assert environment["CUDACXX"] == "/usr/local/cuda-12.8/bin/nvcc"
    assert "manylinux_2_28_x86_64" in options.manylinux_images["x86_64"]
    # The compiler and what it compiles against: neither a driver nor a library.
    repository, installed = options.before_all.split(" && ")
    assert repository.endswith("/rhel8/x86_64/cuda-rhel8.repo")
    *_, nvcc, headers, host = installed.split()
    assert (nvcc, headers) == ("cuda-nvcc-12-8", "cuda-cudart-devel-12-8")
    assert host.removesuffix("-gcc-c++") in environment["CUDAHOSTCXX"]
    assert options.test_command.endswith('python -c "import adalora_core._cuda"')
    assert "pytest -q tests/checker tests/config tests/contract" in options.test_command


def test_wheels_for_aarch64_have_no_kernels():
    options = options_of("cp312-manylinux_aarch64")
    assert options.environment.as_dictionary({}) == {"ADALORA_CUDA": "OFF"}
    assert options.before_all == ""
    assert "_cuda" not in options.test_command


@pytest.mark.parametrize("platform", ["macos", "windows"])
def test_no_wheel_is_planned_for(platform):
    assert planned_wheels(platform) == []


@pytest.mark.nightly
def test_tests_of_a_wheel_run_from_what_is_copied_beside_it(tmp_path):
    """As cibuildwheel runs them: all are collected, some that read files of the project are run."""
    for source in WHEELS["test-sources"]:
        copy = tmp_path / source
        copy.parent.mkdir(parents=True, exist_ok=True)
        whole_folder = (ROOT / source).is_dir()
        (shutil.copytree if whole_folder else shutil.copy)(ROOT / source, copy)
    command = next(line for line in WHEELS["test-command"] if line.startswith("pytest"))
    program, *arguments = shlex.split(command)
    start = f"import {program}; raise SystemExit({program}.console_main())"
    some = ["-k", "address or sarif or header", "-p", "no:cacheprovider"]
    safe = {"PYTHONSAFEPATH": "1"}
    printed = output_of_python("-c", start, *arguments, *some, cwd=tmp_path, variables=safe)
    assert re.search(r"\b\d+ passed, .*deselected", printed), printed
