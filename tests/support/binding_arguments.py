"""What the bindings of both modules accept; CUDA kernels are emulated, so the CPU holds it all.

A binding that takes one thing in two forms has two entries; its name is the first word.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

N, N_IN, R, N_OUT = 5, 7, 3, 4


class Factors(NamedTuple):
    """One matrix's factors, and what an update of their importance takes besides."""

    triple: list[torch.Tensor]
    fresh: list[list[torch.Tensor]]
    with_gradients: list[torch.Tensor]
    flat: list[torch.Tensor]


def _factors() -> Factors:
    triple = [torch.randn(R, N_IN), torch.randn(R, 1), torch.randn(N_OUT, R)]
    with_gradients = [each.clone() for each in triple]
    for each in with_gradients:
        each.grad = torch.randn_like(each)
    return Factors(
        triple,
        [[each.clone() for each in triple] for _ in range(3)],
        with_gradients,
        [torch.zeros(sum(each.numel() for each in triple)) for _ in range(2)],
    )


def of_the_cpu() -> dict[str, list[Any]]:
    """Return arguments that every binding of the module of the CPU accepts, freshly made."""
    n, n_in, r, n_out = N, N_IN, R, N_OUT
    x, y, grad = torch.randn(n, n_in), torch.randn(n, n_out), torch.randn(n, n_out)
    triple, fresh, with_gradients, flat = _factors()
    A, E, B = (each.clone() for each in triple)
    hidden = torch.empty(n, r)
    like = [torch.empty_like(each) for each in (x, A, E, B)]
    mask = torch.zeros(r, dtype=torch.bool)
    grams, norms = torch.empty(2 * r * r), torch.empty(2, dtype=torch.float64)
    return {
        "connect": [],
        "isa_name": [],
        "thread_count": [],
        "svd_linear_forward": [y, x, A, E, B, 0.5, 0.0, 0, hidden, torch.empty(n, n_out)],
        "svd_linear_backward": [grad, x, hidden, A, E, B, 0.5, 0.1, 3, *like, False],
        "update_importance": [triple, *fresh, 0.85, 0.85, torch.empty(r)],
        "update_importance flat": [with_gradients, None, *flat, 0.85, 0.85, torch.empty(r)],
        "select_triplets": [torch.randn(r), 2, mask, [E.clone()]],
        "apply_mask": [mask, [E.clone()]],
        "orthogonality_penalty": [[A], [B], grams, norms],
        "orthogonality_gradient": [[A], [B], grams, norms, 1.0, [like[1], like[3]]],
        "add_orthogonality_gradient": [[A], [B], 0.5, [like[1], like[3]]],
        "orthogonality_gradient flat": [
            [A],
            [B],
            grams,
            norms,
            1.0,
            torch.empty(A.numel() + B.numel()),
        ],
    }


def of_cuda() -> dict[str, list[Any]]:
    """Return arguments that every binding of the CUDA module accepts, freshly made."""
    n, n_in, r, n_out = N, N_IN, R, N_OUT
    padded = 4  # r in rows of 16 bytes
    triple, fresh, with_gradients, flat = _factors()
    A, E, B = triple
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
