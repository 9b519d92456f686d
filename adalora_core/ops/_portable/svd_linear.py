"""The adapter op: E folded into A, two products, and one node of the graph.

On a CPU the products run in the compute type of the factors, elsewhere in the dtype of x
(docs/adr/0011). Hidden values are kept as `[r, N]`: MKL multiplies in half the time if the short
side of a result is that of its rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import unwrap_if_dead
from torch.nn import functional

from adalora_core.ops import _operations

_NODE_TYPES = frozenset({Tensor, torch.nn.Parameter, torch._subclasses.FakeTensor})  # noqa: SLF001 - as in torch's documentation

_NO_CONTEXT = contextlib.nullcontext()

Factors = tuple[Tensor, Tensor, Tensor]
"""A, E and B."""


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
    """Add the adapter's product to `base_output`; see `adalora_core.ops.svd_linear`."""
    if inplace and (rows := with_merged_rows(base_output)) is not base_output:
        return base_output.copy_(svd_linear(rows, x, A, E, B, scale, dropout=dropout))
    x = as_under_autocast(x)
    if torch.is_grad_enabled():
        return apply_node(base_output, x, A, E, B, scale, dropout, inplace, None, None)
    with without_autocast(x):
        return _add_product(base_output, x, (A, E, B), scale, dropout, inplace)[0]


def allow_node(*tensors: Tensor) -> bool:
    """Return whether a node of our own may take the tensors; subclasses may lack what it does."""
    return _NODE_TYPES.issuperset(map(type, tensors))


def as_under_autocast(tensor: Tensor) -> Tensor:
    """Return `tensor` as a layer's product under autocast takes it; on a CPU it stays as it is."""
    if tensor.is_cpu or tensor.dtype == torch.float64 or not is_autocast(tensor):
        return tensor
    return tensor.to(torch.get_autocast_dtype(tensor.device.type))


def is_autocast(tensor: Tensor) -> bool:
    """Return whether autocast is on where `tensor` is."""
    if tensor.is_cpu:
        return torch.is_autocast_enabled("cpu")
    kind = tensor.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def without_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    """Return a context in which products keep the dtype of their operands."""
    if is_autocast(tensor):
        return torch.autocast(tensor.device.type, enabled=False)
    return _NO_CONTEXT


def formula(
    base_output: Tensor, x: Tensor, A: Tensor, E: Tensor, B: Tensor, scale: float, *, dropout: float
) -> Tensor:
    """Return the same without a node, where something records or transforms these operations."""
    x = as_under_autocast(x)
    with without_autocast(x):
        dtype = product_dtype(x, A)
        folded, wide_B = _folded((A, E, B), dtype)
        used = functional.dropout(x.to(dtype), dropout) if dropout else x.to(dtype)
        delta = functional.linear(functional.linear(used, folded), wide_B) * scale
        return (base_output + delta).to(base_output.dtype)


def product_dtype(x: Tensor, A: Tensor) -> torch.dtype:
    """Return the dtype of both operands of every product."""
    if x.is_cpu:
        return torch.float64 if A.dtype == torch.float64 else torch.float32
    return x.dtype


def _folded(factors: Factors, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return `E A` and B as operands of the products, rounded to `dtype` once."""
    A, E, B = factors
    if A.dtype == dtype:
        return A * E, B
    return (A.to(_wider(A.dtype, dtype)) * E).to(dtype), B.to(dtype)


def _wider(one: torch.dtype, other: torch.dtype) -> torch.dtype:
    # Not promote_types, which torch.export takes for an operation.
    return one if one.itemsize >= other.itemsize else other


def _plus_product(
    base: Tensor, left: Tensor, right: Tensor, scale: float = 1.0, *, inplace: bool
) -> Tensor:
    """Return `base + scale * left right` in the dtype of `base`, rounded once."""
    if base.dtype == left.dtype:
        add = base.addmm_ if inplace else base.addmm
        return add(left, right, alpha=scale)
    total = torch.add(base, torch.mm(left, right), alpha=scale)
    return base.copy_(total) if inplace else total.to(base.dtype)


def _add_product(
    base_output: Tensor, x: Tensor, factors: Factors, scale: float, dropout: float, inplace: bool
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """Return the output, and what the backward pass needs of the adapter."""
    used, mask = rows_of(x), None
    if dropout:
        used, mask = torch.native_dropout(used, dropout, train=True)
    dtype = product_dtype(x, factors[0])
    folded, wide_B = _folded(factors, dtype)
    hidden = torch.mm(folded, used.to(dtype).T)
    rows = _plus_product(rows_of(base_output), hidden.T, wide_B.T, scale, inplace=inplace)
    output = base_output if inplace else _with_shape(rows, base_output.shape)
    return output, (used if dropout else x, mask, hidden, folded, wide_B)


def _with_shape(rows: Tensor, shape: torch.Size) -> Tensor:
    """Return `rows` in another shape, as a tensor that may be written in place."""
    # Torch refuses to write into a view that a Function returns; a detached one is none.
    return rows if len(shape) == MATRIX_DIMENSIONS else rows.view(shape).detach()


def _product(left: Tensor, right: Tensor, like: Tensor, scale: float = 1.0) -> Tensor:
    """Return `scale * left right`, of the shape of `like`, in the wider dtype of both."""
    if left.dtype == like.dtype:
        return torch.addmm(like, left, right, beta=0, alpha=scale)  # reads nothing of `like`
    wide = _wider(left.dtype, like.dtype)
    if left.is_cuda and left.dtype != wide == torch.float32 and torch.version.hip is None:
        return torch.mm(left, right, out_dtype=torch.float32).mul_(scale)
    return torch.mm(left, right).to(wide).mul_(scale)


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
        scale: float,
        dropout: float,
        inplace: bool,
        weight: Tensor | None,
        bias: Tensor | None,
    ) -> Tensor:
        """Return the output."""
        with without_autocast(x):
            if base_output is None:
                rows = functional.linear(rows_of(x), weight, bias)  # type: ignore[arg-type] # one of both is given
                output, kept = _add_product(rows, x, (A, E, B), scale, dropout, inplace=True)
                output = _with_shape(output, torch.Size((*x.shape[:-1], len(B))))
            else:
                factors = (A, E, B)
                output, kept = _add_product(base_output, x, factors, scale, dropout, inplace)
        if inplace:
            ctx.mark_dirty(base_output)
        ctx.save_for_backward(A, E, B, weight, *kept)
        ctx.numbers = (scale, dropout)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients; autograd rounds those of the factors to the dtype of these."""
        A, E, B, weight, *kept = ctx.saved_tensors
        of_base, *wanted = ctx.needs_input_grad[:5]
        scale, dropout = ctx.numbers
        if torch.is_grad_enabled():  # create_graph=True
            inputs = (kept[0], A, E, B)
            gradients = recorded_gradients(grad, inputs, wanted, scale, dropout, kept[1], weight)
        else:
            inplace = not _operations.is_recorded(grad)
            with without_autocast(grad):
                gradients = _gradients(
                    grad, (A, E, B), weight, kept, wanted, scale, dropout, inplace=inplace
                )
        return (grad if of_base else None, *gradients, None, None, None, None, None)


def apply_node(base_output: Tensor | None, x: Tensor, *operands: Any) -> Tensor:
    """Return `AdapterNode.apply` without its questions about torch.func: see `is_watched`."""
    return _apply(base_output, unwrap_if_dead(x), *operands)


_apply: Callable[..., Tensor] = super(torch.autograd.Function, AdapterNode).apply


def recorded_gradients(
    grad: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor, Tensor],
    wanted: Sequence[bool],
    scale: float,
    dropout: float,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, A, E and B in torch's operations, None where `wanted` is false.

    They have a graph where gradients are enabled. `mask`: which entries of x dropout has kept, as
    rows. `weight`: that of the layer whose gradient of x is added.
    """
    if mask is not None and torch.is_grad_enabled():
        raise NotImplementedError(
            "svd_linear: a second derivative with dropout is not implemented; pass dropout=0"
        )
    x, A, E, B = inputs
    dtype = product_dtype(x, A)
    used = rows_of(x)
    if mask is not None:
        used = used * mask / (1 - dropout)
    with without_autocast(grad):
        folded, wide_B = _folded((A, E, B), dtype)
        hidden = torch.mm(folded, used.to(dtype).T)
        kept = (used, mask, hidden, folded, wide_B)
        return _gradients(grad, (A, E, B), weight, kept, wanted, scale, dropout, inplace=False)


def _gradients(
    grad: Tensor,
    factors: Factors,
    weight: Tensor | None,
    kept: Sequence[Any],
    wanted: Sequence[bool],
    scale: float,
    dropout: float,
    *,
    inplace: bool,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, A, E and B, None where `wanted` is false."""
    A, E, B = factors
    x, mask, hidden, folded, wide_B = kept
    # A batch of gradients has a rule for reshape, and none for flatten.
    rows = grad.reshape(hidden.shape[1], B.shape[0])
    given = rows.to(hidden.dtype)
    of_x = of_A = of_E = of_B = None
    if any(wanted[:3]):
        of_hidden = _product(wide_B.T, given.T, hidden, scale)
    if wanted[0]:
        of_x = None if weight is None else torch.mm(rows, weight)
        if mask is None and of_x is not None:
            of_x = _plus_product(of_x, of_hidden.T, folded, inplace=inplace)
        else:
            part = torch.mm(of_hidden.T, folded).to(x.dtype)
            if mask is not None and not inplace:
                part = part * mask.view_as(part) / (1 - dropout)
            elif mask is not None:
                part = torch.ops.aten.native_dropout_backward(part, mask, 1 / (1 - dropout))
            of_x = part if of_x is None else of_x + part
        of_x = of_x.reshape(*grad.shape[:-1], A.shape[1])
    if any(wanted[1:3]):
        of_folded = _product(of_hidden, rows_of(x).to(hidden.dtype), A)
        of_A = of_folded * E if wanted[1] else None
        if wanted[2] and A.is_cpu:  # where one operation takes three times as long as these two
            of_E = (of_folded * A).sum(1, keepdim=True)
        elif wanted[2]:
            of_E = torch.bmm(of_folded[:, None], A[:, :, None].to(of_folded.dtype))[:, 0]
    if wanted[3]:
        of_B = _product(hidden, given, B.T, scale).T
    return of_x, of_A, of_E, of_B


MATRIX_DIMENSIONS = 2


def rows_of(tensor: Tensor) -> Tensor:
    """Return a matrix of all rows; a view where the tensor allows it."""
    return tensor.flatten(0, -2) if tensor.dim() > 1 else tensor[None]


def with_merged_rows(tensor: Tensor) -> Tensor:
    """Return `tensor`, or a copy whose leading dimensions the core can read as one."""
    if (tensor.dim() <= MATRIX_DIMENSIONS or tensor.is_contiguous()) and not tensor.is_neg():
        return tensor
    return tensor.resolve_neg().contiguous()


def adapted_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    A: Tensor,
    E: Tensor,
    B: Tensor,
    scale: float,
    *,
    dropout: float = 0.0,
) -> Tensor:
    """Return both products; see `adalora_core.ops.adapted_linear`."""
    x, weight = as_under_autocast(x), as_under_autocast(weight)
    bias = None if bias is None else as_under_autocast(bias)
    return apply_node(None, x, A, E, B, scale, dropout, False, weight, bias)
