"""Find the defaults of what a command line may set: argparse, dataclasses, click, typer, fire."""

from __future__ import annotations

import ast
from functools import cached_property
from typing import TYPE_CHECKING

from adalora_core.checker.documents.python.syntax import (
    Function,
    argument,
    called_name,
    keyword,
    last_name,
)

if TYPE_CHECKING:
    from adalora_core.checker.documents.python.scopes import Scopes

_PARSING = frozenset({"parse_args", "parse_known_args"})
_PARSING_CLASSES = frozenset({"parse_args_into_dataclasses", "parse_args_and_config"})
_FLAGS = {"store_true": False, "store_false": True}
_RUNS = frozenset({"typer.run", "fire.Fire", "tyro.cli", "defopt.run"})
"""Functions that call a function with what the command line holds."""
_COMMANDS = frozenset({"command", "callback"})
"""Decorators of typer and click."""


class Options:
    """The options of one script's command line."""

    def __init__(self, scopes: Scopes) -> None:
        self._scopes = scopes

    @cached_property
    def defaults(self) -> dict[str, ast.expr]:
        """The defaults of argparse's options, without those that are None or differ."""
        found: dict[str, list[ast.expr | None]] = {}
        for call in self._scopes.callers.get("set_defaults", []):
            for each in call.keywords:
                found.setdefault(each.arg or "", []).append(None)
        for call in self._scopes.callers.get("add_argument", []):
            is_kept = not isinstance(self._scopes.parents[call], ast.Expr)
            found.setdefault(_destination(call), []).append(None if is_kept else _default(call))
        single = ((name, nodes[0]) for name, nodes in found.items() if len(nodes) == 1)
        return {name: node for name, node in single if node is not None and not is_none(node)}

    @cached_property
    def names(self) -> set[str]:
        """Names that hold the options of the command line somewhere in the script."""
        return {
            name
            for scope in (self._scopes.module, *self._scopes.inner.values())
            for name, bindings in scope.names.items()
            if any(isinstance(b.value, ast.Call) and self.parses(b.value) for b in bindings)
        }

    def parses(self, call: ast.Call) -> bool:
        """Return whether a call returns the options of the command line."""
        if isinstance(call.func, ast.Attribute):
            return call.func.attr in _PARSING and self._reads_command_line(call)
        binding = self._scopes.binding(call.func)
        return binding is not None and binding.node in self._parsing_functions

    @cached_property
    def _parsing_functions(self) -> set[ast.AST]:
        calls = (call for name in _PARSING for call in self._scopes.callers.get(name, []))
        return {
            self._scopes.of[call].node
            for call in calls
            if isinstance(call.func, ast.Attribute) and self._reads_command_line(call)
        }

    def _reads_command_line(self, call: ast.Call) -> bool:
        """Return whether a parser reads the command line, or no arguments: not those of a list."""
        if len(call.args) > 1 or keyword(call, "namespace") is not None:
            return False
        given = keyword(call, "args", at=0)
        binding = self._scopes.binding(given)
        given = given if binding is None else binding.source
        return not isinstance(given, (ast.List, ast.Tuple, ast.Call)) or not getattr(
            given, "elts", True
        )

    def classes(self, call: ast.Call) -> list[ast.expr]:
        """Return the dataclasses whose fields a parser of transformers reads."""
        made: ast.expr | None = getattr(call.func, "value", None)
        if (binding := self._scopes.binding(made)) is not None:
            made = binding.source
        is_parser = called_name(call) in _PARSING_CLASSES and self._reads_command_line(call)
        if not is_parser or not isinstance(made, ast.Call) or not made.args:
            return []
        found: list[ast.expr] = getattr(made.args[0], "elts", made.args[:1])
        return found

    def argument(self, function: Function, name: str) -> ast.expr | None:
        """Return what a function is given for a parameter, if all that calls it gives the same.

        A command of click, typer or fire is given its defaults.
        """
        scopes = self._scopes
        if sum(each.name == function.name for each in scopes.functions) > 1:
            return None
        calls = [c for c in scopes.callers.get(function.name, ()) if isinstance(c.func, ast.Name)]
        named = {call.func for call in calls}
        handed = [scopes.parents[w] for w in scopes.words[function.name] if w not in named]
        marks = {last_name(getattr(mark, "func", mark)) for mark in function.decorator_list}
        if not marks.isdisjoint(_COMMANDS) or (
            handed
            and not calls
            and all(isinstance(e, ast.Call) and scopes.qualified(e.func) in _RUNS for e in handed)
        ):
            default = _option(function, name)
            return None if default is None or is_none(default) else default
        is_open = any(
            isinstance(each, ast.Starred) or getattr(each, "arg", "") is None
            for call in calls
            for each in (*call.args, *call.keywords)
        )
        if handed or is_open or isinstance(scopes.parents[function], ast.ClassDef):
            return None
        given = {argument(call, function, name) for call in calls}
        return given.pop() if len(given) == 1 else None


def _option(function: Function, name: str) -> ast.expr | None:
    """Return the default of a parameter, as click or typer may declare it."""
    for mark in function.decorator_list:
        if called_name(mark) in {"option", "argument"} and isinstance(mark, ast.Call):
            names = {_text(each).lstrip("-").replace("-", "_") for each in mark.args}
            if name in names:
                return _default(mark)
    empty = ast.Call(func=ast.Name(function.name), args=[], keywords=[])
    declared = argument(empty, function, name)
    if isinstance(declared, ast.Call) and called_name(declared) in {"Option", "Argument"}:
        return keyword(declared, "default", at=0)
    return declared


def _destination(call: ast.Call) -> str:
    """Return the name of the attribute that an option of argparse sets."""
    given = keyword(call, "dest")
    names = [_text(each) for each in call.args] if given is None else [_text(given)]
    long = [name for name in names if name.startswith("--")]
    return (long or names or [""])[0].lstrip("-").replace("-", "_")


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _default(call: ast.Call) -> ast.expr | None:
    """Return the default of an option, as it is without conversion."""
    default, kind, action = (keyword(call, name) for name in ("default", "type", "action"))
    if default is None and isinstance(action, ast.Constant) and action.value in _FLAGS:
        return ast.copy_location(ast.Constant(_FLAGS[action.value]), action)
    is_converted = kind is not None and last_name(kind) != "str"
    return None if is_converted and _text(default) else default


def is_none(node: ast.expr) -> bool:
    """Return whether an expression is None, so that a command line, or nobody, gives the value."""
    return isinstance(node, ast.Constant) and node.value is None
