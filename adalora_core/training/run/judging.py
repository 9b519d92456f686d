"""Judge the run of one adapter by rules ADA8xx: its steps, gradients and allocator calls."""

from __future__ import annotations

import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from adalora_core.config.rules import runs
from adalora_core.floor.budget import Phase
from adalora_core.training.run.optimizers import (
    CERTAIN,
    MISSED_STEPS,
    Call,
    Changes,
    DeferredInt,
    Holders,
    held_at_step,
    nonzero_gradients,
    was_skipped,
    watch_steps,
)
from adalora_core.training.run.reporting import refuse, report

if TYPE_CHECKING:
    import torch

    from adalora_core.allocation import AllocationReport, RankAllocator
    from adalora_core.config.rules.base import Rule

LONGEST_OVERFLOW = 50
"""Steps in a row that a gradient scaler may skip: it halves a scale of 65,536 each time."""

_UNSEEN = 50
"""Steps that a gradient scaler may have skipped where no forward is seen, as with torch.compile."""


class RunWatch:
    """What happened to one adapter since it was created or loaded.

    Attributes:
        name: the adapter.
        findings: what was reported so far, by code.
        optimizer_steps: steps of optimizers that hold factors of the adapter.
        calls: calls of the allocator.
        nonfinite_steps: calls at which some gradient was not finite.
        lacks_state: whether the adapter was loaded to be trained, without a training state.
        finished_at: steps of the run that the loaded adapter comes from, if it may be finished.
        driver: the hook or callback that calls the allocator.
        saves_are_checkpoints: whether saved files are marked as checkpoints.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.findings: dict[str, str] = {}
        self.optimizer_steps = 0
        self.calls = 0
        self.nonfinite_steps = 0
        self.lacks_state = False
        self.finished_at: int | None = None
        self.driver: Any = None
        self.saves_are_checkpoints = False
        self._order = StepOrder()
        self._allocator: RankAllocator | None = None
        self._since: Counter[int] = Counter()
        self._optimizer: weakref.ref[torch.optim.Optimizer] | None = None
        self._changes = Changes(0)
        self._change: DeferredInt | None = None
        self._is_uncertain = False
        self._is_repeated = False
        self._gradient: tuple[torch.Tensor, torch.Tensor, int] | None = None
        self._changed = self._extra = self._blind = self._zero = 0
        self._nonfinite_in_a_row = 0
        self._had_gradient = False
        self._waiting: deque[Call] = deque()
        self._holders = Holders()

    def __getstate__(self) -> dict[str, Any]:
        # Events and hooks cannot be copied, and a copy of a model is another run.
        return RunWatch(self.name).__dict__ | {
            "lacks_state": self.lacks_state,
            "finished_at": self.finished_at,
        }

    def begin(self, allocator: RankAllocator) -> None:
        """Watch the optimizers of the parameters of `allocator`."""
        self._allocator = allocator
        self._changes = Changes(allocator.schedule.total_step)
        if allocator.matrices:
            watch_steps(self)

    def report(self, rule: type[Rule], seen: str) -> None:
        """Warn of `seen` once per run."""
        report(self.findings, rule, seen)

    # --- steps of optimizers ----------------------------------------------------------------------

    def see_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note a step of `optimizer`, whatever it holds."""
        allocator = self._allocator
        if allocator is None or allocator.is_frozen:
            return
        skipped = was_skipped(optimizer)
        if skipped:
            return
        held = held_at_step(optimizer, allocator)
        self._report_optimizer(self._holders.fault_of(optimizer, allocator, held))
        if not held:
            return
        self._is_uncertain |= skipped is None
        if skipped is None:
            return
        # Several optimizers may share the factors: the one that makes most steps counts.
        before = self._steps_since
        self._since[id(optimizer)] += 1
        self.optimizer_steps += self._steps_since - before
        self._optimizer = weakref.ref(optimizer)
        self._gradient = self._gradient_of(allocator)
        self._warn_of_missed_calls(allocator)

    @property
    def has_stepped(self) -> bool:
        """Whether an optimizer has made a step since the last call of the allocator."""
        return bool(self._since) or self._is_uncertain

    @property
    def _steps_since(self) -> int:
        return max(self._since.values(), default=0)

    def _gradient_of(
        self, allocator: RankAllocator
    ) -> tuple[torch.Tensor, torch.Tensor, int] | None:
        """Return the first E that has a gradient, the gradient and its version."""
        for matrix in allocator.matrices:
            values = matrix.lora_E[matrix.adapter_name]
            if values is not None and values.grad is not None:
                return values, values.grad, values.grad._version  # noqa: SLF001
        return None

    def _report_optimizer(self, what: str) -> None:
        if what:
            self.report(runs.OptimizerWithoutFactors, f"{what} of the adapter {self.name!r}")

    def _warn_of_missed_calls(self, allocator: RankAllocator) -> None:
        total = allocator.schedule.total_step
        missed = max(self._steps_since, self.optimizer_steps - self.calls)
        is_known = allocator.target_reached or runs.StepsOutOfOrder.code in self.findings
        if missed >= min(MISSED_STEPS, max(CERTAIN, total // 10)) and not is_known:
            self.report(
                runs.AllocationNotCalled,
                f"the optimizer made {missed} steps on the adapter {self.name!r} without "
                f"model.update_and_allocate(step), of the {total} steps of its schedule",
            )

    # --- calls of the allocator -------------------------------------------------------------------

    def before_allocation(self, step: int, *, forwards: int, has_penalty: bool) -> None:
        """Judge the order of a call: after a step, with the gradients of this step."""
        allocator = self._allocator
        if allocator is None:
            return
        self._refuse_frozen(allocator)
        self._is_repeated = step == allocator.last_step
        self._change = self._changes.look(allocator)
        self._warn_of_order(step, allocator.last_step, forwards)
        last, total = allocator.last_step, allocator.schedule.total_step
        is_early = last is not None and last < step < allocator.schedule.final_start
        if is_early and allocator.target_reached:
            self.report(
                runs.ScheduleDoesNotFit,
                f"update_and_allocate of the adapter {self.name!r} got step {step} of {total} "
                "after finalize(): its kept set is final and stays as it is",
            )
        # Counts from 1, as in an example of PEFT, end at total_step.
        if step > total and runs.ScheduleDoesNotFit.code not in self.findings:
            self.report(
                runs.StepsOutOfOrder,
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
                        runs.AllocationNotAfterStep,
                        f"the gradients of the adapter {self.name!r} {how} between "
                        f"optimizer.step() and update_and_allocate({step}), at {self._changed} of "
                        f"{self.calls + 1} calls",
                    )
        weight = allocator.spec.orth_reg_weight
        is_due = weight > 0 and self.optimizer_steps > 1 and not has_penalty
        if is_due and any(
            each.requires_grad
            for place, each in enumerate(allocator.parameters())
            if place % 3 != 1
        ):
            self.report(
                runs.PenaltyMissing,
                f"after {self.optimizer_steps} steps of the optimizer no backward pass has reached "
                f"the penalty of the adapter {self.name!r}, whose orth_reg_weight is {weight}",
            )

    def _warn_of_order(self, step: int, last: int | None, forwards: int) -> None:
        fault = self._order.fault(step, last, self._steps_since, forwards)
        if not fault:
            return
        what = f"update_and_allocate of the adapter {self.name!r} {fault}"
        is_over = self.finished_at is not None and step >= self.finished_at
        if last is None and is_over:
            what += f", and the adapter comes from a finished run of {self.finished_at} steps"
        if last is None and self.lacks_state and not is_over:
            self.report_missing_state(what)
        else:
            self.report(runs.StepsOutOfOrder, what)

    def _refuse_frozen(self, allocator: RankAllocator) -> None:
        """Refuse a call for an adapter that is frozen; warn if it has learned before."""
        # A hook calls at every step, those that train a head first among them.
        if not allocator.is_frozen or self.driver is not None:
            return
        act = self.report if self.optimizer_steps else refuse
        act(
            runs.NothingTrainable,
            f"update_and_allocate: all {3 * len(allocator.matrices)} factors of the adapter "
            f"{self.name!r} are frozen, after {self.optimizer_steps} steps of the optimizer",
        )

    def report_missing_state(self, seen: str) -> None:
        """Warn that an unfinished run goes on without what belongs to it."""
        self.report(
            runs.ResumedWithoutState,
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
        self._warn_if_blind(allocator, done, has_gradient=has_gradient)
        stepped = None if self._is_uncertain else bool(self._since)
        is_extra = (
            stepped is False
            and has_gradient
            and not self._is_repeated
            and self.optimizer_steps > 0
            and done.phase is not Phase.FINAL
        )
        looks = done.allocated and done.phase is not Phase.FINAL and stepped and has_gradient
        nonzero = DeferredInt(nonzero_gradients(allocator)) if looks else None
        self.calls += 1
        others = self._holders.take_others()
        entries = DeferredInt(done.skipped)
        call = Call(done.step, stepped, is_extra, others, entries, nonzero, self._change)
        self._waiting.append(call)
        self._report_learning(self._changes.rounding_fault(allocator, self.calls), done.step)
        self._changes.remember(allocator)
        self._since.clear()
        self._is_uncertain, self._gradient = False, None
        self.report_waiting(wait=False)

    def report_waiting(self, *, wait: bool) -> None:
        """Judge the calls whose numbers have arrived; all of them with `wait`."""
        while self._waiting:
            if not wait and not self._waiting[0].is_known:
                return
            self._report_call(self._waiting.popleft())

    def _report_call(self, call: Call) -> None:
        entries = int(call.entries)
        self.nonfinite_steps += entries > 0
        if call.is_extra and not entries:
            self._extra += 1
            if self._extra >= CERTAIN and 3 * self._extra >= self.calls:
                self.report(
                    runs.AllocationPerMicroBatch,
                    f"{self._extra} of {self.calls} calls of update_and_allocate for the adapter "
                    f"{self.name!r} came without a step of the optimizer since the call before, "
                    f"which made {self.optimizer_steps} steps",
                )
        if call.stepped is not False:
            self._nonfinite_in_a_row = self._nonfinite_in_a_row + 1 if entries else 0
        if self._nonfinite_in_a_row >= (LONGEST_OVERFLOW if call.stepped is None else CERTAIN):
            self.report(
                runs.LossNotFinite,
                f"the optimizer made {self._nonfinite_in_a_row} steps in a row with gradients that "
                f"are not finite, up to step {call.step}; {entries} entries of the adapter "
                f"{self.name!r} at this one",
            )
        if call.nonzero is not None:
            self._zero = 0 if int(call.nonzero) else self._zero + 1
            if self._zero > 1 and runs.AllocationNotAfterStep.code not in self.findings:
                self._report_blind(f"was zero at {self._zero} allocations in a row", call.step)
        if call.changed is not None and self._allocator is not None:
            has_changed = bool(int(call.changed))
            if not has_changed:
                self._report_optimizer(self._holders.fault_of_all(self._allocator, call.others))
            is_head_first = self.driver is not None and self._allocator.is_frozen
            if (call.stepped is not False or is_head_first) and not entries:
                optimizer = None if self._optimizer is None else self._optimizer()
                found = self._changes.fault(self._allocator, optimizer, has_changed=has_changed)
                self._report_learning(found, call.step)

    def _report_learning(self, found: str, step: int) -> None:
        if found:
            seen = f"{found}, up to step {step} of the adapter {self.name!r}"
            self.report(runs.AdapterDoesNotLearn, seen)

    def _warn_if_blind(
        self, allocator: RankAllocator, done: AllocationReport, *, has_gradient: bool
    ) -> None:
        """Warn of an allocation before which no factor had a gradient for some steps."""
        self._blind = 0 if has_gradient else self._blind + bool(self._since)
        if not done.allocated or done.phase is Phase.FINAL:
            return
        never = not self._had_gradient and not self.optimizer_steps
        limit = LONGEST_OVERFLOW if never else max(2, allocator.schedule.deltaT)
        if (
            (self.calls + 1 if never else self._blind) >= limit
            and runs.AllocationNotAfterStep.code not in self.findings
            # That a frozen E does not change is found elsewhere.
            and any(each.requires_grad for each in allocator.parameters()[1::3])
        ):
            self._report_blind(f"was missing at {max(self._blind, limit)} calls", done.step)

    def _report_blind(self, how: str, step: int) -> None:
        self.report(
            runs.NoGradient,
            f"the gradient of every factor of the adapter {self.name!r} {how}, up to the "
            f"allocation at step {step}",
        )


class StepOrder:
    """Judges the step of each call by the one before.

    A loop may make no call where a gradient scaler skips the step, so a step that is too high is a
    fault only if there were fewer training forwards than steps.
    """

    def __init__(self) -> None:
        self._forwards = 0
        self._jumps_in_a_row = 0
        self._several = 0

    def fault(self, step: int, last: int | None, optimizer_steps: int, forwards: int) -> str:
        """Return what is wrong with `step` after `last`, None before the first call; or nothing."""
        since = forwards - self._forwards
        self._forwards = forwards
        if last is None:
            return f"got step {step} first" if step > (since or _UNSEEN) else ""
        if step == last:
            return (
                f"got step {step} a second time, so its gradients count twice in the importance; "
                "where allocate_on_step or AdaLoraCallback calls it, take it out of the loop"
            )
        if step < last:
            return f"got step {step} after step {last}: the steps go back"
        if self._jumps(step - last, optimizer_steps, since):
            return (
                f"got step {step} after step {last}: the steps jump, with {optimizer_steps} steps "
                "of the optimizer between"
            )
        return ""

    def _jumps(self, distance: int, optimizer_steps: int, forwards: int) -> bool:
        if distance == 1:
            self._jumps_in_a_row = self._several = 0
            return False
        self._jumps_in_a_row += 1
        self._several += optimizer_steps > 1
        return distance > (forwards or _UNSEEN) or self._several > 1 or self._jumps_in_a_row > 4  # noqa: PLR2004
