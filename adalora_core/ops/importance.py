"""The importance op: both averages and the triplet scores of all matrices in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from adalora_core import reference
from adalora_core.ops import _backend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def update_importance(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    smoothed: Sequence[Tensor],
    uncertainty: Sequence[Tensor],
    beta1: float,
    beta2: float,
    *,
    scores: Tensor | None = None,
) -> int:
    """Update smoothed sensitivity and uncertainty in place, and score the triplets if asked to.

    With `I = |p * g|`: `smoothed = beta1 * smoothed + (1 - beta1) * I`, then, with the new
    `smoothed`, `uncertainty = beta2 * uncertainty + (1 - beta2) * |I - smoothed|` (paper
    equations 9 and 10), bit-equal to the same formula in torch. A triplet's score is its E entry
    plus the means over its row of A and its column of B, where an entry scores
    `smoothed * uncertainty` (equations 7 and 8).

    Args:
        parameters: A `[r, in]`, E `[r, 1]`, B `[out, r]` of the first matrix, then of the next.
        gradients: one per parameter, or None: no observation, its averages stay.
        smoothed: one per parameter, same shape; float32, or float64 for float64 parameters.
            Overwritten.
        uncertainty: the same. Overwritten. No version counter of the averages is raised, since no
            graph holds them.
        beta1: share of the old smoothed sensitivity that stays, in [0, 1].
        beta2: the same for the uncertainty.
        scores: `[sum of ranks]` of the averages' dtype, overwritten; None wants no scores.

    Returns:
        How many entries were left as they were because `|p * g|` is not finite.

    Raises:
        TypeError: a wrong type or dtype, the text names the argument.
        ValueError: a wrong length, shape, device or value, or memory that is used twice.

    Example:
        >>> import torch
        >>> p = [torch.ones(1, 1) for _ in "AEB"]
        >>> averages = [[torch.zeros(1, 1) for _ in "AEB"] for _ in range(2)]
        >>> update_importance(p, p, *averages, 0.75, 0.75)
        0
        >>> averages[0][0], averages[1][0]
        (tensor([[0.2500]]), tensor([[0.1875]]))
    """
    if not (parameters and _backend.serves(parameters[0])):
        return reference.update_importance(
            parameters, gradients, smoothed, uncertainty, beta1, beta2, scores=scores
        )
    skipped = _backend.core.update_importance(
        parameters, gradients, smoothed, uncertainty, beta1, beta2, scores
    )
    if scores is not None:
        torch.autograd.graph.increment_version(scores)
    return skipped
