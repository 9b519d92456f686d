"""The selection op: one sort of all scores, one copy into all singular values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adalora_core.ops._operations import joined, kind_of, places_by, write_parts


@torch.no_grad()
def select_triplets(scores: Tensor, budget: int, singular_values: Sequence[Tensor]) -> Tensor:
    """Keep the `budget` best triplets; see `adalora_core.ops.select_triplets`."""
    if budget < 0:
        raise ValueError(f"select_triplets: budget must be 0 or more, got {budget}")
    # Ascending order of the negated scores: stable, so ties go by position, and NaN comes last.
    order = torch.sort(-scores, stable=True).indices
    best = order.narrow(0, 0, min(budget, order.shape[0]))
    mask = scores.new_zeros(scores.shape, dtype=torch.bool).scatter_(0, best, True)
    apply_mask(mask, singular_values)
    return mask


@torch.no_grad()
def apply_mask(mask: Tensor, singular_values: Sequence[Tensor]) -> None:
    """Zero the singular values of dropped triplets; see `adalora_core.ops.apply_mask`."""
    kept = mask.split([each.shape[0] for each in singular_values])
    for places in places_by(kind_of, singular_values):
        values = [singular_values[index] for index in places]
        dropped = torch.cat([kept[index] for index in places]).logical_not_().to(values[0].device)
        # A copy and not a product with the mask: NaN times zero is not zero.
        write_parts(values, joined(values).masked_fill_(dropped, 0))
