"""Read single nodes of a syntax tree, and hold what binds a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Function = ast.FunctionDef | ast.AsyncFunctionDef
Loop = ast.For | ast.AsyncFor | ast.While
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOP = (ast.For, ast.AsyncFor, ast.While)

DEEPEST = 1000
"""Bound on the levels of a tree, which newer Pythons parse to any depth."""

_Found = TypeVar("_Found")
_Node = TypeVar("_Node", bound=ast.AST)


class BeyondLimitError(Exception):
    """A tree has more than `DEEPEST` levels, or a number with too many digits, at a node."""

    def __init__(self, message: str, node: ast.AST) -> None:
        super().__init__(message)
        self.node = node


def unless_too_deep(read: Callable[..., _Found], *given: Any) -> _Found | None:
    """Return what is read from a script; None if its parts are nested too deep."""
    try:
        return read(*given)
    except RecursionError:
        return None


def walk(node: ast.AST, *kinds: type[_Node]) -> Iterator[_Node]:
    """Yield those of some kinds of a node and all nodes inside, the outer ones first."""
    queue = [node]
    for each in queue:
        queue += children(each)
        if isinstance(each, kinds):
            yield each


_WITHOUT_NODES = frozenset({
    "arg", "attr", "conversion", "ctx", "id", "is_async", "kind", "level", "module", "op", "ops",
    "rest", "simple", "tag", "type_comment",
})  # fmt: skip
"""Fields of nodes that hold no node, or an operator or a context."""
_parts: dict[type[ast.AST], tuple[str, ...]] = {ast.Constant: ()}


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes inside a node without contexts and operators, faster than `ast` does."""
    kind = node.__class__
    names = _parts.get(kind)
    if names is None:
        names = _parts[kind] = tuple(n for n in node._fields if n not in _WITHOUT_NODES)
    found: list[ast.AST] = []
    for name in names:
        value = getattr(node, name, None)
        if value.__class__ is list:
            found += [each for each in value if isinstance(each, ast.AST)]
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


def last_name(node: ast.AST | None) -> str:
    """Return the last part of a dotted name; empty if there is none."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def called_name(node: ast.AST | None) -> str:
    """Return the last part of the name that a call calls; empty for another node."""
    return last_name(node.func) if isinstance(node, ast.Call) else ""


def passed(call: ast.Call) -> list[ast.expr]:
    """Return all arguments of a call."""
    return [*call.args, *(each.value for each in call.keywords)]


def dotted(node: ast.expr) -> tuple[ast.Name | None, str]:
    """Return the name that a dotted name begins with, and the rest of its text."""
    rest = ""
    while isinstance(node, ast.Attribute):
        rest = f".{node.attr}{rest}"
        node = node.value
    return (node if isinstance(node, ast.Name) else None), rest


def parameters(node: Function | ast.Lambda) -> list[ast.arg]:
    """Return all parameters of a function."""
    given = node.args
    rest = [each for each in (given.vararg, given.kwarg) if each is not None]
    return [*given.posonlyargs, *given.args, *given.kwonlyargs, *rest]


def argument(call: ast.Call, function: Function, name: str) -> ast.expr | None:
    """Return what a call passes for a parameter of a function, or its default."""
    given = keyword(call, name)
    if given is not None:
        return given
    arguments = function.args
    positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    free = positional[1:] if positional[:1] == ["self"] else positional
    if name in free and free.index(name) < len(call.args):
        return call.args[free.index(name)]
    named = [each.arg for each in arguments.kwonlyargs]
    defaults = dict(zip(named, arguments.kw_defaults, strict=True))
    defaults.update(zip(reversed(positional), reversed(arguments.defaults), strict=False))
    return defaults.get(name)


def keyword(call: ast.Call, *names: str, at: int | None = None) -> ast.expr | None:
    """Return the value of the first keyword of `names` in a call, or a positional argument."""
    for each in call.keywords:
        if each.arg in names:
            return each.value
    return call.args[at] if at is not None and len(call.args) > at else None


def only(values: Iterable[_Found]) -> _Found | None:
    """Return the value that all of some are; None: they differ, or there are none."""
    found = list(values)
    return found[0] if found and all(each == found[0] for each in found) else None


Kind = Literal["value", "loop", "with", "added", "parameter", "import", "definition", "other"]


@dataclass(eq=False, slots=True)
class Binding:
    """One place that binds a name, or an attribute of `self`.

    Args:
        kind: how: by an assignment, as the target of a loop, by `+=`, as a parameter...
        node: what binds it: a statement, a function, a class, an import.
        value: the expression; for a loop what it runs over, for `+=` what is added.
        item: the place in the value, where it is unpacked; None: the whole value.
        origin: the full name of what is imported; None: nothing is.
    """

    kind: Kind
    node: ast.AST
    value: ast.expr | None = None
    item: int | None = None
    origin: str | None = None

    @property
    def source(self) -> ast.expr | None:
        """The expression whose value is the name's; None: there is none, or only a part is."""
        return self.value if self.kind == "value" and self.item is None else None


@dataclass(eq=False)
class Scope:
    """A module, function, class or comprehension, with the bindings of its names.

    Args:
        node: the module, the function...
        parent: the scope around.
        names: the bindings of each name, in the order of the code.
        functions: the last function of each name.
        outside: the scopes of the names that are global or nonlocal.

    Attributes:
        function: the innermost function, or the module.
        class_: the innermost class; None: there is none.
    """

    node: ast.AST
    parent: Scope | None = None
    names: defaultdict[str, list[Binding]] = field(default_factory=lambda: defaultdict(list))
    functions: dict[str, Function] = field(default_factory=dict)
    outside: dict[str, Scope] = field(default_factory=dict)

    def __post_init__(self) -> None:
        outer = self.parent
        is_inside = outer is not None and not isinstance(self.node, FUNCTION)
        self.function: ast.AST = outer.function if outer is not None and is_inside else self.node
        self.class_: ast.ClassDef | None = None if outer is None else outer.class_
        if isinstance(self.node, ast.ClassDef):
            self.class_ = self.node
