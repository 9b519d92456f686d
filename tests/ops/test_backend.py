"""Choose the backend that serves, and report a missing compiled core."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from programs import Finished, output_of, run_python

from adalora_core import ops, reference
from adalora_core.ops import _backend

WITHOUT_CORE = """
import sys
import torch
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "adalora_core._cpu":
            raise ImportError("no module adalora_core._cpu")
sys.meta_path.insert(0, Hide())
from importlib import metadata
class Wheel:
    def read_text(self, name):
        return "Root-Is-Purelib: {purelib}"
metadata.distribution = lambda name: Wheel()
from adalora_core import ops
x, A, E, B = torch.ones(1, 3), torch.ones(2, 3), torch.ones(2, 1), torch.ones(4, 2)
print(ops.svd_linear(torch.zeros(1, 4), x, A, E, B, 0.5).tolist())
"""


def without_core(purelib: str, **variables: str) -> Finished:
    return run_python("-c", WITHOUT_CORE.replace("{purelib}", purelib), variables=variables)


def slow(*values: object) -> Any:
    """Return a case for the slow tier: each is a process that imports torch."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("choice", ["", slow("portable"), slow("reference")])
def test_a_pure_install_uses_torch(choice: str) -> None:
    run = without_core("true", ADALORA_BACKEND=choice)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == ["[[3.0, 3.0, 3.0, 3.0]]"]


WHO_SERVES = """
import sys, torch
from adalora_core import ops, reference
called = []
for name in ("update_importance", "select_triplets", "orthogonality_penalty", "svd_linear"):
    op = getattr(reference, name)
    setattr(reference, name, lambda *a, op=op, n=name, **k: (called.append(n), op(*a, **k))[1])
device = sys.argv[1]
A, E, B = (torch.ones(s, device=device) for s in ((2, 4), (2, 1), (4, 2)))
ops.svd_linear(torch.ones(1, 4, device=device), torch.ones(1, 4, device=device), A, E, B, 0.5)
flat = [torch.zeros(18, device=device) for _ in range(2)]
if device == "cpu":
    ops.update_importance([A, E, B], [A, E, B], *flat, 0.85, 0.85)
    ops.select_triplets(torch.ones(2), 1, [E])
    ops.orthogonality_penalty([A], [B])
print(len(called), "adalora_core._cpu" in sys.modules)
"""


def who_serves(choice: str, device: str = "cpu") -> Finished:
    return run_python("-c", WHO_SERVES, device, variables={"ADALORA_BACKEND": choice})


@pytest.mark.parametrize(
    ("choice", "printed"),
    [
        ("", "0 True"),
        slow("native", "0 True"),
        slow("portable", "0 False"),
        slow("reference", "4 False"),
    ],
)
def test_the_environment_chooses_a_backend(choice: str, printed: str) -> None:
    run = who_serves(choice)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("native", "svd_linear: ADALORA_BACKEND is 'native', and the compiled core does not serve"),
        ("fast", "ADALORA_BACKEND must be one of native, portable, reference, got 'fast'"),
    ],
)
def test_a_choice_that_cannot_be_met_is_an_error(choice: str, message: str) -> None:
    run = who_serves(choice, "meta")
    assert run.returncode == 1
    assert message in run.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_tree_that_was_not_built_is_one_explanatory_error() -> None:
    run = without_core("false")
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("adalora_core.floor.errors.BackendUnavailableError: the compiled core")
    assert "pip install ." in last


class Subclass(torch.Tensor):
    """A tensor that may mean anything by its memory."""


@pytest.mark.parametrize("make", [lambda t: t.as_subclass(Subclass), lambda t: t.to("meta")])
def test_what_the_core_cannot_read_goes_to_torch(make: object) -> None:
    tensor = make(torch.ones(1, 4))  # type: ignore[operator]
    assert not _backend.serves(tensor)
    factors = [torch.ones(2, 4), torch.ones(2, 1), torch.ones(4, 2)]
    moved = [make(each) for each in factors]  # type: ignore[operator]
    result = ops.svd_linear(tensor, tensor, *moved, 0.5)
    expected = reference.svd_linear(tensor, tensor, *moved, 0.5)
    assert result.shape == expected.shape
    assert result.device == expected.device


HIDES_THE_POOL = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
void *dlsym(void *library, const char *name) {
  static void *(*find)(void *, const char *);
  if (!find) find = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
  if (!find) find = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.17");
  return strcmp(name, "torch_parallel_for") ? find(library, name) : 0;
}
"""


@pytest.mark.slow
def test_a_torch_without_its_thread_pool_is_a_warning_and_one_thread(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc; would have hidden a symbol of torch from the core")
    source, library = tmp_path / "hide.c", tmp_path / "hide.so"
    source.write_text(HIDES_THE_POOL, encoding="utf-8")
    output_of("gcc", "-shared", "-fPIC", "-o", library, source, "-ldl")
    script = "from adalora_core.ops import _backend; print(_backend.core.thread_count())"
    done = run_python("-c", script, variables={"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "2"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1"
    assert done.stderr.count("this torch does not export torch_parallel_for") == 1
