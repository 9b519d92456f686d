"""Find scripts that never allocate, pass a wrong step, or give a total of another unit or run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import (
    Function,
    called_name,
    last_name,
    only,
    walk,
)
from adalora_core.checker.rules.usage_base import (
    EPOCHS,
    HEAD,
    LOOP,
    PLACES,
    AllocationRule,
    CodeFault,
    UsageRule,
    example,
    shown,
)
from adalora_core.checker.scripts.counters import is_repeated, step_counter
from adalora_core.checker.scripts.step_order import (
    accumulation,
    epochs_of_run,
    epochs_of_total,
    is_per_micro_batch,
    placement,
    run_length,
    unit,
)
from adalora_core.checker.scripts.trainings import Training, trainings

if TYPE_CHECKING:
    from adalora_core.checker.scripts.events import Event, Guard
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


class AllocationNeverCalled(UsageRule):
    code = "ADA901"
    summary = "a script trains an AdaLoRA model and never calls update_and_allocate"
    why = """Only that call prunes. Without it every matrix keeps init_r triplets: the run is a
    plain LoRA of the larger rank, at the price of AdaLoRA. Where the model is made by this package
    or by PEFT's names in adalora_core.peft, the package calls it, and this is an information."""
    bad = HEAD + LOOP.replace("    model.base_model.update_and_allocate(step)\n", "")
    hint = PLACES["loop"]

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        found: dict[ast.AST, Training] = {}
        made = usage.once(trainings)
        for training in made:
            if training.allocates is False and not _trains_others(usage, training, made):
                event, is_loop = training.event, training.kind in {"loop", "accelerate"}
                found.setdefault(event.loops[-1] if is_loop else event.node, training)
        severity: Severity | None = "info" if usage.is_called_for else None
        for training in found.values():
            message, hint = _message(training), PLACES[training.kind]
            if usage.our_names and training.kind == "trainer":
                hint = "call adalora_core.AdaLoraCallback().add_to(trainer) before trainer.train()"
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


def _message(training: Training) -> str:
    function = training.event.call.func
    call = shown(function) if isinstance(function, ast.Name) else f"`{last_name(function)}`"
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        call = shown(function)
    if training.kind in {"loop", "accelerate"}:
        return f"{call} is called for an AdaLoRA model in a loop without update_and_allocate"
    caller = "hook of the module" if training.kind == "lightning" else "callback"
    return f"{call} trains an AdaLoRA model, and no {caller} calls update_and_allocate"


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


class TotalStepCountsSamples(UsageRule):
    code = "ADA911"
    summary = "total_step is computed from samples or micro-batches, not from optimizer steps"
    why = """The schedule is then longer than the run by the batch size or the accumulation:
    budgeting ends late or never, and the final phase never comes."""
    bad = HEAD.replace("total_step=1000", "total_step=len(train_dataset) * 3") + LOOP
    good = HEAD.replace("total_step=1000", "total_step=len(train_loader) * 3") + LOOP
    hint = "give the number of optimizer steps: math.ceil(len(loader) / accumulation) * epochs"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        sizes = list(usage.settings("batch_size", "per_device_train_batch_size"))
        for key, value in usage.totals():
            counted = unit(usage, value)
            waits = usage.once(accumulation)
            hint = None
            if ast.dump(value) in usage.once(_numbers_of_epochs):
                fault = "the number of epochs, not of optimizer steps"
            elif _counts_all_processes(usage, value):
                fault = "the steps of all processes together"
                hint = "divide it by the number of processes, or take len(loader) after prepare()"
            elif counted == "samples" and not (waits == 1 and 1 in map(usage.value, sizes)):
                fault = "a number of samples, not of optimizer steps"
            elif counted == "micro-batches" and waits is not None and waits > 1:
                fault = f"a number of micro-batches, {waits} of which make one optimizer step"
            else:
                continue
            yield CodeFault(key, f"total_step is {shown(value)}: {fault}", hint)


def _numbers_of_epochs(usage: Usage) -> set[str]:
    """Return the expressions that outer loops, or trainers, are given as their epochs."""
    rounds = [
        call.args[0]
        for event in usage.events("step")
        for loop in event.loops[:-1]
        if isinstance(loop, ast.For)
        for call in usage.calls(loop.iter)
        if called_name(call) == "range" and len(call.args) == 1
    ]
    rounds += usage.settings("num_train_epochs", "max_epochs")
    return {ast.dump(each) for each in rounds if not isinstance(each, ast.Constant)}


def _counts_all_processes(usage: Usage, total: ast.expr) -> bool:
    """Return whether a total is made of what is divided between processes, and not divided."""
    nodes = list(usage.mentions(total, ast.BinOp, ast.Call))
    products = [each for each in nodes if isinstance(each, ast.BinOp)]
    divisors = [each.right for each in products if isinstance(each.op, ast.Div | ast.FloorDiv)]
    words = (last_name(node) for each in divisors for node in usage.mentions(each, ast.expr))
    if any(map(_PROCESSES.search, words)):
        return False
    callers, position = usage.scopes.callers, usage.scopes.position
    samplers = [each for each in callers.get("DistributedSampler", ()) if each.args]
    divided = {ast.dump(each.args[0]): len(position) for each in samplers}
    if _SEVERAL.search(usage.script.code):  # it says how it is started
        for call in callers.get("prepare", ()):
            divided |= {ast.dump(each): position[call] for each in call.args}
    return any(
        position[node] < divided.get(ast.dump(node.args[0]), -1)
        for node in nodes
        if isinstance(node, ast.Call) and called_name(node) == "len" and node.args
    )


_SEVERAL = re.compile(r"(--num_processes|--nproc[-_]per[-_]node)[ =]+([2-9]|\d\d)")
_PROCESSES = re.compile(
    r"world|num_?proc|nproc|replica|n(um)?_?gpus?\b|device_count", re.IGNORECASE
)


class TotalStepContradictsMaxSteps(UsageRule):
    code = "ADA912"
    summary = "total_step differs from the number of steps that the script trains"
    why = """With a larger total_step, or one of more epochs, the run ends before its schedule, and
    the target rank is not reached; with a smaller one the last steps are outside of it."""
    bad = example(
        'arguments = TrainingArguments("out", max_steps=500)\n'
        "Trainer(model=model, args=arguments, callbacks=callbacks).train()\n",
        "from transformers import Trainer, TrainingArguments",
    )
    good = bad.replace("max_steps=500", "max_steps=1000")
    hint = "give total_step the number of steps of the run"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        given, trained = usage.totals(), usage.once(trainings)
        units = {unit(usage, value) for _, value in given}
        steps = (usage.value, run_length, "steps", 1)
        epochs = (partial(epochs_of_total, usage), epochs_of_run, "epochs", 0)
        kinds = (steps, epochs) if units <= {"micro-batches", "steps"} else (steps,)
        for count, read, counted, most in kinds:
            total = only(count(value) for _, value in given)
            number = None if total is None else only(read(usage, each) for each in trained)
            if number is not None and total is not None and abs(total - number) > most:
                noun = counted if total != 1 else counted.removesuffix("s")
                message = f"total_step is {total} {noun}, and the script trains {number}"
                yield from (CodeFault(key, message) for key, _ in given)
        length = only(run_length(usage, training) for training in trained) if given else None
        is_trainer = length is not None and all(training.trainers for training in trained)
        for key, value in given if is_trainer else ():
            words = {last_name(node) for node in usage.mentions(value, ast.expr)}
            is_counted = "len" in words and words.isdisjoint({"min", "max_steps"})
            if is_counted and usage.value(value) is None:
                message = f"total_step is {shown(value)}, and max_steps ends the run before its "
                yield CodeFault(key, f"{message}epochs do")


class AllocationEndsEarly(AllocationRule):
    code = "ADA938"
    summary = "update_and_allocate is not called any more in the final phase"
    why = """The call at step total_step - tfinal fixes which triplets are kept, and the calls after
    it hold the others at zero. Without them the optimizer brings dropped triplets back, and
    rank_pattern, which the saved adapter needs, is never written."""
    bad = HEAD + LOOP.replace(
        "    model.base", "    if step < config.total_step - config.tfinal:\n        model.base"
    )
    hint = "call it after every step of the optimizer, without the condition"

    def check_guard(self, usage: Usage, guard: Guard) -> str | None:
        ends = ast.Lt | ast.LtE if guard.holds else ast.Gt | ast.GtE
        is_both = isinstance(guard.test, ast.BoolOp) and isinstance(guard.test.op, ast.And)
        parts = guard.test.values if isinstance(guard.test, ast.BoolOp) else [guard.test]
        for test in parts if is_both is guard.holds or len(parts) == 1 else ():
            if not isinstance(test, ast.Compare) or len(test.ops) > 1 > guard.holds:
                continue
            for asked, end in zip(test.ops, test.comparators, strict=True):
                words = {last_name(node).lower() for node in usage.mentions(end, ast.expr)}
                is_last = not words.isdisjoint({"tfinal", "t_final"}) or _is_final(usage, end)
                if isinstance(asked, ends) and is_last:
                    return f"update_and_allocate is called only while {shown(guard.test)}"
        return None


def _is_final(usage: Usage, end: ast.expr) -> bool:
    """Return whether a number is the step at which the final phase of a schedule begins."""
    values = (call.values for call in usage.script.calls)
    schedules = [(each.get("total_step"), each.get("tfinal")) for each in values]
    return any(
        type(total) is type(final) is int and usage.value(end) == total - final
        for total, final in schedules
    )
