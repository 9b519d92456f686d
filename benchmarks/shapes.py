"""Name the sets of matrices that the benchmarks share, and make tensors of their shapes."""

from __future__ import annotations

import torch

RANK = 12

MatrixSizes = list[tuple[int, int]]  # (in, out) of each adapted matrix

MINILM: MatrixSizes = [(384, 384)] * 24 + [(384, 1536)] * 6 + [(1536, 384)] * 6
MEDIUM: MatrixSizes = ([(1024, 1024)] * 4 + [(1024, 2816)] * 2 + [(2816, 1024)]) * 24
MANY_SMALL: MatrixSizes = [(64, 84)] * 224
LLAMA: MatrixSizes = ([(4096, 4096)] * 4 + [(4096, 11008)] * 2 + [(11008, 4096)]) * 32

COUNTS = (1, 2, 8, 32, 128)


def factor_shapes(sizes: MatrixSizes) -> list[tuple[int, int]]:
    """Return the shapes of A, E, B of every matrix."""
    return [shape for n_in, n_out in sizes for shape in ((RANK, n_in), (RANK, 1), (n_out, RANK))]


def random_factors(sizes: MatrixSizes) -> list[torch.Tensor]:
    """Return A, E, B of every matrix."""
    return [torch.randn(shape) * 0.02 for shape in factor_shapes(sizes)]


def describe(sizes: MatrixSizes, name: str) -> str:
    """Return a label with the number of tensors and parameters."""
    shapes = factor_shapes(sizes)
    entries = sum(rows * cols for rows, cols in shapes)
    return f"{name}: {len(shapes)} tensors, {entries / 1e6:.1f} M parameters"
