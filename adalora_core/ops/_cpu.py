"""Calls of `adalora_core._cpu`: the adapter op on a CPU, one call forward, one call backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torch.utils._python_dispatch import _disable_current_modes

from adalora_core.ops import _backend, _operations
from adalora_core.ops._portable.svd_linear import (
    Factors,
    recorded_gradients,
    rows_of,
    with_merged_rows,
    without_autocast,
)

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
        output = AdapterNode.apply(rows, x, A, E, B, (numbers, inplace_here, None, None))  # type: ignore[no-untyped-call] # torch types it loosely
    else:
        output, _ = add_products(rows, x, (A, E, B), numbers, inplace_here)
        if inplace:
            torch.autograd.graph.increment_version(rows)
    return output if merges or not inplace else base_output.copy_(output)


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
    weight: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, A, E and B, None where `wanted` is false.

    `grad` and `x` are those of `with_merged_rows`. `weight`: that of the layer whose gradient of x
    is added.
    """
    A, E, B = factors
    of_x, of_A, of_E, of_B = wanted
    accumulates = of_x and weight is not None
    grad_x = None
    if accumulates:
        grad_x = torch.matmul(grad, weight)  # type: ignore[arg-type] # it is there
        if grad_x.dtype is not x.dtype:  # by autocast in a backward pass
            with without_autocast(grad):
                grad_x = torch.matmul(grad, weight)  # type: ignore[arg-type] # same
    elif of_x:
        grad_x = x.new_empty(x.shape)
    grad_A = torch.empty_like(A) if of_A else None
    grad_E = torch.empty_like(E) if of_E else None
    grad_B = torch.empty_like(B) if of_B else None
    _backend.core.svd_linear_backward(
        grad, x, hidden, A, E, B, *numbers, grad_x, grad_A, grad_E, grad_B, accumulates
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
        others: tuple[Numbers, bool, Tensor | None, Tensor | None],
    ) -> Tensor:
        """Return the output; `others`, in one object: numbers, inplace, weight and bias."""
        numbers, inplace, weight, bias = others
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
        of_base, *wanted, _ = ctx.needs_input_grad
        if _operations.is_recorded(grad):
            scale, dropout, seed = ctx.numbers
            mask = kept_entries(x, dropout, seed)
            gradients = recorded_gradients(grad, (x, A, E, B), wanted, scale, dropout, mask, weight)
        else:
            rows = with_merged_rows(grad)
            gradients = gradients_of(rows, x, hidden, (A, E, B), ctx.numbers, wanted, weight)
        return grad if of_base else None, *gradients, None


def _registered_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, A: Tensor, E: Tensor, B: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the output and x A^T."""
    x = with_merged_rows(x)
    output = functional.linear(x, weight, bias)
    return add_products(output, x, (A, E, B), (scale, 0.0, 0), inplace=True)


def _like_forward(
    x: Tensor, weight: Tensor, _bias: Tensor | None, A: Tensor, *_: object
) -> tuple[Tensor, Tensor]:
    compute_dtype = torch.float64 if A.dtype == torch.float64 else torch.float32
    hidden = x.new_empty((*x.shape[:-1], A.shape[0]), dtype=compute_dtype)
    return x.new_empty((*x.shape[:-1], weight.shape[0])), hidden


def _registered_backward(
    grad: Tensor,
    x: Tensor,
    hidden: Tensor,
    weight: Tensor,
    A: Tensor,
    E: Tensor,
    B: Tensor,
    scale: float,
    of_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients; an op has no None, so that of x is empty unless `of_x`."""
    grad, x = with_merged_rows(grad), with_merged_rows(x)
    wanted, numbers = (of_x, True, True, True), (scale, 0.0, 0)
    grad_x, *others = gradients_of(grad, x, hidden, (A, E, B), numbers, wanted, weight)
    return x.new_empty(0) if grad_x is None else grad_x, *others  # type: ignore[return-value] # all others are wanted


def _like_backward(
    _grad: Tensor, x: Tensor, _hidden: Tensor, _weight: Tensor, *others: Any
) -> tuple[Tensor, ...]:
    *factors, _scale, of_x = others
    return x.new_empty(x.shape if of_x else 0), *map(torch.empty_like, factors)


def _keep_for_backward(
    ctx: FunctionCtx, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]
) -> None:
    x, weight, _bias, *factors, scale = inputs
    ctx.save_for_backward(x, output[1], weight, *factors)
    ctx.mark_non_differentiable(output[1])
    ctx.scale = scale  # type: ignore[attr-defined] # what setup_context is for


def _registered_gradients(ctx: Any, grad: Tensor, _hidden_grad: Tensor) -> tuple[Any, ...]:
    of_x = ctx.needs_input_grad[0]
    op = torch.ops.adalora_core.adapted_linear_backward
    grad_x, *others = op(grad, *ctx.saved_tensors, ctx.scale, of_x)
    return (grad_x if of_x else None, None, None, *others, None)


def _register(name: str, schema: str, kernel: Callable[..., Any], like: Callable[..., Any]) -> str:
    # Not custom_op, which takes 8 us more for a call; opcheck in the tests asks what that would.
    torch.library.define(name, schema)
    torch.library.impl(name, "CPU", kernel)
    torch.library.register_fake(name, like)
    return name


if not hasattr(torch.ops.adalora_core, "adapted_linear"):  # a module may be loaded again
    _register(
        "adalora_core::adapted_linear_backward",
        "(Tensor grad, Tensor x, Tensor hidden, Tensor weight, Tensor A, Tensor E, Tensor B,"
        " float scale, bool of_x) -> (Tensor, Tensor, Tensor, Tensor)",
        _registered_backward,
        _like_backward,
    )
    torch.library.register_autograd(
        _register(
            "adalora_core::adapted_linear",
            "(Tensor x, Tensor weight, Tensor? bias, Tensor A, Tensor E, Tensor B, float scale)"
            " -> (Tensor, Tensor)",
            _registered_forward,
            _like_forward,
        ),
        _registered_gradients,
        setup_context=_keep_for_backward,
    )
