"""Every instruction set that the core was compiled for gives the right results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from programs import Finished, run_python

SUPPORT = Path(__file__).parents[1] / "support"

CHECK = """
import hashlib
import torch
from tolerances import assert_close
from adalora_core import ops, reference

torch.manual_seed(0)
digest = hashlib.sha256()
for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
    def rand(*shape):
        return (torch.randn(shape) * 0.3).to(dtype)

    def both(op, oracle, *leaves):
        wide = [each.double().requires_grad_() for each in leaves]
        leaves = [each.requires_grad_() for each in leaves]
        results = []
        for function, given in ((op, leaves), (oracle, wide)):
            output = function(*given)
            results.append([output, *torch.autograd.grad(output.double().sum(), given)])
        for found, expected in zip(*results, strict=True):
            assert_close(found, expected, dtype)

    both(lambda *a: ops.svd_linear(*a, 0.7), lambda *a: reference.svd_linear(*a, 0.7),
         rand(37, 41), rand(37, 67), rand(13, 67), rand(13, 1), rand(41, 13))
    both(lambda *a: ops.orthogonality_penalty(a[:2], a[2:]),
         lambda *a: reference.orthogonality_penalty(a[:2], a[2:]),
         rand(13, 67), rand(3, 1), rand(600, 13), rand(1, 3))
    average = torch.promote_types(dtype, torch.float32)
    flat = [torch.rand(13 * 67 + 13 + 41 * 13, dtype=average) for _ in range(2)]
    factors, gradients = ([rand(13, 67), rand(13, 1), rand(41, 13)] for _ in range(2))
    scores = torch.empty(13, dtype=average)
    ops.update_importance(factors, gradients, *flat, 0.85, 0.7, scores=scores)
    for each in (*flat, scores):
        digest.update(each.numpy().tobytes())
print(digest.hexdigest())
"""


def under(isa: str, script: str) -> Finished:
    variables = {"ADALORA_CORE_ISA": isa, "PYTHONPATH": str(SUPPORT)}
    return run_python("-c", script, variables=variables)


def instruction_sets() -> list[str]:
    """Return the names that the core lists when it refuses another."""
    refusal = under("none", "from adalora_core import _cpu; _cpu.isa_name()").stderr
    listed = re.search(r"ADALORA_CORE_ISA must be one of (.+), got 'none'", refusal)
    assert listed, refusal
    return listed[1].split(", ")


@pytest.mark.slow
def test_every_instruction_set_agrees_with_the_oracle_and_averages_bit_by_bit() -> None:
    names = instruction_sets()
    assert names
    digests, absent = {}, []
    for name in names:
        run = under(name, CHECK)
        if "this processor does not have" in run.stderr:
            absent.append(name)
            continue
        assert run.returncode == 0, f"{name}: {run.stderr[-2000:]}"
        digests[name] = run.stdout
    assert len(set(digests.values())) == 1, digests
    if absent:
        pytest.skip(f"this processor lacks {absent}; would have compared their results too")
