"""Compare scoring and masking, ours, portable and PEFT's: whole steps minus the update alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from measure import Case
from peft_allocator import PeftAllocator
from shapes import LLAMA, MANY_SMALL, MEDIUM, MINILM, MatrixSizes, describe, random_factors

from adalora_core import ops
from adalora_core.ops import _portable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BETA = 0.85


def contenders(sizes: MatrixSizes) -> dict[str, Callable[[], object]]:
    """Return whole steps and their updates alone, ours and PEFT's, and a limit of the difference.

    The limit is what no other way goes without: a product of both averages, and torch's `topk`.
    """
    peft = PeftAllocator(random_factors(sizes))
    parameters = peft.parameters
    entries = sum(p.numel() for p in parameters)
    smoothed, uncertainty = torch.zeros(entries), torch.zeros(entries)
    product, random_scores = torch.zeros(entries), torch.rand(peft.triplets)
    budget = peft.triplets * 2 // 3

    def limit() -> None:
        torch.mul(smoothed, uncertainty, out=product)
        torch.topk(random_scores, budget)

    def update(scores: torch.Tensor | None = None) -> None:
        ops.update_importance(parameters, None, smoothed, uncertainty, BETA, BETA, scores=scores)

    def portable_update(scores: torch.Tensor | None = None) -> None:
        _portable.update_importance(
            parameters,
            [p.grad for p in parameters],
            smoothed,
            uncertainty,
            BETA,
            BETA,
            scores=scores,
        )

    def whole(update: Callable[[torch.Tensor], None], select: Callable[..., object]) -> None:
        scores = smoothed.new_empty(peft.triplets)
        update(scores)
        select(scores, budget, parameters[1::3])

    return {
        "our step": lambda: whole(update, ops.select_triplets),
        "our update": update,
        "portable step": lambda: whole(portable_update, _portable.select_triplets),
        "portable update": portable_update,
        "peft step": peft.update_and_mask,
        "peft update": peft.update,
        "torch": limit,
    }


def cases() -> Iterator[Case]:
    """Yield every comparison of this op."""
    minus = {
        "ours": ("our step", "our update"),
        "portable": ("portable step", "portable update"),
        "peft": ("peft step", "peft update"),
    }
    for sizes, name, rounds in (
        (MINILM, "MiniLM", 30),
        (MEDIUM, "medium", 30),
        (MANY_SMALL, "many small", 30),
        (LLAMA, "LLaMA-7B", 10),
    ):
        label, functions = describe(sizes, name), contenders(sizes)
        yield Case("selection", label, functions, minus=minus, rounds=rounds)
        yield Case(
            "selection, torch",
            label,
            {each: functions[each] for each in ("our step", "our update", "torch")},
            against="torch",
            goal=1.0,
            at_most=True,
            minus={"ours": minus["ours"]},
            rounds=rounds,
        )
        del functions  # the tensors of a large model, before the next ones are made
