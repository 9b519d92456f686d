"""Find whether a run reaches a place of a script, and whether the script expects it to fail."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import FUNCTION, last_name, walk

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.scopes import Scopes

_CAUGHT = frozenset({
    "", "Exception", "BaseException", "ValueError", "AttributeError", "RuntimeError", "TypeError",
    "NotImplementedError",
})  # fmt: skip
"""What a handler catches that is meant for an error of PEFT; empty: everything."""


def is_expected(scopes: Scopes, node: ast.AST, *, of_error: bool) -> bool:
    """Return whether a script expects a fault, catches its error, or never reaches it."""
    while (outer := scopes.parents.get(node)) is not None:
        match outer:
            case ast.With() | ast.AsyncWith():
                if scopes.expects_a_fault(outer):
                    return True
            case ast.Try(body, handlers) if of_error and node in body:
                types = [list(walk(h.type, ast.Name)) if h.type else [None] for h in handlers]
                if not _CAUGHT.isdisjoint(last_name(each) for found in types for each in found):
                    return True
            case ast.If(ast.Constant(value), body, orelse):
                if node in (orelse if value else body):
                    return True
        node = outer
    return False


def is_used(scopes: Scopes, node: ast.AST) -> bool:
    """Return whether the functions and classes around a place are named elsewhere in the script."""
    while (outer := scopes.parents.get(node)) is not None:
        if isinstance(outer, (*FUNCTION, ast.ClassDef)) and not _is_named(scopes, outer):
            return False
        node = outer
    return True


def _is_named(scopes: Scopes, made: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    if made.decorator_list or isinstance(scopes.parents[made], ast.ClassDef):
        return True  # the framework may call a method, or what has a mark
    return any(not scopes.is_within(each, made) for each in scopes.words.get(made.name, ()))
