"""View tensors `[..., features]` as matrices of rows, as products take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MATRIX_DIMENSIONS = 2


def rows_of(tensor: Tensor) -> Tensor:
    """Return a matrix of all rows; a view where the tensor allows it."""
    return tensor.flatten(0, -2) if tensor.dim() > 1 else tensor[None]


def rows_merge(tensor: Tensor) -> bool:
    """Return whether the core can read `tensor` where it is, all leading dimensions as one."""
    return (tensor.dim() <= MATRIX_DIMENSIONS or tensor.is_contiguous()) and not tensor.is_neg()


def with_merged_rows(tensor: Tensor) -> Tensor:
    """Return `tensor`, or a copy if the core cannot read it where it is."""
    return tensor if rows_merge(tensor) else tensor.resolve_neg().contiguous()
