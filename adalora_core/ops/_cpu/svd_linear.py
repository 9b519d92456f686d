"""The adapter op on a CPU: one call of the core forward, one call backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import _disable_current_modes

from adalora_core.ops import _backend, _watched
from adalora_core.ops._portable.svd_linear import Factors, recorded_gradients
from adalora_core.ops._rows import rows_of, with_merged_rows

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx

Numbers = tuple[float, float, int]
"""The scale, the probability of dropout, and the seed that selects the dropped entries."""


def svd_linear(
    base_output: Tensor,
    x: Tensor,
    A: Tensor,
    E: Tensor,
    B: Tensor,
    scale: float,
    *,
    dropout: float,
    inplace: bool,
) -> Tensor:
    """Add the adapter's product to `base_output`; see `adalora_core.ops.svd_linear`."""
    x, rows = with_merged_rows(x), with_merged_rows(base_output)
    merges = rows is base_output
    numbers, inplace_here = (scale, dropout, draw_seed(dropout)), inplace and merges
    output: Tensor
    if torch.is_grad_enabled():
        output = AdapterNode.apply(rows, x, A, E, B, numbers, inplace_here, None, None)  # type: ignore[no-untyped-call] # torch types it loosely
    else:
        output, _ = add_products(rows, x, (A, E, B), numbers, inplace_here)
        if inplace:
            torch.autograd.graph.increment_version(rows)
    return output if merges or not inplace else base_output.copy_(output)


def traced(
    base_output: Tensor,
    x: Tensor,
    A: Tensor,
    E: Tensor,
    B: Tensor,
    scale: float,
    *,
    dropout: float,
) -> Tensor:
    """Return the same from the registered op, which torch.compile keeps in its graph."""
    dropped = functional.dropout(x, dropout) if dropout else x
    result: Tensor = torch.ops.adalora_core.svd_linear(base_output, dropped, A, E, B, scale)[0]
    return result


def draw_seed(dropout: float) -> int:
    """Return the seed that selects the dropped entries; without dropout nothing is drawn."""
    # From torch's generator, so that manual_seed and recomputation in checkpointing hold.
    return int(torch.empty((), dtype=torch.int64).random_()) if dropout else 0


def kept_entries(x: Tensor, dropout: float, seed: int) -> Tensor | None:
    """Return which entries of `x` dropout keeps, as rows; None without dropout."""
    if not dropout:
        return None
    with _disable_current_modes():  # a mode would record the memory, and not what the core writes
        # The gradient of x is dropped as x is: here that of a product of ones.
        like = torch.zeros_like(rows_of(x), dtype=torch.float32)
        column, row, unit = (like.new_ones(each) for each in ((len(like), 1), (1, x.shape[-1]), 1))
        factors = row, unit[None], unit[None]
        wanted = (True, False, False, False)
        of_x, *_ = gradients_of(column, like, column, factors, (1.0, dropout, seed), wanted)
        return of_x != 0  # type: ignore[return-value] # it was wanted


def add_products(
    base_output: Tensor, x: Tensor, factors: Factors, numbers: Numbers, inplace: bool
) -> tuple[Tensor, Tensor]:
    """Return the output and drop(x) A^T."""
    A = factors[0]
    compute_dtype = torch.float64 if A.dtype == torch.float64 else torch.float32
    hidden = x.new_empty((*x.shape[:-1], A.shape[0]), dtype=compute_dtype)
    output = base_output if inplace else base_output.new_empty(base_output.shape)
    _backend.core.svd_linear_forward(base_output, x, *factors, *numbers, hidden, output)
    return output, hidden


def gradients_of(
    grad: Tensor,
    x: Tensor,
    hidden: Tensor,
    factors: Factors,
    numbers: Numbers,
    wanted: Sequence[bool],
    *,
    add_to: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, A, E and B, None where `wanted` is false.

    `grad` and `x` are those of `with_merged_rows`. If `add_to` is given, the gradient of x is added
    to this tensor, which is returned.
    """
    A, E, B = factors
    accumulates = add_to is not None
    grad_x = (add_to if accumulates else x.new_empty(x.shape)) if wanted[0] else None
    grad_A = torch.empty_like(A) if wanted[1] else None
    grad_E = torch.empty_like(E) if wanted[2] else None
    grad_B = torch.empty_like(B) if wanted[3] else None
    _backend.core.svd_linear_backward(
        grad, x, hidden, *factors, *numbers, grad_x, grad_A, grad_E, grad_B, accumulates
    )
    return grad_x, grad_A, grad_E, grad_B


class AdapterNode(torch.autograd.Function):
    """The product of an adapter added to `base_output`, or to `x weight^T + bias` without one."""

    @staticmethod
    def forward(
        ctx: Any,
        base_output: Tensor | None,
        x: Tensor,
        A: Tensor,
        E: Tensor,
        B: Tensor,
        numbers: Numbers,
        inplace: bool,
        weight: Tensor | None,
        bias: Tensor | None,
    ) -> Tensor:
        """Return the output."""
        is_joined = base_output is None
        if base_output is None:
            # Detached: torch refuses to write in place into a view that a Function returns.
            base_output = functional.linear(x, weight, bias).detach()  # type: ignore[arg-type] # one of both is given
        output, hidden = add_products(base_output, x, (A, E, B), numbers, inplace or is_joined)
        if inplace:
            ctx.mark_dirty(base_output)
        ctx.save_for_backward(x, A, E, B, hidden, weight)
        ctx.numbers = numbers
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients; those of both products of x are summed in place."""
        x, A, E, B, hidden, weight = ctx.saved_tensors
        of_base, *wanted = ctx.needs_input_grad[:5]
        if _watched.is_recorded(grad):
            scale, dropout, seed = ctx.numbers
            mask = kept_entries(x, dropout, seed)
            gradients = recorded_gradients(grad, (x, A, E, B), wanted, scale, dropout, mask, weight)
        else:
            rows, add_to = with_merged_rows(grad), None
            if weight is not None and wanted[0]:
                # With `out`, autocast in a backward pass does not change the dtype.
                add_to = x.new_empty(x.shape)
                torch.mm(rows_of(rows), weight, out=rows_of(add_to))
            gradients = gradients_of(rows, x, hidden, (A, E, B), ctx.numbers, wanted, add_to=add_to)
        return (grad if of_base else None, *gradients, None, None, None, None)


@torch.library.custom_op("adalora_core::svd_linear", mutates_args=(), device_types="cpu")
def _registered_forward(
    base_output: Tensor, x: Tensor, A: Tensor, E: Tensor, B: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the output and x A^T; the op in compiled graphs."""
    base_output, x = with_merged_rows(base_output), with_merged_rows(x)
    return add_products(base_output, x, (A, E, B), (scale, 0.0, 0), inplace=False)


@_registered_forward.register_fake
def _(base_output: Tensor, x: Tensor, A: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    compute_dtype = torch.float64 if A.dtype == torch.float64 else torch.float32
    hidden = x.new_empty((*x.shape[:-1], A.shape[0]), dtype=compute_dtype)
    return base_output.new_empty(base_output.shape), hidden


@torch.library.custom_op("adalora_core::svd_linear_backward", mutates_args=(), device_types="cpu")
def _registered_backward(
    grad: Tensor, x: Tensor, hidden: Tensor, A: Tensor, E: Tensor, B: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    every = (True, True, True, True)
    grad, x = with_merged_rows(grad), with_merged_rows(x)
    return gradients_of(grad, x, hidden, (A, E, B), (scale, 0.0, 0), every)  # type: ignore[return-value] # all four are wanted


@_registered_backward.register_fake
def _(_grad: Tensor, x: Tensor, _hidden: Tensor, *factors_and_scale: Any) -> tuple[Tensor, ...]:
    return x.new_empty(x.shape), *map(torch.empty_like, factors_and_scale[:3])


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
