"""The C++ tests over the interpreter of PTX."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from built_once import built_once
from programs import output_of

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def cuda_ptx(request: pytest.FixtureRequest) -> Path:
    """The program of ptx/main.cpp: built before, or here where there is an nvcc."""
    if built := os.environ.get("ADALORA_CUDA_PTX"):
        return Path(built)
    if not (shutil.which("nvcc") and shutil.which("cmake")):
        pytest.skip("no nvcc or no cmake; would have run the PTX of the kernels")

    def build(folder: Path) -> None:
        options = ["-DADALORA_GPU_TEST=ON", "-DCMAKE_CUDA_ARCHITECTURES=90-real"]
        output_of("cmake", "-S", HERE, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", *options)
        command = ["cmake", "--build", folder, "--target", "cuda_ptx", "--parallel", "2"]
        output_of(*command, timeout=1800)

    return built_once(request, "cuda_ptx", build) / "cuda_ptx"
