"""One stem per op everywhere, and a core that knows neither torch nor, outside bindings, Python."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPS = ("importance", "orthogonality", "selection", "svd_linear")
# What joins an op with one of torch's: nothing of it is native (docs/adr/0012).
JOINED = ("adapted_linear",)
PLACES = {
    "csrc/include/adalora/{}.hpp": "header",
    "csrc/cpu/{}.cpp": "kernel driver",
    "csrc/bindings/bind_{}.cpp": "binding",
    "csrc/cuda/{}.cu": "CUDA kernel",
    "csrc/cuda/{}.hpp": "header of the CUDA kernel",
    "csrc/bindings/cuda/bind_{}.cpp": "binding of the CUDA kernel",
    "tests/csrc/test_{}.cpp": "test of the kernel",
    "tests/csrc/cuda/test_{}.cpp": "test of the CUDA kernel",
    "adalora_core/ops/{}.py": "op",
    "adalora_core/ops/_portable/{}.py": "op in torch's batched operations",
    "tests/ops/test_{}.py": "test",
    "benchmarks/bench_{}.py": "benchmark",
}
# The build files are checked in tests/packaging/test_sources.py.
LISTS = {
    "adalora_core/ops/__init__.py": "ops.{} import",
    "adalora_core/ops/_portable/__init__.py": "_portable.{} import",
    "adalora_core/reference.py": "ops.{}",
    "benchmarks/bench_core.py": '"{}",',
    "csrc/bindings/bindings.hpp": "bind_{}(",
    "csrc/bindings/cuda/module.cpp": "bind_{}(",
    "csrc/bindings/module.cpp": "bind_{}(",
    "tests/csrc/core_test.cpp": "test_{}();",
    "tests/csrc/cuda/cuda_test.cpp": "test_{}();",
    "tests/csrc/emulation/module.cpp": "bind_{}(",
    "tests/ops/conftest.py": '"test_{}"',
}


JOINED_PLACES = ["adalora_core/ops/{}.py", "tests/ops/test_{}.py", "benchmarks/bench_{}.py"]


def stems(folder: str, pattern: str) -> set[str]:
    return {path.stem for path in (ROOT / folder).glob(pattern)} - {"__init__"}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("place", PLACES)
def test_every_op_has_its_file_in_every_place(op: str, place: str) -> None:
    assert (ROOT / place.format(op)).is_file(), f"{PLACES[place]} of {op}"


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("file", LISTS)
def test_every_op_is_in_every_list_of_ops(op: str, file: str) -> None:
    entry = LISTS[file].format(op)
    assert entry in (ROOT / file).read_text("utf-8"), f"{file} lacks {entry}"


@pytest.mark.parametrize("op", JOINED)
@pytest.mark.parametrize("place", JOINED_PLACES)
def test_every_joined_op_has_its_file_in_every_place(op: str, place: str) -> None:
    assert (ROOT / place.format(op)).is_file(), f"{PLACES[place]} of {op}"


def test_the_list_of_ops_is_complete() -> None:
    mend = "add the op to OPS, or its file in this folder (CONTRIBUTING.md, 'Add an op')"
    assert stems("adalora_core/ops", "[!_]*.py") == {*OPS, *JOINED}, mend
    for folder in ("csrc/bindings", "csrc/bindings/cuda"):
        assert stems(folder, "bind_*.cpp") == {f"bind_{op}" for op in OPS}, mend
    assert stems("csrc/cuda", "*.cu") == set(OPS), mend


def sources(folder: str) -> list[Path]:
    found = [
        p
        for p in sorted((ROOT / folder).rglob("*"))
        if p.suffix in {".cpp", ".hpp", ".cu", ".cmake"}
    ]
    assert found
    return found


def included(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text("utf-8"), re.MULTILINE)


def test_no_source_of_the_core_names_a_header_of_torch() -> None:
    found = [
        str(path)
        for path in sources("csrc")
        if re.search(r"torch/|ATen|c10", path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize("folder", ["csrc/include", "csrc/cpu", "csrc/cuda"])
def test_only_bindings_include_python(folder: str) -> None:
    found = [
        f"{path}: {name}"
        for path in sources(folder)
        for name in included(path)
        if name == "Python.h" or name.startswith(("pybind11/", "bindings/"))
    ]
    assert found == []


def test_cuda_and_cpu_know_nothing_of_each_other() -> None:
    for folder, other in {"csrc/cpu": "cuda", "csrc/cuda": "cpu"}.items():
        names = [name for path in sources(folder) for name in included(path)]
        assert [name for name in names if name.startswith((f"{other}/", f"{other}_"))] == []


def test_kernels_are_started_in_one_place() -> None:
    starts = [
        path.name
        for path in sources("csrc/cuda")
        if re.search(r"<<<|cudaLaunchKernel", path.read_text("utf-8"))
    ]
    assert starts == ["launch.hpp"]


def test_no_kernel_allocates_waits_or_adds_floats_atomically() -> None:
    text = "\n".join(path.read_text("utf-8") for path in sources("csrc/cuda"))
    assert re.findall(r"cudaMalloc\w*|cuda\w*Synchronize|cudaMemcpy\w*|\bnew \w+", text) == []
    # Counts only: each of them is an integer.
    assert len(re.findall(r"atomic\w+\(", text)) == 2


def test_bindings_include_no_kernel() -> None:
    found = [
        f"{path}: {name}"
        for path in sources("csrc/bindings")
        for name in included(path)
        if name.startswith("cpu/")
    ]
    assert found == []


def test_kernels_include_nothing_of_the_standard_library_that_has_code() -> None:
    # Code of an inline function compiled for one instruction set may be linked into every path.
    kernels = [p for p in sources("csrc/cpu") if p.stem.startswith("kernels_")]
    names = {name for path in [*kernels, ROOT / "csrc/cpu/simd.hpp"] for name in included(path)}
    shared = {f"adalora/arithmetic/{p.name}" for p in sources("csrc/include/adalora/arithmetic")}
    # The compiler's own intrinsics are always inlined.
    assert names <= {"cpu/simd.hpp", "cpu/kernels.hpp", "immintrin.h"} | shared


def test_arithmetic_that_backends_share_is_always_inlined_and_needs_no_library() -> None:
    files = sources("csrc/include/adalora/arithmetic")
    names = {name for path in files for name in included(path)}
    assert names <= {"cstdint"} | {f"adalora/arithmetic/{path.name}" for path in files}
    functions = [
        line
        for path in files
        for line in path.read_text("utf-8").splitlines()
        if re.match(r"\w[\w:<> ]* \w+\(", line)
    ]
    assert functions
    assert [line for line in functions if not line.startswith("ADALORA_SHARED ")] == []
