"""Whether CUDA kernels are built, and what a module with them asks of the machine that loads it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest
from programs import output_of, output_of_python, run

ROOT = Path(__file__).parents[2]
BUILT = importlib.util.find_spec("adalora_core._cuda")

needs_cuda_module = pytest.mark.skipif(
    BUILT is None,
    reason="installed without CUDA kernels (no nvcc); would have shown what the module loads",
)


@pytest.fixture(scope="session")
def pybind11(tmp_path_factory, wheelhouse) -> Path:
    """The folder in which CMake finds pybind11."""
    folder = tmp_path_factory.mktemp("pybind11")
    source = ["--no-index", "--find-links", wheelhouse, "--target", folder]
    output_of_python("-m", "pip", "install", "--quiet", "--no-deps", *source, "pybind11")
    return folder / "pybind11" / "share" / "cmake" / "pybind11"


@pytest.fixture
def failing_nvcc(tmp_path) -> Path:
    """A CUDA compiler that is there but does not work."""
    compiler = tmp_path / "bin" / "nvcc"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\necho this nvcc is broken >&2\nexit 1\n", encoding="utf-8")
    compiler.chmod(0o755)
    return compiler


@pytest.fixture
def configure(tmp_path, pybind11, failing_nvcc):
    """Configures a build with a broken nvcc; returns whether that succeeded and what it printed."""
    if shutil.which("cmake") is None:
        pytest.skip("no cmake; would have configured builds with and without CUDA")

    def configure_with(setting: str | None, driver: Path | None = ROOT) -> tuple[bool, str]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in {"ADALORA_CUDA", "CUDACXX", "CUDAARCHS"}
        }
        environment["PATH"] = os.pathsep.join([str(failing_nvcc.parent), os.environ["PATH"]])
        if setting is not None:
            environment["ADALORA_CUDA"] = setting
        done = run(
            *("cmake", "-S", ROOT, "-B", tmp_path / "build", f"-Dpybind11_DIR={pybind11}"),
            *("-DSKBUILD_PROJECT_VERSION=0", f"-DPython_EXECUTABLE={sys.executable}"),
            f"-DADALORA_DRIVER_FILES={driver or ''}",
            env=environment,
        )
        return done.returncode == 0, " ".join((done.stdout + done.stderr).split())

    return configure_with


@pytest.mark.slow
@pytest.mark.parametrize("setting", [None, "AUTO", ""])
def test_a_failing_nvcc_is_a_warning_by_default(configure, setting) -> None:
    went_well, said = configure(setting)
    assert went_well, said
    assert "does not work here; building without CUDA kernels" in said
    assert "ADALORA_CUDA=OFF silences this" in said


@pytest.mark.slow
def test_a_failing_nvcc_is_an_error_where_cuda_was_asked_for(configure) -> None:
    went_well, said = configure("ON")
    assert not went_well
    assert "ADALORA_CUDA=ON, but no working CUDA compiler was found" in said


@pytest.mark.slow
def test_no_nvcc_is_asked_where_cuda_is_off(configure) -> None:
    went_well, said = configure("off")
    assert went_well, said
    assert "CUDA" not in said


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("nvidia-smi") is not None, reason="a driver is installed; would have had none"
)
def test_no_nvcc_is_asked_where_there_is_no_driver(configure, tmp_path) -> None:
    went_well, said = configure(None, driver=None)
    assert went_well, said
    assert "does not work here" not in said
    reason = "no CUDA kernels: nvcc was found, but no NVIDIA driver (set ADALORA_CUDA=ON to build"
    assert reason in said
    # The last line of the build too: what installs the files ends with it.
    assert reason in (tmp_path / "build" / "cmake_install.cmake").read_text(encoding="utf-8")


@needs_cuda_module
def test_the_cuda_module_needs_no_cuda_library() -> None:
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("no readelf; would have listed what the module links")
    assert BUILT is not None
    listed = output_of(readelf, "-d", BUILT.origin).splitlines()
    needed = [line for line in listed if "NEEDED" in line]
    assert needed
    assert [line for line in needed if "libcuda" in line or "libnv" in line] == []


@needs_cuda_module
def test_the_cuda_module_loads_without_a_gpu_and_without_torch() -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from adalora_core import _cuda; print(_cuda.runtime_version(), _cuda.problem_of(0))"
    )
    printed = output_of_python("-c", script, variables={"CUDA_VISIBLE_DEVICES": ""})
    version, problem = printed.split(maxsplit=1)
    assert int(version) >= 12000
    assert problem.strip()


@needs_cuda_module
@pytest.mark.nightly
def test_the_stub_describes_the_cuda_module() -> None:
    pytest.importorskip("torch", reason="would have compared the stub, which names its tensors")
    output_of_python("-m", "mypy.stubtest", "adalora_core._cuda")
