"""Place an allocation among the steps of the optimizer, and count the steps of a run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from itertools import takewhile
from typing import TYPE_CHECKING, Literal

from adalora_core.checker.documents.python.syntax import (
    Loop,
    called_name,
    keyword,
    last_name,
    only,
    walk,
)
from adalora_core.checker.scripts.events import Event, Guard, Level, Placement, excludes
from adalora_core.checker.scripts.trainings import Training, trainings

if TYPE_CHECKING:
    from adalora_core.checker.scripts.usage import Usage

Unit = Literal["constant", "epochs", "micro-batches", "samples", "steps", "unknown"]
"""What a number counts."""

_LOADER = re.compile("loader", re.IGNORECASE)
_DATA = re.compile("data|train|rows|sample|example|corpus|texts|records|pairs", re.IGNORECASE)
_SIZE = re.compile("batch_size|accum", re.IGNORECASE)
"""The name of a batch size, or of the micro-batches of a step."""
_LOADED = {"load_dataset", "load_from_disk"}
_SAME = frozenset({"int", "round", "max", "min", "ceil", "floor", "float"})


def placement(event: Event) -> Placement | None:
    """Return the place of an allocation among the steps; None if no step is near."""
    steps = [each for each in event.trace.of("step") if not excludes(each, event)]
    shared = {each: _shared(event.loops, each.loops) for each in steps}
    steps = [each for each in steps if shared[each] or not (event.loops or each.loops)]
    if not steps:
        return None
    deepest = max(len(shared[each]) for each in steps)
    steps = [each for each in steps if len(shared[each]) == deepest]
    before = [each for each in steps if each.number < event.number]
    step = before[-1] if before else steps[0]
    loops = shared[step]
    is_inside, is_outside = len(event.loops) > len(loops), len(step.loops) > len(loops)
    level: Level = "outside" if is_outside else "inside" if is_inside else "same"
    return Placement(level, step, not before, _dropped(step, event) if before else None)


def _dropped(step: Event, event: Event) -> Event | None:
    """Return what drops the gradients of a step before it or before its allocation."""
    events = event.trace.events
    backward = [e for e in events[: step.number] if e.kind == "backward"]
    start = backward[-1].number if backward and backward[-1].loops == step.loops else step.number
    for each in events[start + 1 : event.number]:
        # Before the step, another optimizer may drop its own gradients.
        is_own = each.number > step.number or _called_on(each.node) == _called_on(step.node)
        if each.kind == "zero" and is_own and _applies(each, event):
            return each
    return None


def _called_on(node: ast.AST) -> str:
    """Return the object whose method is called, as text; nothing for another node."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return ast.dump(node.func.value)
    return ""


def _shared(one: tuple[Loop, ...], other: tuple[Loop, ...]) -> tuple[Loop, ...]:
    same = takewhile(lambda pair: pair[0] is pair[1], zip(one, other, strict=False))
    return tuple(loop for loop, _ in same)


def _applies(dropped: Event, event: Event) -> bool:
    """Return whether gradients are dropped wherever an event happens."""
    known = {(ast.dump(guard.test), guard.holds) for guard in event.guards}
    return all(
        (ast.dump(guard.test), guard.holds) in known
        or any(each.attr == "grad" for each in walk(guard.test, ast.Attribute))
        for guard in dropped.guards
    )


def accumulation_guards(usage: Usage, event: Event) -> list[Guard]:
    """Return the conditions that hold once per several micro-batches."""
    return [guard for guard in event.guards if usage.once(_accumulates, guard.test)]


def _accumulates(usage: Usage, test: ast.expr) -> bool:
    for node in usage.mentions(test, ast.expr):
        if last_name(node) == "sync_gradients":
            return True
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            return can_exceed_one(usage, node.right)
    return False


def is_per_micro_batch(usage: Usage, event: Event, place: Placement) -> bool:
    """Return whether an allocation is called for each micro-batch, and the step is not."""
    if place.level == "inside":
        return not accumulation_guards(usage, event)
    guards = accumulation_guards(usage, event)
    if place.step.accumulations and not guards:
        return accumulates(usage, place.step.accumulations)
    if place.level == "outside":
        return False
    known = {id(guard.test) for guard in event.guards}
    own = [g for g in accumulation_guards(usage, place.step) if id(g.test) not in known]
    return bool(own) and not guards


def accumulates(usage: Usage, accelerators: Iterable[ast.expr]) -> bool:
    """Return whether `accelerator.accumulate` can wait for more than one micro-batch."""
    made = (usage.keywords(call) for each in accelerators for call in usage.calls(each))
    return any(
        "gradient_accumulation_plugin" in given
        or can_exceed_one(usage, given.get("gradient_accumulation_steps"))
        for given in made
    )


def can_exceed_one(usage: Usage, number: ast.expr | None) -> bool:
    """Return whether a number is given that is not fixed to 1: it may be a default."""
    leaves = usage.origins(number)
    return not all(isinstance(leaf, ast.Constant) and leaf.value == 1 for leaf in leaves)


def unit(usage: Usage, expression: ast.expr | None) -> Unit:
    """Return what a number of steps counts in fact."""
    return only(_unit(usage, leaf) for leaf in usage.origins(expression)) or "unknown"


def _unit(usage: Usage, node: ast.expr) -> Unit:
    match node:
        case ast.Call(args=[given, *_]) if called_name(node) == "len":
            return _of_length(usage, given)
        case ast.Call(args=[given, *_]) if called_name(node) in _SAME:
            return unit(usage, given)
        case ast.BinOp(by, ast.Mult(), with_):
            left, right = unit(usage, by), unit(usage, with_)
            for counted, size in ((left, with_), (right, by)):
                if counted == "micro-batches" and _SIZE.search(last_name(size)):
                    return "samples"
            return right if left == "unknown" else left
        case ast.BinOp(left_, ast.Add() | ast.Sub()):
            return unit(usage, left_)
        case ast.BinOp(left_, ast.Div() | ast.FloorDiv(), divisor):
            return _divided(usage, unit(usage, left_), divisor)
    return "samples" if last_name(node) == "num_rows" else "unknown"


def _divided(usage: Usage, left: Unit, divisor: ast.expr) -> Unit:
    words = " ".join(map(last_name, walk(divisor, ast.Name, ast.Attribute))).lower()
    if "accum" in words:
        return "steps"
    is_size = "batch" in words or not {"bs", "bsz"}.isdisjoint(words.split())
    if left == "samples" and (is_size or usage.value(divisor)):
        # A number can be the product of batch size and accumulation.
        return "micro-batches" if is_size and "effective" not in words else "steps"
    return "steps" if left == "micro-batches" else "unknown"


def _of_length(usage: Usage, measured: ast.expr) -> Unit:
    loops = (each.loops[-1] for each in usage.events("step") if each.loops)
    if any(_runs_over(loop, measured) for loop in loops):
        return "micro-batches"
    leaves = usage.origins(measured)
    is_list = any(isinstance(leaf, ast.ListComp) for leaf in leaves)
    texts = [ast.unparse(measured)[:200], *map(called_name, leaves)]
    chunks = (getattr(getattr(leaf, "elt", None), "slice", None) for leaf in leaves)
    if any(map(_LOADER.search, texts)) or any(isinstance(each, ast.Slice) for each in chunks):
        return "micro-batches"
    is_list |= any(map(_DATA.search, texts))
    made = (called_name(call) for call in usage.mentions(measured, ast.Call))
    return "samples" if is_list or not _LOADED.isdisjoint(made) else "unknown"


def _runs_over(loop: Loop, measured: ast.expr) -> bool:
    """Return whether each entry of what is measured has its turn in a loop."""
    given = loop.iter if isinstance(loop, ast.For) else None
    while isinstance(given, ast.Call) and called_name(given) in {"enumerate", "tqdm"}:
        given = given.args[0] if given.args else None
    return given is not None and ast.dump(given) == ast.dump(measured)


def accumulation(usage: Usage) -> int | None:
    """Return the micro-batches of a step; None if they cannot be known."""
    given = list(usage.settings("gradient_accumulation_steps", "accumulate_grad_batches"))
    for event in usage.events("step"):
        for guard in accumulation_guards(usage, event):
            nodes = usage.mentions(guard.test, ast.BinOp)
            given += [node.right for node in nodes if isinstance(node.op, ast.Mod)]
    return only(map(usage.value, given)) if given else 1


def run_length(usage: Usage, training: Training) -> int | None:
    """Return the number of optimizer steps that a script fixes; None if it does not."""
    if training.kind in {"loop", "accelerate"}:
        return _loop_length(usage, training)
    length = usage.once(_max_steps)
    return length if length is not None and length > 0 else None


def _max_steps(usage: Usage) -> int | None:
    return only(
        usage.value(given)
        for call in usage.scopes.calls
        if (given := keyword(call, "max_steps")) is not None
        and called_name(call).endswith(("Arguments", "Config", "Trainer"))
        and not usage.makes_config(call)
    )


def _loop_length(usage: Usage, training: Training) -> int | None:
    event = training.event
    length = 1
    keeps = any("save" in name for name in usage.scopes.callers)
    if not keeps or len(usage.once(trainings)) > 1:
        return None  # a part of a run, such as a test or a benchmark
    if sum(map(usage.makes_config, usage.scopes.calls)) > 1:
        return None
    if event.accumulations or accumulation_guards(usage, event):
        return None
    for loop in event.loops:
        if any(walk(loop, ast.Break)):
            return None
        rounds = _rounds(usage, loop)
        if loop not in event.trace.runs or isinstance(loop, ast.While):
            length *= rounds or 0
    return length if length > 1 else None  # one step is not a run


def _rounds(usage: Usage, loop: Loop) -> int | None:
    over = None if isinstance(loop, ast.While) else loop.iter
    found = [call for call in usage.calls(over) if called_name(call) == "range"]
    known = usage.script.values.of(found[0]) if len(found) == 1 else None
    if len(found) == len(found[0].args if found else ()) == 1 and not isinstance(known, list):
        return usage.value(found[0].args[0])
    return len(known) if isinstance(known, list) else None


def epochs_of_total(usage: Usage, total: ast.expr) -> int | None:
    """Return the epochs in a total such as `len(loader) // 4 * 3`; None if they are not known."""
    leaves = usage.origins(total)
    node = leaves[0] if len(leaves) == 1 else total
    match node:
        case ast.Call() if called_name(node) == "len":
            return 1
        case ast.Call(args=[given]) if called_name(node) in _SAME:
            return epochs_of_total(usage, given)
        case ast.BinOp(left, ast.Div() | ast.FloorDiv()):
            return epochs_of_total(usage, left)
        case ast.BinOp(left, ast.Mult(), right):
            known = epochs_of_total(usage, left)
            found = epochs_of_total(usage, right) if known is None else known
            factor = usage.value(left if known is None else right)
            return None if found is None or factor is None else found * factor
    return None


def epochs_of_run(usage: Usage, training: Training) -> int | None:
    """Return the epochs that a script fixes; None if it does not, or may leave a loop early."""
    if training.kind == "trainer":
        settings = [c for c in usage.scopes.calls if called_name(c).endswith("Arguments")]
        given = usage.keywords(settings[0]) if len(settings) == 1 else {}
        return None if "max_steps" in given else usage.value(given.get("num_train_epochs"))
    epochs = 1
    loops = [loop for loop in training.event.loops if loop not in training.event.trace.runs]
    for loop in loops:
        rounds = _rounds(usage, loop)
        if _is_uneven(loop) or (rounds is None) is not (loop is loops[-1]):
            return None
        epochs *= rounds or 1
    return epochs if epochs > 1 else None


def _is_uneven(loop: Loop) -> bool:
    """Return whether a loop may end early, or does something else in some of its rounds."""
    target = last_name(getattr(loop, "target", None))
    return any(
        not isinstance(node, ast.If) or target in map(last_name, walk(node.test, ast.Name))
        for node in walk(loop, ast.Break, ast.Return, ast.If)
    )
