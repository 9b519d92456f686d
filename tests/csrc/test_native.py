"""Compare the core's ABI with a packaged dlpack.h; run its C++ tests under sanitizers."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
from programs import output_of

HERE = Path(__file__).parent
INCLUDE = HERE.parents[1] / "csrc" / "include"

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="no g++; would have compiled the core's C++ tests"
)
needs_cmake = pytest.mark.skipif(
    shutil.which("cmake") is None, reason="no cmake; would have run the core's C++ tests"
)


run = partial(output_of, timeout=900)


def dlpack_include() -> Path:
    tvm_ffi = pytest.importorskip("tvm_ffi", reason="would have compared dlpack.h with our structs")
    return Path(tvm_ffi.__file__).parent / "include"


@needs_compiler
def test_our_dlpack_structs_are_those_of_the_packaged_header() -> None:
    source = str(HERE / "dlpack_abi_test.cpp")
    flags = ["-std=c++20", "-fsyntax-only", f"-I{INCLUDE}", f"-I{dlpack_include()}"]
    run("g++", *flags, source)


@needs_compiler
def test_the_comparison_notices_a_moved_member(tmp_path: Path) -> None:
    header = (INCLUDE / "adalora" / "dlpack_abi.hpp").read_text(encoding="utf-8")
    moved = header.replace(
        "  std::uint32_t major;\n  std::uint32_t minor;",
        "  std::uint32_t minor;\n  std::uint32_t major;",
    )
    assert moved != header
    (tmp_path / "adalora").mkdir()
    (tmp_path / "adalora" / "dlpack_abi.hpp").write_text(moved, encoding="utf-8")
    flags = ["-std=c++20", "-fsyntax-only", f"-I{tmp_path}", f"-I{dlpack_include()}"]
    with pytest.raises(AssertionError, match="static assertion failed"):
        run("g++", *flags, str(HERE / "dlpack_abi_test.cpp"))


# .ci/run does the same in sections of its own.
@pytest.mark.nightly
@needs_compiler
@needs_cmake
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_core_passes_its_tests_under_sanitizers(sanitizers: str, tmp_path: Path) -> None:
    options = [f"-DADALORA_SANITIZE={sanitizers}", "-DCMAKE_BUILD_TYPE=Release"]
    run("cmake", "-S", str(HERE), "-B", str(tmp_path), *options)
    run("cmake", "--build", str(tmp_path), "--parallel", "2")
    run("ctest", "--test-dir", str(tmp_path), "--output-on-failure")


@pytest.mark.nightly
@needs_cmake
@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-g++") and shutil.which("qemu-aarch64")),
    reason="no g++ for aarch64, or no qemu; would have run the core's C++ tests on an aarch64",
)
def test_core_passes_its_tests_on_aarch64(tmp_path: Path) -> None:
    run(HERE / "run_aarch64.sh", tmp_path)
