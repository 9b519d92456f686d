"""Find what an expression holds, where that can be known without running the code."""

from __future__ import annotations

import ast
import importlib
import math
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from adalora_core.checker.documents.python.arithmetic import (
    BINARY,
    COLLECTIONS,
    FUNCTIONS,
    UNARY,
    UNKNOWN,
    computed,
    range_of,
    without_repeats,
)
from adalora_core.checker.documents.python.namespaces import Namespaces
from adalora_core.floor.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.scopes import Scopes


_DEEPEST = 40
"""Bound on how far a value is followed: names of names, calls in calls."""

Entries = dict[Any, tuple[ast.AST, ast.expr | None]]
"""`{key: (node of the key, node of the value)}`; no node: the value is not known."""

_ENUMS = frozenset({"TaskType", "PeftType"})

_CONSTANTS: dict[str | None, float] = {
    "math.inf": math.inf, "math.nan": math.nan, "numpy.inf": math.inf, "numpy.nan": math.nan,
    "torch.inf": math.inf, "torch.nan": math.nan,
}  # fmt: skip


_LOADERS = {
    **dict.fromkeys(("yaml.safe_load", "yaml.full_load", "yaml.load"), "yaml_source"),
    "json.loads": "json_source",
}
"""Functions that read a mapping out of a text."""


_SAVED = {f"peft.{name}Config.from_pretrained" for name in ("Peft", "Lora", "AdaLora")}
"""Functions that read a configuration as PEFT has saved it: for inference."""


class Values:
    """The values of the expressions of one script.

    Args:
        scopes: the scopes of its tree.
        limits: the limits of an argument's value, and of those of all arguments together. A value
            that is used twice counts twice, as an alias of YAML does.

    Attributes:
        excess: the first argument beyond a limit, and the limit.
    """

    def __init__(self, scopes: Scopes, limits: Limits = DEFAULT_LIMITS) -> None:
        self.scopes = scopes
        self.excess: tuple[ast.expr, str] | None = None
        self._limits = limits
        self._left = limits.nodes
        self._known: dict[ast.AST, Any] = {}
        self._spreads: dict[ast.AST, bool] = {}
        self._entries_of: dict[ast.AST, Entries] = {}
        self._depth = 0

    @cached_property
    def _namespaces(self) -> Namespaces:
        return Namespaces(self.scopes)

    def of(self, node: ast.expr) -> Any:
        """Return what an expression holds, with UNKNOWN for each part that only a run can tell.

        Tuples and sets are lists. A dict with the key UNKNOWN has further keys.
        """
        if node in self._known:
            return self._known[node]
        if self._depth > _DEEPEST:
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

    def entries(self, node: ast.expr) -> Entries:
        """Return the keys of a dict, each with the nodes of key and value.

        A value is None if it changes later. The key UNKNOWN stands for further keys.
        """
        if node in self._entries_of:
            return self._entries_of[node]
        open_: Entries = {UNKNOWN: (node, None)}
        if self._depth > _DEEPEST:
            return open_
        self._depth += 1
        self._entries_of[node] = open_  # while they are looked for: a dict may hold itself
        try:
            loaded = self._loaded(node) if isinstance(node, ast.Call) else None
            self._entries_of[node] = self._entries(loaded or node)
        finally:
            self._depth -= 1
        return self._entries_of[node]

    def _entries(self, node: ast.expr) -> Entries:  # noqa: C901, PLR0912 - one case per expression
        match node:
            case ast.Dict():
                return self._of_pairs(zip(node.keys, node.values, strict=True))
            case ast.Call(func=ast.Name(id="dict")) if len(node.args) <= 1:
                found = dict(self.entries(node.args[0])) if node.args else {}
                for keyword in node.keywords:
                    if keyword.arg is None:
                        found = _joined(found, self.entries(keyword.value))
                    else:
                        found[keyword.arg] = (keyword, keyword.value)
                return found
            case ast.Call(args=[made]) if self.scopes.qualified(node.func) == "dataclasses.asdict":
                return self._namespaces.fields(made) or {UNKNOWN: (node, None)}
            case ast.Call(ast.Attribute(made, "to_dict")):
                made = (self.source(made) if isinstance(made, ast.Name) else None) or made
                if self.scopes.qualified(getattr(made, "func", made)) in _SAVED:
                    saved = ast.copy_location(ast.Constant(value=True), node)
                    return {UNKNOWN: (node, None), "inference_mode": (node, saved)}
            case ast.BinOp(op=ast.BitOr()):
                return _joined(dict(self.entries(node.left)), self.entries(node.right))
            case ast.Name():
                source = self.source(node)
                if source is not None:
                    return self._changed(node, dict(self.entries(source)))
            case ast.Subscript():
                part = self.part(node)
                if part is not None:
                    return self.entries(part)
        return {UNKNOWN: (node, None)}

    def _loaded(self, call: ast.Call) -> ast.expr | None:
        """Return the mapping that a text of the script holds, as code in the place of the text."""
        reader = _LOADERS.get(self.scopes.qualified(call.func) or "")
        text = self.of(call.args[0]) if reader is not None and call.args else None
        if not isinstance(text, str):
            return None
        # Imported for such calls only, as `decode` does: a document holds its script.
        module = importlib.import_module(f"adalora_core.checker.documents.{reader}")
        document = module.decode(text, self._limits)
        value = document.value
        if document.fatal or document.problems or not isinstance(value, dict):
            return None
        try:
            made = ast.parse(repr(value), mode="eval").body
        except (SyntaxError, RecursionError, MemoryError, ValueError):
            return None
        for each in ast.walk(made):
            ast.copy_location(each, call.args[0])
        return made

    def _of_pairs(self, pairs: Iterable[tuple[ast.expr | None, ast.expr]]) -> Entries:
        found: Entries = {}
        for key, value in pairs:
            if key is None:
                found = _joined(found, self.entries(value))
            else:
                name = self.of(key)
                is_known = isinstance(name, (str, int, float, type(None)))
                found[name if is_known else UNKNOWN] = (key, value)
        return found

    def _changed(self, name: ast.Name, found: Entries) -> Entries:
        """Return the entries of a dict without the values that the code changes."""
        for change in self.scopes.changes(name):
            keys = self._keys_of_change(change)
            if keys is None:
                found = {key: (node, None) for key, (node, _) in found.items()}
                return {**found, UNKNOWN: (change, None)}
            found |= {key: (found.get(key, (change,))[0], None) for key in keys}
        return found

    def _keys_of_change(self, change: ast.AST) -> list[str] | None:
        match change:
            case ast.Subscript(slice=ast.Constant(value=str() as key)):
                return [key]
            case ast.Call(func=ast.Attribute(attr="pop" | "setdefault"), args=[key_node, *_]):
                found, binding = self.of(key_node), self.scopes.binding(key_node)
                if binding is not None and binding.kind == "loop" and binding.value is not None:
                    found = self.of(binding.value)
                keys = found if isinstance(found, list) else [found]
                return keys if all(isinstance(key, str) for key in keys) else None
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
        return None if binding is None else binding.source

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
        if base not in self._spreads:
            self._spreads[base] = any(isinstance(each, ast.Starred) for each in base.elts)
        is_there = -len(base.elts) <= key < len(base.elts) and not self._spreads[base]
        return base.elts[key] if is_there else None

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
                part = self.part(node)
                return UNKNOWN if part is None else self.of(part)
            case ast.UnaryOp() if type(node.op) in UNARY:
                return computed(UNARY[type(node.op)], self.of(node.operand))
            case ast.BinOp() if type(node.op) in BINARY:
                left, right = self.of(node.left), self.of(node.right)
                if isinstance(node.op, ast.Add) and type(left) is type(right) is list:
                    return left + right
                return computed(BINARY[type(node.op)], left, right)
            case ast.BinOp(op=ast.BitOr()):
                return self._dict(node)
            case ast.NamedExpr():
                return self.of(node.value)
            case ast.Call():
                return self._call(node)
        return UNKNOWN

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
        binding = self.scopes.binding(node)
        if binding is None or binding.source is None:
            return UNKNOWN if binding is None else _CONSTANTS.get(binding.origin, UNKNOWN)
        value = self.of(binding.source)
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
        source = self._namespaces.source(node)
        value = UNKNOWN if source is None else self.of(source.node)
        # Without a default, the value comes from the command line.
        return UNKNOWN if source is not None and source.is_default and value is None else value

    def _call(self, node: ast.Call) -> Any:
        name = self.scopes.qualified(node.func)
        if name == "dict" or name in _LOADERS:
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


def _joined(found: Entries, more: Entries) -> Entries:
    """Add entries that come later; what may come later as well makes the earlier ones unknown."""
    if UNKNOWN in more:
        found = {key: (node, None) for key, (node, _) in found.items()}
    found |= more
    return found


def holds_unknown(value: Any) -> bool:
    """Return whether a value, or a part of it, is not known."""
    if isinstance(value, list):
        return any(map(holds_unknown, value))
    if isinstance(value, dict):
        return UNKNOWN in value or any(map(holds_unknown, value.values()))
    return value is UNKNOWN
