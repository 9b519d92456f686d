"""The ways to install the package, each into an empty virtual environment."""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.slow

LOADS_CORE = "import adalora_core._cpu, adalora_core; print(adalora_core.__file__)"
REASON = "import adalora_core._cpu as core; print(core.no_cuda_reason)"


@pytest.fixture
def installed(must_run, fresh_python, offline):
    """Installs something, from the wheelhouse alone, and returns the interpreter that has it."""

    def install(*arguments):
        command = [fresh_python, "-m", "pip", "install", "--no-deps", "--quiet", *arguments]
        must_run(*command, **offline)
        return fresh_python

    return install


def test_install_brings_the_compiled_core(must_run, installed, wheel):
    python = installed(wheel)
    assert str(python.parents[1]) in must_run(python, "-c", LOADS_CORE)
    assert must_run(python.parent / "adalora", "--version").startswith("adalora-core ")
    assert must_run(python, "-c", REASON) == "ADALORA_CUDA was OFF\n"


def test_editable_install_imports_from_the_tree(must_run, installed, source_tree):
    # Not optimised: what counts is where it is imported from.
    settings = ("cmake.build-type=Debug", "cmake.define.ADALORA_OPTIMIZE=-O0")
    options = [f"--config-settings={each}" for each in settings]
    python = installed(*options, "--editable", source_tree)
    loaded = must_run(python, "-c", LOADS_CORE)
    assert loaded.strip() == str(source_tree / "adalora_core" / "__init__.py")


def test_install_without_native_core_has_the_contract(must_run, installed, pure_wheel):
    python = installed(pure_wheel)
    assert "no-budgeting-phase" in must_run(python.parent / "adalora", "rule", "ADA202")


def test_install_without_compiler_names_the_option(
    run_command, source_tree, tmp_path, path_without_compiler, offline
):
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path / "dist"]
    result = run_command(*build, source_tree, PATH=path_without_compiler, **offline)
    assert result.returncode != 0
    said = " ".join((result.stdout + result.stderr).split())
    assert "no C++20 compiler was found" in said
    assert "ADALORA_NATIVE=OFF" in said
