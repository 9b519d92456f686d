"""Factors that are divided over processes: the parts, and the penalty over all of them."""

from __future__ import annotations

from adalora_core.sharding.layout import (
    LinearDivision,
    Piece,
    are_sharded,
    divided_like,
    division_of,
    fill,
    is_distributed,
    is_fsdp2,
    is_sharded,
    local_part,
    part_of,
    piece_of,
    reshard,
    tensor_parallel_mesh,
    whole,
)
from adalora_core.sharding.orthogonality import (
    add_orthogonality_gradient_,
    orthogonality_penalty,
)

__all__ = [
    "LinearDivision",
    "Piece",
    "add_orthogonality_gradient_",
    "are_sharded",
    "divided_like",
    "division_of",
    "fill",
    "is_distributed",
    "is_fsdp2",
    "is_sharded",
    "local_part",
    "orthogonality_penalty",
    "part_of",
    "piece_of",
    "reshard",
    "tensor_parallel_mesh",
    "whole",
]
