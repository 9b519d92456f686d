"""Read single nodes of a syntax tree, and bound the work of following one script."""

from __future__ import annotations

import ast
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef
Loop = ast.For | ast.AsyncFor | ast.While
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOP = (ast.For, ast.AsyncFor, ast.While)

DEEPEST = 1000
"""Bound on the levels of a tree, which newer Pythons parse to any depth."""

_EXPECTING = frozenset({
    "raises", "warns", "assertRaises", "assertRaisesRegex", "assertWarns", "assertWarnsRegex",
})  # fmt: skip
_Found = TypeVar("_Found")


class BeyondLimitError(Exception):
    """A tree has more than `DEEPEST` levels, or a number with too many digits.

    Args:
        message: the limit.
        node: the first node beyond it.
    """

    def __init__(self, message: str, node: ast.AST) -> None:
        super().__init__(message)
        self.node = node


class TooMuchWorkError(Exception):
    """Following a script takes more steps than are allowed."""


class Bounded(Protocol):
    """A script, with the number of steps that are left to follow its names."""

    steps_left: int


_followed: ContextVar[Bounded | None] = ContextVar("followed", default=None)


def within_bounds(script: Bounded, read: Callable[..., _Found], *given: Any) -> _Found | None:
    """Return what is read from a script; None if its parts are too many, or nested too deep."""
    token = _followed.set(script)
    try:
        return read(*given)
    except (RecursionError, TooMuchWorkError):
        return None
    finally:
        _followed.reset(token)


def spend(steps: int = 1) -> None:
    """Count steps of less than a microsecond; outside `within_bounds` they are free.

    Raises:
        TooMuchWorkError: there were too many.
    """
    script = _followed.get()
    if script is not None:
        script.steps_left -= steps
        if script.steps_left < 0:
            raise TooMuchWorkError


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all nodes inside, and count them."""
    for each in ast.walk(node):
        spend()
        yield each


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes inside a node, faster than `ast.iter_child_nodes`: without `ast.Load`."""
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            found += [each for each in value if isinstance(each, ast.AST)]
        elif isinstance(value, ast.AST) and value._fields:
            found.append(value)
    return found


def last_name(node: ast.expr) -> str:
    """Return the last part of a dotted name; empty if there is none."""
    spend()
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


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


def expects_a_fault(node: ast.With | ast.AsyncWith) -> bool:
    """Return whether the block of a test expects an error or a warning."""
    calls = [item.context_expr for item in node.items]
    return any(isinstance(c, ast.Call) and last_name(c.func) in _EXPECTING for c in calls)
