"""The importance op: both averages as flat tensors, triplet scores by shape groups."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from adalora_core.ops import _operations

BLOCK = 2**18
"""Entries that a CPU updates at a time, so that they stay in its cache; others update all."""

FACTORS = 3
"""Tensors per matrix: A, E and B."""


@torch.no_grad()
def update_importance(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    smoothed: Sequence[Tensor] | Tensor,
    uncertainty: Sequence[Tensor] | Tensor,
    beta1: float,
    beta2: float,
    *,
    scores: Tensor | None = None,
) -> Tensor:
    """Update the averages; see `adalora_core.ops.update_importance`."""
    shapes = [each.shape for each in parameters]
    given = [each for each in gradients if each is not None]
    are_flat = isinstance(smoothed, torch.Tensor) and isinstance(uncertainty, torch.Tensor)
    entries: Sequence[Tensor] | Tensor = ()
    if are_flat and len(given) == len(parameters) > 0:
        flat = cast("Tensor", smoothed), cast("Tensor", uncertainty)
        product = None if scores is None else torch.empty_like(flat[0])
        skipped = _update(*flat, parameters, given, beta1, beta2, product)
        entries = () if product is None else product
    else:
        first, second = (
            list(_operations.averages_of(each, shapes)) for each in (smoothed, uncertainty)
        )
        rows = [*zip(first, second, parameters, gradients, strict=True)]
        skipped = _update_parts(rows, beta1, beta2)
        if scores is not None and are_flat:
            entries = cast("Tensor", smoothed) * cast("Tensor", uncertainty)
        elif scores is not None:
            entries = torch._foreach_mul(first, second)  # noqa: SLF001 - as optimizers
    if scores is not None:
        _write_scores(entries, shapes, scores)
    return skipped


def _update_parts(
    rows: Sequence[tuple[Tensor, Tensor, Tensor, Tensor | None]], beta1: float, beta2: float
) -> Tensor:
    """Update the averages of the parameters with a gradient, those of a kind together.

    A row has both averages, the parameter and its gradient.
    """
    device = rows[0][2].device if rows else None
    skipped = torch.zeros((), dtype=torch.int64, device=device)
    seen = [row for row in rows if row[3] is not None]
    for places in _operations.places_by(_operations.kind_of, [row[0] for row in seen]):
        columns: list[list[Any]] = [
            [seen[index][column] for index in places] for column in range(4)
        ]
        smoothed, uncertainty = _operations.joined(columns[0]), _operations.joined(columns[1])
        counted = _update(smoothed, uncertainty, columns[2], columns[3], beta1, beta2)
        skipped += counted.to(skipped.device)
        _operations.write_parts(columns[0], smoothed)
        _operations.write_parts(columns[1], uncertainty)
    return skipped


def _update(
    smoothed: Tensor,
    uncertainty: Tensor,
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    beta1: float,
    beta2: float,
    entries: Tensor | None = None,
) -> Tensor:
    """Update flat averages in place, and return how many entries stay as they are.

    `entries`, if given, gets the product of both averages, while they are in the cache.
    """
    limit = BLOCK if smoothed.is_cpu else math.inf
    # Elsewhere the host would wait for the sum.
    may_ask = smoothed.is_cpu and not _operations.is_watched()
    counts = []
    for places, start, length in _blocks(parameters, limit):
        average, change = (each.narrow(0, start, length) for each in (smoothed, uncertainty))
        sensitivity, spare = (
            _operations.joined(each[places]).to(smoothed.dtype) for each in (parameters, gradients)
        )
        sensitivity.mul_(spare).abs_()
        if may_ask and math.isfinite(sensitivity.sum()):
            _moved(average, sensitivity, beta1, spare, out=average)
            sensitivity.sub_(average).abs_()
            _moved(change, sensitivity, beta2, spare, out=change)
            counts.append(smoothed.new_zeros((), dtype=torch.int64))
        else:
            counts.append(_update_finite(average, change, sensitivity, spare, beta1, beta2))
        if entries is not None:
            torch.mul(average, change, out=entries.narrow(0, start, length))
    return sum(counts[1:], counts[0])


def _blocks(parameters: Sequence[Tensor], limit: float) -> Iterator[tuple[slice, int, int]]:
    """Yield places, first entry and entries of parameters in a row that together reach `limit`."""
    first = start = length = 0
    for place, parameter in enumerate(parameters, 1):
        length += parameter.numel()
        if length >= limit or place == len(parameters):
            yield slice(first, place), start, length
            first, start, length = place, start + length, 0


def _moved(average: Tensor, towards: Tensor, beta: float, spare: Tensor, *, out: Tensor) -> Tensor:
    """Write the next value of a running average to `out`; `spare` is overwritten."""
    # Products and sums apart, since a fused one is rounded once instead of twice.
    return torch.mul(average, beta, out=out).add_(torch.mul(towards, 1 - beta, out=spare))


def _update_finite(
    smoothed: Tensor,
    uncertainty: Tensor,
    sensitivity: Tensor,
    spare: Tensor,
    beta1: float,
    beta2: float,
) -> Tensor:
    """Update the entries with a finite sensitivity, and return how many others there are.

    `sensitivity` and `spare` are overwritten.
    """
    # 1 where an entry is not finite, else 0: lerp then gives one of both values unchanged, in a
    # third of the time of a comparison and where.
    stays = torch.sub(sensitivity, sensitivity).nan_to_num_(nan=1.0)
    sensitivity.nan_to_num_(nan=0.0, posinf=0.0)
    new = _moved(smoothed, sensitivity, beta1, spare, out=torch.empty_like(spare))
    torch.lerp(new, smoothed, stays, out=smoothed)
    torch.sub(sensitivity, new, out=spare).abs_()
    _moved(uncertainty, spare, beta2, sensitivity, out=new)
    torch.lerp(new, uncertainty, stays, out=uncertainty)
    # On a CPU a sum takes a ninth of the time, and blocks are small enough for float32 to count.
    return stays.sum().long() if stays.is_cpu else stays.count_nonzero()


def _write_scores(
    entries: Sequence[Tensor] | Tensor, shapes: Sequence[torch.Size], scores: Tensor
) -> None:
    """Overwrite `scores` with those of all triplets; `entries` are products of both averages."""
    # Not a view of each shape: hundreds of them take longer than the sums.
    parts = (
        entries.split([shape.numel() for shape in shapes])
        if isinstance(entries, torch.Tensor)
        else entries
    )
    of_A, of_E, of_B = (
        torch.cat(
            [
                scores.new_empty(0),
                *_means(parts[factor::FACTORS], shapes[factor::FACTORS], axis, scores),
            ]
        )
        for factor, axis in enumerate((1, 1, 0))
    )
    torch.add(of_E, of_A.add_(of_B), out=scores)


def _means(
    entries: Sequence[Tensor], shapes: Sequence[torch.Size], axis: int, like: Tensor
) -> list[Tensor]:
    """Return the mean over one axis of each tensor of `shapes`; that of nothing is zero."""
    means: dict[int, Tensor] = {}
    for places in _operations.places_by(
        lambda place: (shapes[place], *_operations.kind_of(entries[place])), range(len(shapes))
    ):
        shape = shapes[places[0]]
        stacked = torch.stack([entries[index] for index in places]).view(len(places), *shape)
        sums = stacked.sum(1 + axis).div_(max(shape[axis], 1)).to(like)
        means |= zip(places, sums.unbind(), strict=True)
    return [means[index] for index in range(len(entries))]
