"""A frozen linear layer and its adapter as one node."""

from __future__ import annotations

from torch import Tensor

from adalora_core.ops._portable.svd_linear import apply_node, as_under_autocast


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
    """Return both products; see `adalora_core.ops.adapted_linear`."""
    x, weight = as_under_autocast(x), as_under_autocast(weight)
    bias = None if bias is None else as_under_autocast(bias)
    return apply_node(None, x, A, E, B, scale, dropout, False, weight, bias)
