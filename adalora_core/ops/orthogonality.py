"""The orthogonality op: the penalty that keeps the factors close to orthonormal."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - read by custom_op at run time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adalora_core import reference
from adalora_core.ops import _backend

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx


def orthogonality_penalty(lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor]) -> Tensor:
    """Return how far all factors are from orthonormal, as one differentiable number.

    The mean over all A and B of `||A A^T - I||_F` and `||B^T B - I||_F` (paper equation 4, but
    un-squared and averaged, as PEFT does). The gradient is `2 (A A^T - I) A / ||A A^T - I||_F`
    over the number of factors; a zero norm has gradient zero, a factor of rank 0 counts as zero.

    Args:
        lora_As: A `[r, in]` of each matrix, at least one; all factors of one dtype.
        lora_Bs: B `[out, r]` of each matrix, as many.

    Returns:
        A tensor without dimensions, of the factors' dtype.

    Raises:
        TypeError: a wrong type or dtype, the text names the argument.
        ValueError: a wrong number, shape or device.

    Example:
        >>> import torch
        >>> orthogonality_penalty([torch.eye(2)], [2 * torch.eye(2)])
        tensor(2.1213)
    """
    factors = (*lora_As, *lora_Bs)
    if len(lora_As) != len(lora_Bs) or not factors:
        raise ValueError(
            "orthogonality_penalty: lora_Bs must be as many as lora_As, and at least one, got "
            f"{len(lora_Bs)} for {len(lora_As)}"
        )
    if torch.compiler.is_compiling() and _backend.HAS_CORE and factors[0].is_cpu:
        penalty: Tensor = torch.ops.adalora_core.orthogonality_penalty(lora_As, lora_Bs)[0]
        return penalty
    if not _backend.serves(factors[0]):
        return reference.orthogonality_penalty(lora_As, lora_Bs)
    result: Tensor = _OrthogonalityPenalty.apply(*factors)  # type: ignore[no-untyped-call] # torch types it loosely
    return result


def _empty_outputs(
    lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return room for the penalty and for what the gradient needs: all residuals and norms."""
    first = lora_As[0]
    compute_dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    gram_size = sum(A.shape[0] ** 2 for A in lora_As) + sum(B.shape[1] ** 2 for B in lora_Bs)
    grams = first.new_empty(gram_size, dtype=compute_dtype)
    return first.new_empty(()), grams, first.new_empty(2 * len(lora_As), dtype=torch.float64)


def _forward(lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    penalty, grams, norms = _empty_outputs(lora_As, lora_Bs)
    penalty.fill_(_backend.core.orthogonality_penalty(lora_As, lora_Bs, grams, norms))
    return penalty, grams, norms


def _room_for_gradients(factors: Sequence[Tensor]) -> list[Tensor]:
    """Return one piece of a single block per factor.

    The C library gives many blocks of this size back to the system when they are freed, and every
    step pays for their pages anew: three times the time of the kernel (bench_orthogonality.py).
    """
    sizes = [factor.numel() for factor in factors]
    pieces = torch.split(factors[0].new_empty(sum(sizes)), sizes)
    return [piece.view(factor.shape) for piece, factor in zip(pieces, factors, strict=True)]


class _OrthogonalityPenalty(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, *factors: Tensor) -> Tensor:
        matrices = len(factors) // 2
        penalty, grams, norms = _forward(factors[:matrices], factors[matrices:])
        ctx.save_for_backward(*factors, grams, norms)
        return penalty

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        *factors, grams, norms = ctx.saved_tensors
        matrices = len(factors) // 2
        As, Bs = factors[:matrices], factors[matrices:]
        if torch.is_grad_enabled():  # a graph of the gradient is wanted
            wanted = [factor for factor in factors if factor.requires_grad]
            penalty = reference.orthogonality_penalty(As, Bs)
            found = iter(torch.autograd.grad(penalty, wanted, grad, create_graph=True))
            return tuple(next(found) if factor.requires_grad else None for factor in factors)  # type: ignore[misc] # None stands for no gradient
        gradients = _room_for_gradients(factors)
        _backend.core.orthogonality_gradient(As, Bs, grams, norms, grad.item(), gradients)
        return tuple(gradients)


@torch.library.custom_op("adalora_core::orthogonality_penalty", mutates_args=(), device_types="cpu")
def _registered_forward(
    lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the penalty, all residuals, flat, and their norms; the op that torch.compile sees."""
    return _forward(lora_As, lora_Bs)


@_registered_forward.register_fake
def _(lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_outputs(lora_As, lora_Bs)


@torch.library.custom_op(
    "adalora_core::orthogonality_gradient", mutates_args=(), device_types="cpu"
)
def _registered_backward(
    grad: Tensor,
    lora_As: Sequence[Tensor],
    lora_Bs: Sequence[Tensor],
    grams: Tensor,
    norms: Tensor,
) -> list[Tensor]:
    """Return the gradients of all A, then of all B."""
    # Outputs of a registered op may not share memory.
    gradients = [torch.empty_like(factor) for factor in (*lora_As, *lora_Bs)]
    _backend.core.orthogonality_gradient(lora_As, lora_Bs, grams, norms, grad.item(), gradients)
    return gradients


@_registered_backward.register_fake
def _(
    grad: Tensor,
    lora_As: Sequence[Tensor],
    lora_Bs: Sequence[Tensor],
    grams: Tensor,
    norms: Tensor,
) -> list[Tensor]:
    del grad, grams, norms
    return [torch.empty_like(factor) for factor in (*lora_As, *lora_Bs)]


def _keep_for_backward(
    ctx: FunctionCtx, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]
) -> None:
    lora_As, lora_Bs = inputs
    ctx.save_for_backward(*lora_As, *lora_Bs, *output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _registered_gradients(
    ctx: Any, grad: Tensor, *_others: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    *factors, grams, norms = ctx.saved_tensors
    matrices = len(factors) // 2
    gradients = torch.ops.adalora_core.orthogonality_gradient(
        grad, factors[:matrices], factors[matrices:], grams, norms
    )
    return gradients[:matrices], gradients[matrices:]


_registered_forward.register_autograd(_registered_gradients, setup_context=_keep_for_backward)
