"""Factors of models for tests of the orthogonality penalty."""

from __future__ import annotations

import torch

# [(in, r, out) of each matrix]
MODELS = [
    [(7, 3, 11)],
    [(33, 12, 47), (5, 1, 9), (8, 0, 6)],
    [(8, 0, 6)],
    [(0, 3, 0)],
    [(4500, 12, 3000), (17, 20, 130)],
]


def make(model: list[tuple[int, int, int]], dtype: torch.dtype) -> list[list[torch.Tensor]]:
    """Return every A and every B."""
    return [
        [(torch.randn(rank, n_in) * 0.3).to(dtype) for n_in, rank, _ in model],
        [(torch.randn(n_out, rank) * 0.3).to(dtype) for _, rank, n_out in model],
    ]
