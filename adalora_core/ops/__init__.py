"""The ops that AdaLoRA adds to a training step, each on the fastest backend at hand."""

from __future__ import annotations

from adalora_core.ops._operations import averages_of
from adalora_core.ops.adapted_linear import adapted_linear
from adalora_core.ops.importance import update_importance
from adalora_core.ops.orthogonality import add_orthogonality_gradient_, orthogonality_penalty
from adalora_core.ops.selection import apply_mask, select_triplets
from adalora_core.ops.svd_linear import svd_linear

__all__ = [
    "adapted_linear", "add_orthogonality_gradient_", "apply_mask", "averages_of",
    "orthogonality_penalty", "select_triplets", "svd_linear", "update_importance",
]  # fmt: skip
