"""Compare updates of the averages: ours, portable, PEFT's, torch._foreach, compiled, a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from measure import Case
from peft_allocator import PeftAllocator
from shapes import COUNTS, LLAMA, MANY_SMALL, MEDIUM, MINILM, MatrixSizes, describe, random_factors

from adalora_core import ops
from adalora_core.ops import _portable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BETA = 0.85


def foreach_update(
    p: list[torch.Tensor], g: list[torch.Tensor], m: list[torch.Tensor], u: list[torch.Tensor]
) -> None:
    """Update the averages with torch's multi-tensor ops, in as few passes as they allow."""
    sensitivity = torch._foreach_mul(p, g)
    torch._foreach_abs_(sensitivity)
    torch._foreach_lerp_(m, sensitivity, 1 - BETA)
    torch._foreach_sub_(sensitivity, m)
    torch._foreach_abs_(sensitivity)
    torch._foreach_lerp_(u, sensitivity, 1 - BETA)


def contenders(sizes: MatrixSizes, *, compiled: bool = False) -> dict[str, Callable[[], object]]:
    """Return the functions to compare on one set of matrices."""
    peft = PeftAllocator(random_factors(sizes))
    parameters = peft.parameters
    averages = [[torch.zeros_like(p).detach() for p in parameters] for _ in range(2)]
    entries = sum(p.numel() for p in parameters)
    smoothed, uncertainty = torch.zeros(entries), torch.zeros(entries)
    traffic = 3 * entries
    source, target = torch.zeros(traffic), torch.zeros(traffic)

    def ours() -> None:
        ops.update_importance(parameters, None, smoothed, uncertainty, BETA, BETA)

    flat = [torch.zeros(entries), torch.zeros(entries)]

    def portable() -> None:
        _portable.update_importance(parameters, [p.grad for p in parameters], *flat, BETA, BETA)

    plain = [p.detach() for p in parameters]

    def foreach() -> None:
        foreach_update(plain, [p.grad for p in parameters], *averages)

    found: dict[str, Callable[[], object]] = {
        "ours": ours,
        "portable": portable,
        "peft": peft.update,
        "foreach": foreach,
        # The same 24 bytes per entry: three floats read and three written.
        "copy": lambda: target.copy_(source),
    }
    if compiled:
        fused = torch.compile(foreach_update)
        found["compiled"] = lambda: fused(plain, [p.grad for p in parameters], *averages)
    return found


def beside_copy(sizes: MatrixSizes, label: str) -> Case:
    """Return the comparison with a copy of as many bytes, the limit of this op."""
    found = contenders(sizes)
    functions = {each: found.pop(each) for each in ("ours", "copy")}
    return Case("importance, copy", label, functions, against="copy", goal=1.0, rounds=30)


def cases() -> Iterator[Case]:
    """Yield every comparison of this op."""
    part = "importance"
    for sizes, name, rounds, goal in (
        (MINILM, "MiniLM", 50, 3.0),
        (MEDIUM, "medium", 30, 1.5),
        (MANY_SMALL, "many small", 50, 3.0),
        (LLAMA, "LLaMA-7B", 10, 1.5),
    ):
        label = describe(sizes, name)
        functions = contenders(sizes, compiled=sizes is MINILM)
        yield Case(part, label, functions, rounds=rounds)
        functions = {"ours": functions["portable"], "peft": functions["peft"]}
        yield Case(f"{part}, portable", label, functions, goal=goal, rounds=rounds)
        del functions  # the tensors of a large model, before the next ones are made
        yield beside_copy(sizes, label)
    for count in COUNTS:
        sizes = [(768, 768)] * count
        yield Case("importance by count", f"{count} matrices", contenders(sizes))
