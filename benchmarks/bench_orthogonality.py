"""Compare the orthogonality penalty with its gradient: ours, PEFT's loop, its compiled form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from measure import Case
from shapes import COUNTS, MANY_SMALL, MEDIUM, MINILM, MatrixSizes, describe, random_factors

from adalora_core import ops, reference
from adalora_core.ops import _portable

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


def cases() -> Iterator[Case]:
    """Yield every comparison of this op."""
    part = "orthogonality"
    yield Case(part, describe(MINILM, "MiniLM"), contenders(MINILM))
    yield Case(part, describe(MEDIUM, "medium"), contenders(MEDIUM), goal=10, rounds=30)
    yield Case(part, describe(MANY_SMALL, "many small"), contenders(MANY_SMALL), goal=10, rounds=30)
    for count in COUNTS:
        sizes = [(768, 768)] * count
        yield Case(
            "orthogonality by count",
            f"{count} matrices",
            contenders(sizes, compiled=count <= 8),  # compiling more takes minutes
        )
