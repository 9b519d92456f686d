"""Compute what a configuration does to the ranks, step by step, and what it costs on a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Any

from adalora_core.checker.plan.modules import Injected, Module, starred
from adalora_core.config.fields.block import AUTO, Block
from adalora_core.floor.adapter_spec import scale_of
from adalora_core.floor.budget import BudgetSchedule
from adalora_core.floor.escaping import visible


@dataclass(frozen=True, slots=True)
class PhaseSpan:
    """One of the three phases, in 0-based optimizer steps, both ends included.

    If a phase has no steps, `last` is less than `first`.
    """

    name: str
    first: int
    last: int
    what: str

    @property
    def length(self) -> int:
        """Number of steps."""
        return max(0, self.last - self.first + 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """The schedule of a configuration that can be trained, for all its adapted matrices."""

    schedule: BudgetSchedule
    matrices: int
    lora_alpha: float
    init_r: int

    @property
    def scale(self) -> float:
        """The factor on the adapter's output, equal at every step."""
        return scale_of(self.lora_alpha, self.init_r)

    def kept_after(self, step: int) -> int:
        """Return the triplets that all matrices keep after `step`, by the last allocation."""
        return self.schedule.at(step).kept

    def phases(self) -> tuple[PhaseSpan, PhaseSpan, PhaseSpan]:
        """Return warm-up, budgeting and final phase."""
        schedule = self.schedule
        start, total = schedule.final_start, schedule.total_step
        count = schedule.allocation_count()
        reached = self.kept_after(total - 1) / self.matrices
        final = f"rank {reached:g} on average"
        if schedule.tfinal:
            final += f", selected at step {start}"
        every = "every step" if schedule.deltaT == 1 else f"every {schedule.deltaT} steps"
        allocations = f"{count} allocation{'' if count == 1 else 's'}, {every}"
        return (
            PhaseSpan("warm-up", 0, schedule.tinit, f"every matrix has rank {self.init_r}"),
            PhaseSpan("budgeting", schedule.tinit + 1, start - 1, allocations),
            PhaseSpan("final", start, total - 1, final),
        )

    def curve(self, points: int) -> list[tuple[int, float]]:
        """Return (step, average rank after it) at `points` steps from the first to the last."""
        last = self.schedule.total_step - 1
        steps = sorted({round(last * index / max(1, points - 1)) for index in range(points)})
        return [(step, self.kept_after(step) / self.matrices) for step in steps]


MANY_MATRICES = 100
"""Assumed number of matrices if the model is unknown; large, so that the curve is smooth."""


def plan_of(block: Block, matrices: int = MANY_MATRICES) -> Plan:
    """Return the plan of a block that has no errors, for a model with so many adapted matrices.

    Raises:
        ValueError: total_step is not set, as in an adapter for inference, or is "auto".
    """
    if block["total_step"] == AUTO:
        raise ValueError(
            "total_step is 'auto', which is known only when training starts; set it to a number"
        )
    schedule = block.schedule
    if schedule is None:
        raise ValueError(
            "the configuration has no schedule: total_step is not set; set it to a number"
        )
    scaled = schedule.for_matrices(matrices)
    return Plan(scaled, matrices, block["lora_alpha"], block["init_r"])


def as_dict(plan: Plan, *, with_budget: bool) -> dict[str, Any]:
    """Return the plan as JSON values; the arguments are those of `as_text`."""
    schedule = plan.schedule
    last = plan.kept_after(schedule.total_step - 1)
    entries: dict[str, Any] = {
        "phases": [
            {"name": phase.name, "first": phase.first, "last": phase.last, "steps": phase.length}
            for phase in plan.phases()
        ],
        "allocations": schedule.allocation_count(),
        "scale": plan.scale,
        "average_rank": {"start": plan.init_r, "end": last / plan.matrices},
    }
    if with_budget:
        entries["budget"] = {
            "matrices": plan.matrices, "start": schedule.initial_budget, "end": last
        }  # fmt: skip
    return entries


WIDTH, HEIGHT = 60, 10


def as_text(plan: Plan, *, with_budget: bool) -> str:
    """Return phases, scale and curve as text, and the budget if the matrices are known."""
    phases = plan.phases()
    digits = len(str(plan.schedule.total_step))
    lines = ["phases, in optimizer steps counted from 0"]
    for phase in phases:
        span = f"{phase.first:>{digits}} to {phase.last:>{digits}}" if phase.length else "none"
        length = f"{phase.length:>{digits}} step{' ' if phase.length == 1 else 's'}"
        lines.append(f"  {phase.name:<10}{span:<{2 * digits + 6}}{length}   {phase.what}")
    ratio = f"{plan.lora_alpha} / {plan.init_r} = {plan.scale:.4g}"
    lines += ["", f"scale: lora_alpha / init_r = {ratio}, also after pruning"]
    if with_budget:
        schedule = plan.schedule
        lines.append(
            f"budget: {schedule.initial_budget} triplets of {plan.matrices} matrices at the start, "
            f"{plan.kept_after(schedule.total_step - 1)} at the end"
        )
    return "\n".join([*lines, "", *_draw(plan.curve(WIDTH))]) + "\n"


def _draw(curve: Sequence[tuple[int, float]]) -> list[str]:
    """Draw the curve with a star per point, from the largest to the smallest rank."""
    ranks = [rank for _, rank in curve]
    top, bottom = max(ranks), min(ranks)
    height = HEIGHT if top > bottom else 1
    margin = max(len(f"{top:g}"), len(f"{bottom:g}"))
    grid = [[" "] * len(curve) for _ in range(height)]
    for column, rank in enumerate(ranks):
        row = round((top - rank) / (top - bottom) * (height - 1)) if height > 1 else 0
        grid[row][column] = "*"
    labels = {0: f"{top:g}", height - 1: f"{bottom:g}"}
    last = str(curve[-1][0])
    return [
        "average rank",
        *(
            f"{labels.get(row, ''):>{margin}} |{''.join(marks).rstrip()}"
            for row, marks in enumerate(grid)
        ),
        f"{'':>{margin}} +{'-' * len(curve)}",
        f"{'':>{margin}}  0{last:>{max(len(curve) - 1, len(last) + 1)}}",
    ]


AVERAGES = {"adalora-core": 2, "peft": 3}
"""Numbers that the allocator keeps per entry until the final phase: smoothed sensitivity and
uncertainty; PEFT also keeps the last sensitivity."""
_NAMES_SHOWN = 8


def costs_of(plan: Plan, found: Injected) -> dict[str, Any]:
    """Return the matched modules and the costs of a plan as JSON values.

    Trainable parameters are those at the start, and at the end if every matrix keeps the average
    rank, or the smallest or the largest ones all of it. Bytes are those of A, E and B at the start,
    and of the allocator's running averages by runtime.
    """
    matrices, whole = found.matrices, found.beside
    per_rank = sorted(module.entries_per_rank for module in matrices)
    kept = plan.kept_after(plan.schedule.total_step - 1)
    ranks = filled(kept, plan.init_r, len(matrices))
    adapter = sum(plan.init_r * each.entries_per_rank * each.entry_bytes for each in matrices)
    return {
        "asked": found.asked,
        "base_parameters": found.model.parameters,
        "matrices": [
            {"module": each.path, "inputs": each.inputs, "outputs": each.outputs}
            for each in matrices
        ],
        "trainable_parameters": {
            "start": plan.init_r * sum(per_rank) + whole,
            "end": round(kept * sum(per_rank) / len(matrices)) + whole,
            "end_least": sum(map(mul, ranks, per_rank)) + whole,
            "end_most": sum(map(mul, ranks, reversed(per_rank))) + whole,
            "trained_whole": whole,
        },
        "trained_whole_names": found.whole,
        "adapter_bytes": adapter,
        "allocator_bytes": {runtime: count * adapter for runtime, count in AVERAGES.items()},
        "notes": list(found.notes),
    }


def costs_as_text(costs: dict[str, Any], found: Injected, plan: Plan) -> str:
    """Return what `costs_of` returns as text."""
    groups = _groups(found.matrices)
    width = max(len(name) for name, _ in groups)
    total, count = found.model.parameters, len(found.matrices)
    trained, allocator = costs["trainable_parameters"], costs["allocator_bytes"]
    start = f"{trained['start']:,} ({share(trained['start'], total)})"
    end = f"{trained['end']:,} ({share(trained['end'], total)})"
    spread = "for every distribution of the rank"
    if trained["end_least"] < trained["end_most"]:
        average = plan.kept_after(plan.schedule.total_step - 1) / count
        spread = f"if every matrix keeps rank {average:g}, else "
        spread += f"{trained['end_least']:,} to {trained['end_most']:,}"
    lines = [
        f"adapted by {found.asked}: {count} matrices of a model of {total:,} parameters",
        *(f"  {name:<{width}}  {what}" for name, what in groups),
        "",
        f"trainable at the start: {start}, rank {plan.init_r} everywhere",
        f"left at the end: {end} {spread}",
    ]
    if found.beside:
        lines.append(f"both include {found.beside:,} trained {without_adapter(found)}")
    adapter = size_of(costs["adapter_bytes"])
    lines += [
        f"adapter: {adapter} at the start, plus as much for gradients and twice for AdamW",
        f"allocator: {size_of(allocator['adalora-core'])}, in PEFT {size_of(allocator['peft'])}",
        *(f"note: {visible(note)}" for note in found.notes),
    ]
    return "\n".join(lines) + "\n"


def filled(triplets: int, most: int, matrices: int) -> list[int]:
    """Divide triplets over matrices: as many as a matrix may have, until none is left.

    Example:
        >>> filled(20, 8, 4)
        [8, 8, 4, 0]
    """
    full, rest = divmod(triplets, most)
    return ([most] * full + [rest] + [0] * matrices)[:matrices]


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
