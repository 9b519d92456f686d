"""Watch whether an adapter learns: gradients, penalty, singular values and the final budget."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from adalora_core.config.rules import runs
from adalora_core.floor.budget import Phase
from adalora_core.sharding import are_sharded, local_part
from adalora_core.training.run import watch
from adalora_core.training.run.automatic import CERTAIN, MISSED_STEPS, is_captured
from adalora_core.training.run.watch import Call, DeferredInt, End, RunWatch, Step, Watcher

LONGEST_OVERFLOW = 50
"""Steps in a row that a gradient scaler may skip: it halves a scale of 65,536 each time."""


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
    """Count steps in a row with gradients that are not finite, made ones and skipped ones."""

    rule = runs.LossNotFinite

    def __init__(self) -> None:
        self._in_a_row = self._skipped = 0

    def allocation(self, run: RunWatch, call: Call) -> str:
        entries = int(call.entries)
        run.nonfinite_steps += entries > 0
        if call.stepped is not False:
            self._in_a_row = self._in_a_row + 1 if entries else 0
        self._skipped = self._skipped + 1 if entries and call.stepped is False else 0
        if self._skipped >= MISSED_STEPS:
            return (
                f"the gradients of {run.adapter} were not finite at {self._skipped} calls in a "
                f"row, up to step {call.done.step}, and every step of the optimizer was skipped"
            )
        if self._in_a_row < (LONGEST_OVERFLOW if call.stepped is None else CERTAIN):
            return ""
        return (
            f"the optimizer made {self._in_a_row} steps in a row with gradients that are not "
            f"finite, up to step {call.done.step}; {entries} entries of {run.adapter} at this one"
        )


class _GradientsAreCleared(Watcher):
    """Look for backward passes that add to the gradient which a step has left.

    Nobody has cleared a gradient that is the same tensor, changed once, and was not zero before:
    `grad.data.zero_()` does not count as a change. The first one that was cleared ends the
    watching.
    """

    rule = runs.GradientsNotCleared

    def __init__(self) -> None:
        self._hooks: list[RemovableHandle] = []
        self._left = DeferredInt(0)
        self._kept: list[DeferredInt] = []
        self._is_over = False

    def step(self, run: RunWatch, step: Step) -> str:
        found = None if self._is_over or not step.counts else watch.first_gradient(step.allocator)
        if found is None:
            return ""
        values, gradient, version = found
        if not self._hooks and values.requires_grad:
            look = functools.partial(self._look, weakref.ref(values))
            compare = functools.partial(self._compare, weakref.ref(gradient), version)
            after = values.register_post_accumulate_grad_hook(compare)
            self._hooks = [values.register_hook(look), after]
        if len(self._kept) < CERTAIN:
            return ""
        self._is_over = True
        return (
            f"the gradients of {run.adapter} were not cleared after {CERTAIN} steps in a row, so "
            "each step uses the sum of all before"
            if all(map(int, self._kept))
            else ""
        )

    def _look(self, values: Any, _gradient: torch.Tensor) -> None:
        left = values().grad
        has_none = left is None or is_captured()
        self._left = DeferredInt(0 if has_none else local_part(left).count_nonzero())

    def _compare(self, gradient: Any, version: int, values: torch.Tensor) -> None:
        now = values.grad
        is_kept = now is not None and now is gradient() and now._version == version + 1  # noqa: SLF001
        self._is_over = not is_kept
        self._kept.append(self._left)
        while self._hooks:
            self._hooks.pop().remove()


class _PenaltyIsInLoss(Watcher):
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
    """Look for a penalty that is in a loss twice, or whose gradient is added more than once."""

    rule = runs.PenaltyCountedTwice

    def __init__(self) -> None:
        self._in_a_row = 0

    def allocation(self, run: RunWatch, call: Call) -> str:
        self._in_a_row = self._in_a_row + 1 if call.additions > 1 else 0
        if self._in_a_row >= CERTAIN:
            times = f"{call.additions} times to the gradients of one step"
            return f"the gradient of the penalty of {run.adapter} was added {times}"
        if not (call.penalties > 1 and call.allocator.spec.orth_reg_weight > 0):
            return ""
        penalty = f"the penalty of {run.adapter}, which outputs.loss contains in training mode,"
        return f"{penalty} was added to a loss of the same forward once more"


class _AdapterLearns(Watcher):
    """Look for an E that does not change, or is 0, and for an A that is rounded to its start."""

    rule = runs.AdapterDoesNotLearn
    MOST_UNCHANGED = 50
    """Percentage of the entries of a factor that may be as they were in the middle of a run."""
    LEAST_SHARE, LEAST_RISING = 0.01, 0.2
    """Of the learning rate of a schedule, in the twentieth before the middle of the run."""

    def __init__(self) -> None:
        self._optimizer: weakref.ref[torch.optim.Optimizer] | None = None
        self._first: torch.Tensor | None = None
        self._unchanged = 0
        self._has_changed = False
        self._shares: list[float] = []

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
        fault = self._rounding(factor, call) or self._schedule(call) or self._standstill(run, call)
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

    def _schedule(self, call: Call) -> str:
        total, values = call.allocator.schedule.total_step, call.allocator.parameters()[1::3]
        optimizer = None if self._optimizer is None else self._optimizer()
        if optimizer is None or not 9 * total <= 20 * call.number <= 10 * total:
            return ""
        now, base = _rate_of(optimizer, values), _rate_of(optimizer, values, "initial_lr")
        if not (now and base):  # at a rate of 0 E does not change, which `_standstill` reports
            return ""
        self._shares.append(now / base)
        is_rising = self._shares[-1] > self._shares[0]
        least = self.LEAST_RISING if is_rising else self.LEAST_SHARE
        if call.number < total // 2 or max(self._shares) >= least:
            return ""
        return f"the learning rate of E is {now} in the middle of the run, its schedule has {base}"

    def _standstill(self, run: RunWatch, call: Call) -> str:
        # A hook calls at every step, those that train a head first among them.
        is_head_first = run.driver is not None and call.allocator.is_frozen
        is_skipped = int(call.entries) or (call.stepped is False and not is_head_first)
        if call.changed is None or is_skipped:
            return ""
        if int(call.changed):
            self._unchanged, self._has_changed = 0, True
            return ""
        self._unchanged += watch.calls_between_looks(call.allocator)
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
        is_known = {runs.NoGradient.code, runs.LossNotFinite.code} & run.findings.keys()
        is_over &= not (is_known or are_sharded(factors))
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


def _rate_of(
    optimizer: torch.optim.Optimizer, factors: Sequence[torch.Tensor], name: str = "lr"
) -> float | None:
    """Return the largest learning rate of the groups that hold some of `factors`."""
    held = set(map(id, factors))
    groups = [each for each in optimizer.param_groups if held & set(map(id, each["params"]))]
    return max((float(each[name]) for each in groups if name in each), default=None)


class _MatricesHaveGradients(Watcher):
    """Look for matrices that are trained, and that the loss has not reached once."""

    rule = runs.MatrixWithoutGradient
    MOST_NAMES = 8
    """Modules that the finding names."""

    def end(self, run: RunWatch, end: End) -> str:
        allocator = end.allocator
        if not allocator.target_reached or allocator.without_gradient is None:
            return ""
        trained = [each.requires_grad for each in allocator.parameters()[1::3]]
        flags = zip(allocator.without_gradient.tolist(), trained, allocator.matrices, strict=True)
        lacking = [matrix.path for lacks, is_trained, matrix in flags if lacks and is_trained]
        if not lacking:
            return ""
        shown, more = ", ".join(lacking[: self.MOST_NAMES]), len(lacking) - self.MOST_NAMES
        return (
            f"the singular values of {len(lacking)} of {len(allocator.matrices)} matrices of "
            f"{run.adapter} had no gradient in the whole run: {shown}"
        ) + (f" and {more} more" if more > 0 else "")


class _BudgetIsReached(Watcher):
    rule = runs.BudgetNotReached

    def end(self, run: RunWatch, end: End) -> str:
        allocator = end.allocator
        is_result = end.what and not (end.is_checkpoint or run.saves_are_checkpoints)
        is_over = allocator.target_reached or end.kept <= end.target
        is_known = runs.AllocationNotCalled.code in run.findings
        if is_over or is_known or not is_result:
            return ""
        has_learned_unseen = run.has_learned_unseen(allocator)
        if not (end.is_called or has_learned_unseen):
            return ""
        has_own_steps = run.optimizer_steps or run.calls or has_learned_unseen
        if end.what == "merged" and run.is_copy and not has_own_steps:  # to evaluate it
            return ""
        last = run.automatic.step if run.automatic.is_expected(run) else allocator.last_step
        steps = 0 if last is None else last + 1
        return (
            f"{run.adapter} is {end.what} at step {steps} of {allocator.schedule.total_step} with "
            f"{end.kept} triplets, target {end.target}"
        )


LEARNING: tuple[type[Watcher], ...] = (
    _GradientIsThere, _LossIsFinite, _GradientsAreCleared, _PenaltyIsInLoss, _PenaltyIsCountedOnce,
    _AdapterLearns, _MatricesHaveGradients, _BudgetIsReached,
)  # fmt: skip
"""In this order: some findings explain later ones, which are then not reported."""
