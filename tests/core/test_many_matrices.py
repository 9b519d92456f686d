"""Ten thousand matrices in one call: more than any table of a launch holds."""

from __future__ import annotations

import pytest
import torch
from tolerances import assert_close

from adalora_core import ops, reference

pytestmark = pytest.mark.slow

MATRICES, RANK = 10_000, 2
SHAPES = [(RANK, 3), (RANK, 1), (4, RANK)] * MATRICES


def pieces(values: torch.Tensor) -> list[torch.Tensor]:
    sizes = [rows * cols for rows, cols in SHAPES]
    parts = values.split(sizes)
    return [part.view(shape) for part, shape in zip(parts, SHAPES, strict=True)]


def test_an_allocation_over_ten_thousand_matrices_equals_the_oracle() -> None:
    entries = sum(rows * cols for rows, cols in SHAPES)
    parameters, gradients = pieces(torch.randn(entries)), pieces(torch.randn(entries))
    flat = [torch.rand(entries) for _ in range(2)]
    oracle = [pieces(each.clone()) for each in flat]
    scores = [torch.empty(MATRICES * RANK) for _ in range(2)]
    ops.update_importance(parameters, gradients, *flat, 0.85, 0.7, scores=scores[0])
    reference.update_importance(parameters, gradients, *oracle, 0.85, 0.7, scores=scores[1])
    for ours, theirs in zip(flat, oracle, strict=True):
        assert torch.equal(ours, torch.cat([each.flatten() for each in theirs]))
    assert_close(*scores, torch.float32)
    values = [each.clone() for each in parameters[1::3]]
    expected = [each.clone() for each in values]
    mask = ops.select_triplets(scores[0], 1234, values)
    assert torch.equal(mask, reference.select_triplets(scores[0], 1234, expected))
    assert torch.equal(torch.cat(values), torch.cat(expected))


def test_the_penalty_of_ten_thousand_matrices_equals_the_oracle() -> None:
    factors = pieces(torch.randn(sum(rows * cols for rows, cols in SHAPES)))
    As, Bs = factors[0::3], factors[2::3]
    found = ops.orthogonality_penalty(As, Bs)
    expected = reference.orthogonality_penalty(
        [each.double() for each in As], [each.double() for each in Bs]
    )
    assert_close(found, expected, torch.float32)
