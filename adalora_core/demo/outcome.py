"""Hold the results of one run as data, for the summary and the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adalora_core.demo.settings import DemoSettings
    from adalora_core.floor.budget import BudgetSchedule

TOLERANCE = 1e-4
"""Largest difference of a logit between our model and PEFT's that counts as the same prediction."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results that the summary and the report show.

    Args:
        settings: the settings of the run.
        schedule: the budget of all adapted matrices together.
        probe_accuracy: held-out accuracy of a linear classifier on the frozen encoder.
        adapted_accuracy: held-out accuracy of the encoder with adapters and head.
        ranks: `{module path: triplets kept}`.
        trainable_parameters: number of parameters of adapters and head at the start.
        base_parameters: number of parameters of the frozen encoder.
        training_seconds: time of the training loop alone.
        prediction_difference: largest difference of a held-out logit after reloading with PEFT.
    """

    settings: DemoSettings
    schedule: BudgetSchedule
    probe_accuracy: float
    adapted_accuracy: float
    ranks: dict[str, int]
    trainable_parameters: int
    base_parameters: int
    training_seconds: float
    prediction_difference: float

    @property
    def rank_sum(self) -> int:
        """Triplets that all matrices together keep at the end."""
        return sum(self.ranks.values())

    def faults(self) -> list[str]:
        """Return the faults of the result, one sentence each."""
        found = []
        if self.rank_sum != self.schedule.target_budget:
            found.append(
                f"the ranks sum to {self.rank_sum}, the target budget is "
                f"{self.schedule.target_budget}"
            )
        # This form makes NaN a fault too.
        if not self.prediction_difference < TOLERANCE:
            found.append(
                f"after reloading with PEFT a prediction differs by "
                f"{self.prediction_difference:.1e}, expected less than {TOLERANCE:.0e}"
            )
        return found


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """One phase of a schedule in absolute 0-based optimizer steps, both ends included."""

    name: str
    first_step: int
    last_step: int
    meaning: str


def phase_rows(schedule: BudgetSchedule) -> list[PhaseRow]:
    """Return the phases of a valid schedule in order."""
    start, end = schedule.initial_budget, schedule.target_budget
    return [
        PhaseRow("warmup", 0, schedule.tinit, f"all {start} triplets are trained"),
        PhaseRow(
            "budgeting",
            schedule.tinit + 1,
            schedule.final_start - 1,
            f"the budget falls from {start} to {end} in {schedule.allocation_count()} allocations",
        ),
        PhaseRow(
            "final",
            schedule.final_start,
            schedule.total_step - 1,
            f"the kept {end} triplets are fixed and trained on",
        ),
    ]
