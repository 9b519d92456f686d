"""The CUDA module as it is shipped, where an interpreter of PTX takes the place of a GPU.

Its tensors are those of the CPU, which its exchange table shows as tensors of a GPU.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from built_once import built_once
from module_files import module_of
from programs import output_of

SOURCES = Path(__file__).parents[1] / "csrc"
LAUNCH = re.compile(r" _Z\S*?\d([a-z]+_kernel)\S*")


def interpreted_build(request: pytest.FixtureRequest) -> Path:
    """Return the folder of the program cuda_ptx and the module; built where there is an nvcc."""
    if built := os.environ.get("ADALORA_CUDA_PTX"):
        return Path(built).parent
    if not (shutil.which("nvcc") and shutil.which("cmake")):
        pytest.skip("no nvcc or no cmake; would have run the PTX of the kernels")
    pybind11 = pytest.importorskip("pybind11", reason="would have run the PTX of the kernels")
    options = [
        "-DCMAKE_BUILD_TYPE=Release",
        "-DADALORA_GPU_TEST=ON",
        "-DCMAKE_CUDA_ARCHITECTURES=90-real",
        "-DADALORA_PYTHON_MODULE=ON",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        f"-DPython_EXECUTABLE={sys.executable}",
    ]

    def build(folder: Path) -> None:
        output_of("cmake", "-S", SOURCES, "-B", folder, *options)
        command = ["cmake", "--build", folder, "--parallel", "2", "--target", "cuda_ptx", "_cuda"]
        output_of(*command, timeout=1800)

    return built_once(request, "cuda_ptx", build)


class StandIn:
    """The module. Each call of a function may touch the tensors that it reads, and nothing else.

    Args:
        file: holds the module, and beside it what a test asks of its runtime.

    Attributes:
        control: the latter, of tests/csrc/ptx/module.cpp.
        calls: the functions that were called, and after each those of CUDA that it called itself.
    """

    def __init__(self, file: Path) -> None:
        import torch

        from adalora_core.ops import _cuda as core

        name = "__dlpack_c_exchange_api__"
        self.control = module_of(file, "stand_in")
        self.calls: list[str] = []
        self._captures = False
        core._module.cache_clear()
        with pytest.MonkeyPatch.context() as patch:
            table = self.control.table(getattr(torch.Tensor, name))
            patch.setattr(torch.Tensor, name, table)
            patch.setitem(sys.modules, "adalora_core._cuda", module_of(file))
            self._module: Any = core.core_of.__wrapped__(0)
        core._module.cache_clear()
        self.loading = self.control.take_calls()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._module, name)

        def call(*arguments: Any) -> Any:
            if not self._captures:
                self.control.release_all()
            self.calls.append(name)
            try:
                return function(*arguments)
            finally:
                self.calls += [LAUNCH.sub(r" \1", each) for each in self.control.take_calls()]

        return call

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Keep launches for `control.replay` instead of running them."""
        self.control.release_all()
        self._captures = True
        self.control.begin_capture()
        yield
        self.control.end_capture()
        self._captures = False

    def take_calls(self) -> list[str]:
        """Return the calls since the last question."""
        calls, self.calls = self.calls, []
        return calls


def show_as_on_gpu(monkeypatch: pytest.MonkeyPatch, core: StandIn) -> None:
    """Let `core` serve all tensors, of which Python code is told that they are on GPU 0."""
    import torch

    from adalora_core.ops import _backend

    monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda _tensor: False))
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda _tensor: True))
    monkeypatch.setattr(torch.Tensor, "get_device", lambda _tensor: 0)
    monkeypatch.setattr(_backend, "_cuda_core_of", [core].__getitem__)
    allow_wide_sums(monkeypatch)


def allow_wide_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `torch.mm` of the CPU take `out_dtype`, as that of a GPU does."""
    import torch

    plain_mm = torch.mm

    def mm(left: Any, right: Any, **options: Any) -> Any:
        wide = options.pop("out_dtype", left.dtype)
        return plain_mm(left.to(wide), right.to(wide), **options)

    monkeypatch.setattr(torch, "mm", mm)


@pytest.fixture(scope="session")
def interpreted_core(request: pytest.FixtureRequest) -> StandIn:
    """The module; a device in the sense of `op_devices.py`."""
    (file,) = interpreted_build(request).glob("_cuda.*.so")
    return StandIn(file)
