"""The adapter op: one call of the core forward, one call backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adalora_core import reference
from adalora_core.ops import _backend
from adalora_core.ops._cuda import svd_linear as _cuda
from adalora_core.ops._cuda.svd_linear import folded_formula
from adalora_core.ops._rows import MATRIX_DIMENSIONS, rows_merge
from adalora_core.ops._second_order import svd_linear_gradients

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx


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
    zero in E). Sums run in the compute type of the factors: float64 for float64, else float32. On a
    CUDA device the products run in the dtype of `x`, or in that of autocast.

    Args:
        base_output: `[..., out]`, any of the four floating dtypes.
        x: `[..., in]` with the leading dimensions of `base_output`; its dtype may differ from the
            factors'.
        A: `[r, in]`; r may be 0.
        E: `[r, 1]`, dtype of A.
        B: `[out, r]`, dtype of A.
        scale: finite factor of the product.
        dropout: probability in [0, 1) with which entries of `x` are dropped, for the adapter only;
            drawn from torch's default generator. Pass 0 in evaluation.
        inplace: write into `base_output` and return it. Only where nothing needs its old values
            for a backward pass: the output of a linear or convolution layer.

    Returns:
        `[..., out]` in the dtype of `base_output`; if `inplace` its memory, which is `base_output`
        itself, or the like of it where that is a view.

    Raises:
        TypeError: a wrong type or dtype, the text names the argument.
        ValueError: a wrong shape, device or value, or `inplace` on a leaf that needs a gradient.

    Example:
        >>> import torch
        >>> x, A, E, B = torch.ones(1, 3), torch.ones(2, 3), torch.ones(2, 1), torch.ones(4, 2)
        >>> svd_linear(torch.zeros(1, 4), x, A, E, B, 0.5)
        tensor([[3., 3., 3., 3.]])
    """
    if torch.compiler.is_compiling() and _backend.HAS_CORE and x.is_cpu:
        dropped = torch.nn.functional.dropout(x, dropout) if dropout else x
        result: Tensor = torch.ops.adalora_core.svd_linear(base_output, dropped, A, E, B, scale)[0]
        return result
    if torch.compiler.is_compiling() and x.is_cuda:
        return folded_formula(base_output, x, A, E, B, scale, dropout, inplace)
    if not _backend.serves(base_output, x, A):
        return reference.svd_linear(
            base_output, x, A, E, B, scale, dropout=dropout, inplace=inplace
        )
    if inplace and (whole := _whole_behind(base_output)) is not None:
        rows = x.reshape(whole.shape[0], x.shape[-1])
        result = svd_linear(whole, rows, A, E, B, scale, dropout=dropout, inplace=True)
        return result.view(base_output.shape)
    core = _backend.core_of(x)
    if inplace:
        if base_output.requires_grad and base_output.is_leaf and torch.is_grad_enabled():
            raise ValueError(
                "svd_linear: base_output must not be a leaf that needs a gradient if inplace=True; "
                "pass inplace=False"
            )
        if core is _backend.core and not rows_merge(base_output):
            return base_output.copy_(_apply(base_output, x, A, E, B, scale, dropout, False))
    if core is not _backend.core:
        return _cuda.svd_linear(core, base_output, x, A, E, B, scale, dropout, inplace)
    return _apply(base_output, x, A, E, B, scale, dropout, inplace)


def _whole_behind(view: Tensor) -> Tensor | None:
    """Return the matrix that `view` shows under another shape; None if it is no such view.

    A linear layer's output is one where its input has more than two dimensions. Autograd follows
    a write into a view by copies of the whole gradient, a write into the matrix without any.
    """
    whole = view._base if torch.is_grad_enabled() else None  # noqa: SLF001 - torch documents it
    if (
        whole is None
        or whole.dim() != MATRIX_DIMENSIONS
        or whole.dtype != view.dtype
        or (whole.numel(), whole.shape[-1]) != (view.numel(), view.shape[-1])
        or whole.data_ptr() != view.data_ptr()
        or not (whole.is_contiguous() and view.is_contiguous())
    ):
        return None
    # Torch refuses to write into a view of a leaf, and keeps a view's gradient if it is asked to.
    return None if view.retains_grad or (whole.is_leaf and whole.requires_grad) else whole


def draw_seed(dropout: float) -> int:
    """Return what decides which entries are dropped; nothing is drawn where none are."""
    # From torch's generator, so that manual_seed and checkpointing's replay hold.
    return int(torch.empty((), dtype=torch.int64).random_()) if dropout else 0


def _apply(
    base_output: Tensor,
    x: Tensor,
    A: Tensor,
    E: Tensor,
    B: Tensor,
    scale: float,
    dropout: float,
    inplace: bool,
) -> Tensor:
    if not rows_merge(x):
        x = x.contiguous()
    if not rows_merge(base_output):
        base_output = base_output.contiguous()
    seed = draw_seed(dropout)
    if torch.is_grad_enabled():
        result: Tensor = _SVDLinear.apply(  # type: ignore[no-untyped-call] # torch types it loosely
            base_output, x, A, E, B, scale, dropout, seed, inplace
        )
        return result
    return add_products(base_output, x, A, E, B, scale, dropout, seed, inplace)[0]


def add_products(
    base_output: Tensor,
    x: Tensor,
    A: Tensor,
    E: Tensor,
    B: Tensor,
    scale: float,
    dropout: float,
    seed: int,
    inplace: bool,
) -> tuple[Tensor, Tensor]:
    """Return the output and drop(x) A^T."""
    compute_dtype = torch.float64 if A.dtype == torch.float64 else torch.float32
    hidden = x.new_empty((*x.shape[:-1], A.shape[0]), dtype=compute_dtype)
    output = base_output if inplace else base_output.new_empty(base_output.shape)
    _backend.core.svd_linear_forward(base_output, x, A, E, B, scale, dropout, seed, hidden, output)
    return output, hidden


def gradients_of(
    grad: Tensor,
    x: Tensor,
    hidden: Tensor,
    factors: tuple[Tensor, Tensor, Tensor],
    scale: float,
    dropout: float,
    seed: int,
    wanted: tuple[bool, bool, bool, bool],
    *,
    add_to: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, A, E and B, None where `wanted` says so.

    That of x is added to `add_to` and is this tensor, where it is given.
    """
    A, E, B = factors
    if not rows_merge(grad):
        grad = grad.contiguous()
    accumulates = add_to is not None
    grad_x = (add_to if accumulates else x.new_empty(x.shape)) if wanted[0] else None
    grad_A = torch.empty_like(A) if wanted[1] else None
    grad_E = torch.empty_like(E) if wanted[2] else None
    grad_B = torch.empty_like(B) if wanted[3] else None
    _backend.core.svd_linear_backward(
        grad, x, hidden, A, E, B, scale, dropout, seed, grad_x, grad_A, grad_E, grad_B, accumulates
    )
    return grad_x, grad_A, grad_E, grad_B


class _SVDLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        base_output: Tensor,
        x: Tensor,
        A: Tensor,
        E: Tensor,
        B: Tensor,
        scale: float,
        dropout: float,
        seed: int,
        inplace: bool,
    ) -> Tensor:
        output, hidden = add_products(base_output, x, A, E, B, scale, dropout, seed, inplace)
        if inplace:
            ctx.mark_dirty(base_output)
        ctx.save_for_backward(x, A, E, B, hidden)
        ctx.numbers = (scale, dropout, seed)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, A, E, B, hidden = ctx.saved_tensors
        scale, dropout, seed = ctx.numbers
        wanted = ctx.needs_input_grad[1:5]
        if torch.is_grad_enabled():
            gradients = svd_linear_gradients(grad, (x, A, E, B), wanted, scale, dropout)
        else:
            gradients = gradients_of(grad, x, hidden, (A, E, B), scale, dropout, seed, wanted)
        return (grad if ctx.needs_input_grad[0] else None, *gradients, None, None, None, None)


@torch.library.custom_op("adalora_core::svd_linear", mutates_args=(), device_types="cpu")
def _registered_forward(
    base_output: Tensor, x: Tensor, A: Tensor, E: Tensor, B: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the output and x A^T; the op that torch.compile sees."""
    base_output, x = base_output.contiguous(), x.contiguous()
    return add_products(base_output, x, A, E, B, scale, 0.0, 0, inplace=False)


@_registered_forward.register_fake
def _(
    base_output: Tensor, x: Tensor, A: Tensor, E: Tensor, B: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    del E, B, scale
    compute_dtype = torch.float64 if A.dtype == torch.float64 else torch.float32
    hidden = x.new_empty((*x.shape[:-1], A.shape[0]), dtype=compute_dtype)
    return base_output.new_empty(base_output.shape), hidden


@torch.library.custom_op("adalora_core::svd_linear_backward", mutates_args=(), device_types="cpu")
def _registered_backward(
    grad: Tensor, x: Tensor, hidden: Tensor, A: Tensor, E: Tensor, B: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, A, E and B."""
    every = (True, True, True, True)
    return gradients_of(grad, x.contiguous(), hidden, (A, E, B), scale, 0.0, 0, every)  # type: ignore[return-value] # all four are wanted


@_registered_backward.register_fake
def _(
    grad: Tensor, x: Tensor, hidden: Tensor, A: Tensor, E: Tensor, B: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    del grad, hidden, scale
    return x.new_empty(x.shape), torch.empty_like(A), torch.empty_like(E), torch.empty_like(B)


def _keep_for_backward(
    ctx: FunctionCtx, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]
) -> None:
    _, x, A, E, B, scale = inputs
    ctx.save_for_backward(x, A, E, B, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.scale = scale  # type: ignore[attr-defined] # what setup_context is for


def _registered_gradients(ctx: Any, grad: Tensor, _hidden_grad: Tensor) -> tuple[Any, ...]:
    x, A, E, B, hidden = ctx.saved_tensors
    gradients = torch.ops.adalora_core.svd_linear_backward(grad, x, hidden, A, E, B, ctx.scale)
    return (grad, *gradients, None)


_registered_forward.register_autograd(_registered_gradients, setup_context=_keep_for_backward)
