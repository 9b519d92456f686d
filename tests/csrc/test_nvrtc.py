"""Compile the CUDA kernels with the compiler of CUDA 12, a library of the Python index."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from programs import output_of

ROOT = Path(__file__).parents[2]
CUDA = ROOT / "csrc" / "cuda"
ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")
"""Those of the wheel; csrc/cuda/architectures.cmake names them too."""

FORMATS = ("float", "double", "adalora::BFloat16", "adalora::Float16")
SUMS = FORMATS[:2]
PAIRS = tuple(f"{one}, {other}" for one in FORMATS for other in FORMATS)
KERNELS = {
    "importance.cu": {
        "update_kernel": [f"{each}, {scored}" for each in FORMATS for scored in ("true", "false")],
        "score_kernel": SUMS,
    },
    "orthogonality.cu": {
        "gram_kernel": FORMATS,
        "residual_kernel": SUMS,
        "mean_kernel": FORMATS,
        "gradient_kernel": FORMATS,
    },
    "selection.cu": {"mask_kernel": [""], "select_kernel": SUMS},
    "svd_linear.cu": {"fold_kernel": PAIRS, "unfold_kernel": PAIRS, "drop_kernel": FORMATS},
}
"""The kernels of each file, and the types that the ops start them with."""

HEADERS = {
    "cstddef": "namespace std { using size_t = decltype(sizeof 0); }",
    "cstdint": """namespace std {
using int32_t = int; using int64_t = long long; using uint8_t = unsigned char;
using uint16_t = unsigned short; using uint32_t = unsigned; using uint64_t = unsigned long long;
using uintptr_t = unsigned long long; }""",
}
"""What kernels use of the standard library: names of types. The compiler has no headers."""

MACROS = {
    "__FLT_MAX__": "3.40282346638528859812e+38F",
    "__DBL_MAX__": "1.7976931348623157e+308",
}
"""Those of the compiler of the host, which nvcc has beside it."""


def test_the_list_of_kernels_is_complete() -> None:
    for path in CUDA.glob("*.cu"):
        found = re.findall(r"__global__[^;{]*?\b(\w+_kernel)\(", path.read_text("utf-8"))
        assert found == list(KERNELS.get(path.name, {})), path.name


@pytest.fixture(scope="module")
def nvrtc() -> Any:
    spec = importlib.util.find_spec("nvidia")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        for library in Path(folder).glob("cuda_nvrtc/lib/libnvrtc.so.12"):
            return ctypes.CDLL(str(library))
    pytest.skip("no nvidia-cuda-nvrtc-cu12; would have compiled the kernels with CUDA 12")


class Compilation:
    """One file of kernels, compiled for one architecture."""

    def __init__(self, nvrtc: Any, file: str) -> None:
        self._nvrtc = nvrtc
        self._file = file
        self._program = ctypes.c_void_p()
        texts = [text.encode() for text in HEADERS.values()]
        names = [name.encode() for name in HEADERS]
        array = ctypes.c_char_p * len(HEADERS)
        source = (CUDA / file).read_bytes()
        self._call(
            "CreateProgram", source, file.encode(), len(HEADERS), array(*texts), array(*names),
            program=ctypes.byref(self._program),
        )  # fmt: skip
        self._names = [
            f"&adalora::cuda::{kernel}" + (f"<{types}>" if types else "")
            for kernel, uses in KERNELS[file].items()
            for types in uses
        ]
        for name in self._names:
            self._call("AddNameExpression", name.encode())

    def _call(self, function: str, *arguments: Any, program: Any = None) -> None:
        code = getattr(self._nvrtc, f"nvrtc{function}")(program or self._program, *arguments)
        assert code == 0, f"nvrtc{function}: error {code}\n{self._log()}"

    def _log(self) -> str:
        size = ctypes.c_size_t()
        self._nvrtc.nvrtcGetProgramLogSize(self._program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        self._nvrtc.nvrtcGetProgramLog(self._program, log)
        return log.value.decode()

    def _compile(self, architecture: str, *more: str) -> None:
        options = [
            f"--gpu-architecture={architecture}", "--std=c++20", *more,
            f"-I{ROOT / 'csrc' / 'include'}", f"-I{ROOT / 'csrc'}",
            *(f"-D{name}={value}" for name, value in MACROS.items()),
        ]  # fmt: skip
        array = ctypes.c_char_p * len(options)
        self._call("CompileProgram", len(options), array(*(each.encode() for each in options)))
        assert self._log() == "", "a warning"

    def _result(self, kind: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"Get{kind}Size", ctypes.byref(size))
        result = ctypes.create_string_buffer(size.value)
        self._call(f"Get{kind}", result)
        return result.raw

    def run(self, architecture: str) -> list[str]:
        """Return the names of the kernels in the compiled code."""
        self._compile(architecture)
        code = self._result("CUBIN")
        lowered = []
        for name in self._names:
            text = ctypes.c_char_p()
            self._call("GetLoweredName", name.encode(), ctypes.byref(text))
            assert text.value in code
            lowered.append(text.value.decode())
        self._nvrtc.nvrtcDestroyProgram(ctypes.byref(self._program))
        return lowered

    def text(self, architecture: str) -> str:
        """Return the PTX, with the flags that csrc/cuda/kernels.cmake has for the file."""
        self._compile(architecture, *(["--fmad=false"] if self._file == "importance.cu" else []))
        text = self._result("PTX").rstrip(b"\0").decode()
        self._nvrtc.nvrtcDestroyProgram(ctypes.byref(self._program))
        return text


@pytest.mark.nightly
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", KERNELS)
def test_every_kernel_compiles_with_cuda_12(nvrtc: Any, file: str, architecture: str) -> None:
    kernels = Compilation(nvrtc, file).run(architecture)
    assert len(set(kernels)) == sum(map(len, KERNELS[file].values()))


@pytest.mark.nightly
@pytest.mark.parametrize("architecture", ["compute_80", "compute_120"])
def test_what_cuda_12_generates_computes_the_same(
    nvrtc: Any, cuda_ptx: Path, architecture: str, tmp_path: Path
) -> None:
    text = "".join(Compilation(nvrtc, file).text(architecture) for file in KERNELS)
    (tmp_path / "cuda_12.ptx").write_text(text, "utf-8")
    done = output_of(cuda_ptx, "0", "--text", tmp_path / "cuda_12.ptx", timeout=600)
    assert "63 kernels" in done
