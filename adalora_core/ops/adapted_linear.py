"""A frozen linear layer and its adapter as one node of autograd's graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import unwrap_if_dead
from torch.nn import functional

from adalora_core.ops import _backend, _watched
from adalora_core.ops._cpu.svd_linear import (
    Numbers,
    add_products,
    draw_seed,
    gradients_of,
    kept_entries,
)
from adalora_core.ops._portable.svd_linear import allow_node, recorded_gradients
from adalora_core.ops._rows import rows_of, with_merged_rows
from adalora_core.ops.svd_linear import svd_linear


def adapted_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    A: Tensor,
    E: Tensor,
    B: Tensor,
    scale: float,
    *,
    dropout: float = 0.0,
) -> Tensor:
    """Return a frozen linear layer's output plus the adapter's product, differentiably.

    `y = x W^T + b + scale * ((drop(x) A^T) * E^T) B^T` (paper equation 3): the values of
    `svd_linear(linear(x, weight, bias), x, ...)`. In training both are one node of the graph, but
    for the compiled kernels of a GPU. The node sums both gradients of x in place. Two nodes would
    need another tensor as large as x for the sum, and a pass over three.

    Args:
        x: `[..., in]`, of the dtype of `weight`.
        weight: `[out, in]`, without a gradient.
        bias: `[out]`, without a gradient, or None.
        A: `[r, in]`; r may be 0.
        E: `[r, 1]`, dtype of A.
        B: `[out, r]`, dtype of A.
        scale: finite factor of the product.
        dropout: as in `svd_linear`.

    Returns:
        `[..., out]`, a new tensor.

    Raises:
        ValueError: `weight` or `bias` needs a gradient.
        Exception: what torch's `linear` raises for `x`, `weight` and `bias`, or `svd_linear` for
            the rest.

    Example:
        >>> import torch
        >>> x, A, E, B = torch.ones(1, 3), torch.ones(2, 3), torch.ones(2, 1), torch.ones(4, 2)
        >>> adapted_linear(x, torch.zeros(4, 3), None, A, E, B, 0.5)
        tensor([[3., 3., 3., 3.]])
    """
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        raise ValueError(
            f"adapted_linear: {'weight' if weight.requires_grad else 'bias'} must be frozen, got "
            "one that needs a gradient; pass linear(x, weight, bias) to svd_linear instead"
        )
    if (node := _node_for(x, weight, A)) is None:
        output = functional.linear(x, weight, bias)
        return svd_linear(output, x, A, E, B, scale, dropout=dropout, inplace=True)
    return node(x, weight, bias, A, E, B, scale, dropout=dropout)


def _node_for(x: Tensor, weight: Tensor, A: Tensor) -> Callable[..., Tensor] | None:
    """Return the function that records both products as one node; None where no backend has it."""
    if not torch.is_grad_enabled() or _watched.is_watched():
        return None
    if x.is_cpu and (x.dtype is not weight.dtype or torch.is_autocast_enabled("cpu")):
        return None
    if _backend.serves(x, weight, A):
        return _on_core if x.is_cpu else None
    if not allow_node(x, weight, A):
        return None
    return getattr(_backend.in_torch("adapted_linear"), "adapted_linear", None)


def _on_core(x: Tensor, *operands: Any, dropout: float) -> Tensor:
    *tensors, scale = operands
    numbers = (scale, dropout, draw_seed(dropout))
    return _apply(unwrap_if_dead(with_merged_rows(x)), *tensors, numbers)


class _AdaptedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        A: Tensor,
        E: Tensor,
        B: Tensor,
        numbers: Numbers,
    ) -> Tensor:
        # Detached: torch refuses to write in place into a view that a Function returns.
        output = functional.linear(x, weight, bias).detach()
        _, hidden = add_products(output, x, (A, E, B), numbers, inplace=True)
        ctx.save_for_backward(x, weight, A, E, B, hidden)
        ctx.numbers = numbers
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, A, E, B, hidden = ctx.saved_tensors
        of_x, _, _, *of_factors = ctx.needs_input_grad[:6]
        wanted = (of_x, *of_factors)
        if _watched.is_recorded(grad):
            scale, dropout, seed = ctx.numbers
            mask = kept_entries(x, dropout, seed)
            grad_x, *others = recorded_gradients(
                grad, (x, A, E, B), wanted, scale, dropout, mask, weight
            )
        else:
            grad = with_merged_rows(grad)
            add_to = None
            if of_x:
                # With `out`, autocast in a backward pass does not change the dtype.
                add_to = x.new_empty(x.shape)
                torch.mm(rows_of(grad), weight, out=rows_of(add_to))
            grad_x, *others = gradients_of(
                grad, x, hidden, (A, E, B), ctx.numbers, wanted, add_to=add_to
            )
        return (grad_x, None, None, *others, None)


_apply: Callable[..., Tensor] = super(torch.autograd.Function, _AdaptedLinear).apply
"""`_AdaptedLinear.apply` without its questions about torch.func, which `is_watched` has asked."""
