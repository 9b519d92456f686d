"""Watch runs for faults: a class per finding, each with its state, its threshold and its rule.

Here are those of the calls of the allocator; `learning` has the others.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import nn

from adalora_core.allocation import RankAllocator
from adalora_core.config.rules import runs
from adalora_core.floor.budget import Phase
from adalora_core.nn import AdaLoraLayer
from adalora_core.training.run.automatic import CERTAIN, most_missed
from adalora_core.training.run.learning import LEARNING, LONGEST_OVERFLOW
from adalora_core.training.run.reporting import refuse
from adalora_core.training.run.watch import Call, End, RunWatch, Step, Watcher


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
        self._jumps_in_a_row = self._several = self._alike = self._distance = 0

    def allocation(self, run: RunWatch, call: Call) -> str:
        step, total = call.done.step, call.allocator.schedule.total_step
        most = call.forwards or self.UNSEEN
        if run.is_copy and call.number == 1 and call.last is not None:  # the best model goes on
            most = step
        fault = self._fault(call, step, most)
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
            averages = "averages and kept set begin anew"
            return f" first: {averages} without a training state" if step > most else ""
        distance = step - call.last
        if distance == 0:
            return (
                " a second time, so its gradients count twice in the importance; where "
                "allocate_on_step or AdaLoraCallback calls it, take it out of the loop"
            )
        if distance < 0:
            return f" after step {call.last}: the steps go back"
        if distance == 1:
            self._jumps_in_a_row = self._several = self._alike = 0
            return ""
        self._alike = self._alike + 1 if distance == self._distance and call.since == 1 else 1
        self._distance = distance
        if self._alike >= CERTAIN:
            by = f"grow by {distance} at a time, as a count of micro-batches does"
            return f" after step {call.last}: the steps {by}"
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
        if is_known or missed < max(most_missed(total), run.fewest_steps(step.allocator)):
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
        if run.forwards < CERTAIN or not run.has_learned_unseen(end.allocator):
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


class _MergedWhileTrained(Watcher):
    """Refuse a backward pass through a forward of the merged model, which alone is not a fault."""

    rule = runs.TrainingWhileMerged

    def forward(self, run: RunWatch, layers: Mapping[str, AdaLoraLayer]) -> None:
        layer = next(iter(layers.values()), None)
        merged = getattr(layer, "merged_adapters", ())  # layers of this package stay unmerged
        if layer is not None and merged and torch.is_grad_enabled():
            _stop_failing(layer)  # not every forward calls the layer
            seen = f"backward pass while {run.adapter} is merged"
            layer.register_forward_hook(functools.partial(_refuse_output, seen))


def _stop_failing(layer: nn.Module) -> None:
    hooks = layer._forward_hooks  # noqa: SLF001 - a copy of the model has no handle
    for key, hook in list(hooks.items()):
        if getattr(hook, "func", None) is _refuse_output:
            del hooks[key]


def _refuse_output(seen: str, layer: Any, _inputs: Any, output: Any) -> Any:
    """Let a backward pass through this output of `layer`, if it is merged still, raise."""
    _stop_failing(layer)
    # An earlier forward may not have called the layer, and the fault is mended since.
    if not layer.merged_adapters or not torch.is_grad_enabled():
        return None
    source = output.new_zeros((), requires_grad=True)
    source.register_hook(lambda _: refuse(_MergedWhileTrained.rule, seen))
    return output + source


WATCHERS: tuple[type[Watcher], ...] = (
    _MergedWhileTrained, _OptimizerHoldsFactors, _ScheduleFits, _StepsInOrder, _AllocationIsCalled,
    _AllocationPerStep, _AllocationAfterStep, *LEARNING,
)  # fmt: skip
"""In this order: some findings explain later ones, which are then not reported."""
