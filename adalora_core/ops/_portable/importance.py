"""The importance op: both averages as flat tensors, triplet scores by shape groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from adalora_core.ops._averages import averages_of
from adalora_core.ops._portable.grouping import (
    joined,
    kind_of,
    places_by,
    shape_and_kind_of,
    write_parts,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

FACTORS = 3
"""Tensors per matrix: A, E and B."""


@torch.no_grad()
def update_importance(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor | None] | None,
    smoothed: Sequence[Tensor] | Tensor,
    uncertainty: Sequence[Tensor] | Tensor,
    beta1: float,
    beta2: float,
    *,
    scores: Tensor | None = None,
) -> Tensor:
    """Update the averages; see `adalora_core.ops.update_importance`."""
    if gradients is None:
        gradients = [each.grad for each in parameters]
    shapes = [each.shape for each in parameters]
    parts = [averages_of(each, shapes) for each in (smoothed, uncertainty)]
    seen = [index for index, each in enumerate(gradients) if each is not None]
    skipped = torch.zeros((), dtype=torch.int64, device=parameters[0].device if parameters else None)
    for group in places_by(kind_of, [parts[0][index] for index in seen]):
        places = [seen[index] for index in group]
        is_whole = isinstance(smoothed, torch.Tensor) and len(places) == len(parameters)
        chosen = [[each[index] for index in places] for each in parts]
        flat = [smoothed, uncertainty] if is_whole else [joined(each) for each in chosen]
        sensitivity = _sensitivity(
            [parameters[index] for index in places],
            [gradients[index] for index in places],  # type: ignore[misc] # seen ones
            flat[0].dtype,
        )
        skipped += _update(*flat, sensitivity, beta1, beta2).to(skipped.device)
        if not is_whole:
            for targets, entries in zip(chosen, flat, strict=True):
                write_parts(targets, entries)
    if scores is not None:
        _write_scores(*parts, scores)
    return skipped


def _sensitivity(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor], dtype: torch.dtype
) -> Tensor:
    """Return |p * g| of all entries."""
    return torch.mul(joined(parameters).to(dtype), joined(gradients).to(dtype)).abs_()


def _update(
    smoothed: Tensor, uncertainty: Tensor, sensitivity: Tensor, beta1: float, beta2: float
) -> Tensor:
    """Update flat averages in place, and return how many entries stay as they are."""
    # Products and sums apart, since a fused one is rounded once instead of twice.
    new = (smoothed * beta1).add_(sensitivity * (1 - beta1))
    is_finite = sensitivity < torch.inf  # no number is smaller than NaN
    torch.where(is_finite, new, smoothed, out=smoothed)
    deviation = torch.sub(sensitivity, new).abs_().mul_(1 - beta2)
    torch.mul(uncertainty, beta2, out=new).add_(deviation)
    torch.where(is_finite, new, uncertainty, out=uncertainty)
    return is_finite.logical_not_().sum()


def _write_scores(smoothed: Sequence[Tensor], uncertainty: Sequence[Tensor], scores: Tensor) -> None:
    entries = torch._foreach_mul(smoothed, uncertainty)  # noqa: SLF001 - as torch's optimizers
    of_A, of_E, of_B = (
        torch.cat([scores.new_empty(0), *_means(entries[factor::FACTORS], axis, scores)])
        for factor, axis in enumerate((1, 1, 0))
    )
    torch.add(of_E, of_A.add_(of_B), out=scores)


def _means(entries: Sequence[Tensor], axis: int, like: Tensor) -> list[Tensor]:
    """Return the mean over one axis of each tensor; that of nothing is zero."""
    means: dict[int, Tensor] = {}
    for places in places_by(shape_and_kind_of, entries):
        stacked = torch.stack([entries[index] for index in places])
        sums = stacked.sum(1 + axis).div_(max(stacked.shape[1 + axis], 1)).to(like)
        means |= zip(places, sums.unbind(), strict=True)
    return [means[index] for index in range(len(entries))]
