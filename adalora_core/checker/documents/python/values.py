"""Find what an expression holds, where that can be known without running the code."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from adalora_core.checker.documents.python.origins import DEEPEST_VALUE, LOADERS, UNKNOWN, Origins
from adalora_core.floor.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.scopes import Scopes

_ENUMS = frozenset({"TaskType", "PeftType"})

_CONSTANTS: dict[str | None, float] = {
    "math.inf": math.inf, "math.nan": math.nan, "numpy.inf": math.inf, "numpy.nan": math.nan,
    "torch.inf": math.inf, "torch.nan": math.nan,
}  # fmt: skip


LONGEST = 4096
"""Bound on the entries and characters of a computed value."""
_LARGEST = 1 << 256

BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "round": lambda number, digits=None: round(number, digits and max(digits, -LONGEST)),
    "abs": abs,
    "max": max,
    "min": min,
    "math.ceil": math.ceil,
    "math.floor": math.floor,
}
"""Functions of known numbers and short texts."""


def without_repeats(values: list[Any]) -> list[Any]:
    """Return the entries of a set in the order of the code."""
    found: dict[str, Any] = {}
    for each in values:
        is_whole = isinstance(each, int) or (isinstance(each, float) and each.is_integer())
        found.setdefault(repr(int(each) if is_whole else each), each)
    return list(found.values())


def _sorted(values: list[Any]) -> Any:
    try:
        return sorted(values) if all(map(_is_computable, values)) else UNKNOWN
    except TypeError:
        return UNKNOWN


COLLECTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list, "tuple": list, "set": without_repeats, "frozenset": without_repeats,
    "sorted": _sorted,
}  # fmt: skip
"""Functions that make a list of a list."""


def range_of(values: list[Any]) -> Any:
    """Return the numbers of a range as a list, within bounds."""
    if not 1 <= len(values) <= 3 or not all(type(value) is int for value in values):  # noqa: PLR2004
        return UNKNOWN
    try:
        found = range(*values)
        return list(found) if len(found) <= LONGEST else UNKNOWN
    except (ValueError, OverflowError):
        return UNKNOWN


def computed(function: Callable[..., Any], *values: Any) -> Any:
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
        return len(value) <= LONGEST
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= _LARGEST)


class Values(Origins):
    """The values of the expressions of one script.

    Args:
        scopes: the scopes of its tree.
        limits: the limits of an argument's value, and of those of all arguments together. A value
            that is used twice counts twice, as an alias of YAML does.

    Attributes:
        excess: the first argument beyond a limit, and the limit.
    """

    def __init__(self, scopes: Scopes, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(scopes, limits)
        self.excess: tuple[ast.expr, str] | None = None
        self._left = limits.nodes
        self._known: dict[ast.AST, Any] = {}

    def of(self, node: ast.expr) -> Any:
        """Return what an expression holds, with UNKNOWN for each part that only a run can tell.

        Tuples and sets are lists. A dict with the key UNKNOWN has further keys.
        """
        if node in self._known:
            return self._known[node]
        if self._depth > DEEPEST_VALUE:
            return UNKNOWN
        self._depth += 1
        self._known[node] = UNKNOWN  # while it is looked for: a value may depend on itself
        try:
            self._known[node] = self._evaluate(node)
        finally:
            self._depth -= 1
        return self._known[node]

    def of_argument(self, node: ast.expr) -> Any:
        """Return what an argument holds, and count its values among those of all arguments."""
        value, most = self.of(node), self._limits
        stack = [(value, 0)]
        while stack:
            part, level = stack.pop()
            self._left -= 1
            excess = None
            if self._left < 0:
                excess = f"the arguments hold more than {most.nodes} values, each use counted"
            elif isinstance(part, (list, dict)):
                if level == most.depth:
                    excess = f"a value is nested deeper than {most.depth} levels"
                inner = part.values() if isinstance(part, dict) else part
                stack += [(each, level + 1) for each in inner]
            if excess is not None:
                self.excess = self.excess or (node, excess)
                return UNKNOWN
        return value

    def _evaluate(self, node: ast.expr) -> Any:  # noqa: C901, PLR0911 - one case per expression
        match node:
            case ast.Constant():
                is_plain = isinstance(node.value, (str, int, float, type(None)))
                return node.value if is_plain else UNKNOWN
            case ast.List() | ast.Tuple() | ast.Set():
                return self._list(node)
            case ast.Dict():
                return self._dict(node)
            case ast.Name():
                return self._name(node)
            case ast.Attribute():
                return self._attribute(node)
            case ast.Subscript():
                part = self.source(node)
                return UNKNOWN if part is None else self.of(part)
            case ast.UnaryOp() if type(node.op) in UNARY:
                return computed(UNARY[type(node.op)], self.of(node.operand))
            case ast.BinOp() if type(node.op) in BINARY:
                return self._joined(node)
            case ast.IfExp():
                test = self.of(node.test)
                return UNKNOWN if test is UNKNOWN else self.of(node.body if test else node.orelse)
            case ast.BinOp(op=ast.BitOr()):
                return self._dict(node)
            case ast.NamedExpr():
                return self.of(node.value)
            case ast.Call():
                return self._call(node)
        return UNKNOWN

    def _joined(self, node: ast.BinOp) -> Any:
        left, right = self.of(node.left), self.of(node.right)
        if isinstance(node.op, ast.Add) and type(left) is type(right) is list:
            return left + right
        return computed(BINARY[type(node.op)], left, right)

    def _list(self, node: ast.List | ast.Tuple | ast.Set) -> Any:
        found: list[Any] = []
        for each in node.elts:
            is_spread = isinstance(each, ast.Starred)
            value = self.of(each.value if isinstance(each, ast.Starred) else each)
            found += [value] if not is_spread else value if isinstance(value, list) else [UNKNOWN]
        return without_repeats(found) if isinstance(node, ast.Set) else found

    def _dict(self, node: ast.expr) -> Any:
        entries = self.entries(node).items()
        return {key: UNKNOWN if value is None else self.of(value) for key, (_, value) in entries}

    def _name(self, node: ast.Name) -> Any:
        source, binding = self.source(node), self.scopes.binding(node)
        if source is None:
            return UNKNOWN if binding is None else _CONSTANTS.get(binding.origin, UNKNOWN)
        value = self.of(source)
        if isinstance(value, dict):
            return self._dict(node)
        is_changed = isinstance(value, list) and self.scopes.changes(node)
        return UNKNOWN if is_changed else value

    def _attribute(self, node: ast.Attribute) -> Any:
        name = self.scopes.qualified(node)
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name is not None and "." in name and name.split(".")[-2] in _ENUMS:
            return node.attr
        if node.attr == "value" and isinstance(node.value, ast.Attribute):
            inner = self.of(node.value)  # TaskType.CAUSAL_LM.value
            return inner if isinstance(inner, str) else UNKNOWN
        source = self.source(node)
        return UNKNOWN if source is None else self.of(source)

    def _call(self, node: ast.Call) -> Any:
        name = self.scopes.qualified(node.func)
        if name == "dict" or name in LOADERS:
            return self._dict(node)
        if node.keywords or name is None:
            return UNKNOWN
        values = [self.of(each) for each in node.args]
        if name in COLLECTIONS and len(values) <= 1:
            entries = values[0] if values else []
            return COLLECTIONS[name](entries) if isinstance(entries, list) else UNKNOWN
        if name == "range":
            return range_of(values)
        name = name.removeprefix("builtins.")
        return computed(FUNCTIONS[name], *values) if name in FUNCTIONS else UNKNOWN


def holds_unknown(value: Any) -> bool:
    """Return whether a value, or a part of it, is not known."""
    if isinstance(value, list):
        return any(map(holds_unknown, value))
    if isinstance(value, dict):
        return UNKNOWN in value or any(map(holds_unknown, value.values()))
    return value is UNKNOWN
