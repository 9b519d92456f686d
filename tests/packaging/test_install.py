"""The ways to install the package, each into an empty virtual environment with build isolation."""

from __future__ import annotations

import sys
import zipfile

import pytest

pytestmark = pytest.mark.slow

LOADS_CORE = "import adalora_core._cpu, adalora_core; print(adalora_core.__file__)"


def pip_install(run_command, python, *arguments, **environment):
    result = run_command(
        python, "-m", "pip", "install", "--no-deps", "--quiet", *arguments, **environment
    )
    assert result.returncode == 0, result.stdout + result.stderr


def wheel_of(run_command, source_tree, tmp_path, **environment):
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "-w",
        tmp_path / "dist",
        source_tree,
    ]
    return run_command(*command, **environment)


def test_install_from_the_tree_brings_the_compiled_core(run_command, fresh_python, source_tree):
    pip_install(run_command, fresh_python, source_tree)
    loaded = run_command(fresh_python, "-c", LOADS_CORE)
    assert loaded.returncode == 0, loaded.stderr
    assert str(fresh_python.parents[1]) in loaded.stdout
    shown = run_command(fresh_python.parent / "adalora", "--version")
    assert shown.stdout.startswith("adalora-core ")


def test_install_from_an_sdist_brings_the_compiled_core(
    run_command, fresh_python, source_tree, tmp_path
):
    built = run_command(
        sys.executable, "-m", "build", "--sdist", "--outdir", tmp_path / "dist", source_tree
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    pip_install(run_command, fresh_python, sdist)
    loaded = run_command(fresh_python, "-c", LOADS_CORE)
    assert loaded.returncode == 0, loaded.stderr


def test_editable_install_imports_from_the_tree(run_command, fresh_python, source_tree):
    pip_install(run_command, fresh_python, "--editable", source_tree)
    loaded = run_command(fresh_python, "-c", LOADS_CORE)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.strip() == str(source_tree / "adalora_core" / "__init__.py")


def test_wheel_carries_types_and_core_but_no_sources(run_command, source_tree, tmp_path):
    result = wheel_of(run_command, source_tree, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "adalora_core/py.typed" in names
    assert any(name.startswith("adalora_core/_cpu.") and name.endswith(".so") for name in names)
    assert not [name for name in names if name.endswith((".cpp", ".hpp", ".h", ".cu"))]


def test_wheel_without_native_core_is_pure_and_needs_no_compiler(
    run_command, source_tree, tmp_path, path_without_compiler
):
    result = wheel_of(
        run_command, source_tree, tmp_path, ADALORA_NATIVE="OFF", PATH=path_without_compiler
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "adalora_core/contract/__init__.py" in names
    assert not [name for name in names if name.endswith(".so")]


def test_install_without_compiler_names_the_option(
    run_command, source_tree, tmp_path, path_without_compiler
):
    result = wheel_of(run_command, source_tree, tmp_path, PATH=path_without_compiler)
    assert result.returncode != 0
    said = " ".join((result.stdout + result.stderr).split())
    assert "no C++20 compiler was found" in said
    assert "ADALORA_NATIVE=OFF" in said
