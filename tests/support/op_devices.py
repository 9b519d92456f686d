"""Run tests of the ops on the CPU with and without a core, on a GPU and on its two stand-ins."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from built_once import built_once
from cuda_stand_in import SOURCES, allow_wide_sums, interpreted_core, show_as_on_gpu
from module_files import module_of
from programs import output_of

from adalora_core.ops import _backend

__all__ = ["device", "emulated_core", "interpreted_core", "new_tensors"]

HAS_GPU = torch.cuda.is_available()

DEVICES = [
    "cpu",
    "portable",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(
                not HAS_GPU, reason="no GPU; would have compared the CUDA kernels with the oracle"
            ),
        ],
    ),
    pytest.param("emulated", marks=pytest.mark.nightly),
    pytest.param("interpreted", marks=pytest.mark.nightly),
]


@pytest.fixture(scope="session")
def emulated_core(request: pytest.FixtureRequest) -> Any:
    """The CUDA module with its kernels compiled as C++, over tests/csrc/emulation."""
    for tool in ("cmake", "g++"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}; would have run the ops through emulated CUDA kernels")
    pybind11 = pytest.importorskip("pybind11", reason="would have built emulated CUDA kernels")
    options = [
        "-DADALORA_PYTHON_MODULE=ON",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        f"-DPython_EXECUTABLE={sys.executable}",
    ]

    def build(folder: Path) -> None:
        output_of("cmake", "-S", SOURCES, "-B", folder, *options)
        output_of("cmake", "--build", folder, "--target", "cuda_emulated", "--parallel", "2")

    (file,) = built_once(request, "emulated-core", build).glob("cuda_emulated*.so")
    module = module_of(file)
    module.connect()
    return module


@pytest.fixture
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which kernels serve the ops; all but those of "cuda" take tensors of the CPU."""
    name: str = request.param
    if name == "portable":
        monkeypatch.setattr(_backend, "HAS_CORE", False)
    if name == "emulated":
        core = request.getfixturevalue("emulated_core")
        monkeypatch.setattr(_backend, "core_of", lambda _tensor: core)
        allow_wide_sums(monkeypatch)
    if name == "interpreted":
        show_as_on_gpu(monkeypatch, request.getfixturevalue("interpreted_core"))
    return name


@pytest.fixture(autouse=True)
def new_tensors(device: str) -> Iterator[None]:
    """Make the tensors of a test where its kernels are."""
    torch.set_default_device("cuda" if device == "cuda" else None)
    yield
    torch.set_default_device(None)
