"""A frozen linear layer and its adapter as one node of autograd's graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._C._functorch import unwrap_if_dead
from torch.nn import functional

from adalora_core.ops import _backend, _operations
from adalora_core.ops._cpu import AdapterNode, draw_seed
from adalora_core.ops._portable.svd_linear import allow_node, with_merged_rows
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
    # One function, few calls: every layer pays for it, with caches that its products have emptied.
    is_recorded = torch.is_grad_enabled() and not _operations.is_watched()
    if is_recorded and _backend.serves(x, weight, A):
        if x.is_cpu and _are_as_in_node(x, weight):
            numbers = scale, dropout, draw_seed(dropout) if dropout else 0
            x = unwrap_if_dead(with_merged_rows(x))
            return _apply(None, x, A, E, B, (numbers, False, weight, bias))
    elif is_recorded and allow_node(x, weight, A) and _are_as_in_node(x, weight):
        node = getattr(_backend.in_torch("adapted_linear"), "adapted_linear", None)
        if node is not None:
            output: Tensor = node(x, weight, bias, A, E, B, scale, dropout=dropout)
            return output
    elif _backend.compiles_for_core((x, weight, A)) and not dropout and _are_as_in_node(x, weight):
        # An op that torch.compile keeps whole.
        found: Tensor = torch.ops.adalora_core.adapted_linear(x, weight, bias, A, E, B, scale)[0]
        return found
    output = functional.linear(x, weight, bias)
    return svd_linear(output, x, A, E, B, scale, dropout=dropout, inplace=True)


def _are_as_in_node(x: Tensor, weight: Tensor) -> bool:
    """Return whether the layer's product keeps the dtype of its operands, as a CPU's node wants."""
    return not x.is_cpu or (x.dtype is weight.dtype and not torch.is_autocast_enabled("cpu"))


_apply: Callable[..., Tensor] = super(torch.autograd.Function, AdapterNode).apply
"""`AdapterNode.apply` without its questions about torch.func, which `is_watched` has asked."""
