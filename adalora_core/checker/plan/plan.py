"""Compute what a configuration does to the ranks, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adalora_core.config.fields.block import AUTO, Block
from adalora_core.floor.adapter_spec import scale_of

if TYPE_CHECKING:
    from adalora_core.floor.budget import BudgetSchedule


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
