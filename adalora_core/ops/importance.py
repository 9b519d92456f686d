"""The importance op: both averages and the triplet scores of all matrices in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adalora_core.ops import _backend, _cuda
from adalora_core.ops._operations import averages_of


def update_importance(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor | None] | None,
    smoothed: Sequence[Tensor] | Tensor,
    uncertainty: Sequence[Tensor] | Tensor,
    beta1: float,
    beta2: float,
    *,
    scores: Tensor | None = None,
) -> int | Tensor:
    """Update smoothed sensitivity and uncertainty in place, and score the triplets on request.

    With `I = |p * g|`: `smoothed = beta1 * smoothed + (1 - beta1) * I`, then, with the new
    `smoothed`, `uncertainty = beta2 * uncertainty + (1 - beta2) * |I - smoothed|` (paper
    equations 9 and 10), bit-equal to the same formula in torch. A triplet's score is its E entry
    plus the means over its row of A and its column of B, where an entry scores
    `smoothed * uncertainty` (equations 7 and 8).

    Args:
        parameters: A `[r, in]`, E `[r, 1]`, B `[out, r]` of the first matrix, then of the next; any
            matrices where no scores are wanted.
        gradients: one per parameter; the averages of a parameter with None stay as they are. None
            instead of a sequence means each parameter's own `.grad`.
        smoothed: one per parameter, same shape; or one flat contiguous tensor with the entries of
            all parameters one after the other, which is faster to read than hundreds of tensors
            (`averages_of` gives its parts). float32, or float64 for float64 parameters.
            Overwritten; the version counters are raised.
        uncertainty: like `smoothed`.
        beta1: share of the old smoothed sensitivity that stays, in [0, 1].
        beta2: share of the old uncertainty that stays, in [0, 1].
        scores: `[sum of ranks]` of the averages' dtype, overwritten; None skips the scores.

    Returns:
        How many entries kept their averages because `|p * g|` is not finite. A tensor without
        dimensions, so that nothing waits for it, but from the compiled core of the CPU.

    Raises:
        TypeError: a wrong type or dtype; the message names the argument.
        ValueError: a wrong length, shape, device or value, or memory that is used twice.

    Example:
        >>> import torch
        >>> p = [torch.ones(1, 1) for _ in "AEB"]
        >>> smoothed, uncertainty = torch.zeros(3), torch.zeros(3)
        >>> update_importance(p, p, smoothed, uncertainty, 0.75, 0.75)
        0
        >>> smoothed, uncertainty
        (tensor([0.2500, 0.2500, 0.2500]), tensor([0.1875, 0.1875, 0.1875]))
    """
    if not (parameters and _serves(parameters[0], smoothed)):
        if gradients is None:
            gradients = [each.grad for each in parameters]
        if _backend.CHOICE == "reference":  # which takes lists
            shapes = [each.shape for each in parameters]
            smoothed, uncertainty = (averages_of(each, shapes) for each in (smoothed, uncertainty))
        backend = _backend.in_torch("update_importance")
        count: int | Tensor = backend.update_importance(
            parameters, gradients, smoothed, uncertainty, beta1, beta2, scores=scores
        )
        return count
    core = _backend.core_of(parameters[0])
    skipped: int | Tensor
    if core is _backend.core:
        skipped = core.update_importance(
            parameters, gradients, smoothed, uncertainty, beta1, beta2, scores
        )
    else:
        skipped = _cuda.update_importance(
            core, parameters, gradients, smoothed, uncertainty, beta1, beta2, scores
        )
    for written in (smoothed, uncertainty, scores):
        if written is not None:
            torch.autograd.graph.increment_version(written)
    return skipped


def _serves(first: Tensor, averages: Sequence[Tensor] | Tensor) -> bool:
    """Return whether the core takes the call: parameters may be on several devices."""
    if torch.compiler.is_compiling() or not _backend.serves(first):
        return False
    return isinstance(averages, torch.Tensor) or len({each.device for each in averages}) == 1
