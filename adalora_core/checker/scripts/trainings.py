"""Find where a script adds adapters and trains them, and whether a training allocates."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from adalora_core.checker.documents.python.syntax import (
    FUNCTION,
    called_name,
    keyword,
    last_name,
    passed,
    walk,
)
from adalora_core.checker.scripts.events import Event, excludes, receiver, trainer_calls
from adalora_core.checker.scripts.frameworks import ALLOCATE, KNOWN_MODULES

if TYPE_CHECKING:
    from adalora_core.checker.scripts.usage import Usage, Wrap

_ALLOCATES = re.compile("alloc|adalora|budget|rank_?update|update_?rank", re.IGNORECASE)
_MAKES = re.compile("get|build|make|create|load|AdaLora", re.IGNORECASE)
"""Names of what makes a model, a configuration or a setting."""
_ATTACHES = frozenset({"allocate_on_step", "install"})
"""Functions of this package that let an optimizer allocate."""
UNLOADS = frozenset({"unload", "merge_and_unload", "delete_adapter"})
"""Methods that take an adapter out of a model."""
_PARAMETERS = frozenset({"parameters", "named_parameters"})

Kind = Literal["loop", "accelerate", "trainer", "lightning"]


@dataclass(frozen=True, eq=False)
class Training:
    """A place that trains an AdaLoRA model.

    Args:
        event: the step of the optimizer, or the call that trains.
        trainers: the calls that make the trainer.
        allocates: whether ranks are allocated; None if that cannot be known.
    """

    kind: Kind
    event: Event
    trainers: tuple[ast.Call, ...]
    allocates: bool | None


def trainings(usage: Usage) -> list[Training]:
    """Return the places that train an AdaLoRA model."""
    read: dict[ast.AST, Training] = {}
    loose = allocates_loosely(usage)
    for event in usage.events("step", "train"):
        if event.node in read:
            continue
        found = (_loop if event.kind == "step" else _trainer)(usage, event)
        if found is not None:
            is_open = loose and not found.allocates
            read[event.node] = replace(found, allocates=None) if is_open else found
    return list(read.values())


def _loop(usage: Usage, event: Event) -> Training | None:
    if not event.loops or usage.framework(event.trace.function) in {"trainer", "callback"}:
        return None
    if not _steps_adalora(usage, event):
        return None
    kind: Kind = "accelerate" if event.accumulations else "loop"
    allocates = any(each.loops[:1] == event.loops[:1] for each in event.trace.of("allocate"))
    function = event.frame.function
    is_open = function is not None and any(walk(function, ast.Yield))  # who reads it may allocate
    return Training(kind, event, (), True if allocates else None if is_open else False)


def _steps_adalora(usage: Usage, event: Event) -> bool:
    """Return whether an optimizer step can be one of an AdaLoRA model."""
    call = event.call
    makers = [*call.args, getattr(call.func, "value", None)]
    optimizers = [made for maker in makers for made in usage.calls(maker)]
    models = [model for optimizer in optimizers for model in held_models(usage, optimizer)]
    if models:
        is_late = not usage.once(late_adapters).keys().isdisjoint(optimizers)
        return is_late or any(map(usage.is_adalora_model, models))
    return any(
        isinstance(node.func, ast.Name | ast.Attribute) and usage.is_adalora_model(node.func)
        for node in walk(event.loops[-1], ast.Call)
    )


def late_adapters(usage: Usage) -> dict[ast.Call, ast.Call]:
    """Return the optimizers of a base model, each with the later call that adapts the model."""
    found: dict[ast.Call, ast.Call] = {}
    for event in usage.events("optimizer"):
        wrap = _later_wrap(usage, event)
        if wrap is not None and event.trace.of("optimizer")[-1].number < wrap.number:
            found[event.call] = wrap.call
    return found


def _later_wrap(usage: Usage, optimizer: Event) -> Event | None:
    models = held_models(usage, optimizer.call)
    held = {leaf for model in models for leaf in usage.origins(model)} - usage.wrap_of.keys()
    for event in optimizer.trace.of("wrap"):
        wrap = usage.wrap_of.get(event.node) if event.number > optimizer.number else None
        if wrap is not None and wrap.is_adalora and held & {*usage.origins(wrap.model)}:
            return event
    return None


def held_models(usage: Usage, optimizer: ast.Call) -> list[ast.expr]:
    """Return the models whose parameters an optimizer is given."""
    return usage.once(_held_models, optimizer)


def _held_models(usage: Usage, optimizer: ast.Call) -> list[ast.expr]:
    found = [node for given in passed(optimizer) for node in usage.mentions(given, ast.Call)]
    held = [each for each in found if called_name(each) in _PARAMETERS]
    function = usage.scopes.of[optimizer].function
    if not held and isinstance(function, FUNCTION):  # a loop sorts them into groups
        held = [each.iter for each in walk(function, ast.For) if isinstance(each.iter, ast.Call)]
    functions = (call.func for call in held)
    return [e.value for e in functions if isinstance(e, ast.Attribute) and e.attr in _PARAMETERS]


def _trainer(usage: Usage, event: Event) -> Training | None:
    call = event.call
    made = tuple(trainer_calls(usage, receiver(call)))
    kind: Kind = "lightning" if called_name(call) == "fit" else "trainer"
    found: list[bool | None] = []
    if kind == "lightning":
        model = keyword(call, "model", at=0)
        trains = usage.is_adalora_model(model)
        owner = usage.class_of_value(model) if model is not None else None
        if owner is None:
            return None
        found.append(_class_allocates(usage, owner))
    else:
        models = [model for each in made for model in models_of_trainer(usage, each)]
        wraps = (usage.wrap_of[each] for each in made if each in usage.wrap_of)
        trains = any(map(usage.is_adalora_model, models)) or any(w.is_adalora for w in wraps)
    if not trains:
        return None
    found += (_of_class(usage, each.func) for each in made)
    found += (each for call in made for each in _callbacks(usage, call))
    allocates = True if True in found else None if None in found else False
    return Training(kind, event, made, allocates)


def models_of_trainer(usage: Usage, trainer: ast.Call) -> Iterator[ast.expr]:
    """Yield the model that a trainer is given."""
    given = usage.keywords(trainer)
    if "model" in given or trainer.args:
        yield given.get("model") or trainer.args[0]


def _of_class(usage: Usage, made: ast.expr) -> bool | None:
    owner = usage.scopes.class_named(made)
    if owner is not None:
        return _class_allocates(usage, owner)
    root, _, name = usage.scopes.full_name(made).partition(".")
    if root == "adalora_core":
        return name.endswith("AdaLoraCallback")
    return False if root in KNOWN_MODULES else None


def _class_allocates(usage: Usage, owner: ast.ClassDef) -> bool | None:
    known, others = usage.scopes.bases(owner)
    methods = {m for each in known for m in each.body if isinstance(m, FUNCTION)}
    for event in usage.events("allocate"):
        above = usage.scopes.above(event.node)  # the class of a callback may be inside of it
        if not above.isdisjoint(known) or event.trace.function in methods:
            return True
    roots = {other.partition(".")[0] for other in others}
    return False if roots <= KNOWN_MODULES | {"object", "nn"} else None


def _callbacks(usage: Usage, trainer: ast.Call) -> Iterator[bool | None]:
    """Yield for each callback of a trainer whether it allocates."""
    given = keyword(trainer, "callbacks")
    if given is not None:
        yield from _listed(usage, given)
    elif any(each.arg is None for each in trainer.keywords):
        yield None  # `**settings` may hold callbacks
    lists = set(usage.origins(given))
    for name in ("add_callback", "add_to", "append", "extend"):
        for call in usage.scopes.callers.get(name, []):
            if isinstance(call.func, ast.Attribute) and call.args:
                owner, first = call.func.value, call.args[0]
                if name == "add_callback" and trainer in usage.origins(owner):
                    yield _allocates(usage, first)
                elif name == "add_to" and trainer in usage.origins(first):
                    yield _allocates(usage, owner)
                elif name in {"append", "extend"} and lists & {*usage.origins(owner)}:
                    yield from _listed(usage, first)


def _listed(usage: Usage, given: ast.expr) -> Iterator[bool | None]:
    for leaf in usage.origins(given):
        if isinstance(leaf, ast.List | ast.Tuple):
            entries = (each for entry in leaf.elts for each in usage.origins(entry))
            yield from (_allocates(usage, each) for each in entries)
        elif isinstance(leaf, ast.BinOp):
            yield from _listed(usage, leaf.left)
            yield from _listed(usage, leaf.right)
        elif not (isinstance(leaf, ast.Constant) and leaf.value is None):
            yield _allocates(usage, leaf)


def _allocates(usage: Usage, callback: ast.expr) -> bool | None:
    """Return whether a callback allocates: an instance or a class."""
    made = next(iter(usage.origins(callback)), None)
    function = made.func if isinstance(made, ast.Call) else made
    return None if function is None else _of_class(usage, function)


def allocates_loosely(usage: Usage) -> bool:
    """Return whether something may allocate outside of the loops and trainers of the script.

    Examples are a hook of an optimizer, a replaced method, and a method that is passed to others.
    """
    if any(_may_allocate(usage, call) for call in usage.scopes.calls):
        return True
    asked = usage.scopes.callers.get("getattr", ())
    asked = [c for c in asked if any(getattr(a, "value", "") == ALLOCATE for a in c.args)]
    around = ((each, usage.scopes.parents[each]) for each in asked)
    if any(getattr(p, "func", p) is not e and not isinstance(p, ast.Assign) for e, p in around):
        return True
    for event in usage.events("allocate"):
        function = event.trace.function
        if function is None or event.loops or usage.framework(function) is not None:
            continue
        is_passed_on = any(
            isinstance(node.ctx, ast.Load) and not usage.scopes.is_within(node, function)
            for node in usage.scopes.words.get(function.name, ())
        )
        owner = getattr(usage.scopes.parents[function], "name", "")
        is_of_object = owner in usage.scopes.callers and not usage.calls_of(function)
        if is_passed_on or is_of_object:  # somebody else may call a method, as `step`
            return True
        # An object of the script registers it: `@trainer.on("step")`.
        marks = [getattr(each, "func", each) for each in function.decorator_list]
        owners = [each.value if isinstance(each, ast.Attribute) else each for each in marks]
        if any(usage.class_of_value(o) or usage.scopes.function(o) for o in owners):
            return True
    return any(
        isinstance(node, ast.Attribute) and _is_loose(usage, node)
        for node in usage.scopes.words.get(ALLOCATE, ())
    )


def _may_allocate(usage: Usage, call: ast.Call) -> bool:
    """Return whether a call is one of another file that allocates by its name, or has a trainer."""
    name = usage.scopes.own_name(call.func)
    if name not in usage.imported and name not in _ATTACHES:
        return False  # as most calls
    full = usage.scopes.full_name(call.func)
    root = full.partition(".")[0]
    if root == "adalora_core":
        return name in _ATTACHES
    if root in KNOWN_MODULES or full not in usage.scopes.imports:
        return False
    is_named = _ALLOCATES.search(name) is not None and not _MAKES.match(name)
    names = [given for given in call.args if isinstance(given, ast.Name)]
    return is_named or any(trainer_calls(usage, given) for given in names)


def _is_loose(usage: Usage, method: ast.Attribute) -> bool:
    """Return whether code reads `update_and_allocate` in a lambda, or without calling it there."""
    parent = usage.scopes.parents[method]
    is_called = getattr(parent, "func", None) is method
    while not isinstance(parent, ast.stmt | ast.Lambda):
        parent = usage.scopes.parents[parent]
    return isinstance(parent, ast.Lambda) or not is_called


def second_wraps(usage: Usage) -> Iterator[tuple[ast.Call, ast.AST]]:
    """Yield calls that wrap a wrapped model, each with what wrapped it before."""
    seen: set[ast.AST] = set()
    for event in usage.events("wrap"):
        wrap = usage.wrap_of.get(event.node)
        if wrap is None or event.node in seen or wrap.is_injected:
            continue  # a model can have several adapters by name
        first = _wrapped_before(usage, event, wrap)
        if first is not None:
            seen.add(event.node)
            yield wrap.call, first
    for wrap in usage.wraps:
        is_trainer = not wrap.is_injected and keyword(wrap.call, "peft_config") is not None
        made = usage.origins(wrap.model) if is_trainer else []
        if made and {called_name(each) for each in made} == {"get_peft_model"}:
            yield wrap.call, made[0]


def _wrapped_before(usage: Usage, event: Event, wrap: Wrap) -> ast.AST | None:
    models = usage.origins(wrap.model)
    for leaf in models:
        inner = usage.wrap_of.get(leaf)
        if inner is not None and _is_inner(usage, inner, wrap):
            return leaf
        name = usage.scopes.full_name(leaf.func) if isinstance(leaf, ast.Call) else ""
        is_loaded = wrap.is_adalora and "Peft" in name and name.endswith(".from_pretrained")
        if is_loaded and not _depend_alike(usage, leaf, wrap.call):
            return leaf
    is_target = isinstance(wrap.model, ast.Name) and any(
        each.kind == "loop" for each in usage.scopes.bindings(wrap.model)
    )
    is_each_time = event.loops and not event.guards and wrap.is_adalora and not is_target
    if is_each_time and all(_is_made_before(usage, event, m) for m in models):
        return wrap.call if models else None
    for other in event.trace.of("wrap"):
        before = usage.wrap_of.get(other.node) if other.number < event.number else None
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
    if _depend_alike(usage, inner.call, outer.call):
        return False
    # Which of its values an attribute has depends on the order.
    is_fixed = not isinstance(outer.model, ast.Attribute)
    return is_fixed or usage.scopes.is_before(inner.call, outer.call)


def _depend_alike(usage: Usage, one: ast.AST, other: ast.AST) -> bool:
    """Return whether different `if`s with a name in common lead to two nodes: one may exclude."""
    first, second = usage.scopes.above(one), usage.scopes.above(other)
    names = [
        {
            name.id
            for each in above
            if isinstance(each, ast.If)
            for name in walk(each.test, ast.Name)
        }
        for above in (first - second, second - first)
    ]
    return not names[0].isdisjoint(names[1])


def _is_made_before(usage: Usage, event: Event, model: ast.expr) -> bool:
    """Return whether a model is made outside the innermost loop around its adapter."""
    if not isinstance(model, ast.Call) or usage.wrap_of.get(model) is not None:
        return False
    loop = event.loops[-1]
    functions = {usage.scopes.of[each].function for each in (model, loop)}
    if len(functions) > 1 or usage.scopes.is_within(model, loop):
        return False
    return UNLOADS.isdisjoint(usage.scopes.callers)


def _same_object(usage: Usage, one: Event, other: Event, before: Wrap, wrap: Wrap) -> bool:
    of = usage.scopes.of
    scope = of[wrap.call].function
    if of[before.call].function is not scope or one.loops != other.loops or excludes(one, other):
        return False
    if not UNLOADS.isdisjoint(usage.scopes.callers) or _depend_alike(usage, before.call, wrap.call):
        return False
    found = {*usage.calls(before.model)} & {*usage.calls(wrap.model)}
    return any(of[leaf].function is scope for leaf in found)


def swept_ranks(usage: Usage) -> Iterator[ast.expr]:
    """Yield each `target_r` that differs between the trainings of a script."""
    for _, given in usage.arguments("target_r"):
        if usage.value(given) is None and _varies(usage, given):
            yield given


def _varies(usage: Usage, given: ast.expr) -> bool:
    values = {leaf.value for leaf in usage.origins(given) if isinstance(leaf, ast.Constant)}
    return len(values) > 1 or any(
        called_name(node).startswith("suggest_")
        or (last_name(node) == "wandb" and "agent" in usage.scopes.callers)
        or any(each.kind == "loop" for each in usage.scopes.bindings(node))
        for node in usage.mentions(given, ast.Name, ast.Call)
    )
