"""Find out what the step counts that is passed to `update_and_allocate`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import (
    FUNCTION,
    Binding,
    Loop,
    called_name,
    dotted,
    keyword,
    last_name,
    walk,
)
from adalora_core.checker.scripts.events import Event, Frame, receiver
from adalora_core.checker.scripts.frameworks import CONSTANT_NAMES, EPOCH_NAMES, SETTINGS
from adalora_core.checker.scripts.step_order import Unit, accumulation_guards, placement

if TYPE_CHECKING:
    from adalora_core.checker.scripts.usage import Usage


@dataclass(frozen=True)
class Counter:
    """The events that a number counts.

    Args:
        counts: `constant` if it never changes; `unknown` if that cannot be known.
        restarts: whether it starts anew in each epoch.
    """

    counts: Unit
    restarts: bool = False


UNKNOWN = Counter("unknown")
CONSTANT = Counter("constant")
_SAME = frozenset({"int", "min", "max", "float", "round"})


def is_repeated(usage: Usage, event: Event) -> bool:
    """Return whether an allocation happens more than once in a training."""
    if usage.framework(event.trace.function) is not None:
        return True
    reader = _Reader(usage, event)
    return not all(map(reader.makes_runs, event.loops))


def step_counter(usage: Usage, event: Event) -> Counter:
    """Return what the step counts that an allocation is given."""
    given = event.step
    return UNKNOWN if given is None else _Reader(usage, event).read(given, event.frame)


class _Reader:
    def __init__(self, usage: Usage, event: Event) -> None:
        self.usage = usage
        self.event = event
        place = placement(event)
        step = place.step if place is not None else None
        self.step_loops = event.loops if step is None else step.loops
        waits = step is not None and (step.accumulations or accumulation_guards(usage, step))
        self.is_rare = bool(waits and accumulation_guards(usage, event))

    def read(self, node: ast.expr, frame: Frame | None) -> Counter:
        match node:
            case ast.BinOp():
                return self._operation(node, frame)
            case ast.Call(args=[_, *_]) if called_name(node) in _SAME:
                read = [self.read(each, frame) for each in node.args]
                return next((each for each in read if each.counts != "constant"), read[0])
            case ast.Attribute():
                return self._attribute(node)
            case ast.Name():
                return self._name(node, frame)
        names = (each.id for each in walk(node, ast.Name))
        if called_name(node) == "len" and any(self.usage.scopes.changed.get(n) for n in names):
            return UNKNOWN  # of a list that grows
        is_constant = called_name(node) in {"len", "get_rank", "get_world_size"}
        is_constant |= isinstance(node, ast.Constant)
        return CONSTANT if is_constant else UNKNOWN

    def _operation(self, node: ast.BinOp, frame: Frame | None) -> Counter:
        left, right = self.read(node.left, frame), self.read(node.right, frame)
        if isinstance(node.op, ast.FloorDiv | ast.Div):
            # Micro-batches divided by their number per step are steps.
            return replace(left, counts="steps") if left.counts == "micro-batches" else left
        known = {left.counts, right.counts}
        if "constant" in known:
            return right if left.counts == "constant" else left
        if "unknown" in known or known == {"epochs"}:
            return UNKNOWN if "unknown" in known else left
        # `epoch * len(loader) + step` counts on over the epochs.
        return Counter("steps" if "steps" in known else "micro-batches")

    def _attribute(self, node: ast.Attribute) -> Counter:
        if node.attr in EPOCH_NAMES:
            return Counter("epochs")
        if self.usage.class_of_value(node.value) is not None:
            return self._of_attribute(node, self.usage.bindings_of(node))
        root, _ = dotted(node)
        is_setting = {last_name(node.value), "" if root is None else root.id} & SETTINGS
        if "step" in node.attr:
            return UNKNOWN  # another file may raise it
        return CONSTANT if is_setting else UNKNOWN

    def _of_attribute(self, node: ast.Attribute, bindings: list[Binding]) -> Counter:
        if not bindings:
            return UNKNOWN
        if "added" in (each.kind for each in bindings):
            return self._counted(ast.unparse(node))
        owners = [self.usage.scopes.of[each.node].function for each in bindings]
        is_set_once = all(isinstance(f, FUNCTION) and f.name == "__init__" for f in owners)
        return CONSTANT if is_set_once else UNKNOWN

    def _name(self, node: ast.Name, frame: Frame | None) -> Counter:
        found = self.usage.scopes.bindings(node)
        bindings = [each for each in found if each.value is not None or each.kind == "parameter"]
        targets = [each.node for each in bindings if each.kind == "loop"]
        if loop := next((loop for loop in self.event.loops if loop in targets), None):
            return self._of_loop(loop)
        if "added" in (each.kind for each in bindings) and not self._is_lost(bindings, frame):
            return self._counted(node.id)
        if any(each.kind == "parameter" for each in bindings):
            return self._parameter(node, frame)
        if node.id in CONSTANT_NAMES:
            return CONSTANT
        if node.id in EPOCH_NAMES and not bindings:
            return Counter("epochs")
        if not bindings or any(each.value is None for each in bindings):
            return UNKNOWN
        return self._assigned(node, bindings, frame)

    def _is_lost(self, bindings: list[Binding], frame: Frame | None) -> bool:
        """Return whether a function raises a parameter of its own, once in each call of it."""
        function = frame.function if frame is not None and frame.call is not None else None
        is_own = any(each.kind == "parameter" and each.node is function for each in bindings)
        within = self.usage.scopes.is_within
        return is_own and not any(function and within(loop, function) for loop in self.event.loops)

    def _assigned(self, name: ast.Name, bindings: list[Binding], frame: Frame | None) -> Counter:
        """Return what a variable counts that is only assigned."""
        is_within = self.usage.scopes.is_within
        if any(is_within(each.node, loop) for each in bindings for loop in self.event.loops):
            source = bindings[0].source if len(bindings) == 1 else None
            return UNKNOWN if source is None else self.read(source, frame)
        values = [each.value for each in bindings if each.value is not None]
        words = {last_name(node) for value in values for node in walk(value, ast.expr)}
        is_iterator = "count" in words or any("iter" in word for word in words)
        scope = self.usage.scopes.find(name)
        in_scope = self.event.loops or scope is None or not isinstance(scope.function, FUNCTION)
        return CONSTANT if in_scope and not is_iterator else UNKNOWN

    def _parameter(self, node: ast.Name, frame: Frame | None) -> Counter:
        if (
            node.id == "batch_idx"
            and self.usage.framework(self.event.trace.function) == "lightning"
        ):
            epochs = [keyword(call, "max_epochs") for call in self.usage.scopes.calls]
            is_one = any(each is not None and self.usage.value(each) == 1 for each in epochs)
            return Counter("steps", restarts=not is_one)
        if frame is None or frame.call is None:
            return CONSTANT if node.id in CONSTANT_NAMES - {"r"} else UNKNOWN
        given = frame.given(node.id)
        return UNKNOWN if given is None else self.read(given, frame.outer)

    def _of_loop(self, loop: Loop) -> Counter:
        loops = self.event.loops
        at = loops.index(loop)
        if self.makes_runs(loop):
            return CONSTANT
        steps = self.step_loops
        if len(steps) > at + 1 and steps[: at + 1] == loops[: at + 1]:
            # A step that is the outer number may belong to each of several models.
            target = "" if isinstance(loop, ast.While) else ast.unparse(loop.target)
            is_step = "step" in target or "iter" in target
            return UNKNOWN if is_step or self.makes_runs(steps[at + 1]) else Counter("epochs")
        if self._counts_in_strides(loop):
            return Counter("samples")
        starts = [] if isinstance(loop, ast.While) else list(_starts(self.usage, loop.iter))
        if len(starts) > 1 or not all(isinstance(each, ast.Constant) for each in starts):
            return UNKNOWN  # it counts on
        restarts = any(self._is_epochs(outer) for outer in loops[:at])
        return Counter("micro-batches" if self.is_rare else "steps", restarts)

    def _counts_in_strides(self, loop: Loop) -> bool:
        """Return whether a loop counts by the size of a batch: `range(0, samples, size)`."""
        if isinstance(loop, ast.While) or not isinstance(loop.target, ast.Name):
            return False
        made = [call.args for call in self.usage.calls(loop.iter) if called_name(call) == "range"]
        return any(self.usage.value(stride) not in (1, -1) for args in made for stride in args[2:])

    def _is_epochs(self, loop: Loop) -> bool:
        """Return whether a loop runs more than once over one training."""
        if self.makes_runs(loop):
            return False
        if isinstance(loop, ast.While):
            return True
        rounds = loop.iter
        if isinstance(rounds, ast.Call) and called_name(rounds) in {"tqdm", "trange"}:
            rounds = rounds.args[0] if rounds.args else rounds
        if isinstance(rounds, ast.Call) and called_name(rounds) == "range":
            rounds = rounds.args[0] if len(rounds.args) == 1 else rounds
        return self.usage.value(rounds) != 1

    def makes_runs(self, loop: Loop) -> bool:
        """Return whether each round of a loop is a training of its own."""
        node: ast.expr | None = receiver(self.event.call)
        frame: Frame | None = self.event.frame
        while node is not None and frame is not None:
            root, _ = dotted(node)
            bindings = self.usage.scopes.bindings(root)
            if any(each.node is loop for each in bindings):
                return True  # it runs over models, one of which is allocated
            node, frame = frame.given(last_name(root)), frame.outer
        return loop in self.event.trace.runs

    def _counted(self, name: str) -> Counter:
        """Return what a variable counts that the script increases."""
        changes = self.event.trace.changes.get(name, [])
        counts = [each for each in changes if each.kind == "count"]
        if not counts:
            return UNKNOWN
        count = counts[0]
        steps = self.step_loops
        if len(count.loops) < len(steps) and count.loops == steps[: len(count.loops)]:
            return Counter("epochs") if count.loops else UNKNOWN
        restarts = any(
            each.kind == "set"
            and each.loops
            and self._is_epochs(each.loops[-1])
            and each.loops == count.loops[: len(each.loops)]
            and len(each.loops) < len(count.loops)
            for each in changes
        )
        value = getattr(count.node, "value", None)
        parts = (getattr(value, side, value) for side in ("left", "right"))
        if not any(isinstance(part, ast.Constant) for part in parts):
            return Counter("samples", restarts)
        is_micro = self.is_rare and not accumulation_guards(self.usage, count)
        return Counter("micro-batches" if is_micro else "steps", restarts)


def _starts(usage: Usage, over: ast.expr) -> Iterator[ast.expr]:
    """Yield the numbers at which a loop may begin."""
    for call in usage.calls(over):
        if called_name(call) == "enumerate":
            yield keyword(call, "start", at=1) or ast.Constant(0)
        elif called_name(call) == "range":
            yield call.args[0] if len(call.args) > 1 else ast.Constant(0)
