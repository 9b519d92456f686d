"""Calls of `adalora_core._cuda`, the compiled kernels for NVIDIA GPUs.

They are loaded after one question per device whether they can run there. Outputs and intermediate
results are torch tensors, so torch's allocator owns all memory. Kernels run on torch's current
stream and nothing waits for them.

In the adapter op, cuBLAS computes the dense products, own kernels the rest. `scale * E` is folded
into A. The result A' is cast to the dtype of x, and its rows are padded to 16 bytes, as are those
of B. The products then are `hidden = drop(x) A'^T` and `y += hidden B'^T`, without another pass
over x or y. Sums over all rows of x are kept in float32.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from adalora_core.floor.errors import BackendUnavailableError
from adalora_core.ops import _operations
from adalora_core.ops._portable.importance import update_importance as portable_importance
from adalora_core.ops._portable.svd_linear import recorded_gradients, rows_of

if TYPE_CHECKING:
    from adalora_core import _cuda


@functools.cache
def _module() -> _cuda | None:  # type: ignore[valid-type] # the stub types the module
    """Return the compiled module, None where it was not built."""
    try:
        module = importlib.import_module("adalora_core._cuda")
    except ModuleNotFoundError:
        return None
    try:
        module.connect()
    except ImportError as error:
        raise BackendUnavailableError(str(error)) from error
    return module


@functools.cache
def core_of(device: int) -> _cuda | None:  # type: ignore[valid-type] # the stub types the module
    """Return the compiled module if its kernels run on CUDA device `device`, else None.

    A device that the kernels were not built for gets one warning.
    """
    module = _module()
    problem = "" if module is None else module.problem_of(device)
    if problem:
        warnings.warn(
            f"adalora_core: the CUDA kernels cannot run on cuda:{device}, so "
            f"torch's operations serve it: {problem}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return module


def update_importance(
    core: Any,
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor | None] | None,
    smoothed: Sequence[Tensor] | Tensor,
    uncertainty: Sequence[Tensor] | Tensor,
    beta1: float,
    beta2: float,
    scores: Tensor | None,
) -> Tensor:
    """Enqueue the update, and return a tensor that will hold the number of skipped entries."""
    skipped = torch.zeros((), dtype=torch.int64, device=parameters[0].device)
    partials = None
    if scores is not None:
        room = core.score_room(parameters)
        partials = torch.empty(room, dtype=torch.float64, device=skipped.device)
    rest = (beta1, beta2, scores, partials, skipped)
    if core.update_importance(parameters, gradients, smoothed, uncertainty, *rest):
        return skipped
    if gradients is None:  # a tensor is strided
        gradients = [each.grad for each in parameters]
    return portable_importance(
        parameters, gradients, smoothed, uncertainty, beta1, beta2, scores=scores
    )


_ROW_BYTES = 16


def svd_linear(
    core: Any,
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
    _require_fit(base_output, x, A=A, E=E, B=B)
    if x.dtype != torch.float64 and torch.is_autocast_enabled(x.device.type):
        # As in the base layer's product: torch would cast x in some of the products only.
        x = x.to(torch.get_autocast_dtype(x.device.type))
    # Drawn on the device, so that each replay of a captured graph draws anew.
    seed = torch.empty((), dtype=torch.int64, device=x.device).random_() if dropout else None
    if torch.is_grad_enabled():
        result: Tensor = _SVDLinear.apply(  # type: ignore[no-untyped-call] # torch types it loosely
            core, base_output, x, A, E, B, scale, dropout, seed, inplace
        )
        return result
    return _forward(core, base_output, x, (A, E, B), scale, dropout, seed, inplace)[0]


def _require_fit(base_output: Tensor, x: Tensor, **factors: Tensor) -> None:
    """Check devices and shapes here, since torch's products would not name the argument."""
    for name, tensor in {"base_output": base_output, **factors}.items():
        if tensor.device != x.device:
            raise ValueError(
                f"svd_linear: {name} must be on {x.device} as x is, got a tensor on {tensor.device}"
            )
    if x.shape[:-1] != base_output.shape[:-1]:
        raise ValueError(
            "svd_linear: base_output must be [..., out] with the rows of x, "
            f"{[*x.shape[:-1]]}, got {[*base_output.shape]}"
        )
    shapes = {
        "A": (factors["A"].shape[0], x.shape[-1]),
        "B": (base_output.shape[-1], factors["A"].shape[0]),
    }
    for name, expected in shapes.items():
        if tuple(factors[name].shape) != expected:
            raise ValueError(
                f"svd_linear: {name} must be {[*expected]}, got {[*factors[name].shape]}"
            )


def _forward(
    core: Any,
    base_output: Tensor,
    x: Tensor,
    factors: tuple[Tensor, Tensor, Tensor],
    scale: float,
    dropout: float,
    seed: Tensor | None,
    inplace: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the output, drop(x) A'^T, A' and B'."""
    A, E, B = (each.contiguous() for each in factors)
    step = _ROW_BYTES // x.element_size()
    padded = -(-A.shape[0] // step) * step
    folded_A = x.new_empty((padded, A.shape[1]))
    folded_B = x.new_empty((B.shape[0], padded))
    core.fold_factors(A, E, B, scale, folded_A, folded_B)
    hidden = torch.mm(_dropped(core, x, dropout, seed), folded_A.T)
    rows = rows_of(base_output)
    if base_output.dtype != x.dtype:
        total = rows + torch.mm(hidden, folded_B.T)
        output = total.to(base_output.dtype).view(base_output.shape)
    elif inplace and rows.data_ptr() == base_output.data_ptr():
        rows.addmm_(hidden, folded_B.T)
        return base_output, hidden, folded_A, folded_B
    else:
        output = torch.addmm(rows, hidden, folded_B.T).view(base_output.shape)
    return base_output.copy_(output) if inplace else output, hidden, folded_A, folded_B


def _dropped(core: Any, x: Tensor, dropout: float, seed: Tensor | None) -> Tensor:
    """Return x as rows, with the entries dropped that the seed selects, if there is one."""
    rows = rows_of(x)
    if seed is None:
        return rows
    rows = rows.contiguous()
    output = torch.empty_like(rows)
    core.drop(rows, dropout, seed, output)
    return output


def _sum_over_rows(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Return left^T right, in float32 where the factors are."""
    if dtype == torch.float32 and left.dtype in {torch.float16, torch.bfloat16}:
        return torch.mm(left.T, right, out_dtype=torch.float32)
    return torch.mm(left.T, right)


class _SVDLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        core: Any,
        base_output: Tensor,
        x: Tensor,
        A: Tensor,
        E: Tensor,
        B: Tensor,
        scale: float,
        dropout: float,
        seed: Tensor | None,
        inplace: bool,
    ) -> Tensor:
        output, *kept = _forward(core, base_output, x, (A, E, B), scale, dropout, seed, inplace)
        if inplace:
            ctx.mark_dirty(base_output)
        ctx.save_for_backward(x, A, E, B, seed, *kept)
        ctx.constants = (core, scale, dropout)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        of_base, *wanted = ctx.needs_input_grad[1:6]
        core, scale, dropout = ctx.constants
        if _operations.is_recorded(grad):
            x, A, E, B, seed = ctx.saved_tensors[:5]
            mask = None
            if seed is not None:
                with _disable_current_modes():
                    mask = _dropped(core, torch.ones_like(x), dropout, seed) != 0
            gradients = recorded_gradients(grad, (x, A, E, B), wanted, scale, dropout, mask)
        else:
            # The forward pass decided the dtypes of the products.
            with torch.autocast(grad.device.type, enabled=False):
                gradients = _backward(core, grad, ctx.saved_tensors, scale, dropout, wanted)
        return (None, grad if of_base else None, *gradients, None, None, None, None)


def _backward(
    core: Any,
    grad: Tensor,
    saved: tuple[Any, ...],
    scale: float,
    dropout: float,
    wanted: list[bool],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, A, E and B, None where `wanted` is false."""
    x, A, E, B, seed, hidden, folded_A, folded_B = saved
    rows = rows_of(grad).to(x.dtype)
    grad_hidden = torch.mm(rows, folded_B) if any(wanted[:3]) else None
    grad_x = None
    if wanted[0] and grad_hidden is not None:
        grad_x = torch.mm(grad_hidden, folded_A)
        if seed is not None:
            core.drop(grad_x, dropout, seed, grad_x)
        grad_x = grad_x.view(x.shape)
    of_A = of_B = None
    if any(wanted[1:3]) and grad_hidden is not None:
        of_A = _sum_over_rows(grad_hidden, _dropped(core, x, dropout, seed), A.dtype)
    if wanted[3]:
        of_B = _sum_over_rows(rows, hidden, B.dtype)
    factors = [each.contiguous() for each in (A, E, B)]
    gradients = [
        torch.empty_like(each) if is_wanted else None
        for each, is_wanted in zip(factors, wanted[1:], strict=True)
    ]
    if of_A is not None or of_B is not None:
        core.unfold_gradients(of_A, of_B, *factors, scale, *gradients)
    return (grad_x, *gradients)
