"""Compute gradients that are differentiable themselves, for create_graph=True."""

from __future__ import annotations

import torch
from torch import Tensor

from adalora_core import reference


def svd_linear_gradients(
    grad: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor, Tensor],
    wanted: tuple[bool, ...],
    scale: float,
    dropout: float,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, A, E and B with a graph, None where `wanted` is false."""
    if dropout:
        raise NotImplementedError(
            "svd_linear: a second derivative with dropout is not implemented; pass dropout=0"
        )
    output = reference.svd_linear(torch.zeros_like(grad), *inputs, scale)
    needed = [tensor for tensor, is_wanted in zip(inputs, wanted, strict=True) if is_wanted]
    found = iter(torch.autograd.grad(output, needed, grad, create_graph=True))
    return tuple(next(found) if is_wanted else None for is_wanted in wanted)
