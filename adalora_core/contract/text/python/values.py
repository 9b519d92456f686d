"""Find what an expression holds, where that can be known without running the code."""

from __future__ import annotations

import ast
import math
import operator
from typing import TYPE_CHECKING, Any, Final

from adalora_core.contract.text.python.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from adalora_core.contract.text.python.scopes import Binding, Scopes


class _Unknown:
    """The type of UNKNOWN."""

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __deepcopy__(self, memo: object) -> _Unknown:
        return self


UNKNOWN: Final = _Unknown()
"""The value of an expression that only a run can tell; as a key, it stands for further keys."""

_MOST_STEPS = 20_000
"""Bound on the expressions that are looked at for one script."""
_DEEPEST = 40
"""Bound on how far a value is followed: names of names, calls in calls."""
_LONGEST = 4096
"""Bound on the entries and characters of a computed value."""
_LARGEST = 1 << 256

Entries = dict[Any, tuple[ast.AST, ast.expr | None]]
"""`{key: (node of the key, node of the value)}`; no node: the value is not known."""

_ENUMS = frozenset({"TaskType", "PeftType"})

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "round": round,
    "abs": abs,
    "max": max,
    "min": min,
    "math.ceil": math.ceil,
    "math.floor": math.floor,
}
"""Functions of known numbers and short texts."""
_COLLECTIONS = frozenset({"list", "tuple", "set", "sorted", "frozenset"})
_CONSTANTS = {
    "math.inf": math.inf, "math.nan": math.nan, "numpy.inf": math.inf, "numpy.nan": math.nan,
    "torch.inf": math.inf, "torch.nan": math.nan,
}  # fmt: skip


class Values:
    """The values of the expressions of one script.

    Args:
        scopes: the scopes of its tree.
    """

    def __init__(self, scopes: Scopes) -> None:
        self.scopes = scopes
        self._known: dict[ast.AST, Any] = {}
        self._entries_of: dict[ast.AST, Entries] = {}
        self._steps = 0
        self._depth = 0
        self._namespaces = Namespaces(scopes)

    def of(self, node: ast.expr) -> Any:
        """Return what an expression holds, with UNKNOWN for each part that only a run can tell.

        Tuples and sets are lists. A dict with the key UNKNOWN has further keys.
        """
        if node in self._known:
            return self._known[node]
        if self._depth > _DEEPEST or self._steps > _MOST_STEPS:
            return UNKNOWN
        self._steps += 1
        self._depth += 1
        self._known[node] = UNKNOWN  # while it is looked for: a value may depend on itself
        try:
            self._known[node] = self._evaluate(node)
        finally:
            self._depth -= 1
        return self._known[node]

    def qualified(self, node: ast.expr) -> str | None:
        """Return the full name of an imported function or class: `peft.AdaLoraConfig`.

        A builtin has its own name. None: it is not imported, or bound again.
        """
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        scope = self.scopes.find(node.id, node)
        if scope is None:
            return ".".join([node.id, *reversed(parts)])
        origins = {binding.origin for binding in scope.names[node.id]}
        origin = origins.pop() if len(origins) == 1 else None
        return None if origin is None else ".".join([origin, *reversed(parts)])

    def entries(self, node: ast.expr) -> Entries:
        """Return the keys of a dict, each with the nodes of key and value.

        A value is None if it changes later. The key UNKNOWN stands for further keys.
        """
        if node in self._entries_of:
            return self._entries_of[node]
        open_: Entries = {UNKNOWN: (node, None)}
        if self._depth > _DEEPEST or self._steps > _MOST_STEPS:
            return open_
        self._depth += 1
        self._entries_of[node] = open_  # while they are looked for: a dict may hold itself
        try:
            found = self._entries_of[node] = self._entries(node)
        finally:
            self._depth -= 1
        self._steps += len(found)
        return found

    def _entries(self, node: ast.expr) -> Entries:
        match node:
            case ast.Dict():
                return self._of_pairs(zip(node.keys, node.values, strict=True))
            case ast.Call(func=ast.Name(id="dict")) if len(node.args) <= 1:
                found = dict(self.entries(node.args[0])) if node.args else {}
                for keyword in node.keywords:
                    if keyword.arg is None:
                        found |= self.entries(keyword.value)
                    else:
                        found[keyword.arg] = (keyword, keyword.value)
                return found
            case ast.BinOp(op=ast.BitOr()):
                return self.entries(node.left) | self.entries(node.right)
            case ast.Name():
                source = self.source(node)
                if source is not None:
                    return self._changed(node, dict(self.entries(source)))
            case ast.Subscript():
                part = self.part(node)
                if part is not None:
                    return self.entries(part)
        return {UNKNOWN: (node, None)}

    def _of_pairs(self, pairs: Iterable[tuple[ast.expr | None, ast.expr]]) -> Entries:
        found: Entries = {}
        for key, value in pairs:
            if key is None:
                found |= self.entries(value)
            else:
                name = self.of(key)
                found[name if _is_key(name) else UNKNOWN] = (key, value)
        return found

    def _changed(self, name: ast.Name, found: Entries) -> Entries:
        """Return the entries of a dict without the values that the code changes."""
        for change in self.scopes.changes(name):
            self._steps += 1
            keys = self._keys_of_change(change)
            if keys is None:
                found = {key: (node, None) for key, (node, _) in found.items()}
                return {**found, UNKNOWN: (change, None)}
            found = found | {key: (found.get(key, (change,))[0], None) for key in keys}
        return found

    def _keys_of_change(self, change: ast.AST) -> list[str] | None:
        match change:
            case ast.Subscript(slice=ast.Constant(value=str() as key)):
                return [key]
            case ast.Call(func=ast.Attribute(attr="pop" | "setdefault"), args=[key_node, *_]):
                key = self.of(key_node)
                return [key] if isinstance(key, str) else None
            case ast.Call(func=ast.Attribute(attr="update"), args=args, keywords=keywords):
                found = [keyword.arg for keyword in keywords]
                for each in args:
                    found += list(self.entries(each))
                names = [name for name in found if isinstance(name, str)]
                return names if len(names) == len(found) else None
        return None

    def source(self, name: ast.Name) -> ast.expr | None:
        """Return the expression whose value a name has, if it is bound once."""
        binding = self.scopes.binding(name)
        return None if binding is None else _source(binding)

    def part(self, node: ast.Subscript) -> ast.expr | None:
        """Return the expression of an entry of a known dict or list."""
        key = self.of(node.slice)
        if isinstance(key, str):
            return self.entries(node.value).get(key, (None, None))[1]
        base = self.source(node.value) if isinstance(node.value, ast.Name) else node.value
        if type(key) is not int or not isinstance(base, (ast.List, ast.Tuple)):
            return None
        if isinstance(node.value, ast.Name) and self.scopes.changes(node.value):
            return None
        return base.elts[key] if -len(base.elts) <= key < len(base.elts) else None

    def _evaluate(self, node: ast.expr) -> Any:  # noqa: C901, PLR0911 - one case per expression
        match node:
            case ast.Constant():
                is_plain = isinstance(node.value, (str, int, float, type(None)))
                return node.value if is_plain else UNKNOWN
            case ast.List() | ast.Tuple() | ast.Set():
                return self._list(node.elts)
            case ast.Dict():
                return self._dict(node)
            case ast.Name():
                return self._name(node)
            case ast.Attribute():
                return self._attribute(node)
            case ast.Subscript():
                part = self.part(node)
                return UNKNOWN if part is None else self.of(part)
            case ast.UnaryOp() if type(node.op) in _UNARY:
                return _computed(_UNARY[type(node.op)], self.of(node.operand))
            case ast.BinOp() if type(node.op) in _BINARY:
                left, right = self.of(node.left), self.of(node.right)
                if (
                    isinstance(left, list)
                    and isinstance(right, list)
                    and _is_sum(node, left, right)
                ):
                    return left + right
                return _computed(_BINARY[type(node.op)], left, right)
            case ast.BinOp(op=ast.BitOr()):
                return self._dict(node)
            case ast.NamedExpr():
                return self.of(node.value)
            case ast.Call():
                return self._call(node)
        return UNKNOWN

    def _list(self, nodes: list[ast.expr]) -> Any:
        found: list[Any] = []
        for each in nodes[:_LONGEST]:
            inner = each.value if isinstance(each, ast.Starred) else None
            value = self.of(each if inner is None else inner)
            if inner is None:
                found.append(value)
            elif isinstance(value, list):
                found += value
            else:
                found.append(UNKNOWN)
        return found if len(nodes) <= _LONGEST else UNKNOWN

    def _dict(self, node: ast.expr) -> Any:
        found = self.entries(node)
        if len(found) > _LONGEST:
            return UNKNOWN
        return {key: UNKNOWN if v is None else self.of(v) for key, (_, v) in found.items()}

    def _name(self, node: ast.Name) -> Any:
        binding = self.scopes.binding(node)
        if binding is None:
            return UNKNOWN
        if binding.origin is not None:
            return _CONSTANTS.get(binding.origin, UNKNOWN)
        source = _source(binding)
        if source is None:
            return UNKNOWN
        value = self.of(source)
        if isinstance(value, dict):
            return self._dict(node)
        is_changed = isinstance(value, list) and self.scopes.changes(node)
        return UNKNOWN if is_changed else value

    def _attribute(self, node: ast.Attribute) -> Any:
        name = self.qualified(node)
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name is not None and "." in name and name.split(".")[-2] in _ENUMS:
            return node.attr
        if node.attr == "value" and isinstance(node.value, ast.Attribute):
            inner = self.of(node.value)  # TaskType.CAUSAL_LM.value
            return inner if isinstance(inner, str) else UNKNOWN
        source = self._namespaces.source(node)
        value = UNKNOWN if source is None else self.of(source.node)
        # Who gives no default gives the value at the command line.
        return UNKNOWN if source is not None and source.is_default and value is None else value

    def _call(self, node: ast.Call) -> Any:
        name = self.qualified(node.func)
        if name == "dict":
            return self._dict(node)
        if node.keywords or name is None:
            return UNKNOWN
        values = [self.of(each) for each in node.args]
        if name in _COLLECTIONS and len(values) == 1:
            return values[0] if isinstance(values[0], list) else UNKNOWN
        if name == "range":
            return _range(values)
        name = name.removeprefix("builtins.")
        return _computed(_FUNCTIONS[name], *values) if name in _FUNCTIONS else UNKNOWN


def _source(binding: Binding) -> ast.expr | None:
    if binding.index is None or binding.value is None:
        return binding.value
    value = binding.value
    if not isinstance(value, (ast.Tuple, ast.List)) or binding.index >= len(value.elts):
        return None
    is_spread = any(isinstance(each, ast.Starred) for each in value.elts)
    return None if is_spread else value.elts[binding.index]


def _is_sum(node: ast.BinOp, left: list[Any], right: list[Any]) -> bool:
    return isinstance(node.op, ast.Add) and len(left) + len(right) <= _LONGEST


def _is_key(name: Any) -> bool:
    return isinstance(name, (str, int, float, type(None)))


def holds_unknown(value: Any) -> bool:
    """Return whether a value, or a part of it, is not known."""
    if isinstance(value, list):
        return any(map(holds_unknown, value))
    if isinstance(value, dict):
        return UNKNOWN in value or any(map(holds_unknown, value.values()))
    return value is UNKNOWN


def _range(values: list[Any]) -> Any:
    if not 1 <= len(values) <= 3 or not all(type(value) is int for value in values):  # noqa: PLR2004
        return UNKNOWN
    try:
        found = range(*values)
        return list(found) if len(found) <= _LONGEST else UNKNOWN
    except (ValueError, OverflowError):
        return UNKNOWN


def _computed(function: Callable[..., Any], *values: Any) -> Any:
    """Return the value of a function of numbers and short texts, within bounds."""
    if not values or not all(map(_is_computable, values)):
        return UNKNOWN
    if function is operator.mul and any(isinstance(value, str) for value in values):
        return UNKNOWN
    try:
        result = function(*values)
    except (TypeError, ValueError, ArithmeticError):
        return UNKNOWN
    return result if _is_computable(result) else UNKNOWN


def _is_computable(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= _LARGEST)
