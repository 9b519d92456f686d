"""The budget schedule: how many triplets all matrices together may keep at each optimizer step.

Three phases, counted in 0-based optimizer steps: WARMUP (`step <= tinit`, every triplet is kept),
BUDGETING (the budget falls with a cubic, paper equation 14 with the corrected numerator that both
the authors' code and PEFT use) and FINAL (`step >= total_step - tfinal`, the target budget).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Phase(enum.Enum):
    """Where a step lies in the schedule."""

    WARMUP = "warmup"
    BUDGETING = "budgeting"
    FINAL = "final"


@dataclass(frozen=True, slots=True)
class BudgetSchedule:
    """Budget as a function of the optimizer step.

    `b(t) = int((b0 - bT) * (1 - (t - tinit) / (total_step - tfinal - tinit))**3 + bT)`
    between the warm-up and the final phase (paper equation 14).

    Args:
        initial_budget: triplets over all matrices at the start, `init_r` summed over matrices.
        target_budget: triplets over all matrices at the end.
        tinit: optimizer steps before the first allocation.
        tfinal: length of the final phase in optimizer steps (a duration, not an end step).
        total_step: optimizer steps of the whole run.
        deltaT: allocate at every step divisible by it.

    Example:
        >>> schedule = BudgetSchedule(144, 96, tinit=10, tfinal=20, total_step=100, deltaT=1)
        >>> [schedule.budget_at(step) for step in (10, 11, 45, 79, 80)]
        [144, 141, 102, 96, 96]
        >>> schedule.phase_at(80)
        <Phase.FINAL: 'final'>
    """

    initial_budget: int
    target_budget: int
    tinit: int
    tfinal: int
    total_step: int
    deltaT: int  # noqa: N815 - the wire name

    @property
    def final_start(self) -> int:
        """First step of the final phase, where the target budget is enforced."""
        return self.total_step - self.tfinal

    def phase_at(self, step: int) -> Phase:
        """Return the phase that the 0-based `step` lies in."""
        if step >= self.final_start:
            return Phase.FINAL
        return Phase.WARMUP if step <= self.tinit else Phase.BUDGETING

    def budget_at(self, step: int) -> int:
        """Return how many triplets all matrices together may keep after `step`."""
        phase = self.phase_at(step)
        if phase is Phase.WARMUP:
            return self.initial_budget
        if phase is Phase.FINAL:
            return self.target_budget
        # The order of operations is PEFT's: int() must see the same double.
        remaining = 1 - (step - self.tinit) / (self.total_step - self.tfinal - self.tinit)
        return int((self.initial_budget - self.target_budget) * (remaining**3) + self.target_budget)

    def is_allocation_step(self, step: int) -> bool:
        """Return whether the kept set is chosen anew at `step`."""
        phase = self.phase_at(step)
        if phase is Phase.BUDGETING:
            return step % self.deltaT == 0
        return step == self.final_start

    def allocation_count(self) -> int:
        """Return how many steps of the budgeting phase choose the kept set anew.

        The forced selection at the start of the final phase is not counted.
        """
        last = self.final_start - 1
        return max(0, last // self.deltaT - self.tinit // self.deltaT)
