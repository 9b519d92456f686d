"""The oracle: each op in the shortest correct torch, never optimised.

Tests compare the backends with the oracle, and benchmarks measure beside it.
Shape letters: N tokens, r rank, K matrices.
"""

from __future__ import annotations

from adalora_core.reference.importance import update_importance
from adalora_core.reference.orthogonality import orthogonality_penalty
from adalora_core.reference.selection import apply_mask, select_triplets
from adalora_core.reference.svd_linear import svd_linear

__all__ = [
    "apply_mask",
    "orthogonality_penalty",
    "select_triplets",
    "svd_linear",
    "update_importance",
]
