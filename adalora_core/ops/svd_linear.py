"""The adapter op: the choice of a backend, and writing into a base layer's output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adalora_core.ops import _backend, _cpu, _cuda, _operations
from adalora_core.ops._portable.svd_linear import MATRIX_DIMENSIONS, allow_node


def svd_linear(
    base_output: Tensor,
    x: Tensor,
    A: Tensor,
    E: Tensor,
    B: Tensor,
    scale: float,
    *,
    dropout: float = 0.0,
    inplace: bool = False,
) -> Tensor:
    """Add the adapter's product to a base layer's output, differentiably.

    `y = base_output + scale * ((drop(x) A^T) * E^T) B^T` (paper equation 3; a masked triplet has a
    zero in E). Sums run in the compute type of the factors: float64 for float64, else float32. On
    other devices than a CPU the products run in the dtype of `x`, or in that of autocast.

    Args:
        base_output: `[..., out]`, any of the four floating dtypes.
        x: `[..., in]` with the leading dimensions of `base_output`; its dtype may differ from the
            factors'.
        A: `[r, in]`; r may be 0.
        E: `[r, 1]`, dtype of A.
        B: `[out, r]`, dtype of A.
        scale: finite factor of the product.
        dropout: probability in [0, 1) with which entries of `x` are dropped for the adapter,
            drawn from torch's default generator. Pass 0 in evaluation.
        inplace: write into `base_output` and return it. Allowed where no backward pass needs its
            old values, as for the output of a linear or convolution layer. Where something records
            or transforms torch's operations (torch.compile, torch.func, a dispatch mode, a trace,
            forward-mode AD), `base_output` stays as it is.

    Returns:
        `[..., out]` in the dtype of `base_output`. If written in place, `base_output` itself, or
        another view of its memory where that is a view.

    Raises:
        TypeError: a wrong type or dtype; the message names the argument.
        ValueError: a wrong shape, device or value, or `inplace` on a leaf that needs a gradient.

    Example:
        >>> import torch
        >>> x, A, E, B = torch.ones(1, 3), torch.ones(2, 3), torch.ones(2, 1), torch.ones(4, 2)
        >>> svd_linear(torch.zeros(1, 4), x, A, E, B, 0.5)
        tensor([[3., 3., 3., 3.]])
    """
    is_watched = _operations.is_watched()
    backend: Callable[..., Tensor] = _on_core
    if is_watched or not _backend.serves(base_output, x, A):
        in_torch = _backend.in_torch("svd_linear")
        backend = in_torch.svd_linear
        if is_watched or not allow_node(base_output, x, A):
            formula = getattr(in_torch, "formula", backend)  # the oracle has one function
            return formula(base_output, x, A, E, B, scale, dropout=dropout)
    if inplace:
        return _in_place(backend, base_output, x, A, E, B, scale, dropout=dropout)
    return backend(base_output, x, A, E, B, scale, dropout=dropout, inplace=False)


def _on_core(base_output: Tensor, x: Tensor, *factors_and_scale: Any, **options: Any) -> Tensor:
    core = _backend.core_of(x)
    if core is _backend.core:
        return _cpu.svd_linear(base_output, x, *factors_and_scale, **options)
    return _cuda.svd_linear(core, base_output, x, *factors_and_scale, **options)


def _in_place(
    backend: Callable[..., Tensor], base_output: Tensor, x: Tensor, *operands: Any, dropout: float
) -> Tensor:
    """Let `backend` write into `base_output`, or into the matrix that it is a view of."""
    if (matrix := _matrix_behind(base_output)) is not None:
        rows = x.reshape(matrix.shape[0], x.shape[-1])
        output = _in_place(backend, matrix, rows, *operands, dropout=dropout)
        return output.view(base_output.shape)
    if base_output.requires_grad and base_output.is_leaf and torch.is_grad_enabled():
        raise ValueError(
            "svd_linear: base_output must not be a leaf that needs a gradient if inplace=True; "
            "pass inplace=False"
        )
    return backend(base_output, x, *operands, dropout=dropout, inplace=True)


def _matrix_behind(view: Tensor) -> Tensor | None:
    """Return the matrix that `view` shows in another shape, None for any other tensor.

    Before torch 2.15 the output of a linear layer is such a view if its input has more than two
    dimensions. A write into a view makes autograd copy the whole gradient, a write into the matrix
    does not.
    """
    matrix = view._base if torch.is_grad_enabled() else None  # noqa: SLF001 - torch documents it
    if (
        matrix is None
        or matrix.dim() != MATRIX_DIMENSIONS
        or matrix.dtype != view.dtype
        or (matrix.numel(), matrix.shape[-1]) != (view.numel(), view.shape[-1])
        or matrix.storage_offset() != view.storage_offset()
        or not (matrix.is_contiguous() and view.is_contiguous())
        or matrix.is_neg() != view.is_neg()
    ):
        return None
    # Torch refuses to write into a view of a leaf, and a view may retain its own gradient.
    return None if view.retains_grad or (matrix.is_leaf and matrix.requires_grad) else matrix
