"""Find scripts that train AdaLoRA without allocating, or that pass a wrong step."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import Function, called_name, last_name, walk
from adalora_core.checker.rules.usage_base import (
    EPOCHS,
    HEAD,
    LOOP,
    PLACES,
    AllocationRule,
    CodeFault,
    UsageRule,
    shown,
)
from adalora_core.checker.scripts.counters import is_repeated, step_counter
from adalora_core.checker.scripts.frameworks import ALLOCATE
from adalora_core.checker.scripts.step_order import is_per_micro_batch, placement
from adalora_core.checker.scripts.trainings import Training, trainings

if TYPE_CHECKING:
    from adalora_core.checker.scripts.events import Event
    from adalora_core.checker.scripts.usage import Usage
    from adalora_core.config.findings import Severity

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
_NEARLY = 0.93
"""Similarity of a name to another with up to two slips in it."""


class AllocationNeverCalled(UsageRule):
    code = "ADA901"
    summary = "a script trains an AdaLoRA model and never calls update_and_allocate"
    why = """Only that call prunes. Without it every matrix keeps init_r triplets: the run is a
    plain LoRA of the larger rank, at the price of AdaLoRA. Where the model is made by this package
    or by PEFT's names in adalora_core.peft, the package calls it, and this is an information."""
    bad = HEAD + LOOP.replace("    model.base_model.update_and_allocate(step)\n", "")
    hint = PLACES["loop"]

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        misspelt = _misspelt(usage)
        for call in misspelt:
            message = f"{shown(call.func)} is not a method of the model; did you mean `{ALLOCATE}`?"
            yield CodeFault(call, message, f"write {ALLOCATE}")
        found: dict[ast.AST, Training] = {}
        made = usage.once(trainings) if not misspelt else []
        for training in made:
            if training.allocates is False and not _trains_others(usage, training, made):
                event, is_loop = training.event, training.kind in {"loop", "accelerate"}
                found.setdefault(event.loops[-1] if is_loop else event.node, training)
        severity: Severity | None = "info" if usage.is_called_for else None
        for training in found.values():
            message, hint = _message(training), _hint(usage, training)
            if severity:
                message = f"{message}; adalora_core calls it, after every step of the optimizer"
            yield CodeFault(training.event.node, message, hint, severity=severity)


def _trains_others(usage: Usage, training: Training, made: list[Training]) -> bool:
    """Return whether a loop trains without the adapter, beside one that allocates: a head alone."""
    function = training.event.frame.function
    if function is None or not any(each.allocates for each in made):
        return False
    return any(
        called_name(each) == "requires_grad_" or _freezes(usage.called(each))
        for each in walk(function, ast.Call)
    )


def _freezes(function: Function | None) -> bool:
    """Return whether a function changes which parameters are trained."""
    return function is not None and any(
        each.attr == "requires_grad_"
        or (each.attr == "requires_grad" and isinstance(each.ctx, ast.Store))
        for each in walk(function, ast.Attribute)
    )


def _misspelt(usage: Usage) -> list[ast.Call]:
    """Return the calls of a method whose name is nearly `update_and_allocate`, and not defined."""
    defined = {node.name for node in usage.scopes.functions}
    near = [
        call
        for call in usage.scopes.calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr != ALLOCATE
        and abs(len(call.func.attr) - len(ALLOCATE)) <= 2  # noqa: PLR2004 - slips of typing
        and call.func.attr not in defined
    ]
    if not near:
        return []
    # Imported for few scripts only: importing difflib takes time.
    from difflib import get_close_matches

    return [c for c in near if get_close_matches(last_name(c.func), [ALLOCATE], 1, _NEARLY)]


def _message(training: Training) -> str:
    function = training.event.call.func
    call = shown(function) if isinstance(function, ast.Name) else f"`{last_name(function)}`"
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        call = shown(function)
    if training.kind in {"loop", "accelerate"}:
        return f"{call} is called for an AdaLoRA model in a loop without update_and_allocate"
    caller = "hook of the module" if training.kind == "lightning" else "callback"
    return f"{call} trains an AdaLoRA model, and no {caller} calls update_and_allocate"


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
    why = """The schedule follows the number: with one number it stays in one phase for ever. The
    rank of a process and a setting such as target_r are not steps."""
    bad = HEAD + LOOP.replace("allocate(step)", "allocate(config.target_r)")
    hint = "pass the number of the optimizer step, from 0 to total_step - 1"

    def check_call(self, usage: Usage, event: Event) -> CodeFault | None:
        if not (event.call.args or event.call.keywords):
            return CodeFault(event.node, "update_and_allocate is called without the step")
        if not is_repeated(usage, event):
            return None  # one step, as in a test
        is_constant = step_counter(usage, event).counts == "constant"
        return _fault(event, "never changes during the run") if is_constant else None


def _fault(event: Event, of_step: str) -> CodeFault:
    """Return the fault of an allocation whose step is a wrong number."""
    text = "``" if event.step is None else shown(event.step)
    return CodeFault(event.node, f"update_and_allocate is called with {text}, which {of_step}")


class StepIsNotOptimizerStep(AllocationRule):
    code = "ADA903"
    summary = "the step passed to update_and_allocate counts epochs, micro-batches or samples"
    why = """tinit, tfinal, deltaT and total_step count steps of the optimizer. A number that grows
    more slowly never leaves the warm-up; one that grows faster ends the schedule too early."""
    bad = HEAD + EPOCHS.replace("allocate(step)", "allocate(epoch)")
    good = HEAD + _ACCUMULATED
    hint = "count the calls of optimizer.step() from 0, over all epochs, and pass that number"

    def check_call(self, usage: Usage, event: Event) -> CodeFault | None:
        steps = (each.call.func for each in event.trace.of("step"))
        optimizers = {ast.unparse(each.value) for each in steps if isinstance(each, ast.Attribute)}
        # A hook of Lightning may make the steps of several optimizers.
        is_shared = len(optimizers) > 1 and getattr(event.step, "attr", "") == "global_step"
        if is_shared and usage.framework(event.trace.function) == "lightning":
            return _fault(event, "Lightning raises with the step of each optimizer")
        counts = step_counter(usage, event).counts
        if counts not in {"epochs", "micro-batches", "samples"}:
            return None
        place = placement(event)
        if place is not None and counts != "epochs" and is_per_micro_batch(usage, event, place):
            return None  # the number of calls is the fault
        return _fault(event, f"counts {counts}, not steps of the optimizer")


class StepRestarts(AllocationRule):
    code = "ADA904"
    summary = "the step passed to update_and_allocate starts again in each epoch"
    why = """The schedule goes back to the warm-up in each epoch, and the final phase never comes if
    an epoch is shorter than the schedule."""
    bad = HEAD + EPOCHS.replace("for batch in loader", "for i, batch in enumerate(loader)").replace(
        "allocate(step)", "allocate(i)"
    )
    good = HEAD + EPOCHS
    hint = "count the steps over all epochs: `step += 1` after each, or epoch * len(loader) + i"

    def check_call(self, usage: Usage, event: Event) -> CodeFault | None:
        restarts = step_counter(usage, event).restarts
        return _fault(event, "starts again in each epoch") if restarts else None
