"""The budget schedule: how many triplets all matrices together may keep at each optimizer step.

Three phases, counted in 0-based optimizer steps: WARMUP (`step <= tinit`, every triplet is kept),
BUDGETING (the budget falls with a cubic, paper equation 14 with the corrected numerator that both
the authors' code and PEFT use) and FINAL (`step >= total_step - tfinal`, the target budget).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import NamedTuple


class Phase(enum.Enum):
    """The three parts of a schedule."""

    WARMUP = "warmup"
    BUDGETING = "budgeting"
    FINAL = "final"


class ScheduledStep(NamedTuple):
    """What a schedule asks for at one step.

    Attributes:
        phase: the phase of the step.
        budget: how many triplets all matrices together may keep after the step.
        kept: how many they do keep after it, which is the budget of the last allocation.
        allocates: whether the kept set is chosen anew at the step.
    """

    phase: Phase
    budget: int
    kept: int
    allocates: bool


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
        >>> [schedule.at(step).budget for step in (10, 11, 45, 79, 80)]
        [144, 141, 102, 96, 96]
        >>> schedule.at(80).phase
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

    def for_matrices(self, count: int) -> BudgetSchedule:
        """Return the schedule of `count` matrices, each with the budget of this one.

        Example:
            >>> one = BudgetSchedule(12, 8, tinit=10, tfinal=20, total_step=100, deltaT=1)
            >>> one.for_matrices(12).target_budget
            96
        """
        first, last = self.initial_budget * count, self.target_budget * count
        return replace(self, initial_budget=first, target_budget=last)

    def at(self, step: int) -> ScheduledStep:
        """Return what is in force at the 0-based `step`."""
        first, last = self.initial_budget, self.target_budget
        if step >= self.final_start:
            return ScheduledStep(Phase.FINAL, last, last, allocates=step == self.final_start)
        if step <= self.tinit:
            return ScheduledStep(Phase.WARMUP, first, first, allocates=False)
        allocated = step - step % self.deltaT
        kept = self._falling_budget(allocated) if allocated > self.tinit else first
        budget = self._falling_budget(step)
        return ScheduledStep(Phase.BUDGETING, budget, kept, allocates=allocated == step)

    def _falling_budget(self, step: int) -> int:
        # The order of operations is PEFT's: int() must see the same double.
        remaining = 1 - (step - self.tinit) / (self.total_step - self.tfinal - self.tinit)
        return int((self.initial_budget - self.target_budget) * (remaining**3) + self.target_budget)

    def allocation_count(self) -> int:
        """Return how many steps of the budgeting phase choose the kept set anew.

        The forced selection at the start of the final phase is not counted.
        """
        return max(0, self._last // self.deltaT - max(self.tinit, -1) // self.deltaT)

    def last_allocation(self) -> int | None:
        """Return the last step of the budgeting phase that chooses the kept set, None without one.

        Example:
            >>> BudgetSchedule(12, 8, tinit=0, tfinal=0, total_step=20, deltaT=8).last_allocation()
            16
        """
        return self._last // self.deltaT * self.deltaT if self.allocation_count() else None

    @property
    def _last(self) -> int:
        """Last step of the budgeting phase; a negative tfinal is past the end of the run."""
        return min(self.final_start, self.total_step) - 1
