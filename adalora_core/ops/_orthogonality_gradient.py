"""The gradient of the orthogonality penalty, added to `.grad` without autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adalora_core.ops import _backend
from adalora_core.ops._portable.orthogonality import OrthogonalityPenalty
from adalora_core.ops.orthogonality import (
    CompiledPenalty,
    are_of_one_kind,
    checked_factors,
    orthogonality_penalty,
)


def add_orthogonality_gradient_(
    lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor], weight: float = 1.0
) -> Tensor:
    """Add the gradient of `weight * orthogonality_penalty` to the `.grad` of every factor.

    `A.grad += weight / n * 2 (A A^T - I) A / ||A A^T - I||_F` for n factors, and
    `B.grad += weight / n * 2 B (B^T B - I) / ||B^T B - I||_F` (paper equation 4, but un-squared and
    averaged). Autograd has a node for each factor, which costs more than the products of small
    ones; this call has none. It mutates the `.grad` of the factors that require a gradient, makes
    those that are missing, and touches nothing else.

    Args:
        lora_As: A `[r, in]` of each matrix, leaves of autograd; dtypes and devices may differ.
        lora_Bs: B `[out, r]` of each matrix, as many as `lora_As`.
        weight: what the penalty would be multiplied by in the loss.

    Returns:
        The penalty without the weight and without a graph, as `orthogonality_penalty` returns it.

    Raises:
        TypeError: a wrong type or dtype; the message names the argument.
        ValueError: a wrong number, shape or device, or a factor that autograd has computed.

    Example:
        >>> import torch
        >>> A, B = (torch.nn.Parameter(2 * torch.eye(2)) for _ in range(2))
        >>> add_orthogonality_gradient_([A], [B], weight=0.5)
        tensor(4.2426)
        >>> A.grad
        tensor([[0.7071, 0.0000],
                [0.0000, 0.7071]])
    """
    factors = checked_factors("add_orthogonality_gradient_", lora_As, lora_Bs)
    with torch.no_grad():
        targets = _targets(factors)
        penalty = _add_gradients(factors, float(weight), targets)
        for factor, target in zip(factors, targets, strict=True):
            if target is not None and factor.grad is not target:
                factor.grad = target
    return penalty


def _targets(factors: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the gradient of each factor, zeros where there is none; None for a frozen factor."""
    targets: list[Tensor | None] = []
    for index, each in enumerate(factors):
        if not each.requires_grad:
            targets.append(None)
        elif each.is_leaf:
            targets.append(torch.zeros_like(each) if each.grad is None else each.grad)
        else:
            matrices = len(factors) // 2
            name = f"lora_As[{index}]" if index < matrices else f"lora_Bs[{index - matrices}]"
            raise ValueError(
                f"add_orthogonality_gradient_: {name} must be a parameter, got a tensor that "
                "autograd has computed; add orthogonality_penalty to the loss instead"
            )
    return targets


def _add_gradients(
    factors: Sequence[Tensor], weight: float, targets: Sequence[Tensor | None]
) -> Tensor:
    wanted = [each for each in targets if each is not None]
    core = _backend.core_of(factors[0]) if _backend.serves(factors[0]) else None
    if core is not None and core is _backend.core:
        try:
            return _add_in_core(factors, weight, targets)
        except (TypeError, ValueError):
            if are_of_one_kind((*factors, *wanted)):
                raise
    if _backend.uses_oracle():
        learning = [each for each in factors if each.requires_grad]
        with torch.enable_grad():
            penalty = orthogonality_penalty(*_halves(factors))
            found = list(torch.autograd.grad(penalty * weight, learning)) if wanted else []
    else:
        function: Any = OrthogonalityPenalty
        if core is not None and are_of_one_kind(factors):
            function = CompiledPenalty
        else:
            _backend.in_torch("add_orthogonality_gradient_")
        call = _CallWithoutGraph(tuple(each is not None for each in targets))
        penalty = function.forward(call, *factors)
        gradients = function.backward(call, penalty.new_full((), weight))
        pairs = zip(gradients, targets, strict=True)
        found = [gradient for gradient, target in pairs if target is not None]
    if wanted:
        torch._foreach_add_(wanted, found)
    return penalty.detach()


class _CallWithoutGraph:
    """Takes the place of autograd's context where a function is called without autograd."""

    saved_tensors: tuple[Tensor, ...]
    order: Any

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad

    def save_for_backward(self, *tensors: Tensor) -> None:
        self.saved_tensors = tensors


def _add_in_core(
    factors: Sequence[Tensor], weight: float, targets: Sequence[Tensor | None]
) -> Tensor:
    pairs = zip(factors, targets, strict=True)
    outputs = [torch.empty_like(factor) if each is None else each for factor, each in pairs]
    penalty = _backend.core.add_orthogonality_gradient(*_halves(factors), weight, outputs)
    torch.autograd.graph.increment_version(outputs)
    return factors[0].new_full((), penalty)


def _halves(factors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    matrices = len(factors) // 2
    return factors[:matrices], factors[matrices:]
