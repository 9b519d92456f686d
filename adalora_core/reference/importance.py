"""`update_importance` in plain torch: smoothed sensitivity, uncertainty and triplet scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FACTORS = 3
"""Tensors per matrix: A, E and B."""


@torch.no_grad()
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
    """Update the averages of all matrices in place; see `adalora_core.ops.update_importance`.

    With `I = |p * g|`: `smoothed = beta1 * smoothed + (1 - beta1) * I`, then, with the new
    `smoothed`, `uncertainty = beta2 * uncertainty + (1 - beta2) * |I - smoothed|` (paper
    equations 9 and 10). Entries whose `I` is not finite stay as they are and are counted.

    Example:
        >>> p = [torch.ones(1, 1) for _ in "AEB"]
        >>> averages = [[torch.zeros(1, 1) for _ in "AEB"] for _ in range(2)]
        >>> update_importance(p, [t * float("nan") for t in p], *averages, 0.85, 0.85)
        3
    """
    skipped = 0
    for p, g, smooth, unc in zip(parameters, gradients, smoothed, uncertainty, strict=True):
        if g is None:
            continue
        sensitivity = (p.to(smooth.dtype) * g.to(smooth.dtype)).abs()
        seen = sensitivity.isfinite()
        new_smooth = beta1 * smooth + (1 - beta1) * sensitivity
        new_unc = beta2 * unc + (1 - beta2) * (sensitivity - new_smooth).abs()
        smooth.copy_(torch.where(seen, new_smooth, smooth))
        unc.copy_(torch.where(seen, new_unc, unc))
        skipped += int(seen.numel() - seen.sum())
    if scores is not None:
        scores.copy_(_triplet_scores(smoothed, uncertainty, scores))
    return skipped


def _triplet_scores(
    smoothed: Sequence[Tensor], uncertainty: Sequence[Tensor], like: Tensor
) -> Tensor:
    """Score each triplet: its E entry plus the means over its row of A and its column of B.

    Entry scores are `smoothed * uncertainty` (paper equations 11 and 7). An empty row or column
    has mean zero.
    """
    entry = [s * u for s, u in zip(smoothed, uncertainty, strict=True)]
    per_matrix = [
        E.flatten() + (A.sum(1) / max(A.shape[1], 1) + B.sum(0) / max(B.shape[0], 1))
        for A, E, B in zip(entry[0::FACTORS], entry[1::FACTORS], entry[2::FACTORS], strict=True)
    ]
    return torch.cat([like.new_empty(0), *per_matrix])
