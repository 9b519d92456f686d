"""View tensors `[..., features]` as matrices of rows, as products take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MATRIX_DIMENSIONS = 2


def rows_of(tensor: Tensor) -> Tensor:
    """Return a matrix of all rows; a view where the tensor allows it."""
    return tensor.flatten(0, -2) if tensor.dim() > 1 else tensor[None]


def with_merged_rows(tensor: Tensor) -> Tensor:
    """Return `tensor`, or a copy whose leading dimensions the core can read as one."""
    if (tensor.dim() <= MATRIX_DIMENSIONS or tensor.is_contiguous()) and not tensor.is_neg():
        return tensor
    return tensor.resolve_neg().contiguous()
