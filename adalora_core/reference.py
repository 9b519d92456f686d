"""The oracle: each op in the shortest correct torch, never optimised.

Tests compare the backends with the oracle, and benchmarks measure beside it. It is that of
ops.importance, ops.orthogonality, ops.selection and ops.svd_linear.
Shape letters: N tokens, r rank, K matrices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

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


def orthogonality_penalty(lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor]) -> Tensor:
    """Return the mean distance from orthonormality; see `adalora_core.ops.orthogonality_penalty`.

    The mean over all A and B of `||A A^T - I||_F` and `||B^T B - I||_F` (paper equation 4, but
    un-squared and averaged, as PEFT does).

    Example:
        >>> orthogonality_penalty([torch.eye(2)], [2 * torch.eye(2)])
        tensor(2.1213)
    """
    grams = [A @ A.T for A in lora_As] + [B.T @ B for B in lora_Bs]
    norms = [torch.linalg.matrix_norm(gram - torch.eye(gram.shape[0]).to(gram)) for gram in grams]
    return torch.stack(norms).mean()


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


def svd_linear(
    base_output: Tensor,
    x: Tensor,
    A: Tensor,
    E: Tensor,
    B: Tensor,
    scale: float,
    *,
    dropout: float = 0.0,
    inplace: bool = False,
) -> Tensor:
    """Add the adapter's product to a base layer's output; see `adalora_core.ops.svd_linear`.

    `y = base_output + scale * ((drop(x) A^T) * E^T) B^T` (paper equation 3, masked triplets have
    a zero in E).

    Example:
        >>> import torch
        >>> x, A, E, B = torch.ones(1, 3), torch.ones(2, 3), torch.ones(2, 1), torch.ones(4, 2)
        >>> svd_linear(torch.zeros(1, 4), x, A, E, B, 0.5)
        tensor([[3., 3., 3., 3.]])
    """
    hidden = functional.dropout(x.to(A.dtype), dropout) @ A.T
    delta = ((hidden * E[:, 0]) @ B.T) * scale
    if inplace:
        return base_output.add_(delta)
    return (base_output + delta).to(base_output.dtype)
