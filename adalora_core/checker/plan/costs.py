"""Compute what an adapter on a given model costs: parameters and bytes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import mul
from typing import TYPE_CHECKING, Any

from adalora_core.checker.plan.modules import starred
from adalora_core.floor.escaping import visible

if TYPE_CHECKING:
    from adalora_core.checker.plan.modules import Injected, Module
    from adalora_core.checker.plan.plan import Plan

AVERAGES = {"adalora-core": 2, "peft": 3}
"""Numbers that the allocator keeps per entry until the final phase: smoothed sensitivity and
uncertainty; PEFT also keeps the last sensitivity."""
_NAMES_SHOWN = 8
_ENTRY_BYTES = {"F64": 8, "F32": 4}
_AFTER_ATTENTION = re.compile(
    r"att(n|ention)\w*\.((output\.)?dense|o|wo|c_proj|o_proj|out_(proj|lin))$", re.IGNORECASE
)
"""Paths of layers that read the result of an attention."""


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of a configuration on a model.

    Trainable parameters at the `start`, and at the `end` if every matrix keeps the average rank,
    or the smallest or the largest ones all of it; `whole` of them have no adapter. Bytes are those
    of A, E and B at the start, of the allocator's running averages by runtime, and of what the
    adapters keep of a batch for its backward pass, if its tokens are known.
    """

    start: int
    end: int
    end_least: int
    end_most: int
    whole: int
    adapter_bytes: int
    allocator_bytes: dict[str, int]
    saved_bytes: int | None


def costs_of(
    plan: Plan, matrices: Sequence[Module], whole: int = 0, tokens: int | None = None
) -> Costs:
    """Return the costs of a plan on adapted matrices, beside `whole` numbers without an adapter."""
    per_rank = [module.entries_per_rank for module in matrices]
    kept = plan.kept_after(plan.schedule.total_step - 1)
    ranks = filled(kept, plan.init_r, len(matrices))
    adapter = sum(plan.init_r * each.entries_per_rank * each.entry_bytes for each in matrices)
    return Costs(
        start=plan.init_r * sum(per_rank) + whole,
        end=round(kept * sum(per_rank) / len(matrices)) + whole,
        end_least=sum(map(mul, ranks, sorted(per_rank))) + whole,
        end_most=sum(map(mul, ranks, sorted(per_rank, reverse=True))) + whole,
        whole=whole,
        adapter_bytes=adapter,
        allocator_bytes={runtime: count * adapter for runtime, count in AVERAGES.items()},
        saved_bytes=tokens and tokens * saved_per_token(matrices, plan.init_r),
    )


def saved_per_token(matrices: Iterable[Module], rank: int) -> int:
    """Return the bytes that adapters keep of a token for the backward pass.

    These are its products with the rows of A, and the input of each layer. Layers of one parent
    share an input, and torch's attention keeps its own result.
    """
    matrices = list(matrices)
    inputs = {
        (each.path.rpartition(".")[0], each.inputs): each.inputs * _ENTRY_BYTES.get(each.dtype, 2)
        for each in matrices
        if not _AFTER_ATTENTION.search(each.path)
    }
    return sum(inputs.values()) + rank * sum(each.entry_bytes for each in matrices)


def filled(triplets: int, most: int, matrices: int) -> list[int]:
    """Divide triplets over matrices: as many as a matrix may have, until none is left.

    Example:
        >>> filled(20, 8, 4)
        [8, 8, 4, 0]
    """
    full, rest = divmod(triplets, most)
    return ([most] * full + [rest] + [0] * matrices)[:matrices]


def as_text(costs: Costs, found: Injected, plan: Plan) -> str:
    """Return the matched modules and the costs as text."""
    groups = _groups(found.matrices)
    width = max(len(name) for name, _ in groups)
    total = found.model.parameters
    count = len(found.matrices)
    average = plan.kept_after(plan.schedule.total_step - 1) / count
    start = f"{costs.start:,} ({share(costs.start, total)})"
    end = f"{costs.end:,} ({share(costs.end, total)})"
    spread = "for every distribution of the rank"
    if costs.end_least < costs.end_most:
        spread = f"if every matrix keeps rank {average:g}, else "
        spread += f"{costs.end_least:,} to {costs.end_most:,}"
    adapter = size_of(costs.adapter_bytes)
    allocator = {runtime: size_of(count) for runtime, count in costs.allocator_bytes.items()}
    lines = [
        f"adapted by {found.asked}: {count} matrices of a model of {total:,} parameters",
        *(f"  {name:<{width}}  {what}" for name, what in groups),
        "",
        f"trainable at the start: {start}, rank {plan.init_r} everywhere",
        f"left at the end: {end} {spread}",
    ]
    if costs.whole:
        lines.append(f"both include {costs.whole:,} trained {without_adapter(found)}")
    lines += [
        f"adapter: {adapter} at the start, plus as much for gradients and twice for AdamW",
        f"allocator: {allocator['adalora-core']}, in PEFT {allocator['peft']}",
    ]
    if costs.saved_bytes is not None:
        lines.append(
            f"kept for the backward pass: {size_of(costs.saved_bytes)} of activations, beside "
            "those of the model"
        )
    lines += [f"note: {visible(note)}" for note in found.notes]
    return "\n".join(lines) + "\n"


def without_adapter(found: Injected) -> str:
    """Return which modules and parameters are trained without an adapter, as text."""
    names = [visible(each) for each in dict.fromkeys(map(starred, found.whole))]
    more = f" and {len(names) - _NAMES_SHOWN} more names" if len(names) > _NAMES_SHOWN else ""
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"without an adapter (modules_to_save, biases, tokens): {shown}{more}"


def share(part: int, total: int) -> str:
    """Return a part of the parameters as a percentage."""
    # A header may name empty tensors alone.
    return f"{part / total:.2%}" if total else "the model has no parameters"


def size_of(count: float, *, binary: bool = False) -> str:
    """Return a number of bytes with at least three digits and its unit: MB or, by 1024, MiB."""
    step, units = (1024, ("KiB", "MiB", "GiB")) if binary else (1000, ("kB", "MB", "GB"))
    for unit in ("bytes", *units[:2]):
        if count < step:
            digits = max(3, len(f"{count:.0f}"))
            return f"{count:.{digits}g} {unit}"
        count /= step
    return f"{count:,.2f} {units[2]}"


def _groups(matrices: Iterable[Module]) -> list[tuple[str, str]]:
    """Return name and size once for modules that differ only in the numbers of their paths."""
    counts = Counter((starred(each.path), each.inputs, each.outputs) for each in matrices)
    return [
        (visible(name), f"{count} x [{inputs} -> {outputs}]")
        for (name, inputs, outputs), count in counts.items()
    ]


def as_dict(costs: Costs, found: Injected) -> dict[str, Any]:
    """Return the matched modules and the costs as JSON values."""
    return {
        "asked": found.asked,
        "base_parameters": found.model.parameters,
        "matrices": [
            {"module": each.path, "inputs": each.inputs, "outputs": each.outputs}
            for each in found.matrices
        ],
        "trainable_parameters": {
            "start": costs.start,
            "end": costs.end,
            "end_least": costs.end_least,
            "end_most": costs.end_most,
            "trained_whole": costs.whole,
        },
        "trained_whole_names": found.whole,
        "adapter_bytes": costs.adapter_bytes,
        "allocator_bytes": costs.allocator_bytes,
        "saved_bytes": costs.saved_bytes,
        "notes": list(found.notes),
    }
