"""The selection op: choose which triplets stay within the budget."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from adalora_core.ops import _backend

_DEVICE = operator.attrgetter("device")


def select_triplets(scores: Tensor, budget: int, singular_values: Sequence[Tensor]) -> Tensor:
    """Keep exactly the `budget` best triplets over all matrices and zero the others.

    Ties go to the lower position, NaN counts as the lowest score, so the result is deterministic
    (paper Algorithm 1).

    Args:
        scores: `[sum of ranks]`, float32 or float64.
        budget: triplets to keep, 0 or more; a larger number than all triplets keeps all.
        singular_values: E `[r, 1]` of each matrix in the order of the scores. Dropped entries
            become zero in place; the version counters are raised.

    Returns:
        A new bool tensor `[sum of ranks]`, True where the triplet stays.

    Raises:
        TypeError: a wrong type or dtype; the message names the argument.
        ValueError: a wrong shape, device or value, or memory that is used twice.

    Example:
        >>> import torch
        >>> E = [torch.ones(2, 1), torch.ones(1, 1)]
        >>> select_triplets(torch.tensor([1.0, 3.0, 2.0]), 2, E), E[0].flatten()
        (tensor([False,  True,  True]), tensor([0., 1.]))
    """
    if not _serves(scores, singular_values):
        backend = _backend.in_torch("select_triplets")
        chosen: Tensor = backend.select_triplets(scores, budget, singular_values)
        return chosen
    mask = torch.empty(scores.shape, dtype=torch.bool, device=scores.device)
    core = _backend.core_of(scores)
    core.select_triplets(
        scores if core is _backend.core else scores.contiguous(), budget, mask, singular_values
    )
    torch.autograd.graph.increment_version(singular_values)
    return mask


def apply_mask(mask: Tensor, singular_values: Sequence[Tensor]) -> None:
    """Zero the singular values of dropped triplets.

    Args:
        mask: bool `[sum of ranks]`, True where the triplet stays.
        singular_values: E `[r, 1]` of each matrix in the order of the mask, changed in place; the
            version counters are raised.

    Raises:
        TypeError: a wrong type or dtype; the message names the argument.
        ValueError: a wrong shape or device, or memory that is used twice.

    Example:
        >>> import torch
        >>> E = [torch.ones(2, 1)]
        >>> apply_mask(torch.tensor([True, False]), E)
        >>> E[0].flatten()
        tensor([1., 0.])
    """
    if not _serves(mask, singular_values):
        _backend.in_torch("apply_mask").apply_mask(mask, singular_values)
        return
    _backend.core_of(mask).apply_mask(mask, singular_values)
    torch.autograd.graph.increment_version(singular_values)


def _serves(flat: Tensor, singular_values: Sequence[Tensor]) -> bool:
    """Return whether the core takes the call: singular values may be on several devices."""
    if torch.compiler.is_compiling() or not _backend.serves(flat):
        return False
    return {flat.device}.issuperset(map(_DEVICE, singular_values))
