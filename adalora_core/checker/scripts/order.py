"""Place an allocation among the steps and the dropped gradients of an iteration."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Literal

from adalora_core.checker.documents.python.syntax import last_name, spend, walk
from adalora_core.checker.scripts.events import Placement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adalora_core.checker.documents.python.syntax import Loop
    from adalora_core.checker.scripts.events import Event, Guard, Trace
    from adalora_core.checker.scripts.usage import Usage


def placement(trace: Trace, event: Event) -> Placement | None:
    """Return the place of an allocation among the steps; None if no step is near."""
    if event.number not in trace.places:
        trace.places[event.number] = _placement(trace, event)
    return trace.places[event.number]


def _placement(trace: Trace, event: Event) -> Placement | None:
    steps = [each for each in trace.events if each.kind == "step" and not excludes(each, event)]
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
    dropped = _dropped(trace, step, event) if before else None
    return Placement(level, loops, step, not before, dropped)


def _dropped(trace: Trace, step: Event, event: Event) -> Event | None:
    """Return what drops the gradients of a step before it or before its allocation."""
    backward = [e for e in trace.events[: step.number] if e.kind == "backward"]
    start = backward[-1].number if backward and backward[-1].loops == step.loops else step.number
    for each in trace.events[start + 1 : event.number]:
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
    count = 0
    while count < min(len(one), len(other)) and one[count] is other[count]:
        count += 1
    return one[:count]


def excludes(one: Event, other: Event) -> bool:
    """Return whether the guards of two events contradict each other."""
    spend(len(one.guards) * len(other.guards))
    return any(a.test is b.test and a.holds != b.holds for a in one.guards for b in other.guards)


def _applies(dropped: Event, event: Event) -> bool:
    """Return whether gradients are dropped wherever an event happens."""
    known = {(ast.dump(guard.test), guard.holds) for guard in event.guards}
    return all(
        (ast.dump(guard.test), guard.holds) in known or _asks_for_gradient(guard)
        for guard in dropped.guards
    )


def _asks_for_gradient(guard: Guard) -> bool:
    return any(isinstance(n, ast.Attribute) and n.attr == "grad" for n in walk(guard.test))


def accumulation_guards(usage: Usage, event: Event) -> list[Guard]:
    """Return the conditions that hold once per several micro-batches."""
    return [guard for guard in event.guards if _accumulates(usage, guard)]


def _accumulates(usage: Usage, guard: Guard) -> bool:
    if isinstance(guard.test, ast.Compare) and _is_reset_inside(usage, guard):
        return True
    for node in usage.mentions(guard.test):
        if isinstance(node, ast.Name | ast.Attribute) and last_name(node) == "sync_gradients":
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
            if "gradient_accumulation_plugin" in given:
                return True
            if count is not None and can_exceed_one(usage, count):
                return True
    return False


def can_exceed_one(usage: Usage, number: ast.expr) -> bool:
    """Return whether a number is not fixed to 1; a command line can replace its defaults."""
    leaves = usage.origins(number)
    return not all(isinstance(leaf, ast.Constant) and leaf.value == 1 for leaf in leaves)
