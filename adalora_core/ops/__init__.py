"""The ops that AdaLoRA adds to a training step, each on the best backend there is."""

from __future__ import annotations

from adalora_core.reference import (
    apply_mask,
    orthogonality_penalty,
    select_triplets,
    svd_linear,
    update_importance,
)

__all__ = [
    "apply_mask",
    "orthogonality_penalty",
    "select_triplets",
    "svd_linear",
    "update_importance",
]
