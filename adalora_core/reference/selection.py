"""`select_triplets` and `apply_mask` in plain torch: the kept set within a budget."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def select_triplets(scores: Tensor, budget: int, singular_values: Sequence[Tensor]) -> Tensor:
    """Keep the `budget` best triplets and zero the others; see `adalora_core.ops.select_triplets`.

    Example:
        >>> E = [torch.ones(2, 1), torch.ones(1, 1)]
        >>> select_triplets(torch.tensor([1.0, 3.0, 2.0]), 2, E), E[0].flatten()
        (tensor([False,  True,  True]), tensor([0., 1.]))
    """
    # Ascending order of the negated scores: stable, so ties go by position, and NaN comes last.
    order = torch.sort(-scores, stable=True).indices
    mask = torch.zeros_like(scores, dtype=torch.bool)
    mask[order[:budget]] = True
    apply_mask(mask, singular_values)
    return mask


@torch.no_grad()
def apply_mask(mask: Tensor, singular_values: Sequence[Tensor]) -> None:
    """Zero the singular values of dropped triplets; see `adalora_core.ops.apply_mask`.

    Example:
        >>> E = [torch.ones(2, 1)]
        >>> apply_mask(torch.tensor([True, False]), E)
        >>> E[0].flatten()
        tensor([1., 0.])
    """
    kept_per_matrix = torch.split(mask, [len(values) for values in singular_values])
    for values, kept in zip(singular_values, kept_per_matrix, strict=True):
        values.masked_fill_(~kept.unsqueeze(1), 0)
