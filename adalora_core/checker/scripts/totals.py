"""Find out what the number counts that a script gives as `total_step`."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Literal

from adalora_core.checker.documents.python.syntax import keyword, last_name, walk
from adalora_core.checker.scripts.order import accumulation_guards
from adalora_core.checker.scripts.trainings import trainings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.checker.documents.python.syntax import Loop
    from adalora_core.checker.scripts.trainings import Training
    from adalora_core.checker.scripts.usage import Usage

Unit = Literal["samples", "batches", "steps", "unknown"]

_BATCH_SIZES = frozenset({"batch_size", "per_device_train_batch_size"})
"""Keywords with the number of samples in a micro-batch."""
_LOADER = re.compile("loader", re.IGNORECASE)
_DATA = re.compile("data|train|rows|sample|example|corpus|texts|records|pairs", re.IGNORECASE)
_SAME = frozenset({"int", "round", "max", "min", "ceil", "floor", "float"})


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
    if isinstance(node, ast.Attribute):
        return "samples" if node.attr == "num_rows" else "unknown"
    if not isinstance(node, ast.BinOp):
        return "unknown"
    left, right = unit(usage, node.left), unit(usage, node.right)
    if isinstance(node.op, ast.Mult):
        return right if left == "unknown" else left
    if isinstance(node.op, ast.Add | ast.Sub):
        return left
    if isinstance(node.op, ast.Div | ast.FloorDiv):
        return _divided(usage, left, node.right)
    return "unknown"


def _divided(usage: Usage, left: Unit, divisor: ast.expr) -> Unit:
    words = " ".join(
        last_name(node) for node in walk(divisor) if isinstance(node, ast.Name | ast.Attribute)
    ).lower()
    if "accum" in words:
        return "steps"
    is_number = isinstance(divisor, ast.Constant)
    if left == "samples" and not is_number and ast.dump(divisor) in usage.once(_batch_sizes):
        return "batches"
    if left == "samples" and ("batch" in words or "bs" in words or usage.value(divisor)):
        # A number can be the product of batch size and accumulation.
        return "batches" if "batch" in words and "effective" not in words else "steps"
    return "steps" if left == "batches" else "unknown"


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
    for _, event in usage.events("step"):
        for guard in accumulation_guards(usage, event):
            sizes |= {
                usage.value(node.right)
                for node in usage.mentions(guard.test)
                if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod)
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
    if not keeps or len(usage.once(trainings)) > 1 or len(usage.configs) > 1:
        return None  # a part of a run, such as a test or a benchmark
    if event.accumulations or accumulation_guards(usage, event):
        return None
    for loop in event.loops:
        if isinstance(loop, ast.While) or any(isinstance(n, ast.Break) for n in walk(loop)):
            return None
        if loop in training.trace.runs:
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
        for node in walk(loop)
        if isinstance(node, ast.If) and any(isinstance(each, ast.Break) for each in node.body)
    ]
    for test in tests:
        if isinstance(test, ast.Compare) and "step" in last_name(test.left):
            bound = usage.value(test.comparators[0])
            if bound is not None and bound > 1:
                yield bound


def _rounds(usage: Usage, over: ast.expr) -> int | None:
    for call in usage.calls(over):
        if last_name(call.func) == "range":
            known = usage.script.values.of(call)
            return len(known) if isinstance(known, list) else None
    return None
