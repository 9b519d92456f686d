"""Judge the run of one adapter by rules ADA8xx: its steps, gradients and allocator calls."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from adalora_core.budget import Phase
from adalora_core.contract.rules import runs
from adalora_core.sharding import local_part
from adalora_core.training.run.counts import LaterCount
from adalora_core.training.run.optimizers import (
    held_at_step,
    moves_nothing,
    was_skipped,
    watch_steps,
)
from adalora_core.training.run.reporting import report
from adalora_core.training.run.step_order import StepOrder

if TYPE_CHECKING:
    from adalora_core.allocation import AllocationReport, RankAllocator
    from adalora_core.contract.rules.base import Rule

LONGEST_OVERFLOW = 50
"""Steps in a row that a gradient scaler may skip: it halves a scale of 65,536 each time."""

FIRST_E = 1
"""Index of the E of the first matrix among all factors."""

CERTAIN = 3
"""Times until what may happen once is a fault."""

MISSED_STEPS = 30
"""Most steps of an optimizer without an allocation before it is reported."""


class _Call(NamedTuple):
    """What was seen at one call of the allocator; `entries` and `zeros` may still be on a device.

    Attributes:
        step: the step that was given.
        stepped: whether the optimizer made a step before the call; None if only a device knows.
        is_extra: whether there was no step since the last call, and gradients nevertheless.
        entries: how many entries of the gradients are not finite.
        nonzero: how many gradients of E are not zero, None where it was not looked at.
    """

    step: int
    stepped: bool | None
    is_extra: bool
    entries: LaterCount
    nonzero: LaterCount | None


class RunWatch:
    """What happened to one adapter since it was created or loaded.

    Attributes:
        name: the adapter.
        findings: what was reported so far, by code.
        optimizer_steps: steps of optimizers that hold factors of the adapter.
        calls: calls of the allocator.
        nonfinite_steps: calls at which some gradient was not finite.
        lacks_state: whether the adapter was loaded to be trained, without a training state.
        driver: the hook or callback that calls the allocator.
        saves_are_checkpoints: whether saved files are marked as checkpoints.
        length_is_judged: whether the driver has compared `total_step` with the length of the run.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.findings: dict[str, str] = {}
        self.optimizer_steps = 0
        self.calls = 0
        self.nonfinite_steps = 0
        self.lacks_state = False
        self.driver: Any = None
        self.saves_are_checkpoints = False
        self.length_is_judged = False
        self._order = StepOrder()
        self._allocator: RankAllocator | None = None
        self._since = 0
        self._is_uncertain = False
        self._is_repeated = False
        self._gradient: tuple[torch.Tensor, torch.Tensor, int] | None = None
        self._changed = self._extra = self._blind = self._zero = 0
        self._nonfinite_in_a_row = 0
        self._had_gradient = False
        self._waiting: deque[_Call] = deque()
        self._held: set[int] = set()
        self._steps_without: dict[int, int] = {}
        self._other_steps = 0
        self._unmoved: tuple[int, int, torch.Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Events and hooks cannot be copied, and a copy of a model is another run.
        return RunWatch(self.name).__dict__ | {"lacks_state": self.lacks_state}

    def begin(self, allocator: RankAllocator) -> None:
        """Watch the optimizers of the parameters of `allocator`."""
        self._allocator = allocator
        if allocator.matrices:
            watch_steps(self)

    def report(self, rule: Rule, seen: str) -> None:
        """Warn of `seen` once per run."""
        report(self.findings, rule, seen)

    # --- steps of optimizers ----------------------------------------------------------------------

    def see_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note a step of `optimizer`, whatever it holds."""
        allocator = self._allocator
        if allocator is None or not _singular_values(allocator, 0).requires_grad:
            return
        skipped = was_skipped(optimizer)
        if skipped:
            return
        held = held_at_step(optimizer, allocator)
        if len(self._held) < 3 * len(allocator.matrices):
            self._held |= held
            self._judge_optimizer(optimizer, allocator, held)
        if FIRST_E not in held:
            # Several optimizers may share the factors: one of them counts the steps.
            return
        self._is_uncertain |= skipped is None
        if skipped is None:
            return
        self.optimizer_steps += 1
        self._since += 1
        self._gradient = self._gradient_of(allocator)
        self._judge_missed_calls(allocator)

    def _gradient_of(
        self, allocator: RankAllocator
    ) -> tuple[torch.Tensor, torch.Tensor, int] | None:
        """Return the first E that has a gradient, the gradient and its version."""
        for index in range(len(allocator.matrices)):
            values = _singular_values(allocator, index)
            if values.grad is not None:
                return values, values.grad, values.grad._version  # noqa: SLF001
        return None

    def _judge_optimizer(
        self, optimizer: torch.optim.Optimizer, allocator: RankAllocator, held: frozenset[int]
    ) -> None:
        """Warn if what steps leaves out factors that have gradients."""
        missing = self._missing(allocator)
        if missing is None or allocator.parameters()[missing].grad is None:
            return
        self._other_steps += 1
        if held or moves_nothing(optimizer):
            count = self._steps_without.get(id(optimizer), 0) + 1
            self._steps_without[id(optimizer)] = count
            if count > 1:
                self._report_optimizer(f"{type(optimizer).__name__} made {count} steps and")

    def _missing(self, allocator: RankAllocator) -> int | None:
        """Return a factor that no optimizer holds which has made a step, an E if possible."""
        total = 3 * len(allocator.matrices)
        missing = set(range(total)) - self._held
        return min(missing, key=lambda index: (index % 3 != 1, index), default=None)

    def _report_optimizer(self, what: str) -> None:
        total = 3 * len(self._allocator.matrices) if self._allocator else 0
        self.report(
            runs.OPTIMIZER_WITHOUT_FACTORS,
            f"{what} holds {len(self._held)} of the {total} factors of the adapter {self.name!r}",
        )

    def _judge_missed_calls(self, allocator: RankAllocator) -> None:
        total = allocator.schedule.total_step
        limit = min(MISSED_STEPS, max(3, total // 10))
        if self._since >= limit and not allocator.target_reached:
            self.report(
                runs.ALLOCATION_NOT_CALLED,
                f"the optimizer made {self._since} steps on the adapter {self.name!r} without "
                f"model.update_and_allocate(step), of the {total} steps of its schedule",
            )

    # --- calls of the allocator -------------------------------------------------------------------

    def before_allocation(self, step: int, *, forwards: int, has_penalty: bool) -> None:
        """Judge the order of a call: after a step, with the gradients of this step."""
        allocator = self._allocator
        if allocator is None:
            return
        self._is_repeated = step == allocator.last_step
        self._judge_order(step, allocator.last_step, forwards)
        total = allocator.schedule.total_step
        # Counts from 1, as in an example of PEFT, end at total_step.
        if step > total and not self.length_is_judged:
            self.report(
                runs.STEPS_OUT_OF_ORDER,
                f"update_and_allocate of the adapter {self.name!r} got step {step}, and its "
                f"total_step is {total}: the schedule ended before the run",
            )
        if self._gradient is not None and not self._extra:
            values, gradient, version = self._gradient
            now = values.grad
            if now is not gradient or now._version != version:  # noqa: SLF001
                self._changed += 1
                if self._changed > 1:
                    how = "were cleared" if now is None else "changed"
                    self.report(
                        runs.ALLOCATION_NOT_AFTER_STEP,
                        f"the gradients of the adapter {self.name!r} {how} between "
                        f"optimizer.step() and update_and_allocate({step}), at {self._changed} of "
                        f"{self.calls + 1} calls",
                    )
        weight = allocator.spec.orth_reg_weight
        if weight > 0 and self.optimizer_steps > 1 and not has_penalty:
            self.report(
                runs.PENALTY_MISSING,
                f"after {self.optimizer_steps} steps of the optimizer no backward pass has reached "
                f"the penalty of the adapter {self.name!r}, whose orth_reg_weight is {weight}",
            )

    def _judge_order(self, step: int, last: int | None, forwards: int) -> None:
        fault = self._order.fault(step, last, self._since, forwards)
        if not fault:
            return
        what = f"update_and_allocate of the adapter {self.name!r} {fault}"
        if last is None and self.lacks_state:
            self.report_missing_state(what)
        else:
            self.report(runs.STEPS_OUT_OF_ORDER, what)

    def report_missing_state(self, seen: str) -> None:
        """Warn that an unfinished run goes on without what belongs to it."""
        self.report(
            runs.RESUMED_WITHOUT_STATE,
            f"{seen}, and there is no training state beside the adapter that was loaded, so the "
            "allocation starts anew",
        )

    def after_allocation(self, done: AllocationReport) -> None:
        """Note what a call of the allocator has found, and judge the calls that are known."""
        allocator = self._allocator
        if allocator is None:
            return
        has_gradient = self._gradient_of(allocator) is not None
        self._had_gradient |= has_gradient
        self._judge_blind(allocator, done, has_gradient=has_gradient)
        stepped = None if self._is_uncertain else self._since > 0
        is_extra = (
            stepped is False
            and has_gradient
            and not self._is_repeated
            and self.optimizer_steps > 0
            and done.phase is not Phase.FINAL
        )
        looks = done.allocated and done.phase is not Phase.FINAL and stepped and has_gradient
        nonzero = LaterCount(_nonzero_gradients(allocator)) if looks else None
        self._waiting.append(_Call(done.step, stepped, is_extra, LaterCount(done.skipped), nonzero))
        self.calls += 1
        self._look_for_moves(allocator)
        self._since, self._is_uncertain, self._gradient = 0, False, None
        self.judge_waiting(wait=False)

    def judge_waiting(self, *, wait: bool) -> None:
        """Judge the calls whose numbers have arrived; all of them with `wait`."""
        while self._waiting:
            entries, nonzero = self._waiting[0].entries, self._waiting[0].nonzero
            if not wait and not (entries.is_known() and (nonzero is None or nonzero.is_known())):
                return
            self._judge(self._waiting.popleft())

    def _judge(self, call: _Call) -> None:
        entries = int(call.entries)
        self.nonfinite_steps += entries > 0
        if call.is_extra and not entries:
            self._extra += 1
            if self._extra >= CERTAIN and 3 * self._extra >= self.calls:
                self.report(
                    runs.ALLOCATION_PER_MICRO_BATCH,
                    f"{self._extra} of {self.calls} calls of update_and_allocate for the adapter "
                    f"{self.name!r} came without a step of the optimizer since the call before, "
                    f"which made {self.optimizer_steps} steps",
                )
        if call.stepped is not False:
            self._nonfinite_in_a_row = self._nonfinite_in_a_row + 1 if entries else 0
        if self._nonfinite_in_a_row >= (LONGEST_OVERFLOW if call.stepped is None else CERTAIN):
            self.report(
                runs.LOSS_NOT_FINITE,
                f"the optimizer made {self._nonfinite_in_a_row} steps in a row with gradients that "
                f"are not finite, up to step {call.step}; {entries} entries of the adapter "
                f"{self.name!r} at this one",
            )
        if call.nonzero is not None:
            self._zero = 0 if int(call.nonzero) else self._zero + 1
            if self._zero > 1 and runs.ALLOCATION_NOT_AFTER_STEP.code not in self.findings:
                self._report_blind(f"was zero at {self._zero} allocations in a row", call.step)

    def _judge_blind(
        self, allocator: RankAllocator, done: AllocationReport, *, has_gradient: bool
    ) -> None:
        """Warn of an allocation before which no factor had a gradient for some steps."""
        self._blind = 0 if has_gradient else self._blind + (self._since > 0)
        if not done.allocated or done.phase is Phase.FINAL:
            return
        never = not self._had_gradient and not self.optimizer_steps
        limit = LONGEST_OVERFLOW if never else max(2, allocator.schedule.deltaT)
        if (self.calls + 1 if never else self._blind) >= limit and (
            runs.ALLOCATION_NOT_AFTER_STEP.code not in self.findings
        ):
            self._report_blind(f"was missing at {max(self._blind, limit)} calls", done.step)

    def _report_blind(self, how: str, step: int) -> None:
        self.report(
            runs.NO_GRADIENT,
            f"the gradient of every factor of the adapter {self.name!r} {how}, up to the "
            f"allocation at step {step}",
        )

    def _look_for_moves(self, allocator: RankAllocator) -> None:
        """Warn if optimizers step, and a factor that none of them holds does not move."""
        if len(self._held) == 3 * len(allocator.matrices):
            return
        missing = self._missing(allocator)
        if missing is None or not self._other_steps:
            return
        factor = local_part(allocator.parameters()[missing].detach())
        if self._unmoved is not None:
            index, steps, before = self._unmoved
            is_same = index == missing and bool(factor.numel()) and torch.equal(before, factor)
            if is_same and self._other_steps > steps:
                self._report_optimizer(f"after {self._other_steps} steps no optimizer that steps")
        self._unmoved = (missing, self._other_steps, factor.clone())


def _singular_values(allocator: RankAllocator, index: int) -> torch.Tensor:
    matrix = allocator.matrices[index]
    return matrix.lora_E[matrix.adapter_name]  # type: ignore[return-value]  # never None


def _nonzero_gradients(allocator: RankAllocator) -> int | torch.Tensor:
    """Return how many gradients of E are not zero; on a CPU one stands for all."""
    gradients = [values.grad for values in allocator.parameters()[1::3] if values.grad is not None]
    if gradients[0].device.type == "cpu":
        return int(any(bool(local_part(each).any()) for each in gradients))
    norms = torch._foreach_norm([local_part(each) for each in gradients])  # noqa: SLF001
    return torch.stack([each.to(norms[0].device) for each in norms]).count_nonzero()
