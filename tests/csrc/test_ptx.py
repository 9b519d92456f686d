"""Run what nvcc generates, in several orders; notice whatever one instruction changes in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from module_files import module_of
from programs import Finished, output_of, run
from ptx_text import OPS, TEXTS, kernels_of, text_of

pytestmark = pytest.mark.nightly

CUDA = Path(__file__).parents[2] / "csrc" / "cuda"
SAME_AS = {"75": "80", "90": "80", "100": "120"}
LIMIT = 3_100_000_000
"""Three times the instructions of the longest tests of one op."""


def run_changed(cuda_ptx: Path, text: str, op: str, folder: Path) -> Finished:
    path = folder / "changed.ptx"
    path.write_text(text, "utf-8")
    return run(cuda_ptx, "0", "--op", op, "--limit", LIMIT, "--text", path, timeout=300)


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
@pytest.mark.parametrize("variant", TEXTS)
def test_results_do_not_depend_on_the_order(cuda_ptx: Path, variant: str, order: str) -> None:
    assert "63 kernels" in output_of(cuda_ptx, variant, "--order", order, timeout=600)


CHANGES = {
    "a barrier less": ("update_kernelIfLb1", r"bar\.sync\s+0;", "", "race: |nobody wrote"),
    "an index off by one": (
        "update_kernelIfLb0",
        r"(ld\.global\.f32\s+%\w+, \[%\w+)\]",
        r"\1+4]",
        "outside of memory",
    ),
    "swapped halves of a pair": (
        "drop_kernelINS_8BFloat16",
        r"mov\.b32\s+{(%\w+), (%\w+)}",
        r"mov.b32 {\2, \1}",
        "test_svd_linear.cpp",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("variant", TEXTS)
def test_a_change_is_noticed(cuda_ptx: Path, variant: str, change: str, tmp_path: Path) -> None:
    prefix, before, after, message = CHANGES[change]
    text = text_of(cuda_ptx, variant)
    (kernel,) = (each for each in kernels_of(text) if each.name.startswith(prefix))
    body, count = re.subn(before, after, text[kernel.begin : kernel.end], count=1)
    assert count == 1
    changed = text[: kernel.begin] + body + text[kernel.end :]
    done = run_changed(cuda_ptx, changed, kernel.op, tmp_path)
    assert done.returncode == 1
    assert re.search(message, done.stderr), done.stderr


@pytest.mark.parametrize("variant", TEXTS)
def test_no_barrier_can_be_left_out(cuda_ptx: Path, variant: str, tmp_path: Path) -> None:
    text = text_of(cuda_ptx, variant)
    spare = set()
    for kernel in kernels_of(text):
        barriers = re.compile(r"bar\.sync\s+0;").finditer(text, kernel.begin, kernel.end)
        for number, each in enumerate(barriers, start=1):
            changed = text[: each.start()] + text[each.end() :]
            if run_changed(cuda_ptx, changed, kernel.op, tmp_path).returncode == 0:
                spare.add((kernel.template, number))
    assert not spare


@pytest.mark.parametrize("gpu", SAME_AS)
def test_other_gpus_have_one_of_these_texts(cuda_ptx: Path, gpu: str, tmp_path: Path) -> None:
    def bodies(text: str) -> dict[str, str]:
        text = re.sub(r"//.*", "", text)
        digest = re.compile(r"\s+|_GLOBAL__N__[0-9a-f]{8}_|(?<=_cu_)[0-9a-f]{8}")
        return {
            each.name: digest.sub(" ", text[each.begin : each.end]) for each in kernels_of(text)
        }

    text = ""
    for op in OPS:
        flags = ["-std=c++20", "-O3", *(["--fmad=false"] if op == "importance" else [])]
        include = [f"-I{CUDA.parent}", f"-I{CUDA.parent / 'include'}"]
        path = tmp_path / f"{op}.ptx"
        command = ["nvcc", *flags, *include, f"-arch=compute_{gpu}", "-ptx", CUDA / f"{op}.cu"]
        output_of(*command, "-o", path)
        text += path.read_text("utf-8")
    assert bodies(text) == bodies(text_of(cuda_ptx, SAME_AS[gpu]))


def test_the_page_says_what_is_counted(cuda_ptx: Path) -> None:
    gpu_page = module_of(CUDA.parents[1] / "tools" / "gpu_page.py")
    counted = output_of(cuda_ptx, "80", "--count", "1", timeout=600)
    assert gpu_page.PAGE.read_text("utf-8") == gpu_page.page_of(counted)
