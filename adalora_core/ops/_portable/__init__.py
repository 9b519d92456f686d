"""Serve every device, subclass and install without a compiled core, in torch's batched operations.

The tensors of one shape, dtype and device are one operand, so the number of operations does not
grow with the number of matrices, and no operation makes the host wait.
"""

from __future__ import annotations

from adalora_core.ops._portable.importance import update_importance
from adalora_core.ops._portable.orthogonality import orthogonality_penalty
from adalora_core.ops._portable.selection import apply_mask, select_triplets
from adalora_core.ops._portable.svd_linear import adapted_linear, formula, svd_linear

__all__ = [
    "adapted_linear", "apply_mask", "formula", "orthogonality_penalty", "select_triplets",
    "svd_linear", "update_importance",
]  # fmt: skip
