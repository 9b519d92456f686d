"""The orthogonality op: the penalty that keeps the factors close to orthonormal, its gradient."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.utils.weak import WeakTensorKeyDictionary

from adalora_core.ops import _backend, _operations
from adalora_core.ops._portable.orthogonality import recorded_gradients


def orthogonality_penalty(lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor]) -> Tensor:
    """Return the mean distance of all factors from orthonormality, differentiably.

    The mean over all A and B of `||A A^T - I||_F` and `||B^T B - I||_F` (paper equation 4, but
    un-squared and averaged, as PEFT does). The gradient is `2 (A A^T - I) A / ||A A^T - I||_F`
    over the number of factors; a zero norm has gradient zero, a factor of rank 0 counts as zero.

    Args:
        lora_As: A `[r, in]` of each matrix, at least one; dtypes and devices may differ.
        lora_Bs: B `[out, r]` of each matrix, as many as `lora_As`.

    Returns:
        A tensor without dimensions on the device of the first factor, in the widest dtype.

    Raises:
        TypeError: a wrong type or dtype; the message names the argument.
        ValueError: a wrong number, shape or device.

    Example:
        >>> import torch
        >>> orthogonality_penalty([torch.eye(2)], [2 * torch.eye(2)])
        tensor(2.1213)
    """
    factors = checked_factors("orthogonality_penalty", lora_As, lora_Bs)
    if torch.compiler.is_compiling():
        if _backend.compiles_for_core(factors) and are_of_one_kind(factors):
            penalty: Tensor = torch.ops.adalora_core.orthogonality_penalty(lora_As, lora_Bs)[0]
            return penalty
    elif not _operations.is_watched() and _backend.serves(factors[0]):
        try:
            result = _apply(*factors)
        except (TypeError, ValueError):
            # The core reads every factor anyway: asking each here would cost as much as small ones.
            if are_of_one_kind(factors):
                raise
        else:
            return result
    backend = _backend.in_torch("orthogonality_penalty")
    total: Tensor = backend.orthogonality_penalty(lora_As, lora_Bs)
    return total


def checked_factors(
    op: str, lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Return all factors; there is at least one, and as many A as B."""
    factors = (*lora_As, *lora_Bs)
    if len(lora_As) != len(lora_Bs) or not factors:
        raise ValueError(
            f"{op}: lora_Bs must be as many as lora_As, and at least one; got "
            f"{len(lora_Bs)} for {len(lora_As)}"
        )
    return factors


def are_of_one_kind(tensors: Sequence[Tensor]) -> bool:
    """Return whether all are of one dtype and on one device."""
    return len({(each.dtype, each.device) for each in tensors}) == 1


class _Order:
    """An order of the factors: those of one shape side by side, every A before every B.

    All gradients share one block of memory. As many small blocks, the C library would give them
    back to the system when they are freed, and every step would pay for their pages anew. `unbind`
    makes the tensors of one shape in one call, at a third of the cost of one call for each.
    """

    def __init__(self, lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor]) -> None:
        groups = (_by_shape(lora_As), _by_shape(lora_Bs))
        self.A_order, self.B_order = (list(chain(*each.values())) for each in groups)
        self._groups = [(shape, len(each)) for group in groups for shape, each in group.items()]
        ranks = [(shape[0], len(each)) for shape, each in groups[0].items()]
        ranks += [(shape[1], len(each)) for shape, each in groups[1].items()]
        self.gram_size = sum(count * rank**2 for rank, count in ranks)

    def sort(
        self, lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        return [lora_As[i] for i in self.A_order], [lora_Bs[i] for i in self.B_order]

    @property
    def entries(self) -> int:
        return sum(shape.numel() * count for shape, count in self._groups)

    def gradients(self, block: Tensor) -> list[Tensor]:
        """Return the parts of `block`, which is in this order, in the order of the caller."""
        sizes = [shape.numel() * count for shape, count in self._groups]
        parts = zip(self._groups, block.split(sizes), strict=True)
        pieces = chain.from_iterable(
            part.view(count, *shape).unbind() for (shape, count), part in parts
        )
        matrices = len(self.A_order)
        places = chain(self.A_order, (matrices + i for i in self.B_order))
        found = dict(zip(places, pieces, strict=True))
        return [found[i] for i in range(2 * matrices)]


def _by_shape(factors: Sequence[Tensor]) -> dict[torch.Size, list[int]]:
    places: dict[torch.Size, list[int]] = {}
    for index, factor in enumerate(factors):
        places.setdefault(factor.shape, []).append(index)
    return places


def _empty_outputs(like: Tensor, gram_size: int, matrices: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return empty tensors for the penalty, and for the residuals and norms of its gradient."""
    compute_dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    grams = like.new_empty(gram_size, dtype=compute_dtype)
    return like.new_empty(()), grams, like.new_empty(2 * matrices, dtype=torch.float64)


def _dense(factors: Sequence[Tensor]) -> list[Tensor]:
    """Return the factors as the CUDA kernels take them."""
    return [each.contiguous() for each in factors]


_unused = WeakTensorKeyDictionary()
"""At most one block of memory on which no tensor is, by the first factor, with which it goes."""


def _block(first: Tensor, entries: int) -> Tensor:
    """Return a flat tensor for the gradients of `first` and the other factors, not set.

    On the CPU, the pages of a new block cost several times what the gradients themselves cost. So
    its memory is used again, once nobody holds a tensor on it.
    """
    if _backend.core_of(first) is not _backend.core or not entries:
        return first.new_empty(entries)
    unused = _unused.get(first)
    if unused is None:
        unused = _unused[first] = deque(maxlen=1)
    size = entries * first.element_size()
    try:
        block = unused.pop()
    except IndexError:  # not asked before: another thread may be faster
        block = None
    if block is None or len(block) != size:
        del block  # before there is a new one: both together may not fit
        block = np.empty(size, np.uint8)
    lent = block[:]
    # Torch releases the lent memory with the last tensor on it.
    weakref.finalize(lent, unused.append, block).atexit = False
    return torch.from_numpy(lent).view(first.dtype)


class CompiledPenalty(torch.autograd.Function):
    """The penalty of factors of one kind, computed by the compiled core."""

    @staticmethod
    def forward(ctx: Any, *factors: Tensor) -> Tensor:
        """Return the penalty."""
        order = _Order(*_halves(factors))
        As, Bs = order.sort(*_halves(factors))
        penalty, grams, norms = _empty_outputs(factors[0], order.gram_size, len(As))
        core = _backend.core_of(penalty)
        if core is _backend.core:
            penalty.fill_(core.orthogonality_penalty(As, Bs, grams, norms))
        else:
            As, Bs = _dense(As), _dense(Bs)
            partials = grams.new_empty(core.gram_room(As, Bs))
            core.orthogonality_penalty(As, Bs, partials, grams, norms, penalty)
        ctx.save_for_backward(*factors, grams, norms)
        ctx.order = order
        return penalty

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of all factors."""
        *factors, grams, norms = ctx.saved_tensors
        if _operations.is_recorded(grad):
            return recorded_gradients(factors, ctx.needs_input_grad, grad)
        block = _block(factors[0], ctx.order.entries)
        As, Bs = ctx.order.sort(*_halves(factors))
        core = _backend.core_of(grad)
        if core is _backend.core:
            core.orthogonality_gradient(As, Bs, grams, norms, grad.item(), block)
        else:
            As, Bs = _dense(As), _dense(Bs)
            core.orthogonality_gradient(As, Bs, grams, norms, grad.contiguous(), block)
        return tuple(ctx.order.gradients(block))


_apply: Callable[..., Tensor] = super(torch.autograd.Function, CompiledPenalty).apply
"""`CompiledPenalty.apply` without its questions about torch.func, which `is_watched` has asked."""


@torch.library.custom_op("adalora_core::orthogonality_penalty", mutates_args=(), device_types="cpu")
def _registered_forward(
    lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the penalty, all residuals, flat, and their norms; the op in compiled graphs."""
    penalty, grams, norms = _registered_outputs(lora_As, lora_Bs)
    penalty.fill_(_backend.core.orthogonality_penalty(lora_As, lora_Bs, grams, norms))
    return penalty, grams, norms


def _registered_outputs(
    lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    gram_size = sum(A.shape[0] ** 2 for A in lora_As) + sum(B.shape[1] ** 2 for B in lora_Bs)
    return _empty_outputs(lora_As[0], gram_size, len(lora_As))


_registered_forward.register_fake(_registered_outputs)


@torch.library.custom_op(
    "adalora_core::orthogonality_gradient", mutates_args=(), device_types="cpu"
)
def _registered_backward(
    grad: Tensor, lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor], grams: Tensor, norms: Tensor
) -> list[Tensor]:
    # Outputs of a registered op may not share memory.
    gradients = [torch.empty_like(factor) for factor in (*lora_As, *lora_Bs)]
    _backend.core.orthogonality_gradient(lora_As, lora_Bs, grams, norms, grad.item(), gradients)
    return gradients


_registered_backward.register_fake(
    lambda _grad, lora_As, lora_Bs, *_: [torch.empty_like(each) for each in (*lora_As, *lora_Bs)]
)


def _keep_for_backward(
    ctx: FunctionCtx, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]
) -> None:
    lora_As, lora_Bs = inputs
    ctx.save_for_backward(*lora_As, *lora_Bs, *output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _registered_gradients(
    ctx: Any, grad: Tensor, *_others: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    *factors, grams, norms = ctx.saved_tensors
    call = torch.ops.adalora_core.orthogonality_gradient
    found: tuple[list[Tensor], list[Tensor]] = _halves(call(grad, *_halves(factors), grams, norms))
    return found


_registered_forward.register_autograd(_registered_gradients, setup_context=_keep_for_backward)


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
    if _backend.core_of(factors[0]) is _backend.core and _backend.serves(factors[0]):
        try:
            pairs = zip(factors, targets, strict=True)
            outputs = [torch.empty_like(each) if to is None else to for each, to in pairs]
            As, Bs = _halves(factors)
            total = _backend.core.add_orthogonality_gradient(As, Bs, weight, outputs)
            torch.autograd.graph.increment_version(outputs)
            return factors[0].new_full((), total)
        except (TypeError, ValueError):
            if are_of_one_kind((*factors, *wanted)):
                raise
    with torch.enable_grad():
        penalty = orthogonality_penalty(*_halves(factors))
    if wanted:
        learning = [each for each in factors if each.requires_grad]
        found = torch.autograd.grad(penalty, learning, penalty.new_full((), weight))
        torch._foreach_add_(wanted, found)
    return penalty.detach()


def _halves(factors: Any) -> Any:
    """Return the A and the B of all factors, or their gradients."""
    matrices = len(factors) // 2
    return factors[:matrices], factors[matrices:]
