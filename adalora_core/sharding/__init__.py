"""Factors of which every process holds a part (FSDP2): where the parts lie, what spans them."""

from __future__ import annotations

from adalora_core.sharding.layout import (
    Piece,
    are_sharded,
    divided_like,
    is_sharded,
    local_part,
    piece_of,
    whole,
)
from adalora_core.sharding.orthogonality import orthogonality_penalty

__all__ = [
    "Piece",
    "are_sharded",
    "divided_like",
    "is_sharded",
    "local_part",
    "orthogonality_penalty",
    "piece_of",
    "whole",
]
