"""What every binding of the CUDA module accepts; its kernels are emulated, so the CPU holds it."""

from __future__ import annotations

from typing import Any

import torch


def valid_arguments() -> dict[str, list[Any]]:
    """Return arguments that every binding accepts, freshly made.

    A binding that takes one thing in two forms stands there twice; its name is the first word.
    """
    n, n_in, r, n_out = 5, 7, 3, 4
    padded = 4  # r in rows of 16 bytes
    A, E, B = triple = [torch.randn(r, n_in), torch.randn(r, 1), torch.randn(n_out, r)]
    fresh = [[each.clone() for each in triple] for _ in range(3)]
    with_gradients = [each.clone() for each in triple]
    for each in with_gradients:
        each.grad = torch.randn_like(each)
    flat = [torch.zeros(sum(each.numel() for each in triple)) for _ in range(2)]
    room, skipped = torch.empty(3 * r, dtype=torch.float64), torch.zeros((), dtype=torch.int64)
    mask = torch.zeros(r, dtype=torch.bool)
    partials, grams = torch.empty(2 * r * r), torch.empty(2 * r * r)
    norms = torch.empty(2, dtype=torch.float64)
    folded = [torch.randn(padded, n_in), torch.randn(n_out, padded)]
    like = [torch.empty_like(each) for each in triple]
    return {
        "score_room": [triple],
        "update_importance": [triple, *fresh, 0.85, 0.85, torch.empty(r), room, skipped],
        "update_importance flat": [
            *(with_gradients, None, *flat, 0.85, 0.85, torch.empty(r), room, skipped)
        ],
        "update_importance unscored": [triple, *fresh, 0.85, 0.85, None, None, skipped],
        "select_triplets": [torch.randn(r), 2, mask, [E.clone()]],
        "apply_mask": [mask, [E.clone()]],
        "gram_room": [[A], [B]],
        "orthogonality_penalty": [[A], [B], partials, grams, norms, torch.empty(())],
        "orthogonality_gradient": [[A], [B], grams, norms, torch.ones(()), [like[0], like[2]]],
        "orthogonality_gradient flat": [
            *([A], [B], grams, norms, torch.ones(()), torch.empty(A.numel() + B.numel()))
        ],
        "fold_factors": [A, E, B, 0.5, *(torch.empty_like(each) for each in folded)],
        "unfold_gradients": [*folded, A, E, B, 0.5, *like],
        "unfold_gradients padded for 16 bits": [
            *(torch.randn(8, n_in), torch.randn(n_out, 8), A, E, B, 0.5, *like)
        ],
        "unfold_gradients of A": [folded[0], None, A, E, B, 0.5, like[0], like[1], None],
        "drop": [
            torch.randn(n, n_in),
            0.3,
            torch.zeros((), dtype=torch.int64),
            torch.empty(n, n_in),
        ],
    }
