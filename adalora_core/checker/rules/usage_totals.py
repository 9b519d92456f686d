"""Find totals of another unit or another run, and schedules that leave a phase out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import called_name, last_name, only, walk
from adalora_core.checker.rules.usage_base import (
    HEAD,
    LOOP,
    AllocationRule,
    CodeFault,
    UsageRule,
    example,
    shown,
)
from adalora_core.checker.scripts.step_order import (
    accumulation,
    batch_size,
    epochs_of_run,
    epochs_of_total,
    run_length,
    unit,
)
from adalora_core.checker.scripts.trainings import trainings

if TYPE_CHECKING:
    from adalora_core.checker.scripts.events import Guard
    from adalora_core.checker.scripts.usage import Usage


class TotalStepCountsSamples(UsageRule):
    code = "ADA911"
    summary = "total_step is computed from samples or micro-batches, not from optimizer steps"
    why = """The schedule is then longer than the run by the batch size or the accumulation:
    budgeting ends late or never, and the final phase never comes."""
    bad = HEAD.replace("total_step=1000", "total_step=len(train_dataset) * 3") + LOOP
    good = HEAD.replace("total_step=1000", "total_step=len(train_loader) * 3") + LOOP
    hint = "give the number of optimizer steps: math.ceil(len(loader) / accumulation) * epochs"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        for key, value in usage.totals():
            counted = unit(usage, value)
            waits = usage.once(accumulation)
            hint = None
            if _counts_epochs_alone(usage, value):
                fault = "the number of epochs, not of optimizer steps"
            elif _counts_all_processes(usage, value):
                fault = "the steps of all processes together"
                hint = "divide it by the number of processes, or take len(loader) after prepare()"
            elif counted == "samples" and not (batch_size(usage) == 1 and waits == 1):
                fault = "a number of samples, not of optimizer steps"
            elif counted == "batches" and waits is not None and waits > 1:
                fault = f"a number of micro-batches, {waits} of which make one optimizer step"
            else:
                continue
            yield CodeFault(key, f"total_step is {shown(value)}: {fault}", hint)


def _counts_epochs_alone(usage: Usage, total: ast.expr) -> bool:
    """Return whether a total is what the outer loop, or the trainer, is given as its epochs."""
    rounds = [
        call.args[0]
        for event in usage.events("step")
        for loop in event.loops[:-1]
        if isinstance(loop, ast.For)
        for call in usage.calls(loop.iter)
        if called_name(call) == "range" and len(call.args) == 1
    ]
    rounds += usage.settings("num_train_epochs", "max_epochs")
    same = {ast.dump(each) for each in rounds if not isinstance(each, ast.Constant)}
    return ast.dump(total) in same


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
        kinds = (steps, epochs) if units <= {"batches", "steps"} else (steps,)
        for count, read, counted, most in kinds:
            total = only(count(value) for _, value in given)
            number = None if total is None else only(read(usage, each) for each in trained)
            if number is not None and total is not None and abs(total - number) > most:
                message = f"total_step is {total} {counted}, and the script trains {number}"
                yield from (CodeFault(key, message) for key, _ in given)
        length = only(run_length(usage, training) for training in trained) if given else None
        is_trainer = length is not None and all(training.trainers for training in trained)
        for key, value in given if is_trainer else ():
            words = {last_name(node) for node in usage.mentions(value, ast.expr)}
            is_counted = "len" in words and words.isdisjoint({"min", "max_steps"})
            if is_counted and usage.value(value) is None:
                message = f"total_step is {shown(value)}, and max_steps ends the run before its "
                yield CodeFault(key, f"{message}epochs do")


class EpochIsCut(UsageRule):
    code = "ADA922"
    summary = "total_step counts whole epochs, and the loop leaves them early"
    why = """The schedule is longer than the run: the budget has not reached its target, or has not
    begun to fall, when the training ends."""
    bad = HEAD.replace("total_step=1000", "total_step=3 * len(loader)") + (
        "step = 0\nfor epoch in range(3):\n    for i, batch in enumerate(loader):\n"
        "        if i == 1000:\n            break\n"
        "        model(**batch).loss.backward()\n        optimizer.step()\n"
        "        model.base_model.update_and_allocate(step)\n        optimizer.zero_grad()\n"
        "        step += 1\n"
    )
    good = bad.replace("3 * len(loader)", "3 * 1000")
    hint = "count the batches that are trained: epochs * the limit of the loop"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        around = (loop for event in usage.events("step") for loop in event.loops)
        loops = dict.fromkeys(loop for loop in around if isinstance(loop, ast.For))
        for key, value in usage.totals():
            nodes = list(usage.mentions(value, ast.expr))
            calls = [n for n in nodes if isinstance(n, ast.Call) and called_name(n) == "len"]
            measured = {ast.unparse(each.args[0]) for each in calls if each.args}
            for loop in loops if measured else ():
                cut = _cut(usage, loop, nodes, measured)
                if cut is not None:
                    message = f"total_step is {shown(value)}, and epochs end early"
                    yield CodeFault(key, message, note=(cut, "the loop is left here"))
                    break


def _cut(usage: Usage, loop: ast.For, total: list[ast.expr], measured: set[str]) -> ast.AST | None:
    """Return what leaves a loop over a loader, whose length is in a total, after some batches."""
    over, index = loop.iter, None
    limited: ast.expr | None = None
    while isinstance(over, ast.Call) and over.args and last_name(over.func) in _PASSES:
        if last_name(over.func) == "enumerate" and isinstance(loop.target, ast.Tuple):
            index = last_name(loop.target.elts[0])
        if last_name(over.func) == "islice" and len(over.args) > 1:
            limited = over.args[-1]
        over = over.args[0]
    if ast.unparse(over) not in measured:
        return None
    words = _names(total) - {index}
    numbers = {usage.value(node) for node in total if isinstance(node, ast.Constant)}
    if limited is not None and words.isdisjoint(_names(list(walk(limited, ast.expr)))):
        return limited
    for test in _exits(loop.body):
        calls = map(called_name, usage.mentions(test, ast.Call))
        if not isinstance(test, ast.Compare) or "len" in calls:
            continue  # as of a limit that may not be set, or is what the loader holds
        bound, names = usage.value(test.comparators[0]), _names(list(walk(test, ast.expr)))
        is_known = bound is not None and bound > 1 and bound not in numbers
        is_counted = index in names or (is_known and _counts_batches(usage, test.left, loop))
        if is_counted and names.isdisjoint(words):
            return test
    return None


def _counts_batches(usage: Usage, name: ast.expr, loop: ast.For) -> bool:
    """Return whether a loop raises a number in each round, or each time a step is due."""
    for each in usage.scopes.bindings(name):
        block = usage.scopes.parents[each.node] if each.kind == "added" else None
        is_due = isinstance(block, ast.If) and any(walk(block.test, ast.Mod))
        if block is loop or is_due:
            return True
    return False


_PASSES = frozenset({"enumerate", "tqdm", "islice"})
"""Functions that give the batches of a loader on."""


def _exits(body: list[ast.stmt]) -> Iterator[ast.expr]:
    """Yield the conditions under which a block leaves the loop around it."""
    for each in body:
        if isinstance(each, ast.If):
            if isinstance(each.body[-1], ast.Break | ast.Return):
                yield each.test
            yield from _exits([*each.body, *each.orelse])


def _names(nodes: list[ast.expr]) -> set[str]:
    """Return the names of values: `a.limit` is "limit"."""
    owners = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    named = (node for node in nodes if isinstance(node, ast.Name | ast.Attribute))
    return {last_name(node) for node in named if id(node) not in owners}


_WHOLE = 1.0
_PLAIN = frozenset({"int", "round", "floor", "ceil", "float"})
_TOTAL = HEAD.replace("\nconfig", "\ntotal = 3 * len(loader)\nconfig").replace(
    "total_step=1000", "total_step=total"
)


class SharesLeaveNoBudgeting(UsageRule):
    code = "ADA937"
    summary = "tinit and tfinal are shares of the run that leave nothing between them"
    why = """The budget falls from step tinit to step total_step - tfinal: tfinal is the length of
    the last phase, not the step where it begins. PEFT raises a ValueError when the configuration
    is built, or one step is left by rounding."""
    bad = _TOTAL.replace(
        "tinit=200,\n    tfinal=200", "tinit=int(0.1 * total),\n    tfinal=int(0.9 * total)"
    ) + LOOP  # fmt: skip
    good = bad.replace("0.9 * total", "0.3 * total")
    hint = "give both phases together less than the whole run, such as a tenth and three tenths"

    def check_usage(self, usage: Usage) -> Iterator[CodeFault]:
        for call in usage.script.calls:
            entries = [call.entries.get(n, (None, None)) for n in ("total_step", "tinit", "tfinal")]
            values = [value for _, value in entries if value is not None]
            if len(values) < len(entries) or "total_step" in usage.stored:
                continue
            totals = {ast.unparse(each) for each in (values[0], *usage.origins(values[0]))}
            if usage.value(values[0]) is not None:
                continue
            parts = [_share(usage, each, totals) for each in values[1:]]
            known = [each for each in parts if each is not None]
            share = round(sum(each for each, _ in known), 9)
            rest = sum(each for _, each in known)
            if len(known) == len(parts) and (share > _WHOLE or (share == _WHOLE and rest >= 0)):
                texts = " + ".join(map(shown, values[1:]))
                key = entries[2][0]
                yield CodeFault(key or call.node, f"tinit + tfinal is {texts}: the whole run")


def _share(usage: Usage, node: ast.expr, totals: set[str]) -> tuple[float, float] | None:
    """Return a number as a share of the total, and what is added to it; None: not known."""
    known = usage.script.values.of(node)
    leaves = usage.origins(node)
    if ast.unparse(node) in totals:
        return 1.0, 0.0
    if type(known) in {int, float}:
        return 0.0, float(known)
    if len(leaves) == 1 and leaves[0] is not node:
        return _share(usage, leaves[0], totals)
    if isinstance(node, ast.Call) and last_name(node.func) in _PLAIN and node.args:
        return _share(usage, node.args[0], totals)
    return _joined(usage, node, totals) if isinstance(node, ast.BinOp) else None


def _joined(usage: Usage, node: ast.BinOp, totals: set[str]) -> tuple[float, float] | None:
    left, right = (_share(usage, each, totals) for each in (node.left, node.right))
    if left is None or right is None:
        return None
    if isinstance(node.op, ast.Add | ast.Sub):
        sign = 1 if isinstance(node.op, ast.Add) else -1
        return left[0] + sign * right[0], left[1] + sign * right[1]
    if isinstance(node.op, ast.Mult) and not (left[0] and right[0]):
        factor, other = (left[1], right) if not left[0] else (right[1], left)
        return factor * other[0], factor * other[1]
    if isinstance(node.op, ast.Div | ast.FloorDiv) and not right[0] and right[1]:
        return left[0] / right[1], left[1] / right[1]
    return None


class AllocationEndsEarly(AllocationRule):
    code = "ADA938"
    only_with = ("tfinal",)
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
        match guard.test:
            case ast.Compare(_, [asked], [end]) if isinstance(asked, ends):
                words = (last_name(node).lower() for node in usage.mentions(end, ast.expr))
                if "tfinal" in words:
                    return f"update_and_allocate is called only while {shown(guard.test)}"
        return None
