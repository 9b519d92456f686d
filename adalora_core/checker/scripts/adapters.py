"""Find adapters that are added twice, or in a sweep of ranks."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import last_name
from adalora_core.checker.scripts.order import excludes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.checker.scripts.events import Event, Trace
    from adalora_core.checker.scripts.usage import Usage, Wrap


_UNLOADS = frozenset({"unload", "merge_and_unload", "delete_adapter"})


def second_wraps(usage: Usage) -> Iterator[tuple[ast.Call, ast.AST]]:
    """Yield calls that wrap a wrapped model, each with what wrapped it before."""
    seen: set[ast.AST] = set()
    for trace, event in usage.events("wrap"):
        wrap = usage.wrap_of.get(event.node)
        if wrap is None or event.node in seen or wrap.is_injected:
            continue  # a model can have several adapters by name
        first = _wrapped_before(usage, trace, event, wrap)
        if first is not None:
            seen.add(event.node)
            yield wrap.call, first


def _wrapped_before(usage: Usage, trace: Trace, event: Event, wrap: Wrap) -> ast.AST | None:
    models = usage.origins(wrap.model)
    for leaf in models:
        inner = usage.wrap_of.get(leaf)
        if inner is not None and _is_inner(usage, inner, wrap):
            return leaf
        if wrap.is_adalora and isinstance(leaf, ast.Call):
            name = usage.scopes.full_name(leaf.func)
            if "Peft" in name and name.endswith(".from_pretrained"):
                return leaf
    if event.loops and wrap.is_adalora and all(_is_made_before(usage, event, m) for m in models):
        return wrap.call if models else None
    for other in trace.events[: event.number]:
        before = usage.wrap_of.get(other.node) if other.kind == "wrap" else None
        if before is None or before is wrap or not (before.is_adalora or wrap.is_adalora):
            continue
        if _same_object(usage, other, event, before, wrap):
            return before.call
    return None


def _is_inner(usage: Usage, inner: Wrap, outer: Wrap) -> bool:
    """Return whether a wrapped model is wrapped again by another call."""
    if inner is outer or not (inner.is_adalora or outer.is_adalora):
        return False
    if usage.scopes.is_excluded(outer.call, usage.scopes.above(inner.call)):
        return False
    if isinstance(outer.model, ast.Attribute):  # which of its values it has depends on the order
        of, position = usage.scopes.of, usage.scopes.position
        is_same = of[inner.call].function is of[outer.call].function
        return is_same and position[inner.call] < position[outer.call]
    return True


def _is_made_before(usage: Usage, event: Event, model: ast.expr) -> bool:
    """Return whether a model is made outside the innermost loop around its adapter."""
    if not isinstance(model, ast.Call) or usage.wrap_of.get(model) is not None:
        return False
    loop = event.loops[-1]
    functions = {usage.scopes.of[each].function for each in (event.node, model, loop)}
    if len(functions) > 1 or usage.scopes.is_within(model, loop):
        return False
    return _UNLOADS.isdisjoint(usage.scopes.callers)


def _same_object(usage: Usage, one: Event, other: Event, before: Wrap, wrap: Wrap) -> bool:
    of = usage.scopes.of
    scope = of[wrap.call].function
    if of[before.call].function is not scope or one.loops != other.loops or excludes(one, other):
        return False
    if not _UNLOADS.isdisjoint(usage.scopes.callers):
        return False
    models = {id(leaf) for leaf in usage.origins(before.model) if isinstance(leaf, ast.Call)}
    found = [leaf for leaf in usage.origins(wrap.model) if id(leaf) in models]
    return any(of[leaf].function is scope for leaf in found)


def swept_ranks(usage: Usage) -> Iterator[ast.expr]:
    """Yield each `target_r` that differs between the trainings of a script."""
    for _, given in usage.arguments("target_r"):
        if usage.value(given) is None and _varies(usage, given):
            yield given


def _varies(usage: Usage, given: ast.expr) -> bool:
    values = {leaf.value for leaf in usage.origins(given) if isinstance(leaf, ast.Constant)}
    if len(values) > 1:
        return True
    return any(
        _is_swept(usage, node)
        for node in usage.mentions(given)
        if isinstance(node, ast.Name | ast.Call)
    )


def _is_swept(usage: Usage, node: ast.Name | ast.Call) -> bool:
    if isinstance(node, ast.Call):
        return last_name(node.func).startswith("suggest_")
    if node.id == "wandb":
        return "agent" in usage.scopes.callers
    return any(each.kind == "loop" for each in usage.scopes.bindings(node))
