"""List what a script does in the order of its run: steps, gradients, allocations, adapters."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, cast

from adalora_core.checker.documents.python.syntax import (
    FUNCTION,
    LOOP,
    Function,
    Loop,
    argument,
    called_name,
    children,
    keyword,
    last_name,
    passed,
    walk,
)
from adalora_core.checker.scripts.frameworks import (
    ALLOCATE,
    KINDS,
    OF_ONE_STEP,
    OPTIMIZER,
    TRAINS,
    may_be_an_event,
)
from adalora_core.checker.scripts.sources import Sources

EventKind = Literal[
    "allocate", "backward", "count", "merge", "mode", "optimizer", "set", "step", "train", "wrap",
    "zero",
]  # fmt: skip
Level = Literal["same", "inside", "outside"]
_DEEPEST = 5
_ENDS = (ast.Continue, ast.Break, ast.Return, ast.Raise)


@dataclass(frozen=True, eq=False)
class Guard:
    """A condition that holds, or does not hold, where an event happens."""

    test: ast.expr
    holds: bool


@dataclass(frozen=True, eq=False)
class Frame:
    """A call of a function of the script that is being followed.

    Without a function: the module's own statements; without a call: something else calls it.
    """

    function: Function | None = None
    call: ast.Call | None = None
    outer: Frame | None = None

    def given(self, name: str) -> ast.expr | None:
        """Return what the call passes for a parameter, or its default; None: not known."""
        if self.function is None or self.call is None:
            return None
        return argument(self.call, self.function, name)


@dataclass(frozen=True, eq=False)
class Event:
    """Something that a run does.

    Args:
        node: the call or the assignment.
        loops: the loops around it, those of the callers included; the outermost comes first.
        guards: the conditions around it, those of the callers included.
        accumulations: the accelerators of `with accelerator.accumulate(...)` around it.
        frame: the call of the function that holds it.
        number: its place among the events of the trace.
    """

    kind: EventKind
    node: ast.AST
    trace: Trace
    loops: tuple[Loop, ...] = ()
    guards: tuple[Guard, ...] = ()
    accumulations: tuple[ast.expr, ...] = ()
    frame: Frame = field(default_factory=Frame)
    number: int = 0

    @property
    def call(self) -> ast.Call:
        """The call that the event is."""
        return cast("ast.Call", self.node)

    @property
    def step(self) -> ast.expr | None:
        """The step that an allocation is given."""
        return keyword(self.call, "global_step", "step", at=0)


@dataclass(frozen=True)
class Placement:
    """Where an allocation is called.

    Args:
        level: in the `same` loop as the step of the optimizer, in a loop `inside` it (once per
            micro-batch) or in one `outside` it (once per epoch).
        step: the step of the optimizer that belongs to it.
        is_before: whether the allocation comes before that step in an iteration.
        dropped: what drops the gradients before the allocation, or before the step already.
    """

    level: Level
    step: Event
    is_before: bool
    dropped: Event | None


@dataclass(eq=False)
class Trace:
    """The events of the module, or of a function that nothing in the script calls."""

    function: Function | None
    events: list[Event] = field(default_factory=list)

    def of(self, *kinds: str) -> list[Event]:
        """Return the events of some kinds."""
        return [event for event in self.events if event.kind in kinds]

    @cached_property
    def runs(self) -> set[ast.AST]:
        """The loops of which each round makes a model or an optimizer: runs of their own."""
        return {loop for event in self.of("wrap", "optimizer") for loop in event.loops}

    @cached_property
    def changes(self) -> dict[str, list[Event]]:
        """The assignments of constants and the additions, by what is changed."""
        found: dict[str, list[Event]] = {}
        for event in self.events:
            for target in getattr(event.node, "targets", [getattr(event.node, "target", None)])[:1]:
                for each in getattr(target, "elts", [target]) if target is not None else ():
                    found.setdefault(ast.unparse(each), []).append(event)
        return found


def traces(sources: Sources, tree: ast.Module) -> list[Trace]:
    """Return the events of a script, each function of it at the places that call it."""
    tracer = _Tracer(sources)
    tracer.trace(None, tree.body)
    functions = sources.scopes.functions
    for is_called in (False, True):
        for function in functions:
            if function not in tracer.visited and bool(sources.calls_of(function)) == is_called:
                tracer.visited.add(function)
                tracer.trace(function, function.body)
    return tracer.traces


class _Tracer:
    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.visited: set[Function] = set()
        self.traces: list[Trace] = []
        names = sources.scopes.words.get("__name__", ())
        self.around_name = set[ast.AST]().union(*map(sources.scopes.above, names))

    def trace(self, function: Function | None, body: Sequence[ast.stmt]) -> None:
        self.traces.append(trace := Trace(function))
        self._block(body, Event("set", ast.Pass(), trace, frame=Frame(function)))

    def _guarded(self, at: Event, test: ast.expr, *, holds: bool) -> Event:
        if test in self.around_name:
            return at
        return replace(at, guards=(*at.guards, Guard(test, holds)))

    def _add(self, kind: EventKind, node: ast.AST, at: Event) -> None:
        events = at.trace.events
        events.append(replace(at, kind=kind, node=node, number=len(events)))

    def _block(self, body: Sequence[ast.stmt], at: Event) -> None:
        for statement in body:
            self._statement(statement, at)
            if isinstance(statement, ast.If):
                if statement.body and isinstance(statement.body[-1], _ENDS):
                    at = self._guarded(at, statement.test, holds=False)
                elif statement.orelse and isinstance(statement.orelse[-1], _ENDS):
                    at = self._guarded(at, statement.test, holds=True)

    def _statement(self, node: ast.stmt, at: Event) -> None:
        if isinstance(node, (*FUNCTION, ast.ClassDef)):
            return
        if isinstance(node, (*LOOP, ast.If, ast.With, ast.AsyncWith, ast.Try, ast.Match)):
            self._compound(node, at)
            return
        for child in children(node):
            if isinstance(child, ast.expr):
                self._expression(child, at)
        self._assignment(node, at)

    def _compound(self, node: ast.stmt, at: Event) -> None:
        if isinstance(node, ast.If):
            self._expression(node.test, at)
            self._block(node.body, self._guarded(at, node.test, holds=True))
            self._block(node.orelse, self._guarded(at, node.test, holds=False))
        elif isinstance(node, LOOP):
            self._loop(node, at)
        elif isinstance(node, ast.With | ast.AsyncWith):
            for call in (item.context_expr for item in node.items):
                self._expression(call, at)
                if isinstance(call, ast.Call) and called_name(call) == "accumulate":
                    at = replace(at, accumulations=(*at.accumulations, receiver(call)))
            if not self.sources.scopes.is_expected_to_fail(node):
                self._block(node.body, at)
        elif isinstance(node, ast.Try):
            self._block([*node.body, *node.orelse, *node.finalbody], at)
        elif isinstance(node, ast.Match):
            for case in node.cases:
                self._block(case.body, self._guarded(at, node.subject, holds=True))

    def _loop(self, node: Loop, at: Event) -> None:
        over = node.test if isinstance(node, ast.While) else node.iter
        self._expression(over, at)
        # A loop over optimizers, hooks, or parts of a model, belongs to one step of training.
        parts = [*_expressions(over), *(() if isinstance(node, ast.While) else [node.target])]
        is_one_step = any(map(OF_ONE_STEP.search, map(last_name, parts)))
        if not is_one_step and not _allocates_target(node):
            at = replace(at, loops=(*at.loops, node))
        self._block(node.body, at)
        self._block(node.orelse, at)

    def _assignment(self, node: ast.stmt, at: Event) -> None:
        if isinstance(node, ast.AugAssign):
            self._add("count", node, at)
        elif isinstance(node, ast.Assign) and all(
            isinstance(each, ast.Constant) for each in getattr(node.value, "elts", [node.value])
        ):
            is_none = getattr(node.value, "value", 0) is None
            is_gradient = is_none and last_name(node.targets[0]) == "grad"
            self._add("zero" if is_gradient else "set", node, at)

    def _expression(self, node: ast.expr, at: Event) -> None:
        for call in reversed([c for c in _expressions(node) if isinstance(c, ast.Call)]):
            self._call(call, at)

    def _call(self, call: ast.Call, at: Event) -> None:
        is_alike = isinstance(call.func, ast.Name) or may_be_an_event(last_name(call.func))
        kind = self.kind(call) if is_alike else None
        if kind == "step":
            for closure in call.args:
                self._follow(call, self.sources.scopes.function(closure), at)
        if kind is not None:
            self._add(kind, call, at)
        else:
            self._follow(call, self.sources.called(call), at)

    def _follow(self, call: ast.Call, function: Function | None, at: Event) -> None:
        frame: Frame | None = at.frame
        depth = 0
        if function is None:
            return
        while frame is not None:
            if frame.function is function or depth > _DEEPEST:
                return
            frame, depth = frame.outer, depth + 1
        self.visited.add(function)
        self._block(function.body, replace(at, frame=Frame(function, call, at.frame)))

    def kind(self, call: ast.Call) -> EventKind | None:
        """Return the kind of event that a call is."""
        name = self.sources.scopes.own_name(call.func)
        if self._allocates(call, name):
            return "allocate"
        if name in KINDS:
            return KINDS[name]
        if name in {"step", "optimizer_step"} and self._is_optimizer(call, name):
            return "step"
        if name in TRAINS | {"eval"} and isinstance(call.func, ast.Attribute):
            if self.sources.called(call) is not None:
                return None
            if name != "eval" and trainer_calls(self.sources, call.func.value):
                return "train"
            return "mode" if name in {"eval", "train"} else None
        is_made = OPTIMIZER.match(name) is not None
        if not is_made and "optim" in name.lower():
            words = {last_name(node) for given in passed(call) for node in _expressions(given)}
            is_made = not words.isdisjoint({"parameters", "named_parameters"})
        return "optimizer" if is_made and name not in self.sources.scopes.classes else None

    def _allocates(self, call: ast.Call, name: str) -> bool:
        function = self.sources.scopes.of[call].function
        if isinstance(function, FUNCTION) and function.name == ALLOCATE:
            return False  # a class that offers the method
        return name == ALLOCATE and len(call.args) <= 1

    def _is_optimizer(self, call: ast.Call, name: str) -> bool:
        if name == "optimizer_step":
            return self.sources.called(call) is None
        if not isinstance(call.func, ast.Attribute):
            return False
        owner = [last_name(each).lower() for each in _expressions(call.func.value)]
        given = [last_name(each).lower() for arg in call.args for each in _expressions(arg)]
        if any("sched" in each for each in owner):
            return False
        return any("opt" in each or "engine" in each for each in (*owner, *given)) or any(
            OPTIMIZER.match(called_name(maker)) for maker in self.sources.calls(call.func.value)
        )


def excludes(one: Event, other: Event) -> bool:
    """Return whether the guards of two events contradict each other."""
    return any(a.test is b.test and a.holds != b.holds for a in one.guards for b in other.guards)


def receiver(call: ast.Call) -> ast.expr:
    """Return the object whose method is called, or the function."""
    return call.func.value if isinstance(call.func, ast.Attribute) else call.func


def _allocates_target(loop: Loop) -> bool:
    """Return whether a loop calls `update_and_allocate` of the objects that it runs over."""
    target = last_name(getattr(loop, "target", None))
    return bool(target) and any(
        node.attr == ALLOCATE and any(part.id == target for part in walk(node, ast.Name))
        for node in walk(loop, ast.Attribute)
    )


def trainer_calls(sources: Sources, receiver: ast.expr) -> list[ast.Call]:
    """Return the calls that make the trainer which a value can be."""
    found = []
    for call in sources.calls(receiver):
        owner = sources.class_of_call(call)
        bases = sources.scopes.bases(owner)[1] if owner is not None else []
        if any(name.endswith("Trainer") for name in (called_name(call), *bases)):
            found.append(call)
    return found


def _expressions(node: ast.expr) -> list[ast.expr]:
    """Return the expressions of one, without the bodies of lambdas; the outer ones come first."""
    found: list[ast.expr] = []
    stack: list[ast.AST] = [node]
    while stack:
        each = stack.pop()
        if isinstance(each, ast.expr):
            found.append(each)
        if not isinstance(each, ast.Lambda):
            stack += children(each)
    return found
