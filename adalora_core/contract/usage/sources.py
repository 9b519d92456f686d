"""Follow a value through a script to the expressions that it can come from."""

from __future__ import annotations

import ast
from bisect import bisect_left
from typing import TYPE_CHECKING

from adalora_core.contract.usage.index import FUNCTION, argument, keyword, last_name
from adalora_core.contract.usage.work import spend, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adalora_core.contract.usage.index import Binding, Function, Index

_DEEPEST = 14
_MOST_STEPS = 100_000
"""Bound on the expressions that are looked at for one script."""
_MOST = 60

_HAND_ON = frozenset({
    "unwrap_model", "compile", "DataParallel", "DistributedDataParallel", "DDP", "attach",
    "prepare_model_for_kbit_training", "prepare_model_for_int8_training", "prepare_model",
    "setup", "setup_module", "tqdm", "trange", "list", "tuple", "extract_model_from_parallel",
})  # fmt: skip
"""Functions that return their first argument, or a wrapper of it."""
_RETURN_SELF = frozenset({
    "to", "cuda", "cpu", "half", "bfloat16", "float", "double", "train", "eval", "requires_grad_",
})  # fmt: skip
"""Methods that return the object itself."""


class Sources:
    """The origins of values.

    Args:
        index: the names of the script.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self._known: dict[tuple[ast.expr, int | None], list[ast.expr]] = {}
        self._left = _MOST_STEPS

    def origins(self, expression: ast.expr | None, item: int | None = None) -> list[ast.expr]:
        """Return the expressions that a value can come from.

        What cannot be followed further is returned as it is written: a call of something that is
        imported, a parameter that no call of this script fills, an attribute.
        """
        if expression is None:
            return []
        key = (expression, item)
        if key not in self._known:
            self._known[key] = [expression]  # while it is looked for
            found: dict[ast.expr, None] = {}
            for leaf in self._follow(expression, item, frozenset()):
                found.setdefault(leaf)
                if len(found) >= _MOST:
                    break
            self._known[key] = list(found)
        return self._known[key]

    def mentions(self, expression: ast.expr | None) -> Iterator[ast.AST]:
        """Yield all nodes of an expression and of what it comes from."""
        if expression is None:
            return
        seen: set[int] = set()
        queue = [expression]
        while queue and len(seen) < 20 * _MOST:
            for node in walk(queue.pop()):
                if id(node) in seen:
                    continue
                seen.add(id(node))
                yield node
                if isinstance(node, ast.Name | ast.Attribute) and node in self.index.position:
                    queue += [each for each in self.origins(node) if id(each) not in seen]

    def called(self, call: ast.Call) -> Function | None:
        """Return the function or method of this script that a call runs."""
        index, function = self.index, call.func
        if isinstance(function, ast.Name):
            if function.id in index.classes:
                return index.method(index.classes[function.id], "__init__")
            found = index.function(function.id, call)
            return found if found is not None else self._forward(function)
        if not isinstance(function, ast.Attribute):
            return None
        owner = self.class_of_value(function.value)
        found = None if owner is None else index.method(owner, function.attr)
        return found if found is not None else self._forward(function)

    def _forward(self, called: ast.expr) -> Function | None:
        """Return what a call of an instance of the script's own module runs."""
        owner = self.class_of_value(called)
        return None if owner is None else self.index.method(owner, "forward")

    def class_of_value(self, expression: ast.expr) -> ast.ClassDef | None:
        """Return the class of this script that a value is an instance of."""
        index = self.index
        if isinstance(expression, ast.Name) and expression.id == "self":
            return index.class_of(expression)
        if isinstance(expression, ast.Call) and last_name(expression.func) == "super":
            owner = index.class_of(expression)
            bases = index.bases(owner)[0][1:] if owner is not None else []
            return bases[0] if bases else None
        for leaf in self.origins(expression):
            if isinstance(leaf, ast.Call) and last_name(leaf.func) in index.classes:
                return index.classes[last_name(leaf.func)]
        return None

    def _follow(self, node: ast.expr, item: int | None, seen: frozenset[int]) -> Iterator[ast.expr]:
        self._left -= 1
        if id(node) in seen or len(seen) > _DEEPEST or self._left < 0:
            return
        seen |= {id(node)}
        if isinstance(node, ast.Name):
            yield from self._of_name(node, item, seen)
        elif isinstance(node, ast.Attribute):
            yield from self._of_attribute(node, item, seen)
        elif isinstance(node, ast.Subscript):
            yield from self._of_subscript(node, item, seen)
        elif isinstance(node, ast.Call):
            yield from self._of_call(node, item, seen)
        else:
            yield from self._of_parts(node, item, seen)

    def _of_parts(
        self, node: ast.expr, item: int | None, seen: frozenset[int]
    ) -> Iterator[ast.expr]:
        if isinstance(node, ast.IfExp):
            yield from self._follow(node.body, item, seen)
            yield from self._follow(node.orelse, item, seen)
        elif isinstance(node, ast.BoolOp):
            for value in node.values:
                yield from self._follow(value, item, seen)
        elif isinstance(node, ast.NamedExpr | ast.Await | ast.Starred):
            yield from self._follow(node.value, item, seen)
        elif isinstance(node, ast.Tuple | ast.List) and item is not None and item < len(node.elts):
            yield from self._follow(node.elts[item], None, seen)
        else:
            yield node

    def _of_name(
        self, node: ast.Name, item: int | None, seen: frozenset[int]
    ) -> Iterator[ast.expr]:
        scope, bindings = self.index.lookup(node.id, node)
        bindings = [each for each in bindings if each.kind != "added"]
        if scope is self.index.scope(node):
            bindings = self._reaching(node, bindings)
        if not bindings:
            yield node
        for binding in bindings:
            yield from self._of_binding(node, binding, item, seen)

    def _of_binding(
        self, node: ast.expr, binding: Binding, item: int | None, seen: frozenset[int]
    ) -> Iterator[ast.expr]:
        if binding.kind == "parameter":
            yield from self._of_parameter(node, binding, item, seen)
        elif binding.kind == "loop" and binding.value is not None:
            yield from self._elements(node, binding.value, binding.item, seen)
        elif binding.value is not None:
            inner = binding.item if binding.item is not None else item
            yield from self._follow(binding.value, inner, seen)

    def _of_parameter(
        self, node: ast.expr, binding: Binding, item: int | None, seen: frozenset[int]
    ) -> Iterator[ast.expr]:
        function = binding.node
        given = (
            [argument(call, function, node.id) for call in self.calls_of(function)]
            if isinstance(function, FUNCTION) and isinstance(node, ast.Name)
            else []
        )
        values = [value for value in given if value is not None]
        if not values:
            yield node
        for value in values:
            yield from self._follow(value, item, seen)

    def calls_of(self, function: Function) -> list[ast.Call]:
        """Return the calls of this script that can run a function of it."""
        owner = self.index.parents[function]
        spend(len(self.index.callers.get(function.name, [])))
        if not isinstance(owner, ast.ClassDef):
            return [
                call
                for call in self.index.callers.get(function.name, [])
                if isinstance(call.func, ast.Name)
            ]
        if function.name == "__init__":
            return self.index.callers.get(owner.name, [])
        return [
            call
            for call in self.index.callers.get(function.name, [])
            if isinstance(call.func, ast.Attribute)
        ]

    def _of_attribute(
        self, node: ast.Attribute, item: int | None, seen: frozenset[int]
    ) -> Iterator[ast.expr]:
        owner = self.class_of_value(node.value)
        bindings = (
            [b for each in self.index.bases(owner)[0] for b in self._attribute(each, node.attr)]
            if owner is not None
            else []
        )
        if bindings:
            for binding in bindings:
                yield from self._of_binding(node, binding, item, seen)
            return
        if node.attr == "model":
            for leaf in self.origins(node.value):
                given = keyword(leaf, "model", at=0) if isinstance(leaf, ast.Call) else None
                if isinstance(leaf, ast.Call) and keyword(leaf, "peft_config") is not None:
                    yield leaf
                elif given is not None:
                    yield from self._follow(given, None, seen)
        if node.attr in {"base_model", "module"}:
            yield from self._follow(node.value, None, seen)
            return
        yield node

    def _attribute(self, owner: ast.ClassDef, name: str) -> list[Binding]:
        return [b for b in self.index.attributes.get((owner.name, name), []) if b.kind == "value"]

    def _of_subscript(
        self, node: ast.Subscript, item: int | None, seen: frozenset[int]
    ) -> Iterator[ast.expr]:
        key = node.slice.value if isinstance(node.slice, ast.Constant) else None
        found = False
        for base in self._follow(node.value, None, seen):
            if isinstance(base, ast.Dict):
                found = True
                for name, value in zip(base.keys, base.values, strict=True):
                    wanted = key is None or not isinstance(name, ast.Constant) or name.value == key
                    if wanted:
                        yield from self._follow(value, item, seen)
            elif isinstance(base, ast.List | ast.Tuple):
                found = True
                for value in base.elts:
                    yield from self._follow(value, item, seen)
        if not found:
            yield node

    def _of_call(
        self, node: ast.Call, item: int | None, seen: frozenset[int]
    ) -> Iterator[ast.expr]:
        name = last_name(node.func)
        function = self.called(node) if name not in self.index.classes else None
        if function is not None:
            returned = list(self.returned(function))
            for value in returned:
                yield from self._follow(value, item, seen)
            if not returned:
                yield node
        elif name == "initialize" and not item and keyword(node, "model") is not None:
            yield from self._follow_all(keyword(node, "model"), seen)  # DeepSpeed's engine
        elif name == "prepare" and node.args and (item is not None or len(node.args) == 1):
            at = item if item is not None else 0
            yield from self._follow(node.args[min(at, len(node.args) - 1)], None, seen)
        elif name in _HAND_ON and node.args:
            yield from self._follow(node.args[min(item or 0, len(node.args) - 1)], None, seen)
        elif name in _RETURN_SELF and isinstance(node.func, ast.Attribute):
            yield from self._follow(node.func.value, item, seen)
        else:
            yield node

    def _follow_all(self, node: ast.expr | None, seen: frozenset[int]) -> Iterator[ast.expr]:
        if node is not None:
            yield from self._follow(node, None, seen)

    def returned(self, function: Function) -> Iterator[ast.expr]:
        """Yield the expressions that a function returns."""
        stack: list[ast.AST] = list(function.body)
        while stack:
            node = stack.pop()
            if isinstance(node, ast.Return) and node.value is not None:
                yield node.value
            if not isinstance(node, (*FUNCTION, ast.ClassDef, ast.Lambda)):
                stack += ast.iter_child_nodes(node)

    def _elements(
        self, node: ast.expr, over: ast.expr, item: int | None, seen: frozenset[int]
    ) -> Iterator[ast.expr]:
        view = ""
        if isinstance(over, ast.Call) and isinstance(over.func, ast.Attribute):
            view = over.func.attr if over.func.attr in {"items", "values"} else ""
            over = over.func.value if view else over
        found = False
        for base in self._follow(over, None, seen):
            entries = base.elts if isinstance(base, ast.List | ast.Tuple | ast.Set) else []
            if isinstance(base, ast.Dict) and view and item != 0:
                entries = base.values
            for entry in entries:
                found = True
                yield from self._follow(entry, None if view else item, seen)
        if not found:
            yield node

    def _reaching(self, node: ast.Name, bindings: list[Binding]) -> list[Binding]:
        """Return the bindings of a scope that can reach a name of the same scope."""
        position = self.index.position
        above = self._ancestors(node)
        at = bisect_left(bindings, position[node], key=lambda each: position[each.node])
        reaching: list[Binding] = []
        for binding in reversed(bindings[max(0, at - _MOST) : at]):
            if self._reaches(binding, above):
                reaching.append(binding)
                is_parameter = binding.kind == "parameter"
                block = binding.node if is_parameter else self._block(binding.node)
                if block in above:
                    return reaching
        return reaching or [each for each in bindings[:_MOST] if self._reaches(each, above)]

    def _reaches(self, binding: Binding, above: set[ast.AST]) -> bool:
        is_inside = binding.value is not None and binding.value in above
        return not is_inside and not self.index.is_excluded(binding.node, above)

    def _block(self, node: ast.AST) -> ast.AST:
        while not isinstance(node, ast.stmt):
            node = self.index.parents[node]
        return self.index.parents[node]

    def _ancestors(self, node: ast.AST) -> set[ast.AST]:
        above = {node}
        while node in self.index.parents:
            node = self.index.parents[node]
            above.add(node)
        spend(len(above))
        return above
