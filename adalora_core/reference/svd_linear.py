"""`svd_linear` in plain torch: the adapter's part of a layer's output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


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
