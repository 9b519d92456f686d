"""Watch runs for faults: a class per finding, each with its state, its threshold and its rule."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import torch

from adalora_core.config.rules import runs
from adalora_core.floor.budget import Phase
from adalora_core.sharding.layout import are_sharded, local_part
from adalora_core.training.run.automatic import CERTAIN, MISSED_STEPS, most_missed
from adalora_core.training.run.refusals import MergedWhileTrained
from adalora_core.training.run.results import BudgetIsReached, MatricesHaveGradients
from adalora_core.training.run.watch import (
    Call,
    End,
    RunWatch,
    Step,
    Watcher,
    calls_between_looks,
)

if TYPE_CHECKING:
    from adalora_core.allocation import RankAllocator

LONGEST_OVERFLOW = 50
"""Steps in a row that a gradient scaler may skip: it halves a scale of 65,536 each time."""


class _OptimizerHoldsFactors(Watcher):
    """Count which factors are held by optimizers that make steps."""

    rule = runs.OptimizerWithoutFactors

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._steps: Counter[int] = Counter()
        self._others = self._others_since = 0

    def step(self, run: RunWatch, step: Step) -> str:
        total = 3 * len(step.allocator.matrices)
        if len(self._held) == total:
            return ""
        self._held |= step.held
        missing, factors = set(range(total)) - self._held, step.allocator.parameters()
        # An E if possible.
        first = min(missing, key=lambda index: (index % 3 != 1, index), default=None)
        if first is None or factors[first].grad is None:
            return ""
        self._others += 1
        self._others_since += 1
        optimizer = step.optimizer
        trained = chain.from_iterable(group["params"] for group in optimizer.param_groups)
        if not step.held and any(each.grad is not None for each in trained):
            return ""
        self._steps[id(optimizer)] += 1
        count = self._steps[id(optimizer)]
        made = f"{type(optimizer).__name__} made {count} steps and"
        return self._finding(made, run, step.allocator) if count > 1 else ""

    def allocation(self, run: RunWatch, call: Call) -> str:
        others, self._others_since = self._others_since, 0
        if not others or self._held or call.changed is None or int(call.changed):
            return ""
        made = f"after {self._others} steps every optimizer that makes steps"
        return self._finding(made, run, call.allocator)

    def _finding(self, made: str, run: RunWatch, allocator: RankAllocator) -> str:
        held = f"{len(self._held)} of the {3 * len(allocator.matrices)} factors"
        return f"{made} holds {held} of {run.adapter}"


class _ScheduleFits(Watcher):
    """Look for calls after `finalize()` whose steps are before the final phase."""

    rule = runs.ScheduleDoesNotFit

    def allocation(self, run: RunWatch, call: Call) -> str:
        schedule, step = call.allocator.schedule, call.done.step
        is_early = call.last is not None and call.last < step < schedule.final_start
        if not (is_early and call.allocator.target_reached):
            return ""
        return (
            f"update_and_allocate of {run.adapter} got step {step} of {schedule.total_step} after "
            "finalize(): its kept set is final and stays as it is"
        )


class _StepsInOrder(Watcher):
    """Compare the step of each call with the one before.

    A loop may make no call where a gradient scaler skips the step, so a step that is too high is a
    fault only if there were fewer training forwards than steps. None is seen with torch.compile.
    """

    rule = runs.StepsOutOfOrder
    UNSEEN = LONGEST_OVERFLOW
    MOST_JUMPS = 4

    def __init__(self) -> None:
        self._jumps_in_a_row = self._several = 0

    def allocation(self, run: RunWatch, call: Call) -> str:
        step, total = call.done.step, call.allocator.schedule.total_step
        fault = self._fault(call, step, call.forwards or self.UNSEEN)
        # Counts from 1, as in an example of PEFT, end at total_step.
        if not fault and step > total and runs.ScheduleDoesNotFit.code not in run.findings:
            fault = f", and its total_step is {total}: the schedule ended before the run"
        if not fault:
            return ""
        seen = f"update_and_allocate of {run.adapter} got step {step}{fault}"
        if call.last is None and run.finished_at is not None and step >= run.finished_at:
            return f"{seen}, and the adapter comes from a finished run of {run.finished_at} steps"
        if call.last is None and run.lacks_state:
            run.report_missing_state(seen)
            return ""
        return seen

    def _fault(self, call: Call, step: int, most: int) -> str:
        if call.last is None:
            return " first" if step > most else ""
        distance = step - call.last
        if distance == 0:
            return (
                " a second time, so its gradients count twice in the importance; where "
                "allocate_on_step or AdaLoraCallback calls it, take it out of the loop"
            )
        if distance < 0:
            return f" after step {call.last}: the steps go back"
        if distance == 1:
            self._jumps_in_a_row = self._several = 0
            return ""
        self._jumps_in_a_row += 1
        self._several += call.since > 1
        if distance > most or self._several > 1 or self._jumps_in_a_row > self.MOST_JUMPS:
            made = f"with {call.since} steps of the optimizer between"
            return f" after step {call.last}: the steps jump, {made}"
        return ""


class _AllocationIsCalled(Watcher):
    """Compare the steps of the optimizer with the calls of the allocator."""

    rule = runs.AllocationNotCalled

    def step(self, run: RunWatch, step: Step) -> str:
        total = step.allocator.schedule.total_step
        missed = max(run.steps_since, run.optimizer_steps - run.calls)
        is_known = step.allocator.target_reached or runs.StepsOutOfOrder.code in run.findings
        is_known |= run.automatic.is_expected(run)
        if is_known or missed < most_missed(total):
            return ""
        return (
            f"the optimizer made {missed} steps on {run.adapter} without "
            f"model.update_and_allocate(step), of the {total} steps of its schedule"
        )

    def end(self, run: RunWatch, end: End) -> str:
        if end.allocator.target_reached or end.is_called:
            return ""
        seen, without = run.optimizer_steps, "without model.update_and_allocate(step)"
        if seen and end.what:
            return f"{run.adapter} is {end.what} after {seen} steps of the optimizer {without}"
        # Engines, and a compiled step of an optimizer, call no hook.
        if run.forwards < CERTAIN or not run.has_learned_unseen:
            return ""
        return (
            f"E of {run.adapter} has changed in {run.forwards} forwards, {without} and without a "
            "step of an optimizer that a hook sees"
        )


class _AllocationPerStep(Watcher):
    """Count calls without a step since the call before."""

    rule = runs.AllocationPerMicroBatch

    def allocation(self, run: RunWatch, call: Call) -> str:
        is_extra = call.stepped is False and call.has_gradient and call.done.step != call.last
        if not is_extra or not run.optimizer_steps or call.done.phase is Phase.FINAL:
            return ""
        run.extra_calls += not int(call.entries)  # else the step was skipped
        if run.extra_calls < CERTAIN or 3 * run.extra_calls < run.calls:
            return ""
        return (
            f"{run.extra_calls} of {run.calls} calls of update_and_allocate for {run.adapter} came "
            "without a step of the optimizer since the call before, which made "
            f"{run.optimizer_steps} steps"
        )


class _AllocationAfterStep(Watcher):
    """Count calls that find other gradients than the last step has left."""

    rule = runs.AllocationNotAfterStep

    def __init__(self) -> None:
        self._changed = 0

    def allocation(self, run: RunWatch, call: Call) -> str:
        if not call.gradients or run.extra_calls:
            return ""
        self._changed += 1
        return (
            f"the gradients of {run.adapter} {call.gradients} between optimizer.step() and "
            f"update_and_allocate({call.done.step}), at {self._changed} of {run.calls} calls"
            if self._changed > 1
            else ""
        )


class _GradientIsThere(Watcher):
    """Count calls without a gradient, and allocations by gradients of E that are all 0."""

    rule = runs.NoGradient

    def __init__(self) -> None:
        self._missing = self._zero = 0
        self._had_gradient = False

    def allocation(self, run: RunWatch, call: Call) -> str:
        deltaT = call.allocator.schedule.deltaT
        self._had_gradient |= call.has_gradient
        self._missing = 0 if call.has_gradient else self._missing + (call.since > 0)
        if not call.done.allocated or call.done.phase is Phase.FINAL:
            return ""
        if call.nonzero is not None:
            self._zero = 0 if int(call.nonzero) else self._zero + 1
            if self._zero > 1:
                return self._finding(f"was zero at {self._zero} allocations in a row", run, call)
        never = not self._had_gradient and not run.optimizer_steps
        limit = LONGEST_OVERFLOW if never else max(2, deltaT)
        # That a frozen E does not change is found elsewhere.
        is_trained = any(each.requires_grad for each in call.allocator.parameters()[1::3])
        if (call.number if never else self._missing) < limit or not is_trained:
            return ""
        return self._finding(f"was missing at {max(self._missing, limit)} calls", run, call)

    def _finding(self, how: str, run: RunWatch, call: Call) -> str:
        until = f"up to the allocation at step {call.done.step}"
        is_known = runs.AllocationNotAfterStep.code in run.findings
        return "" if is_known else f"the gradient of every factor of {run.adapter} {how}, {until}"


class _LossIsFinite(Watcher):
    """Count steps in a row with gradients that are not finite."""

    rule = runs.LossNotFinite

    def __init__(self) -> None:
        self._in_a_row = 0

    def allocation(self, run: RunWatch, call: Call) -> str:
        entries = int(call.entries)
        run.nonfinite_steps += entries > 0
        if call.stepped is not False:
            self._in_a_row = self._in_a_row + 1 if entries else 0
        if self._in_a_row < (LONGEST_OVERFLOW if call.stepped is None else CERTAIN):
            return ""
        return (
            f"the optimizer made {self._in_a_row} steps in a row with gradients that are not "
            f"finite, up to step {call.done.step}; {entries} entries of {run.adapter} at this one"
        )


class _PenaltyIsInLoss(Watcher):
    """Look for a backward pass that has reached the penalty."""

    rule = runs.PenaltyMissing

    def allocation(self, run: RunWatch, call: Call) -> str:
        weight, factors = call.allocator.spec.orth_reg_weight, call.allocator.parameters()
        if weight <= 0 or run.optimizer_steps <= 1 or call.penalties:
            return ""
        if not any(each.requires_grad for each in (*factors[0::3], *factors[2::3])):
            return ""
        return (
            f"after {run.optimizer_steps} steps of the optimizer no backward pass has reached the "
            f"penalty of {run.adapter}, whose orth_reg_weight is {weight}"
        )


class _PenaltyIsCountedOnce(Watcher):
    """Look for a penalty that was added to a loss which contains it."""

    rule = runs.PenaltyCountedTwice

    def allocation(self, run: RunWatch, call: Call) -> str:
        if not (call.penalties > 1 and call.allocator.spec.orth_reg_weight > 0):
            return ""
        penalty = f"the penalty of {run.adapter}, which outputs.loss contains in training mode,"
        return f"{penalty} was added to a loss of the same forward once more"


class _AdapterLearns(Watcher):
    """Look for an E that does not change, or is 0, and for an A that is rounded to its start."""

    rule = runs.AdapterDoesNotLearn
    MOST_UNCHANGED = 50
    """Percentage of the entries of a factor that may be as they were in the middle of a run."""

    def __init__(self) -> None:
        self._optimizer: weakref.ref[torch.optim.Optimizer] | None = None
        self._first: torch.Tensor | None = None
        self._unchanged = 0
        self._has_changed = False

    def step(self, _run: RunWatch, step: Step) -> str:
        if step.counts:
            self._optimizer = weakref.ref(step.optimizer)
        return ""

    def allocation(self, run: RunWatch, call: Call) -> str:
        factor = call.allocator.parameters()[0]
        if self._first is None:
            A = local_part(factor.detach())
            is_low = A.dtype in {torch.bfloat16, torch.float16}
            self._first = A.clone() if is_low else A.new_empty(0)
        fault = self._rounding(factor, call) or self._standstill(run, call)
        return fault and f"{fault}, up to step {call.done.step} of {run.adapter}"

    def _rounding(self, factor: torch.Tensor, call: Call) -> str:
        is_middle = call.number == (call.allocator.schedule.total_step + 1) // 2
        if self._first is None or not is_middle or factor.grad is None:
            return ""
        now, reached = local_part(factor.detach()), local_part(factor.grad) != 0
        if self._first.shape != now.shape or not reached.any():
            return ""
        share = 100 * int(((self._first == now) & reached).sum()) // int(reached.sum())
        kept = f"{share} % of the entries of A in {now.dtype} are as at the first call"
        is_fault = share > self.MOST_UNCHANGED
        return f"{kept}: steps of the optimizer are rounded away" if is_fault else ""

    def _standstill(self, run: RunWatch, call: Call) -> str:
        # A hook calls at every step, those that train a head first among them.
        is_head_first = run.driver is not None and call.allocator.is_frozen
        is_skipped = int(call.entries) or (call.stepped is False and not is_head_first)
        if call.changed is None or is_skipped:
            return ""
        if int(call.changed):
            self._unchanged, self._has_changed = 0, True
            return ""
        self._unchanged += calls_between_looks(call.allocator)
        later = max(CERTAIN, call.allocator.schedule.total_step // 4)
        if self._unchanged < (later if self._has_changed else min(MISSED_STEPS, later)):
            return ""
        values = call.allocator.parameters()[1::3]
        is_frozen = not any(each.requires_grad for each in values)
        optimizer = None if is_frozen or self._optimizer is None else self._optimizer()
        rate = None if optimizer is None else _rate_of(optimizer, values)
        count, self._unchanged = self._unchanged, 0
        if rate:
            return ""  # the gradient is zero, which is another fault, or LBFGS has converged
        how = "all of it is frozen" if is_frozen else f"its learning rate is {rate}"
        return f"E has not changed at {count} calls of update_and_allocate in a row: {how}"

    def end(self, run: RunWatch, end: End) -> str:
        factors, is_frozen = end.allocator.parameters(), end.allocator.is_frozen
        is_over = end.allocator.target_reached and run.calls >= CERTAIN
        is_over &= runs.NoGradient.code not in run.findings and not are_sharded(factors)
        is_untrained = is_frozen and run.forwards >= CERTAIN and not run.optimizer_steps
        if not (is_over or is_untrained) or any(local_part(each).any() for each in factors[1::3]):
            return ""
        if is_over:
            calls = f"{run.calls} calls of update_and_allocate"
            return f"E of {run.adapter} is 0 in every matrix after {calls}"
        forwards = f"{run.forwards} forwards in training mode"
        return (
            f"all {len(factors)} factors of {run.adapter} are frozen and E is 0, after {forwards}"
        )


WATCHERS: tuple[type[Watcher], ...] = (
    MergedWhileTrained, _OptimizerHoldsFactors, _ScheduleFits, _StepsInOrder,
    _AllocationIsCalled, _AllocationPerStep, _AllocationAfterStep, _GradientIsThere,
    _LossIsFinite, _PenaltyIsInLoss, _PenaltyIsCountedOnce, _AdapterLearns,
    MatricesHaveGradients, BudgetIsReached,
)  # fmt: skip
"""In this order: some findings explain later ones, which are then not reported."""


def _rate_of(optimizer: torch.optim.Optimizer, factors: Sequence[torch.Tensor]) -> float | None:
    """Return the largest learning rate of the groups that hold some of `factors`."""
    held = {id(each) for each in factors}
    rates = (
        float(group["lr"])
        for group in optimizer.param_groups
        if "lr" in group and any(id(each) in held for each in group["params"])
    )
    return max(rates, default=None)
