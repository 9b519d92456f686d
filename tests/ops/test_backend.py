"""Which backend serves, and what is said where the compiled core is missing."""

from __future__ import annotations

import pytest
import torch
from programs import Finished, run_python

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
        return "Root-Is-Purelib: {purelib}" if name == "WHEEL" else None
metadata.distribution = lambda name: Wheel()
from adalora_core import ops
x, A, E, B = torch.ones(1, 3), torch.ones(2, 3), torch.ones(2, 1), torch.ones(4, 2)
print(ops.svd_linear(torch.zeros(1, 4), x, A, E, B, 0.5).tolist())
"""


def without_core(purelib: str) -> Finished:
    return run_python("-c", WITHOUT_CORE.replace("{purelib}", purelib))


def test_a_pure_install_uses_the_reference() -> None:
    run = without_core("true")
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[[3.0, 3.0, 3.0, 3.0]]"


def test_a_tree_that_was_not_built_is_one_explanatory_error() -> None:
    run = without_core("false")
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("adalora_core.errors.BackendUnavailableError: the compiled core")
    assert "pip install ." in last


class Subclass(torch.Tensor):
    """A tensor that may mean anything by its memory."""


@pytest.mark.parametrize("make", [lambda t: t.as_subclass(Subclass), lambda t: t.to("meta")])
def test_what_the_core_cannot_read_goes_to_the_reference(make: object) -> None:
    tensor = make(torch.ones(1, 4))  # type: ignore[operator]
    assert not _backend.serves(tensor)
    factors = [torch.ones(2, 4), torch.ones(2, 1), torch.ones(4, 2)]
    moved = [make(each) for each in factors]  # type: ignore[operator]
    result = ops.svd_linear(tensor, tensor, *moved, 0.5)
    expected = reference.svd_linear(tensor, tensor, *moved, 0.5)
    assert result.shape == expected.shape
    assert result.device == expected.device
