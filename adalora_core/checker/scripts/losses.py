"""Find the losses that a script computes itself, without the orthogonality penalty."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import dropwhile, takewhile
from typing import TYPE_CHECKING, Literal

from adalora_core.checker.documents.python.syntax import (
    FUNCTION,
    Function,
    called_name,
    keyword,
    last_name,
    walk,
)

if TYPE_CHECKING:
    from adalora_core.checker.scripts.events import Event
    from adalora_core.checker.scripts.trainings import Training
    from adalora_core.checker.scripts.usage import Usage

Origin = Literal["model", "script", "unknown"]

_PENALTY = re.compile("orth|penalt|regu", re.IGNORECASE)
_NO_PENALTY = frozenset({"orth_reg_weight", "orthogonal_", "regularization"})
_CRITERION = re.compile("loss|criterion|cross_entropy|mse|l1|nll|kl_div|bce", re.IGNORECASE)
_REDUCTIONS = frozenset({
    "mean", "sum", "float", "to", "div", "mul", "square", "pow", "abs", "type", "view", "item",
    "gather", "neg", "squeeze",
})  # fmt: skip

_JOINS = frozenset({"stack", "cat", "tensor", "as_tensor", "zeros"})
"""Functions of torch that can join losses of a model."""


_PRODUCTS = frozenset({"matmul", "mm", "einsum", "bmm"})
"""Functions of torch that multiply matrices."""

_DEEPEST, _MOST_SUMS = 3, 16
"""Bounds of the sums that are followed: names inside of each other, and alternatives."""


def _reads_loss(node: ast.expr) -> bool:
    return any(part.attr == "loss" for part in walk(node, ast.Attribute))


def adds_penalty(usage: Usage) -> bool:
    """Return whether a name of the script contains a word for the penalty."""
    names = {node.name for node in usage.scopes.functions} | usage.scopes.words.keys()
    return any(map(_PENALTY.search, names - _NO_PENALTY))


def own_losses(usage: Usage, training: Training) -> Iterator[ast.expr]:
    """Yield the losses of a training that the script computes itself."""
    for loss in _losses(usage, training):
        read = [(_origin(usage, leaf), leaf) for leaf in usage.origins(loss)]
        origins = {origin for origin, _ in read}
        if "script" in origins and "model" not in origins:
            yield _near(usage, loss, next(leaf for origin, leaf in read if origin == "script"))


def doubled_penalties(usage: Usage, training: Training) -> Iterator[tuple[ast.expr, bool]]:
    """Yield the penalties that a training adds to `outputs.loss`, which contains one.

    Beside each is whether its factor is the `orth_reg_weight` of the configuration.
    """
    given = [value for _, value in usage.arguments("orth_reg_weight")]
    leaves = [leaf for value in given for leaf in usage.origins(value)]
    weights = {ast.dump(leaf) for leaf in leaves if not isinstance(leaf, ast.Constant)}
    for loss in _losses(usage, training):
        for terms in _sums(usage, loss, _DEEPEST):
            if any(_is_loss_of_outputs(usage, term, training) for term in terms):
                factors = (leaf for term in terms for leaf in usage.origins(term))
                is_alike = any(ast.dump(leaf) in weights for leaf in factors)
                yield from ((term, is_alike) for term in terms if _is_penalty(usage, term))


def _is_penalty(usage: Usage, term: ast.expr) -> bool:
    """Return whether a term is a penalty by its name, or compares Gram matrices with identities."""
    if isinstance(term, ast.Call) and re.search("orth", called_name(term), re.IGNORECASE):
        is_given = any(usage.is_adalora_model(a) or last_name(a) == "model" for a in term.args)
        return is_given or not term.args
    function = usage.called(term) if isinstance(term, ast.Call) else None
    nodes = list(usage.mentions(term, ast.AST))
    nodes += [] if function is None else walk(function, ast.AST)
    names = {called_name(node) for node in nodes}
    is_product = any(isinstance(getattr(node, "op", None), ast.MatMult) for node in nodes)
    return "eye" in names and (is_product or not names.isdisjoint(_PRODUCTS))


def _sums(usage: Usage, node: ast.expr, depth: int) -> list[list[ast.expr]]:
    """Return the terms of each sum that a value can be; factors are terms too."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
        left, right = (_sums(usage, side, depth) for side in (node.left, node.right))
        return [[*some, *others] for some in left for others in right][:_MOST_SUMS]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return _sums(usage, node.left, depth)
    is_call = isinstance(node, ast.Call) and not _is_penalty(usage, node)
    if not depth or not (is_call or isinstance(node, ast.Name)):
        return [[node]]
    leaves = [leaf for leaf in usage.origins(node) if leaf is not node]
    bindings = usage.scopes.bindings(node) if isinstance(node, ast.Name) else []
    added = [each.value for each in bindings if each.kind == "added" and each.value is not None]
    found = [terms for leaf in leaves for terms in _sums(usage, leaf, depth - 1)]
    return [[*terms, *added] for terms in found[:_MOST_SUMS]] or [[node]]


def _is_loss_of_outputs(usage: Usage, node: ast.expr, training: Training) -> bool:
    if not isinstance(node, ast.Attribute) or node.attr != "loss":
        return called_name(node) == "compute_loss"
    made = [call.func for call in usage.calls(node.value)]
    is_model = bool(training.trainers) and "model" in map(last_name, made)
    return is_model or any(map(usage.is_adalora_model, made))


def _near(usage: Usage, loss: ast.expr, computed: ast.expr) -> ast.expr:
    """Return where a training computes its loss, if a function of the script does it there."""
    of = usage.scopes.of
    scope, holder = of[loss].function, of[computed].function
    if holder is scope or (isinstance(holder, FUNCTION) and holder.name == "forward"):
        return computed
    bindings = usage.scopes.bindings(loss)
    values = [b.value for b in bindings if b.value and of[b.node].function is scope]
    return values[-1] if values else loss


def _losses(usage: Usage, training: Training) -> Iterator[ast.expr]:
    if training.kind in {"loop", "accelerate"}:
        for event in _backwards(training):
            yield from _differentiated(event.call)
    for call in training.trainers:
        method = usage.scopes.method(usage.scopes.class_named(call.func), "compute_loss")
        given = usage.origins(keyword(call, "compute_loss_func"))
        for function in (method, *map(usage.scopes.function, given)):
            if function is not None:
                yield from _returned(usage, function)


def _backwards(training: Training) -> Iterator[Event]:
    """Return the backward passes whose gradients a step of the optimizer uses, the last first."""
    outer, events = training.event.loops[:1], training.event.trace.of("backward", "step")
    near = [event for event in events if event.loops[:1] == outer]
    before = reversed([e for e in near if e.number < training.event.number])
    # Two optimizers can use one backward pass.
    behind = dropwhile(lambda event: event.kind == "step", before)
    return takewhile(lambda event: event.kind != "step", behind)


def _differentiated(call: ast.Call) -> Iterator[ast.expr]:
    match call:
        case ast.Call(args=[loss, *_]):  # accelerator.backward(loss)
            yield loss
        case ast.Call(ast.Attribute(ast.Call(ast.Attribute(attr="scale"), [loss, *_]))):
            yield loss
        case ast.Call(ast.Attribute(loss)):
            yield loss


def _returned(usage: Usage, function: Function) -> Iterator[ast.expr]:
    for returned in usage.returned(function):
        # As in `(loss, outputs) if return_outputs else loss`.
        value = returned.orelse if isinstance(returned, ast.IfExp) else returned
        if isinstance(value, ast.Dict):
            keys = [getattr(key, "value", "") for key in value.keys]
            value = value.values[keys.index("loss")] if "loss" in keys else value
        yield value.elts[0] if isinstance(value, ast.Tuple) and value.elts else value


def _origin(usage: Usage, node: ast.expr) -> Origin:
    match node:
        case ast.Attribute(attr="loss"):
            return "model"
        case ast.Subscript(slice=ast.Constant("loss" | 0)):
            return "model"
        case ast.BinOp(op=ast.Sub() | ast.Pow() | ast.MatMult()):
            return "model" if _reads_loss(node) else "script"
        case ast.UnaryOp():
            return _of_any(usage, node.operand)
        case ast.BinOp():
            return _of_any(usage, node.left, node.right)
        case ast.Call():
            return _of_call(usage, node)
    return "unknown"


def _of_any(usage: Usage, *parts: ast.expr) -> Origin:
    found = {_origin(usage, leaf) for part in parts for leaf in usage.origins(part)}
    return "model" if "model" in found else "script" if "script" in found else "unknown"


def _of_call(usage: Usage, node: ast.Call) -> Origin:
    name = last_name(node.func)
    if name in _REDUCTIONS and isinstance(node.func, ast.Attribute):
        return _of_any(usage, node.func.value)
    if name == "compute_loss" or any(map(_reads_loss, node.args)):
        return "model"
    if any(map(usage.is_adalora_model, node.args)):
        return "unknown"  # who is given the model can take the loss from it
    made = [last_name(getattr(leaf, "func", leaf)) for leaf in usage.origins(node.func)]
    full = usage.scopes.full_name(node.func)
    is_torch = full.startswith("torch.") and name not in _JOINS
    is_criterion = "functional" in full.split(".") or any(map(_CRITERION.search, (name, *made)))
    return "script" if is_torch or is_criterion else "unknown"
