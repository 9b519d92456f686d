"""Follow a value through a script to what it can come from."""

from __future__ import annotations

import ast
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from adalora_core.checker.documents.python.syntax import (
    FUNCTION,
    LOOP,
    Binding,
    Function,
    argument,
    called_name,
    children,
    keyword,
    last_name,
)

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.scopes import Scopes

_Node = TypeVar("_Node", bound=ast.AST)
_Step = tuple[ast.expr, int | None]
"""An expression, and the item of it that is followed; None: the whole."""
_FOUND = -1
"""The item of an expression that is an origin itself."""
_FOLLOWED = frozenset({"value", "loop", "with", "parameter"})
"""Kinds of bindings that can be followed to a value."""

_PASS_THROUGH = frozenset({
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
    """The origins of values."""

    def __init__(self, scopes: Scopes) -> None:
        self.scopes = scopes
        self._known: dict[ast.expr, list[ast.expr]] = {}

    def origins(self, expression: ast.expr | None) -> list[ast.expr]:
        """Return the expressions that a value can come from.

        What cannot be followed further is returned as it is written: a call of something that is
        imported, a parameter that no call of this script fills, an attribute.
        """
        if expression is None:
            return []
        if expression not in self._known:
            self._known[expression] = [expression]  # while it is looked for
            found: dict[ast.expr, None] = {}
            seen: set[_Step] = set()
            stack: list[_Step] = [(expression, None)]
            while stack:
                if (step := stack.pop()) in seen:
                    continue
                seen.add(step)
                node, item = step
                if item == _FOUND:
                    found[node] = None
                else:
                    stack += reversed(self._follow(node, item))
            self._known[expression] = list(found)
        return self._known[expression]

    def calls(self, expression: ast.expr | None) -> list[ast.Call]:
        """Return the calls that a value can come from."""
        return [leaf for leaf in self.origins(expression) if isinstance(leaf, ast.Call)]

    def mentions(self, expression: ast.expr | None, *kinds: type[_Node]) -> Iterator[_Node]:
        """Yield the nodes of some kinds of an expression and of what it comes from."""
        seen: set[ast.AST] = set()
        stack: list[ast.AST] = [] if expression is None else [expression]
        while stack:
            if (node := stack.pop()) in seen:
                continue
            seen.add(node)
            if isinstance(node, kinds):
                yield node
            stack += children(node)
            if isinstance(node, ast.Name | ast.Attribute):
                stack += self.origins(node)

    def called(self, call: ast.Call) -> Function | None:
        """Return the function or method of this script that a call runs."""
        function = call.func
        if isinstance(function, ast.Name):
            if function.id in self.scopes.classes:
                return self.scopes.method(self.scopes.classes[function.id], "__init__")
            is_own = function.id in self._functions
            found = self.scopes.function(function) if is_own else None
            if found is None and len(leaves := self.origins(function)) == 1:
                found = self.scopes.function(leaves[0])  # that another one returns
        elif isinstance(function, ast.Attribute):
            found = self._method(function.value, function.attr)
        else:
            return None
        # An instance of the script's own module is called, or of another class.
        return found or self._method(function, "forward") or self._method(function, "__call__")

    def _method(self, value: ast.expr, name: str) -> Function | None:
        """Return the method of a value that is an instance of a class of this script."""
        if name not in self._functions:  # as most names
            return None
        return self.scopes.method(self.class_of_value(value), name)

    @cached_property
    def _functions(self) -> set[str]:
        """The names of all functions of the script."""
        return {each.name for each in self.scopes.functions}

    @cached_property
    def _attributes(self) -> set[str]:
        """The attributes that may come from something else; most are those of other files."""
        bound = {attribute for _, attribute in self.scopes.attributes}
        return bound | {"base_model", "model", "module"}

    def class_of_value(self, expression: ast.expr) -> ast.ClassDef | None:
        """Return the class of this script that a value is an instance of."""
        if isinstance(expression, ast.Name) and expression.id == "self":
            return self.scopes.of[expression].class_
        if isinstance(expression, ast.Attribute) and expression.attr not in self._attributes:
            return None
        if isinstance(expression, ast.Name) and self.scopes.find(expression) is None:
            return None
        made = map(self.class_of_call, self.calls(expression))
        return next((owner for owner in made if owner is not None), None)

    def class_of_call(self, node: ast.AST) -> ast.ClassDef | None:
        """Return the class of this script that a call makes an instance of."""
        return self.scopes.class_named(node.func) if isinstance(node, ast.Call) else None

    def _follow(  # noqa: PLR0911 - one case per node
        self, node: ast.expr, item: int | None
    ) -> list[_Step]:
        """Return the next expressions on the way to the origins of one, or of an item of it."""
        match node:
            case ast.Name():
                bindings = [each for each in self.reaching(node) if each.kind in _FOLLOWED]
                return self._of_bindings(node, bindings, item)
            case ast.Attribute():
                return self._of_attribute(node, item)
            case ast.Subscript():
                return self._of_subscript(node, item)
            case ast.Call():
                return self._of_call(node, item)
            case ast.IfExp():
                return [(node.body, item), (node.orelse, item)]
            case ast.BoolOp():
                return [(value, item) for value in node.values]
            case ast.NamedExpr() | ast.Await() | ast.Starred():
                return [(node.value, item)]
            case ast.Tuple() | ast.List() if item is not None and item < len(node.elts):
                return [(node.elts[item], None)]
            case ast.ListComp() if item is not None:
                return [(node.elt, None)]
        return [(node, _FOUND)]

    def _of_bindings(
        self, node: ast.expr, bindings: list[Binding], item: int | None
    ) -> list[_Step]:
        """Follow a name or an attribute to what it is bound to, where that is known."""
        found: list[_Step] = [] if bindings else [(node, _FOUND)]
        for each in bindings:
            values: Sequence[ast.expr | None] = [each.value]
            if each.kind == "parameter":
                values = self.given(each.node, last_name(node))
            if each.kind == "loop" or not values:
                found.append((node, _FOUND))
                continue
            at = item if each.item is None else each.item
            found += [(value, at) for value in values if value is not None]
        return found

    def reaching(self, node: ast.Name) -> list[Binding]:
        """Return the bindings that can reach a name; all of them from another function."""
        scope, bindings = self.scopes.find(node), self.scopes.bindings(node)
        is_local = scope is not None and scope.function is self.scopes.of[node].function
        return self._reaching(node, bindings) if is_local else bindings

    def given(self, function: ast.AST, name: str) -> list[ast.expr]:
        """Return what the calls of this script pass for a parameter of a function."""
        if not isinstance(function, FUNCTION):
            return []
        found = [argument(call, function, name) for call in self.calls_of(function)]
        return [value for value in found if value is not None]

    def calls_of(self, function: Function) -> list[ast.Call]:
        """Return the calls of this script that can run a function of it."""
        owner = self.scopes.parents[function]
        if isinstance(owner, ast.ClassDef) and function.name == "__init__":
            return self.scopes.callers.get(owner.name, [])
        calls = self.scopes.callers.get(function.name, [])
        kind = ast.Attribute if isinstance(owner, ast.ClassDef) else ast.Name
        return [
            call
            for call in calls
            if isinstance(call.func, kind)
            and called_name(getattr(call.func, "value", None)) != "super"
        ]

    def _of_attribute(self, node: ast.Attribute, item: int | None) -> list[_Step]:
        bindings = [each for each in self.bindings_of(node) if each.kind == "value"]
        if not bindings and node.attr in {"base_model", "module"}:
            return [(node.value, None)]
        return self._of_bindings(node, bindings, item)

    def bindings_of(self, node: ast.Attribute) -> list[Binding]:
        """Return the bindings of an attribute of an instance of the script's own class."""
        bound = node.attr in self._attributes
        owner = self.class_of_value(node.value) if bound else None
        known = self.scopes.bases(owner)[0] if owner is not None else []
        return [b for each in known for b in self.scopes.attributes.get((each.name, node.attr), [])]

    def _of_subscript(self, node: ast.Subscript, item: int | None) -> list[_Step]:
        key = node.slice.value if isinstance(node.slice, ast.Constant) else None
        values: list[ast.expr] = []
        for change in self.scopes.changes(node.value) if isinstance(node.value, ast.Name) else ():
            statement, same = self.scopes.parents[change], getattr(change, "slice", None)
            if isinstance(statement, ast.Assign) and getattr(same, "value", key) == key:
                values.append(statement.value)
        bases = [b for b in self.origins(node.value) if isinstance(b, ast.Dict)]
        for name, value in (pair for b in bases for pair in zip(b.keys, b.values, strict=True)):
            if key is None or not isinstance(name, ast.Constant) or name.value == key:
                values.append(value)
        found: list[_Step] = [(value, item) for value in values]
        return found if values or bases else [(node, _FOUND)]

    def _of_call(self, node: ast.Call, item: int | None) -> list[_Step]:
        name = last_name(node.func)
        is_prepared = name == "prepare" and (item is not None or len(node.args) == 1)
        function = self.called(node) if self.class_of_call(node) is None else None
        if function is not None and (returned := list(self.returned(function))):
            return [(value, item) for value in returned]
        if function is None:
            if name == "initialize" and not item and (model := keyword(node, "model")) is not None:
                return [(model, None)]  # DeepSpeed's engine
            if node.args and (name in _PASS_THROUGH or is_prepared):
                return [(node.args[min(item or 0, len(node.args) - 1)], None)]
            if name in _RETURN_SELF and isinstance(node.func, ast.Attribute):
                return [(node.func.value, item)]
        return [(node, _FOUND)]

    def returned(self, function: Function) -> Iterator[ast.expr]:
        """Yield the expressions that a function returns."""
        stack: list[ast.AST] = list(function.body)
        while stack:
            node = stack.pop()
            if isinstance(node, ast.Return) and node.value is not None:
                yield node.value
            if not isinstance(node, (*FUNCTION, ast.ClassDef, ast.Lambda)):
                stack += children(node)

    def _reaching(self, node: ast.Name, bindings: list[Binding]) -> list[Binding]:
        """Return the bindings of a scope that can reach a name of the same scope."""
        position = self.scopes.position
        above = self.scopes.above(node)
        at = bisect_left(bindings, position[node], key=lambda each: position[each.node])
        reaching: list[Binding] = []
        for binding in reversed(bindings[:at]):
            if self._reaches(binding, above):
                reaching.append(binding)
                is_parameter = binding.kind == "parameter"
                block = binding.node if is_parameter else self._block(binding.node)
                if block in above:
                    return reaching
        loops = [each for each in above if isinstance(each, LOOP)]
        return reaching or [
            each
            for each in bindings
            if self._reaches(each, above)
            and any(self.scopes.is_within(each.node, loop) for loop in loops)
        ]

    def _reaches(self, binding: Binding, above: set[ast.AST]) -> bool:
        if binding.kind not in _FOLLOWED or (binding.value is not None and binding.value in above):
            return False
        if not self.scopes.is_excluded(binding.node, above):
            return True
        # The other branch may have run in an earlier round of a loop around both.
        loops = (each for each in above if isinstance(each, ast.For | ast.While))
        return any(self.scopes.is_within(binding.node, loop) for loop in loops)

    def _block(self, node: ast.AST) -> ast.AST:
        while not isinstance(node, ast.stmt):
            node = self.scopes.parents[node]
        block = self.scopes.parents[node]
        return self._block(block) if isinstance(block, ast.With | ast.AsyncWith) else block
