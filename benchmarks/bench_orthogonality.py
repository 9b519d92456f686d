"""Compare the orthogonality penalty with its gradient: ours, PEFT's loop, its compiled form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from measure import Case
from shapes import COUNTS, LLAMA, MANY_SMALL, MEDIUM, MINILM, MatrixSizes, describe, random_factors

from adalora_core import _cpu, ops, reference
from adalora_core.ops import _portable, orthogonality

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def peft_penalty(As: Sequence[torch.Tensor], Bs: Sequence[torch.Tensor]) -> torch.Tensor:
    """Compute the penalty as `AdaLoraModel.forward` of PEFT does, without its lookups by name."""
    penalty = As[0].new_zeros(())
    for factor, gram in ((f, f @ f.T) for f in As):
        penalty = penalty + torch.norm(gram - torch.eye(*gram.size(), out=torch.empty_like(gram)))
        del factor
    for factor, gram in ((f, f.T @ f) for f in Bs):
        penalty = penalty + torch.norm(gram - torch.eye(*gram.size(), out=torch.empty_like(gram)))
        del factor
    return penalty / (len(As) + len(Bs))


class Nothing(torch.autograd.Function):
    """A function that computes nothing: its time is autograd's own for so many tensors."""

    @staticmethod
    def forward(ctx: Any, gradients: list[torch.Tensor], *factors: torch.Tensor) -> torch.Tensor:
        """Save the factors, as the penalty does."""
        ctx.save_for_backward(*factors)
        ctx.gradients = gradients
        return factors[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return gradients that exist already."""
        del grad
        _ = ctx.saved_tensors
        return (None, *ctx.gradients)


def contenders(sizes: MatrixSizes, *, compiled: bool = False) -> dict[str, Callable[[], object]]:
    """Return the functions to compare on one set of matrices."""
    factors = random_factors(sizes)
    As = [A.requires_grad_() for A in factors[0::3]]
    Bs = [B.requires_grad_() for B in factors[2::3]]

    def with_gradient(penalty: Callable[..., torch.Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(penalty(As, Bs), [*As, *Bs])

    found = {
        "ours": with_gradient(ops.orthogonality_penalty),
        "portable": with_gradient(_portable.orthogonality_penalty),
        "peft": with_gradient(peft_penalty),
    }
    if compiled:
        found["compiled"] = with_gradient(torch.compile(reference.orthogonality_penalty))
    return found


def without_memory(step: Callable[[], object]) -> Callable[[], object]:
    """Return `step` with new memory for the gradients in each call, as without the kept one."""

    def call() -> None:
        orthogonality._unused.clear()
        step()

    return call


def beside_kernels(sizes: MatrixSizes) -> dict[str, Callable[[], object]]:
    """Return the penalty with its gradient in each form, and its limit.

    The limit is the kernels of the CPU, and what autograd takes for so many tensors.
    """
    factors = [each.requires_grad_() for each in random_factors(sizes)]
    As, Bs = factors[0::3], factors[2::3]
    every = (*As, *Bs)
    order = orthogonality._Order(As, Bs)
    _, grams, norms = orthogonality._empty_outputs(As[0], order.gram_size, len(As))
    block = torch.zeros(order.entries)

    def kernels() -> None:
        ordered = order.sort(As, Bs)
        _cpu.orthogonality_penalty(*ordered, grams, norms)
        _cpu.orthogonality_gradient(*ordered, grams, norms, 1.0, block)

    def kernels_and_autograd() -> None:
        kernels()
        torch.autograd.grad(Nothing.apply(gradients, *every), every)

    def added() -> None:
        for each, gradient in zip(every, gradients, strict=True):
            each.grad = gradient
        ops.add_orthogonality_gradient_(As, Bs)

    def ours() -> None:
        for each in every:
            each.grad = None
        ops.orthogonality_penalty(As, Bs).backward()

    gradients = order.gradients(torch.zeros(order.entries))
    return {
        "ours": ours,
        "ours with new memory": without_memory(ours),
        "added": added,
        "kernels": kernels,
        "kernels and autograd": kernels_and_autograd,
    }


def cases() -> Iterator[Case]:
    """Yield every comparison of this op."""
    part = "orthogonality"
    yield Case(part, describe(MINILM, "MiniLM"), contenders(MINILM))
    yield Case(part, describe(MEDIUM, "medium"), contenders(MEDIUM), rounds=30)
    yield Case(part, describe(MANY_SMALL, "many small"), contenders(MANY_SMALL), rounds=30)
    yield Case(part, describe(LLAMA, "LLaMA-7B"), contenders(LLAMA), rounds=10)
    for sizes, name in (
        (MINILM, "MiniLM"),
        (MEDIUM, "medium"),
        (MANY_SMALL, "many small"),
        (LLAMA, "LLaMA-7B"),
    ):
        yield Case(
            "orthogonality, kernels",
            describe(sizes, name),
            beside_kernels(sizes),
            against="kernels and autograd",
            goal=1.5,
            at_most=True,
            rounds=30,
        )
    for count in COUNTS:
        sizes = [(768, 768)] * count
        yield Case(
            "orthogonality by count",
            f"{count} matrices",
            contenders(sizes, compiled=count <= 8),  # compiling more takes minutes
        )
