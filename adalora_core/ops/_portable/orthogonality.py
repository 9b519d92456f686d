"""The orthogonality op: one product per group of factors of a shape, one node for all."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from adalora_core.ops import _operations
from adalora_core.ops._operations import places_by, shape_and_kind_of
from adalora_core.ops._portable.svd_linear import without_autocast


def orthogonality_penalty(lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor]) -> Tensor:
    """Return the mean distance from orthonormality; see `adalora_core.ops.orthogonality_penalty`.

    Factors of several devices and dtypes are summed on the device of the first one, in the widest
    dtype.
    """
    factors = (*lora_As, *lora_Bs)
    if _operations.is_watched():
        # A number of a shape may be a symbol, which cannot be a key.
        return _penalty(factors, shape_and_kind_of if torch.compiler.is_compiling() else id)[0]
    return _apply(*factors)


def recorded_gradients(
    factors: Sequence[Tensor], wanted: Sequence[bool], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the factors in torch's operations, None where `wanted` is false.

    They have a graph where gradients are enabled.
    """
    _, norms, residuals = _penalty(factors)
    return _gradients(factors, norms, residuals, wanted, grad)


def _penalty(
    factors: Sequence[Tensor], key: Callable[[Tensor], Any] = shape_and_kind_of
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return the penalty, and the norms and residuals of all groups; from differentiable ops."""
    with without_autocast(factors[0]):
        grouped = (stacked.mT if is_B else stacked for _, stacked, is_B in _groups(factors, key))
        # Not in place: selective checkpointing may keep the product.
        residuals = [
            torch.bmm(rows, rows.mT)
            - torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
            for rows in grouped
        ]
    norms = [torch.linalg.vector_norm(each, dim=(1, 2)) for each in residuals]
    dtype = functools.reduce(torch.promote_types, {each.dtype for each in norms})
    together = torch.cat([each.to(factors[0].device, dtype) for each in norms])
    result = functools.reduce(torch.promote_types, {each.dtype for each in factors})
    return together.mean().to(result), together, residuals


def _groups(
    factors: Sequence[Tensor], key: Callable[[Tensor], Any] = shape_and_kind_of
) -> Iterator[tuple[list[int], Tensor, bool]]:
    """Yield the places of the factors of one key, the factors as one tensor, and whether of B."""
    matrices = len(factors) // 2
    for start, is_B in ((0, False), (matrices, True)):
        for group in places_by(key, factors[start : start + matrices]):
            places = [start + index for index in group]
            stacked = torch.stack([factors[index] for index in places])
            yield places, stacked if stacked.dtype == torch.float64 else stacked.float(), is_B


def _gradients(
    factors: Sequence[Tensor],
    norms: Tensor,
    residuals: Sequence[Tensor],
    wanted: Sequence[bool],
    grad: Tensor,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the factors, None where `wanted` is false."""
    # Where the norm is zero, the residual and hence the gradient are zero.
    is_zero = norms == 0
    weights = grad.to(norms.dtype) * (2 / len(factors)) / norms.masked_fill(is_zero, torch.inf)
    parts = weights.split([len(each) for each in residuals])
    gradients: dict[int, Tensor] = {}
    groups = zip(_groups(factors), parts, residuals, strict=True)
    with without_autocast(factors[0]):
        for (places, stacked, is_B), part, residual in groups:
            weighted = residual * part.to(residual)[:, None, None]
            product = stacked @ weighted if is_B else weighted @ stacked
            gradients |= zip(places, product.to(factors[places[0]].dtype).unbind(), strict=True)
    return tuple(gradients[index] if is_wanted else None for index, is_wanted in enumerate(wanted))


class OrthogonalityPenalty(torch.autograd.Function):
    """The penalty with one node for all factors."""

    @staticmethod
    def forward(ctx: Any, *factors: Tensor) -> Tensor:
        """Return the penalty."""
        penalty, norms, residuals = _penalty(factors)
        ctx.save_for_backward(*factors, norms, *residuals)
        return penalty

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the factors that need one."""
        count, saved = len(ctx.needs_input_grad), ctx.saved_tensors
        factors, (norms, *residuals) = saved[:count], saved[count:]
        if torch.is_grad_enabled():  # create_graph=True
            return recorded_gradients(factors, ctx.needs_input_grad, grad)
        return _gradients(factors, norms, residuals, ctx.needs_input_grad, grad)


_apply: Callable[..., Tensor] = super(torch.autograd.Function, OrthogonalityPenalty).apply
"""`OrthogonalityPenalty.apply` without its questions about torch.func: see `is_watched`."""
