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
    """Return whole steps and their updates alone, ours and PEFT's."""
    peft = PeftAllocator(random_factors(sizes))
    parameters = peft.parameters
    entries = sum(p.numel() for p in parameters)
    smoothed, uncertainty = torch.zeros(entries), torch.zeros(entries)

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
        select(scores, peft.triplets * 2 // 3, parameters[1::3])

    return {
        "our step": lambda: whole(update, ops.select_triplets),
        "our update": update,
        "portable step": lambda: whole(portable_update, _portable.select_triplets),
        "portable update": portable_update,
        "peft step": peft.update_and_mask,
        "peft update": peft.update,
    }


def cases() -> Iterator[Case]:
    """Yield every comparison of this op."""
    minus = {
        "ours": ("our step", "our update"),
        "portable": ("portable step", "portable update"),
        "peft": ("peft step", "peft update"),
    }
    for sizes, name, goal, rounds in (
        (MINILM, "MiniLM", None, 30),
        (MEDIUM, "medium", 30, 30),
        (MANY_SMALL, "many small", 30, 30),
        (LLAMA, "LLaMA-7B", None, 10),
    ):
        label = describe(sizes, name)
        yield Case("selection", label, contenders(sizes), goal=goal, minus=minus, rounds=rounds)
