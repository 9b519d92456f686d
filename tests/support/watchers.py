"""Record and transform a function in the ways of torch: trace, make_fx, forward AD, and others.

Each way takes a function, its inputs, and other tensors of the same shapes; its results are
those of plain torch if the way sees all that the function does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import _vmap_internals
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

if TYPE_CHECKING:
    Tensors = Sequence[torch.Tensor]
    Function = Callable[..., torch.Tensor]

aten = torch.ops.aten
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.convolution.default}


def leaves(tensors: Tensors) -> list[torch.Tensor]:
    return [each.clone().requires_grad_() for each in tensors]


def gradients(function: Function, inputs: Tensors) -> Tensors:
    return torch.autograd.grad(function(*inputs).sin().sum(), leaves_in(inputs))


def leaves_in(inputs: Tensors) -> list[torch.Tensor]:
    return [each for each in inputs if each.requires_grad]


# --- what watches: (function, tensors, other tensors of the same shapes) -> results -------------


def traced(function: Function, inputs: Tensors, others: Tensors) -> Tensors:
    with torch.no_grad():
        return [torch.jit.trace(function, tuple(inputs))(*others)]


def traced_with_gradients(function: Function, inputs: Tensors, others: Tensors) -> Tensors:
    return gradients(torch.jit.trace(function, tuple(leaves(inputs))), leaves(others))


def recorded(mode: str, function: Function, inputs: Tensors, others: Tensors) -> Tensors:
    with torch.no_grad():
        return [make_fx(function, tracing_mode=mode, _allow_non_fake_inputs=True)(*inputs)(*others)]


def step_recorded(mode: str, function: Function, inputs: Tensors, others: Tensors) -> Tensors:
    def step(*tensors: torch.Tensor) -> Tensors:
        return gradients(function, [each.detach().requires_grad_() for each in tensors])

    return make_fx(step, tracing_mode=mode, _allow_non_fake_inputs=True)(*inputs)(*others)  # type: ignore[no-any-return]


def backward_recorded(function: Function, inputs: Tensors, others: Tensors) -> Tensors:
    del others
    given = leaves(inputs)
    output = function(*given)

    def backward(grad: torch.Tensor) -> Tensors:
        return torch.autograd.grad(output, given, grad, retain_graph=True)

    return make_fx(backward)(torch.zeros_like(output))(torch.ones_like(output).cumsum(-1))  # type: ignore[no-any-return]


def tangent(grad: bool, function: Function, inputs: Tensors, others: Tensors) -> Tensors:
    with torch.set_grad_enabled(grad), forward_ad.dual_level():
        primals = leaves(inputs) if grad else inputs
        duals = [forward_ad.make_dual(*pair) for pair in zip(primals, others, strict=True)]
        return forward_ad.unpack_dual(function(*duals))


def tangent_of_gradients(function: Function, inputs: Tensors, others: Tensors) -> Tensors:
    del others
    given = leaves(inputs)
    output = function(*given)
    with forward_ad.dual_level():
        grad = forward_ad.make_dual(torch.ones_like(output), output.detach())
        found = torch.autograd.grad(output, given, grad)
        return [each for pair in map(forward_ad.unpack_dual, found) for each in pair]


def jacobian(strategy: str, function: Function, inputs: Tensors, others: Tensors) -> Tensors:
    del others
    return torch.autograd.functional.jacobian(
        function, tuple(inputs), vectorize=True, strategy=strategy
    )


def hessian(function: Function, inputs: Tensors, others: Tensors) -> Tensors:
    del others
    found = torch.autograd.functional.hessian(
        lambda *each: function(*each).sin().sum(), tuple(inputs), vectorize=True
    )
    return [each for row in found for each in row]


def rows_of_legacy_batch(pullback: Function, directions: torch.Tensor) -> Tensors:
    """What is_grads_batched does."""
    return _vmap_internals._vmap(pullback, 0, 0, allow_none_pass_through=True)(directions)  # type: ignore[no-any-return]


def rows_of_tangents(pullback: Function, directions: torch.Tensor) -> Tensors:
    rows = []
    with forward_ad.dual_level():
        for each in directions:
            dual = forward_ad.make_dual(torch.zeros_like(each), each)
            rows.append([forward_ad.unpack_dual(found).tangent for found in pullback(dual)])
    return [torch.stack(each) for each in zip(*rows, strict=True)]


def rows_recorded(pullback: Function, directions: torch.Tensor) -> Tensors:
    recorded = make_fx(pullback)(torch.zeros_like(directions[0]))
    return [torch.stack(each) for each in zip(*map(recorded, directions), strict=True)]


BACKWARD_WATCHERS = {
    "batched gradients": rows_of_legacy_batch,
    "vmap": lambda pullback, directions: torch.func.vmap(pullback)(directions),
    "forward AD": rows_of_tangents,
    "make_fx": rows_recorded,
}
"""Ways around a backward pass alone: (pullback, stacked gradients of the output) -> stacked
results."""


def batched_in_backward(function: Function, inputs: Tensors, others: Tensors) -> Tensors:
    del others
    given = leaves(inputs)
    output = function(*given)
    directions = torch.eye(output.numel(), dtype=output.dtype).view(-1, *output.shape)

    def pullback(grad: torch.Tensor) -> Tensors:
        return torch.autograd.grad(output, given, grad, retain_graph=True)

    return torch.func.vmap(pullback)(directions)  # type: ignore[no-any-return]


def selectively_checkpointed(function: Function, inputs: Tensors, others: Tensors) -> Tensors:
    del others

    def policy(_context: Any, op: Any, *_args: Any, **_kwargs: Any) -> CheckpointPolicy:
        return CheckpointPolicy.MUST_SAVE if op in PRODUCTS else CheckpointPolicy.PREFER_RECOMPUTE

    given = leaves(inputs)
    output = checkpoint(
        lambda *each: function(*each).sin(),
        *given,
        use_reentrant=False,
        context_fn=lambda: create_selective_checkpoint_contexts(policy),
    )
    found = torch.autograd.grad(output.sum(), given, allow_unused=True)
    return [output, *(each for each in found if each is not None)]


WATCHERS = {
    "trace": traced,
    "trace with gradients": traced_with_gradients,
    **{
        f"make_fx, {mode}{name}": functools.partial(watcher, mode)
        for mode in ("real", "fake", "symbolic")
        for name, watcher in ((", forward", recorded), (", step", step_recorded))
    },
    "make_fx, backward alone": backward_recorded,
    "forward AD without gradients": functools.partial(tangent, False),
    "forward AD": functools.partial(tangent, True),
    "forward AD of the backward pass": tangent_of_gradients,
    "jacobian by rows": functools.partial(jacobian, "reverse-mode"),
    "jacobian by columns": functools.partial(jacobian, "forward-mode"),
    "hessian": hessian,
    "vmap of the backward pass": batched_in_backward,
    "selective checkpointing": selectively_checkpointed,
}

# What takes a second for each function.
CASES = [
    pytest.param(each, marks=pytest.mark.slow)
    if each in {"make_fx, fake, step", "make_fx, symbolic, step"}
    else each
    for each in WATCHERS
]
