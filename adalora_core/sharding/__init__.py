"""Factors of which every process holds a part (FSDP2): where the parts lie, what spans them."""

from __future__ import annotations

from adalora_core.sharding.layout import Piece, are_sharded, is_sharded, piece_of
from adalora_core.sharding.orthogonality import orthogonality_penalty

__all__ = ["Piece", "are_sharded", "is_sharded", "orthogonality_penalty", "piece_of"]
