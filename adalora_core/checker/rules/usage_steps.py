"""Find scripts that train AdaLoRA without allocating, or that pass a wrong step."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import keyword
from adalora_core.checker.rules.usage_base import (
    EPOCHS,
    HEAD,
    LOOP,
    PLACES,
    AllocationRule,
    UsageRule,
)
from adalora_core.checker.scripts.counters import is_repeated, step_counter
from adalora_core.checker.scripts.names import ALLOCATE
from adalora_core.checker.scripts.order import is_per_micro_batch, placement
from adalora_core.checker.scripts.trainings import trainings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.checker.scripts.events import Event, Trace
    from adalora_core.checker.scripts.trainings import Training
    from adalora_core.checker.scripts.usage import Usage
    from adalora_core.config.rules.base import Finding

_ACCUMULATED = """\
step = 0
for i, batch in enumerate(loader):
    model(**batch).loss.backward()
    if (i + 1) % 4 == 0:
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        step += 1
"""


class AllocationNeverCalled(UsageRule):
    code = "ADA901"
    summary = "a script trains an AdaLoRA model and never calls update_and_allocate"
    why = (
        "Only that call prunes. Without it every matrix keeps init_r triplets: the run is a plain "
        "LoRA of the larger rank, at the price of AdaLoRA."
    )
    bad = HEAD + LOOP.replace("    model.base_model.update_and_allocate(step)\n", "")
    hint = PLACES["loop"]

    def check_usage(self, usage: Usage) -> Iterator[Finding]:
        """Yield a finding for each misspelt call, or each training that allocates nothing."""
        for call in usage.misspelt_allocations:
            yield self.finding(
                usage,
                call,
                f"`{ast.unparse(call.func)[-60:]}` is not a method of the model; did you mean "
                f"`{ALLOCATE}`?",
                hint=f"write {ALLOCATE}",
            )
        if usage.misspelt_allocations:
            return
        seen: set[ast.AST] = set()
        for training in usage.once(trainings):
            if training.allocates is not False:
                continue
            loops = training.event.loops
            place = loops[-1] if training.kind in {"loop", "accelerate"} else training.event.node
            if place not in seen:
                seen.add(place)
                yield self.finding(
                    usage, training.event.node, _message(training), hint=_hint(usage, training)
                )


def _message(training: Training) -> str:
    call = ast.unparse(training.event.call.func)[-60:]
    if training.kind in {"loop", "accelerate"}:
        return f"`{call}` is called for an AdaLoRA model in a loop without update_and_allocate"
    caller = "hook of the module" if training.kind == "lightning" else "callback"
    return f"`{call}` trains an AdaLoRA model, and no {caller} calls update_and_allocate"


def _hint(usage: Usage, training: Training) -> str:
    wraps = [wrap for wrap in usage.wraps if wrap.is_adalora]
    if wraps and all(wrap.is_injected for wrap in wraps):
        return (
            "an injected adapter has no update_and_allocate: use adalora_core's "
            "allocate_on_step(optimizer, attach(model)), or get_peft_model"
        )
    if usage.our_names and training.kind == "trainer":
        return "call adalora_core.AdaLoraCallback().add_to(trainer) before trainer.train()"
    return PLACES[training.kind]


class StepIsConstant(AllocationRule):
    code = "ADA902"
    summary = "the step passed to update_and_allocate never changes during the run"
    why = (
        "The schedule follows the number: with one number it stays in one phase for ever. The "
        "rank of a process and a setting such as target_r are no steps."
    )
    bad = HEAD + LOOP.replace("allocate(step)", "allocate(config.target_r)")
    hint = "pass the number of the optimizer step, from 0 to total_step - 1"

    def check_call(self, usage: Usage, trace: Trace, event: Event) -> Iterator[Finding]:
        """Yield a finding if the step is a constant."""
        if not is_repeated(usage, trace, event):
            return  # one step, as in a test
        if step_counter(usage, trace, event).counts == "nothing":
            yield self.finding(
                usage,
                event.node,
                f"update_and_allocate is called with `{_given(event)}`, which never changes "
                "during the run",
            )


def _given(event: Event) -> str:
    given = keyword(event.call, "global_step", "step", at=0)
    return "" if given is None else ast.unparse(given)[:60]


class StepIsNotOptimizerStep(AllocationRule):
    code = "ADA903"
    summary = "the step passed to update_and_allocate counts epochs, micro-batches or samples"
    why = (
        "tinit, tfinal, deltaT and total_step count steps of the optimizer. A number that grows "
        "more slowly never leaves the warm-up; one that grows faster ends the schedule too early."
    )
    bad = HEAD + EPOCHS.replace("allocate(step)", "allocate(epoch)")
    good = HEAD + _ACCUMULATED
    hint = "count the calls of optimizer.step() from 0, over all epochs, and pass that number"

    def check_call(self, usage: Usage, trace: Trace, event: Event) -> Iterator[Finding]:
        """Yield a finding if the step counts something else."""
        counts = step_counter(usage, trace, event).counts
        if counts not in {"epochs", "micro-batches", "samples"}:
            return
        place = placement(trace, event)
        if place is not None and counts != "epochs" and is_per_micro_batch(usage, event, place):
            return  # the number of calls is the fault
        yield self.finding(
            usage,
            event.node,
            f"update_and_allocate is called with `{_given(event)}`, which counts {counts}, not "
            "steps of the optimizer",
        )


class StepRestarts(AllocationRule):
    code = "ADA904"
    summary = "the step passed to update_and_allocate starts again in each epoch"
    why = (
        "The schedule goes back to the warm-up in each epoch, and the final phase never comes if "
        "an epoch is shorter than the schedule."
    )
    bad = HEAD + EPOCHS.replace("for batch in loader", "for i, batch in enumerate(loader)").replace(
        "allocate(step)", "allocate(i)"
    )
    good = HEAD + EPOCHS
    hint = "count the steps over all epochs: `step += 1` after each, or epoch * len(loader) + i"

    def check_call(self, usage: Usage, trace: Trace, event: Event) -> Iterator[Finding]:
        """Yield a finding if the step restarts."""
        if step_counter(usage, trace, event).restarts:
            yield self.finding(
                usage,
                event.node,
                f"update_and_allocate is called with `{_given(event)}`, which starts again in "
                "each epoch",
            )
