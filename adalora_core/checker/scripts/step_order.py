"""Place an allocation among the steps of the optimizer, and count the steps of a run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Literal

from adalora_core.checker.documents.python.syntax import Loop, keyword, last_name, walk
from adalora_core.checker.scripts.events import Event, Guard, Placement, excludes
from adalora_core.checker.scripts.trainings import Training, trainings

if TYPE_CHECKING:
    from adalora_core.checker.scripts.usage import Usage

Unit = Literal["samples", "batches", "steps", "unknown"]

_BATCH_SIZES = frozenset({"batch_size", "per_device_train_batch_size"})
"""Keywords with the number of samples in a micro-batch."""
_LOADER = re.compile("loader", re.IGNORECASE)
_DATA = re.compile("data|train|rows|sample|example|corpus|texts|records|pairs", re.IGNORECASE)
_SAME = frozenset({"int", "round", "max", "min", "ceil", "floor", "float"})


def placement(event: Event) -> Placement | None:
    """Return the place of an allocation among the steps; None if no step is near."""
    places = event.trace.places
    if event.number not in places:
        places[event.number] = _placement(event)
    return places[event.number]


def _placement(event: Event) -> Placement | None:
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
    if len(step.loops) > len(loops):
        level: Literal["same", "inside", "outside"] = "outside"
    else:
        level = "inside" if len(event.loops) > len(loops) else "same"
    dropped = _dropped(step, event) if before else None
    return Placement(level, step, not before, dropped)


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
        (ast.dump(guard.test), guard.holds) in known or _asks_for_gradient(guard)
        for guard in dropped.guards
    )


def _asks_for_gradient(guard: Guard) -> bool:
    return any(each.attr == "grad" for each in walk(guard.test, ast.Attribute))


def accumulation_guards(usage: Usage, event: Event) -> list[Guard]:
    """Return the conditions that hold once per several micro-batches."""
    return [guard for guard in event.guards if _accumulates(usage, guard)]


def _accumulates(usage: Usage, guard: Guard) -> bool:
    if isinstance(guard.test, ast.Compare) and _is_reset_inside(usage, guard):
        return True
    for node in usage.mentions(guard.test, ast.expr):
        if last_name(node) == "sync_gradients":
            return True
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            return can_exceed_one(usage, node.right)
    return False


def _is_reset_inside(usage: Usage, guard: Guard) -> bool:
    """Return whether a condition compares a counter that starts anew where it holds."""
    compared = guard.test.left if isinstance(guard.test, ast.Compare) else None
    if not isinstance(compared, ast.Name):
        return False
    bindings = usage.scopes.bindings(compared)
    branch = usage.scopes.parents[guard.test]
    return any(each.kind == "added" for each in bindings) and any(
        each.kind == "value"
        and isinstance(each.value, ast.Constant)
        and usage.scopes.is_within(each.node, branch)
        for each in bindings
    )


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
    for accelerator in accelerators:
        for leaf in usage.calls(accelerator):
            given = usage.keywords(leaf)
            count = given.get("gradient_accumulation_steps")
            exceeds = count is not None and can_exceed_one(usage, count)
            if exceeds or "gradient_accumulation_plugin" in given:
                return True
    return False


def can_exceed_one(usage: Usage, number: ast.expr) -> bool:
    """Return whether a number is not fixed to 1; a command line can replace its defaults."""
    leaves = usage.origins(number)
    return not all(isinstance(leaf, ast.Constant) and leaf.value == 1 for leaf in leaves)


def unit(usage: Usage, expression: ast.expr | None) -> Unit:
    """Return what a number of steps counts in fact."""
    found = {_unit(usage, leaf) for leaf in usage.origins(expression)}
    return found.pop() if len(found) == 1 else "unknown"


def _unit(usage: Usage, node: ast.expr) -> Unit:
    if isinstance(node, ast.Call):
        name = last_name(node.func)
        if name == "len" and node.args:
            return _of_length(usage, node.args[0])
        return unit(usage, node.args[0]) if name in _SAME and node.args else "unknown"
    if not isinstance(node, ast.BinOp):
        return "samples" if last_name(node) == "num_rows" else "unknown"
    left, right = unit(usage, node.left), unit(usage, node.right)
    if isinstance(node.op, ast.Mult):
        sizes = [(left, node.right), (right, node.left)]
        if any(counted == "batches" and _is_size(usage, by) for counted, by in sizes):
            return "samples"
        return right if left == "unknown" else left
    if isinstance(node.op, ast.Add | ast.Sub):
        return left
    if isinstance(node.op, ast.Div | ast.FloorDiv):
        return _divided(usage, left, node.right)
    return "unknown"


def _divided(usage: Usage, left: Unit, divisor: ast.expr) -> Unit:
    words = " ".join(map(last_name, walk(divisor, ast.Name, ast.Attribute))).lower()
    if "accum" in words:
        return "steps"
    is_number = isinstance(divisor, ast.Constant)
    if left == "samples" and not is_number and ast.dump(divisor) in usage.once(_batch_sizes):
        return "batches"
    if left == "samples" and ("batch" in words or "bs" in words or usage.value(divisor)):
        # A number can be the product of batch size and accumulation.
        return "batches" if "batch" in words and "effective" not in words else "steps"
    return "steps" if left == "batches" else "unknown"


def _is_size(usage: Usage, node: ast.expr) -> bool:
    """Return whether a number is a batch size, or the micro-batches of a step."""
    name = last_name(node).lower()
    return ast.dump(node) in usage.once(_batch_sizes) or "batch_size" in name or "accum" in name


def _batch_sizes(usage: Usage) -> dict[str, ast.expr]:
    """Return what the script gives as the batch size of a device, by the dump of its tree."""
    given = (each for call in usage.scopes.calls for each in call.keywords)
    return {ast.dump(each.value): each.value for each in given if each.arg in _BATCH_SIZES}


def _of_length(usage: Usage, measured: ast.expr) -> Unit:
    leaves = usage.origins(measured)
    texts = [ast.unparse(measured)[:200]]
    texts += [last_name(call.func) for leaf in leaves if (call := _made_by(leaf)) is not None]
    if any(map(_LOADER.search, texts)):
        return "batches"
    is_list = any(isinstance(leaf, ast.List | ast.ListComp) for leaf in leaves)
    return "samples" if is_list or any(map(_DATA.search, texts)) else "unknown"


def _made_by(node: ast.expr) -> ast.Call | None:
    """Return the call whose result, or a part of it, is a value: `load_dataset(...)["train"]`."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node if isinstance(node, ast.Call) else None


def accumulation(usage: Usage) -> int | None:
    """Return the micro-batches of a step; None if they cannot be known."""
    sizes: set[int | None] = {
        usage.value(each.value)
        for call in usage.scopes.calls
        for each in call.keywords
        if each.arg in {"gradient_accumulation_steps", "accumulate_grad_batches"}
    }
    for event in usage.events("step"):
        for guard in accumulation_guards(usage, event):
            sizes |= {
                usage.value(node.right)
                for node in usage.mentions(guard.test, ast.BinOp)
                if isinstance(node.op, ast.Mod)
            }
    return sizes.pop() if len(sizes) == 1 else None if sizes else 1


def batch_size(usage: Usage) -> int | None:
    """Return the batch size of the script; None if it cannot be known."""
    sizes = {usage.value(each) for each in usage.once(_batch_sizes).values()}
    return sizes.pop() if len(sizes) == 1 else None


def run_length(usage: Usage, training: Training) -> int | None:
    """Return the number of optimizer steps that a script fixes; None if it does not."""
    if training.kind in {"loop", "accelerate"}:
        return _loop_length(usage, training)
    lengths = {usage.value(each) for each in _max_steps(usage)}
    length = lengths.pop() if len(lengths) == 1 else None
    return length if length is not None and length > 0 else None


def _max_steps(usage: Usage) -> Iterator[ast.expr]:
    for call in usage.scopes.calls:
        given = keyword(call, "max_steps")
        is_setting = last_name(call.func).endswith(("Arguments", "Config", "Trainer"))
        if given is not None and is_setting and not usage.makes_config(call):
            yield given


def _loop_length(usage: Usage, training: Training) -> int | None:
    event = training.event
    bounds = {bound for loop in event.loops for bound in _bounds(usage, loop)}
    if len(bounds) == 1:
        return bounds.pop()
    length = 1
    keeps = any("save" in name for name in usage.scopes.callers)
    if not keeps or len(usage.once(trainings)) > 1:
        return None  # a part of a run, such as a test or a benchmark
    if sum(map(usage.makes_config, usage.scopes.calls)) > 1:
        return None
    if event.accumulations or accumulation_guards(usage, event):
        return None
    for loop in event.loops:
        if isinstance(loop, ast.While) or any(walk(loop, ast.Break)):
            return None
        if loop in training.event.trace.runs:
            continue
        rounds = _rounds(usage, loop.iter)
        if rounds is None:
            return None
        length *= rounds
    return length if length > 1 else None  # one step is not a run


def _bounds(usage: Usage, loop: Loop) -> Iterator[int]:
    """Yield the numbers of steps at which a loop ends: `while step < 500`, or a break."""
    tests = [loop.test] if isinstance(loop, ast.While) else []
    tests += [
        node.test
        for node in walk(loop, ast.If)
        if any(isinstance(each, ast.Break) for each in node.body)
    ]
    for test in tests:
        if isinstance(test, ast.Compare) and "step" in last_name(test.left):
            bound = usage.value(test.comparators[0])
            if bound is not None and bound > 1:
                yield bound


def _rounds(usage: Usage, over: ast.expr) -> int | None:
    found = [call for call in usage.calls(over) if last_name(call.func) == "range"]
    if len(found) != 1:
        return None
    known = usage.script.values.of(found[0])
    if not isinstance(known, list) and len(found[0].args) == 1:
        return usage.value(found[0].args[0])
    return len(known) if isinstance(known, list) else None


def epochs_of_total(usage: Usage, total: ast.expr) -> int | None:
    """Return the epochs in a total such as `len(loader) // 4 * 3`; None if they are not known."""
    leaves = usage.origins(total)
    node = leaves[0] if len(leaves) == 1 else total
    if isinstance(node, ast.Call):
        is_length = last_name(node.func) == "len"
        is_same = last_name(node.func) in _SAME and len(node.args) == 1
        return 1 if is_length else epochs_of_total(usage, node.args[0]) if is_same else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.FloorDiv):
        return epochs_of_total(usage, node.left)
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Mult):
        return None
    left, right = epochs_of_total(usage, node.left), epochs_of_total(usage, node.right)
    factor = usage.value(node.left if left is None else node.right)
    found = right if left is None else left
    return None if found is None or factor is None else found * factor


def epochs_of_run(usage: Usage, training: Training) -> int | None:
    """Return the epochs that a script fixes; None if it does not, or may leave a loop early."""
    if training.kind == "trainer":
        settings = [c for c in usage.scopes.calls if last_name(c.func).endswith("Arguments")]
        given = [usage.keywords(call) for call in settings]
        is_known = len(given) == 1 and "max_steps" not in given[0]
        return usage.value(given[0].get("num_train_epochs")) if is_known else None
    epochs = 1
    loops = [loop for loop in training.event.loops if loop not in training.event.trace.runs]
    for loop in loops:
        rounds = None if isinstance(loop, ast.While) else _rounds(usage, loop.iter)
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
